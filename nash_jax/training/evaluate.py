"""Accuracy and loss on a set of any size, by one program per architecture."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from nash_jax.architecture import Architecture, Variables, apply, numbered, renamed
from nash_jax.data import Examples
from nash_jax.jax_settings import usual_promotion
from nash_jax.training.compilation import (
    Precision,
    Stopwatch,
    compiled,
    compute_dtype,
    matmul_precision,
)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What an evaluation gives.

    Attributes:
      accuracy: share of the images that are classified right, in [0, 1].
      loss: mean cross-entropy, in nats; not a number where the network has diverged.
      balanced_accuracy: mean over the classes that occur, of the share that is classified right.
      compile_seconds: time to compile; 0 if it was compiled before.
      wait_seconds: time spent waiting for another thread to compile it.
      evaluate_seconds: time of the evaluation itself.
    """

    accuracy: float
    loss: float
    balanced_accuracy: float
    compile_seconds: float
    wait_seconds: float
    evaluate_seconds: float


@functools.partial(jax.jit, static_argnames=("precision", "flip", "population"))
def _logits(
    spec: Architecture,
    variables: Variables,
    images: jax.Array,
    precision: Precision,
    flip: bool,
    population: bool,
) -> jax.Array:
    """Logits `[batch, classes]`; of a population `[members, batch, classes]`."""

    def one(variables: Variables) -> jax.Array:
        with matmul_precision(precision):
            logits = apply(spec, variables, images, dtype=compute_dtype(precision))
            if flip:
                mirrored = images[:, :, ::-1]
                logits += apply(spec, variables, mirrored, dtype=compute_dtype(precision))
            return logits / 2 if flip else logits

    return (jax.vmap(one) if population else one)(variables)


def evaluate(
    spec: Architecture,
    variables: Variables,
    examples: Examples,
    batch_size: int | None = None,
    precision: Precision = "float32",
    flip: bool = False,
) -> Evaluation:
    """Accuracy and loss in evaluation mode.

    Args:
      spec: the architecture.
      variables: its variables.
      examples: images and labels, NumPy's or on the device.
      batch_size: images at a time, by default 256 on CPU and 1,024 elsewhere; the last batch is
        padded, and the padding is not counted.
      precision: what to compute with, as in `TrainingSettings`.
      flip: average the logits of each image and its mirror image.

    Raises:
      ValueError: if there are no examples, or the batch size is below 1.
    """
    logits, *times = all_logits(spec, variables, examples, batch_size, precision, flip, False)
    return Evaluation(*scores(logits, examples.labels), *times)


def evaluate_population(
    spec: Architecture,
    variables: Variables,
    examples: Examples,
    batch_size: int | None = None,
    precision: Precision = "float32",
    flip: bool = False,
) -> tuple[Evaluation, ...]:
    """As `evaluate`, for each of a population: all arrays of `variables` are `[members, ...]`.

    The members are evaluated together, so that each has the time of all.
    """
    logits, *times = all_logits(spec, variables, examples, batch_size, precision, flip, True)
    return tuple(Evaluation(*scores(member, examples.labels), *times) for member in logits)


@usual_promotion
def all_logits(
    spec: Architecture,
    variables: Variables,
    examples: Examples,
    batch_size: int | None,
    precision: Precision,
    flip: bool,
    population: bool,
) -> tuple[np.ndarray, float, float, float]:
    """Logits of all images, and the seconds of compiling, waiting and evaluating."""
    if batch_size is None:
        batch_size = 256 if jax.default_backend() == "cpu" else 1024
    if batch_size < 1:
        raise ValueError(f"batch_size must be >= 1; got {batch_size}")
    if len(examples) == 0:
        raise ValueError("evaluation needs at least one example; got none")
    graph, names = numbered(spec)
    variables = renamed(variables, names)
    static: Any = {"precision": precision, "flip": flip, "population": population}
    watch = Stopwatch()
    program, new = compiled(
        _logits, graph, variables, padded_batch(examples, 0, batch_size), **static
    )
    compiling = watch.lap()
    batches = [
        program.call(graph, variables, padded_batch(examples, first, batch_size))
        for first in range(0, len(examples), batch_size)
    ]
    logits = np.concatenate([np.asarray(b, np.float64) for b in batches], axis=-2)
    logits = logits[..., : len(examples), :]
    return logits, *((compiling, 0.0) if new else (0.0, compiling)), watch.lap()


@usual_promotion
def precompile_evaluation(
    spec: Architecture,
    variables: Variables,
    examples: Examples,
    precision: Precision,
    flip: bool = False,
) -> float:
    """Compile what `evaluate` will need, and give the seconds it took. See `precompile`."""
    graph, names = numbered(spec)
    size = 256 if jax.default_backend() == "cpu" else 1024
    static: Any = {"precision": precision, "flip": flip, "population": False}
    watch = Stopwatch()
    batch = padded_batch(examples, 0, size)
    _, new = compiled(_logits, graph, renamed(variables, names), batch, **static)
    return watch.lap() if new else 0.0


def padded_batch(examples: Examples, first: int, size: int) -> Any:
    """`size` images from the `first` on; the last one is repeated where there are fewer."""
    return examples.images[np.minimum(np.arange(first, first + size), len(examples) - 1)]


def scores(logits: np.ndarray, labels: Any) -> tuple[float, float, float]:
    """Accuracy, mean loss and balanced accuracy, by logits `[n, classes]`.

    >>> logits = np.array([[2.0, 1.0], [2.0, 1.0], [2.0, 1.0], [1.0, 2.0]])
    >>> scores(logits, [0, 0, 1, 1])[::2]
    (0.75, 0.75)
    >>> scores(logits, [0, 0, 0, 1])[::2]  # all zeros and the only one are right
    (1.0, 1.0)
    >>> scores(logits, [0, 1, 1, 1])[2]  # (1/1 + 1/3) / 2
    0.6666666666666666
    """
    labels = np.asarray(labels)
    losses = -np.take_along_axis(log_softmax(logits), labels[:, None], axis=-1)
    right = logits.argmax(axis=-1) == labels
    counts = np.bincount(labels)
    recalls = np.bincount(labels, weights=right)[counts > 0] / counts[counts > 0]
    return float(right.mean()), float(losses.mean()), float(recalls.mean())


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logarithms of the probabilities."""
    with np.errstate(invalid="ignore"):  # where a network has diverged
        shifted = logits - logits.max(axis=-1, keepdims=True)
        return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))
