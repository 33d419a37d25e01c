"""Skip connections, by addition (NASH, Type IV, eq. 6) and by concatenation (Type II, eq. 4).

The output of `target` is joined with that of `source`, and what read `target` reads the join.
Where the source's feature map is larger than the target's, max pooling brings it to the same height
and width. For addition, where the channels differ, a 1x1 convolution (between vectors: a dense
layer) makes them equal. The paper does not say what it does there.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from nash_jax.architecture import INPUT, Architecture, Node, Variables, ops
from nash_jax.architecture.spec import fresh_names, insert_after
from nash_jax.morphisms.edits import both_halves, check_name
from nash_jax.morphisms.widths import Gaps, appended, carry, spread, widened_op


@dataclasses.dataclass(frozen=True)
class SkipAdd:
    """Replace the output `f` of `target` by `lambda * f + (1 - lambda) * h`, `h` from `source`.

    Lambda is learnable and starts at 1.

    Preserved: evaluation and training mode, bit for bit, as long as `h` is finite.
    """

    source: str
    target: str

    def __post_init__(self) -> None:
        check_name(self, "source")
        check_name(self, "target")

    def grow(self, spec: Architecture) -> Architecture:
        branch = _branch_to_size(spec, self.source, self.target)
        last = branch[-1].name if branch else self.source
        features = spec.shapes[self.target][-1]
        project, mix = fresh_names(spec, "project", "mix")
        if spec.shapes[self.source][-1] != features:
            vector = len(spec.shapes[self.target]) == 1
            op = ops.Dense(features) if vector else ops.Conv(features, (1, 1))
            branch = [*branch, Node(project, op, (last,))]
            last = project
        new = [*branch, Node(mix, ops.Mix(), (self.target, last))]
        nodes = insert_after(spec, self.target, new, by=mix)
        return Architecture(spec.input_shape, nodes)

    def transfer(
        self, spec: Architecture, variables: Variables, key: jax.Array, calibration: Any = None
    ) -> Variables:
        return carry(spec, self.grow(spec), {}, variables, key)

    __call__ = both_halves


@dataclasses.dataclass(frozen=True)
class SkipConcat:
    """Replace the output of `target` by its concatenation with that of `source`.

    Whatever the concatenation's channels reach takes them as in widening: with zero weights.

    Preserved: evaluation and training mode (without dropout), up to the rounding of longer sums.
    """

    source: str
    target: str

    def __post_init__(self) -> None:
        check_name(self, "source")
        check_name(self, "target")

    def _grow(self, spec: Architecture) -> tuple[Architecture, Architecture, Gaps]:
        """The spec with a placeholder for the concatenation, the grown spec, and the growth."""
        branch = _branch_to_size(spec, self.source, self.target)
        if self.target == spec.output:
            raise ValueError(
                f"cannot concatenate to '{self.target}': it is the output, and the logits would "
                "become more than the classes"
            )
        (concat,) = fresh_names(spec, "concat")
        placeholder = Node(concat, ops.Identity(), (self.target,))
        staged = Architecture(
            spec.input_shape,
            insert_after(spec, self.target, [placeholder], by=concat),
        )
        new = appended(spec.shapes[self.target][-1], spec.shapes[self.source][-1])
        try:
            gaps = spread(staged, concat, new, asks_producer=False)
            tied = [name for name in (self.target, self.source) if name in gaps]
            if tied or (gaps[concat] != new).any():
                name = tied[0] if tied else self.target
                raise ValueError(f"the width of '{name}' is tied to that of the concatenation")
        except ValueError as error:
            raise ValueError(
                f"cannot concatenate '{self.source}' to '{self.target}': {error}"
            ) from None
        last = branch[-1].name if branch else self.source
        join = [*branch, Node(concat, ops.Concat(), (self.target, last))]
        nodes: list[Node] = []
        for node in staged.nodes:
            if node.name == concat:
                nodes.extend(join)
            else:
                nodes.append(dataclasses.replace(node, op=widened_op(staged, node, gaps)))
        return staged, Architecture(spec.input_shape, tuple(nodes)), gaps

    def grow(self, spec: Architecture) -> Architecture:
        return self._grow(spec)[1]

    def transfer(
        self, spec: Architecture, variables: Variables, key: jax.Array, calibration: Any = None
    ) -> Variables:
        staged, grown, gaps = self._grow(spec)
        return carry(staged, grown, gaps, variables, key)

    __call__ = both_halves


def _branch_to_size(spec: Architecture, source: str, target: str) -> list[Node]:
    """The node that pools the source to the target's size, if it takes one.

    Raises:
      ValueError: where no skip from `source` to `target` applies.
    """
    spec.check_name(source)
    what = f"no skip from '{source}' to '{target}': "
    names = [INPUT, *(node.name for node in spec.nodes)]
    spec[target]  # a node, not the image
    if names.index(source) >= names.index(target):
        raise ValueError(what + "the source must come before the target")
    if source in _without_weights(spec, target):
        raise ValueError(what + "there is no layer with weights between them to skip")
    old, new = spec.shapes[source], spec.shapes[target]
    if len(old) != len(new):
        raise ValueError(what + f"one is a feature map, the other a vector: {old} and {new}")
    if any(a < b for a, b in zip(old[:-1], new[:-1])):
        raise ValueError(what + f"the source is smaller: {old[:2]} and {new[:2]}")
    if old[:-1] == new[:-1]:
        return []
    stride = (old[0] // new[0], old[1] // new[1])
    # Windows one stride apart, as large as it takes to reach the last row and column.
    window = (old[0] - (new[0] - 1) * stride[0], old[1] - (new[1] - 1) * stride[1])
    (pool,) = fresh_names(spec, "pool")
    return [Node(pool, ops.MaxPool(window, stride), (source,))]


def _without_weights(spec: Architecture, name: str) -> set[str]:
    """The nodes that reach `name` through activations, pooling and the like alone, and `name`."""
    found = {name}
    while name != INPUT and isinstance(
        spec[name].op,
        ops.Activation | ops.Pool | ops.Dropout | ops.Identity | ops.PadChannels,
    ):
        (name,) = spec[name].inputs
        found.add(name)
    return found
