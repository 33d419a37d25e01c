"""Compiling ahead of time, so that the time to compile and a program's memory are known.

The 64 programs that were used last are kept, or fewer where these need too many parts of the memory
that a process may have. Graphs that differ only in the names of their nodes share one, because a
graph is compiled with its nodes numbered.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import gc
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from nash_jax.jax_settings import deciding
from nash_jax.machine import most_mappings, num_mappings

Precision = Literal["float32", "tf32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bfloat16")

#: On CPU, Eigen's convolutions: those of YNN, XLA's default, use one thread for most shapes.
CPU_OPTIONS: Any = {"xla_cpu_experimental_ynn_fusion_type": ""}

#: On a GPU, XLA would time every way to compute a convolution or a product, on the device that
#: trains: about 70 ways for each convolution, nearly all of the time that compiling takes. So it
#: takes the way that cuDNN names first, among those that give the same bits every time.
GPU_OPTIONS: Any = {"xla_gpu_exclude_nondeterministic_ops": True}

#: Where several GPUs share a batch: sums over the devices go on while others are computed.
SHARED_GPU_OPTIONS: Any = GPU_OPTIONS | {"xla_gpu_enable_latency_hiding_scheduler": True}


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program, and what it took.

    Attributes:
      call: the program.
      required_bytes: the memory that its arguments, results and temporaries take on each device.
    """

    call: Callable[..., Any]
    required_bytes: int


_programs: collections.OrderedDict[Hashable, concurrent.futures.Future[Program]]
_programs = collections.OrderedDict()
_lock = threading.Lock()
_unfreed = 0  # mappings that were left when all programs had been let go
_config: Any = jax.config  # its attributes are made at run time


def compiled(function: Callable[..., Any], *args: Any, **static: Any) -> tuple[Program, bool]:
    """The program of a jitted function for arguments like these.

    Threads that ask for the same program at the same time wait for one compilation.

    Args:
      function: made by `jax.jit`, called as `function(*args, **static)`.
      args: pytrees of arrays, or of `jax.ShapeDtypeStruct`; shapes, types, devices and what is
        static in the pytrees matter.
      static: hashable static arguments.

    Returns:
      The program, to be called as `program.call(*args)`, and whether this call compiled it.
    """
    leaves, structure = jax.tree.flatten(args)
    shapes = tuple(_shape(leaf) for leaf in leaves)
    how = (default_device(), *deciding().items())
    key = (function, structure, shapes, tuple(sorted(static.items())), how)
    with _lock:
        found = _programs.get(key)
        if found is None:
            _make_room()
            future = _programs[key] = concurrent.futures.Future()
            while len(_programs) > 64:
                _programs.popitem(last=False)
        else:
            _programs.move_to_end(key)
    if found is not None:
        return found.result(), False
    try:
        abstract = jax.tree.unflatten(structure, shapes)
        options = compiler_options(jax.default_backend(), _num_devices(leaves))
        executable = function.lower(*abstract, **static).compile(compiler_options=options)  # type: ignore[attr-defined]
        future.set_result(Program(executable, _required_bytes(executable)))
    except BaseException as error:
        with _lock:
            _programs.pop(key, None)
        future.set_exception(error)
    return future.result(), True


def _make_room() -> None:
    """Let go of all programs, JAX's too, if they take half of the mappings that a process may have.

    On CPU a program has some hundreds of mappings, JAX's own caches hold it as long as there is
    memory, and where the kernel gives no more (Linux: 65,530), LLVM ends the process.
    """
    global _unfreed
    most = most_mappings()
    if most is None or num_mappings() < max(most / 2, _unfreed + most / 50):
        return
    for key in [key for key, future in _programs.items() if future.done()]:
        del _programs[key]
    jax.clear_caches()
    gc.collect()
    _unfreed = num_mappings()


def compiler_options(platform: str, num_devices: int = 1) -> dict[str, Any]:
    """The options with which XLA compiles a program; they override `XLA_FLAGS`.

    Args:
      platform: 'cpu', 'gpu' or another of JAX's.
      num_devices: how many share the program.
    """
    on_gpu = GPU_OPTIONS if num_devices == 1 else SHARED_GPU_OPTIONS
    return dict({"cpu": CPU_OPTIONS, "gpu": on_gpu}.get(platform, {}))


def _num_devices(leaves: list[Any]) -> int:
    shardings = [leaf.sharding for leaf in leaves if getattr(leaf, "sharding", None) is not None]
    return max((len(sharding.device_set) for sharding in shardings), default=1)


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None)
    if sharding is not None and sharding.device_set == {default_device()}:
        sharding = None
    dtype = jax.dtypes.canonicalize_dtype(leaf.dtype, allow_extended_dtype=True)
    return jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=sharding)


def default_device() -> jax.Device:
    device = _config.jax_default_device
    return device if isinstance(device, jax.Device) else jax.local_devices(backend=device)[0]


def _required_bytes(executable: Any) -> int:
    """What a program takes of a device's memory, as its compiler says."""
    stats = executable.memory_analysis()
    if stats is None:
        return 0
    return int(
        stats.argument_size_in_bytes
        + stats.output_size_in_bytes
        - stats.alias_size_in_bytes
        + stats.temp_size_in_bytes
    )


def faster_flags(xla_flags: str) -> str:
    """`XLA_FLAGS` by which a process compiles for CPUs in two thirds of the time.

    They choose XLA's older emitters of loops, and turn off the search for parallel statements; the
    programs are as fast. XLA reads them once, before it compiles anything.

    Args:
      xla_flags: what the variable holds so far; it is kept.
    """
    ours = (
        "--xla_backend_extra_options="
        "xla_cpu_disable_new_fusion_emitters,xla_cpu_disable_slp_vectorizer"
    )
    return xla_flags if ours in xla_flags else f"{xla_flags} {ours}".strip()


def compute_dtype(precision: Precision) -> Any:
    """The type to compute with; None: that of the parameters."""
    return jnp.bfloat16 if precision == "bfloat16" else None


def matmul_precision(precision: Precision) -> contextlib.AbstractContextManager[Any]:
    """Within it, float32 products are made as `precision` says, where the device has a choice."""
    return jax.default_matmul_precision("tensorfloat32" if precision == "tf32" else "highest")


def bfloat16_seconds_per_float32() -> float:
    """How long a convolution and its gradient take in bfloat16, as a part of that in float32.

    Measured on JAX's default device, in about a second, with as much work as a device of its kind
    has in a search: what is small takes a GPU as long in either.
    """
    backend = jax.default_backend()
    images_shape = (32, 16, 16, 64) if backend == "cpu" else (256, 32, 32, 128)
    channels = images_shape[-1]

    def loss(kernel: jax.Array, images: jax.Array) -> jax.Array:
        maps = jax.lax.conv_general_dilated(
            images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return maps.astype(jnp.float32).var()

    seconds = {}
    for dtype in (jnp.bfloat16, jnp.float32):
        args = jnp.ones((3, 3, channels, channels), dtype), jnp.ones(images_shape, dtype)
        with matmul_precision("float32"):  # as in trainings: no product of fewer digits
            program = jax.jit(jax.grad(loss)).lower(*args).compile(compiler_options(backend))
        laps = []
        for _ in range(5):
            watch = Stopwatch()
            jax.block_until_ready(program(*args))
            laps.append(watch.lap())
        seconds[dtype] = min(laps)
    return seconds[jnp.bfloat16] / seconds[jnp.float32]


class Stopwatch:
    """Seconds from one lap to the next."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        last, self._last = self._last, time.perf_counter()
        return self._last - last
