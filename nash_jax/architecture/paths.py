"""The part of a supernet that is left where each of its edges takes one choice, or none."""

from __future__ import annotations

import numpy as np

from nash_jax.architecture import ops
from nash_jax.architecture.spec import INPUT, Architecture, Node, needed
from nash_jax.architecture.weights import EdgeWeights


def path_nodes(spec: Architecture, path: EdgeWeights) -> tuple[Node, ...]:
    """The nodes that the output depends on, where weighted sums pass on what they take.

    They have the names that they have in the supernet. A concatenation keeps its width: what an
    edge takes away is zeros there, of new nodes that are not in the supernet.

    Args:
      spec: a supernet.
      path: by edge, a one at its choice and else zeros; all zeros for one that carries nothing.

    Raises:
      ValueError: if an edge has other weights, or nothing is left of what an op reads.
    """
    #: By tensor of the supernet, what stands for it; None: nothing.
    source: dict[str, str | None] = {INPUT: INPUT}
    nodes: list[Node] = []
    for node in spec.nodes:
        inputs = [source[name] for name in node.inputs]
        match node.op:
            case ops.WeightedSum(edge=edge):
                place = _chosen(edge, np.asarray(path[edge]))
                source[node.name] = None if place is None else inputs[place]
                continue
            case ops.Add():
                inputs = [name for name in inputs if name is not None]
                if len(inputs) < 2:
                    source[node.name] = inputs[0] if inputs else None
                    continue
            case ops.Concat() if any(inputs):
                for place, name in enumerate(inputs):
                    if name is None:
                        zeros = f"{node.name}.{place}"
                        masked = source[spec[node.inputs[place]].inputs[0]]
                        nodes.append(Node(zeros, ops.Zero(), str(masked)))
                        inputs[place] = zeros
            case _:
                pass
        if None in inputs:
            raise ValueError(f"nothing is left of what '{node.name}' reads")
        nodes.append(Node(node.name, node.op, [str(name) for name in inputs]))
        source[node.name] = node.name
    return needed(nodes, str(source[spec.output]))


def _chosen(edge: str, weights: np.ndarray) -> int | None:
    """The place of an edge's one; None if it has none."""
    chosen = np.flatnonzero(weights)
    if len(chosen) > 1 or (weights[chosen] != 1).any():
        raise ValueError(
            f"edge {edge} must have a weight of one and else zeros; got {weights.tolist()}"
        )
    return int(chosen[0]) if len(chosen) else None
