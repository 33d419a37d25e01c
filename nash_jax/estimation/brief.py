"""Train briefly, then validate (NASH, Algorithm 1, lines 16 and 21)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from nash_jax.architecture import Architecture, Variables
from nash_jax.data import Examples
from nash_jax.text import one_line
from nash_jax.training import DivergedError, TooLargeError, TrainingSettings, evaluate, fit


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
      train_losses: mean training loss of each epoch, in nats.
      failure: why it could not be trained; empty if it was.
    """

    accuracy: float
    loss: float
    seconds: Seconds
    required_bytes: int = 0
    train_losses: tuple[float, ...] = ()
    failure: str = ""


#: What can go wrong with one network's training, and says nothing about another's.
FAILURES = (TooLargeError, DivergedError, jax.errors.JaxRuntimeError, MemoryError)


def failed(error: BaseException, seconds: float) -> Estimate:
    """The estimate of a network whose training ended with one of `FAILURES`.

    Args:
      error: what it ended with.
      seconds: until then.
    """
    if isinstance(error, TooLargeError | DivergedError):
        failure = str(error)
    elif isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        failure = "out of memory: " + one_line(error, 200)
    else:
        failure = "not compiled or run by XLA: " + one_line(error, 200)
    required = error.required_bytes if isinstance(error, TooLargeError) else 0
    return Estimate(0.0, math.inf, Seconds(compile=seconds), required, failure=failure)


def train_and_validate(
    spec: Architecture,
    variables: Variables,
    key: jax.Array,
    train: Examples,
    valid: Examples,
    epochs: int,
    settings: TrainingSettings,
    on_epoch: Callable[[int, float], None] | None = None,
    **options: Any,
) -> tuple[Variables, Estimate]:
    """Train on `train` for some epochs and measure on `valid`.

    Args:
      spec, variables, key, epochs, settings: as in `fit`.
      train: images to train on.
      valid: images to measure on.
      on_epoch: called with the number of each epoch that is done, from 1, and its mean loss.
      **options: further arguments of `fit`.

    Returns:
      The trained variables, and the estimate.

    Raises:
      DivergedError: as soon as a loss is not finite.
      TooLargeError: as `fit` does.
    """

    def check(epoch: int, loss: np.ndarray) -> None:
        if not np.isfinite(loss):
            raise DivergedError(f"diverged: the training loss was {loss} in epoch {epoch}")
        if on_epoch is not None:
            on_epoch(epoch, float(loss))

    trained = fit(spec, variables, train, key, epochs, settings, check, **options)
    result = evaluate(spec, trained.variables, valid, **settings.evaluation)
    if not math.isfinite(result.loss):
        raise DivergedError(f"diverged: the loss was {result.loss} after training")
    seconds = Seconds(
        compile=trained.compile_seconds + result.compile_seconds,
        train=trained.train_seconds,
        evaluate=result.evaluate_seconds,
        wait=trained.wait_seconds + result.wait_seconds,
    )
    losses = tuple(float(loss) for loss in trained.losses)
    return trained.variables, Estimate(
        result.accuracy, result.loss, seconds, trained.required_bytes, losses
    )
