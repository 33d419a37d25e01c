"""Wider: more channels in a convolution or units in a dense layer (NASH, Type II, eq. 4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, assert_never

import jax
import numpy as np

from nash_jax.architecture import Architecture, Variables, ops
from nash_jax.architecture.weights import arch_of, normal, param_dtype, put_node
from nash_jax.morphisms.change import Change, multiplied
from nash_jax.morphisms.edits import Edit, applicable, check_name, check_size, register, the_op
from nash_jax.morphisms.primitives import copy_out, split_in
from nash_jax.morphisms.widths import (
    Gaps,
    appended,
    copied,
    growth_sources,
    is_depthwise,
    source,
    spread,
    widened,
)


@register
@dataclasses.dataclass(frozen=True)
class Widen(Edit):
    """Give the convolution or dense layer `node` `features` outputs.

    New units are drawn at random and read with zero weights. Where a sum or a mix ties the widths
    of several layers, all of them are widened. In a grouped convolution every group gets equally
    many; a depthwise one, with one output per channel, is widened together with what it reads.
    A flattened map of constant length becomes smaller in its values, and the dense layers that read
    it larger in their weights.

    Preserved: evaluation and training mode (without dropout).
    Rounding: of longer sums; float32 1e-5, bfloat16 5e-2.
    """

    node: str
    features: int

    def __post_init__(self) -> None:
        check_name(self, "node")
        check_size(self, "features")

    @classmethod
    def sites(cls, spec: Architecture) -> Iterator[Widen]:
        return applicable(spec, (cls(name, 2 * old) for name, old in _layers(spec)))

    def change(self, spec: Architecture) -> Change:
        gaps = _growth(spec, self.node, self.features, appended)
        after = Architecture(spec.input_shape, widened(spec, gaps))
        return Change(spec, after, growth_sources(spec, gaps))


@register
@dataclasses.dataclass(frozen=True)
class WidenByCopies(Edit):
    """Give `node` `features` outputs, the new ones copies of the old (Net2Wider, Chen et al. 2015).

    Every unit is copied in turn, and stands before its copies; what reads them shares its weight
    equally among them. Where widths are tied, all tied layers copy the same channels. Copies that
    see the same data stay equal in training: `noise` sets them apart.

    The old weights become smaller. So, unlike after other edits, a network that trains on with its
    new weights frozen does not follow the network before the edit.

    Args:
      node: the convolution or dense layer.
      features: how many outputs it is to have, more than it has.
      noise: what is added to the copies' incoming weights, as a fraction of the kernel's standard
        deviation. With noise, outputs are preserved only up to it.

    Preserved: evaluation and training mode (without dropout and without noise).
    Rounding: of longer sums and of shared weights; float32 1e-5, bfloat16 5e-2.
    """

    node: str
    features: int
    noise: float = 0.0

    def __post_init__(self) -> None:
        check_name(self, "node")
        check_size(self, "features")
        if type(self.noise) not in (int, float) or not 0 <= self.noise < 1e3:
            raise ValueError(
                f"WidenByCopies.noise must be a number in [0, 1000); got {self.noise!r}"
            )

    @classmethod
    def sites(cls, spec: Architecture) -> Iterator[WidenByCopies]:
        return applicable(spec, (cls(name, 2 * old) for name, old in _layers(spec)))

    def _growth(self, spec: Architecture) -> tuple[Gaps, dict[str, np.ndarray]]:
        gaps = _growth(spec, self.node, self.features, copied)
        try:
            return gaps, _origins(spec, gaps)
        except ValueError as error:
            raise ValueError(f"cannot widen '{self.node}' by copies: {error}") from None

    def change(self, spec: Architecture) -> Change:
        gaps, _ = self._growth(spec)
        after = Architecture(spec.input_shape, widened(spec, gaps))
        return Change(spec, after, growth_sources(spec, gaps))

    def weights(self, change: Change, variables: Variables, key: Any, xp: Any) -> Variables:
        spec = change.before
        gaps, origin = self._growth(spec)
        new: Variables = {"params": {}, "batch_stats": {}}
        for node in spec.nodes:
            params = variables["params"].get(node.name, {})
            stats = variables.get("batch_stats", {}).get(node.name, {})
            read, name = node.inputs[0], node.name
            if params and "kernel" in params and read in gaps:
                kernel = _split(spec, node.op, read, params["kernel"], origin)
                params = {**params, "kernel": multiplied(change, name, "kernel", kernel)}
            if (params or stats) and name in gaps:
                params = {n: copy_out(x, origin[name]) if x.ndim else x for n, x in params.items()}
                stats = {n: copy_out(x, origin[name]) for n, x in stats.items()}
                if self.noise and "kernel" in params:
                    copies = source(gaps[name]) < 0
                    kernel, node_key = params["kernel"], jax.random.fold_in(key, len(new["params"]))
                    size = self.noise * xp.std(kernel)
                    noise = size * normal(node_key, kernel.shape, xp) * copies
                    params = {**params, "kernel": (kernel + noise).astype(kernel.dtype)}
            put_node(new, name, params, stats)
        return new | arch_of(spec, variables, param_dtype(variables), xp)


def _layers(spec: Architecture) -> list[tuple[str, int]]:
    return [
        (node.name, op.features)
        for node in spec.nodes
        if isinstance(op := node.op, ops.Conv | ops.Dense)
    ]


def _growth(
    spec: Architecture, name: str, features: int, arrange: Callable[[int, int, int], np.ndarray]
) -> Gaps:
    """The growth of all tensors when a layer gets `features` outputs, arranged in equal blocks.

    There are as few blocks as the layer's own groups allow, or else as many as suit its readers.
    """
    op = the_op(spec, name, (ops.Conv, ops.Dense), "widen")
    if features <= op.features:
        raise ValueError(
            f"widening '{name}' needs more than its {op.features} features; got {features}"
        )
    new = features - op.features
    depthwise = is_depthwise(op, spec.shapes[spec[name].inputs[0]][-1])
    own = (
        op.groups
        if isinstance(op, ops.Conv) and not (depthwise and op.features == op.groups)
        else 1
    )
    if new % own:
        raise ValueError(
            f"'{name}' is a convolution of {own} groups: widen it by a multiple of {own}; "
            f"got {features} features, {new} more"
        )
    groups = {n.op.groups for n in spec.nodes if isinstance(n.op, ops.Conv)}
    fitting = (int(np.lcm(own, g)) for g in groups)
    blocks = [own, *sorted({b for b in fitting if new % b == op.features % b == 0} - {own})]
    errors = []
    for number in blocks:
        try:
            gaps = spread(spec, name, arrange(op.features, new, number))
            made = op.features + int(gaps[name].sum())
            if made == features:
                return gaps
            errors.append(
                f"'{name}' would get {made} features instead of {features}, because a grouped "
                "convolution or a tie asks for more; ask for those"
            )
        except ValueError as error:
            errors.append(str(error))
    raise ValueError(f"cannot widen '{name}': {errors[0]}") from None


def _origins(spec: Architecture, gaps: Gaps) -> dict[str, np.ndarray]:
    """For each channel of each grown tensor, the old channel that it copies.

    Raises:
      ValueError: where tied tensors would copy different channels.
    """
    found: dict[str, np.ndarray] = {}

    def origin(name: str) -> np.ndarray:
        return found.get(name, np.arange(spec.shapes[name][-1]))

    for node in spec.nodes:
        if not any(name in gaps for name in (node.name, *node.inputs)):
            continue
        read, op = node.inputs[0], node.op
        channels = spec.shapes[read][-1]
        # What makes new channels copies the ones before them.
        here = source(gaps.get(node.name, np.zeros(spec.shapes[node.name][-1] + 1, int)))
        here = np.maximum.accumulate(np.maximum(here, np.where(np.arange(len(here)) == 0, 0, -1)))
        match op:
            case ops.Conv() if is_depthwise(op, channels) and read in gaps:
                per_channel = op.features // op.groups
                here = (origin(read)[:, None] * per_channel + np.arange(per_channel)).ravel()
            case ops.Conv(groups=groups) if groups > 1:
                _origin_in_group(spec, node.name, origin(read), groups)
            case ops.Conv() | ops.Dense():
                pass
            case ops.Flatten():
                pixels = np.arange(np.prod(spec.shapes[read][:-1], dtype=int))
                here = (pixels[:, None] * channels + origin(read)).ravel()
            case ops.Concat():
                starts = np.cumsum([0, *(spec.shapes[i][-1] for i in node.inputs)])
                here = np.concatenate([s + origin(i) for s, i in zip(starts, node.inputs)])
            case ops.PadChannels():
                inner = (here >= op.before) & (here < op.before + channels)
                if not np.array_equal(here[inner] - op.before, origin(read)):
                    raise ValueError(f"'{node.name}' has zeros where the others have copies")
            case ops.Shuffle(groups=groups):
                here = origin(read).reshape(groups, -1).T.ravel()
            case ops.Channelwise() | ops.Normalize() | ops.ChannelwiseJoin():
                here = origin(read)
                for other in node.inputs[1:]:
                    if not np.array_equal(origin(other), here):
                        raise ValueError(f"the inputs of '{node.name}' copy different channels")
            case _:
                assert_never(op)
        found[node.name] = here
    return found


def _origin_in_group(spec: Architecture, name: str, origin: np.ndarray, groups: int) -> np.ndarray:
    """What `origin` is within each group of a convolution, if it is the same in all."""
    size = origin.max(initial=0) + 1
    parts = origin.reshape(groups, -1) - np.arange(groups)[:, None] * (size // groups)
    if (parts != parts[0]).any():
        raise ValueError(f"the groups of '{name}' would copy different channels")
    return parts[0]


def _split(
    spec: Architecture, op: ops.Op, read: str, kernel: Any, origin: dict[str, np.ndarray]
) -> Any:
    """A kernel that shares its weights among the copies of what it reads."""
    channels = spec.shapes[read][-1]
    if is_depthwise(op, channels):
        return kernel
    if isinstance(op, ops.Conv) and op.groups > 1:
        return split_in(kernel, _origin_in_group(spec, read, origin[read], op.groups))
    return split_in(kernel, origin[read])
