"""How new channels spread through a network (Type II, eq. 4).

New channels stand *between* the old ones, which keep their order and their values. A tensor's
growth is an array `gaps` of `channels + 1` counts: `gaps[i]` new channels before old channel `i`,
the last entry behind all. Convolutions and dense layers end the spreading: as readers they take the
new channels with zero weights, as producers they make them with random new units. Everything else
hands the growth on: forwards (normalisation, activations, pooling, concatenation, flattening,
depthwise convolution), and backwards where widths are tied, so that widening one input of a sum
widens the others too. Every group of a grouped convolution takes and makes equally many.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import assert_never

import numpy as np

from nash_jax.architecture import INPUT, Architecture, Node, ops
from nash_jax.architecture.shapes import param_shapes, stat_shapes
from nash_jax.morphisms.change import Sources

Gaps = Mapping[str, np.ndarray]


def appended(channels: int, new: int, blocks: int = 1) -> np.ndarray:
    """The gaps of `new` channels, equally many behind each of `blocks` equal blocks of old ones.

    >>> appended(4, 2, blocks=2).tolist()
    [0, 0, 1, 0, 1]
    """
    gaps = np.zeros(channels + 1, int)
    gaps[channels // blocks :: channels // blocks] = new // blocks
    return gaps


def copied(channels: int, new: int, blocks: int = 1) -> np.ndarray:
    """The gaps of `new` channels, each behind the old one that it copies; all in turn.

    >>> copied(3, 4).tolist()
    [0, 2, 1, 1]
    """
    size = channels // blocks
    per_unit, more = divmod(new // blocks, size)
    return np.concatenate([[0], np.tile(per_unit + (np.arange(size) < more), blocks)])


def source(gaps: np.ndarray) -> np.ndarray:
    """For each channel after the growth, the old channel that it is, or -1.

    >>> source(np.array([0, 2, 1])).tolist()
    [0, -1, -1, 1, -1]
    """
    new = np.full(len(gaps) - 1 + gaps.sum(), -1)
    new[np.arange(len(gaps) - 1) + np.cumsum(gaps)[:-1]] = np.arange(len(gaps) - 1)
    return new


def is_depthwise(op: ops.Op, channels: int) -> bool:
    """Whether the op is a convolution that treats each of several input channels by itself."""
    return isinstance(op, ops.Conv) and op.groups == channels > 1


def groups_of(spec: Architecture, node: Node) -> int:
    """The groups of a convolution with several input channels in each; 1 for everything else."""
    op, channels = node.op, spec.shapes[node.inputs[0]][-1]
    return op.groups if isinstance(op, ops.Conv) and not is_depthwise(op, channels) else 1


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
    """Pass on, to a node's inputs and output, what the growth of the others implies."""
    name, op, inputs = node.name, node.op, node.inputs
    channels = spec.shapes[inputs[0]][-1]
    match op:
        case ops.Conv() if is_depthwise(op, channels):
            demand(name, _depthwise_growth(op, growth(inputs[0])))
            if op.features == op.groups:
                demand(inputs[0], growth(name))
            elif growth(inputs[0]).sum() == 0:
                demand(name, balanced(growth(name), op.groups))
        case ops.Conv(groups=groups) if groups > 1:
            demand(inputs[0], balanced(growth(inputs[0]), groups))
            demand(name, balanced(growth(name), groups))
        case ops.Conv() | ops.Dense() | ops.Normalize() | ops.Shuffle():
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
        case ops.Channelwise() | ops.ChannelwiseJoin():
            for i in inputs:
                demand(name, growth(i))
            for i in inputs:
                demand(i, growth(name))
        case _:
            assert_never(op)


def _check(spec: Architecture, node: Node, growth: Callable[[str], np.ndarray]) -> None:
    """Raise for a node that cannot take or make the growth at the fixed point."""
    name, op = node.name, node.op
    before, out = growth(node.inputs[0]), growth(name)
    channels = len(before) - 1
    match op:
        case ops.Conv() if is_depthwise(op, channels):
            if before.any() and (out != _depthwise_growth(op, before)).any():
                raise ValueError(
                    f"the depthwise '{name}' has {op.features // op.groups} outputs per channel, "
                    "which all would have to grow with its input"
                )
        case ops.Normalize():
            if before.any() or out.any():
                raise ValueError(f"'{name}' has constants for {channels} channels only")
        case ops.Flatten():
            if (out != _flat_growth(spec, node.inputs[0], before)).any():
                raise ValueError(f"the vector of '{name}' is tied to its feature map")
        case ops.Shuffle():
            if before.any() or out.any():
                raise ValueError(f"'{name}' shuffles a fixed number of channels, {channels}")
        case ops.Conv() | ops.Dense() | ops.Channelwise() | ops.PadChannels():
            pass
        case ops.ChannelwiseJoin() | ops.Concat():
            pass
        case _:
            assert_never(op)


def balanced(gaps: np.ndarray, groups: int) -> np.ndarray:
    """The least growth, no smaller than `gaps`, that is the same in each of `groups` blocks.

    >>> balanced(np.array([0, 0, 1, 0, 0]), groups=2).tolist()
    [0, 0, 1, 0, 1]
    """
    size = (len(gaps) - 1) // groups
    parts = np.stack([gaps[i * size : (i + 1) * size + 1] for i in range(groups)])
    # Growth between two blocks belongs to the one before, except for as much of it as stands before
    # the very first block: that belongs to the one after.
    parts[:, 0] = gaps[0]
    parts[:-1, -1] = np.maximum(parts[:-1, -1] - gaps[0], 0)
    return join([parts.max(axis=0)] * groups)


def first_block(gaps: np.ndarray, groups: int) -> np.ndarray:
    """The growth of one of the blocks of balanced growth."""
    size = (len(gaps) - 1) // groups
    return np.concatenate([gaps[:size], gaps[-1:]])


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
            more = int(gaps[node.inputs[0]].sum()) if depthwise and node.inputs[0] in gaps else 0
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
        case ops.Channelwise() | ops.Normalize() | ops.Flatten():
            return node.op
        case ops.ChannelwiseJoin() | ops.Concat() | ops.Shuffle():
            return node.op
        case _:
            assert_never(node.op)


def widened(spec: Architecture, gaps: Gaps) -> tuple[Node, ...]:
    """The nodes of a spec with the sizes that the growth asks for."""
    return tuple(
        dataclasses.replace(n, op=op) if (op := widened_op(spec, n, gaps)) != n.op else n
        for n in spec.nodes
    )


def array_sources(
    spec: Architecture, sources: Mapping[str, np.ndarray], groups: Mapping[str, np.ndarray]
) -> dict[tuple[str, str], Sources]:
    """How the arrays of a network follow the channels of its tensors.

    Args:
      spec: the architecture before.
      sources: by tensor, where its channels come from.
      groups: by grouped convolution, where the input channels of each of its groups come from.

    Returns:
      By (node, array), the sources along its axes.
    """
    found: dict[tuple[str, str], Sources] = {}
    for node in spec.nodes:
        read, inputs = node.inputs[0], spec.input_shapes(node)
        out = {-1: sources[node.name]} if node.name in sources else {}
        for name, shape in {
            **param_shapes(node.op, inputs),
            **stat_shapes(node.op, inputs),
        }.items():
            axes = out if shape else {}
            if name == "kernel" and read in sources:
                grouped = isinstance(node.op, ops.Conv) and node.op.groups > 1
                if not grouped:
                    axes = {-2: sources[read], **axes}
                elif node.name in groups:
                    axes = {-2: groups[node.name], **axes}
            if axes:
                found[node.name, name] = axes
    return found


def growth_sources(spec: Architecture, gaps: Gaps) -> dict[tuple[str, str], Sources]:
    """How the arrays of a network grow with its tensors: by (node, array)."""
    groups = {}
    for node in spec.nodes:
        if (number := groups_of(spec, node)) > 1 and node.inputs[0] in gaps:
            groups[node.name] = source(first_block(gaps[node.inputs[0]], number))
    return array_sources(spec, {name: source(g) for name, g in gaps.items()}, groups)
