"""How good a candidate is."""

from nash_jax.estimation.brief import Estimate, train_and_validate

__all__ = ["Estimate", "train_and_validate"]
