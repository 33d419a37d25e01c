"""Wider: more channels in a convolution or units in a dense layer (NASH, Type II, eq. 4)."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from nash_jax.architecture import Architecture, Variables, ops
from nash_jax.morphisms.edits import both_halves, check_name, check_size
from nash_jax.morphisms.widths import Gaps, appended, carry, spread, widened_op


@dataclasses.dataclass(frozen=True)
class Widen:
    """Give the convolution or dense layer `node` `features` outputs.

    New units are drawn at random and read with zero weights. Where a sum or a mix ties the widths
    of several layers, all of them are widened.

    Preserved: evaluation and training mode (without dropout), up to the rounding of longer sums.
    """

    node: str
    features: int

    def __post_init__(self) -> None:
        check_name(self, "node")
        check_size(self, "features")

    def _grow(self, spec: Architecture) -> tuple[Architecture, Gaps]:
        """The grown spec, and the growth of its tensors."""
        op = spec[self.node].op
        if not isinstance(op, ops.Conv | ops.Dense):
            layers = [n.name for n in spec.nodes if isinstance(n.op, ops.Conv | ops.Dense)]
            raise ValueError(
                f"cannot widen '{self.node}', a {type(op).__name__}; choose one of "
                f"{', '.join(layers)}"
            )
        if self.features <= op.features:
            raise ValueError(
                f"widening '{self.node}' needs more than its {op.features} features; "
                f"got {self.features}"
            )
        try:
            gaps = spread(spec, self.node, appended(op.features, self.features - op.features))
        except ValueError as error:
            raise ValueError(f"cannot widen '{self.node}': {error}") from None
        nodes = [dataclasses.replace(n, op=widened_op(spec, n, gaps)) for n in spec.nodes]
        return Architecture(spec.input_shape, tuple(nodes)), gaps

    def grow(self, spec: Architecture) -> Architecture:
        return self._grow(spec)[0]

    def transfer(
        self, spec: Architecture, variables: Variables, key: jax.Array, calibration: Any = None
    ) -> Variables:
        grown, gaps = self._grow(spec)
        return carry(spec, grown, gaps, variables, key)

    __call__ = both_halves
