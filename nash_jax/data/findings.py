"""What users should know of a data set before they trust a result on it."""

from __future__ import annotations

import numpy as np

from nash_jax.data.dataset import Dataset, Examples

#: The ratio of the largest class to the smallest from which on a finding is reported.
IMBALANCE = 2.0


def findings(dataset: Dataset) -> list[str]:
    """Classes of unequal sizes, and test images that are in the training set too: a line each.

    Args:
      dataset: any.
    """
    return [*_imbalance(dataset), *_duplicates(dataset)]


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


def _duplicates(dataset: Dataset) -> list[str]:
    known: dict[bytes, int] = {}
    for image, label in zip(*_rows(dataset.train)):
        known.setdefault(image, label)
    labels = [(known[image], label) for image, label in zip(*_rows(dataset.test)) if image in known]
    if not labels:
        return []
    differ = sum(first != second for first, second in labels)
    return [
        f"{dataset.name}: {len(labels):,} of {len(dataset.test):,} test images are also training "
        f"images{f', {differ:,} of them with another label' if differ else ''}: test accuracies "
        "are too high, remove them"
    ]


def _rows(examples: Examples) -> tuple[list[bytes], list[int]]:
    return [image.tobytes() for image in examples.images], examples.labels.tolist()
