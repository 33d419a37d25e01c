"""Several seeds of one genotype: by `vmap` in one program, against one after the other.

  python -m benchmarks.population

Each round trains both, in turns, in whole epochs over images of random numbers. Times are without
compiling; the CPU time is that of all threads of this process, which other work on the machine
disturbs less. Medians over the rounds.
"""

from __future__ import annotations

import statistics
import time

import jax
import numpy as np
from absl import app, flags

import nash_jax as nj
from benchmarks.machine import machine
from nash_jax import spaces
from nash_jax.data import Examples
from nash_jax.launching import compile_faster
from nash_jax.training import Fit, TrainingSettings, fit

SEEDS = flags.DEFINE_integer("seeds", 8, "of each network")
ROUNDS = flags.DEFINE_integer("rounds", 5, "how often each is trained")
IMAGES = flags.DEFINE_integer("images", 512, "of an epoch")
BATCH = flags.DEFINE_integer("batch", 64, "images per update")


def networks() -> dict[str, nj.Architecture]:
    """The networks that are trained, by name."""
    residual = spaces.NB201.usual
    small = spaces.NB201((8, 8, 1), channels=8, cells=1).build(residual, "final")
    larger = spaces.NB201((16, 16, 3), channels=8, cells=1).build(residual, "final")
    darts = spaces.Darts((16, 16, 3), channels=4, cells=3)
    return {
        "chain 16-32-64, 8x8": nj.chain((8, 8, 1), 10, (16, 32, 64)),
        "NB201, 8 channels, 1 cell each, 8x8": small,
        "the same, 16x16": larger,
        "DARTS, 4 channels, 3 cells, 16x16": darts.build(darts.start, "final"),
    }


def measured(spec: nj.Architecture) -> str:
    """A row of the table."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (IMAGES.value, *spec.input_shape), np.uint8)
    examples = Examples(pixels, np.arange(len(pixels), dtype=np.int32) % 10)
    settings = TrainingSettings(batch_size=BATCH.value)
    keys = jax.random.split(jax.random.key(0), SEEDS.value)
    together = jax.vmap(lambda key: nj.init(spec, key))(keys)
    members = [jax.tree.map(lambda x, n=n: x[n], together) for n in range(SEEDS.value)]

    def by_vmap() -> Fit:
        return fit(spec, together, examples, keys, 1, settings)

    def alone(member: int) -> Fit:
        return fit(spec, members[member], examples, keys[member], 1, settings)

    compiling = [by_vmap().compile_seconds, alone(0).compile_seconds]
    rounds = []
    for _ in range(ROUNDS.value):
        begin = time.process_time()
        one = by_vmap().train_seconds
        between = time.process_time()
        several = sum(alone(member).train_seconds for member in range(SEEDS.value))
        cpu = (time.process_time() - between) / (between - begin)
        rounds.append((one, several, several / one, cpu))
    one, several, ratio, cpu = map(statistics.median, zip(*rounds))
    ratios = [each[2] for each in rounds]
    return (
        f"{one:.2f} | {several:.2f} | {ratio:.2f} | {min(ratios):.2f} to {max(ratios):.2f} | "
        f"{cpu:.2f} | {compiling[0]:.1f} | {compiling[1]:.1f}"
    )


def main(argv: list[str]) -> None:
    del argv
    compile_faster()
    print(f"{machine()}\n")
    print(f"| network | {SEEDS.value} seeds by vmap, s | one after the other, s ", end="")
    print("| ratio | lowest to highest | ratio of CPU time | compiling: vmap, s | alone, s |")
    print("|---" * 8 + "|")
    for name, spec in networks().items():
        print(f"| {name} | {measured(spec)} |", flush=True)


if __name__ == "__main__":
    app.run(main)
