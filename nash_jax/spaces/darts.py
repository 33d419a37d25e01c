"""The space of DARTS (Liu, Simonyan and Yang, ICLR 2019), and others of its family."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Hashable, Iterable, Sequence
from typing import ClassVar

import numpy as np

from nash_jax.architecture import Architecture, EdgeWeights, ops
from nash_jax.architecture.builders import Builder
from nash_jax.spaces.cells import (
    KINDS,
    Cell,
    CellNode,
    CellSpace,
    Place,
    Read,
    cell_network,
    check_op,
    mixed_op,
)
from nash_jax.spaces.choices import Genotype
from nash_jax.spaces.space import Stage
from nash_jax.spaces.supernet import Edge, Supernet

#: By node, up to the sixth, the pairs of different states that it may read.
PAIRS = tuple(tuple(itertools.combinations(range(node + 2), 2)) for node in range(6))


def _sizes(nodes: int) -> tuple[int, ...]:
    """The numbers of choices of two cells of so many nodes, with seven ops."""
    return 2 * tuple(size for pairs in PAIRS[:nodes] for size in (len(pairs), 7, 7))


@dataclasses.dataclass(frozen=True)
class Darts(CellSpace):
    """Two cells of four nodes, each the sum of two different states, behind an op each.

    A genotype has three numbers for each node, first of the normal and then of the reduction cell:
    the pair of states in `PAIRS`, and the ops of the two. The output has all four nodes.

    >>> Darts().size == (180 * 7**8) ** 2
    True
    """

    #: Nodes of a cell.
    nodes: ClassVar = 4

    op_names: ClassVar[tuple[str, ...]] = (
        *("max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5"),
        *("dil_conv_3x3", "dil_conv_5x5"),
    )
    sizes: ClassVar[tuple[int, ...]] = _sizes(4)
    usual: ClassVar[tuple[int, ...]] = 4 * (0, 3, 2) + 4 * (0, 0, 2)
    groups: ClassVar[tuple[tuple[int, ...], ...]] = tuple(
        (3 * n, 3 * n + 1, 3 * n + 2) for n in range(8)
    )
    op_places: ClassVar = tuple(n for n in range(24) if n % 3)

    @classmethod
    def genotype(
        cls, normal: Iterable[tuple[str, int]], reduce: Iterable[tuple[str, int]]
    ) -> Genotype:
        """A genotype in DARTS's notation: `(op, state)` twice for each node.

        Args:
          normal: the pairs of the normal cell: eight, where a cell has four nodes.
          reduce: those of the reduction cell.

        Raises:
          ValueError: if there are not as many, or a pair is impossible.
        """
        return cls._cell_genotype("normal", list(normal)) + cls._cell_genotype(
            "reduce", list(reduce)
        )

    @classmethod
    def _cell_genotype(cls, name: str, pairs: Sequence[tuple[str, int]]) -> Genotype:
        if len(pairs) != 2 * cls.nodes:
            raise ValueError(
                f"{name} must have {2 * cls.nodes} pairs (op, state); got {len(pairs)}"
            )
        genotype: list[int] = []
        for node in range(cls.nodes):
            reads = sorted(pairs[2 * node : 2 * node + 2], key=lambda read: read[1])
            states = tuple(state for _, state in reads)
            for op, _ in reads:
                check_op(op, cls.op_names)
            if states not in PAIRS[node]:
                raise ValueError(
                    f"node {node} of {name} must read two different states from 0 to {node + 1}; "
                    f"got {states[0]} and {states[1]}"
                )
            genotype += [PAIRS[node].index(states), *(cls.op_names.index(op) for op, _ in reads)]
        return tuple(genotype)

    def cell(self, places: Sequence[int]) -> Cell:
        """The cell of one half of a genotype."""
        nodes = []
        for node in range(self.nodes):
            pair, *chosen = places[3 * node : 3 * node + 3]
            first, second = map(Read, (self.op_names[op] for op in chosen), PAIRS[node][pair])
            nodes.append(CellNode((first, second)))
        return Cell.of(nodes, range(2, self.nodes + 2))

    @property
    def edges(self) -> tuple[Edge, ...]:
        """The edges of the supernet: `normal_0_2` is from state 0 to state 2 in normal cells."""
        return tuple(
            Edge(f"{kind}_{state}_{node + 2}", ("none", *self.op_names))
            for kind in KINDS
            for node in range(self.nodes)
            for state in range(node + 2)
        )

    def mixed_cell(
        self, supernet: Supernet, b: Builder, inputs: list[str], place: Place
    ) -> list[str]:
        """Add a cell whose nodes sum over all edges from what is before them."""
        states = list(inputs)
        for node in range(2, self.nodes + 2):
            mixed = []
            for state, x in enumerate(states):
                name = f"{place.kind}_{state}_{node}"
                reads = [(op, state, x) for op in supernet.choices[name]]
                mixed.append(mixed_op(b, supernet, name, reads, place))
            states.append(b.add(ops.Add(), *mixed))
        return states[2:]

    def chosen(self, genotype: Genotype) -> dict[str, str]:
        """By edge, the op that a genotype has there."""
        return {
            f"{kind}_{read.state}_{number}": read.op
            for kind, cell in zip(KINDS, self.cells_of(genotype))
            for number, node in enumerate(cell.nodes, start=2)
            for read in node.reads
        }

    def derive(self, weights: EdgeWeights, left: Supernet | None = None) -> Genotype:
        """For each node the two edges whose best op but 'none' has most weight (section 2.4)."""
        choices = dict((self.whole() if left is None else left).edges)
        pairs: dict[str, list[tuple[str, int]]] = {kind: [] for kind in KINDS}
        for kind in KINDS:
            for node in range(2, self.nodes + 2):
                best = []
                for state in range(node):
                    name = f"{kind}_{state}_{node}"
                    found = zip(np.asarray(weights[name]).tolist(), choices[name])
                    real = [(weight, op) for weight, op in found if op != "none"]
                    if real:
                        weight, op = max(real, key=lambda each: each[0])
                        best.append((-weight, state, op))
                if len(best) < 2:
                    raise ValueError(
                        f"node {node} of the {kind} cell needs two edges with an op other than "
                        f"none; got {len(best)}"
                    )
                pairs[kind] += [(op, state) for _, state, op in sorted(best)[:2]]
        return self.genotype(**pairs)


@dataclasses.dataclass(frozen=True)
class SubOptimal(Darts):
    """DARTS's cells with plain convolutions and large kernels (Yang, Esperança and Carlucci 2020).

    Their intentionally worse set of ops (section 5.2), to see what the choice of ops is worth.
    """

    op_names: ClassVar[tuple[str, ...]] = (
        *("conv_1x1", "conv_3x3", "conv_7x7", "conv_11x11", "max_pool_3x3", "max_pool_5x5"),
        "skip_connect",
    )
    usual: ClassVar = 4 * (0, 1, 6) + 4 * (0, 4, 6)


@dataclasses.dataclass(frozen=True)
class CNAS(Darts):
    """The cells of CNAS (Weng et al. 2019): six nodes; channels are weighted and shuffled.

    As Yang, Esperança and Carlucci ran it: six cells in the search. By a slip the published code
    normalises with an epsilon of 0 or 1; here it is that of all spaces.

    >>> CNAS().size == (1 * 3 * 6 * 10 * 15 * 21 * 7**12) ** 2
    True
    """

    search_cells: int = 6

    nodes: ClassVar = 6
    op_names: ClassVar[tuple[str, ...]] = (
        *("skip_connect", "channel_weights", "avg_pool_3x3", "max_pool_3x3", "sep_conv_3x3"),
        *("dil_conv_3x3", "shuffle_conv_3x3"),
    )
    sizes: ClassVar = _sizes(6)
    usual: ClassVar = 6 * (0, 4, 0) + 6 * (0, 3, 0)
    groups: ClassVar = tuple((3 * n, 3 * n + 1, 3 * n + 2) for n in range(12))
    op_places: ClassVar = tuple(n for n in range(36) if n % 3)

    def __post_init__(self) -> None:
        for name in ("channels", "search_channels"):
            if (value := getattr(self, name)) % 4:
                raise ValueError(
                    f"{name} must be a multiple of 4 in CNAS's cells, which shuffle groups of "
                    f"them; got {value}; take {4 * (value // 4 + 1)}"
                )


@dataclasses.dataclass(frozen=True)
class MacroDarts(Darts):
    """DARTS's cells, and how many there are, where they reduce and how wide they are.

    Four places more than in `Darts`: numbers of `CELLS`, `FIRST`, `SECOND` and `WIDTHS`. The
    network of the search is the final one.
    """

    #: How many cells.
    CELLS: ClassVar = (5, 8, 11, 14, 17, 20)
    #: After which share of the cells the map is halved first, and then again.
    FIRST: ClassVar = (1 / 4, 1 / 3, 5 / 12)
    SECOND: ClassVar = (7 / 12, 2 / 3, 3 / 4)
    #: Channels of each node in the first cells.
    WIDTHS: ClassVar = (8, 12, 16, 24, 36, 48)

    sizes: ClassVar = (*Darts.sizes, 6, 3, 3, 6)
    usual: ClassVar = (*Darts.usual, 1, 1, 1, 2)
    groups: ClassVar = (*Darts.groups, *((len(Darts.sizes) + n,) for n in range(4)))

    def canonical(self, genotype: Genotype) -> Hashable:
        """The same for genotypes that differ in the order of nodes alone."""
        cells, macro = genotype[: len(Darts.sizes)], genotype[len(Darts.sizes) :]
        return super().canonical(cells), macro

    @property
    def edges(self) -> tuple[Edge, ...]:
        """None: networks of different depths share no weights."""
        return ()

    def build_one(self, genotype: Genotype, stage: Stage) -> Architecture:
        """The network of a genotype, the same for the search and the end."""
        del stage
        self.check(genotype)
        *places, cells, first, second, width = genotype
        num = self.CELLS[cells]
        halved = int(num * self.FIRST[first])
        return cell_network(
            *self.cells_of(tuple(places)),
            channels=self.WIDTHS[width],
            cells=num,
            input_shape=self.input_shape,
            num_classes=self.num_classes,
            normalize=self.normalize,
            reductions={halved, max(halved + 1, int(num * self.SECOND[second]))},
        )
