"""How good a network is."""

from nash_jax.estimation.brief import (
    ESTIMATORS,
    Estimator,
    grow,
    perform,
    train_and_validate,
)
from nash_jax.estimation.estimate import FAILURES, METRICS, Estimate, Metric, Seconds, failed
from nash_jax.estimation.job import (
    INHERIT,
    EdgeRule,
    Images,
    Job,
    Network,
    Outcome,
    Part,
    Recipe,
    Tools,
    Trainings,
    Unfinished,
    Weights,
    on_smaller_images,
)
from nash_jax.estimation.table import Table

__all__ = [
    "ESTIMATORS",
    "EdgeRule",
    "Estimate",
    "Estimator",
    "FAILURES",
    "INHERIT",
    "Images",
    "Job",
    "METRICS",
    "Metric",
    "Network",
    "Outcome",
    "Part",
    "Recipe",
    "Seconds",
    "Table",
    "Tools",
    "Trainings",
    "Unfinished",
    "Weights",
    "failed",
    "grow",
    "on_smaller_images",
    "perform",
    "train_and_validate",
]
