"""How good a candidate is."""

from nash_jax.estimation.brief import Estimate, Seconds, train_and_validate

__all__ = ["Estimate", "Seconds", "train_and_validate"]
