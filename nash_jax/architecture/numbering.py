"""Names of nodes by their places: graphs that are equal but for names share a compiled program."""

from __future__ import annotations

from nash_jax.architecture.spec import INPUT, Architecture, Node
from nash_jax.architecture.weights import Variables


def numbered(spec: Architecture) -> tuple[Architecture, dict[str, str]]:
    """The same graph with its nodes named by their places, and the new name of each node.

    >>> import nash_jax as nj
    >>> [node.name for node in numbered(nj.chain((8, 8, 1), 10, widths=(16,)))[0].nodes][:2]
    ['node00000', 'node00001']
    """
    names = {node.name: f"node{place:05}" for place, node in enumerate(spec.nodes)}
    sources = {INPUT: INPUT} | names
    nodes = [Node(names[n.name], n.op, [sources[i] for i in n.inputs]) for n in spec.nodes]
    return Architecture(spec.input_shape, tuple(nodes)), names


def renamed(variables: Variables, names: dict[str, str]) -> Variables:
    """Variables with the nodes' names replaced."""
    return {
        collection: {names[node]: arrays for node, arrays in nodes.items()}
        for collection, nodes in variables.items()
    }
