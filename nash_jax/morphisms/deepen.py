"""Deeper: insert ops that pass their input on (NASH, Types I and III: eqs. 2, 3, 5)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from nash_jax.architecture import INPUT, Architecture, Node, ops
from nash_jax.architecture.spec import fresh_names, insert_after, prefix
from nash_jax.morphisms.change import Change
from nash_jax.morphisms.edits import Edit, applicable, check_name, check_op, check_size, register
from nash_jax.morphisms.identity import nonnegative_nodes, why_no_identity


@register
@dataclasses.dataclass(frozen=True)
class Insert(Edit):
    """Insert one op behind the node `after`, with weights that pass its input on.

    That is: a convolution of stride 1, depthwise and dilated ones too, or a dense layer (Type I,
    eq. 2); batch normalisation (eq. 3); a scale and shift per channel (`Affine`, eq. 2 with a
    diagonal `A`); Relu where nothing is negative (Type III, eq. 5); dropout, which acts in training
    only.

    Preserved: evaluation mode. Training mode too, but for dropout, and for batch normalisation on
    its calibration batch only.
    Rounding: of one batch normalisation; without one, bit for bit; float32 1e-5, bfloat16 5e-2.
    """

    after: str
    op: ops.Op

    def __post_init__(self) -> None:
        check_name(self, "after")
        check_op(self, "op", self.op)

    @classmethod
    def sites(cls, spec: Architecture) -> Iterator[Insert]:
        """Everywhere: normalisation, scaling, Relu, dropout, 3x3 convolutions, dense layers."""
        places = [INPUT, *(node.name for node in spec.nodes)]
        edits = (
            cls(place, op)
            for place in places
            for channels in spec.shapes[place][-1:]
            for op in (
                *(ops.BatchNorm(), ops.Affine(), ops.Relu(), ops.Dropout()),
                *(ops.Dense(channels), ops.Conv(channels), ops.Conv(channels, groups=channels)),
            )
        )
        return applicable(spec, edits)

    def change(self, spec: Architecture) -> Change:
        return _inserted(spec, self.after, (self.op,))


@register
@dataclasses.dataclass(frozen=True)
class Deepen(Edit):
    """Insert Conv-BatchNorm-Relu behind the node `after`; all its readers read the block instead.

    The paper gives the new convolution as many channels as the closest preceding convolution. We
    give it as many as the place itself has. The two differ only behind a concatenation, where the
    identity needs all channels.

    Preserved: evaluation mode. With a calibration batch, training mode too, on that batch.
    Rounding: of one batch normalisation; float32 1e-5, bfloat16 5e-2.
    """

    after: str
    kernel_size: int = 3

    def __post_init__(self) -> None:
        check_name(self, "after")
        check_size(self, "kernel_size")

    @classmethod
    def sites(cls, spec: Architecture) -> Iterator[Deepen]:
        return (cls(place) for place in positions(spec))

    def change(self, spec: Architecture) -> Change:
        _check_position(spec, self.after, axes=3)
        conv = ops.Conv(spec.shapes[self.after][-1], (self.kernel_size, self.kernel_size))
        return _inserted(spec, self.after, (conv, ops.BatchNorm(), ops.Relu()))


@register
@dataclasses.dataclass(frozen=True)
class DeepenDense(Edit):
    """Insert Dense-Relu behind the vector `after`, which must not be negative (Net2DeeperNet).

    Preserved: evaluation and training mode, bit for bit, but for one more rounding to bfloat16.
    Rounding: float32 0, bfloat16 5e-2.
    """

    after: str

    def __post_init__(self) -> None:
        check_name(self, "after")

    @classmethod
    def sites(cls, spec: Architecture) -> Iterator[DeepenDense]:
        return (cls(place) for place in positions(spec, axes=1))

    def change(self, spec: Architecture) -> Change:
        _check_position(spec, self.after, axes=1)
        dense = ops.Dense(spec.shapes[self.after][-1])
        return _inserted(spec, self.after, (dense, ops.Relu()))


@register
@dataclasses.dataclass(frozen=True)
class InsertSeparable(Edit):
    """Insert a depthwise-separable convolution behind `after`: depthwise, then 1x1 (Type I, eq. 2).

    Preserved: evaluation and training mode, bit for bit, but for one more rounding to bfloat16.
    Rounding: float32 0, bfloat16 5e-2.
    """

    after: str
    kernel_size: int = 3

    def __post_init__(self) -> None:
        check_name(self, "after")
        check_size(self, "kernel_size")

    @classmethod
    def sites(cls, spec: Architecture) -> Iterator[InsertSeparable]:
        return applicable(spec, (cls(place) for place in spec.shapes))

    def change(self, spec: Architecture) -> Change:
        spec.check_name(self.after)
        channels = spec.shapes[self.after][-1]
        depthwise = ops.Conv(channels, (self.kernel_size, self.kernel_size), groups=channels)
        return _inserted(spec, self.after, (depthwise, ops.Conv(channels, (1, 1))))


@register
@dataclasses.dataclass(frozen=True)
class Duplicate(Edit):
    """Apply an idempotent op once more: Relu or Identity (Type III, eq. 5).

    Preserved: evaluation and training mode, bit for bit, but for one more rounding to bfloat16.
    Rounding: float32 0, bfloat16 5e-2.
    """

    node: str

    def __post_init__(self) -> None:
        check_name(self, "node")

    @classmethod
    def sites(cls, spec: Architecture) -> Iterator[Duplicate]:
        return applicable(spec, (cls(node.name) for node in spec.nodes))

    def change(self, spec: Architecture) -> Change:
        op = spec[self.node].op
        if not isinstance(op, ops.Relu | ops.Identity):
            raise ValueError(
                f"cannot duplicate '{self.node}': {type(op).__name__} is not idempotent; Blend can "
                "bring it in"
            )
        return _inserted(spec, self.node, (op,))


def positions(spec: Architecture, axes: int = 3) -> tuple[str, ...]:
    """The nodes with feature maps (3 axes) or vectors (1 axis) that are never negative."""
    nonnegative = nonnegative_nodes(spec)
    return tuple(
        node.name
        for node in spec.nodes
        if node.name in nonnegative and len(spec.shapes[node.name]) == axes
    )


def _check_position(spec: Architecture, after: str, axes: int) -> None:
    """Raises `ValueError` unless the node is one of `positions`."""
    spec.check_name(after)
    if after not in positions(spec, axes):
        what = "feature map" if axes == 3 else "vector"
        raise ValueError(
            f"cannot deepen after '{after}': its output must be a {what} without negative values, "
            "so that Relu passes it on"
        )


def _inserted(spec: Architecture, after: str, chain: tuple[ops.Op, ...]) -> Change:
    """A chain of ops behind a node, each passing its input on."""
    spec.check_name(after)
    shape = spec.shapes[after]
    nonnegative = after in nonnegative_nodes(spec)
    for op in chain:
        if why := why_no_identity(op, shape, nonnegative):
            raise ValueError(f"cannot insert {ops.describe(op)} after '{after}': {why}")
    names = fresh_names(spec, *(prefix(op) for op in chain))
    new = [Node(name, op, read) for name, op, read in zip(names, chain, (after, *names))]
    nodes = insert_after(spec, after, new, by=names[-1])
    after_spec = Architecture(spec.input_shape, nodes)
    return Change(spec, after_spec, identities=frozenset(names))
