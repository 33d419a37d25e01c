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
    improvement_interval,
    kendall_tau,
    mean_interval,
    paired_interval,
    relative_improvement,
    runs_to_separate,
    superiority,
)

__all__ = [
    "Cost",
    "FULL",
    "Interval",
    "Ranking",
    "Row",
    "correlations_with_end",
    "improvement_interval",
    "kendall_tau",
    "mean_interval",
    "paired_interval",
    "pearson",
    "place_changes",
    "places",
    "ranking",
    "relative_improvement",
    "runs_to_separate",
    "smoothed",
    "spearman",
    "spearman_interval",
    "superiority",
    "top_overlap",
]
