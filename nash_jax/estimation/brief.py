"""Train briefly, then validate (NASH, Algorithm 1, lines 16 and 21)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax

from nash_jax.architecture import Architecture, Variables
from nash_jax.data import Examples
from nash_jax.training import TrainingSettings, evaluate, fit


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What is known of a candidate after its training.

    Attributes:
      accuracy: on the images it was evaluated on, in [0, 1].
      loss: on these images, in nats.
      compile_seconds: spent on compiling the training and the evaluation.
      train_seconds: spent on training.
      evaluate_seconds: spent on evaluating.
    """

    accuracy: float
    loss: float
    compile_seconds: float
    train_seconds: float
    evaluate_seconds: float


def train_and_validate(
    spec: Architecture,
    variables: Variables,
    key: jax.Array,
    train: Examples,
    valid: Examples,
    epochs: int,
    settings: TrainingSettings,
    on_epoch: Callable[[int], None] | None = None,
) -> tuple[Variables, Estimate]:
    """Train on `train` for some epochs and measure on `valid`.

    Returns:
      The trained variables, and the estimate.
    """
    trained = fit(spec, variables, train, key, epochs, settings, on_epoch)
    result = evaluate(spec, trained.variables, valid)
    estimate = Estimate(
        accuracy=result.accuracy,
        loss=result.loss,
        compile_seconds=trained.compile_seconds + result.compile_seconds,
        train_seconds=trained.train_seconds,
        evaluate_seconds=result.evaluate_seconds,
    )
    return trained.variables, estimate
