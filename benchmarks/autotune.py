"""What the search for fast kernels costs and gives on a GPU: seconds to compile, images per second.

  python -m benchmarks.autotune --levels=4,2,1,0

For each level of `xla_gpu_autotune_level`, a new process trains the largest network of
`benchmarks/specs` on random images (kernels that were found are kept as long as their process
lives). --toy runs it on the CPU, only to see that it works.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

import jax
import numpy as np
from absl import app, flags

import nash_jax as nj
from benchmarks.machine import machine
from benchmarks.training_pace import SPECS
from nash_jax.data import Examples
from nash_jax.training import TrainingSettings, compilation, fit

LEVELS = flags.DEFINE_list("levels", ["4", "2", "1", "0"], "of xla_gpu_autotune_level")
ROUNDS = flags.DEFINE_integer("rounds", 3, "processes for each level, in turns", lower_bound=1)
TOY = flags.DEFINE_bool("toy", False, "tiny sizes on the CPU")
LEVEL = flags.DEFINE_integer("level", -1, "measure this level in this process; what --levels does")


def one_level(level: int) -> None:
    """Prints the seconds of compiling, and the images per second of training."""
    compilation.GPU_OPTIONS["xla_gpu_autotune_level"] = level
    rng = np.random.default_rng(0)
    size, num, epochs = (8, 64, 1) if TOY.value else (32, 12_800, 3)
    images = rng.integers(0, 256, (num, size, size, 3), np.uint8)
    examples = Examples(*jax.device_put((images, rng.integers(0, 10, num, np.int32))))
    if TOY.value:
        spec, settings = nj.chain((8, 8, 3), 10, (4,)), TrainingSettings(batch_size=32)
    else:
        spec = nj.from_json((SPECS / "edits25.json").read_text())
        settings = TrainingSettings(precision="bfloat16")
    key = jax.random.key(0)
    first = fit(spec, nj.init(spec, key), examples, key, 1, settings)
    again = fit(spec, first.variables, examples, key, epochs, settings)
    print(f"{first.compile_seconds} {num * epochs / again.train_seconds}")


def main(_: list[str]) -> None:
    if jax.default_backend() != ("cpu" if TOY.value else "gpu"):
        sys.exit(
            f"error: this is a benchmark of GPUs; JAX's backend is {jax.default_backend()!r}; "
            "install the cuda extra, or give --toy with JAX_PLATFORMS=cpu"
        )
    if LEVEL.value >= 0:
        one_level(LEVEL.value)
        return
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    toy = ["--toy"] if TOY.value else []
    found: dict[str, list[tuple[float, ...]]] = {level: [] for level in LEVELS.value}
    for _round in range(ROUNDS.value):
        for level in LEVELS.value:
            command = [sys.executable, "-m", "benchmarks.autotune", f"--level={level}", *toy]
            said = subprocess.run(command, env=environment, check=True, stdout=-1, text=True).stdout
            found[level].append(tuple(map(float, said.split())))
    print(f"{jax.devices()[0].device_kind}, {machine()}")
    print("| level | compiling, s | images per second |\n|---|---|---|")
    for level, rows in found.items():
        seconds, pace = (statistics.median(column) for column in zip(*rows))
        print(f"| {level} | {seconds:.1f} | {pace:,.0f} |")


if __name__ == "__main__":
    app.run(main)
