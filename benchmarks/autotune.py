"""What the search for fast kernels costs and gives on a GPU: seconds to compile, images per second.

  python -m benchmarks.autotune --way=ours --way=timed

Each way to choose kernels, in a new process (kernels that were found are kept as long as theirs
lives):

  ours    as `training.compiler_options` has it: the first that cuDNN names, among those that give
          the same bits every time
  timed   XLA times all that there are (`xla_gpu_autotune_level=2`)
  xla     XLA's default: it compares all of their results, too
  none    no choice at all (`xla_gpu_autotune_level=0`)
  strict  XLA's promise of the same bits for all that it compiles (`xla_gpu_deterministic_ops`)

A network is trained on random images, twice from the same weights: the last column says whether
both ended with the same bits. The network is the largest of `benchmarks/specs`, or a `vgg` as wide
as --width says. --toy runs a tiny one on the CPU, only to see that it works.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from typing import Any

import jax
import numpy as np
from absl import app, flags

import nash_jax as nj
from benchmarks.machine import machine
from benchmarks.training_pace import SPECS
from nash_jax.data import Examples
from nash_jax.training import TrainingSettings, compilation, fit

WAYS = {
    "ours": compilation.GPU_OPTIONS,
    "timed": {"xla_gpu_autotune_level": 2},
    "xla": {},
    "none": {"xla_gpu_autotune_level": 0},
    "strict": {"xla_gpu_deterministic_ops": True},
}
CHOSEN = flags.DEFINE_multi_enum("way", list(WAYS), list(WAYS), "how kernels are chosen")
WIDTH = flags.DEFINE_integer("width", 0, "of a vgg's first stage; 0: edits25", lower_bound=0)
BATCH = flags.DEFINE_integer("batch", 128, "images per update", lower_bound=1)
PRECISION = flags.DEFINE_enum("precision", "bfloat16", list(compilation.PRECISIONS), "of training")
ROUNDS = flags.DEFINE_integer("rounds", 3, "processes for each way, in turns", lower_bound=1)
TOY = flags.DEFINE_bool("toy", False, "tiny sizes on the CPU")
ONE = flags.DEFINE_string("one", "", "measure this way in this process; what the others do")


def one_way(way: str) -> None:
    """Prints the seconds of compiling, images per second, and whether two trainings are alike."""
    compilation.GPU_OPTIONS = WAYS[way]
    if TOY.value:
        spec, settings = nj.chain((8, 8, 3), 10, (4,)), TrainingSettings(batch_size=32)
    else:
        spec = nj.from_json((SPECS / "edits25.json").read_text())
        if WIDTH.value:
            spec = nj.vgg((32, 32, 3), 10, tuple(WIDTH.value * 2**stage for stage in range(4)))
        precision: Any = PRECISION.value
        settings = TrainingSettings(batch_size=BATCH.value, precision=precision)
    num, epochs = (2, 1) if TOY.value else (100, 3)
    num *= settings.batch_size
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (num, *spec.input_shape), np.uint8)
    examples = Examples(*jax.device_put((images, rng.integers(0, 10, num, np.int32))))
    key = jax.random.key(0)
    variables = nj.init(spec, key)
    first = fit(spec, variables, examples, key, 1, settings)
    trained = [fit(spec, variables, examples, key, epochs, settings) for _ in range(2)]
    ends = [jax.tree.leaves(each.variables) for each in trained]
    alike = all(np.array_equal(a, b) for a, b in zip(*ends))
    pace = num * epochs / min(each.train_seconds for each in trained)
    print(json.dumps([first.compile_seconds, pace, alike]))


def main(_: list[str]) -> None:
    if jax.default_backend() != ("cpu" if TOY.value else "gpu"):
        sys.exit(
            f"error: this is a benchmark of GPUs; JAX's backend is {jax.default_backend()!r}; "
            "install the cuda extra, or give --toy with JAX_PLATFORMS=cpu"
        )
    if ONE.value:
        one_way(ONE.value)
        return
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    found: dict[str, list[tuple[float, float, bool]]] = {way: [] for way in CHOSEN.value}
    for _round in range(ROUNDS.value):
        for way in CHOSEN.value:
            command = [sys.executable, "-m", "benchmarks.autotune", *sys.argv[1:], f"--one={way}"]
            said = subprocess.run(command, env=environment, check=True, stdout=-1, text=True).stdout
            found[way].append(tuple(json.loads(said.splitlines()[-1])))
    print(f"{jax.devices()[0].device_kind}, {machine()}")
    print("| way | compiling, s | images per second | same bits |\n|---|---|---|---|")
    for way, rows in found.items():
        seconds, pace, alike = zip(*rows)
        print(
            f"| {way} | {statistics.median(seconds):.1f} | {statistics.median(pace):,.0f} "
            f"| {'yes' if all(alike) else 'no'} |"
        )


if __name__ == "__main__":
    app.run(main)
