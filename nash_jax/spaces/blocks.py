"""Spaces whose cells have five blocks of two inputs: NASNet, ENAS and NSGA-Net."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from nash_jax.architecture import EdgeWeights, ops
from nash_jax.architecture.builders import Builder
from nash_jax.spaces.cells import KINDS, Cell, CellNode, CellSpace, Place, Read, mixed_op
from nash_jax.spaces.choices import Genotype
from nash_jax.spaces.supernet import Edge, Supernet

#: Blocks of a cell.
BLOCKS = 5
JOINS = ("add", "concat")
#: Of a block's inputs.
SIDES = ("first", "second")


def _sizes(num_ops: int, joins: int = 0) -> tuple[int, ...]:
    """The choices of a normal and a reduction cell."""
    of_block = (
        (n + 2, num_ops, n + 2, num_ops, *([joins] if joins else [])) for n in range(BLOCKS)
    )
    return 2 * tuple(size for block in of_block for size in block)


def _groups(of_block: int) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(range(of_block * n, of_block * (n + 1))) for n in range(2 * BLOCKS))


def _op_places(of_block: int) -> tuple[int, ...]:
    return tuple(n for n in range(2 * BLOCKS * of_block) if n % of_block in (1, 3))


@dataclasses.dataclass(frozen=True)
class ENASMicro(CellSpace):
    """The cells of ENAS (Pham et al. 2018): five ops, and states that nothing reads put together.

    A genotype has `(state, op, state, op)` for each block, first of the normal and then of the
    reduction cell. Both inputs of a block may be the same state.

    >>> ENASMicro().size == (5**5 * 720) ** 4
    True
    """

    cells: int = 17
    search_channels: int = 20

    op_names: ClassVar[tuple[str, ...]] = (
        *("sep_conv_3x3", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3", "skip_connect"),
    )
    sizes: ClassVar = _sizes(5)
    usual: ClassVar = BLOCKS * (0, 0, 1, 4) + BLOCKS * (0, 3, 1, 4)
    groups: ClassVar = _groups(4)
    op_places: ClassVar = _op_places(4)

    def cell(self, places: Sequence[int]) -> Cell:
        """The cell of one half of a genotype."""
        nodes, size = [], len(places) // BLOCKS
        for block in range(BLOCKS):
            state, op, other, other_op, *join = places[size * block : size * (block + 1)]
            reads = Read(self.op_names[op], state), Read(self.op_names[other_op], other)
            nodes.append(CellNode(reads, JOINS[join[0]] if join else "add"))
        return Cell.of(nodes)

    @property
    def edges(self) -> tuple[Edge, ...]:
        """The edges of the supernet.

        `normal_2_first` is the first input of state 2 in normal cells, `sep_conv_3x3~0` reads state
        0; `normal_out_2` has a weight of 1 if state 2 is in the output, and else of 0.
        """
        edges = []
        for kind in KINDS:
            for state in range(2, BLOCKS + 2):
                reads = tuple(f"{op}~{read}" for read in range(state) for op in self.op_names)
                edges += [Edge(f"{kind}_{state}_{side}", reads) for side in SIDES]
            edges += [Edge(f"{kind}_out_{state}", ("used",)) for state in range(2, BLOCKS + 2)]
        return tuple(edges)

    def mixed_cell(
        self, supernet: Supernet, b: Builder, inputs: list[str], place: Place
    ) -> list[str]:
        """Add a cell whose blocks have every op behind every state, for each of their inputs."""
        states = list(inputs)
        for state in range(2, BLOCKS + 2):
            joined = []
            for side in SIDES:
                name = f"{place.kind}_{state}_{side}"
                parts = (choice.partition("~") for choice in supernet.choices[name])
                reads = [(op, int(read), states[int(read)]) for op, _, read in parts]
                joined.append(mixed_op(b, supernet, name, reads, place))
            states.append(b.add(ops.Add(), *joined))
        return [
            b.add(ops.WeightedSum(f"{place.kind}_out_{state}"), states[state])
            for state in range(2, BLOCKS + 2)
        ]

    def chosen(self, genotype: Genotype) -> dict[str, str]:
        """By edge, what a genotype has there."""
        found = {}
        for kind, cell in zip(KINDS, self.cells_of(genotype)):
            for state, node in enumerate(cell.nodes, start=2):
                for side, read in zip(SIDES, node.reads):
                    found[f"{kind}_{state}_{side}"] = f"{read.op}~{read.state}"
            found |= {f"{kind}_out_{state}": "used" for state in cell.output}
        return found

    def derive(self, weights: EdgeWeights, left: Supernet | None = None) -> Genotype:
        """For each input of each block, the choice with most weight."""
        genotype = []
        for name, choices in (self.whole() if left is None else left).edges:
            if not name.rpartition("_")[0].endswith("_out"):
                op, _, state = choices[int(np.argmax(weights[name]))].partition("~")
                genotype += [int(state), self.op_names.index(op)]
        return tuple(genotype)


@dataclasses.dataclass(frozen=True)
class NASNet(ENASMicro):
    """The cells of NASNet (Zoph et al. 2018): 13 ops, and blocks that add or concatenate.

    A genotype has `(state, op, state, op, join)` for each block. Where a block concatenates, a 1x1
    convolution makes it as wide as the others.

    >>> NASNet().size == (720**2 * (13**2 * 2)**5) ** 2
    True
    """

    op_names: ClassVar[tuple[str, ...]] = (
        *("skip_connect", "conv_3x1_1x3", "conv_7x1_1x7", "dil_conv_3x3", "avg_pool_3x3"),
        *("max_pool_3x3", "max_pool_5x5", "max_pool_7x7", "conv_1x1", "conv_3x3"),
        *("sep_conv_3x3", "sep_conv_5x5", "sep_conv_7x7"),
    )
    sizes: ClassVar = _sizes(13, len(JOINS))
    usual: ClassVar = BLOCKS * (0, 10, 1, 0, 0) + BLOCKS * (0, 5, 1, 0, 0)
    groups: ClassVar = _groups(5)
    op_places: ClassVar = _op_places(5)

    @property
    def edges(self) -> tuple[Edge, ...]:
        """None: a block that concatenates has weights that one that adds has not."""
        return ()


@dataclasses.dataclass(frozen=True)
class NSGANetMicro(ENASMicro):
    """The cells of NSGA-Net's micro space (Lu et al. 2019): 9 ops, and channels that grow by steps.

    Attributes:
      filter_increment: how many more channels there are from a reduction on; 0: twice as many.

    >>> NSGANetMicro().size == (9**5 * 720) ** 4
    True
    """

    cells: int = 20
    search_channels: int = 16
    filter_increment: int = 16

    op_names: ClassVar[tuple[str, ...]] = (
        *("max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5"),
        *("dil_conv_3x3", "dil_conv_5x5", "sep_conv_7x7", "conv_7x1_1x7"),
    )
    sizes: ClassVar = _sizes(9)
    usual: ClassVar = BLOCKS * (0, 3, 1, 2) + BLOCKS * (0, 0, 1, 2)

    @property
    def increment(self) -> int:
        """How many channels a reduction adds; 0: as many as there are."""
        return self.filter_increment
