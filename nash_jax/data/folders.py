"""Image files in a folder for each class."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import numpy as np

from nash_jax.data.dataset import Dataset, make_dataset
from nash_jax.data.images import is_image, read_images
from nash_jax.data.splits import HELD_OUT, held_out


def read_folder(
    folder: pathlib.Path, image_size: int, corrupt_images: str, note: Callable[[str], None]
) -> Dataset:
    """`DIR/CLASS/FILE`, of which a fifth is held out as the test set, or `DIR/train/CLASS/FILE` and
    `DIR/test/CLASS/FILE`.

    Classes are numbered in the order of their folders' names; files in folders below count too.

    Raises:
      ValueError: if there are no such folders, they do not agree, or files cannot be read.
    """
    name = f"folder:{folder}"
    if not folder.is_dir():
        raise ValueError(f"dataset {name}: there is no folder {folder}; give one with images")
    parts = [folder / "train", folder / "test"]
    there = [part.is_dir() for part in parts]
    if any(there) and not all(there):
        missing = parts[there.index(False)]
        raise ValueError(
            f"dataset {name} must have both train/ and test/, or neither; {missing} is missing"
        )
    roots = parts if all(there) else [folder]
    classes = _classes(roots[0], name)
    if len(roots) == 2 and (others := _classes(roots[1], name)) != classes:
        odd = sorted(set(classes) ^ set(others))
        raise ValueError(
            f"dataset {name}: train/ and test/ must have the same classes; only one has "
            f"{', '.join(odd[:5])}{', ...' if len(odd) > 5 else ''}"
        )
    files = [
        (part, label, path)
        for part, root in enumerate(roots)
        for label, each in enumerate(classes)
        for path in sorted((root / each).rglob("*"))
        if is_image(path)
    ]
    paths = [path for _, _, path in files]
    found = read_images(
        *(paths, lambda place: str(paths[place]), f"dataset {name}"),
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
                "that Pillow reads"
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


def _classes(root: pathlib.Path, name: str) -> list[str]:
    classes = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(classes) < 2:
        raise ValueError(
            f"dataset {name}: {root} must have a folder for each of two classes or more; got "
            f"{', '.join(classes) or 'none'}"
        )
    return classes
