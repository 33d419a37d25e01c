"""Labelled images: the one type that every source of data makes, checked when it is made."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from nash_jax.text import listed, one_line


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """Images with their labels.

    Attributes:
      images: uint8 `[n, height, width, channels]`.
      labels: int32 `[n]`, from 0.
      groups: `[n]`, equal numbers for images that no split may divide, such as those of one patient
        or one video; None: each image may go anywhere.
    """

    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: np.ndarray) -> Examples:
        """The examples at these places, in their order."""
        groups = None if self.groups is None else self.groups[index]
        return Examples(self.images[index], self.labels[index], groups)

    def join(self, other: Examples) -> Examples:
        """These examples, then the others; without groups, unless both have them."""
        known = self.groups is not None and other.groups is not None
        return Examples(
            np.concatenate([self.images, other.images]),
            np.concatenate([self.labels, other.labels]),
            np.concatenate([self.groups, other.groups]) if known else None,
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
      pixel_range: the values that became 0 and 255, where images have more than 8 bits per pixel.
    """

    name: str
    train: Examples
    test: Examples
    num_classes: int
    class_names: tuple[str, ...] = ()
    pixel_range: tuple[float, float] | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        height, width, channels = map(int, self.train.images.shape[1:])
        return (height, width, channels)

    def class_name(self, label: int) -> str:
        """The name of a class, or its number if it has none."""
        return self.class_names[label] if self.class_names else str(label)

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that other images, labels or groups would not have."""
        digest = hashlib.sha256()
        for examples in (self.train, self.test):
            for array in (examples.images, examples.labels, examples.groups):
                if array is not None:
                    digest.update(f"{array.dtype} {array.shape}".encode())
                    digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]


def make_dataset(
    name: str,
    x_train: ArrayLike,
    y_train: ArrayLike,
    x_test: ArrayLike,
    y_test: ArrayLike,
    class_names: Sequence[str] = (),
    groups_train: ArrayLike | None = None,
    groups_test: ArrayLike | None = None,
) -> Dataset:
    """A `Dataset` of four arrays, or of nested lists, after checking them.

    Args:
      name: what the data set is called.
      x_train: whole numbers 0 to 255, `[n, height, width, channels]`, 1 or 3 channels; or
        `[n, height, width]`, if they are grey.
      y_train: whole numbers `[n]` or `[n, 1]`, 0 to the number of classes - 1.
      x_test: as `x_train`.
      y_test: as `y_train`.
      class_names: of the classes, in their order; none, if they have no names.
      groups_train: whole numbers or words `[n]` or `[n, 1]`, equal for images that no split may
        divide; None: each image may go anywhere.
      groups_test: as `groups_train`; a group that is in both is reported by `findings`.

    Raises:
      ValueError: naming the array that breaks a rule, what it is and what to do.
    """
    x_train, x_test = (
        _images(x, f"{name}: x_{part}") for x, part in ((x_train, "train"), (x_test, "test"))
    )
    y_train = _labels(y_train, len(x_train), f"{name}: y_train")
    y_test = _labels(y_test, len(x_test), f"{name}: y_test")
    groups = _groups([groups_train, groups_test], [len(x_train), len(x_test)], name)
    classes = np.unique(y_train)
    num_classes = len(classes)
    if num_classes < 2:
        only = class_names[0] if class_names and not classes[0] else classes[0]
        raise ValueError(
            f"{name}: y_train must have at least two classes; got only {only}; add images of "
            "another"
        )
    if classes[0] < 0:
        raise ValueError(
            f"{name}: y_train must be labels from 0; got {classes[0]}; number the classes anew, or "
            "leave out images without a label"
        )
    known = set(classes.tolist())
    lacking = [n for n in range(max(num_classes, len(class_names))) if n not in known]
    if lacking and class_names:
        names = [class_names[n] if n < len(class_names) else str(n) for n in lacking]
        raise ValueError(
            f"{name}: every class needs a training image; {listed(names)} "
            f"{'has' if len(names) == 1 else 'have'} none; add some, or leave the class out"
        )
    if lacking:
        raise ValueError(
            f"{name}: y_train must be labels from 0, numbered without gaps; label {lacking[0]} has "
            f"no image, but label {classes[lacking[0]]} has; number the classes anew"
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
    if len(class_names) not in (0, num_classes):
        raise ValueError(
            f"{name}: there must be a name for each of the {num_classes} classes; got "
            f"{len(class_names)}; name all of them, or none"
        )
    return Dataset(
        name,
        Examples(x_train, y_train.astype(np.int32), groups[0]),
        Examples(x_test, y_test.astype(np.int32), groups[1]),
        num_classes,
        tuple(class_names),
    )


def _images(images: ArrayLike, what: str) -> np.ndarray:
    """Pixels as uint8 `[n, height, width, channels]`."""
    x = _array(images, what)
    if x.size == 0:
        raise ValueError(f"{what} must not be empty; got shape {list(x.shape)}; add images")
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4 or x.shape[3] not in (1, 3):
        remedy = "give each image as [height, width, channels]"
        if x.ndim == 4 and x.shape[1] in (1, 3):
            remedy = "their channels come first: transpose(0, 2, 3, 1)"
        elif x.ndim == 4 and x.shape[3] in (2, 4):
            remedy = "if the last channel is opacity, leave it out, as in x[..., :-1]"
        elif x.ndim == 4:
            remedy = "choose or combine channels, so that there are 1 or 3"
        raise ValueError(
            f"{what} must have shape [n, height, width, channels] with 1 or 3 channels; got "
            f"{list(x.shape)}; {remedy}"
        )
    if x.dtype == np.uint8:
        return x
    if x.dtype == bool:
        raise ValueError(f"{what} must be whole numbers 0 to 255; got bool; take 255 * x")
    if not np.issubdtype(x.dtype, np.integer) and not np.issubdtype(x.dtype, np.floating):
        raise ValueError(
            f"{what} must be whole numbers 0 to 255; got {x.dtype}; make it real numbers"
        )
    least, most = x.min(), x.max()
    if np.issubdtype(x.dtype, np.integer) and least >= 0 and most <= 255:
        return x.astype(np.uint8)
    got = f"{what} must be whole numbers 0 to 255; got {x.dtype} from {least:.6g} to {most:.6g}"
    if not np.isfinite(x).all():
        raise ValueError(f"{got}, some not finite; leave out these images, and scale the others")
    scale = "255 * (x.astype(float) - least) / (float(most) - least)"
    if least >= 0 and most <= 1:
        scale = "255 * x"
    elif least >= 0 and most <= 255:
        scale = "x"
    same = ", with least and most of both x_train and x_test" if "least" in scale else ""
    raise ValueError(f"{got}; take np.round({scale}).astype(np.uint8){same}")


def _labels(labels: ArrayLike, count: int, what: str) -> np.ndarray:
    """Labels as whole numbers `[n]`."""
    y = _array(labels, what)
    if y.shape == (count, 1):
        y = y[:, 0]
    if y.shape != (count,):
        remedy = "give a label for each image"
        if y.ndim == 2 and len(y) == count:
            remedy = "if they are one-hot, take y.argmax(axis=1)"
        raise ValueError(
            f"{what} must have one label per image, shape [{count}]; got {list(y.shape)}; {remedy}"
        )
    if not np.issubdtype(y.dtype, np.integer):
        raise ValueError(
            f"{what} must be whole numbers; got {y.dtype}; number the classes, as in "
            "np.unique(y, return_inverse=True)[1], of all labels together"
        )
    return y


def _groups(
    given: Sequence[ArrayLike | None], counts: Sequence[int], name: str
) -> list[np.ndarray | None]:
    """Groups of the training and the test images, numbered alike, int32 `[n]`."""
    found: dict[int, list[Any]] = {}
    for part, (values, count) in enumerate(zip(given, counts)):
        if values is None:
            continue
        what = f"{name}: groups_{('train', 'test')[part]}"
        array = np.asarray(values)
        if array.shape not in ((count,), (count, 1)):
            raise ValueError(
                f"{what} must have one group for each image, shape [{count}]; got "
                f"{list(array.shape)}; give one for each"
            )
        found[part] = array.ravel().tolist()
        kinds = {type(group) for group in found[part]}
        if len(kinds) > 1 or not kinds <= {int, str, bytes}:
            raise ValueError(
                f"{what} must be whole numbers or words; got "
                f"{listed(sorted(kind.__name__ for kind in kinds))}; number the groups, or name "
                "each by a word"
            )
    if len({type(groups[0]) for groups in found.values()}) > 1:
        raise ValueError(
            f"{name}: groups must be whole numbers or words; got both; name those of training and "
            "test images alike"
        )
    numbers = {group: n for n, group in enumerate(dict.fromkeys(itertools.chain(*found.values())))}
    parts = (found.get(part) for part in (0, 1))
    return [
        None if part is None else np.array([numbers[group] for group in part], np.int32)
        for part in parts
    ]


def _array(values: ArrayLike, what: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError as error:  # lists of different lengths
        raise ValueError(f"{what} must be an array; {one_line(error)}; resize the images") from None
    if array.dtype == object:
        raise ValueError(f"{what} must be an array of numbers; got objects; resize the images")
    return array


def channel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, in pixel values; a constant channel's is 1."""
    pixels = images.reshape(-1, images.shape[-1])
    mean = pixels.mean(axis=0, dtype=np.float64)
    # Image by image, so that no copy of a large set in float64 is made.
    square = np.mean([np.square(x, dtype=np.float64).mean(axis=(0, 1)) for x in images], axis=0)
    std = np.sqrt(np.maximum(square - mean**2, 0))
    return tuple(map(float, mean)), tuple(float(s) if s > 0 else 1.0 for s in std)
