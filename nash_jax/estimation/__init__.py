"""How good a candidate is."""

from nash_jax.estimation.brief import FAILURES, Estimate, Seconds, failed, train_and_validate

__all__ = ["Estimate", "FAILURES", "Seconds", "failed", "train_and_validate"]
