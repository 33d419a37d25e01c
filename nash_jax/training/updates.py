"""The updates of a supernet's training: whole programs, or piece by piece."""

from __future__ import annotations

import abc
import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from nash_jax.architecture import (
    Architecture,
    EdgeWeights,
    Variables,
    apply,
    ops,
    with_edge_weights,
)
from nash_jax.data import Examples
from nash_jax.policies import Judge, Judged
from nash_jax.training import epochs as of_epochs
from nash_jax.training import parts
from nash_jax.training.bilevel import Batch, EdgeSettings, edge_gradient, softmax
from nash_jax.training.compilation import compiled
from nash_jax.training.epochs import TrainState
from nash_jax.training.parts import Rule
from nash_jax.training.pieces import Gradients, Pieces
from nash_jax.training.settings import TrainingSettings


class EdgeState(NamedTuple):
    """The logits of edges: by edge, `[choices]`; and the state of their optimiser."""

    logits: dict[str, Any]
    optimizer: optax.OptState


def edges_of(spec: Architecture) -> dict[str, int]:
    """The edges of a supernet, and how many choices each has."""
    return {
        node.op.edge: len(node.inputs)
        for node in spec.nodes
        if isinstance(node.op, ops.WeightedSum)
    }


@functools.partial(jax.jit, static_argnames=("settings", "edge_settings"), donate_argnames="edges")
def _update_edges(
    spec: Architecture,
    train: TrainState,
    edges: EdgeState,
    batch: Batch,
    valid: Batch,
    rate: jax.Array,
    key: jax.Array,
    drop: jax.Array,
    settings: TrainingSettings,
    edge_settings: EdgeSettings,
) -> EdgeState:
    """One update of the logits by Adam."""
    order = edge_settings.order
    gradient = edge_gradient(
        spec, train, edges.logits, batch, valid, rate, key, settings, order, drop=drop
    )
    return _stepped(edges, gradient, edge_settings)


def _stepped(edges: EdgeState, gradient: Any, settings: EdgeSettings) -> EdgeState:
    """The logits after a step of their optimiser."""
    steps, optimizer = settings.optimizer.update(gradient, edges.optimizer, edges.logits)
    updated: Any = optax.apply_updates(edges.logits, steps)
    return EdgeState(updated, optimizer)


@functools.partial(jax.jit, static_argnames="settings", donate_argnames="state")
def _update(
    spec: Architecture,
    state: TrainState,
    weights: EdgeWeights,
    images: jax.Array,
    labels: jax.Array,
    rate: jax.Array,
    key: jax.Array,
    drop: jax.Array,
    settings: TrainingSettings,
) -> tuple[TrainState, jax.Array]:
    """One update of the weights of all ops; the variables of the state have no edge weights.

    `drop` is the share of `settings.drop_path` with which paths are dropped.
    """
    variables = with_edge_weights(spec, state.variables, weights)
    state = state._replace(variables=variables)
    state, loss = of_epochs.update(spec, state, images, labels, rate, key, settings, drop)
    return state._replace(variables=without_edges(state.variables)), loss


def without_edges(variables: Variables) -> Variables:
    """Variables without the collection `arch`."""
    return {name: arrays for name, arrays in variables.items() if name != "arch"}


@functools.partial(jax.jit, static_argnames="settings")
def _judge(
    spec: Architecture,
    variables: Variables,
    weights: EdgeWeights,
    images: jax.Array,
    labels: jax.Array,
    settings: TrainingSettings,
) -> tuple[jax.Array, jax.Array]:
    """Accuracy and loss of a path, by the statistics of the batch."""
    variables = with_edge_weights(spec, variables, weights)
    dtype = of_epochs.compute_dtype(settings.precision)
    with of_epochs.matmul_precision(settings.precision):
        logits, _ = apply(spec, variables, images, train=True, key=jax.random.key(0), dtype=dtype)
        loss = of_epochs.mean_loss(logits, labels, settings)
    return (logits.argmax(axis=-1) == labels).mean(), loss


def by_edge(graph: Architecture, of_nodes: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Gradients of edge weights, of those of the nodes that share them."""
    found: dict[str, Any] = {}
    for node in graph.nodes:
        if isinstance(node.op, ops.WeightedSum):
            gradient = np.asarray(of_nodes[node.name]["weights"])
            found[node.op.edge] = found.get(node.op.edge, 0) + gradient
    return found


@functools.partial(jax.jit, static_argnums=2)
def _updated_by_weights(edges: EdgeState, of_weights: Any, settings: EdgeSettings) -> EdgeState:
    """One update of the logits, by the gradients of their softmax weights."""
    _, pull = jax.vjp(softmax, edges.logits)
    (gradient,) = pull(of_weights)
    return _stepped(edges, gradient, settings)


class Step(NamedTuple):
    """What an update is made with, beside its batch.

    Attributes:
      rate: the learning rate.
      key: for dropout.
      drop: the share of `settings.drop_path` with which paths are dropped.
    """

    rate: np.float32
    key: jax.Array
    drop: np.float32


class Updates(abc.ABC):
    """The updates of a training, and the batches that they take.

    Attributes:
      required_bytes: memory that an update takes.
      new: whether anything was compiled for it.
    """

    required_bytes: int

    def __init__(
        self,
        graph: Architecture,
        train: Examples,
        valid: Examples,
        key: jax.Array,
        settings: TrainingSettings,
    ) -> None:
        self._graph, self._valid, self._key = graph, valid, key
        self._batch_size, self._plain = settings.batch_size, settings.without_augmentation
        self._fill, self._seed = of_epochs.mean_colour(graph), int(jax.random.bits(key))
        images, _ = _chosen(train, np.zeros(self._batch_size, np.int32))
        args = images, key, np.int32(0), self._fill
        self._augment, self.new = compiled(of_epochs.augment_batch, *args, settings=settings)

    @abc.abstractmethod
    def update(
        self, train: TrainState, weights: EdgeWeights, batch: Batch, step: Step
    ) -> tuple[TrainState, jax.Array]:
        """One update of the weights of the ops, with some edge weights; and the loss."""

    @abc.abstractmethod
    def _updated(
        self, train: TrainState, edges: EdgeState, batch: Batch, valid: Batch, step: Step
    ) -> EdgeState:
        """One update of the logits."""

    @abc.abstractmethod
    def _judged(self, variables: Variables, path: EdgeWeights, batch: Batch) -> Judged:
        """How good a path is, by the statistics of the batch."""

    def batches(self, examples: Examples, key: jax.Array) -> Iterator[tuple[Batch, jax.Array]]:
        """The batches of an epoch, augmented, each with the key of its dropout."""
        num_batches = len(examples) // self._batch_size
        order = of_epochs.order_of(key, len(examples), num_batches, self._batch_size)
        for number, index in enumerate(np.asarray(order)):
            images, labels = _chosen(examples, index)
            images, dropout = self._augment.call(images, key, np.int32(number), self._fill)
            yield (images, labels), dropout

    def update_edges(
        self, train: TrainState, edges: EdgeState, batch: Batch, place: int, step: Step
    ) -> EdgeState:
        """One update of the logits, on a batch of the other images, augmented."""
        images, labels = self._other(place, 0)
        images, _ = self._augment.call(images, self._key, np.int32(place), self._fill)
        return self._updated(train, edges, batch, (images, labels), step)

    def judge(self, variables: Variables, place: int) -> Judge:
        """Judges paths with some weights, each on other images that none learns on."""
        numbers = itertools.count()
        return lambda path: self._judged(variables, path, self._other(place, next(numbers)))

    def _other(self, place: int, number: int) -> Batch:
        """A batch of the images that the rule learns on."""
        drawn = np.random.default_rng((self._seed, place, number))
        index = drawn.choice(len(self._valid), self._batch_size, replace=False)
        return _chosen(self._valid, index)


def _chosen(examples: Examples, index: np.ndarray) -> Batch:
    return examples.images[index], examples.labels[index]


class Programs(Updates):
    """Every update is one program."""

    def __init__(
        self,
        graph: Architecture,
        train: Examples,
        valid: Examples,
        key: jax.Array,
        settings: TrainingSettings,
        rule: Rule,
        start: tuple[TrainState, Any],
    ) -> None:
        super().__init__(graph, train, valid, key, settings)
        raw = _chosen(train, np.zeros(self._batch_size, np.int32))
        step = Step(np.float32(0), key, np.float32(0))
        weights = {edge: np.zeros(num, np.float32) for edge, num in edges_of(graph).items()}
        args = start[0], weights, *raw, *step
        self._update, new = compiled(_update, graph, *args, settings=self._plain)
        self.new, self.required_bytes = self.new or new, self._update.required_bytes
        if isinstance(rule, EdgeSettings):
            static: Any = {"settings": self._plain, "edge_settings": rule}
            edge_args = *start, raw, raw, *step
            self._update_edges, new = compiled(_update_edges, graph, *edge_args, **static)
            self.new = self.new or new
            self.required_bytes = max(self.required_bytes, self._update_edges.required_bytes)

    def update(
        self, train: TrainState, weights: EdgeWeights, batch: Batch, step: Step
    ) -> tuple[TrainState, jax.Array]:
        updated: tuple[TrainState, jax.Array]
        updated = self._update.call(self._graph, train, weights, *batch, *step)
        return updated

    def _updated(
        self, train: TrainState, edges: EdgeState, batch: Batch, valid: Batch, step: Step
    ) -> EdgeState:
        updated: EdgeState
        updated = self._update_edges.call(self._graph, train, edges, batch, valid, *step)
        return updated

    def _judged(self, variables: Variables, path: EdgeWeights, batch: Batch) -> Judged:
        args = variables, path, *batch
        program, _ = compiled(_judge, self._graph, *args, settings=self._plain)
        accuracy, loss = program.call(self._graph, *args)
        return Judged(float(accuracy), float(loss))


class ByPieces(Updates):
    """A path, or the whole supernet, is run piece by piece; of edges, to first order."""

    def __init__(
        self,
        graph: Architecture,
        train: Examples,
        valid: Examples,
        key: jax.Array,
        settings: TrainingSettings,
        rule: Rule,
        start: tuple[TrainState, Any],
    ) -> None:
        super().__init__(graph, train, valid, key, settings)
        self._rule = rule
        self._known: dict[Any, Pieces] = {}
        path = None if isinstance(rule, EdgeSettings) else rule.draw(start[1], 0)
        self.required_bytes = parts.predicted_bytes(graph, settings, path)

    def update(
        self, train: TrainState, weights: EdgeWeights, batch: Batch, step: Step
    ) -> tuple[TrainState, jax.Array]:
        network, found = self._gradients(train.variables, weights, batch, step)
        *others, momentum = train.optimizer
        params, trace = network.step(
            train.variables["params"], momentum.trace, found, step.rate, self._plain
        )
        stats = {**train.variables["batch_stats"], **found.stats}
        variables = {**train.variables, "params": params, "batch_stats": stats}
        return TrainState(variables, (*others, momentum._replace(trace=trace))), found.loss

    def _updated(
        self, train: TrainState, edges: EdgeState, batch: Batch, valid: Batch, step: Step
    ) -> EdgeState:
        assert isinstance(self._rule, EdgeSettings)
        _, found = self._gradients(train.variables, softmax(edges.logits), valid, step)
        return _updated_by_weights(edges, by_edge(self._graph, found.arch), self._rule)

    def _judged(self, variables: Variables, path: EdgeWeights, batch: Batch) -> Judged:
        images, labels = batch
        network, variables = parts.pieces_of(self._graph, variables, path, self._known)
        logits, _ = network.logits(variables, parts.floats(images), train=True)
        loss, _ = parts.loss_and_gradient(logits, labels, self._plain)
        return Judged(float((np.asarray(logits).argmax(-1) == labels).mean()), float(loss))

    def _gradients(
        self, variables: Variables, weights: EdgeWeights, batch: Batch, step: Step
    ) -> tuple[Pieces, Gradients]:
        """A backward pass through the path, or through all of the supernet."""
        images, labels = batch
        network, variables = parts.pieces_of(self._graph, variables, weights, self._known)
        rate = self._plain.drop_path
        dropped = (step.drop * rate, step.key) if rate else None
        loss_of = functools.partial(parts.loss_and_gradient, labels=labels, settings=self._plain)
        return network, network.gradients(variables, parts.floats(images), loss_of, dropped)
