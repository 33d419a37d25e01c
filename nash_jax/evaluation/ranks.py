"""Orders: how alike they are, and how early a learning curve tells them.

Pure functions of arrays. More is better: the best of `[n]` values has place 1.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from nash_jax.evaluation.statistics import Interval, check_confidence, numbers, samples


def places(values: ArrayLike) -> np.ndarray:
    """The place of each value in the order, from 1, the largest; equal ones share their mean.

    Args:
      values: `[n]`, finite.

    Returns:
      `[n]`.

    >>> places([90.0, 95.0, 90.0, 80.0]).tolist()
    [2.5, 1.0, 2.5, 4.0]
    """
    from scipy import stats  # takes a second

    return np.asarray(stats.rankdata(-numbers(values)))


def place_changes(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """How many places each thing falls from one order to another; negative ones rise.

    Args:
      first: values of some things, `[n]`.
      second: other values of the same things, `[n]`.

    Returns:
      `[n]`; the largest absolute one is the largest shift of Yang et al. 2020, section 5.3.

    >>> place_changes([3.0, 2.0, 1.0], [1.0, 3.0, 2.0]).tolist()
    [2.0, -1.0, -1.0]
    """
    a, b = samples(first, second)
    return places(b) - places(a)


def pearson(first: ArrayLike, second: ArrayLike) -> float:
    """Pearson's correlation, from -1 to 1.

    Args:
      first: values of some things, `[n]`, n >= 2.
      second: other values of the same things, `[n]`.

    Raises:
      ValueError: for other shapes, or if all of one side are equal.

    >>> pearson([1, 2, 3], [1, 3, 2])
    0.5
    """
    return float(np.clip(np.corrcoef(*_orders(first, second, "Pearson"))[0, 1], -1, 1))


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's rank correlation: that of the places, from -1 to 1.

    Args:
      first: values of some things, `[n]`, n >= 2.
      second: other values of the same things, `[n]`.

    Raises:
      ValueError: for other shapes, or if all of one side are equal, which is no order.

    >>> spearman([1, 2, 3], [10, 1000, 100])
    0.5
    """
    a, b = _orders(first, second, "Spearman")
    return pearson(places(a), places(b))


def spearman_interval(first: ArrayLike, second: ArrayLike, confidence: float = 0.95) -> Interval:
    """Spearman's correlation with an interval, by Fisher's z and Bonett and Wright's (2000) error.

    The error of z is `sqrt((1 + r^2 / 2) / (n - 3))`; three things say nothing.

    Args:
      first: values of some things, `[n]`, n >= 3, drawn at random.
      second: other values of the same things, `[n]`.
      confidence: in (0, 1).

    Returns:
      The correlation (as `mean`) and the ends of the interval.

    Raises:
      ValueError: as `spearman`; for fewer than three, or a confidence outside (0, 1).

    >>> spearman_interval([1, 2, 3], [10, 1000, 100])
    Interval(mean=0.5, low=-1.0, high=1.0)
    """
    from scipy import stats

    check_confidence(confidence)
    r, n = spearman(first, second), len(np.asarray(first))
    if n < 3:
        raise ValueError(f"an interval of a rank correlation needs three things; got {n}; add some")
    if n == 3:
        return Interval(r, -1.0, 1.0)
    if abs(r) == 1:
        return Interval(r, r, r)
    normal = float(stats.norm.ppf((1 + confidence) / 2))
    half = normal * math.sqrt((1 + r**2 / 2) / (n - 3))
    return Interval(r, math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half))


def top_overlap(first: ArrayLike, second: ArrayLike, most: int) -> float:
    """The share of the best by one order that are also among the best by another.

    Of equal values those that stand first are taken.

    Args:
      first: values of some things, `[n]`.
      second: other values of the same things, `[n]`.
      most: how many are the best, from 1 to n.

    Raises:
      ValueError: for other shapes, or another number.

    >>> top_overlap([9, 8, 7, 6], [9, 6, 8, 7], 2)
    0.5
    """
    a, b = samples(first, second)
    if not 1 <= most <= len(a):
        raise ValueError(f"the best must be 1 to {len(a)}, as many as there are; got {most}")
    best = [set(np.argsort(-each, kind="stable")[:most].tolist()) for each in (a, b)]
    return len(best[0] & best[1]) / most


def smoothed(curves: ArrayLike, window: int) -> np.ndarray:
    """The mean of the last few epochs up to each epoch; of all, where there are fewer before it.

    Args:
      curves: `[n, epochs]`.
      window: how many epochs, >= 1.

    Returns:
      `[n, epochs]`.

    >>> smoothed([[1.0, 3.0, 5.0, 3.0]], 2).tolist()
    [[1.0, 2.0, 4.0, 4.0]]
    """
    values = _curves(curves)
    if not 1 <= window <= values.shape[1]:
        raise ValueError(f"window must be 1 to {values.shape[1]}, the epochs; got {window}")
    first = np.cumsum(values[:, : window - 1], axis=1) / np.arange(1, window)
    windows = np.lib.stride_tricks.sliding_window_view(values, window, axis=1)
    return np.concatenate([first, windows.mean(axis=-1)], axis=1)


def correlations_with_end(curves: ArrayLike, window: int = 1) -> np.ndarray:
    """Pearson's correlation of every epoch with the last one, over several learning curves.

    Yang et al. 2020, figure 5: the epoch may be a mean over a window that ends with it, the end is
    the last epoch as it is.

    Args:
      curves: accuracies, `[n, epochs]`, n >= 3.
      window: of the means; 1: none.

    Returns:
      `[epochs]`; nan where all curves have the same value.

    Raises:
      ValueError: for other shapes, fewer than three curves, or another window.

    >>> correlations_with_end([[1, 1], [2, 3], [3, 2]]).round(3).tolist()
    [0.5, 1.0]
    """
    values = _curves(curves)
    if len(values) < 3:
        raise ValueError(f"a correlation of curves needs three; got {len(values)}; add some")
    early, end = smoothed(values, window), values[:, -1]
    return np.array(
        [pearson(each, end) if np.ptp(each) and np.ptp(end) else np.nan for each in early.T]
    )


def _orders(first: ArrayLike, second: ArrayLike, whose: str) -> tuple[np.ndarray, np.ndarray]:
    """Both sides, each with values that differ."""
    a, b = samples(first, second)
    different = [len(np.unique(each)) for each in (a, b)]
    if min(different) < 2:
        raise ValueError(
            f"{whose}'s correlation needs values that differ on both sides; got {different[0]} and "
            f"{different[1]} different ones of {len(a)}; compare more things"
        )
    return a, b


def _curves(curves: ArrayLike) -> np.ndarray:
    values = np.array(curves, float)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise ValueError(
            f"learning curves must be finite numbers [n, epochs]; got shape {list(values.shape)}"
            f"{'' if np.isfinite(values).all() else ', some not finite'}; leave out what failed"
        )
    return values
