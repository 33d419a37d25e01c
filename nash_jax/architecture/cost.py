"""What a network costs, from its spec alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from nash_jax.architecture import ops
from nash_jax.architecture.shapes import arch_shapes, multiply_adds, param_shapes, stat_shapes
from nash_jax.architecture.spec import INPUT, Architecture, Node

#: Bytes of a number in float32.
_FLOAT32 = 4


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


def count_bytes(spec: Architecture) -> int:
    """Bytes of the weights in float32, with running statistics and a supernet's edge weights.

    >>> import nash_jax as nj
    >>> count_bytes(nj.chain((8, 8, 1), 10, widths=(16,)))  # 4 * (10426 + 2*16)
    41832
    """
    others = sum(
        math.prod(shape)
        for node in spec.nodes
        for shapes in (stat_shapes, arch_shapes)
        for shape in shapes(node.op, spec.input_shapes(node)).values()
    )
    return _FLOAT32 * (count_params(spec) + others)


def count_activation_bytes(spec: Architecture) -> int:
    """Most bytes that one image's tensors take at a time in inference, in float32.

    Nodes are run one after the other, each into memory of its own, and a tensor is let go of as
    soon as nothing reads it any more. XLA fuses nodes and needs less; the weights are not counted.

    >>> import nash_jax as nj
    >>> count_activation_bytes(nj.chain((8, 8, 1), 10, widths=(16,)))  # 4 * 2 * 8*8*16
    8192
    """
    left = {name: len(readers) for name, readers in spec.readers.items()}
    live, most = math.prod(spec.input_shape), 0
    for node in spec.nodes:
        live += math.prod(spec.shapes[node.name])
        most = max(most, live)
        for read in node.inputs:
            left[read] -= 1
            if left[read] == 0:
                live -= math.prod(spec.input_shape if read == INPUT else spec.shapes[read])
    return _FLOAT32 * most


def depth(spec: Architecture) -> int:
    """Convolutions and dense layers on the longest way from the image to the logits.

    >>> import nash_jax as nj
    >>> depth(nj.chain((8, 8, 1), 10, widths=(16,)))
    2
    """
    found = {INPUT: 0}
    for node in spec.nodes:
        found[node.name] = max(found[read] for read in node.inputs)
        found[node.name] += isinstance(node.op, ops.Conv | ops.Dense)
    return found[spec.output]


#: Objectives that a spec alone decides, by name; more may be added. The less the better.
COSTS: dict[str, Callable[[Architecture], float]] = {
    "params": count_params,
    "flops": count_flops,
    "bytes": count_bytes,
    "activation_bytes": count_activation_bytes,
    "depth": depth,
}


def exceeded(spec: Architecture, limits: Mapping[str, float]) -> tuple[str, float] | None:
    """The first cost of `COSTS` that is above its limit, and what it is; None if all are kept.

    Args:
      spec: the network.
      limits: the most that costs may be, by name.

    >>> import nash_jax as nj
    >>> exceeded(nj.chain((8, 8, 1), 10, widths=(16,)), {"depth": 1})
    ('depth', 2)
    """
    for name, most in limits.items():
        if (cost := COSTS[name](spec)) > most:
            return name, cost
    return None
