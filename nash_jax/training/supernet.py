"""Training a supernet: its weights, and what decides the weights of its edges, epoch by epoch.

On CPU paths are run piece by piece (`pieces`), so that a path costs what its own ops cost, and
little is compiled; and so are large supernets as a whole, but for second order. Else an update is a
program of its own; that of the edges is another, because there are epochs without it. On
accelerators a chunk of both is one program.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from nash_jax.architecture import (
    Architecture,
    Variables,
    init,
    numbered,
    renamed,
    with_edge_weights,
)
from nash_jax.data import Examples
from nash_jax.jax_settings import usual_promotion
from nash_jax.training import parts
from nash_jax.training.bilevel import EdgeSettings, initial_logits
from nash_jax.training.compilation import Stopwatch
from nash_jax.training.epochs import TrainState, updates_per_program
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
from nash_jax.training.scanned import Scanned
from nash_jax.training.settings import TrainingSettings
from nash_jax.training.updates import (
    ByPieces,
    Course,
    EdgeState,
    Programs,
    Updates,
    edges_of,
    without_edges,
)


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


@usual_promotion
def supernet_shapes(
    spec: Architecture, settings: TrainingSettings, rule: Rule, epochs: int
) -> SupernetState:
    """Shapes and types of a snapshot's state; arguments are those of `fit_supernet`."""
    graph, key = numbered(spec)[0], jax.random.key(0)
    variables = jax.eval_shape(lambda: without_edges(init(graph, key)))
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
    scan: bool | None = None,
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
      scan: whether chunks of updates of edges and weights are one `lax.scan` each; by default where
        that is not slower.

    Raises:
      ValueError: if there are fewer images than make a batch.
      TooLargeError: if the training needs more than `max_bytes`; nothing has been trained then.
      DivergedError: if a loss or a weight of an edge is not finite after the first epoch; later,
        the training ends with what it was after its last good epoch.
    """
    check_batch_size(settings, min(len(train), len(valid)))
    graph, names = numbered(spec)
    start_key, key = jax.random.split(key)
    inside = renamed(without_edges(variables), names)
    state = (
        _start(graph, inside, start_key, epochs, settings, rule)
        if resume is None
        else SupernetState(*resume.state)
    )
    state = state._replace(train=on_device(state.train))
    if isinstance(rule, EdgeSettings):
        state = state._replace(rule=on_device(EdgeState(*state.rule)))
    losses = [] if resume is None else list(resume.losses)
    diverged, good = "", state
    watch = Stopwatch()
    course = Course(graph, train, valid, key, epochs, settings, rule)
    scan = updates_per_program() > 1 if scan is None else scan
    updates: Updates
    if scan and isinstance(rule, EdgeSettings):
        updates = Scanned(course, state.train, state.rule)
    elif parts.by_pieces(graph, settings, rule):
        updates = ByPieces(course, state.rule)
    else:
        updates = Programs(course, state.train, state.rule)
    compiling = watch.lap()
    if max_bytes is not None and updates.required_bytes > max_bytes:
        raise TooLargeError(updates.required_bytes, max_bytes)
    while len(losses) < epochs:
        epoch = len(losses)
        now, of_rule, weights, found = updates.epoch(epoch, state.train, state.rule)
        state = state._replace(train=now, rule=of_rule)
        mean = found.mean()
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
    seconds = (compiling, 0.0) if updates.new else (0.0, compiling)
    fitted = Fit(variables, np.array(losses), *seconds, watch.lap(), updates.required_bytes)
    return SupernetFit(fitted, histories, state.rule, diverged)
