"""How good methods are, beside each other: statistics of their results."""

from nash_jax.evaluation.statistics import (
    Interval,
    kendall_tau,
    mean_interval,
    paired_interval,
    relative_improvement,
)

__all__ = ["Interval", "kendall_tau", "mean_interval", "paired_interval", "relative_improvement"]
