"""Stratified, seeded splits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nash_jax.data.dataset import Examples


def stratified_split(
    examples: Examples,
    fraction: float,
    seed: int,
    what: str = "splitting",
    class_names: Sequence[str] = (),
) -> tuple[Examples, Examples]:
    """Split so that each class is divided in the same proportion, at random but seeded.

    Args:
      examples: what to split.
      fraction: share of the second part, in (0, 1).
      seed: decides which examples go where.
      what: the data set, for errors.
      class_names: of the classes, if they have names.

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
        least = int(counts.argmin())
        name = class_names[least] if class_names else f"class {least}"
        raise ValueError(
            f"{what}: every class needs two images, because they are split; {name} has "
            f"{counts[least]}; add images, or leave the class out"
        )
    rng = np.random.default_rng(seed)
    second = np.zeros(len(labels), bool)
    for label, count in enumerate(counts):
        taken = min(max(round(count * fraction), 1), count - 1)
        second[rng.permutation(np.flatnonzero(labels == label))[:taken]] = True
    return examples.take(np.flatnonzero(~second)), examples.take(np.flatnonzero(second))


#: The share of the images that is the test set, where a source has none.
HELD_OUT = 0.2


def held_out(labels: np.ndarray, what: str, class_names: Sequence[str] = ()) -> np.ndarray:
    """Which images are the test set of a source that has none: stratified, and always the same.

    Args:
      labels: of all images, `[n]`.
      what: the data set, for errors.
      class_names: of the classes, if they have names.

    Returns:
      Booleans `[n]`.

    Raises:
      ValueError: if a class has fewer than two images.
    """
    places = Examples(np.arange(len(labels)), labels)
    _, test = stratified_split(places, HELD_OUT, 0, what, class_names)
    return np.isin(places.images, test.images)


def subset(examples: Examples, size: int, seed: int) -> Examples:
    """About `size` examples, each class in its proportion; all of them if there are no more."""
    if size >= len(examples):
        return examples
    return stratified_split(examples, size / len(examples), seed)[1]
