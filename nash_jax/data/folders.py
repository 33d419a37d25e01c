"""Image files in a folder for each class."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from nash_jax.data.dataset import Dataset, make_dataset
from nash_jax.data.images import is_image, listed, read_images
from nash_jax.data.splits import HELD_OUT, held_out

_PARTS = ("train", "test")


def read_folder(
    folder: pathlib.Path, image_size: int, corrupt_images: str, note: Callable[[str], None]
) -> Dataset:
    """`DIR/CLASS/FILE`, of which a fifth is held out as the test set, or `DIR/train/CLASS/FILE` and
    `DIR/test/CLASS/FILE`.

    Classes are numbered in the order of their folders' names; files in folders below count too, and
    links are followed. What is hidden, or does not end like an image, is left out.

    Raises:
      ValueError: if there are no such folders, they do not agree, or files cannot be read.
      OSError: if a folder cannot be read.
    """
    name = f"folder:{folder}"
    if not folder.is_dir():
        raise ValueError(f"dataset {name}: there is no folder {folder}; give one with images")
    roots = _roots(folder, name, note)
    classes = _classes(roots[0], name)
    if len(roots) == 2 and (others := _classes(roots[1], name)) != classes:
        lacks = {
            part: sorted(set(a) - set(b))
            for part, a, b in ((_PARTS[1], classes, others), (_PARTS[0], others, classes))
        }
        raise ValueError(
            f"dataset {name}: train/ and test/ must have the same classes; "
            + " and ".join(f"{part}/ lacks {listed(odd)}" for part, odd in lacks.items() if odd)
            + "; add their images or remove them"
        )
    there = [
        (part, label, path)
        for part, root in enumerate(roots)
        for label, each in enumerate(classes)
        for path in _files(root / each)
    ]
    files = [file for file in there if is_image(file[2].name)]
    if left_out := [_printable(path) for _, _, path in there if not is_image(path.name)]:
        note(
            f"dataset {name}: files that do not end like images are left out "
            f"({len(left_out)}): {listed(left_out)}"
        )
    paths = [path for _, _, path in files]
    found = read_images(
        *(paths, lambda place: _printable(paths[place]), f"dataset {name}"),
        *(image_size, corrupt_images, note),
    )
    part, labels = (
        np.array([file[column] for file in files], np.int32)[found.places] for column in (0, 1)
    )
    for number, root in enumerate(roots):
        counts = np.bincount(labels[part == number], minlength=len(classes))
        if len(empty := np.flatnonzero(counts == 0)):
            raise ValueError(
                f"dataset {name}: every class needs an image; {root / classes[empty[0]]} has none "
                "that Pillow reads; add some or remove the folder"
            )
    if len(roots) == 1:
        note(f"dataset {name} has no test/: {HELD_OUT:.0%} of its images are the test set")
        test = held_out(labels)
    else:
        test = part == 1
    images = found.images
    return make_dataset(
        *(name, images[~test], labels[~test], images[test], labels[test]), tuple(classes)
    )


def _roots(folder: pathlib.Path, name: str, note: Callable[[str], None]) -> list[pathlib.Path]:
    """`train/` and `test/`, in capitals too, or the folder itself if it has neither."""
    there = {path.name.lower(): path for path in _folders(folder)}
    parts = [there.pop(part) for part in _PARTS if part in there]
    if not parts:
        return [folder]
    if len(parts) == 1:
        (missing,) = set(_PARTS) - {parts[0].name.lower()}
        others = [path.name for key, path in there.items() if key in ("val", "valid", "validation")]
        remedy = f"; rename {others[0]}/, if that is what it is" if others else ""
        raise ValueError(
            f"dataset {name} must have both train/ and test/, or neither; {folder / missing} is "
            f"missing{remedy}"
        )
    if there:
        note(
            f"dataset {name}: only train/ and test/ are read, not "
            f"{listed([path.name + '/' for path in there.values()])}"
        )
    return parts


def _classes(root: pathlib.Path, name: str) -> list[str]:
    classes = [path.name for path in _folders(root)]
    if len(classes) < 2:
        raise ValueError(
            f"dataset {name}: {root} must have a folder for each of two classes or more; got "
            f"{', '.join(classes) or 'none'}; put the images of each class into a folder of its own"
        )
    return classes


def _folders(root: pathlib.Path) -> list[pathlib.Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _files(root: pathlib.Path) -> Iterator[pathlib.Path]:
    """All files at and below a folder, sorted, each folder once; raises `OSError`."""

    def stop(error: OSError) -> None:
        raise error

    found, seen = [], set()
    for parent, folders, names in os.walk(root, onerror=stop, followlinks=True):
        seen.add(os.path.realpath(parent))
        folders[:] = [
            folder
            for folder in sorted(folders)
            if not folder.startswith(".")
            and os.path.realpath(os.path.join(parent, folder)) not in seen
        ]
        found += [pathlib.Path(parent, name) for name in names if not name.startswith(".")]
    yield from sorted(found)


def _printable(path: pathlib.Path) -> str:
    """A path as text, even if its name is no UTF-8."""
    return str(path).encode(errors="backslashreplace").decode()
