"""Neural architecture search by network morphisms, as pure functions in JAX."""

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
    to_json,
)

__all__ = [
    "Architecture",
    "Node",
    "apply",
    "chain",
    "count_flops",
    "count_params",
    "from_json",
    "init",
    "ops",
    "to_json",
]
