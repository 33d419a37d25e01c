"""What is known of a network after it was estimated."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal, get_args

import jax

from nash_jax.text import one_line
from nash_jax.training import DivergedError, SizeError, TooLargeError

#: What a search may climb.
Metric = Literal["accuracy", "balanced_accuracy", "loss"]
METRICS: tuple[Metric, ...] = get_args(Metric)


@dataclasses.dataclass(frozen=True)
class Seconds:
    """Where the time of a trial went.

    Attributes:
      compile: compiling its training and evaluation.
      train: training.
      evaluate: evaluating.
      wait: the worker that trained it had nothing to do: it waited for other trials to end, or for
        a program that another thread compiled.
    """

    compile: float = 0.0
    train: float = 0.0
    evaluate: float = 0.0
    wait: float = 0.0

    @property
    def total(self) -> float:
        return sum(dataclasses.astuple(self))

    @property
    def rounded(self) -> Seconds:
        """To milliseconds."""
        return Seconds(*(round(x, 3) for x in dataclasses.astuple(self)))

    def __add__(self, other: Seconds) -> Seconds:
        mine, theirs = dataclasses.astuple(self), dataclasses.astuple(other)
        return Seconds(*(a + b for a, b in zip(mine, theirs)))


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What is known of a network after its training.

    Attributes:
      accuracy: on the images it was evaluated on, in [0, 1]; 0 if it failed.
      loss: on these images, in nats; infinite if it failed.
      seconds: where the time went.
      required_bytes: memory that its training takes on a device, as the compiler predicts it.
      train_losses: mean training loss of each epoch, in nats.
      failure: why it could not be trained; empty if it was.
      lambdas: the learned weight of every sum of eq. 6, by node, after the training.
      balanced_accuracy: the share of each class that is classified right, averaged over the
        classes; None if it is not known, or the training failed.
      objectives: what else was measured, by name.
      edges: of a supernet: by edge, the weights of its choices after each epoch,
        `[epochs][choices]`.
      candidates: of a supernet: the genotypes that it was judged by, or a policy proposes.
    """

    accuracy: float
    loss: float
    seconds: Seconds
    required_bytes: int = 0
    train_losses: tuple[float, ...] = ()
    failure: str = ""
    lambdas: tuple[tuple[str, float], ...] = ()
    balanced_accuracy: float | None = None
    objectives: Mapping[str, float] = dataclasses.field(default_factory=dict)
    edges: Mapping[str, tuple[tuple[float, ...], ...]] = dataclasses.field(default_factory=dict)
    candidates: tuple[tuple[int, ...], ...] = ()

    def score(self, metric: Metric) -> float:
        """What a search climbs: the larger the better; of a failure, minus infinity.

        Raises:
          ValueError: if it is not known.
        """
        if self.failure:
            return -math.inf
        if metric == "accuracy":
            return self.accuracy
        if metric == "loss":
            return -self.loss if math.isfinite(self.loss) else -math.inf
        if self.balanced_accuracy is None:
            raise ValueError("balanced_accuracy was not measured; take metric accuracy or loss")
        return self.balanced_accuracy


#: Errors of one network's training that say nothing about other networks.
FAILURES = (TooLargeError, DivergedError, SizeError, jax.errors.JaxRuntimeError, MemoryError)


def failed(error: BaseException, seconds: float) -> Estimate:
    """The estimate of a network whose training ended with one of `FAILURES`.

    Args:
      error: what it ended with.
      seconds: until then.
    """
    if isinstance(error, TooLargeError | DivergedError | SizeError):
        failure = str(error)
    elif isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        failure = "out of memory: " + one_line(error, 200)
    else:
        failure = "not compiled or run by XLA: " + one_line(error, 200)
    required = error.required_bytes if isinstance(error, TooLargeError) else 0
    return Estimate(0.0, math.inf, Seconds(compile=seconds), required, failure=failure)
