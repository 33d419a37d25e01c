"""What a network is: ops, spec, weights, running, cost, JSON, drawing."""

from nash_jax.architecture import ops
from nash_jax.architecture.builders import chain, resnet, resnet50, vgg, wide_resnet
from nash_jax.architecture.cost import (
    COSTS,
    count_activation_bytes,
    count_bytes,
    count_flops,
    count_params,
    depth,
    exceeded,
)
from nash_jax.architecture.network import activations, apply, check_images
from nash_jax.architecture.numbering import numbered, renamed
from nash_jax.architecture.serialization import from_json, to_json
from nash_jax.architecture.shapes import Shape
from nash_jax.architecture.spec import INPUT, Architecture, Node
from nash_jax.architecture.weights import (
    EdgeWeights,
    Variables,
    check_key,
    check_variables,
    init,
    key_numbers,
    traced,
    with_edge_weights,
)

__all__ = [
    "Architecture",
    "COSTS",
    "EdgeWeights",
    "INPUT",
    "Node",
    "Shape",
    "Variables",
    "activations",
    "apply",
    "chain",
    "check_images",
    "check_key",
    "check_variables",
    "count_activation_bytes",
    "count_bytes",
    "count_flops",
    "count_params",
    "depth",
    "exceeded",
    "from_json",
    "init",
    "key_numbers",
    "numbered",
    "ops",
    "renamed",
    "resnet",
    "resnet50",
    "to_json",
    "traced",
    "vgg",
    "wide_resnet",
    "with_edge_weights",
]
