"""JAX's own settings: the program's, passed on to every thread and process that works for it.

They may be set by the environment, by `jax.config.update` or by a context such as
`jax.enable_x64(True)`, which holds for one thread alone. What is computed must not depend on the
way in which they are set.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ParamSpec, TypeVar

import jax

from nash_jax.text import one_line

P = ParamSpec("P")
T = TypeVar("T")

#: Settings that decide what a computation gives, each with the context that sets it for a thread.
_DECIDING: dict[str, Callable[[Any], contextlib.AbstractContextManager[Any]]] = {
    "jax_default_matmul_precision": jax.default_matmul_precision,
    "jax_default_prng_impl": jax.default_prng_impl,
    "jax_enable_x64": jax.enable_x64,
    "jax_threefry_partitionable": jax.threefry_partitionable,
}

#: Settings that decide it too, but can be set only for a whole process.
_DECIDING_FOR_ALL = (
    *("jax_disable_most_optimizations", "jax_optimization_level", "jax_random_seed_offset"),
    "jax_softmax_custom_jvp",
)

#: Words in names of settings that are each process's own: where it runs, and what it shares.
_OWN = (
    *("backend", "platform", "visible_devices", "num_cpu_devices", "default_device"),
    *("compilation_cache", "persistent_cache", "distributed", "coordination", "proxy_envs"),
)


def settings() -> dict[str, Any]:
    """The settings that hold in this thread."""
    values: dict[str, Any] = jax.config.values
    return {name: value for name, value in values.items() if not any(word in name for word in _OWN)}


def deciding() -> dict[str, Any]:
    """Those that decide what a computation gives, for JSON."""
    now = settings()
    names = [name for name in (*_DECIDING, *_DECIDING_FOR_ALL) if name in now]
    return {name: getattr(now[name], "value", now[name]) for name in names}


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


def usual_promotion(function: Callable[P, T]) -> Callable[P, T]:
    """The function with JAX's usual promotion of types and ranks, even if its caller forbids that.

    Flax and optax rely on the usual promotion.
    """

    @functools.wraps(function)
    def promoting(*args: P.args, **kwargs: P.kwargs) -> T:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return function(*args, **kwargs)

    return promoting


def check_devices() -> None:
    """Raises `ValueError` if JAX finds no device of the kind that it is told to use."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter of a platform that is no plugin
        why = (str(error) and one_line(error)) or "this machine has none of this kind"
        asked: str | None = jax.config.jax_platforms  # type: ignore[attr-defined]
        raise ValueError(
            f"JAX finds no device with JAX_PLATFORMS={asked or ''}: {why}; unset "
            "JAX_PLATFORMS, or install what this platform needs, for cuda: "
            "pip install 'nash_jax[cuda]'"
        ) from None
