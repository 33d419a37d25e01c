"""How new channels spread through a network (Type II, eq. 4).

New channels stand *between* the old ones, which keep their order and their values. A tensor's
growth is an array `gaps` of `channels + 1` counts: `gaps[i]` new channels before old channel `i`,
the last entry behind all. Convolutions and dense layers end the spreading: as readers they take the
new channels with zero weights, as producers they make them with random new units. Everything else
hands the growth on: forwards (normalisation, activations, pooling, concatenation, flattening,
depthwise convolution), and backwards where widths are tied, so that widening one input of a sum
widens the others too.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Callable, Mapping

import jax
import numpy as np

from nash_jax.architecture import INPUT, Architecture, Node, Variables, ops
from nash_jax.architecture.weights import init_node, param_dtype, put_node
from nash_jax.morphisms.kernels import widen_kernel, widen_vector

Gaps = Mapping[str, np.ndarray]


def appended(channels: int, new: int) -> np.ndarray:
    """The gaps of `new` channels behind `channels` old ones."""
    gaps = np.zeros(channels + 1, int)
    gaps[-1] = new
    return gaps


def kept(gaps: np.ndarray) -> np.ndarray:
    """Where each old channel stands among the new, `[old channels]`.

    >>> kept(np.array([0, 2, 1])).tolist()
    [0, 3]
    """
    return np.arange(len(gaps) - 1) + np.cumsum(gaps)[:-1]


def is_depthwise(op: ops.Op, channels: int) -> bool:
    """Whether the op is a convolution that treats each of several input channels by itself."""
    return isinstance(op, ops.Conv) and op.groups == channels > 1


def spread(spec: Architecture, start: str, gaps: np.ndarray, asks_producer: bool = True) -> Gaps:
    """The growth of every tensor, once the output of node `start` grows by `gaps`.

    A fixed point: wherever two tensors are tied, each grows by the larger of the demands.

    Args:
      spec: the architecture before the growth.
      start: the node whose output grows.
      gaps: `[channels + 1]`, the growth.
      asks_producer: whether `start` itself is to make the new channels; if not, the caller does.

    Returns:
      Gaps by tensor name, for the tensors that grow.

    Raises:
      ValueError: saying what cannot grow.
    """
    grown: dict[str, np.ndarray] = {}
    queue: collections.deque[str] = collections.deque()

    def growth(name: str) -> np.ndarray:
        return grown.get(name, np.zeros(spec.shapes[name][-1] + 1, int))

    def demand(name: str, gaps: np.ndarray) -> None:
        larger = np.maximum(growth(name), gaps)
        if (larger == growth(name)).all():
            return
        if name == INPUT:
            raise ValueError("the image would need more channels")
        if name == spec.output:
            raise ValueError(f"the logits of '{name}' would become more than the classes")
        grown[name] = larger
        queue.extend(spec.readers[name])
        if asks_producer or name != start:
            queue.append(name)

    demand(start, gaps)
    steps_left = 1000 + 100 * len(spec.nodes)
    while queue:
        node = spec[queue.popleft()]
        if node.name != start or asks_producer:
            _settle(spec, node, growth, demand)
        steps_left -= 1
        if steps_left < 0:
            raise ValueError(f"widths are tied in a circle through '{node.name}'")
    for node in spec.nodes:
        if any(name in grown for name in (node.name, *node.inputs)):
            _check(spec, node, growth)
    return grown


def _settle(
    spec: Architecture,
    node: Node,
    growth: Callable[[str], np.ndarray],
    demand: Callable[[str, np.ndarray], None],
) -> None:
    """Demand of a node's inputs and output what the growth of the others implies."""
    name, op, inputs = node.name, node.op, node.inputs
    channels = spec.shapes[inputs[0]][-1]
    match op:
        case ops.Conv() if is_depthwise(op, channels):
            demand(name, _depthwise_growth(op, growth(inputs[0])))
            if op.features == op.groups:
                demand(inputs[0], growth(name))
        case ops.Conv() | ops.Dense() | ops.Normalize():
            pass
        case ops.Flatten():
            demand(name, _flat_growth(spec, inputs[0], growth(inputs[0])))
        case ops.Concat():
            demand(name, join([growth(i) for i in inputs]))
            out, left = growth(name), 0
            for number, i in enumerate(inputs):
                part = out[left : left + spec.shapes[i][-1] + 1].copy()
                left += spec.shapes[i][-1]
                if number > 0:
                    part[0] = 0  # growth between two parts belongs to the one before
                if number + 1 < len(inputs):
                    part[-1] -= growth(inputs[number + 1])[0]  # but for what the next one has
                demand(i, part)
        case ops.PadChannels():
            forwards = np.zeros_like(growth(name))
            forwards[op.before : op.before + channels + 1] = growth(inputs[0])
            demand(name, forwards)
            inner = growth(name)[op.before : op.before + channels + 1].copy()
            inner[[0, -1]] = growth(inputs[0])[[0, -1]]  # at its ends there are more zeros instead
            demand(inputs[0], inner)
        case _:  # Add and Mix tie all their inputs; the rest have one input
            for i in inputs:
                demand(name, growth(i))
            for i in inputs:
                demand(i, growth(name))


def _check(spec: Architecture, node: Node, growth: Callable[[str], np.ndarray]) -> None:
    """Raise for a node that cannot take or make the growth at the fixed point."""
    name, op = node.name, node.op
    before, out = growth(node.inputs[0]), growth(name)
    channels = len(before) - 1
    match op:
        case ops.Conv() if is_depthwise(op, channels):
            if (out != _depthwise_growth(op, before)).any():
                raise ValueError(
                    f"the depthwise '{name}' has {op.features // op.groups} outputs per channel"
                )
        case ops.Conv() if op.groups > 1:
            if before.any() or out.any():
                raise ValueError(f"'{name}' is a convolution of {op.groups} groups")
        case ops.Normalize():
            if before.any() or out.any():
                raise ValueError(f"'{name}' has constants for {channels} channels only")
        case ops.Flatten():
            if (out != _flat_growth(spec, node.inputs[0], before)).any():
                raise ValueError(f"the vector of '{name}' is tied to its feature map")


def _depthwise_growth(op: ops.Conv, before: np.ndarray) -> np.ndarray:
    """The growth of a depthwise convolution's output, by that of its input."""
    multiplier = op.features // op.groups
    out = np.zeros(op.features + 1, int)
    out[::multiplier] = multiplier * before
    return out


def _flat_growth(spec: Architecture, source: str, before: np.ndarray) -> np.ndarray:
    """The growth of a flattened feature map, by that of the map: once for every pixel."""
    return join([before] * math.prod(spec.shapes[source][:-1]))


def join(parts: list[np.ndarray]) -> np.ndarray:
    """The gaps of tensors side by side; growth behind one and before the next adds up.

    >>> join([np.array([0, 1]), np.array([2, 0, 3])]).tolist()
    [0, 3, 0, 3]
    """
    out = np.zeros(1 + sum(len(part) - 1 for part in parts), int)
    left = 0
    for part in parts:
        out[left : left + len(part)] += part
        left += len(part) - 1
    return out


def widened_op(spec: Architecture, node: Node, gaps: Gaps) -> ops.Op:
    """The node's op, with the sizes that the growth asks for."""
    if node.name not in gaps:
        return node.op
    new = int(gaps[node.name].sum())
    match node.op:
        case ops.Conv(features=features):
            depthwise = is_depthwise(node.op, spec.shapes[node.inputs[0]][-1])
            more = int(gaps[node.inputs[0]].sum()) if depthwise else 0
            return dataclasses.replace(
                node.op, features=features + new, groups=node.op.groups + more
            )
        case ops.Dense(features=features):
            return dataclasses.replace(node.op, features=features + new)
        case ops.PadChannels(before=before, after=after):
            channels = spec.shapes[node.inputs[0]][-1]
            inner = gaps.get(node.inputs[0], np.zeros(channels + 1, int))
            more = int(gaps[node.name][: before + 1].sum() - inner[0])
            return ops.PadChannels(before + more, after + new - more - int(inner.sum()))
        case op:
            return op


def carry(
    spec: Architecture, grown: Architecture, gaps: Gaps, variables: Variables, key: jax.Array
) -> Variables:
    """The variables of `grown`: old arrays at their places, fresh ones in the rest.

    Args:
      spec: the architecture before.
      grown: the architecture after; a node of the same name is the same node.
      gaps: the growth of the tensors of `spec`.
      variables: of `spec`; not changed.
      key: for the new units and the new nodes.
    """
    carried: Variables = {"params": {}, "batch_stats": {}}
    old_nodes = {node.name: node for node in spec.nodes}
    dtype = param_dtype(variables)
    for node in grown.nodes:
        params = variables["params"].get(node.name, {})
        stats = variables.get("batch_stats", {}).get(node.name, {})
        old = old_nodes.get(node.name)
        touched = old is not None and any(name in gaps for name in (node.name, *old.inputs))
        if old is None or (touched and params):
            fresh_params, fresh_stats = init_node(node, grown.input_shapes(node), key, dtype)
            if old is not None:
                fresh_params = _widen(spec, old, gaps, params, fresh_params)
                fresh_stats = _widen(spec, old, gaps, stats, fresh_stats)
            params, stats = fresh_params, fresh_stats
        put_node(carried, node.name, params, stats)
    return carried


def _widen(
    spec: Architecture,
    node: Node,
    gaps: Gaps,
    arrays: dict[str, jax.Array],
    fresh: dict[str, jax.Array],
) -> dict[str, jax.Array]:
    def places(name: str) -> np.ndarray:
        return kept(gaps[name]) if name in gaps else np.arange(spec.shapes[name][-1])

    def widen(name: str, array: jax.Array) -> jax.Array:
        if name == "kernel":
            channels = spec.shapes[node.inputs[0]][-1]
            depthwise = is_depthwise(node.op, channels)
            kept_in = np.arange(1) if depthwise else places(node.inputs[0])
            return widen_kernel(array, fresh[name], kept_in, places(node.name))
        return widen_vector(array, fresh[name], places(node.name)) if array.ndim else array

    return {name: widen(name, array) for name, array in arrays.items()}
