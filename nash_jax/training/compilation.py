"""Compiling ahead of time, so that its time is known; the last 64 programs are kept."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from nash_jax.architecture import Architecture


def compiled(
    function: Callable[..., Any], spec: Architecture, *args: Any, **static: Any
) -> Callable[..., Any]:
    """The program of a jitted function for arguments of these shapes, from a cache if it was made.

    Args:
      function: made by `jax.jit`, called as `function(spec, *args, **static)`.
      spec: the architecture.
      args: pytrees of arrays; only their shapes and types matter.
      static: hashable static arguments.

    Returns:
      The program, to be called as `program(spec, *args)`.
    """
    leaves, structure = jax.tree.flatten(args)
    shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
    return _compile(function, spec, structure, shapes, tuple(sorted(static.items())))


@functools.lru_cache(maxsize=64)
def _compile(
    function: Any,
    spec: Architecture,
    structure: Any,
    shapes: tuple[jax.ShapeDtypeStruct, ...],
    static: tuple[tuple[str, Any], ...],
) -> Callable[..., Any]:
    args = jax.tree.unflatten(structure, shapes)
    return function.lower(spec, *args, **dict(static)).compile()
