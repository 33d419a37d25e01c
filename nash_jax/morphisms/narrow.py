"""How the removal of channels spreads through a network: the reverse of `widths`.

What is removed from a tensor is a mask `[channels]`. As with growth, convolutions and dense layers
end the spreading, and everything else hands it on, both ways where widths are tied.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import assert_never

import numpy as np

from nash_jax.architecture import INPUT, Architecture, Node, Variables, ops
from nash_jax.morphisms.change import Sources
from nash_jax.morphisms.widths import array_sources, groups_of, is_depthwise

Masks = Mapping[str, np.ndarray]


def spread_removal(
    spec: Architecture, start: str, mask: np.ndarray, asks_producer: bool = True
) -> dict[str, np.ndarray]:
    """What goes from every tensor, once the channels in `mask` go from the output of `start`.

    Args:
      spec: the architecture.
      start: the node whose output loses channels.
      mask: `[channels]`, true for those that go.
      asks_producer: whether `start` itself makes fewer channels; if not, the caller sees to it.

    Returns:
      Masks by tensor name, for the tensors that lose channels.

    Raises:
      ValueError: saying what cannot lose channels.
    """
    removed: dict[str, np.ndarray] = {}
    queue: collections.deque[str] = collections.deque()

    def of(name: str) -> np.ndarray:
        return removed.get(name, np.zeros(spec.shapes[name][-1], bool))

    def demand(name: str, mask: np.ndarray) -> None:
        more = of(name) | mask
        if (more == of(name)).all():
            return
        if name == INPUT:
            raise ValueError("the image would lose channels")
        if name == spec.output:
            raise ValueError(f"the logits of '{name}' would become fewer than the classes")
        if more.all():
            raise ValueError(f"nothing would be left of '{name}'")
        removed[name] = more
        queue.extend(spec.readers[name])
        if asks_producer or name != start:
            queue.append(name)

    demand(start, mask)
    while queue:  # masks only grow, so this ends
        node = spec[queue.popleft()]
        if node.name != start or asks_producer:
            _settle(spec, node, of, demand)
    return removed


def _settle(
    spec: Architecture,
    node: Node,
    of: Callable[[str], np.ndarray],
    demand: Callable[[str, np.ndarray], None],
) -> None:
    """Pass on, to a node's inputs and output, what the losses of the others imply."""
    name, op, inputs = node.name, node.op, node.inputs
    read = inputs[0]
    channels = spec.shapes[read][-1]
    match op:
        case ops.Conv() if is_depthwise(op, channels):
            per_channel = op.features // op.groups
            units = of(name).reshape(-1, per_channel)
            if (units != units[0]).any():  # else the same units of every channel go
                demand(read, np.any(units, axis=1))
            demand(name, np.repeat(of(read), per_channel))
        case ops.Conv(groups=groups) if groups > 1:
            for tensor in (read, name):
                demand(tensor, np.tile(of(tensor).reshape(groups, -1).any(axis=0), groups))
        case ops.Conv() | ops.Dense():
            pass
        case ops.Flatten():
            demand(read, np.any(of(name).reshape(-1, channels), axis=0))
            demand(name, np.tile(of(read), math.prod(spec.shapes[read][:-1])))
        case ops.Concat():
            demand(name, np.concatenate([of(i) for i in inputs]))
            ends = np.cumsum([spec.shapes[i][-1] for i in inputs])
            for i, part in zip(inputs, np.split(of(name), ends[:-1])):
                demand(i, part)
        case ops.PadChannels():
            zeros = of(name).copy()
            zeros[op.before : op.before + channels] |= of(read)
            demand(name, zeros)
            demand(read, zeros[op.before : op.before + channels])
        case ops.Shuffle():
            if of(read).any() or of(name).any():
                raise ValueError(f"'{name}' shuffles a fixed number of channels")
        case ops.Channelwise() | ops.Normalize() | ops.ChannelwiseJoin():
            for i in inputs:
                demand(name, of(i))
            for i in inputs:
                demand(i, of(name))
        case _:
            assert_never(op)


def narrowed(spec: Architecture, removed: Masks) -> tuple[Node, ...]:
    """The nodes of a spec with the sizes that the removal leaves."""

    def lost(name: str) -> int:
        return int(removed[name].sum()) if name in removed else 0

    nodes = []
    for node in spec.nodes:
        op, read = node.op, node.inputs[0]
        match op:
            case ops.Conv():
                depthwise = is_depthwise(op, spec.shapes[read][-1])
                fewer = lost(read) if depthwise else 0
                op = dataclasses.replace(
                    op, features=op.features - lost(node.name), groups=op.groups - fewer
                )
            case ops.Dense():
                op = ops.Dense(op.features - lost(node.name), op.use_bias)
            case ops.PadChannels(before=before, after=after) if node.name in removed:
                first = int(removed[node.name][:before].sum())
                last = int(removed[node.name][len(removed[node.name]) - after :].sum())
                op = ops.PadChannels(before - first, after - last)
            case ops.Normalize() if read in removed or node.name in removed:
                raise ValueError(f"'{node.name}' has constants for all channels")
            case ops.Channelwise() | ops.Normalize() | ops.Flatten() | ops.PadChannels():
                pass
            case ops.ChannelwiseJoin() | ops.Concat() | ops.Shuffle():
                pass
            case _:
                assert_never(op)
        nodes.append(dataclasses.replace(node, op=op))
    return tuple(nodes)


def kept_sources(spec: Architecture, removed: Masks) -> dict[tuple[str, str], Sources]:
    """How the arrays of a network shrink with its tensors: by (node, array)."""
    groups = {}
    for node in spec.nodes:
        if (number := groups_of(spec, node)) > 1 and node.inputs[0] in removed:
            block = removed[node.inputs[0]].reshape(number, -1)[0]
            groups[node.name] = np.flatnonzero(~block)
    sources = {name: np.flatnonzero(~mask) for name, mask in removed.items()}
    return array_sources(spec, sources, groups)


def used_channels(spec: Architecture, variables: Variables) -> dict[str, np.ndarray]:
    """By tensor, which channels reach the outputs through weights that are not zero, `[channels]`.

    The second input of a mix with lambda 1 does not.
    """
    params = variables["params"]
    used = {name: np.zeros(shape[-1], bool) for name, shape in spec.shapes.items()}
    used[spec.output][:] = True
    for node in reversed(spec.nodes):
        out, read = used[node.name], node.inputs[0]
        channels = spec.shapes[read][-1]
        match node.op:
            case ops.Conv(groups=groups):
                kernel = np.asarray(params[node.name]["kernel"]) != 0
                reads = kernel.any(axis=(0, 1)) & out  # [in / groups, out]
                by_group = reads.reshape(reads.shape[0], groups, -1).any(axis=2)
                used[read] |= by_group.T.ravel()
            case ops.Dense():
                used[read] |= ((np.asarray(params[node.name]["kernel"]) != 0) & out).any(axis=1)
            case ops.Flatten():
                used[read] |= out.reshape(-1, channels).any(axis=0)
            case ops.Concat():
                ends = np.cumsum([spec.shapes[i][-1] for i in node.inputs])
                for i, part in zip(node.inputs, np.split(out, ends[:-1])):
                    used[i] |= part
            case ops.PadChannels(before=before):
                used[read] |= out[before : before + channels]
            case ops.Mix() if float(params[node.name]["lambda"]) == 1:
                used[read] |= out
            case ops.Shuffle(groups=groups):
                used[read] |= out.reshape(-1, groups).T.ravel()
            case ops.Channelwise() | ops.Normalize() | ops.ChannelwiseJoin():
                for i in node.inputs:
                    used[i] |= out
            case _:
                assert_never(node.op)
    return used
