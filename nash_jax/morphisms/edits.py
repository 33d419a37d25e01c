"""Edits: morphisms as data, which can be printed, stored as JSON and replayed.

An edit has two halves. `grow(spec)` edits the architecture; `transfer(spec, variables, key)` gives
the grown architecture its weights. Calling the edit does both.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax

from nash_jax.architecture import Architecture, Variables, check_variables
from nash_jax.architecture.serialization import tagged, untagged


@runtime_checkable
class Edit(Protocol):
    """What every edit can do."""

    def grow(self, spec: Architecture) -> Architecture:
        """The spec half. Raises `ValueError` where the edit does not apply, saying why."""

    def transfer(
        self, spec: Architecture, variables: Variables, key: jax.Array, calibration: Any = None
    ) -> Variables:
        """The weight half: variables of `grow(spec)` with the outputs of `spec`'s.

        Runs under `jax.jit` and `jax.vmap`; changes nothing in `variables`.

        Args:
          spec: the architecture before the edit.
          variables: its variables.
          key: for the new weights.
          calibration: images `[batch, height, width, channels]` by whose statistics an inserted
            batch normalisation is set, so that training mode is preserved on them too.
        """

    def __call__(
        self, spec: Architecture, variables: Variables, key: jax.Array, calibration: Any = None
    ) -> tuple[Architecture, Variables]:
        """Both halves: the grown architecture and its variables."""


def both_halves(
    self: Edit, spec: Architecture, variables: Variables, key: jax.Array, calibration: Any = None
) -> tuple[Architecture, Variables]:
    """Grow the spec and transfer the weights: the `__call__` of every edit."""
    check_variables(spec, variables)
    return self.grow(spec), _transfer(self, spec, variables, key, calibration)


@functools.partial(jax.jit, static_argnums=0)
def _transfer(
    edit: Edit, spec: Architecture, variables: Variables, key: jax.Array, calibration: Any
) -> Variables:
    """The weight half as one program: its many small operations would be compiled one by one."""
    return edit.transfer(spec, variables, key, calibration)


def edit_to_dict(edit: Edit) -> dict[str, Any]:
    """The edit for JSON: `{'edit': 'Widen', 'node': 'conv2', 'features': 128}`."""
    return tagged(edit, "edit")


def edit_from_dict(data: Any, edits: Mapping[str, type]) -> Edit:
    """The edit that `edit_to_dict` wrote; `ValueError` for anything else."""
    return untagged(data, "edit", edits)


def check_size(edit: object, field: str, least: int = 1) -> None:
    """Raises `ValueError` unless a field of an edit is a whole number >= `least`."""
    value = getattr(edit, field)
    if type(value) is not int or value < least:
        raise ValueError(
            f"{type(edit).__name__}.{field} must be a whole number >= {least}; got {value!r}"
        )
