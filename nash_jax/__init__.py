"""Neural architecture search by network morphisms, as pure functions in JAX."""

from nash_jax import data, morphisms, runs, search, training
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
    to_json,
    wide_resnet,
)
from nash_jax.runs import Config, load, run_search

__all__ = [
    "Architecture",
    "Config",
    "Node",
    "apply",
    "chain",
    "count_flops",
    "count_params",
    "data",
    "from_json",
    "init",
    "load",
    "morphisms",
    "ops",
    "resnet",
    "run_search",
    "runs",
    "search",
    "to_json",
    "training",
    "wide_resnet",
]
