"""Parts of a supernet: how they are run, and how good they are with their share of the weights."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from nash_jax.architecture import (
    Architecture,
    EdgeWeights,
    Variables,
    apply,
    count_bytes,
    count_flops,
    numbered,
    ops,
    renamed,
    with_edge_weights,
)
from nash_jax.architecture.paths import path_nodes
from nash_jax.data import Examples
from nash_jax.jax_settings import usual_promotion
from nash_jax.policies import Policy
from nash_jax.training import epochs as of_epochs
from nash_jax.training.bilevel import EdgeSettings
from nash_jax.training.compilation import Stopwatch, compiled
from nash_jax.training.evaluate import Evaluation, evaluate, padded_batch, scores
from nash_jax.training.pieces import Pieces
from nash_jax.training.settings import TrainingSettings

#: Batches whose statistics a part is judged with.
BATCHES = 4
#: What decides the weights of edges: logits that are trained, or a policy that draws paths.
Rule: TypeAlias = EdgeSettings | Policy


#: FLOPs of a forward pass of a batch from which a whole supernet is run piece by piece on CPU: with
#: fewer, starting 600 programs takes longer than what they compute.
LARGE = 6e9
#: Bytes that it may be predicted to take for that; one program takes less, and longer.
MOST_BYTES = 8 * 2**30


def by_pieces(graph: Architecture, settings: TrainingSettings, rule: Rule | None = None) -> bool:
    """Whether a supernet is run piece by piece: on CPU, in float32, where it pays.

    Args:
      graph: the supernet.
      settings: how it is trained.
      rule: what decides the weights of its edges; None: they are those of a path.
    """
    if jax.default_backend() != "cpu" or settings.precision != "float32":
        return False
    if isinstance(rule, EdgeSettings):
        large = count_flops(graph) * settings.batch_size >= LARGE
        fits = predicted_bytes(graph, settings, None) <= MOST_BYTES
        return rule.order == "first" and large and fits
    return True


def is_path(weights: EdgeWeights) -> bool:
    """Whether each edge has a one and else zeros, or zeros alone."""
    found = map(np.asarray, weights.values())
    return all(((x == 0) | (x == 1)).all() and x.sum() <= 1 for x in found)


def predicted_bytes(
    graph: Architecture, settings: TrainingSettings, path: EdgeWeights | None
) -> int:
    """About what an update takes piece by piece: the outputs of all nodes twice, and the weights.

    Of the nodes of a path, or of the whole supernet; its weights, gradients and momentum.
    """
    nodes = graph.nodes if path is None or not is_path(path) else path_nodes(graph, path)
    names = {node.name for node in nodes}
    values = sum(math.prod(graph.shapes[name]) for name in names if name in graph.shapes)
    return 2 * 4 * settings.batch_size * values + 3 * count_bytes(graph)


def pieces_of(
    graph: Architecture, variables: Variables, weights: EdgeWeights, known: dict[Any, Pieces]
) -> tuple[Pieces, Variables]:
    """The pieces of a path; of the whole supernet, if the weights are no path.

    Args:
      graph: the supernet.
      variables: of it, with or without edge weights.
      weights: of its edges.
      known: what was asked for before; the last of many are kept.

    Returns:
      The pieces and the variables that they need.
    """
    found = {edge: np.asarray(each) for edge, each in weights.items()}
    path = is_path(found)
    key = tuple(x.tobytes() for x in found.values()) if path else None
    if key not in known:
        while len(known) > 1000:
            known.pop(next(iter(known)))
        nodes = path_nodes(graph, found) if path else graph.nodes
        known[key] = Pieces.of(nodes, nodes[-1].name)
    return known[key], variables if path else with_edge_weights(graph, variables, found)


@functools.partial(jax.jit, static_argnames="settings")
def _batch_statistics(
    spec: Architecture, variables: Variables, images: jax.Array, settings: TrainingSettings
) -> Any:
    """The statistics of one batch, at every normalisation."""
    empty = jax.tree.map(jnp.zeros_like, variables["batch_stats"])
    dtype = of_epochs.compute_dtype(settings.precision)
    with of_epochs.matmul_precision(settings.precision):
        _, new = apply(
            spec,
            {**variables, "batch_stats": empty},
            images,
            train=True,
            key=jax.random.key(0),
            dtype=dtype,
        )
    return _of_batch(spec, new["batch_stats"])


def _of_batch(spec: Architecture, stats: Any) -> dict[str, Any]:
    """The statistics of a batch, of those that an update from zeros has left behind, by node."""
    momenta = {
        node.name: node.op.momentum
        for node in spec.nodes
        if isinstance(node.op, ops.BatchNorm | ops.Standardize)
    }
    return {
        node: {name: x / (1 - momenta[node]) for name, x in arrays.items()}
        for node, arrays in stats.items()
    }


@usual_promotion
def recalibrated(
    spec: Architecture,
    variables: Variables,
    examples: Examples,
    key: jax.Array,
    settings: TrainingSettings,
    num_batches: int = BATCHES,
) -> Variables:
    """Variables whose normalisations have the statistics of some batches, and no others.

    The running statistics of a supernet are those of all its parts, and so of none.

    Args:
      spec: a network, or a supernet whose edges' weights say which part is meant.
      variables: of it; not changed.
      examples: images to take the statistics of.
      key: decides which.
      settings: how it is trained; its batch size counts.
      num_batches: whose means and variances are averaged.
    """
    graph, names = numbered(spec)
    inside = renamed(variables, names)
    settings = settings.without_augmentation

    def statistics(images: np.ndarray) -> Any:
        program, _ = compiled(_batch_statistics, graph, inside, images, settings=settings)
        return program.call(graph, inside, images)

    mean = _mean_statistics(statistics, examples, key, settings.batch_size, num_batches)
    back = {new: name for name, new in names.items()}
    return {**variables, **renamed({"batch_stats": jax.device_put(mean, may_alias=False)}, back)}


def _mean_statistics(
    statistics: Callable[[np.ndarray], Any],
    examples: Examples,
    key: jax.Array,
    batch_size: int,
    num_batches: int,
) -> Any:
    """The mean of the statistics of some batches."""
    size = min(batch_size, len(examples))
    order = np.asarray(jax.random.permutation(key, len(examples)))
    found = []
    for number in range(min(num_batches, len(examples) // size)):
        places = order[number * size : (number + 1) * size]
        found.append(statistics(np.asarray(examples.images[places])))
    return jax.tree.map(lambda *xs: np.mean([np.asarray(x) for x in xs], axis=0), *found)


@usual_promotion
def evaluate_path(
    spec: Architecture,
    variables: Variables,
    path: EdgeWeights,
    train: Examples,
    valid: Examples,
    key: jax.Array,
    settings: TrainingSettings,
) -> Evaluation:
    """How good a part of a supernet is with its share of the weights, and statistics of its own.

    Args:
      spec: the supernet.
      variables: of it; not changed.
      path: which part.
      train: images that statistics are taken of; see `recalibrated`.
      valid: images to judge on.
      key: decides of which images statistics are taken.
      settings: how the supernet is trained.
    """
    if not by_pieces(spec, settings):
        exact = recalibrated(spec, with_edge_weights(spec, variables, path), train, key, settings)
        return evaluate(spec, exact, valid, **settings.evaluation)
    watch = Stopwatch()
    network, variables = pieces_of(spec, variables, path, {})
    zeros = jax.tree.map(np.zeros_like, jax.device_get(variables["batch_stats"]))
    empty: Variables = {**variables, "batch_stats": zeros}

    def statistics(images: np.ndarray) -> Any:
        _, new = network.logits(empty, floats(images), train=True)
        return _of_batch(spec, jax.device_get(new))

    mean = _mean_statistics(statistics, train, key, settings.batch_size, BATCHES)
    exact = {**variables, "batch_stats": {**zeros, **mean}}
    logits, size = [], 256
    for first in range(0, len(valid), size):
        images = floats(padded_batch(valid, first, size))
        found, _ = network.logits(exact, images, train=False)
        if settings.evaluation["flip"]:
            found = (found + network.logits(exact, images[:, :, ::-1], train=False)[0]) / 2
        logits.append(np.asarray(found, np.float64))
    judged = scores(np.concatenate(logits)[: len(valid)], valid.labels)
    return Evaluation(*judged, 0.0, 0.0, watch.lap())


@functools.partial(jax.jit, static_argnames="settings")
def loss_and_gradient(
    logits: jax.Array, labels: jax.Array, settings: TrainingSettings
) -> tuple[jax.Array, jax.Array]:
    return jax.value_and_grad(of_epochs.mean_loss)(logits, labels, settings)


def floats(images: Any) -> jax.Array:
    """Images as a network computes with them."""
    return jnp.asarray(images, jnp.float32)
