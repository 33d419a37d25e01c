"""How a network grows: edits that change an architecture and keep its function."""

from typing import Any

import jax

from nash_jax.architecture import Architecture, Variables
from nash_jax.morphisms import edits as _edits
from nash_jax.morphisms.deepen import Deepen, calibrate
from nash_jax.morphisms.edits import Edit, edit_to_dict
from nash_jax.morphisms.sampling import apply_edits, apply_random, sample, sample_edits
from nash_jax.morphisms.skip import SkipAdd, SkipConcat
from nash_jax.morphisms.widen import Widen

#: Every edit by its name, the name that JSON uses.
EDITS: dict[str, type] = {edit.__name__: edit for edit in (Deepen, SkipAdd, SkipConcat, Widen)}

__all__ = [
    "Deepen",
    "EDITS",
    "Edit",
    "SkipAdd",
    "SkipConcat",
    "Widen",
    "apply_edits",
    "apply_random",
    "calibrate",
    "deepen",
    "edit_from_dict",
    "edit_to_dict",
    "sample",
    "sample_edits",
    "skip_add",
    "skip_concat",
    "widen",
]


def edit_from_dict(data: Any) -> Edit:
    """The edit that `edit_to_dict` wrote; `ValueError` for anything else.

    >>> edit_from_dict({'edit': 'Widen', 'node': 'conv2', 'features': 128})
    Widen(node='conv2', features=128)
    """
    return _edits.edit_from_dict(data, EDITS)


def deepen(
    spec: Architecture,
    variables: Variables,
    key: jax.Array,
    *,
    after: str,
    kernel_size: int = 3,
    calibration: Any = None,
) -> tuple[Architecture, Variables]:
    """Insert Conv-BatchNorm-Relu behind a node: `Deepen` as a function."""
    return Deepen(after, kernel_size)(spec, variables, key, calibration)


def widen(
    spec: Architecture, variables: Variables, key: jax.Array, *, node: str, features: int
) -> tuple[Architecture, Variables]:
    """Give a convolution or dense layer more outputs: `Widen` as a function."""
    return Widen(node, features)(spec, variables, key)


def skip_add(
    spec: Architecture, variables: Variables, key: jax.Array, *, source: str, target: str
) -> tuple[Architecture, Variables]:
    """Add a skip connection by addition: `SkipAdd` as a function."""
    return SkipAdd(source, target)(spec, variables, key)


def skip_concat(
    spec: Architecture, variables: Variables, key: jax.Array, *, source: str, target: str
) -> tuple[Architecture, Variables]:
    """Add a skip connection by concatenation: `SkipConcat` as a function."""
    return SkipConcat(source, target)(spec, variables, key)
