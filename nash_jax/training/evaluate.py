"""Accuracy and loss on a set of any size, by one program per architecture."""

from __future__ import annotations

import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from nash_jax.architecture import Architecture, Variables, apply
from nash_jax.data import Examples
from nash_jax.training.compilation import compiled


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What an evaluation gives.

    Attributes:
      accuracy: share of the images that are classified right, in [0, 1].
      loss: mean cross-entropy, in nats; not a number where the network has diverged.
      compile_seconds: time to compile; next to nothing if it was compiled before.
      evaluate_seconds: time of the evaluation itself.
    """

    accuracy: float
    loss: float
    compile_seconds: float
    evaluate_seconds: float


@jax.jit
def _score(
    spec: Architecture,
    variables: Variables,
    images: jax.Array,
    labels: jax.Array,
    counts: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Number of right answers and sum of losses over the images that count."""
    logits = apply(spec, variables, images)
    right = jnp.where(counts, logits.argmax(axis=-1) == labels, False)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return right.sum(), jnp.where(counts, losses, 0).sum()


def evaluate(
    spec: Architecture, variables: Variables, examples: Examples, batch_size: int = 256
) -> Evaluation:
    """Accuracy and loss in evaluation mode; the last batch is padded and the padding not counted.

    Raises:
      ValueError: if there are no examples, or the batch size is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be >= 1; got {batch_size}")
    if len(examples) == 0:
        raise ValueError("evaluation needs at least one example; got none")
    start = time.perf_counter()
    program = compiled(_score, spec, variables, *_batch(examples, 0, batch_size))
    ready = time.perf_counter()
    scores = [
        program(spec, variables, *_batch(examples, first, batch_size))
        for first in range(0, len(examples), batch_size)
    ]
    right, losses = (np.sum([np.asarray(s) for s in column]) for column in zip(*scores))
    done = time.perf_counter()
    num = len(examples)
    return Evaluation(float(right) / num, float(losses) / num, ready - start, done - ready)


def _batch(examples: Examples, first: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, labels and which of them count: `size` from the `first` on."""
    index = np.arange(first, first + size)
    counts = index < len(examples)
    index = np.where(counts, index, 0)
    return examples.images[index], examples.labels[index], counts
