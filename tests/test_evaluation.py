"""Statistics against scipy, by hand, and by simulation."""

import math
import pathlib

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.stats

from nash_jax import evaluation
from nash_jax.estimation import Table

ROWS = st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=2, max_size=30)


@hypothesis.given(ROWS, st.sampled_from([0.5, 0.9, 0.95]))
def test_paired_intervals_are_those_of_scipys_test(rows, confidence):
    first, second = np.array(rows, float).T
    found = evaluation.paired_interval(first, second, confidence)
    if np.ptp(first - second) == 0:
        assert found == (first[0] - second[0],) * 3
        return
    expected = scipy.stats.ttest_rel(first, second).confidence_interval(confidence)
    np.testing.assert_allclose(found[1:], expected, rtol=1e-9, atol=1e-9)
    assert math.isclose(found.mean, (first - second).mean(), abs_tol=1e-12)


def test_a_95_percent_interval_covers_the_truth_95_times_of_100():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        of_seed = rng.normal(size=5)  # both methods are better on some seeds
        first, second = of_seed + rng.normal(1.0, 0.5, 5), of_seed + rng.normal(0.0, 0.5, 5)
        _, low, high = evaluation.paired_interval(first, second)
        covered += low <= 1.0 <= high
    assert 930 <= covered <= 970


@hypothesis.given(ROWS)
def test_tau_b_counts_pairs(rows):
    first, second = np.array(rows, float).T
    if len({*first}) < 2 or len({*second}) < 2:
        with pytest.raises(ValueError, match="needs values that differ on both sides"):
            evaluation.kendall_tau(first, second)
        return
    signs = [
        (np.sign(first[i] - first[j]), np.sign(second[i] - second[j]))
        for i in range(len(first))
        for j in range(i)
    ]
    both = sum(a * b for a, b in signs)
    untied = [sum(pair[side] != 0 for pair in signs) for side in (0, 1)]
    expected = both / math.sqrt(untied[0] * untied[1])
    assert math.isclose(evaluation.kendall_tau(first, second), expected, abs_tol=1e-12)


def test_relative_improvement_of_published_means():
    """DARTS on CIFAR-10 in Yang et al. 2020, Table 1: 96.92 at random, 97.24 searched: 0.33."""
    assert round(evaluation.relative_improvement([97.24], [96.92]), 2) == 0.33


def test_intervals_of_relative_improvement_cover_the_truth_95_times_of_100():
    """Three runs of a method that is a little better, and six random networks."""
    rng, truth = np.random.default_rng(0), 100 * (97.3 / 97 - 1)
    covered = 0
    for _ in range(1000):
        found, drawn = rng.normal(97.3, 0.3, 3), rng.normal(97.0, 0.3, 6)
        interval = evaluation.improvement_interval(found, drawn)
        assert interval.mean == evaluation.relative_improvement(found, drawn)
        covered += interval.low <= truth <= interval.high
    assert 930 <= covered <= 970


@pytest.mark.parametrize(("effect", "runs"), [(0.5, 64), (0.8, 26), (1.0, 17)])
def test_runs_that_separate_are_those_of_cohens_tables(effect, runs):
    """Cohen 1988, table 2.4.1: two-sided 5%, power 0.8."""
    sample = np.array([-1.0, 0.0, 1.0])
    assert evaluation.runs_to_separate(sample, sample + effect) == runs
    assert evaluation.runs_to_separate(sample, sample) is None


@pytest.mark.parametrize("effect", [12, 18, 26, 50, 1e3, 1e13])
def test_two_runs_separate_what_is_far_apart(effect):
    sample = np.array([-1.0, 0.0, 1.0])
    assert evaluation.runs_to_separate(sample, sample + effect) == 2


def test_runs_that_separate_do_not_depend_on_rounding():
    assert evaluation.runs_to_separate([97.1] * 3, [10.3] * 3) == 2
    assert evaluation.runs_to_separate([97.1] * 3, [97.1] * 2) is None
    sample = np.array([-1.0, 0.0, 1.0])
    assert evaluation.runs_to_separate(sample, sample + 0.0123) is None  # 103,764


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: evaluation.improvement_interval([1], [2, 3]), "got 1 and 2; make more"),
        (lambda: evaluation.runs_to_separate([1, 2], [3]), "two runs on each side; got 2 and 1"),
        (lambda: evaluation.runs_to_separate([1, 2], [3, 4], power=1), "power must be between"),
        (lambda: evaluation.paired_interval([1], [2]), "needs two pairs; got 1"),
        (lambda: evaluation.paired_interval([1, 2], [2]), "as many on both sides; got 2 and 1"),
        (lambda: evaluation.paired_interval([1, 2], [2, math.nan]), "some not finite; leave out"),
        (lambda: evaluation.paired_interval([1, 2], [2, 3], 1), "confidence must be between"),
        (lambda: evaluation.relative_improvement([], [1]), "got 0 and 1, with means 0 and 1"),
        (lambda: evaluation.relative_improvement([[1]], [1]), "in one row; got shape .1, 1."),
        (lambda: evaluation.spearman_interval([1, 2], [2, 1]), "needs three things; got 2"),
        (lambda: evaluation.top_overlap([1, 2], [2, 1], 3), "must be 1 to 2, .*; got 3"),
        (lambda: evaluation.smoothed([[1, 2]], 3), "window must be 1 to 2, the epochs; got 3"),
        (lambda: evaluation.correlations_with_end([[1, 2]]), "of curves needs three; got 1"),
        (lambda: evaluation.smoothed([1, 2], 1), r"finite numbers \[n, epochs\]; got shape \[2\]"),
    ],
)
def test_what_says_nothing_is_one_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Orders.


@hypothesis.given(ROWS)
def test_rank_correlations_are_scipys(rows):
    first, second = np.array(rows, float).T
    if len({*first}) < 2 or len({*second}) < 2:
        with pytest.raises(ValueError, match="needs values that differ on both sides"):
            evaluation.spearman(first, second)
        return
    for ours, theirs in (
        (evaluation.spearman, scipy.stats.spearmanr),
        (evaluation.pearson, scipy.stats.pearsonr),
    ):
        expected = theirs(first, second).statistic
        assert math.isclose(ours(first, second), expected, abs_tol=1e-12)


def test_shifts_by_hand():
    first, second = [97.0, 96.0, 95.0, 94.0], [95.5, 95.5, 96.0, 90.0]
    assert evaluation.place_changes(first, second).tolist() == [1.5, 0.5, -2.0, 0.0]
    assert evaluation.top_overlap(first, second, 2) == 0.5  # of two equal ones, the first
    assert evaluation.top_overlap(first, second, 4) == 1


def test_an_interval_of_a_rank_correlation_covers_the_truth_95_times_of_100():
    rng, truth = np.random.default_rng(0), 6 / math.pi * math.asin(0.8 / 2)
    drawn = rng.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], (1000, 20))
    intervals = [evaluation.spearman_interval(*sample.T) for sample in drawn]
    assert 930 <= sum(low <= truth <= high for _, low, high in intervals) <= 970


def test_windows_of_curves_end_with_their_epoch():
    curves = np.random.default_rng(0).normal(size=(5, 8))
    found = evaluation.smoothed(curves, 3)
    for epoch in range(8):
        expected = curves[:, max(0, epoch - 2) : epoch + 1].mean(axis=1)
        np.testing.assert_allclose(found[:, epoch], expected, rtol=1e-12)
    curves[:, 2] = 10.0  # all begin at chance
    raw, smooth = (evaluation.correlations_with_end(curves, window) for window in (1, 3))
    assert math.isnan(raw[2])
    assert raw[-1] == pytest.approx(1)
    assert smooth[5] == pytest.approx(np.corrcoef(found[:, 5], curves[:, -1])[0, 1])


TABLES = pathlib.Path(__file__).parents[2] / "shared/data/nas_tables"


@pytest.mark.skipif(not TABLES.exists(), reason="the published table is not here")
def test_twelve_epochs_order_nas_bench_201_as_was_published():
    table = Table.load(TABLES / "nb201.npz", data="c10", epochs=12)
    assert round(evaluation.spearman(table.validation, table.test), 3) == 0.772


@pytest.mark.skipif(not TABLES.exists(), reason="the published curves are not here")
def test_the_benchmark_papers_figures_come_out_of_its_curves():
    """Yang et al. 2020, section 5: the text has maxima over epochs, and 0.54 for the depths."""
    with np.load(TABLES / "darts_curves_GPL3.npz") as file:
        columns = {name: file[name].astype(float) for name in file.files}
    curves, others = columns["curves214"], columns["curves56"]
    best = curves.max(axis=1)
    figures = [best.mean(), best.std(), best.min(), best.max()]
    np.testing.assert_allclose(figures, [97.034, 0.226, 96.18, 97.56], atol=5e-4)
    last = curves[:, -1]
    figures = [last.mean(), last.std(ddof=1), last.min(), last.max()]
    np.testing.assert_allclose(figures, [96.949, 0.233, 96.03, 97.41], atol=5e-4)
    assert round(others.max(axis=1).mean(), 3) == 96.847
    assert round(others[:, -1].mean(), 3) == 96.769
    assert round(best.mean() - others.max(axis=1).mean(), 3) == 0.187
    depths, seeds = columns["cells8_20"].T, columns["seeds24"].T
    assert round(evaluation.kendall_tau(*depths), 3) == 0.535
    assert 18 <= abs(evaluation.place_changes(*depths)).max() <= 19  # the paper: 18 positions
    assert round(evaluation.kendall_tau(*seeds), 3) == 0.583
    assert round(abs(seeds[0] - seeds[1]).mean(), 3) == 0.125
    raw = evaluation.correlations_with_end(curves)[[9, 49, 99, 199, 299, 399, 499]]
    expected = [0.296, 0.403, 0.396, 0.456, 0.534, 0.707, 0.844]
    assert raw.round(3).tolist() == expected
    smooth = evaluation.correlations_with_end(curves, 20)[[99, 199, 299, 399, 499]]
    assert smooth.round(3).tolist() == [0.509, 0.601, 0.678, 0.797, 0.915]
    means = [columns[f"cells{n}"][:, -1].mean().round(3) for n in (4, 6, 8, 12, 16, 20, 24)]
    assert means == [95.571, 96.433, 96.618, 96.821, 96.889, 96.900, 96.921]
