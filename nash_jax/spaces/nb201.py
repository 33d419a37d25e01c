"""The topology space of NAS-Bench-201 (Dong and Yang, ICLR 2020)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar, TypeAlias

import numpy as np

from nash_jax.architecture import INPUT, Architecture, EdgeWeights, ops
from nash_jax.architecture.builders import Builder
from nash_jax.spaces.cells import relu_conv_norm
from nash_jax.spaces.choices import Genotype
from nash_jax.spaces.space import Stage
from nash_jax.spaces.supernet import Edge, Sharing, Supernet

#: What an edge may be, by its number in a genotype.
OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
#: The edges, `(from, to)`, by their places in a genotype: node 0 is the input, 3 the output.
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
#: Adds an edge behind a node: `(builder, node, place of the edge, channels) -> node`.
AddEdge: TypeAlias = Callable[[Builder, str, int, int], str]


@dataclasses.dataclass(frozen=True)
class NB201(Sharing):
    """A cell of four nodes, each the sum of what comes from all before it.

    A genotype has the op of each edge, in the order of `EDGES`. The cell stands 15 times in the
    network, with residual blocks that halve the map and double the channels after the 5th and 10th.

    Attributes:
      channels: of the first cells.
      cells: in each of the three stages.

    >>> space = NB201()
    >>> space.size, space.code((3, 0, 3, 1, 0, 1))
    (15625, '303101')
    """

    channels: int = 16
    cells: int = 5

    sizes: ClassVar = (5,) * 6
    usual: ClassVar = (3, 0, 3, 1, 0, 1)  # a residual block

    @staticmethod
    def genotype(text: str) -> Genotype:
        """A genotype in the benchmark's notation: `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`.

        Raises:
          ValueError: for anything else.

        >>> NB201.genotype('|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|')
        (3, 0, 0, 1, 0, 0)
        """
        words = [word for part in text.split("+") for word in part.strip("|").split("|")]
        wanted = [f"~{source}" for source, _ in EDGES]
        if len(words) != len(EDGES) or not all(map(str.endswith, words, wanted)):
            raise ValueError(
                "an architecture of NAS-Bench-201 must be like |op~0|+|op~0|op~1|+|op~0|op~1|op~2|;"
                f" got {text!r:.200}"
            )
        names = [word.rpartition("~")[0] for word in words]
        for name in names:
            if name not in OPS:
                raise ValueError(f"an op must be one of {', '.join(OPS)}; got {name!r}")
        return tuple(map(OPS.index, names))

    def canonical(self, genotype: Genotype) -> str:
        """An expression of the output, the same for isomorphic cells as the benchmark counts them.

        Skips are carried out, an edge that is zero or begins at a node of one zero edge is '#', and
        the terms of a sum are sorted: 6,466 classes. Sums of sums are not resolved, and so some
        cells of different classes are the same network.

        >>> NB201().canonical((3, 1, 0, 4, 0, 1))
        '#+#+0+(0)@avg_pool_3x3'
        """
        nodes = ["0"]
        for target in range(1, 4):
            terms = []
            for place, (source, end) in enumerate(EDGES):
                if end != target:
                    continue
                op, inner = OPS[genotype[place]], nodes[source]
                if op == "none" or inner == "#":
                    terms.append("#")
                else:
                    terms.append(inner if op == "skip_connect" else f"({inner})@{op}")
            nodes.append("+".join(sorted(terms)))
        return nodes[-1]

    @staticmethod
    def connected(genotype: Genotype) -> bool:
        """Whether the output of the cell depends on its input."""
        reached = {0}
        for place, (source, target) in sorted(enumerate(EDGES), key=lambda edge: edge[1][1]):
            if source in reached and OPS[genotype[place]] != "none":
                reached.add(target)
        return 3 in reached

    def build_one(self, genotype: Genotype, stage: Stage) -> Architecture:
        """The network of a genotype, the same for the search and the end."""
        del stage
        self.check(genotype)

        def add_edge(b: Builder, x: str, place: int, channels: int) -> str:
            return _edge(b, x, OPS[genotype[place]], channels)

        return self._stacked(Builder(), add_edge)

    @property
    def edges(self) -> tuple[Edge, ...]:
        """The edges of the supernet: `0_1` is from node 0 to node 1."""
        return tuple(Edge(f"{source}_{target}", OPS) for source, target in EDGES)

    def build_supernet(self, supernet: Supernet) -> Architecture:
        """The network of a supernet; normalisations in cells and blocks have no scale and bias."""

        def add_edge(b: Builder, x: str, place: int, channels: int) -> str:
            name, choices = supernet.edges[place]
            mixed = (_edge(b, x, choice, channels) for choice in choices)
            return b.add(ops.WeightedSum(name), *mixed)

        return self._stacked(Builder(ops.Standardize()), add_edge)

    def chosen(self, genotype: Genotype) -> dict[str, str]:
        """By edge, the op that a genotype has there."""
        return {edge.name: OPS[op] for edge, op in zip(self.edges, genotype)}

    def derive(self, weights: EdgeWeights, left: Supernet | None = None) -> Genotype:
        """For each edge the op with most weight; 'none' only where nothing else has any (DARTS)."""
        genotype = []
        for name, choices in (self.whole() if left is None else left).edges:
            found = np.array(weights[name], np.float64)
            if "none" in choices and found[others := np.array(choices) != "none"].any():
                found[~others] = -1
            genotype.append(OPS.index(choices[int(np.argmax(found))]))
        return tuple(genotype)

    def _stacked(self, b: Builder, add_edge: AddEdge) -> Architecture:
        x = INPUT if self.normalize is None else b.add(self.normalize, INPUT)
        channels = self.channels
        x = b.add(ops.BatchNorm(), b.add(ops.Conv(channels), x))
        for place in range(3):
            if place:
                channels *= 2
                x = _reduce(b, x, channels)
            for _ in range(self.cells):
                x = _cell(b, x, add_edge, channels)
        return b.classify(b.norm_relu(x), self.num_classes, self.input_shape)


def _cell(b: Builder, x: str, add_edge: AddEdge, channels: int) -> str:
    """A cell behind `x`; every edge is there, so that all counts are the benchmark's."""
    nodes = [x]
    for target in range(1, 4):
        terms = [
            add_edge(b, nodes[source], place, channels)
            for place, (source, end) in enumerate(EDGES)
            if end == target
        ]
        nodes.append(b.add(ops.Add(), *terms) if len(terms) > 1 else terms[0])
    return nodes[-1]


def _edge(b: Builder, x: str, op: str, channels: int) -> str:
    match op:
        case "none":
            return b.add(ops.Zero(), x)
        case "skip_connect":
            return b.add(ops.Identity(), x)
        case "avg_pool_3x3":
            return b.add(ops.AvgPool((3, 3), (1, 1), "SAME"), x)
        case _:
            return relu_conv_norm(b, x, channels, (1, 1) if op.endswith("1x1") else (3, 3))


def _reduce(b: Builder, x: str, channels: int) -> str:
    """A residual block of stride 2."""
    y = relu_conv_norm(b, x, channels, (3, 3), stride=2)
    y = relu_conv_norm(b, y, channels, (3, 3))
    shortcut = b.add(ops.Conv(channels, (1, 1)), b.add(ops.AvgPool((2, 2), (2, 2), "SAME"), x))
    return b.add(ops.Add(), shortcut, y)
