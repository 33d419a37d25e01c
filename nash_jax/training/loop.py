"""The compiled training loop.

An update is compiled once per architecture, whatever the length of the training or the size of the
set. On CPU the loop over updates is Python's, because XLA runs convolutions inside loops 20 to 38
times slower there; elsewhere an epoch is one `lax.scan` over data that stays on the device.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from nash_jax.architecture import Architecture, Variables, apply
from nash_jax.data import Examples
from nash_jax.training.augment import augment
from nash_jax.training.compilation import compiled
from nash_jax.training.settings import TrainingSettings
from nash_jax.training.sgdr import direction, learning_rates


class TrainState(NamedTuple):
    """What an update changes."""

    variables: Variables
    optimizer: optax.OptState


@dataclasses.dataclass(frozen=True)
class Fit:
    """What a training gives.

    Attributes:
      variables: the trained variables.
      losses: mean training loss of each epoch, `[epochs]`.
      compile_seconds: time to compile the update; next to nothing if it was compiled before.
      train_seconds: time of the training itself.
    """

    variables: Variables
    losses: tuple[float, ...]
    compile_seconds: float
    train_seconds: float


def fit(
    spec: Architecture,
    variables: Variables,
    examples: Examples,
    key: jax.Array,
    epochs: int,
    settings: TrainingSettings,
    on_epoch: Callable[[int], None] | None = None,
    scan: bool | None = None,
) -> Fit:
    """Train for some epochs with the learning rate annealed once: the paper's SGDRtrain.

    Args:
      spec: the architecture.
      variables: where the training starts; not changed.
      examples: the training images and labels.
      key: decides the order of the images and their augmentation.
      epochs: passes over the images; 0 gives the variables back. A last batch that is not full is
        left out; the order is new in every epoch.
      settings: how to train.
      on_epoch: called with the number of each epoch that is done, from 1.
      scan: whether an epoch is one `lax.scan`; by default, wherever it is not slower.

    Raises:
      ValueError: if there are fewer images than make a batch.
    """
    if epochs < 0:
        raise ValueError(f"epochs must be >= 0; got {epochs}")
    if epochs == 0:
        return Fit(variables, (), 0.0, 0.0)
    check_batch_size(settings, len(examples))
    num_batches = len(examples) // settings.batch_size
    rates = learning_rates(settings, epochs * num_batches).reshape(epochs, num_batches)
    # The update donates its state's memory: a copy keeps the caller's variables alive.
    params = variables["params"]
    state = TrainState(jax.tree.map(jnp.copy, variables), direction(settings).init(params))
    scan = jax.default_backend() != "cpu" if scan is None else scan
    start = time.perf_counter()
    run_epoch = (_scanned if scan else _looped)(spec, state, examples, key, settings)
    ready = time.perf_counter()
    losses = []
    for epoch in range(epochs):
        epoch_key = jax.random.fold_in(key, epoch)
        order = np.asarray(jax.random.permutation(epoch_key, len(examples)), np.int32)
        order = order[: num_batches * settings.batch_size].reshape(num_batches, -1)
        state, loss = run_epoch(state, order, rates[epoch], epoch_key)
        losses.append(float(loss))
        if on_epoch is not None:
            on_epoch(epoch + 1)
    jax.block_until_ready(state)
    done = time.perf_counter()
    return Fit(state.variables, tuple(losses), ready - start, done - ready)


def check_batch_size(settings: TrainingSettings, num_examples: int) -> None:
    """Raises `ValueError` unless the images make at least one batch."""
    if settings.batch_size > num_examples:
        raise ValueError(
            f"batch_size must be at most the number of training images, {num_examples}; got "
            f"{settings.batch_size}"
        )


RunEpoch = Callable[[TrainState, np.ndarray, np.ndarray, jax.Array], tuple[TrainState, Any]]


def update(
    spec: Architecture,
    state: TrainState,
    images: jax.Array,
    labels: jax.Array,
    rate: jax.Array,
    key: jax.Array,
    number: jax.Array,
    settings: TrainingSettings,
) -> tuple[TrainState, jax.Array]:
    """One step of SGD on one batch, with augmentation.

    Args:
      spec: the architecture.
      state: variables and momentum.
      images: `[batch, height, width, channels]`.
      labels: `[batch]`.
      rate: the learning rate.
      key: the epoch's key.
      number: of the batch within the epoch; with `key`, decides the augmentation.
      settings: how to train.

    Returns:
      The new state, and the mean loss on the batch.
    """
    augment_key, dropout_key = jax.random.split(jax.random.fold_in(key, number))
    images = augment(images, augment_key, settings)

    def loss_of(params: Any) -> tuple[jax.Array, Variables]:
        variables = {**state.variables, "params": params}
        logits, new = apply(spec, variables, images, train=True, key=dropout_key)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), new

    params = state.variables["params"]
    (loss, new), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
    steps, optimizer = direction(settings).update(gradients, state.optimizer, params)
    params = jax.tree.map(lambda p, s: p - (rate * s).astype(p.dtype), params, steps)
    return TrainState({**new, "params": params}, optimizer), loss


_update = jax.jit(update, static_argnames="settings", donate_argnames="state")


@functools.partial(jax.jit, static_argnames="settings", donate_argnames="state")
def _epoch(
    spec: Architecture,
    state: TrainState,
    images: jax.Array,
    labels: jax.Array,
    order: jax.Array,
    rates: jax.Array,
    key: jax.Array,
    settings: TrainingSettings,
) -> tuple[TrainState, jax.Array]:
    """All updates of an epoch, and their mean loss."""

    def body(state: TrainState, step: tuple[jax.Array, ...]) -> tuple[TrainState, jax.Array]:
        batch, rate, number = step
        return update(spec, state, images[batch], labels[batch], rate, key, number, settings)

    state, losses = jax.lax.scan(body, state, (order, rates, jnp.arange(len(order))))
    return state, losses.mean()


def _looped(
    spec: Architecture,
    state: TrainState,
    examples: Examples,
    key: jax.Array,
    settings: TrainingSettings,
) -> RunEpoch:
    """An epoch as Python's loop over the compiled update."""
    first = np.arange(settings.batch_size)

    def batch(index: np.ndarray, rate: np.float32, key: jax.Array, number: int) -> tuple[Any, ...]:
        return examples.images[index], examples.labels[index], rate, key, np.int32(number)

    step = compiled(_update, spec, state, *batch(first, np.float32(0), key, 0), settings=settings)

    def run(
        state: TrainState, order: np.ndarray, rates: np.ndarray, key: jax.Array
    ) -> tuple[TrainState, Any]:
        losses = []
        for number, index in enumerate(order):
            state, loss = step(spec, state, *batch(index, rates[number], key, number))
            losses.append(loss)
        return state, np.mean(losses)

    return run


def _scanned(
    spec: Architecture,
    state: TrainState,
    examples: Examples,
    key: jax.Array,
    settings: TrainingSettings,
) -> RunEpoch:
    """An epoch as one program, over images that stay on the device."""
    images, labels = jnp.asarray(examples.images), jnp.asarray(examples.labels)
    num_batches = len(examples) // settings.batch_size
    order = np.zeros((num_batches, settings.batch_size), np.int32)
    rates = np.zeros(num_batches, np.float32)
    step = compiled(_epoch, spec, state, images, labels, order, rates, key, settings=settings)

    def run(
        state: TrainState, order: np.ndarray, rates: np.ndarray, key: jax.Array
    ) -> tuple[TrainState, Any]:
        return step(spec, state, images, labels, order, rates, key)

    return run
