"""What users should know of a data set before they trust a result on it."""

from __future__ import annotations

import numpy as np

from nash_jax.data.dataset import Dataset, Examples

#: The ratio of the largest class to the smallest from which on a finding is reported.
IMBALANCE = 2.0

#: Two images are nearly the same if their pixels have a larger correlation than this.
ALIKE = 0.98

#: The share of nearly the same images from which on it is reported: smaller ones are met in every
#: large set (CIFAR-10: 0.02%; Fashion-MNIST, whose pictures are all much alike: 5.6%).
MANY_ALIKE = 0.01

#: Images are compared in grey, with about so many pixels at an edge; smaller ones are not.
_EDGE = 16

#: At most so many images are compared with each other, evenly spaced: more would take long.
_MOST_TRAIN, _MOST_OTHERS = 50_000, 1_000


def findings(dataset: Dataset) -> list[str]:
    """Classes of unequal sizes, and what `shared` says of the test set: a line each.

    Args:
      dataset: any.
    """
    return [*_imbalance(dataset), *shared(dataset.name, dataset.train, dataset.test, "test")]


def shared(name: str, train: Examples, others: Examples, part: str) -> list[str]:
    """Images on one side of a split that the other side has too, or nearly, or that are of its
    groups: a line each.

    Args:
      name: of the data set.
      train: the side that networks are trained on.
      others: the side that they are judged by.
      part: what it is called: 'test' or 'validation'.
    """
    return [
        *_duplicates(name, train, others, part),
        *_almost_duplicates(name, train, others, part),
        *_divided_groups(name, train, others, part),
    ]


def _imbalance(dataset: Dataset) -> list[str]:
    counts = np.bincount(dataset.train.labels, minlength=dataset.num_classes)
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[most] < IMBALANCE * counts[least]:
        return []
    share = counts[most] / counts.sum()
    return [
        f"{dataset.name}: classes differ in size: {dataset.class_name(least)} has "
        f"{counts[least]:,} training images, {dataset.class_name(most)} has {counts[most]:,}; "
        f"always saying {dataset.class_name(most)} would be right for {share:.0%} of them"
    ]


def _duplicates(name: str, train: Examples, others: Examples, part: str) -> list[str]:
    known: dict[bytes, int] = {}
    for image, label in zip(*_rows(train)):
        known.setdefault(image, label)
    labels = [(known[image], label) for image, label in zip(*_rows(others)) if image in known]
    if not labels:
        return []
    differ = sum(first != second for first, second in labels)
    return [
        f"{name}: {len(labels):,} of {len(others):,} {part} images are also training images"
        f"{f', {differ:,} of them with another label' if differ else ''}: {part} accuracies "
        "are too high, remove them"
    ]


def _rows(examples: Examples) -> tuple[list[bytes], list[int]]:
    return [image.tobytes() for image in examples.images], examples.labels.tolist()


def _almost_duplicates(name: str, train: Examples, others: Examples, part: str) -> list[str]:
    if min(train.images.shape[1:3]) < _EDGE:
        return []  # images of few pixels are alike without being the same
    of_train, of_others = _spaced(len(train), _MOST_TRAIN), _spaced(len(others), _MOST_OTHERS)
    known = _standardised(_reduced(train.images, of_train))
    small = _standardised(_reduced(others.images, of_others))
    found = 0
    for start in range(0, len(small), 100):  # in parts, so that the products fit into memory
        products = small[start : start + 100] @ known.T
        for place, nearest in enumerate(products.argmax(axis=1)):
            if products[place, nearest] > ALIKE:
                other = others.images[of_others[start + place]]
                pair = np.stack([other, train.images[of_train[nearest]]])
                first, second = _standardised(pair)
                found += bool(first @ second > ALIKE) and bool((pair[0] != pair[1]).any())
    if found < MANY_ALIKE * len(small):
        return []
    looked_at = f"{len(small):,}"
    if len(small) < len(others):
        looked_at += f" of the {len(others):,}"
    return [
        f"{name}: of {looked_at} {part} images, {found:,} are nearly the same as a training image, "
        f"though not equal: {part} accuracies are too high if these are of one object; say which "
        "belong together by --groups (npz: groups_train)"
    ]


def _spaced(number: int, most: int) -> np.ndarray:
    """At most so many places, evenly spaced."""
    return np.linspace(0, number - 1, min(number, most)).astype(int)


def _reduced(images: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Some images with 16 to 31 pixels at an edge, in grey: means over blocks of pixels."""
    height, width = (max(1, size // _EDGE) for size in images.shape[1:3])
    rows, columns = images.shape[1] // height, images.shape[2] // width
    parts = []
    for some in np.array_split(places, max(1, len(places) // 500)):  # no copy of a large set
        cut = images[some, : rows * height, : columns * width]
        blocks = cut.reshape(len(some), rows, height, columns, width, -1)
        parts.append(blocks.mean(axis=(2, 4, 5), dtype=np.float32))
    return np.concatenate(parts)


def _standardised(images: np.ndarray) -> np.ndarray:
    """Each image as a row with mean 0 and length 1, so that products are correlations."""
    rows = images.reshape(len(images), -1).astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


def _divided_groups(name: str, train: Examples, others: Examples, part: str) -> list[str]:
    if train.groups is None or others.groups is None:
        return []
    divided = int(np.isin(others.groups, train.groups).sum())
    if not divided:
        return []
    return [
        f"{name}: {divided:,} of {len(others):,} {part} images are of groups that training images "
        f"are of, too: {part} accuracies are too high, remove them"
    ]
