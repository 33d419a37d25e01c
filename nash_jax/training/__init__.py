"""How a network learns: SGDR, augmentation, the compiled loop, evaluation."""

from nash_jax.training.augment import augment
from nash_jax.training.evaluate import Evaluation, ensemble, evaluate, evaluate_population
from nash_jax.training.loop import Fit, TooLargeError, TrainState, check_batch_size, fit, update
from nash_jax.training.settings import TrainingSettings
from nash_jax.training.sgdr import direction, learning_rates

__all__ = [
    "Evaluation",
    "Fit",
    "TooLargeError",
    "TrainState",
    "TrainingSettings",
    "augment",
    "check_batch_size",
    "direction",
    "ensemble",
    "evaluate",
    "evaluate_population",
    "fit",
    "learning_rates",
    "update",
]
