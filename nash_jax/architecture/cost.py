"""What a network costs, from its spec alone."""

from __future__ import annotations

import math

from nash_jax.architecture.shapes import multiply_adds, param_shapes
from nash_jax.architecture.spec import Architecture, Node


def node_params(spec: Architecture, node: Node) -> int:
    """Trainable parameters of one node."""
    return sum(map(math.prod, param_shapes(node.op, spec.input_shapes(node)).values()))


def count_params(spec: Architecture) -> int:
    """Trainable parameters; running statistics of batch normalisation do not count.

    >>> import nash_jax as nj
    >>> nj.count_params(nj.chain((8, 8, 1), 10, widths=(16,)))  # 3*3*16 + 2*16 + 1024*10 + 10
    10426
    """
    return sum(node_params(spec, node) for node in spec.nodes)


def count_flops(spec: Architecture) -> int:
    """Floating-point operations of one forward pass on one image: multiply-adds times two.

    Convolutions and dense layers count, as is usual; normalisation, activations, pooling and sums
    do not.

    >>> import nash_jax as nj
    >>> nj.count_flops(nj.chain((8, 8, 1), 10, widths=(16,)))  # 2 * (8*8 * 3*3*16 + 1024*10)
    38912
    """
    return 2 * sum(
        multiply_adds(node.op, spec.input_shapes(node), spec.shapes[node.name])
        for node in spec.nodes
    )
