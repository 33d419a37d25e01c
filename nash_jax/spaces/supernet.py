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
    Architecture,
    EdgeWeights,
    Node,
    Variables,
    ops,
    with_edge_weights,
)
from nash_jax.architecture.paths import path_nodes
from nash_jax.architecture.spec import needed
from nash_jax.checks import did_you_mean
from nash_jax.spaces.choices import Choices, Genotype
from nash_jax.spaces.space import Stage

_CODE = "supernet:"
NO_SUPERNET = (
    "{} has no supernet; take Darts, SubOptimal, CNAS, ENASMicro, NSGANetMicro, NB201 or NBMacro"
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
    path = {
        node.op.edge: variables["arch"][node.name]["weights"]
        for node in spec.nodes
        if isinstance(node.op, ops.WeightedSum)
    }
    nodes: list[Node] = []
    arrays: dict[str, dict[str, dict[str, Any]]] = {"params": {}, "batch_stats": {}}
    channels: dict[str, np.ndarray] = {}  # by tensor, which are left of it, if not all
    for node in path_nodes(spec, path):
        if node.name not in spec.shapes:
            channels[node.name] = np.zeros(0, int)  # zeros in a concatenation
            continue
        left, op = channels.get(node.inputs[0]), node.op
        if isinstance(op, ops.Concat):
            node, joined = _narrowed(spec, node, channels)
            if len(joined) < spec.shapes[node.name][-1]:
                channels[node.name] = joined
        elif left is not None and isinstance(op, ops.Channelwise):
            channels[node.name] = left
        elif left is not None and not _reads_all(op):
            raise ValueError(f"'{node.name}' cannot read a concatenation that becomes narrower")
        for collection, found in arrays.items():
            for name, array in variables.get(collection, {}).get(node.name, {}).items():
                if left is not None and (name == "kernel" or not _reads_all(op)):
                    array = jnp.take(array, left, -2 if name == "kernel" else -1)
                found.setdefault(node.name, {})[name] = array
        nodes.append(node)
    kept = needed(nodes, nodes[-1].name)
    names = {node.name for node in kept}
    arrays = {
        collection: {name: of[name] for name in of if name in names}
        for collection, of in arrays.items()
    }
    return Architecture(spec.input_shape, kept), arrays


def _narrowed(
    spec: Architecture, node: Node, channels: Mapping[str, np.ndarray]
) -> tuple[Node, np.ndarray]:
    """A concatenation without what has no channels, and which of its channels are left."""
    inputs, left, begin = [], [], 0
    for name, before in zip(node.inputs, spec[node.name].inputs):
        size = spec.shapes[before][-1]
        here = channels.get(name, np.arange(size))
        if len(here):
            inputs.append(name)
            left.append(begin + here)
        begin += size
    op = node.op if len(inputs) > 1 else ops.Identity()
    return Node(node.name, op, inputs), np.concatenate(left)


def _reads_all(op: ops.Op) -> bool:
    """Whether every unit of the op reads all channels."""
    return isinstance(op, ops.Dense) or (isinstance(op, ops.Conv) and op.groups == 1)
