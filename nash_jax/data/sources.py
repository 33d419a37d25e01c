"""Where data sets come from, by the name that a `--dataset` flag gives."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable

import numpy as np

from nash_jax.data.cifar import read_cifar
from nash_jax.data.dataset import Dataset, make_dataset
from nash_jax.data.folders import read_folder
from nash_jax.data.image_sets import CORRUPT_IMAGES, check_memory
from nash_jax.data.images import reason, resized
from nash_jax.data.npz import read_npz
from nash_jax.data.splits import HELD_OUT
from nash_jax.data.tfds import read_tfds
from nash_jax.text import printable


def load_dataset(
    source: str,
    *,
    data_dir: str | pathlib.Path | None = None,
    label: str = "",
    image_size: int = 0,
    corrupt_images: str = "stop",
    groups: str = "",
    note: Callable[[str], None] = lambda text: None,
) -> Dataset:
    """The data set of a name.

    Args:
      source: one of

        - `digits`: scikit-learn's 1,797 real 8x8 digits; a fixed stratified 20% are the test set;
        - `tfds:NAME[/CONFIG][:VERSION]`: a set of TensorFlow Datasets, see `read_tfds`;
        - `folder:DIR`: image files in a folder per class, see `read_folder`;
        - `cifar:DIR`: the official binary files of CIFAR-10 or CIFAR-100;
        - `npz:FILE`: a file with the arrays `x_train, y_train, x_test, y_test`, see `read_npz`.

      data_dir: where TensorFlow Datasets are; by default their own place.
      label: of a set with several labels, which.
      image_size: edge to which all images are resized; 0: as they are.
      corrupt_images: 'stop' at such images that cannot be read, or 'skip' them.
      groups: for a folder, what images share that no split may divide, see `read_folder`.
      note: is told of what users should know.

    Raises:
      ValueError: if there is no such source, it cannot be read, or it breaks a rule.

    >>> load_dataset('digits').image_shape
    (8, 8, 1)
    """
    kind, _, rest = source.partition(":")
    for name, value, kinds in (
        ("data_dir", data_dir, ("tfds",)),
        ("label", label, ("tfds", "cifar")),
        ("groups", groups, ("folder",)),
    ):
        if value and kind not in kinds:
            raise ValueError(
                f"{name} is for {' and '.join(each + ':' for each in kinds)}; got {value} with "
                f"dataset {source!r}; leave it out"
            )
    if corrupt_images not in CORRUPT_IMAGES:
        raise ValueError(
            f"corrupt_images must be one of {', '.join(CORRUPT_IMAGES)}; got {corrupt_images!r}"
        )
    options = image_size, corrupt_images, note
    if source == "digits":
        return _resized(_digits(), image_size)
    if rest and "\0" not in rest:
        try:
            match kind:
                case "tfds":
                    there = None if data_dir is None else pathlib.Path(data_dir)
                    return read_tfds(rest, there, label, *options)
                case "folder":
                    return read_folder(_path(rest), *options, groups)
                case "cifar":
                    return _resized(read_cifar(_path(rest), label), image_size)
                case "npz":
                    return _resized(read_npz(rest, note), image_size)
        except OSError as error:
            what = f"{printable(error.filename)}: " if error.filename else ""
            raise ValueError(
                f"dataset {printable(source)} cannot be read: {what}{reason(error)}; make it "
                "readable, or give another place"
            ) from None
    raise ValueError(
        "dataset must be digits, tfds:NAME[/CONFIG][:VERSION], folder:DIR, cifar:DIR or npz:FILE; "
        f"got {source!r}"
    )


def _resized(dataset: Dataset, edge: int) -> Dataset:
    """A set with images of another size; as it is, if the edge is 0."""
    if not edge:
        return dataset
    check_memory(f"dataset {dataset.name}", len(dataset.train) + len(dataset.test), (edge, edge))
    train, test = (
        dataclasses.replace(examples, images=resized(examples.images, edge))
        for examples in (dataset.train, dataset.test)
    )
    return dataclasses.replace(dataset, train=train, test=test)


def _path(text: str) -> pathlib.Path:
    """A path of the user's; `~` is the home, and stays what it is if there is none."""
    return pathlib.Path(os.path.expanduser(text))


def _digits() -> Dataset:
    from sklearn.datasets import load_digits  # takes a second to import
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = np.rint(digits.images[..., None] * (255 / 16)).astype(np.uint8)  # they are 0 to 16
    x_train, x_test, y_train, y_test = train_test_split(
        images, digits.target, test_size=HELD_OUT, stratify=digits.target, random_state=0
    )
    return make_dataset("digits", x_train, y_train, x_test, y_test)
