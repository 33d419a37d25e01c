"""Stratified, seeded splits, which keep groups of images on one side."""

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
    spare: int = 1,
) -> tuple[Examples, Examples]:
    """Split so that each class is divided in the same proportion, at random but seeded.

    Images of one group go to one side; the proportion is then as near as the groups allow.

    Args:
      examples: what to split.
      fraction: share of the second part, in (0, 1).
      seed: decides which examples go where.
      what: the data set, for errors.
      class_names: of the classes, if they have names.
      spare: groups of each class that stay in the first part, if it has more than so many: two, if
        that part is to be split again.

    Returns:
      `(first, second)`; each class has at least one example in each.

    Raises:
      ValueError: if the fraction is not in (0, 1), a class has fewer than two examples, or the
        groups leave a class without examples on one side.
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
    if examples.groups is None:
        second = np.zeros(len(labels), bool)
        for label, count in enumerate(counts):
            taken = min(max(round(count * fraction), 1), count - 1)
            second[rng.permutation(np.flatnonzero(labels == label))[:taken]] = True
    else:
        second = _whole_groups(labels, examples.groups, fraction, rng, what, class_names, spare)
    return examples.take(np.flatnonzero(~second)), examples.take(np.flatnonzero(second))


#: How many random orders of the groups are tried before a split is given up.
_ORDERS = 100


def _whole_groups(
    labels: np.ndarray,
    groups: np.ndarray,
    fraction: float,
    rng: np.random.Generator,
    what: str,
    class_names: Sequence[str],
    spare: int,
) -> np.ndarray:
    """Which examples go to the second side, booleans `[n]`: all of a group, or none."""
    numbers, places = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(numbers), labels.max() + 1))
    np.add.at(counts, (places, labels), 1)
    shares = counts / counts.sum(axis=0)  # of each class, in each group
    groups_of = np.count_nonzero(shares, axis=0)
    lacking = np.flatnonzero(groups_of == 1)
    most = groups_of - np.clip(groups_of - 1, 1, spare)  # so many may go
    for attempt in range(0 if len(lacking) else _ORDERS):
        chosen = _in_order(rng.permutation(len(numbers)), shares, fraction, most, attempt > 0)
        lacking = np.flatnonzero(~shares[chosen].any(axis=0))
        if not len(lacking):
            return chosen[places]
    name = class_names[lacking[0]] if class_names else f"class {lacking[0]}"
    there = groups_of[lacking[0]]
    raise ValueError(
        f"{what}: every class needs groups on both sides of a split; {name} has {there} "
        f"{'group' if there == 1 else 'groups'}, and none can be set apart; add images of other "
        "groups, or leave the class out"
    )


def _in_order(
    order: np.ndarray,
    shares: np.ndarray,
    fraction: float,
    most: np.ndarray,
    cover_first: bool,
) -> np.ndarray:
    """The groups of the second side, booleans, if they are gone through in an order.

    A group goes there if the shares of the classes come nearer to `fraction` by it. Then, for every
    class that the second side lacks, the smallest of its groups goes there; or before, the first in
    the order. At most `most` groups of each class go.
    """
    chosen = np.zeros(len(shares), bool)
    taken, number = np.zeros(shares.shape[1]), np.zeros(shares.shape[1], int)

    def take(group: int) -> None:
        nonlocal taken, number
        after = number + (shares[group] > 0)
        if not chosen[group] and (after <= most).all():
            chosen[group], taken, number = True, taken + shares[group], after

    def size(group: int) -> float:
        return float(shares[group].sum())

    def fill() -> None:
        for group in order:
            missing = fraction - taken
            if np.square(missing - shares[group]).sum() < np.square(missing).sum():
                take(group)

    def cover() -> None:
        for label in range(shares.shape[1]):
            of_class = [group for group in order if shares[group, label]]
            for group in of_class if cover_first else sorted(of_class, key=size):
                if not taken[label]:
                    take(group)

    for step in (cover, fill) if cover_first else (fill, cover):
        step()
    return chosen


#: The share of the images that is the test set, where a source has none.
HELD_OUT = 0.2


def held_out(
    labels: np.ndarray,
    what: str,
    class_names: Sequence[str] = (),
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Which images are the test set of a source that has none: stratified, and always the same.

    Args:
      labels: of all images, `[n]`.
      what: the data set, for errors.
      class_names: of the classes, if they have names.
      groups: of all images, `[n]`, if they have any.

    Returns:
      Booleans `[n]`.

    Raises:
      ValueError: if a class has fewer than two images, or its groups cannot be split.
    """
    places = Examples(np.arange(len(labels)), labels, groups)
    _, test = stratified_split(places, HELD_OUT, 0, what, class_names, spare=2)
    return np.isin(places.images, test.images)


def subset(examples: Examples, size: int, seed: int) -> Examples:
    """About `size` examples, each class in its proportion; all of them if there are no more.

    Groups become smaller, but not fewer: the rest is not used.
    """
    if size >= len(examples):
        return examples
    places = Examples(np.arange(len(examples)), examples.labels)
    return examples.take(stratified_split(places, size / len(examples), seed)[1].images)
