"""The updates of a supernet's training: whole programs, or piece by piece."""

from __future__ import annotations

import abc
import functools
import itertools
import math
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
from nash_jax.training.sgdr import learning_rates


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
    return stepped(edges, gradient, edge_settings)


def stepped(edges: EdgeState, gradient: Any, settings: EdgeSettings) -> EdgeState:
    """The logits after a step of their optimiser."""
    steps, optimizer = settings.optimizer.update(gradient, edges.optimizer, edges.logits)
    updated: Any = optax.apply_updates(edges.logits, steps)
    return EdgeState(updated, optimizer)


def update_weights(
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


_update = jax.jit(update_weights, static_argnames="settings", donate_argnames="state")


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
    return stepped(edges, gradient, settings)


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


class Course(NamedTuple):
    """What the training of a supernet is made of; see `fit_supernet`."""

    graph: Architecture
    train: Examples
    valid: Examples
    key: jax.Array
    epochs: int
    settings: TrainingSettings
    rule: Rule

    @property
    def num_batches(self) -> int:
        """Of an epoch."""
        return len(self.train) // self.settings.batch_size

    @property
    def num_updates(self) -> int:
        """Of all epochs."""
        return self.epochs * self.num_batches


def share_dropped(epoch: int, epochs: int, frozen_epochs: int) -> float:
    """The share of `drop_path` with which P-DARTS drops skips in an epoch, the first being 0.

    It falls evenly while the edges are frozen, as if it were to reach zero in the last epoch; then
    it begins again, and falls by a factor of exp(-0.2) an epoch.

    >>> [round(share_dropped(epoch, 25, 10), 3) for epoch in (0, 9, 10, 24)]
    [1.0, 0.64, 1.0, 0.061]
    """
    if epoch < frozen_epochs:
        return 1 - epoch / epochs
    return math.exp(-0.2 * (epoch - frozen_epochs))


class Updates(abc.ABC):
    """The updates of a training, and the batches that they take.

    Attributes:
      required_bytes: memory that an update takes.
      new: whether anything was compiled for it.
    """

    required_bytes: int
    new: bool

    def __init__(self, course: Course) -> None:
        self._course, self._graph, self._rule = course, course.graph, course.rule
        self._plain = course.settings.without_augmentation
        self._rates = learning_rates(course.settings, course.num_updates)
        self._fill = of_epochs.mean_colour(self._graph)
        self._seed = int(jax.random.bits(course.key))

    @abc.abstractmethod
    def epoch(
        self, epoch: int, train: TrainState, of_rule: Any
    ) -> tuple[TrainState, Any, EdgeWeights, np.ndarray]:
        """The updates of an epoch, the first being 0.

        Returns:
          The states after it, the weights of the edges, and the loss of each update.
        """

    def _key(self, epoch: int) -> jax.Array:
        return jax.random.fold_in(self._course.key, epoch)

    def _order(self, key: jax.Array) -> np.ndarray:
        """The places of the images of each batch of an epoch."""
        num, size = self._course.num_batches, self._course.settings.batch_size
        return np.asarray(of_epochs.order_of(key, len(self._course.train), num, size))

    def _dropped(self, epoch: int) -> np.float32:
        frozen = getattr(self._rule, "frozen_epochs", 0)
        return np.float32(share_dropped(epoch, self._course.epochs, frozen))

    def _other(self, place: int, number: int) -> Batch:
        """A batch of the images that the rule learns on."""
        valid, size = self._course.valid, self._course.settings.batch_size
        drawn = np.random.default_rng((self._seed, place, number))
        return self._chosen(valid, drawn.choice(len(valid), size, replace=False))

    @staticmethod
    def _chosen(examples: Examples, index: np.ndarray) -> Batch:
        return examples.images[index], examples.labels[index]


class Stepwise(Updates):
    """Updates that are made one after the other."""

    def __init__(self, course: Course) -> None:
        super().__init__(course)
        images, _ = self._chosen(course.train, np.zeros(course.settings.batch_size, np.int32))
        args = images, course.key, np.int32(0), self._fill
        self._augment, self.new = compiled(of_epochs.augment_batch, *args, settings=course.settings)

    def epoch(
        self, epoch: int, train: TrainState, of_rule: Any
    ) -> tuple[TrainState, Any, EdgeWeights, np.ndarray]:
        losses = []
        for number, (batch, key) in enumerate(self._batches(epoch)):
            place = epoch * self._course.num_batches + number
            step = Step(self._rates[place], key, self._dropped(epoch))
            if isinstance(self._rule, EdgeSettings):
                if epoch >= self._rule.frozen_epochs:
                    of_rule = self._update_edges_at(train, of_rule, batch, place, step)
                weights: EdgeWeights = softmax(of_rule.logits)
                train, loss = self.update(train, weights, batch, step)
            else:
                weights = self._rule.draw(of_rule, place)
                train, loss = self.update(train, weights, batch, step)
                if np.isfinite(np.asarray(loss)):
                    judge = self.judge(train.variables, place)
                    progress = (place + 1) / self._course.num_updates
                    of_rule = self._rule.after_update(of_rule, place, weights, judge, progress)
            losses.append(loss)
        if not isinstance(self._rule, EdgeSettings):
            judge = self.judge(train.variables, self._course.num_updates + epoch)
            of_rule = self._rule.after_epoch(of_rule, epoch, judge)
            weights = self._rule.favoured(of_rule)
        return train, of_rule, weights, np.array([np.asarray(loss) for loss in losses])

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

    def judge(self, variables: Variables, place: int) -> Judge:
        """Judges paths with some weights, each on other images that none learns on."""
        numbers = itertools.count()
        return lambda path: self._judged(variables, path, self._other(place, next(numbers)))

    def _batches(self, epoch: int) -> Iterator[tuple[Batch, jax.Array]]:
        """The batches of an epoch, augmented, each with the key of its dropout."""
        key = self._key(epoch)
        for number, index in enumerate(self._order(key)):
            images, labels = self._chosen(self._course.train, index)
            images, dropout = self._augment.call(images, key, np.int32(number), self._fill)
            yield (images, labels), dropout

    def _update_edges_at(
        self, train: TrainState, edges: EdgeState, batch: Batch, place: int, step: Step
    ) -> EdgeState:
        """One update of the logits, on a batch of the other images, augmented."""
        images, labels = self._other(place, 0)
        images, _ = self._augment.call(images, self._course.key, np.int32(place), self._fill)
        return self._updated(train, edges, batch, (images, labels), step)


class Programs(Stepwise):
    """Every update is one program."""

    def __init__(self, course: Course, train: TrainState, of_rule: Any) -> None:
        super().__init__(course)
        raw = self._chosen(course.train, np.zeros(course.settings.batch_size, np.int32))
        step = Step(np.float32(0), course.key, np.float32(0))
        weights = {edge: np.zeros(num, np.float32) for edge, num in edges_of(self._graph).items()}
        args = train, weights, *raw, *step
        self._update, new = compiled(_update, self._graph, *args, settings=self._plain)
        self.new, self.required_bytes = self.new or new, self._update.required_bytes
        if isinstance(self._rule, EdgeSettings):
            static: Any = {"settings": self._plain, "edge_settings": self._rule}
            edge_args = train, of_rule, raw, raw, *step
            self._update_edges, new = compiled(_update_edges, self._graph, *edge_args, **static)
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


class ByPieces(Stepwise):
    """A path, or the whole supernet, is run piece by piece; of edges, to first order."""

    def __init__(self, course: Course, of_rule: Any) -> None:
        super().__init__(course)
        self._known: dict[Any, Pieces] = {}
        rule = course.rule
        path = None if isinstance(rule, EdgeSettings) else rule.draw(of_rule, 0)
        self.required_bytes = parts.predicted_bytes(self._graph, course.settings, path)

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
