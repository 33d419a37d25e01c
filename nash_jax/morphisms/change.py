"""What an edit does to a network: the spec before and after, and where every old array entry goes.

The new weights, and the new state of an optimiser, follow from this alone.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np

from nash_jax.architecture import Architecture, Shape, Variables, ops
from nash_jax.architecture.weights import arch_of, init_node, param_dtype, put_node
from nash_jax.morphisms.identity import identity_node
from nash_jax.morphisms.primitives import rearrange

#: For some axes of an array (counted from the last), the source of its entries, as in `primitives`.
Sources: TypeAlias = Mapping[int, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Change:
    """The effect of an edit on a spec; nodes of the same name are the same node.

    Attributes:
      before: the spec.
      after: the spec that the edit makes of it.
      sources: by (node, array), how the array's entries move; other old arrays stay as they are.
      reshaped: by (node, array), a shape that the old array takes before its entries move.
      identities: the new nodes that start by passing their input on; others are drawn at random.
      steps: for a sequence of edits, the change that each makes; the fields above are empty then.
    """

    before: Architecture
    after: Architecture
    sources: Mapping[tuple[str, str], Sources] = dataclasses.field(default_factory=dict)
    reshaped: Mapping[tuple[str, str], Shape] = dataclasses.field(default_factory=dict)
    identities: frozenset[str] = frozenset()
    steps: tuple[Change, ...] = ()

    def __post_init__(self) -> None:
        _ = self.factors  # raises where no factors keep the function

    @functools.cached_property
    def factors(self) -> Mapping[tuple[str, str], float]:
        """By (node, array), what the old array is multiplied by.

        A flattened map of constant length (`ops.Flatten`) gives smaller values where it becomes
        wider, and the weights of the dense layers that read it are multiplied by the inverse.

        Raises:
          ValueError: if something other than a dense layer reads such a map.
        """
        found = {}
        for node in self.after.nodes:
            if not isinstance(node.op, ops.Flatten) or not node.op.length:
                continue
            if (before := self.before.shapes.get(node.name)) is None or self.steps:
                continue
            if (size := self.after.shapes[node.name]) != before:
                for reader in _dense_readers(self.after, node.name):
                    found[reader, "kernel"] = math.sqrt(size[0] / before[0])
        return found

    @functools.cached_property
    def touched(self) -> frozenset[str]:
        """The nodes whose arrays are new or not what they were."""
        old = {node.name: node for node in self.before.nodes}
        new = {n.name for n in self.after.nodes if n.name not in old or n.op != old[n.name].op}
        moved = {node for node, _ in (*self.sources, *self.reshaped)}
        return frozenset(new | moved).union(*(step.touched for step in self.steps))


def _dense_readers(spec: Architecture, name: str) -> list[str]:
    """The dense layers that read a vector, directly or through ops that pass its scale on."""
    found = []
    for reader in map(spec.__getitem__, spec.readers[name]):
        if isinstance(reader.op, ops.Dense):
            found.append(reader.name)
        elif isinstance(
            reader.op, ops.Dropout | ops.DropPath | ops.Identity | ops.Relu | ops.LeakyRelu
        ):
            found += _dense_readers(spec, reader.name)
        else:
            raise ValueError(
                f"the vector '{name}' has a constant length, and '{reader.name}', which reads it, "
                "is not dense"
            )
    return found


def moved(change: Change, node: str, name: str, array: Any, fresh: Any) -> Any:
    """An old array with its entries at their new places, zeros where an old unit meets new inputs.

    Args:
      change: what is done.
      node: the array's node.
      name: the array's name.
      array: the old array.
      fresh: the values of new units (the last axis), of the new shape.
    """
    if (node, name) in change.reshaped:
        array = array.reshape(change.reshaped[node, name])
    sources = change.sources.get((node, name), {})
    for axis in sorted(sources):  # the units last: they take fresh values for all inputs
        array = rearrange(array, sources[axis], axis, fresh if axis == -1 else 0)
    return array


def multiplied(change: Change, node: str, name: str, array: Any) -> Any:
    """An array times its factor, if it has one."""
    factor = change.factors.get((node, name))
    return array if factor is None else (array * factor).astype(array.dtype)


def carry(change: Change, variables: Variables, key: Any, xp: Any = jnp) -> Variables:
    """The variables of the spec after a change: old entries moved, new ones drawn (eqs. 2 to 6).

    Args:
      change: what is done.
      variables: of the spec before; not changed.
      key: for new units and nodes.
      xp: `numpy` or `jax.numpy`, the library of the touched nodes' arrays.
    """
    carried: Variables = {"params": {}, "batch_stats": {}}
    dtype = param_dtype(variables)
    for node in change.after.nodes:
        params = variables["params"].get(node.name, {})
        stats = variables.get("batch_stats", {}).get(node.name, {})
        if node.name in change.touched:
            inputs = change.after.input_shapes(node)
            if node.name in change.identities:
                params, stats = identity_node(node.op, inputs[0], dtype, xp)
            elif node.name not in change.before.shapes:
                params, stats = init_node(change.after, node, key, dtype, xp)
            else:
                units = (change.sources.get((node.name, name), {}) for name in (*params, *stats))
                grows = any((source.get(-1, np.zeros(1)) < 0).any() for source in units)
                fresh = init_node(change.after, node, key, dtype, xp) if grows else ({}, {})
                params, stats = (
                    {
                        name: multiplied(
                            change,
                            node.name,
                            name,
                            moved(change, node.name, name, array, new.get(name, 0)),
                        )
                        for name, array in old.items()
                    }
                    for old, new in zip((params, stats), fresh)
                )
        put_node(carried, node.name, params, stats)
    carried |= arch_of(change.after, variables, dtype, xp)
    return carried


def origins(change: Change, params: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Where the parameters of the touched nodes come from.

    Args:
      change: what is done.
      params: those of the spec before; their shapes matter alone.

    Returns:
      By node and array, an array of whole numbers in the new shape: 0 for a new entry, otherwise 1
      plus the flat index of the old entry that stands there. Nodes without any are left out.
    """
    places = {
        node: {
            name: np.arange(1, 1 + np.size(array)).reshape(np.shape(array))
            for name, array in arrays.items()
        }
        for node, arrays in params.items()
        if node in change.touched
    }
    for step in change.steps or (change,):
        places = {
            node: {name: moved(step, node, name, a, 0) for name, a in arrays.items()}
            for node, arrays in places.items()
            if node in step.after.shapes
        }
    return places
