"""The training of a supernet on an accelerator: a chunk of updates is one program."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nash_jax.architecture import Architecture, EdgeWeights
from nash_jax.training import epochs as of_epochs
from nash_jax.training.bilevel import EdgeSettings, edge_gradient, softmax
from nash_jax.training.compilation import compiled
from nash_jax.training.epochs import CHUNK, TrainState
from nash_jax.training.settings import TrainingSettings
from nash_jax.training.updates import Course, EdgeState, Updates, stepped, update_weights


class Chunk(NamedTuple):
    """What the updates of a chunk are made with, `[updates, ...]` each.

    Attributes:
      images: raw, that the weights learn on.
      labels: of them.
      other_images: raw, that the edges learn on.
      other_labels: of them.
      rates: learning rates.
      numbers: of the updates in their epoch; negative where nothing is to change.
      places: of the updates in the training.
    """

    images: Any
    labels: Any
    other_images: Any
    other_labels: Any
    rates: Any
    numbers: Any
    places: Any


class Scanned(Updates):
    """`epochs.CHUNK` updates of edges and weights are one `lax.scan`."""

    def __init__(self, course: Course, train: TrainState, edges: EdgeState) -> None:
        super().__init__(course)
        assert isinstance(course.rule, EdgeSettings)
        order = self._order(self._key(0))
        self._frozen, self.required_bytes, self.new = course.rule.frozen_epochs, 0, False
        self._programs = {}
        for moves in dict.fromkeys((not self._frozen, True)):  # epochs without and with the edges
            args = self._arguments(train, edges, 0, order, 0)
            self._programs[moves], new = compiled(_updates, *args, **self._static(moves))
            self.new = self.new or new
            self.required_bytes = max(self.required_bytes, self._programs[moves].required_bytes)

    def epoch(
        self, epoch: int, train: TrainState, of_rule: Any
    ) -> tuple[TrainState, Any, EdgeWeights, np.ndarray]:
        program, order = self._programs[epoch >= self._frozen], self._order(self._key(epoch))
        losses = []
        for first in range(0, len(order), CHUNK):
            args = self._arguments(train, of_rule, epoch, order, first)
            (train, of_rule), found = program.call(*args)
            losses.append(found)
        return train, of_rule, softmax(of_rule.logits), np.concatenate(losses)[: len(order)]

    def _static(self, moves: bool) -> dict[str, Any]:
        course = self._course
        return {"settings": course.settings, "edge_settings": course.rule, "moves": moves}

    def _arguments(
        self, train: TrainState, edges: EdgeState, epoch: int, order: np.ndarray, first: int
    ) -> tuple[Any, ...]:
        """Those of the program, for the chunk that begins with an update of an epoch."""
        numbers = first + np.arange(CHUNK)
        real = np.minimum(numbers, len(order) - 1)
        places = epoch * len(order) + real
        others = [self._other(place, 0) for place in places.tolist()]
        chunk = Chunk(
            *self._chosen(self._course.train, order[real]),
            np.stack([images for images, _ in others]),
            np.stack([labels for _, labels in others]),
            self._rates[places],
            np.where(numbers < len(order), numbers, -1).astype(np.int32),
            places.astype(np.int32),
        )
        keys = self._key(epoch), self._course.key
        return self._graph, (train, edges), chunk, keys, self._fill, self._dropped(epoch)


@functools.partial(
    jax.jit, static_argnames=("settings", "edge_settings", "moves"), donate_argnames="states"
)
def _updates(
    spec: Architecture,
    states: tuple[TrainState, EdgeState],
    chunk: Chunk,
    keys: tuple[jax.Array, jax.Array],
    fill: np.ndarray,
    drop: jax.Array,
    settings: TrainingSettings,
    edge_settings: EdgeSettings,
    moves: bool,
) -> tuple[tuple[TrainState, EdgeState], jax.Array]:
    """The updates of a chunk, and their losses; without those of the edges unless they move."""
    plain = settings.without_augmentation

    def body(states: tuple[TrainState, EdgeState], one: Chunk) -> tuple[Any, jax.Array]:
        train, edges = states
        key, edge_key = keys
        images, dropout = of_epochs.augment_batch(one.images, key, one.numbers, fill, settings)
        if moves:
            others, _ = of_epochs.augment_batch(
                one.other_images, edge_key, one.places, fill, settings
            )
            batches = (images, one.labels), (others, one.other_labels)
            order = edge_settings.order
            gradient = edge_gradient(
                spec, train, edges.logits, *batches, one.rates, dropout, plain, order, drop=drop
            )
            edges = stepped(edges, gradient, edge_settings)
        train, loss = update_weights(
            spec, train, softmax(edges.logits), images, one.labels, one.rates, dropout, drop, plain
        )
        # Not a conditional: on a GPU that would wait for the host.
        kept = jax.tree.map(
            lambda x, old: jnp.where(one.numbers >= 0, x, old), (train, edges), states
        )
        return kept, loss

    return jax.lax.scan(body, states, chunk)
