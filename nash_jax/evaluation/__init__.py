"""How good methods are, beside each other: statistics of their results."""

from nash_jax.evaluation.statistics import (
    Interval,
    improvement_interval,
    kendall_tau,
    mean_interval,
    paired_interval,
    relative_improvement,
    runs_to_separate,
)

__all__ = [
    "Interval",
    "improvement_interval",
    "kendall_tau",
    "mean_interval",
    "paired_interval",
    "relative_improvement",
    "runs_to_separate",
]
