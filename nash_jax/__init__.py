"""Neural architecture search by network morphisms, as pure functions in JAX."""

from nash_jax import data, estimation, morphisms, reporting, runs, search, spaces, training
from nash_jax.architecture import (
    Architecture,
    Node,
    apply,
    chain,
    count_flops,
    count_params,
    from_json,
    init,
    ops,
    resnet,
    resnet50,
    to_json,
    vgg,
    wide_resnet,
)
from nash_jax.runs import Config, load, preset, run_search

__all__ = [
    "Architecture",
    "Config",
    "Node",
    "apply",
    "chain",
    "count_flops",
    "count_params",
    "data",
    "estimation",
    "from_json",
    "init",
    "load",
    "morphisms",
    "ops",
    "preset",
    "reporting",
    "resnet",
    "resnet50",
    "run_search",
    "runs",
    "search",
    "spaces",
    "to_json",
    "training",
    "vgg",
    "wide_resnet",
]
