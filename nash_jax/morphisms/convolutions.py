"""Other shapes for one convolution: a larger kernel, or two convolutions in its place.

Larger kernels are of Network Morphism (Wei et al. 2016, section 3.4).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from nash_jax.architecture import Architecture, Node, Variables, ops
from nash_jax.architecture.spec import fresh_names, insert_after
from nash_jax.architecture.weights import param_dtype
from nash_jax.morphisms.change import Change, carry
from nash_jax.morphisms.edits import Edit, applicable, check_name, check_size, register, the_op
from nash_jax.morphisms.primitives import shifted, window_kernel


@register
@dataclasses.dataclass(frozen=True)
class GrowKernel(Edit):
    """Give the convolution `node` a larger kernel, with zeros around the old one.

    Args:
      node: the convolution.
      kernel_size: the new size, one number or `(height, width)`; no side becomes shorter.

    Preserved: evaluation and training mode.
    Rounding: of sums in another order; float32 1e-5, bfloat16 5e-2.
    """

    node: str
    kernel_size: ops.Pair

    def __post_init__(self) -> None:
        check_name(self, "node")
        size: Any = self.kernel_size
        pair = (size, size) if type(size) is int else size
        if (
            not isinstance(pair, tuple | list)
            or len(pair) != 2
            or not all(type(n) is int and 1 <= n <= ops.LARGEST_SIZE for n in pair)
        ):
            raise ValueError(
                "GrowKernel.kernel_size must be a whole number >= 1 or a pair of them; "
                f"got {self.kernel_size!r}"
            )
        object.__setattr__(self, "kernel_size", tuple(pair))

    @classmethod
    def sites(cls, spec: Architecture) -> Iterator[GrowKernel]:
        edits = (
            cls(n.name, (op.kernel_size[0] + 2, op.kernel_size[1] + 2))
            for n in spec.nodes
            if isinstance(op := n.op, ops.Conv)
        )
        return applicable(spec, edits)

    def change(self, spec: Architecture) -> Change:
        op = the_op(spec, self.node, (ops.Conv,), "grow the kernel of")
        old, new = op.kernel_size, self.kernel_size
        if any(n < o for n, o in zip(new, old)) or new == old:
            raise ValueError(
                f"cannot grow the kernel of '{self.node}' to {new[0]}x{new[1]}: it is "
                f"{old[0]}x{old[1]}, and no side may become shorter, nor all stay"
            )
        grown = dataclasses.replace(op, kernel_size=new)
        sides = zip(spec.shapes[spec[self.node].inputs[0]], old, new, op.stride, op.dilation)
        sources = {}
        for axis, (size, o, n, stride, dilation) in enumerate(sides):
            before, after = (_padding(size, k, stride, dilation, op.padding) for k in (o, n))
            offset, rest = divmod(after - before, dilation)
            if rest or not 0 <= offset <= n - o or (op.padding == "VALID" and n > o):
                raise ValueError(
                    f"cannot grow the kernel of '{self.node}' from {o} to {n}: with stride "
                    f"{stride}, dilation {dilation} and padding '{op.padding}' on {size} pixels, "
                    "no place for the old kernel in the new keeps the function; try another size"
                )
            sources[axis - 4] = shifted(o, n, offset)
        nodes = [dataclasses.replace(n, op=grown) if n.name == self.node else n for n in spec.nodes]
        after_spec = Architecture(spec.input_shape, tuple(nodes))
        return Change(spec, after_spec, {(self.node, "kernel"): sources})


@register
@dataclasses.dataclass(frozen=True)
class Bottleneck(Edit):
    """Split the convolution `node` into one with `features` outputs and a 1x1 behind it.

    Exact where `features` is no smaller than the number of outputs of the convolution, or than the
    number of values in its window (height * width * input channels), so that nothing is lost in
    between. In the first case the first convolution keeps the kernel and the second starts as the
    identity; in the other case the first collects the window and the second has the old kernel.
    Further units are drawn at random and read with zero weights.

    Preserved: evaluation and training mode.
    Rounding: of sums in another order; float32 1e-5, bfloat16 5e-2.
    """

    node: str
    features: int

    def __post_init__(self) -> None:
        check_name(self, "node")
        check_size(self, "features")

    @classmethod
    def sites(cls, spec: Architecture) -> Iterator[Bottleneck]:
        edits = (
            cls(node.name, min(op.features, _window(op, spec.shapes[node.inputs[0]][-1])))
            for node in spec.nodes
            if isinstance(op := node.op, ops.Conv)
        )
        return applicable(spec, edits)

    def change(self, spec: Architecture) -> Change:
        op = the_op(spec, self.node, (ops.Conv,), "split")
        channels = spec.shapes[spec[self.node].inputs[0]][-1]
        window = _window(op, channels)
        least = min(op.features, window)
        if op.groups > 1:
            raise ValueError(f"cannot split '{self.node}': it has {op.groups} groups, not 1")
        if self.features < least:
            raise ValueError(
                f"cannot split '{self.node}' at {self.features} features: exact from {least} on, "
                f"the lesser of its {op.features} outputs and the {window} numbers in its window"
            )
        position = [n.name for n in spec.nodes].index(self.node)
        node, (name,) = spec.nodes[position], fresh_names(spec, "conv")
        if self._keeps_kernel(op):
            first = dataclasses.replace(op, features=self.features)
            second = ops.Conv(op.features, (1, 1))
            nodes = insert_after(spec, self.node, [Node(name, second, self.node)], by=name)
            pair: tuple[Node, ...] = (Node(self.node, first, node.inputs),)
            nodes = (*nodes[:position], *pair, *nodes[position + 1 :])
            units = {-1: shifted(op.features, self.features, 0)}
            sources = {(self.node, array): units for array in ("kernel", "bias")}
            return Change(spec, Architecture(spec.input_shape, nodes), sources)
        first = dataclasses.replace(op, features=self.features, use_bias=False)
        second = ops.Conv(op.features, (1, 1), use_bias=op.use_bias)
        pair = (Node(name, first, node.inputs), Node(self.node, second, name))
        nodes = (*spec.nodes[:position], *pair, *spec.nodes[position + 1 :])
        return Change(
            spec,
            Architecture(spec.input_shape, nodes),
            {(self.node, "kernel"): {-2: shifted(window, self.features, 0)}},
            {(self.node, "kernel"): (1, 1, window, op.features)},
        )

    def _keeps_kernel(self, op: ops.Conv) -> bool:
        return self.features >= op.features

    def weights(self, change: Change, variables: Variables, key: Any, xp: Any) -> Variables:
        new = carry(change, variables, key, xp)
        op, dtype = change.before[self.node].op, param_dtype(variables)
        assert isinstance(op, ops.Conv)
        (name,) = fresh_names(change.before, "conv")
        if self._keeps_kernel(op):
            kernel = xp.eye(self.features, op.features, dtype=dtype)[None, None]
        else:
            channels = change.before.shapes[change.before[self.node].inputs[0]][-1]
            collects = window_kernel(op.kernel_size, channels, dtype, xp)
            drawn = new["params"][name]["kernel"][..., collects.shape[-1] :]
            kernel = xp.concatenate([collects, drawn], axis=-1)
        new["params"][name] = {"kernel": kernel}
        return new


def _window(op: ops.Conv, channels: int) -> int:
    return math.prod(op.kernel_size) * channels // op.groups


def _padding(size: int, kernel: int, stride: int, dilation: int, padding: str) -> int:
    """Zeros before the first pixel, as XLA pads for 'SAME'."""
    if padding == "VALID":
        return 0
    reach = (kernel - 1) * dilation + 1
    return max((-(-size // stride) - 1) * stride + reach - size, 0) // 2
