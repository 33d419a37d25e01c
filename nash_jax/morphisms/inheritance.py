"""Weights by name alone: what a search does without network morphisms (NASH, section 5.1.1).

"All weights from layers where no changes occur are inherited, whereas the weights of new or
modified layers are initialised by random", as Real et al. (2017) do.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from nash_jax.architecture import Architecture, Variables, ops, traced
from nash_jax.architecture.weights import arch_of, init_node, param_dtype, put_node


def inherit_by_name(
    before: Architecture, variables: Variables, after: Architecture, key: jax.Array
) -> Variables:
    """Variables of a spec that was edited: unchanged layers keep theirs, the others are drawn.

    A layer is unchanged if the node of its name has the same op and reads inputs of the same
    shapes, whatever has changed around it. The function is not preserved: even a new skip's lambda
    begins at 1/2, where neither branch alone is the old network. (At 1 the skip would still be a
    morphism. The paper does not say where lambda begins in this case.)

    Args:
      before: the spec that the variables are of.
      variables: its variables; not changed.
      after: the spec that was made of it.
      key: for what is drawn.

    >>> import nash_jax as nj
    >>> spec, key = nj.chain((8, 8, 1), 10, widths=(4, 6)), jax.random.key(0)
    >>> wider = nj.morphisms.Widen('conv2', 12).rewrite(spec)
    >>> variables = nj.init(spec, key)
    >>> inherited = inherit_by_name(spec, variables, wider, key)
    >>> inherited['params']['conv1'] is variables['params']['conv1']
    True
    """
    xp = jnp if traced((variables, key)) else np  # NumPy has nothing to compile
    old = {node.name: node for node in before.nodes}
    inherited: Variables = {"params": {}, "batch_stats": {}}
    for node in after.nodes:
        inputs = after.input_shapes(node)
        same = old.get(node.name)
        if same and same.op == node.op and before.input_shapes(same) == inputs:
            params = variables["params"].get(node.name, {})
            stats = variables.get("batch_stats", {}).get(node.name, {})
        else:
            drawn = init_node(after, node, key, param_dtype(variables), xp)
            if isinstance(node.op, ops.Mix):
                drawn[0]["lambda"] = drawn[0]["lambda"] / 2
            params, stats = jax.device_put(drawn, may_alias=False)
        put_node(inherited, node.name, params, stats)
    return inherited | arch_of(after, variables, param_dtype(variables), xp)
