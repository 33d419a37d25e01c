"""Where the time of an update goes: the instructions of the compiled program, by kind.

  python -m benchmarks.profile

Some updates of each of three chains (32x32 images, batch 128) run under JAX's profiler, on JAX's
default device; each instruction's time is added to that of its kind. The kind of a fusion is taken
from the name that XLA gives it: `transpose_copy_fusion` counts as a copy, even if it also computes
the values that it copies. On CPU one thread is used, so that nothing overlaps. Prints a table.
"""

from __future__ import annotations

import collections
import os
import pathlib
import re
import tempfile
from collections.abc import Iterable, Iterator

# One thread, set before XLA starts.
os.environ.setdefault("NPROC", "1")

import jax
import jax.numpy as jnp
import numpy as np
from absl import app

import nash_jax as nj
from benchmarks.machine import machine
from nash_jax import training
from nash_jax.launching import compile_faster
from nash_jax.training import compilation

NETWORKS: dict[str, tuple[int | tuple[int, ...], ...]] = {
    "16-32-64": (16, 32, 64),
    "64-128-256": (64, 128, 256),
    "(32,32)-(64,64)-(128,128)": ((32, 32), (64, 64), (128, 128)),
}
KINDS = (
    "convolution",
    "its gradient by the input",
    "its gradient by the kernel",
    "matrix products",
    "copies",
    "reductions",
    "elementwise",
)


def kind_of(instruction: str) -> str:
    """The kind of an instruction of an HLO text.

    >>> kind_of('%c.1 = f32[2] convolution(%x, %y), metadata={op_name="jit(f)/jvp(Network)/conv"}')
    'convolution'
    >>> kind_of('%transpose_copy_fusion = f32[2] fusion(%x), kind=kLoop')
    'copies'
    """
    name, opcode = name_of(instruction), re.search(r"[\])}] ([\w-]+)\(", instruction)
    if "convolution(" in instruction or "__cudnn$conv" in instruction:
        if "transpose(jvp" in instruction:
            return "its gradient by the input"
        return "convolution" if "jvp(" in instruction else "its gradient by the kernel"
    if (opcode and opcode[1] == "dot") or "gemm" in instruction:
        return "matrix products"
    if re.search(r"copy|transpose|reverse|concatenate", name):
        return "copies"
    return "reductions" if "reduce" in name else "elementwise"


def name_of(instruction: str) -> str:
    return instruction.split(" = ")[0].removeprefix("ROOT ").lstrip("%")


def seconds_by_kind(text: str, events: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Seconds of each kind.

    Args:
      text: the HLO of the compiled program.
      events: names and seconds; names that are no instruction of the program are ignored.
    """
    entry = text[text.index("ENTRY ") :].splitlines()[1:]
    kinds = {name_of(line.strip()): kind_of(line.strip()) for line in entry if " = " in line}
    seconds: dict[str, float] = collections.defaultdict(float)
    for name, spent in events:
        if name in kinds:
            seconds[kinds[name]] += spent
    return dict(seconds)


def profiled(run: object, folder: str) -> Iterator[tuple[str, float]]:
    """What the profiler saw while `run` ran: the names of instructions and their seconds."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with jax.profiler.trace(folder, profiler_options=options):
        jax.block_until_ready(run())  # type: ignore[operator]
    (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
    for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
        for line in plane.lines:
            for event in line.events:
                stats = dict(event.stats) if plane.name.startswith("/device") else {}
                yield str(stats.get("hlo_op", event.name)), event.duration_ns / 1e9


def measure(widths: tuple[int | tuple[int, ...], ...], updates: int = 3) -> dict[str, float]:
    """Seconds per update by kind, for one chain."""
    spec = nj.chain((32, 32, 3), 10, widths=widths)
    settings = training.TrainingSettings(batch_size=128)
    variables = nj.init(spec, jax.random.key(0))
    state = training.TrainState(variables, training.direction(settings).init(variables["params"]))
    images = jnp.zeros((128, 32, 32, 3), jnp.uint8)
    batch = images, jnp.zeros(128, jnp.int32), np.float32(0.01), jax.random.key(0)
    options = None
    if jax.default_backend() == "cpu":
        options = compilation.CPU_OPTIONS | {"xla_cpu_enable_xprof_traceme": True}
    jitted = jax.jit(training.update, static_argnames="settings", donate_argnames="state")
    program = jitted.lower(spec, state, *batch, settings=settings).compile(options)
    state, _ = program(spec, state, *batch)

    def run() -> training.TrainState:
        nonlocal state
        for _ in range(updates):
            state, _ = program(spec, state, *batch)
        return state

    with tempfile.TemporaryDirectory() as folder:
        seconds = seconds_by_kind(program.as_text() or "", profiled(run, folder))
    return {kind: spent / updates for kind, spent in seconds.items()}


def main(_: list[str]) -> None:
    compile_faster()
    about = machine()
    print(f"{jax.devices()[0].device_kind} ({about['cpu']}), jax {about['jax']}, {about['date']}")
    print("| network | ms | " + " | ".join(KINDS) + " |\n" + "|---" * (len(KINDS) + 2) + "|")
    for name, widths in NETWORKS.items():
        seconds = measure(widths)
        total = sum(seconds.values())
        shares = (f"{seconds.get(kind, 0) / total:.1%}" for kind in KINDS)
        print(f"| {name} | {total * 1e3:.0f} | " + " | ".join(shares) + " |", flush=True)


if __name__ == "__main__":
    app.run(main)
