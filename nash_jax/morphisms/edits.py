"""Edits: morphisms as data, which can be printed, stored as JSON and replayed.

An edit says what it does to a spec, as a `Change`. Its two halves follow from that: `rewrite(spec)`
edits the architecture, and `transfer(spec, variables, key)` gives the new architecture its weights.
Calling the edit does both.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from nash_jax.architecture import (
    Architecture,
    Variables,
    activations,
    check_images,
    check_key,
    check_variables,
    numbered,
    ops,
    renamed,
    traced,
)
from nash_jax.architecture.serialization import tagged, untagged
from nash_jax.jax_settings import usual_promotion
from nash_jax.morphisms.change import Change, carry
from nash_jax.morphisms.primitives import rebase_batch_norm

E = TypeVar("E", bound="Edit")


class Edit(abc.ABC):
    """What every edit can do. An edit defines `sites` and `change`, and few define more."""

    @classmethod
    @abc.abstractmethod
    def sites(cls, spec: Architecture) -> Iterator[Self]:
        """Everywhere it applies: an edit for every place and, per place, a few usual sizes."""

    @abc.abstractmethod
    def change(self, spec: Architecture) -> Change:
        """What it does to a spec. Raises `ValueError` where it does not apply, saying why."""

    def check(self, spec: Architecture, variables: Variables) -> None:
        """Raises `ValueError` where the edit is exact only for some weights, and not for these."""
        return

    def weights(self, change: Change, variables: Variables, key: Any, xp: Any) -> Variables:
        """The new variables; `xp` is the library of the touched arrays: `numpy` or `jax.numpy`."""
        return carry(change, variables, key, xp)

    def rewrite(self, spec: Architecture) -> Architecture:
        """The spec half. Raises `ValueError` if it does not apply, saying why and what does."""
        return self._change_or_advice(spec).after

    def _change_or_advice(self, spec: Architecture) -> Change:
        """As `change`; an error's text also names a few edits of this kind that do apply."""
        try:
            return self.change(spec)
        except ValueError as error:
            others = ", ".join(map(repr, itertools.islice(type(self).sites(spec), 3)))
            advice = others or f"no {type(self).__name__} in this network"
            raise ValueError(f"{error}; what applies: {advice}") from None

    @usual_promotion
    def transfer(
        self, spec: Architecture, variables: Variables, key: jax.Array, calibration: Any = None
    ) -> Variables:
        """The weight half: variables of `rewrite(spec)` that give the outputs that `spec` gave.

        Pure: runs under `jax.jit`, `jax.vmap` and `jax.grad` and changes nothing in `variables`.

        Args:
          spec: the architecture before the edit.
          variables: its variables. An exponential average of them is transferred likewise, with the
            same key.
          key: for the new weights.
          calibration: images `[batch, height, width, channels]` whose statistics inserted batch
            normalisations start with, so that training mode is preserved on these images too.
        """
        change = self.change(spec)
        new = self.weights(change, variables, key, jnp)
        return _calibrated(change, new, key, calibration)

    @usual_promotion
    def __call__(
        self, spec: Architecture, variables: Variables, key: jax.Array, calibration: Any = None
    ) -> tuple[Architecture, Variables]:
        """Both halves: the new architecture and its variables.

        Arguments and errors are those of `rewrite` and `transfer`. Concrete arrays are rearranged
        by NumPy, which compiles nothing; arrays that the edit does not touch are not copied.
        """
        check_variables(spec, variables)
        check_key(key)
        change = self._change_or_advice(spec)
        leaves = jax.tree.leaves((variables, key))
        if traced(leaves):
            new = self.weights(change, variables, key, jnp)
            return change.after, _calibrated(change, new, key, calibration)
        self.check(spec, variables)
        devices = {d for x in leaves if isinstance(x, jax.Array) for d in x.sharding.device_set}
        if len(devices) > 1:
            new = _placed_like(change, variables, self.weights(change, variables, key, jnp))
        else:
            new = self.weights(change, _on_host(variables, change.touched), key, np)
            (device,) = devices or {None}
            new = jax.tree.map(lambda x: _on_device(x, device), new)
        return change.after, _calibrated(change, new, key, calibration)


def _on_host(variables: Variables, touched: frozenset[str]) -> Any:
    """The variables, those of the touched nodes as NumPy arrays."""
    return {
        collection: {
            node: {name: np.asarray(x) for name, x in arrays.items()} if node in touched else arrays
            for node, arrays in nodes.items()
        }
        for collection, nodes in variables.items()
    }


def _on_device(x: Any, device: jax.Device | None) -> jax.Array:
    """A NumPy array as a JAX array, by a copy that compiles nothing."""
    if isinstance(x, jax.Array):
        return x
    elsewhere = device is not None and device != jax.devices()[0]
    return jax.device_put(x, device if elsewhere else None, may_alias=False)


def _placed_like(change: Change, variables: Variables, new: Variables) -> Variables:
    """New arrays on the devices of the old, split as they were along axes that still divide.

    Arrays of new nodes are put whole on every device.
    """
    shardings = [x.sharding for x in jax.tree.leaves(variables) if isinstance(x, jax.Array)]
    named = [s for s in shardings if isinstance(s, jax.sharding.NamedSharding)]
    if not named:
        return new
    whole = jax.sharding.NamedSharding(named[0].mesh, jax.sharding.PartitionSpec())

    def place(collection: str, node: str, name: str, x: Any) -> Any:
        old = variables.get(collection, {}).get(node, {}).get(name)
        if old is None and isinstance(x.sharding, jax.sharding.NamedSharding):
            return x  # computed of arrays that are split, on their devices
        sharding = getattr(old, "sharding", whole)
        if not isinstance(sharding, jax.sharding.NamedSharding):
            sharding = whole
        axes = []
        for size, axis in zip(x.shape, sharding.spec):
            names = (axis,) if isinstance(axis, str) else axis or ()
            parts = int(np.prod([sharding.mesh.shape[n] for n in names]))
            axes.append(axis if size % parts == 0 else None)
        fitting = jax.sharding.PartitionSpec(*axes)
        return jax.device_put(x, jax.sharding.NamedSharding(sharding.mesh, fitting))

    return {
        collection: {
            node: {
                name: place(collection, node, name, x) if node in change.touched else x
                for name, x in arrays.items()
            }
            for node, arrays in nodes.items()
        }
        for collection, nodes in new.items()
    }


#: Makes the key of calibration differ from those of new weights, which come from nodes' names.
_CALIBRATION = 0x63616C69


def _calibrated(change: Change, variables: Variables, key: Any, calibration: Any) -> Variables:
    new = tuple(
        node.name
        for node in change.after.nodes
        if isinstance(node.op, ops.BatchNorm) and node.name not in change.before.shapes
    )
    if calibration is None or not new:
        return variables
    dropout_key = jax.random.fold_in(key, _CALIBRATION)
    return calibrate(change.after, variables, calibration, new, dropout_key)


@usual_promotion
def calibrate(
    spec: Architecture, variables: Variables, images: Any, nodes: Iterable[str], key: jax.Array
) -> Variables:
    """Set batch normalisations to the statistics of `images`, keeping the function (eq. 3).

    Evaluation mode is unchanged for every image, and in training mode the nodes compute on this
    batch what they compute in evaluation.

    Args:
      spec: the architecture.
      variables: its variables; not changed.
      images: `[batch, height, width, channels]`.
      nodes: names of batch normalisations.
      key: for dropout, where the network has any.

    Returns:
      The variables, with new arrays for `nodes`.

    Raises:
      ValueError: if a node is no batch normalisation, or the images do not fit.
    """
    nodes = tuple(nodes)
    for name in nodes:
        if not isinstance(op := spec[name].op, ops.BatchNorm):
            raise ValueError(
                f"only batch normalisations are calibrated; got '{name}', a {type(op).__name__}"
            )
    if jnp.ndim(images) == 4 and len(images) == 0:
        raise ValueError("a calibration batch needs at least one image; got none")
    check_images(spec, images)
    graph, names = numbered(spec)  # children whose graphs are equal share a program
    places = tuple(names[name] for name in nodes)
    found = _rebased(graph, renamed(variables, names), images, places, key)
    new = renamed(found, {place: name for name, place in names.items()})
    return {
        collection: {
            name: new.get(collection, {}).get(name, arrays) for name, arrays in old.items()
        }
        for collection, old in variables.items()
    }


@functools.partial(jax.jit, static_argnums=3)
def _rebased(
    spec: Architecture, variables: Variables, images: Any, nodes: tuple[str, ...], key: jax.Array
) -> Variables:
    """The new arrays of the calibrated nodes."""
    values, _ = activations(spec, variables, images, train=True, key=key, frozen=nodes)
    new: Variables = {"params": {}, "batch_stats": {}}
    for name in nodes:
        op, (source,) = spec[name].op, spec[name].inputs
        assert isinstance(op, ops.BatchNorm)
        axes = tuple(range(values[source].ndim - 1))
        new["params"][name], new["batch_stats"][name] = rebase_batch_norm(
            variables["params"][name],
            variables["batch_stats"][name],
            jnp.mean(values[source], axes),
            jnp.var(values[source], axes),
            op.epsilon,
        )
    return new


def applicable(spec: Architecture, edits: Iterable[E]) -> Iterator[E]:
    """Those of some edits that apply to a spec."""
    for edit in edits:
        try:
            edit.change(spec)
        except ValueError:
            continue
        yield edit


#: Every edit by its name, the name that JSON uses: the one table of edits.
EDITS: dict[str, type[Edit]] = {}


def register(edit: type[E]) -> type[E]:
    """Enter an edit into the table of edits, as a decorator."""
    EDITS[edit.__name__] = edit
    return edit


def edit_to_dict(edit: Edit) -> dict[str, Any]:
    """The edit for JSON: `{'edit': 'Widen', 'node': 'conv2', 'features': 128}`."""
    return _encoded(edit)


def _encoded(value: Any) -> Any:
    if isinstance(value, Edit):
        assert dataclasses.is_dataclass(value)
        return {key: _encoded(v) for key, v in tagged(value, "edit").items()}
    if type(value) in ops.OPS.values():
        return tagged(value, "op")
    return [_encoded(v) for v in value] if isinstance(value, tuple | list) else value


def edit_from_dict(data: Any) -> Edit:
    """The edit that `edit_to_dict` wrote; `ValueError` for anything else.

    >>> import nash_jax as nj
    >>> edit_from_dict({'edit': 'Widen', 'node': 'conv2', 'features': 128})
    Widen(node='conv2', features=128)
    """
    if not isinstance(data, dict):
        raise ValueError(f"expected an object with 'edit'; got {data!r:.100}")
    return untagged({key: _decoded(value) for key, value in data.items()}, "edit", EDITS)


def _decoded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return untagged(value, "op", ops.OPS) if "op" in value else edit_from_dict(value)
    return tuple(_decoded(v) for v in value) if isinstance(value, list) else value


def the_op(spec: Architecture, name: str, kinds: tuple[type, ...], what: str) -> Any:
    """The op of a node, which must be of some kinds: a `ValueError` says what cannot be done."""
    op = spec[name].op
    if not isinstance(op, kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"cannot {what} '{name}': it must be {wanted}, not {type(op).__name__}")
    return op


def check_size(edit: object, *fields: str) -> None:
    """Raises `ValueError` unless fields of an edit are sizes: whole numbers from 1."""
    for field in fields:
        value = getattr(edit, field)
        if type(value) is not int or not 1 <= value <= ops.LARGEST_SIZE:
            raise ValueError(
                f"{type(edit).__name__}.{field} must be a whole number from 1 to "
                f"{ops.LARGEST_SIZE}; got {value!r}"
            )


def check_name(edit: object, *fields: str) -> None:
    """Raises `ValueError` unless fields of an edit are strings."""
    for field in fields:
        value = getattr(edit, field)
        if not isinstance(value, str):
            raise ValueError(
                f"{type(edit).__name__}.{field} must be the name of a node; got {value!r}"
            )


def check_op(edit: object, field: str, op: Any) -> None:
    """Raises `ValueError` unless `op`, from a field of an edit, is an op that takes one input."""
    if type(op) not in ops.OPS.values() or ops.num_inputs(op) != (1, 1):
        raise ValueError(
            f"{type(edit).__name__}.{field} must be an op of nj.ops with one input; got {op!r}"
        )
