"""The arrays of a network: drawing them, and checking that they fit a spec.

Variables are Flax's: `{'params': {node: {...}}, 'batch_stats': {node: {...}}}`, with the node's
name in the spec as the key. Nodes without arrays have no entry. A supernet has a third collection,
`arch`: the weights of its weighted sums.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from nash_jax.architecture import ops
from nash_jax.architecture.shapes import Shape, arch_shapes, param_shapes, stat_shapes
from nash_jax.architecture.spec import Architecture, Node
from nash_jax.jax_settings import usual_promotion

Variables: TypeAlias = dict[str, dict[str, dict[str, jax.Array]]]
#: By edge of a supernet, the weights of its choices, `[choices]`.
EdgeWeights: TypeAlias = Mapping[str, Any]

_ONES = ("scale", "var", "lambda")  # start at one; kernels are drawn; others start at zero


@usual_promotion
def init(spec: Architecture, key: jax.Array, dtype: Any = jnp.float32) -> Variables:
    """Fresh variables of a network.

    Kernels are normal. Their variance is `2 / fan_in` (He et al. 2015) in convolutions and
    `1 / fan_in` in dense layers, so that values keep their size from layer to layer; and
    `1 / (3 fan_in)`, as PyTorch has it, where batch normalisation alone reads the outputs. There
    the outputs' size does not matter, but the angle by which a step of SGD turns a kernel falls
    with the square of the kernel's length (van Laarhoven 2017): large kernels learn slowly.
    A node's draw depends on `key`, its name and what reads it.

    Args:
      spec: the architecture.
      key: a JAX random key.
      dtype: of every array, statistics included.

    >>> import jax, nash_jax as nj
    >>> variables = nj.init(nj.chain((8, 8, 1), 10, widths=(16,)), jax.random.key(0))
    >>> variables['params']['conv1']['kernel'].shape
    (3, 3, 1, 16)
    """
    check_key(key)
    xp = jnp if traced(key) else np  # NumPy has nothing to compile
    variables: Variables = {"params": {}, "batch_stats": {}}
    for node in spec.nodes:
        put_node(variables, node.name, *init_node(spec, node, key, dtype, xp))
    variables |= arch_of(spec, {}, dtype, xp)
    return variables if xp is jnp else jax.device_put(variables, may_alias=False)


def init_node(
    spec: Architecture, node: Node, key: jax.Array, dtype: Any, xp: Any = jnp
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fresh parameters and statistics of one node, drawn with `key` and the node's name.

    `xp` is the library of the arrays: `numpy` or `jax.numpy`.
    """
    key = jax.random.fold_in(key, zlib.crc32(node.name.encode()))
    inputs = spec.input_shapes(node)

    def array(name: str, shape: Shape) -> Any:
        if name == "kernel":
            scale = math.sqrt(_gain(spec, node) / math.prod(shape[:-1]))
            return (scale * normal(key, shape, xp)).astype(dtype)
        return (xp.ones if name in _ONES else xp.zeros)(shape, dtype)

    params = {name: array(name, s) for name, s in param_shapes(node.op, inputs).items()}
    stats = {name: array(name, s) for name, s in stat_shapes(node.op, inputs).items()}
    return params, stats


def _gain(spec: Architecture, node: Node) -> float:
    """The variance of a new kernel, times the number of inputs of a unit."""
    if not isinstance(node.op, ops.Conv):
        return 1
    readers = [spec[reader].op for reader in spec.readers[node.name]]
    norms = ops.BatchNorm | ops.Standardize
    normalised = readers and all(isinstance(op, norms) for op in readers)
    return 1 / 3 if normalised else 2


def normal(key: jax.Array, shape: Shape, xp: Any = jnp) -> Any:
    """Standard normal numbers, drawn in blocks of one size.

    XLA compiles a generator per size, for 0.2 to 0.4 s on CPU; this way there is one size.
    """
    size = math.prod(shape)
    numbers = np.arange(-(-size // _BLOCK))
    if xp is np:
        flat = np.concatenate([_block(key, number) for number in numbers])
    else:
        flat = jax.lax.map(lambda number: _block(key, number), numbers).reshape(-1)
    return flat[:size].reshape(shape)


_BLOCK = 1 << 15


@jax.jit
def _block(key: jax.Array, number: Any) -> jax.Array:
    return jax.random.normal(jax.random.fold_in(key, number), (_BLOCK,))


def put_node(
    variables: Variables, name: str, params: dict[str, Any], stats: dict[str, Any]
) -> None:
    """Enter one node's arrays into `variables`, leaving out what is empty."""
    for collection, arrays in (("params", params), ("batch_stats", stats)):
        if arrays:
            variables[collection][name] = arrays


def arch_of(spec: Architecture, old: Variables, dtype: Any, xp: Any = jnp) -> Variables:
    """The collection `arch`, empty if the spec has no weighted sum.

    Args:
      spec: the architecture.
      old: variables of it, or of one like it; what they have not is uniform.
      dtype: of what they have not.
      xp: the library of that: `numpy` or `jax.numpy`.
    """
    arch: dict[str, Any] = {}
    for node in spec.nodes:
        for name, shape in arch_shapes(node.op, spec.input_shapes(node)).items():
            weights = old.get("arch", {}).get(node.name, {}).get(name)
            if weights is None or jnp.shape(weights) != shape:
                weights = xp.full(shape, 1 / shape[0], dtype)
            arch[node.name] = {name: weights}
    return {"arch": arch} if arch else {}


def expected_shapes(spec: Architecture) -> dict[str, dict[str, dict[str, Shape]]]:
    """The shapes of a network's variables, in the structure of the variables."""
    shapes: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for node in spec.nodes:
        inputs = spec.input_shapes(node)
        put_node(shapes, node.name, param_shapes(node.op, inputs), stat_shapes(node.op, inputs))
        if arch := arch_shapes(node.op, inputs):
            shapes.setdefault("arch", {})[node.name] = arch
    return shapes


def check_variables(spec: Architecture, variables: Variables) -> None:
    """Raises `ValueError`, naming the first array that is missing, superfluous or misshapen."""
    collections = {"params", "batch_stats", "arch"}
    if not isinstance(variables, dict) or not set(variables) <= collections:
        raise ValueError(
            "variables must be {'params': {...}, 'batch_stats': {...}}, as nj.init makes them; "
            f"got {list(variables) if isinstance(variables, dict) else type(variables).__name__}"
        )
    for collection, arrays in variables.items():
        if not isinstance(arrays, dict) or not all(isinstance(a, dict) for a in arrays.values()):
            raise ValueError(
                f"variables[{collection!r}] must be {{node: {{name: array}}}}; got {arrays!r:.100}"
            )
    empty: dict[str, Any] = {"arch": {}}
    for collection, nodes in (empty | expected_shapes(spec)).items():
        wanted = {(node, name): shape for node, a in nodes.items() for name, shape in a.items()}
        given = variables.get(collection, {})
        found = {
            (n, name): jnp.shape(x) for n, arrays in given.items() for name, x in arrays.items()
        }
        for where in [*wanted, *found]:
            if wanted.get(where) != found.get(where):
                raise ValueError(
                    f"the variables do not fit the spec: {collection}/{'/'.join(where)} must have "
                    f"shape {wanted.get(where, 'none (the spec has no such array)')}; "
                    f"got {found.get(where, 'no such array')}"
                )


def with_edge_weights(spec: Architecture, variables: Variables, weights: EdgeWeights) -> Variables:
    """Variables of a supernet with other edge weights; pure, for `jax.grad` and `jax.jit`.

    Args:
      spec: the supernet.
      variables: of it, with or without edge weights; not changed.
      weights: of all edges.

    Raises:
      ValueError: if an edge has no weights, or not as many as choices.
    """
    arch = {}
    for node in spec.nodes:
        if isinstance(node.op, ops.WeightedSum):
            new = weights.get(node.op.edge)
            if new is None or jnp.shape(new) != (len(node.inputs),):
                raise ValueError(
                    f"edge {node.op.edge} must have weights of shape ({len(node.inputs)},); got "
                    f"{'none' if new is None else jnp.shape(new)}"
                )
            arch[node.name] = {"weights": jnp.asarray(new, param_dtype(variables))}
    return {**variables, "arch": arch}


def traced(tree: Any) -> bool:
    """Whether JAX is tracing these arrays, or the calling code: NumPy cannot be used then."""
    return any(isinstance(x, jax.core.Tracer) for x in (*jax.tree.leaves(tree), jnp.zeros(())))


def check_key(key: Any) -> None:
    """Raises `ValueError` unless `key` is one random key of JAX, typed or of the older kind."""
    dtype = getattr(key, "dtype", jnp.dtype(bool))
    typed = jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)
    if (not typed and dtype != jnp.uint32) or jnp.ndim(key) != (0 if typed else 1):
        raise ValueError(f"a random key is needed, such as jax.random.key(0); got {key!r:.100}")


def key_numbers(key: Any) -> np.ndarray:
    """A random key's numbers, which `jax.random` takes as well, in a tenth of the memory."""
    typed = jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)
    return np.array(jax.random.key_data(key) if typed else key)  # no view, which keeps the key


def param_dtype(variables: Variables) -> Any:
    """The floating-point type of the parameters (float32 if there are none)."""
    leaves = jax.tree.leaves(variables["params"])
    return jnp.result_type(*leaves) if leaves else jnp.float32
