"""How good methods are, beside each other: statistics of their results."""

from nash_jax.evaluation.ranking import FULL, Cost, Ranking, Row, ranking
from nash_jax.evaluation.ranks import (
    correlations_with_end,
    pearson,
    place_changes,
    places,
    smoothed,
    spearman,
    spearman_interval,
    top_overlap,
)
from nash_jax.evaluation.statistics import (
    Interval,
    kendall_tau,
    mean_interval,
    paired_interval,
    relative_improvement,
)

__all__ = [
    "Cost",
    "FULL",
    "Interval",
    "Ranking",
    "Row",
    "correlations_with_end",
    "kendall_tau",
    "mean_interval",
    "paired_interval",
    "pearson",
    "place_changes",
    "places",
    "ranking",
    "relative_improvement",
    "smoothed",
    "spearman",
    "spearman_interval",
    "top_overlap",
]
