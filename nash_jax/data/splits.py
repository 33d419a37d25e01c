"""Stratified, seeded splits."""

from __future__ import annotations

import numpy as np

from nash_jax.data.dataset import Examples


def stratified_split(examples: Examples, fraction: float, seed: int) -> tuple[Examples, Examples]:
    """Split so that each class is divided in the same proportion, at random but seeded.

    Args:
      examples: what to split.
      fraction: share of the second part, in (0, 1).
      seed: decides which examples go where.

    Returns:
      `(first, second)`; each class has at least one example in each.

    Raises:
      ValueError: if the fraction is not in (0, 1) or a class has fewer than two examples.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must be between 0 and 1; got {fraction}")
    labels = examples.labels
    counts = np.bincount(labels)
    if counts.min() < 2:
        raise ValueError(
            "splitting needs at least two training images per class; class "
            f"{int(counts.argmin())} has {int(counts.min())}; use more images or drop the class"
        )
    rng = np.random.default_rng(seed)
    second = np.zeros(len(labels), bool)
    for label, count in enumerate(counts):
        taken = min(max(round(count * fraction), 1), count - 1)
        second[rng.permutation(np.flatnonzero(labels == label))[:taken]] = True
    return examples.take(np.flatnonzero(~second)), examples.take(np.flatnonzero(second))


#: The share of the images that is the test set, where a source has none.
HELD_OUT = 0.2


def held_out(labels: np.ndarray) -> np.ndarray:
    """Which images are the test set of a source that has none: stratified, and always the same.

    Args:
      labels: of all images, `[n]`.

    Returns:
      Booleans `[n]`.

    Raises:
      ValueError: if a class has fewer than two images.
    """
    places = Examples(np.arange(len(labels)), labels)
    _, test = stratified_split(places, HELD_OUT, seed=0)
    return np.isin(places.images, test.images)


def subset(examples: Examples, size: int, seed: int) -> Examples:
    """About `size` examples, each class in its proportion; all of them if there are no more."""
    if size >= len(examples):
        return examples
    return stratified_split(examples, size / len(examples), seed)[1]
