"""Image files in a folder for each class."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Callable, Iterator

import numpy as np

from nash_jax.data.dataset import Dataset
from nash_jax.data.image_sets import as_dataset, read_images
from nash_jax.data.images import is_image
from nash_jax.data.layout import is_data, parts_in
from nash_jax.data.splits import HELD_OUT, held_out
from nash_jax.text import listed, printable

#: The value of `groups` for which the folder below that of the class is the group.
BY_FOLDER = "folder"


def read_folder(
    folder: pathlib.Path,
    image_size: int,
    corrupt_images: str,
    note: Callable[[str], None],
    groups: str = "",
) -> Dataset:
    """`DIR/CLASS/FILE`, of which a fifth is held out as the test set, or `DIR/train/CLASS/FILE` and
    `DIR/test/CLASS/FILE`, or `DIR/CLASS/train/FILE` and `DIR/CLASS/test/FILE`.

    `train` and `test` may have any of their usual names, see `parts.parts_of`. Classes are
    numbered in the order of their folders' names; files in folders below count too, and links are
    followed. What is hidden, or does not end like an image, is left out.

    Args:
      folder: holds the images.
      image_size, corrupt_images, note: as in `load_dataset`.
      groups: what images share that no split may divide. `folder`: the name of the first folder
        below that of the class. Else a regular expression that is searched in `CLASS/.../FILE`:
        images are of one group if what it finds is equal, or what is in its parentheses, if it has
        any. Empty: each image may go anywhere.

    Raises:
      ValueError: if there are no such folders, they do not agree, or files cannot be read.
      OSError: if a folder cannot be read.
    """
    what = f"dataset folder:{printable(folder)}"
    if not folder.is_dir():
        raise ValueError(f"{what}: there is no folder {printable(folder)}; give one with images")
    parts = parts_in(folder, what, note)
    classes = list(parts[0])
    if len(classes) < 2:
        only = next(iter(parts[0].values()), folder)
        remedy = "put the images of each class into a folder of its own"
        if only != folder and sum(path.is_dir() for path in only.iterdir()) > 1:
            remedy = f"give folder:{printable(only)}, which has several"
        raise ValueError(
            f"{what}: it must have a folder for each of two classes or more; got "
            f"{listed(classes) or 'none'}; {remedy}"
        )
    there = [
        (part, label, path)
        for part, folders in enumerate(parts)
        for label, each in enumerate(folders.values())
        for path in _files(each)
    ]
    files = [file for file in there if is_image(file[2].name)]
    if left_out := [printable(path) for _, _, path in there if not is_image(path.name)]:
        note(
            f"{what}: files that do not end like images are left out ({len(left_out)}): "
            f"{listed(left_out)}"
        )
    paths = [path for _, _, path in files]
    found = read_images(
        paths,
        lambda place: printable(paths[place]),
        what,
        image_size,
        corrupt_images,
        note,
    )
    part, labels = (
        np.array([file[column] for file in files], np.int32)[found.places] for column in (0, 1)
    )
    for number, folders in enumerate(parts):
        counts = np.bincount(labels[part == number], minlength=len(classes))
        if len(empty := np.flatnonzero(counts == 0)):
            raise ValueError(
                f"{what}: every class needs an image; {printable(folders[classes[empty[0]]])} has "
                "none that can be read; add some or remove the folder"
            )
    names = tuple(printable(name) for name in classes)
    grouped = None
    if groups:
        below = [parts[place][classes[label]] for place, label, _ in files]
        inside = [
            f"{classes[label]}/{path.relative_to(root).as_posix()}"
            for (_, label, path), root in zip(files, below)
        ]
        grouped = _groups([inside[place] for place in found.places], groups, what, note)
    if len(parts) == 1:
        note(f"{what} has no test/: {HELD_OUT:.0%} of its images are the test set")
        test = held_out(labels, what, names, grouped)
    else:
        test = part == 1
    return as_dataset(f"folder:{printable(folder)}", found, labels, test, names, grouped)


def _groups(paths: list[str], groups: str, what: str, note: Callable[[str], None]) -> np.ndarray:
    """A number for each path `CLASS/.../FILE`, equal for those of one group."""
    try:
        pattern = re.compile("^[^/]+/([^/]+)/" if groups == BY_FOLDER else groups)
    except re.error as error:
        raise ValueError(
            f"groups must be {BY_FOLDER} or a regular expression; got {groups!r}, with {error}; "
            "correct it"
        ) from None
    matches = [pattern.search(path) for path in paths]
    for path, match in zip(paths, matches):
        if match is None:
            remedy = "let it match that, too"
            if groups == BY_FOLDER:
                remedy = "put the images of each group into a folder, or give a regular expression"
            raise ValueError(
                f"{what}: groups must give a group to every image; {groups!r} gives none to "
                f"{printable(path)}; {remedy}"
            )
    keys = [match.groups("") or match[0] for match in matches if match]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    found = np.array([numbers[key] for key in keys], np.int32)
    sizes = np.bincount(found)
    note(
        f"{what}: groups {groups!r} makes {len(sizes):,} groups of {sizes.min():,} to "
        f"{sizes.max():,} images; no split divides one"
    )
    return found


def _files(root: pathlib.Path) -> Iterator[pathlib.Path]:
    """All files at and below a folder, sorted, each folder once; raises `OSError`."""

    def stop(error: OSError) -> None:
        raise error

    found, seen = [], {os.path.realpath(root)}
    for parent, folders, names in os.walk(root, onerror=stop, followlinks=True):
        there = sorted(folders)
        folders.clear()
        for folder in there:
            place = os.path.realpath(os.path.join(parent, folder))
            if is_data(pathlib.Path(folder)) and place not in seen:
                folders.append(folder)
                seen.add(place)
        paths = (pathlib.Path(parent, name) for name in names)
        found += [path for path in paths if is_data(path)]
    yield from sorted(found)
