"""Training a supernet: its weights, and what decides the weights of its edges, epoch by epoch.

On CPU paths are run piece by piece (`pieces`), so that a path costs what its own ops cost, and
little is compiled; and so are large supernets as a whole, but for second order. Else an update is a
program of its own; that of the edges is another, because there are epochs without it.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from nash_jax.architecture import (
    Architecture,
    EdgeWeights,
    Variables,
    apply,
    init,
    numbered,
    ops,
    renamed,
    with_edge_weights,
)
from nash_jax.data import Examples
from nash_jax.jax_settings import usual_promotion
from nash_jax.policies import Judge, Judged
from nash_jax.training import epochs as of_epochs
from nash_jax.training import parts
from nash_jax.training.bilevel import (
    Batch,
    EdgeSettings,
    edge_gradient,
    initial_logits,
    softmax,
)
from nash_jax.training.compilation import Stopwatch, compiled
from nash_jax.training.epochs import TrainState
from nash_jax.training.loop import (
    DivergedError,
    Fit,
    Snapshot,
    TooLargeError,
    check_batch_size,
    on_device,
    starting_state,
)
from nash_jax.training.parts import Rule
from nash_jax.training.pieces import Gradients, Pieces
from nash_jax.training.settings import TrainingSettings
from nash_jax.training.sgdr import learning_rates


class SupernetState(NamedTuple):
    """What the training of a supernet changes.

    Attributes:
      train: variables and momentum.
      rule: `EdgeState`, or the state of a policy.
      history: the edges' weights after each epoch, `[epochs, choices of all edges]`, NaN where it
        is not done.
    """

    train: TrainState
    rule: Any
    history: Any


class EdgeState(NamedTuple):
    """The logits of edges: by edge, `[choices]`; and the state of their optimiser."""

    logits: dict[str, Any]
    optimizer: optax.OptState


class SupernetFit(NamedTuple):
    """What the training of a supernet gives.

    Attributes:
      fit: as of any training; the edges' weights in its variables are the last ones.
      history: by edge, its weights after each epoch, `[epochs, choices]`; of a policy, how probable
        each choice is.
      rule: the last state of the rule.
      diverged: why the training ended before its time, after its last good epoch; empty if it did
        not.
    """

    fit: Fit
    history: Mapping[str, np.ndarray]
    rule: Any
    diverged: str = ""


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
    logits, optimizer = edges
    order = edge_settings.order
    gradient = edge_gradient(
        spec, train, logits, batch, valid, rate, key, settings, order, drop=drop
    )
    steps, optimizer = edge_settings.optimizer.update(gradient, optimizer, logits)
    updated: Any = optax.apply_updates(logits, steps)
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
    return state._replace(variables=_without_edges(state.variables)), loss


def _without_edges(variables: Variables) -> Variables:
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


@usual_promotion
def supernet_shapes(
    spec: Architecture, settings: TrainingSettings, rule: Rule, epochs: int
) -> SupernetState:
    """Shapes and types of a snapshot's state; arguments are those of `fit_supernet`."""
    graph, key = numbered(spec)[0], jax.random.key(0)
    variables = jax.eval_shape(lambda: _without_edges(init(graph, key)))
    return _start(graph, variables, key, epochs, settings, rule)


def _start(
    graph: Architecture,
    variables: Variables,
    key: jax.Array,
    epochs: int,
    settings: TrainingSettings,
    rule: Rule,
) -> SupernetState:
    """The state before the first update."""
    choices = edges_of(graph)
    history = np.full((epochs, sum(choices.values())), np.nan, np.float32)
    train = starting_state(variables, settings)
    if not isinstance(rule, EdgeSettings):
        return SupernetState(train, rule.start(key), history)
    logits = initial_logits(choices, key)
    return SupernetState(train, EdgeState(logits, rule.optimizer.init(logits)), history)


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


@usual_promotion
def fit_supernet(
    spec: Architecture,
    variables: Variables,
    train: Examples,
    valid: Examples,
    key: jax.Array,
    epochs: int,
    settings: TrainingSettings,
    rule: Rule,
    on_epoch: Callable[[int, float], None] | None = None,
    max_bytes: int | None = None,
    resume: Snapshot | None = None,
    checkpoint: Callable[[Callable[[], Snapshot]], None] | None = None,
) -> SupernetFit:
    """Train a supernet, with the learning rate annealed once.

    Before each update of the weights, the logits of the edges are updated on a batch of `valid`;
    or each update trains a path that a policy draws.

    Args:
      spec: the supernet.
      variables: where the training starts; not changed.
      train: images that the weights learn on.
      valid: images that the rule learns on.
      key: decides the order of the images, their augmentation, and where the logits start.
      epochs: passes over `train`.
      settings: how the weights are trained.
      rule: how the logits of the edges are trained; or what draws the path of each update.
      on_epoch: called with the number of each epoch that is done, from 1, and its mean loss.
      max_bytes: the memory that may be taken; by default any.
      resume: a snapshot of an earlier training with the same arguments.
      checkpoint: called after each epoch but the last with a function that takes a snapshot.

    Raises:
      ValueError: if there are fewer images than make a batch.
      TooLargeError: if the training needs more than `max_bytes`; nothing has been trained then.
      DivergedError: if a loss or a weight of an edge is not finite after the first epoch; later,
        the training ends with what it was after its last good epoch.
    """
    check_batch_size(settings, min(len(train), len(valid)))
    graph, names = numbered(spec)
    start_key, key = jax.random.split(key)
    inside = renamed(_without_edges(variables), names)
    state = (
        _start(graph, inside, start_key, epochs, settings, rule)
        if resume is None
        else SupernetState(*resume.state)
    )
    state = state._replace(train=on_device(state.train))
    if isinstance(rule, EdgeSettings):
        state = state._replace(rule=on_device(EdgeState(*state.rule)))
    losses = [] if resume is None else list(resume.losses)
    num_batches = len(train) // settings.batch_size
    rates = learning_rates(settings, epochs * num_batches).reshape(epochs, num_batches)
    diverged, good = "", state
    watch = Stopwatch()
    programs = _Programs(graph, state, train, valid, key, settings, rule)
    compiling = watch.lap()
    if max_bytes is not None and programs.required_bytes > max_bytes:
        raise TooLargeError(programs.required_bytes, max_bytes)
    while len(losses) < epochs:
        epoch = len(losses)
        of_epoch = jax.random.fold_in(key, epoch)
        found = []
        drop = np.float32(share_dropped(epoch, epochs, getattr(rule, "frozen_epochs", 0)))
        for number, (batch, dropout_key) in enumerate(programs.batches(train, of_epoch)):
            rate = rates[epoch, number]
            place = epoch * num_batches + number
            step = rate, dropout_key, drop
            if isinstance(rule, EdgeSettings):
                if epoch >= rule.frozen_epochs:
                    state = programs.update_edges(state, batch, place, step)
                weights: EdgeWeights = softmax(state.rule.logits)
            else:
                weights = rule.draw(state.rule, place)
            state, loss = programs.update(state, weights, batch, step)
            found.append(loss)
            if not isinstance(rule, EdgeSettings):
                judge = programs.judge(state, place)
                progress = (place + 1) / (epochs * num_batches)
                if np.isfinite(np.asarray(loss)):
                    learnt = rule.after_update(state.rule, place, weights, judge, progress)
                    state = state._replace(rule=learnt)
        mean = np.mean([np.asarray(loss) for loss in found])
        if not isinstance(rule, EdgeSettings):
            judge = programs.judge(state, epochs * num_batches + epoch)
            state = state._replace(rule=rule.after_epoch(state.rule, epoch, judge))
            weights = rule.favoured(state.rule)
        flat = np.concatenate([np.asarray(weights[edge]) for edge in edges_of(spec)])
        if not (np.isfinite(mean) and np.isfinite(flat).all()):
            diverged = f"diverged: the training loss was {mean} in epoch {epoch + 1}"
            if not losses:
                raise DivergedError(diverged)
            state = good
            break
        losses.append(mean)
        history = np.array(state.history)
        history[epoch] = flat
        state = state._replace(history=history)
        good = jax.tree.map(np.array, state)
        if on_epoch is not None:
            on_epoch(epoch + 1, float(losses[-1]))
        if checkpoint is not None and epoch + 1 < epochs:
            checkpoint(functools.partial(Snapshot, state, np.array(losses)))
    trained = renamed(state.train.variables, {new: name for name, new in names.items()})
    choices = edges_of(spec)
    history = np.asarray(state.history)[: len(losses)]
    split = np.split(history, np.cumsum(list(choices.values()))[:-1], axis=1)
    histories = dict(zip(choices, split))
    uniform = {edge: np.full(num, 1 / num, np.float32) for edge, num in choices.items()}
    last = {edge: weights[-1] for edge, weights in histories.items()} if losses else uniform
    variables = with_edge_weights(spec, trained, last)
    seconds = (compiling, 0.0) if programs.new else (0.0, compiling)
    fitted = Fit(variables, np.array(losses), *seconds, watch.lap(), programs.required_bytes)
    return SupernetFit(fitted, histories, state.rule, diverged)


def by_edge(graph: Architecture, of_nodes: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Gradients of edge weights, of those of the nodes that share them."""
    found: dict[str, Any] = {}
    for node in graph.nodes:
        if isinstance(node.op, ops.WeightedSum):
            gradient = np.asarray(of_nodes[node.name]["weights"])
            found[node.op.edge] = found.get(node.op.edge, 0) + gradient
    return found


@functools.partial(jax.jit, static_argnums=2)
def _adam(edges: EdgeState, of_weights: Any, settings: EdgeSettings) -> EdgeState:
    """A step of Adam, by the gradients of the softmax weights."""
    _, pull = jax.vjp(softmax, edges.logits)
    (gradient,) = pull(of_weights)
    steps, optimizer = settings.optimizer.update(gradient, edges.optimizer, edges.logits)
    updated: Any = optax.apply_updates(edges.logits, steps)
    return EdgeState(updated, optimizer)


class _Programs:
    """The compiled programs of a training, and the batches that they take."""

    def __init__(
        self,
        graph: Architecture,
        state: SupernetState,
        train: Examples,
        valid: Examples,
        key: jax.Array,
        settings: TrainingSettings,
        rule: Rule,
    ) -> None:
        self._graph, self._settings, self._valid = graph, settings, valid
        self._rule = rule
        self._fill = of_epochs.mean_colour(graph)
        self._key = key
        self._seed = int(jax.random.bits(key))
        plain = settings.without_augmentation
        raw = self._chosen(train, np.zeros(settings.batch_size, np.int32))
        number, rate = np.int32(0), np.float32(0)
        args = raw[0], key, number, self._fill
        self._augment, first = compiled(of_epochs.augment_batch, *args, settings=settings)
        self._by_pieces = parts.by_pieces(graph, settings, rule)
        self._paths: dict[Any, Pieces] = {}
        second = third = False
        self.required_bytes = 0
        if self._by_pieces:
            path = None if isinstance(rule, EdgeSettings) else rule.draw(state.rule, 0)
            self.required_bytes = parts.predicted_bytes(graph, settings, path)
        self.new = first
        if self._by_pieces:
            return
        weights = {edge: np.zeros(num, np.float32) for edge, num in edges_of(graph).items()}
        update_args = state.train, weights, *raw, rate, key, rate
        self._update, second = compiled(_update, graph, *update_args, settings=plain)
        self.required_bytes = self._update.required_bytes
        if isinstance(rule, EdgeSettings):
            edge_args = state.train, state.rule, raw, raw, rate, key, rate
            self._update_edges, third = compiled(
                _update_edges, graph, *edge_args, settings=plain, edge_settings=rule
            )
            self.required_bytes = max(self.required_bytes, self._update_edges.required_bytes)
        self.new = first or second or third

    def _chosen(self, examples: Examples, index: np.ndarray) -> Batch:
        return examples.images[index], examples.labels[index]

    def batches(self, examples: Examples, key: jax.Array) -> Iterator[tuple[Batch, jax.Array]]:
        """The batches of an epoch, augmented, each with the key of its dropout."""
        size = self._settings.batch_size
        order = of_epochs.order_of(key, len(examples), len(examples) // size, size)
        for number, index in enumerate(np.asarray(order)):
            images, labels = self._chosen(examples, index)
            images, dropout = self._augment.call(images, key, np.int32(number), self._fill)
            yield (images, labels), dropout

    def update(
        self,
        state: SupernetState,
        weights: EdgeWeights,
        batch: Batch,
        step: tuple[Any, ...],
    ) -> tuple[SupernetState, jax.Array]:
        """One update of the weights of all ops; `step` is its rate, key and share of drops."""
        if self._by_pieces:
            return self._update_pieces(state, weights, batch, *step)
        train, loss = self._update.call(self._graph, state.train, weights, *batch, *step)
        return state._replace(train=train), loss

    def _update_pieces(
        self,
        state: SupernetState,
        weights: EdgeWeights,
        batch: Batch,
        rate: np.float32,
        key: jax.Array,
        drop: np.float32,
    ) -> tuple[SupernetState, jax.Array]:
        """One update of the weights, piece by piece."""
        network, found = self._gradients(state, weights, batch, key, drop)
        *others, momentum = state.train.optimizer
        params, trace = network.step(
            state.train.variables["params"],
            momentum.trace,
            found,
            rate,
            self._settings.without_augmentation,
        )
        stats = {**state.train.variables["batch_stats"], **found.stats}
        variables = {**state.train.variables, "params": params, "batch_stats": stats}
        train = TrainState(variables, (*others, momentum._replace(trace=trace)))
        return state._replace(train=train), found.loss

    def _gradients(
        self,
        state: SupernetState,
        weights: EdgeWeights,
        batch: Batch,
        key: jax.Array,
        drop: np.float32,
    ) -> tuple[Pieces, Gradients]:
        """A backward pass through the path, or through all of the supernet."""
        images, labels = batch
        network, variables = parts.pieces_of(
            self._graph, state.train.variables, weights, self._paths
        )
        settings = self._settings.without_augmentation
        dropped = (drop * settings.drop_path, key) if settings.drop_path else None
        loss_of = functools.partial(parts.loss_and_gradient, labels=labels, settings=settings)
        found = network.gradients(variables, parts.floats(images), loss_of, dropped)
        return network, found

    def update_edges(
        self,
        state: SupernetState,
        batch: Batch,
        place: int,
        step: tuple[Any, ...],
    ) -> SupernetState:
        """One update of the logits, on a batch of the other images."""
        images, labels = self._other(place, 0)
        images, _ = self._augment.call(images, self._key, np.int32(place), self._fill)
        valid = images, labels
        if self._by_pieces:
            assert isinstance(self._rule, EdgeSettings)
            weights = softmax(state.rule.logits)
            found = self._gradients(state, weights, valid, *step[1:])[1]
            of_weights = by_edge(self._graph, found.arch)
            return state._replace(rule=_adam(state.rule, of_weights, self._rule))
        args = state.train, state.rule, batch, valid, *step
        return state._replace(rule=self._update_edges.call(self._graph, *args))

    def judge(self, state: SupernetState, place: int) -> Judge:
        """Judges paths with the weights of now, each on other images that none learns on."""
        numbers = itertools.count()

        def judge(weights: EdgeWeights) -> Judged:
            batch = self._other(place, next(numbers))
            settings = self._settings.without_augmentation
            if self._by_pieces:
                network, variables = parts.pieces_of(
                    self._graph, state.train.variables, weights, self._paths
                )
                logits, _ = network.logits(variables, parts.floats(batch[0]), train=True)
                loss, _ = parts.loss_and_gradient(logits, batch[1], settings)
                return Judged(
                    float((np.asarray(logits).argmax(-1) == batch[1]).mean()), float(loss)
                )
            args = state.train.variables, weights, *batch
            program, _ = compiled(_judge, self._graph, *args, settings=settings)
            accuracy, loss = program.call(self._graph, *args)
            return Judged(float(accuracy), float(loss))

        return judge

    def _other(self, place: int, number: int) -> Batch:
        """A batch of the images that the rule learns on."""
        drawn = np.random.default_rng((self._seed, place, number))
        size = self._settings.batch_size
        return self._chosen(self._valid, drawn.choice(len(self._valid), size, replace=False))
