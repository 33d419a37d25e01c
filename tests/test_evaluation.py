"""Statistics against scipy, by hand, and by simulation."""

import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.stats

from nash_jax import evaluation

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
    ],
)
def test_what_says_nothing_is_one_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()
