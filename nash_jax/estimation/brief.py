"""Train briefly, then validate (NASH, Algorithm 1, lines 16 and 21)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax

from nash_jax.architecture import Architecture, Variables
from nash_jax.data import Examples
from nash_jax.training import TooLargeError, TrainingSettings, evaluate, fit


@dataclasses.dataclass(frozen=True)
class Seconds:
    """Where the time of a candidate went.

    Attributes:
      compile: compiling its training and evaluation.
      train: training.
      evaluate: evaluating.
      wait: whoever trained it had nothing to do: it waited for other candidates, for their end or
        for a program that another thread compiled.
    """

    compile: float = 0.0
    train: float = 0.0
    evaluate: float = 0.0
    wait: float = 0.0

    def __add__(self, other: Seconds) -> Seconds:
        mine, theirs = dataclasses.astuple(self), dataclasses.astuple(other)
        return Seconds(*(a + b for a, b in zip(mine, theirs)))


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What is known of a candidate after its training.

    Attributes:
      accuracy: on the images it was evaluated on, in [0, 1]; 0 if it failed.
      loss: on these images, in nats; infinite if it failed.
      seconds: where the time went.
      required_bytes: memory that its training takes on a device, as the compiler predicts it.
      failure: why it could not be trained; empty if it was.
    """

    accuracy: float
    loss: float
    seconds: Seconds
    required_bytes: int = 0
    failure: str = ""


def train_and_validate(
    spec: Architecture,
    variables: Variables,
    key: jax.Array,
    train: Examples,
    valid: Examples,
    epochs: int,
    settings: TrainingSettings,
    on_epoch: Callable[[int], None] | None = None,
    max_bytes: int | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> tuple[Variables, Estimate]:
    """Train on `train` for some epochs and measure on `valid`; the arguments are those of `fit`.

    Returns:
      The trained variables, and the estimate. If the training would take more than `max_bytes` of
      memory, the variables as they came, and an estimate that says so.
    """
    try:
        trained = fit(
            *(spec, variables, train, key, epochs, settings, on_epoch),
            devices=devices,
            max_bytes=max_bytes,
        )
    except TooLargeError as error:
        return variables, Estimate(
            0.0, math.inf, Seconds(), error.required_bytes, f"too large: {error}"
        )
    result = evaluate(spec, trained.variables, valid, precision=settings.precision)
    seconds = Seconds(
        compile=trained.compile_seconds + result.compile_seconds,
        train=trained.train_seconds,
        evaluate=result.evaluate_seconds,
        wait=trained.wait_seconds + result.wait_seconds,
    )
    estimate = Estimate(result.accuracy, result.loss, seconds, trained.required_bytes)
    return trained.variables, estimate
