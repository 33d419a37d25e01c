"""Edits: morphisms as data, which can be printed, stored as JSON and replayed.

An edit has two halves. `grow(spec)` edits the architecture; `transfer(spec, variables, key)` gives
the grown architecture its weights. Calling the edit does both.
"""

from __future__ import annotations

import functools
from typing import Any, Protocol

import jax

from nash_jax.architecture import Architecture, Variables, check_variables, ops
from nash_jax.architecture.serialization import tagged


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


def check_size(edit: object, field: str) -> None:
    """Raises `ValueError` unless a field of an edit is a size: a whole number from 1."""
    value = getattr(edit, field)
    if type(value) is not int or not 1 <= value <= ops.LARGEST_SIZE:
        raise ValueError(
            f"{type(edit).__name__}.{field} must be a whole number from 1 to {ops.LARGEST_SIZE}; "
            f"got {value!r}"
        )


def check_name(edit: object, field: str) -> None:
    """Raises `ValueError` unless a field of an edit is a string."""
    value = getattr(edit, field)
    if not isinstance(value, str):
        raise ValueError(f"{type(edit).__name__}.{field} must be the name of a node; got {value!r}")
