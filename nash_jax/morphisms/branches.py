"""New branches: joined by a mix (NASH, Type IV, eq. 6) or by concatenation (Type II, eq. 4).

The output of `target` is joined with a branch that starts at `source`, and the nodes that read
`target` read the join instead. A skip connection is a branch without layers of its own. Where its
source's feature map is larger than the target's, max pooling brings it to the same height and
width; for addition, where the channels differ, a 1x1 convolution (between vectors: a dense layer)
makes them equal. The paper does not say what it does in these cases.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

from nash_jax.architecture import INPUT, Architecture, Node, ops
from nash_jax.architecture.shapes import Shape, output_shape
from nash_jax.architecture.spec import fresh_names, insert_after, prefix
from nash_jax.morphisms.change import Change
from nash_jax.morphisms.edits import Edit, applicable, check_name, check_op, register
from nash_jax.morphisms.widths import appended, growth_sources, spread, widened


@register
@dataclasses.dataclass(frozen=True)
class SkipAdd(Edit):
    """Replace the output `f` of `target` by `lambda * f + (1 - lambda) * h`, `h` from `source`.

    Lambda is learnable and starts at 1.

    Preserved: evaluation and training mode, bit for bit, but for one more rounding to bfloat16,
    as long as `h` is finite.
    Rounding: float32 0, bfloat16 5e-2.
    """

    source: str
    target: str

    def __post_init__(self) -> None:
        check_name(self, "source", "target")

    @classmethod
    def sites(cls, spec: Architecture) -> Iterator[SkipAdd]:
        return applicable(spec, (cls(*pair) for pair in _pairs(spec)))

    def change(self, spec: Architecture) -> Change:
        branch = _skip(spec, self.source, self.target)
        features = spec.shapes[self.target][-1]
        prefixes = ["pool"] * len(branch)
        if spec.shapes[self.source][-1] != features:
            vector = len(spec.shapes[self.target]) == 1
            branch.append(ops.Dense(features) if vector else ops.Conv(features, (1, 1)))
            prefixes.append("project")
        return _blended(spec, self.source, self.target, tuple(branch), prefixes)


@register
@dataclasses.dataclass(frozen=True)
class Blend(Edit):
    """Replace the output `f` of `target` by `lambda * f + (1 - lambda) * h`, `h` a new branch.

    The branch is a sequence of ops on the output of `source`; lambda is learnable and starts at 1.
    So any function can be added without changing what the network computes. For an activation that
    is not idempotent, make `source` equal to `target` and take `branch=(Gelu(),)`, say; for another
    kind of pooling, make `source` the node that a pooling reads and take `branch=(AvgPool(2),)`.

    Preserved: evaluation and training mode, bit for bit, but for one more rounding to bfloat16,
    as long as `h` is finite.
    Rounding: float32 0, bfloat16 5e-2.
    """

    source: str
    target: str
    branch: tuple[ops.Op, ...]

    def __post_init__(self) -> None:
        check_name(self, "source", "target")
        _check_branch(self)

    @classmethod
    def sites(cls, spec: Architecture) -> Iterator[Blend]:
        """Tanh behind every node, and the other kind of pooling beside every pooling."""

        def other(op: ops.Pool) -> ops.Pool:
            kind = ops.AvgPool if isinstance(op, ops.MaxPool) else ops.MaxPool
            return kind(op.window, op.stride, op.padding)

        edits = itertools.chain(
            (cls(node.name, node.name, (ops.Tanh(),)) for node in spec.nodes),
            (
                cls(node.inputs[0], node.name, (other(op),))
                for node in spec.nodes
                if isinstance(op := node.op, ops.Pool)
            ),
        )
        return applicable(spec, edits)

    def change(self, spec: Architecture) -> Change:
        _check_order(spec, self.source, self.target)
        prefixes = [prefix(op) for op in self.branch]
        return _blended(spec, self.source, self.target, self.branch, prefixes)


@register
@dataclasses.dataclass(frozen=True)
class SkipConcat(Edit):
    """Replace the output of `target` by its concatenation with that of `source`.

    Layers that read the new channels read them with zero weights, as in widening.

    Preserved: evaluation and training mode (without dropout).
    Rounding: of longer sums; float32 1e-5, bfloat16 5e-2.
    """

    source: str
    target: str

    def __post_init__(self) -> None:
        check_name(self, "source", "target")

    @classmethod
    def sites(cls, spec: Architecture) -> Iterator[SkipConcat]:
        return applicable(spec, (cls(*pair) for pair in _pairs(spec)))

    def change(self, spec: Architecture) -> Change:
        branch = _skip(spec, self.source, self.target)
        return _concatenated(spec, self.source, self.target, tuple(branch), ["pool"] * len(branch))


@register
@dataclasses.dataclass(frozen=True)
class Branch(Edit):
    """Replace the output of `target` by its concatenation with a new branch from `source`.

    The branch is a sequence of ops on the output of `source`, drawn at random, with a feature map
    as high and wide as the target's. Layers read its channels with zero weights.

    Preserved: evaluation and training mode (without dropout).
    Rounding: of longer sums; float32 1e-5, bfloat16 5e-2.
    """

    source: str
    target: str
    branch: tuple[ops.Op, ...]

    def __post_init__(self) -> None:
        check_name(self, "source", "target")
        _check_branch(self)

    @classmethod
    def sites(cls, spec: Architecture) -> Iterator[Branch]:
        """Beside every convolution and dense layer, another one like it."""
        layers = (n for n in spec.nodes if isinstance(n.op, ops.Conv | ops.Dense))
        return applicable(spec, (cls(n.inputs[0], n.name, (n.op,)) for n in layers))

    def change(self, spec: Architecture) -> Change:
        _check_order(spec, self.source, self.target)
        prefixes = [prefix(op) for op in self.branch]
        return _concatenated(spec, self.source, self.target, self.branch, prefixes)


def _check_branch(edit: Blend | Branch) -> None:
    kind = type(edit).__name__
    if not isinstance(edit.branch, tuple | list) or not edit.branch:
        raise ValueError(
            f"{kind}.branch must be a tuple of one or more ops; got {edit.branch!r}; for a branch "
            "without any, use SkipAdd or SkipConcat"
        )
    object.__setattr__(edit, "branch", tuple(edit.branch))
    for op in edit.branch:
        check_op(edit, "branch", op)


def _pairs(spec: Architecture) -> Iterator[tuple[str, str]]:
    return itertools.combinations([INPUT, *(node.name for node in spec.nodes)], 2)


def _check_order(spec: Architecture, source: str, target: str) -> None:
    spec.check_name(source)
    spec[target]  # a node, not the image
    names = [INPUT, *(node.name for node in spec.nodes)]
    if names.index(source) > names.index(target):
        raise ValueError(
            f"no branch from '{source}' to '{target}': the source must come before the target"
        )


def _skip(spec: Architecture, source: str, target: str) -> list[ops.Op]:
    """The op that pools the source to the target's size, if it takes one.

    Raises:
      ValueError: where no skip from `source` to `target` applies.
    """
    what = f"no skip from '{source}' to '{target}': "
    _check_order(spec, source, target)
    if source == target:
        raise ValueError(what + "the source must come before the target")
    if source in _without_weights(spec, target):
        raise ValueError(what + "there is no layer with weights between them to skip")
    old, new = spec.shapes[source], spec.shapes[target]
    if len(old) != len(new):
        raise ValueError(what + f"one is a feature map, the other a vector: {old} and {new}")
    if any(a < b for a, b in zip(old[:-1], new[:-1])):
        raise ValueError(what + f"the source is smaller: {old[:2]} and {new[:2]}")
    return [] if old[:-1] == new[:-1] else [pool_between(old, new)]


def pool_between(old: Shape, new: Shape) -> ops.MaxPool:
    """The pooling of maps `(height, width, ...)` by which a skip makes them as small as others.

    Its windows are one stride apart, and as large as it takes to reach the last row and column.
    """
    stride = (old[0] // new[0], old[1] // new[1])
    window = (old[0] - (new[0] - 1) * stride[0], old[1] - (new[1] - 1) * stride[1])
    return ops.MaxPool(window, stride)


def _without_weights(spec: Architecture, name: str) -> set[str]:
    """`name`, and the nodes that reach it only through activations, pooling and similar ops."""
    found = {name}
    while name != INPUT and isinstance(
        spec[name].op,
        ops.Activation | ops.Pool | ops.Dropout | ops.DropPath | ops.Identity | ops.PadChannels,
    ):
        (name,) = spec[name].inputs
        found.add(name)
    return found


def _chain(source: str, names: tuple[str, ...], branch: tuple[ops.Op, ...]) -> list[Node]:
    """The nodes of a branch."""
    return [
        Node(name, op, read)
        for name, op, read in zip(names, branch, (source, *names), strict=False)
    ]


def _ends(
    spec: Architecture, source: str, target: str, branch: tuple[ops.Op, ...]
) -> tuple[int, ...]:
    """The shape at the branch's end.

    Raises:
      ValueError: with the shapes, if an op cannot read what comes before.
    """
    shape = spec.shapes[source]
    for op in branch:
        try:
            shape = output_shape(op, (shape,))
        except ValueError as error:
            raise ValueError(
                f"no branch from '{source}' to '{target}': {ops.describe(op)} cannot read shape "
                f"{shape}: {error}"
            ) from None
    return shape


def _blended(
    spec: Architecture, source: str, target: str, branch: tuple[ops.Op, ...], prefixes: list[str]
) -> Change:
    shape = _ends(spec, source, target, branch)
    if shape != spec.shapes[target]:
        raise ValueError(
            f"no branch from '{source}' to '{target}': it would have shape {shape}, but "
            f"'{target}' has {spec.shapes[target]}"
        )
    *names, mix = fresh_names(spec, *prefixes, "mix")
    new = _chain(source, tuple(names), branch)
    new.append(Node(mix, ops.Mix(), (target, names[-1] if names else source)))
    return Change(spec, Architecture(spec.input_shape, insert_after(spec, target, new, by=mix)))


def _concatenated(
    spec: Architecture, source: str, target: str, branch: tuple[ops.Op, ...], prefixes: list[str]
) -> Change:
    if target == spec.output:
        raise ValueError(
            f"cannot concatenate to '{target}': it is the output, and the logits would become more "
            "than the classes"
        )
    shape = _ends(spec, source, target, branch)
    *names, concat = fresh_names(spec, *prefixes, "concat")
    # The growth spreads from a placeholder for the concatenation.
    placeholder = Node(concat, ops.Identity(), target)
    staged = Architecture(spec.input_shape, insert_after(spec, target, [placeholder], by=concat))
    growth = appended(spec.shapes[target][-1], shape[-1])
    try:
        gaps = spread(staged, concat, growth, asks_producer=False)
        tied = [name for name in (target, source) if name in gaps]
        if tied or (gaps[concat] != growth).any():
            name = tied[0] if tied else target
            raise ValueError(f"the width of '{name}' is tied to that of the concatenation")
    except ValueError as error:
        raise ValueError(f"cannot concatenate '{source}' to '{target}': {error}") from None
    join = _chain(source, tuple(names), branch)
    join.append(Node(concat, ops.Concat(), (target, names[-1] if names else source)))
    nodes: list[Node] = []
    for node in widened(staged, gaps):
        nodes.extend(join if node.name == concat else [node])
    after = Architecture(spec.input_shape, tuple(nodes))
    sources = growth_sources(staged, gaps)
    return Change(spec, after, sources)
