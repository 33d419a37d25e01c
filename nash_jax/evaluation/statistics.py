"""Paired intervals, relative improvement, rank correlation: pure functions of arrays."""

from __future__ import annotations

import bisect
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Interval(NamedTuple):
    """A mean, and an interval that covers it with some confidence."""

    mean: float
    low: float
    high: float


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """The mean of a sample with Student's interval; of one value, no more than that.

    Args:
      values: results, `[n]`, n >= 1.
      confidence: in (0, 1).

    Raises:
      ValueError: for no values, some that are not finite, or a confidence outside (0, 1).

    >>> [round(number, 3) for number in mean_interval([2.0, 1.0, 3.0])]  # 2 +- 4.303 / sqrt(3)
    [2.0, -0.484, 4.484]
    """
    from scipy import stats  # takes a second

    check_confidence(confidence)
    x = numbers(values)
    if not len(x):
        raise ValueError("an interval needs at least one value; got none; make a run")
    mean = float(x.mean())
    if len(x) == 1:
        return Interval(mean, mean, mean)
    error = float(x.std(ddof=1) / np.sqrt(len(x)))
    half = float(stats.t.ppf((1 + confidence) / 2, len(x) - 1)) * error
    return Interval(mean, mean - half, mean + half)


def paired_interval(first: ArrayLike, second: ArrayLike, confidence: float = 0.95) -> Interval:
    """The mean of `first - second`, with Student's interval for paired samples.

    Args:
      first: results of one method, `[n]`, n >= 2.
      second: results of another on the same seeds or sets, in the same order, `[n]`.
      confidence: in (0, 1).

    Raises:
      ValueError: for fewer than two pairs, other shapes, numbers that are not finite, or a
        confidence outside (0, 1).

    >>> interval = paired_interval([3.0, 5.0, 7.0], [1.0, 4.0, 4.0])
    >>> [round(number, 3) for number in interval]  # 2 +- 4.303 / sqrt(3)
    [2.0, -0.484, 4.484]
    """
    a, b = samples(first, second)
    if len(a) < 2:
        raise ValueError(f"a paired interval needs two pairs; got {len(a)}; make more runs")
    return mean_interval(a - b, confidence)


def relative_improvement(method: ArrayLike, random: ArrayLike) -> float:
    """RI of Yang, Esperança and Carlucci 2020, section 3: by how many percent a method's mean
    accuracy is above that of random samples of its own space, trained alike.

    Args:
      method: accuracies of the networks that the method found, `[n]`.
      random: accuracies of the random ones, `[m]`.

    Raises:
      ValueError: if there are none, one is not finite, or the random ones' mean is not positive.

    >>> round(relative_improvement([96.6, 97.0], [95.0, 97.0]), 3)
    0.833
    """
    a, b = numbers(method), numbers(random)
    if not len(a) or not len(b) or b.mean() <= 0:
        raise ValueError(
            f"relative improvement needs accuracies above 0 on both sides; got {len(a)} and "
            f"{len(b)}, with means {a.mean() if len(a) else 0:g} and {b.mean() if len(b) else 0:g}"
        )
    return float(100 * (a.mean() - b.mean()) / b.mean())


def improvement_interval(
    method: ArrayLike, random: ArrayLike, confidence: float = 0.95
) -> Interval:
    """Relative improvement with an interval, for accuracies of two independent samples.

    The interval is Welch's for `mean(method) - ratio * mean(random)`, ratio being that of the two
    means (Fieller 1954, to first order): their deviations may differ, and so may their numbers.

    Args:
      method: accuracies of the networks that the method found, `[n]`, n >= 2.
      random: accuracies of the random ones, `[m]`, m >= 2.
      confidence: in (0, 1).

    Raises:
      ValueError: as `relative_improvement`, or for fewer than two on a side.

    >>> interval = improvement_interval([96.0, 97.0, 98.0], [95.0, 96.0, 97.0])
    >>> [round(number, 2) for number in interval]
    [1.04, -1.33, 3.42]
    """
    from scipy import stats  # takes a second

    check_confidence(confidence)
    mean = relative_improvement(method, random)
    a, b = numbers(method), numbers(random)
    if min(len(a), len(b)) < 2:
        raise ValueError(
            f"an interval needs two runs of a method and two random networks; got {len(a)} and "
            f"{len(b)}; make more"
        )
    parts = [a.var(ddof=1) / len(a), (a.mean() / b.mean()) ** 2 * b.var(ddof=1) / len(b)]
    variance = sum(parts)
    if not variance:
        return Interval(mean, mean, mean)
    freedom = variance**2 / sum(p**2 / (len(x) - 1) for p, x in zip(parts, (a, b)))
    quantile = stats.t.ppf((1 + confidence) / 2, freedom)
    half = float(100 * quantile * np.sqrt(variance) / b.mean())
    return Interval(mean, mean - half, mean + half)


def superiority(first: ArrayLike, second: ArrayLike) -> float:
    """How often a result of one method is better than one of another, ties counted as halves.

    It is Vargha and Delaney's A (2000); a few very bad results hardly move it.

    Args:
      first: results of one method, `[n]`, n >= 1.
      second: results of another, `[m]`, m >= 1.

    Raises:
      ValueError: if there are none on a side.

    >>> superiority([90.0, 96.0], [10.0, 96.0])  # two of four pairs, and a tie
    0.625
    """
    a, b = numbers(first), numbers(second)
    if not len(a) or not len(b):
        raise ValueError(f"each side needs a result; got {len(a)} and {len(b)}; make runs")
    return float(np.mean((np.sign(a[:, None] - b) + 1) / 2))


#: More runs than this are not counted.
MOST_RUNS = 100_000


def runs_to_separate(
    first: ArrayLike, second: ArrayLike, confidence: float = 0.95, power: float = 0.8
) -> int | None:
    """How many runs of each side would show a difference as large as that of two samples.

    Were their means and deviations the true ones, the two-sided t-test of so many runs on each side
    would find the difference, and its sign, with probability `power`.

    Args:
      first: results of one method, `[n]`, n >= 2.
      second: results of another, `[m]`, m >= 2.
      confidence: one minus the test's level.
      power: in (0, 1).

    Returns:
      The number, at least 2; None if it is more than `MOST_RUNS`, as for equal means.

    Raises:
      ValueError: for fewer than two results on a side, or a number outside (0, 1).

    >>> runs_to_separate([-1.0, 0.0, 1.0], [-0.5, 0.5, 1.5])  # half a deviation apart
    64
    """
    from scipy import stats  # takes a second

    a, b = numbers(first), numbers(second)
    check_confidence(confidence)
    if not 0 < power < 1:
        raise ValueError(f"power must be between 0 and 1; got {power}")
    if min(len(a), len(b)) < 2:
        raise ValueError(
            f"a deviation needs two runs on each side; got {len(a)} and {len(b)}; make more"
        )
    difference, variance = abs(a.mean() - b.mean()), a.var(ddof=1) + b.var(ddof=1)
    rounding = 1e-12 * np.abs([*a, *b]).max()  # means of equal numbers may differ by it
    if difference <= rounding:
        return None
    if variance <= rounding**2:
        return 2

    def enough(number: int) -> bool:
        freedom, shift = 2 * (number - 1), difference * np.sqrt(number / variance)
        quantile = stats.t.ppf((1 + confidence) / 2, freedom)
        # Far out SciPy's t distribution is no number; there the power is 1 in any case.
        return bool(stats.nct.sf(quantile, freedom, min(shift, 30 * quantile)) >= power)

    found = bisect.bisect_left(range(MOST_RUNS + 1), True, lo=2, key=enough)
    return found if found <= MOST_RUNS else None


def kendall_tau(first: ArrayLike, second: ArrayLike) -> float:
    """How alike two orders are, from -1 to 1; ties are counted as in Kendall's tau-b (1945).

    Args:
      first: values of some things, `[n]`, n >= 2.
      second: other values of the same things, `[n]`.

    Raises:
      ValueError: for fewer than two, other shapes, or if all of one side are equal, which is no
        order.

    >>> round(kendall_tau([1, 2, 3, 4], [1, 2, 2, 4]), 3)  # 5 / sqrt(6 * 5)
    0.913
    """
    from scipy import stats  # takes a second

    a, b = samples(first, second)
    if len(a) < 2 or len(np.unique(a)) < 2 or len(np.unique(b)) < 2:
        raise ValueError(
            f"Kendall's tau needs values that differ on both sides; got {len(np.unique(a))} and "
            f"{len(np.unique(b))} different ones of {len(a)}; compare more things"
        )
    return float(stats.kendalltau(a, b, variant="b").statistic)


def check_confidence(confidence: float) -> None:
    """Raises `ValueError` unless it is between 0 and 1."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1; got {confidence}")


def samples(first: ArrayLike, second: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Two rows of numbers of the same things, checked."""
    a, b = numbers(first), numbers(second)
    if a.shape != b.shape:
        raise ValueError(f"pairs must be as many on both sides; got {len(a)} and {len(b)}")
    return a, b


def numbers(values: ArrayLike) -> np.ndarray:
    """A row of finite numbers, checked."""
    array = np.asarray(values, float)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(
            f"results must be finite numbers in one row; got shape {list(array.shape)}"
            f"{'' if np.isfinite(array).all() else ', some not finite'}; leave out what failed"
        )
    return array
