"""Labelled images: the one type that every source of data makes, checked when it is made."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """Images with their labels.

    Attributes:
      images: uint8 `[n, height, width, channels]`.
      labels: int32 `[n]`, from 0.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: np.ndarray) -> Examples:
        """The examples at these places, in their order."""
        return Examples(self.images[index], self.labels[index])

    def join(self, other: Examples) -> Examples:
        """These examples, then the others."""
        return Examples(
            np.concatenate([self.images, other.images]),
            np.concatenate([self.labels, other.labels]),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A training set and a test set of the same image shape and classes.

    Attributes:
      name: what it is called.
      train: to search and to train on.
      test: is looked at once, by the final network.
      num_classes: how many.
      class_names: of all classes, where the source has names; else empty.
    """

    name: str
    train: Examples
    test: Examples
    num_classes: int
    class_names: tuple[str, ...] = ()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        height, width, channels = map(int, self.train.images.shape[1:])
        return (height, width, channels)

    def class_name(self, label: int) -> str:
        """The name of a class, or its number if it has none."""
        return self.class_names[label] if self.class_names else str(label)

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that other images or labels would not have."""
        digest = hashlib.sha256()
        for examples in (self.train, self.test):
            for array in (examples.images, examples.labels):
                digest.update(f"{array.dtype} {array.shape}".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]


def make_dataset(
    name: str,
    x_train: np.ndarray,
    y_train: np.ndarray,
    x_test: np.ndarray,
    y_test: np.ndarray,
    class_names: Sequence[str] = (),
) -> Dataset:
    """A `Dataset` of four arrays, after checking them.

    Args:
      name: what the data set is called.
      x_train: uint8 `[n, height, width, channels]`, 1 or 3 channels.
      y_train: whole numbers `[n]`, 0 to the number of classes - 1.
      x_test: as `x_train`.
      y_test: as `y_train`.
      class_names: of the classes, in their order; none, if they have no names.

    Raises:
      ValueError: naming the array that breaks a rule, what it is and what to do.
    """
    for split, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        what = f"{name}: x_{split}"
        if x.dtype != np.uint8:
            raise ValueError(f"{what} must be uint8 pixels 0 to 255; got {x.dtype}; convert it")
        if x.ndim != 4 or x.shape[3] not in (1, 3):
            raise ValueError(
                f"{what} must have shape [n, height, width, channels] with 1 or 3 channels; got "
                f"{list(x.shape)}; reshape it"
            )
        if x.size == 0:
            raise ValueError(f"{what} must not be empty; got shape {list(x.shape)}; add images")
        if not np.issubdtype(y.dtype, np.integer):
            raise ValueError(f"{name}: y_{split} must be whole numbers; got {y.dtype}; convert it")
        if y.shape != (len(x),):
            raise ValueError(
                f"{name}: y_{split} must have one label per image, shape [{len(x)}]; got "
                f"{list(y.shape)}; flatten it, or take the argmax of one-hot labels"
            )
    classes = np.unique(y_train)
    num_classes = len(classes)
    if num_classes < 2:
        raise ValueError(
            f"{name}: y_train must have at least two classes; got only {classes[0]}; add images of "
            "another"
        )
    if classes[0] < 0:
        raise ValueError(
            f"{name}: y_train must be labels from 0; got {classes[0]}; number the classes anew, or "
            "leave out images without a label"
        )
    wrong = np.flatnonzero(classes != np.arange(num_classes))
    if len(wrong):
        raise ValueError(
            f"{name}: y_train must be labels from 0, numbered without gaps; label {wrong[0]} has "
            f"no image, but label {classes[wrong[0]]} has; number the classes anew"
        )
    if y_test.min() < 0 or y_test.max() >= num_classes:
        raise ValueError(
            f"{name}: y_test must be labels 0 to {num_classes - 1}, those of y_train; got "
            f"{y_test.min()} to {y_test.max()}; remove the others"
        )
    if x_train.shape[1:] != x_test.shape[1:]:
        raise ValueError(
            f"{name}: x_test must have images of shape {list(x_train.shape[1:])}, as x_train; got "
            f"{list(x_test.shape[1:])}; resize them"
        )
    if len(class_names) > num_classes:
        raise ValueError(
            f"{name}: every class needs a training image; {', '.join(class_names[num_classes:])} "
            f"({num_classes} to {len(class_names) - 1}) have none; add some, or leave the class out"
        )
    if len(class_names) not in (0, num_classes):
        raise ValueError(
            f"{name}: there must be a name for each of the {num_classes} classes; got "
            f"{len(class_names)}; name all of them, or none"
        )
    return Dataset(
        name,
        Examples(x_train, y_train.astype(np.int32)),
        Examples(x_test, y_test.astype(np.int32)),
        num_classes,
        tuple(class_names),
    )


def channel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, in pixel values; a constant channel's is 1."""
    pixels = images.reshape(-1, images.shape[-1])
    mean = pixels.mean(axis=0, dtype=np.float64)
    # Image by image, so that no copy of a large set in float64 is made.
    square = np.mean([np.square(x, dtype=np.float64).mean(axis=(0, 1)) for x in images], axis=0)
    std = np.sqrt(np.maximum(square - mean**2, 0))
    return tuple(map(float, mean)), tuple(float(s) if s > 0 else 1.0 for s in std)
