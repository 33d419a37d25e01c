"""Supernets: one network whose parts are all networks of a space, with shared weights.

Every edge of a supernet is a weighted sum of what it may be (`ops.WeightedSum`). With softmax
weights it is DARTS's mixed op; with a one in one place and zeros elsewhere, the supernet computes
what the network of one genotype does, and `subnet` takes that network out of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from nash_jax.architecture import (
    INPUT,
    Architecture,
    EdgeWeights,
    Node,
    Variables,
    ops,
    with_edge_weights,
)
from nash_jax.architecture.spec import needed
from nash_jax.checks import did_you_mean
from nash_jax.spaces.choices import Choices, Genotype
from nash_jax.spaces.space import Stage

_CODE = "supernet:"
NO_SUPERNET = (
    "{} has no supernet; take Darts, SubOptimal, ENASMicro, NSGANetMicro, NB201 or NBMacro"
)


class Edge(NamedTuple):
    """An edge of a supernet.

    Attributes:
      name: its name; edges of cells of one kind are one edge.
      choices: what it may be.
    """

    name: str
    choices: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Supernet:
    """The genotype of a supernet.

    Attributes:
      edges: its edges, each with the choices that are left.
      cells: how many cells it has; 0: as many as a network of the search.
      drops_skips: whether a skip may be dropped in training (P-DARTS).
    """

    edges: tuple[Edge, ...]
    cells: int = 0
    drops_skips: bool = False

    @property
    def choices(self) -> dict[str, tuple[str, ...]]:
        """By edge, the choices that are left."""
        return dict(self.edges)

    def __post_init__(self) -> None:
        for name, choices in self.edges:
            if not choices:
                raise ValueError(f"every edge needs a choice; {name} has none; leave one or more")


@dataclasses.dataclass(frozen=True)
class Sharing(Choices):
    """A space whose networks are parts of one supernet, to inherit from."""

    @property
    def edges(self) -> tuple[Edge, ...]:
        """The edges of the supernet with all choices; none: the space has no supernet."""
        raise NotImplementedError

    def chosen(self, genotype: Genotype) -> Mapping[str, str]:
        """By edge, which choice a genotype takes; an edge that is left out carries nothing."""
        raise NotImplementedError

    def derive(self, weights: EdgeWeights, left: Supernet | None = None) -> Genotype:
        """The genotype that edge weights of a supernet favour.

        Args:
          weights: of all edges, with the same sum for each edge: softmax weights, not logits.
          left: the supernet that they are of, if not the whole.
        """
        raise NotImplementedError

    def build_supernet(self, supernet: Supernet) -> Architecture:
        """The network of a supernet."""
        raise NotImplementedError

    def whole(self, allowed: Mapping[str, Sequence[str]] | None = None) -> Supernet:
        """The genotype of the supernet.

        Args:
          allowed: by edge, the choices that are left of it; edges that are not named keep all.

        Raises:
          ValueError: if the space has no supernet, there is no such edge or choice, or an edge
            would have no choice.
        """
        if not self.edges:
            raise ValueError(NO_SUPERNET.format(type(self).__name__))
        allowed = {} if allowed is None else allowed
        choices = {edge.name: edge.choices for edge in self.edges}
        for name, kept in allowed.items():
            if name not in choices:
                raise ValueError(
                    f"an edge must be one of {', '.join(choices)}; got {name!r}"
                    f"{did_you_mean(name, list(choices))}"
                )
            for choice in kept:
                if choice not in choices[name]:
                    raise ValueError(
                        f"edge {name} may be {', '.join(choices[name])}; got {choice!r}"
                        f"{did_you_mean(choice, choices[name])}"
                    )
            choices[name] = tuple(choice for choice in choices[name] if choice in kept)
        return Supernet(tuple(Edge(*each) for each in choices.items()))

    def supernet(self, allowed: Mapping[str, Sequence[str]] | None = None) -> Architecture:
        """The supernet, at the size of the search; arguments and errors are those of `whole`."""
        return self.build_supernet(self.whole(allowed))

    def one_hot(self, genotype: Genotype, left: Supernet | None = None) -> dict[str, np.ndarray]:
        """The edge weights with which a supernet computes what a genotype's network does.

        Raises:
          ValueError: if the supernet has not a choice that the genotype takes.
        """
        self.check(genotype)
        supernet, chosen = self.whole() if left is None else left, self.chosen(genotype)
        weights = {}
        for name, choices in supernet.edges:
            choice = chosen.get(name)
            if choice is not None and choice not in choices:
                raise ValueError(
                    f"edge {name} of this supernet may be {', '.join(choices)}; the genotype "
                    f"{self.code(genotype)} takes {choice!r}"
                )
            weights[name] = np.array([choice == each for each in choices], np.float32)
        return weights

    def subnet(
        self, variables: Variables, genotype: Genotype, left: Supernet | None = None
    ) -> tuple[Architecture, Variables]:
        """The network of a genotype with its share of a supernet's weights.

        It gives the logits, gradients and batch statistics that the supernet gives with the edge
        weights `one_hot(genotype)`. Its nodes have the names that they have in the supernet.

        Args:
          variables: of the supernet; not changed.
          genotype: which network.
          left: the supernet, if not the whole.

        Raises:
          ValueError: if the variables do not fit, or the supernet has not the genotype.

        >>> import jax, nash_jax as nj
        >>> space = nj.spaces.NB201(channels=4, cells=1)
        >>> variables = nj.init(space.supernet(), jax.random.key(0))
        >>> spec, _ = space.subnet(variables, space.start)
        >>> nj.count_params(space.supernet()), nj.count_params(spec)
        (24958, 10846)
        """
        supernet = self.whole() if left is None else left
        spec = self.build_supernet(supernet)
        return subnet(spec, with_edge_weights(spec, variables, self.one_hot(genotype, supernet)))

    def build(self, genotype: Genotype | Supernet, stage: Stage) -> Architecture:
        """The network of a genotype, or a supernet."""
        if isinstance(genotype, Supernet):
            return self.build_supernet(genotype)
        return self.build_one(genotype, stage)

    def build_one(self, genotype: Genotype, stage: Stage) -> Architecture:
        """The network of a genotype."""
        raise NotImplementedError

    def code(self, genotype: Genotype | Supernet) -> str:
        """A genotype as a short word; of a supernet, which choices each edge has, as bits."""
        if not isinstance(genotype, Supernet):
            return super().code(genotype)
        masks: list[str] = []
        for edge, (_, left) in zip(self.edges, genotype.edges):
            places = (edge.choices.index(choice) for choice in left)
            masks.append(f"{sum(1 << place for place in places):x}")
        size = [str(genotype.cells), "drops"[: 5 * genotype.drops_skips]]
        return _CODE + "-".join([".".join(masks), *filter(None, size)])

    def parse(self, code: str) -> Any:
        """The genotype of a short word.

        Raises:
          ValueError: if it is none of this space.
        """
        if not code.startswith(_CODE):
            return super().parse(code)
        bits, _, size = code.removeprefix(_CODE).partition("-")
        cells, _, drops = size.partition("-")
        if not cells.isdecimal() or drops not in ("", "drops"):
            raise ValueError(f"a supernet must end with its number of cells; got {code!r:.200}")
        masks = bits.split(".")
        if len(masks) != len(self.edges):
            raise ValueError(
                f"a supernet of {type(self).__name__} must have {len(self.edges)} edges; got "
                f"{code!r:.200}"
            )
        allowed = {}
        for edge, mask in zip(self.edges, masks):
            if not mask or not set(mask) <= set("0123456789abcdef"):
                raise ValueError(f"the choices of an edge must be hexadecimal bits; got {mask!r}")
            places = int(mask, 16)
            if places >> len(edge.choices):
                raise ValueError(f"edge {edge.name} has {len(edge.choices)} choices; got {mask!r}")
            allowed[edge.name] = [c for n, c in enumerate(edge.choices) if places >> n & 1]
        whole = self.whole(allowed)
        return dataclasses.replace(whole, cells=int(cells), drops_skips=bool(drops))


def subnet(spec: Architecture, variables: Variables) -> tuple[Architecture, Variables]:
    """The part of a supernet that its edge weights, zeros and ones, leave.

    Weighted sums disappear, also from sums and concatenations, and with them all that only they
    read. Behind a concatenation that becomes narrower, kernels lose the rows of what is missing.

    Args:
      spec: a supernet.
      variables: of it; not changed.

    Raises:
      ValueError: if an edge has other weights, or nothing is left of what an op reads.
    """
    left = _Left(spec, variables)
    for node in spec.nodes:
        left.add(node)
    return left.network()


def _reads_all(op: ops.Op) -> bool:
    """Whether every unit of the op reads all channels."""
    return isinstance(op, ops.Dense) or (isinstance(op, ops.Conv) and op.groups == 1)


class _Left:
    """What is left of a supernet, node by node."""

    def __init__(self, spec: Architecture, variables: Variables) -> None:
        self._spec, self._variables = spec, variables
        self._nodes: list[Node] = []
        #: By tensor of the supernet, what stands for it; None: nothing.
        self._source: dict[str, str | None] = {INPUT: INPUT}
        #: By tensor, which channels are left of it, if not all.
        self._channels: dict[str, np.ndarray] = {}
        self._arrays: dict[str, dict[str, dict[str, Any]]] = {"params": {}, "batch_stats": {}}

    def add(self, node: Node) -> None:
        match node.op:
            case ops.WeightedSum():
                self._source[node.name] = self._chosen(node)
                if (source := self._source[node.name]) in self._channels:
                    self._channels[node.name] = self._channels[str(source)]
            case ops.Add():
                sources = [s for i in node.inputs if (s := self._source[i]) is not None]
                if len(sources) > 1:
                    self._keep(node, sources)
                else:
                    self._source[node.name] = sources[0] if sources else None
            case ops.Concat():
                self._concatenate(node)
            case _:
                sources = [s for i in node.inputs if (s := self._source[i]) is not None]
                if len(sources) < len(node.inputs):
                    raise ValueError(f"nothing is left of what '{node.name}' reads")
                self._keep(node, sources)

    def _chosen(self, node: Node) -> str | None:
        weights = np.asarray(self._variables["arch"][node.name]["weights"])
        chosen = np.flatnonzero(weights)
        if len(chosen) > 1 or (weights[chosen] != 1).any():
            raise ValueError(
                f"edge {node.op.edge} must have a weight of one and else zeros; got "  # type: ignore[union-attr]
                f"{weights.tolist()}"
            )
        return self._source[node.inputs[chosen[0]]] if len(chosen) else None

    def _concatenate(self, node: Node) -> None:
        sources, channels, begin = [], [], 0
        for name in node.inputs:
            size = self._spec.shapes[name][-1]
            if (source := self._source[name]) is not None:
                sources.append(source)
                channels.append(begin + self._channels.get(name, np.arange(size)))
            begin += size
        if not sources:
            raise ValueError(f"nothing is left of what '{node.name}' reads")
        left = np.concatenate(channels)
        if len(left) < begin:
            self._channels[node.name] = left
        op = node.op if len(sources) > 1 else ops.Identity()
        self._put(Node(node.name, op, sources))

    def _keep(self, node: Node, sources: list[str]) -> None:
        """Take a node over; what it reads may have become narrower."""
        channels, op = self._channels.get(node.inputs[0]), node.op
        if channels is not None and isinstance(op, ops.Channelwise):
            self._channels[node.name] = channels
        elif channels is not None and not _reads_all(op):
            raise ValueError(f"'{node.name}' cannot read a concatenation that becomes narrower")
        for collection, arrays in self._arrays.items():
            for name, array in self._variables.get(collection, {}).get(node.name, {}).items():
                if channels is not None and (name == "kernel" or not _reads_all(op)):
                    array = jnp.take(array, channels, -2 if name == "kernel" else -1)
                arrays.setdefault(node.name, {})[name] = array
        self._put(Node(node.name, op, sources))

    def _put(self, node: Node) -> None:
        self._nodes.append(node)
        self._source[node.name] = node.name

    def network(self) -> tuple[Architecture, Variables]:
        """The nodes that the output depends on, and their arrays."""
        nodes = needed(self._nodes, str(self._source[self._spec.output]))
        names = {node.name for node in nodes}
        arrays = {
            collection: {name: of[name] for name in of if name in names}
            for collection, of in self._arrays.items()
        }
        return Architecture(self._spec.input_shape, nodes), arrays
