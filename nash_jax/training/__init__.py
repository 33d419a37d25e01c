"""How a network learns: SGDR, augmentation, the compiled loop, evaluation."""

from nash_jax.training import bilevel, parts, supernet
from nash_jax.training.augment import augment
from nash_jax.training.auxiliary import check_tower, tower_of
from nash_jax.training.compilation import (
    bfloat16_seconds_per_float32,
    compiler_options,
    faster_flags,
)
from nash_jax.training.ensembles import (
    Predictions,
    ensemble,
    ensemble_weights,
    predict_members,
)
from nash_jax.training.epochs import TrainState, update, updates_per_program
from nash_jax.training.evaluate import (
    Evaluation,
    evaluate,
    evaluate_population,
    precompile_evaluation,
)
from nash_jax.training.loop import (
    DivergedError,
    Fit,
    Lengths,
    Snapshot,
    TooLargeError,
    check_batch_size,
    fit,
    precompile,
    state_shapes,
    variables_in,
)
from nash_jax.training.population import learning_curves
from nash_jax.training.resizing import (
    Resizing,
    SizeError,
    cost_of_smaller,
    for_smaller,
    smaller,
    smaller_examples,
)
from nash_jax.training.settings import TrainingSettings
from nash_jax.training.sgdr import Cosine, direction, learning_rate, learning_rates
from nash_jax.training.streaming import check_streaming, fits_on_device

__all__ = [
    "Cosine",
    "DivergedError",
    "Evaluation",
    "Fit",
    "Lengths",
    "Predictions",
    "Resizing",
    "SizeError",
    "Snapshot",
    "TooLargeError",
    "TrainState",
    "TrainingSettings",
    "augment",
    "bfloat16_seconds_per_float32",
    "bilevel",
    "check_batch_size",
    "check_streaming",
    "check_tower",
    "compiler_options",
    "cost_of_smaller",
    "direction",
    "ensemble",
    "ensemble_weights",
    "evaluate",
    "evaluate_population",
    "faster_flags",
    "fit",
    "fits_on_device",
    "for_smaller",
    "learning_curves",
    "learning_rate",
    "learning_rates",
    "parts",
    "precompile",
    "precompile_evaluation",
    "predict_members",
    "smaller",
    "smaller_examples",
    "state_shapes",
    "supernet",
    "tower_of",
    "update",
    "updates_per_program",
    "variables_in",
]
