"""JAX's own settings: a program's, for every thread and process that works for it.

They may be set by the environment, by `jax.config.update` or by a context such as
`jax.enable_x64(True)`, which holds for one thread alone. What is computed must not depend on how.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from nash_jax.text import one_line

#: Those that decide what a computation gives, and the context in which each holds for a thread.
_DECIDING: dict[str, Callable[[Any], contextlib.AbstractContextManager[Any]]] = {
    "jax_default_matmul_precision": jax.default_matmul_precision,
    "jax_default_prng_impl": jax.default_prng_impl,
    "jax_enable_x64": jax.enable_x64,
    "jax_numpy_dtype_promotion": jax.numpy_dtype_promotion,
    "jax_threefry_partitionable": jax.threefry_partitionable,
}

#: Those that are each process's own: where it runs, and what it shares with others.
_OWN = (
    *("backend", "platform", "visible_devices", "num_cpu_devices", "default_device"),
    *("compilation_cache", "persistent_cache", "distributed", "coordination", "proxy_envs"),
)


def settings() -> dict[str, Any]:
    """The settings that hold in this thread."""
    values: dict[str, Any] = jax.config.values  # type: ignore[attr-defined]
    return {name: value for name, value in values.items() if not any(word in name for word in _OWN)}


def deciding() -> dict[str, Any]:
    """Those that decide what a computation gives, for JSON."""
    now = settings()
    return {name: getattr(now[name], "value", now[name]) for name in _DECIDING}


def adopt(given: Mapping[str, Any]) -> None:
    """Have this process compute as the one that gave its settings."""
    now = settings()
    for name, value in given.items():
        if now.get(name) != value:
            jax.config.update(name, value)


@contextlib.contextmanager
def holding(given: Mapping[str, Any]) -> Iterator[None]:
    """Have this thread compute as the one that gave its settings."""
    now = settings()
    with contextlib.ExitStack() as stack:
        for name, context in _DECIDING.items():
            if now[name] != given[name]:
                stack.enter_context(context(given[name]))
        yield


def check_devices() -> None:
    """Raises `ValueError` if JAX finds no device of the kind that it is told to use."""
    try:
        jax.devices()
    except RuntimeError as error:
        asked: str | None = jax.config.jax_platforms  # type: ignore[attr-defined]
        raise ValueError(
            f"JAX cannot start with JAX_PLATFORMS={asked or ''}: {one_line(error)}; unset "
            "JAX_PLATFORMS, or install what this platform needs, for cuda: "
            "pip install 'nash_jax[cuda]'"
        ) from None
