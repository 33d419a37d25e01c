"""How long one update of SGD takes on the CPU: ours, compiled by XLA, and PyTorch's in eager mode.

  python -m benchmarks.updates --rounds=7

Three chains on 32x32 images, batch 128, float32: forward, backward and the step of SGD, without
augmentation, on the same random pixels. Both libraries use all cores and take turns in one process:
in each round some updates of the one, then of the other, the first of which is not timed. The table
has medians over the rounds. Compiling is not in the times; its seconds are given apart.

It needs a machine that does nothing else. PyTorch's threads (OpenMP) wait for each other at the end
of every loop: if another process takes one of their cores, a loop of microseconds lasts until the
scheduler returns the core, and PyTorch seems to be many times as slow as it is. The last column
says how many cores other processes kept busy meanwhile (on Linux); if it is above 0.1, measure
again. Needs the `torch` extra. Prints a table and writes updates.json.
"""

from __future__ import annotations

import json
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import app, flags

import nash_jax as nj
from benchmarks import torch_network
from benchmarks.machine import busy_seconds, machine
from nash_jax import training
from nash_jax.launching import compile_faster
from nash_jax.training.compilation import compiled

ROUNDS = flags.DEFINE_integer("rounds", 7, "how often the two take turns")
UPDATES = flags.DEFINE_integer("updates", 3, "timed updates of each in a round")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "images per update")
TOY = flags.DEFINE_bool("toy", False, "8x8 images and batches of 8: only to see that it runs")
OUT = flags.DEFINE_string("out", "updates.json", "file to write the figures to")

NETWORKS: dict[str, tuple[int | tuple[int, ...], ...]] = {
    "16-32-64": (16, 32, 64),
    "64-128-256": (64, 128, 256),
    "(32,32)-(64,64)-(128,128)": ((32, 32), (64, 64), (128, 128)),
}
RATE = 0.01

Run = Callable[[int], object]  # makes so many updates and waits for them


def our_updates(
    spec: nj.Architecture,
    variables: dict[str, dict[str, dict[str, jax.Array]]],
    images: np.ndarray,
    labels: np.ndarray,
    settings: training.TrainingSettings,
) -> tuple[Run, float]:
    """Our update as the training loop calls it on CPU, and the seconds to compile it."""
    jitted = jax.jit(training.update, static_argnames="settings", donate_argnames="state")
    optimizer = training.direction(settings).init(variables["params"])
    state = training.TrainState(jax.tree.map(jax.numpy.copy, variables), optimizer)
    batch = (images, labels, np.float32(RATE), jax.random.key(0))
    start = time.perf_counter()
    program, _ = compiled(jitted, spec, state, *batch, settings=settings)
    seconds = time.perf_counter() - start

    def run(updates: int) -> None:
        nonlocal state
        for _ in range(updates):
            state, _ = program.call(spec, state, *batch)
        jax.block_until_ready(state)

    return run, seconds


def torch_updates(
    spec: nj.Architecture,
    variables: dict[str, dict[str, dict[str, jax.Array]]],
    images: np.ndarray,
    labels: np.ndarray,
    settings: training.TrainingSettings,
) -> Run:
    """PyTorch's update, from the same variables."""
    network = torch_network.TorchNetwork(spec).train()
    torch_network.load(network, variables)
    sgd = torch_network.optimizer(network, settings)

    def run(updates: int) -> None:
        for _ in range(updates):
            torch_network.update(network, sgd, images, labels, RATE)

    return run


def milliseconds(run: Run) -> float:
    """Milliseconds per update, after an untimed one that lets the other's threads fall asleep."""
    run(1)
    start = time.perf_counter()
    run(UPDATES.value)
    return (time.perf_counter() - start) / UPDATES.value * 1e3


def measure(widths: tuple[int | tuple[int, ...], ...]) -> dict[str, Any]:
    """The milliseconds of both in every round, on one network."""
    size, batch_size = (8, 8) if TOY.value else (32, BATCH_SIZE.value)
    spec = nj.chain((size, size, 3), 10, widths=widths)
    settings = training.TrainingSettings(batch_size=batch_size, crop_padding=0, flip=False)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch_size, size, size, 3), np.uint8)
    labels = rng.integers(0, 10, batch_size, np.int32)
    variables = nj.init(spec, jax.random.key(0))
    ours, compile_seconds = our_updates(spec, variables, images, labels, settings)
    theirs = torch_updates(spec, variables, images, labels, settings)
    start, (all_before, own_before) = time.perf_counter(), busy_seconds()
    rounds = [(milliseconds(ours), milliseconds(theirs)) for _ in range(ROUNDS.value)]
    all_after, own_after = busy_seconds()
    others = (all_after - all_before) - (own_after - own_before)
    ours_ms, torch_ms = (list(column) for column in zip(*rounds))
    return {
        "params": nj.count_params(spec),
        "compile_seconds": compile_seconds,
        "ours_ms": ours_ms,
        "torch_ms": torch_ms,
        "ratio": statistics.median(torch_ms) / statistics.median(ours_ms),
        "ratios": [theirs / ours for ours, theirs in rounds],
        "others_busy_cores": max(0.0, others / (time.perf_counter() - start)),
    }


def main(_: list[str]) -> None:
    compile_faster()
    if jax.default_backend() != "cpu":
        raise app.UsageError("this is a benchmark of CPUs; set JAX_PLATFORMS=cpu")
    about = machine()
    print(
        f"{about['cpu']}, {about['cores']} cores, as many threads for both, "
        f"Python {about['python']}, jax {about['jax']}, torch {about['torch']}, {about['date']}; "
        f"medians of {ROUNDS.value} rounds"
    )
    titles = ("network", "ours, ms", "PyTorch, ms", "PyTorch / ours", "lowest to highest")
    print("| " + " | ".join([*titles, "compiling, s", "cores busy with others"]) + " |")
    print("|---" * (len(titles) + 2) + "|")
    networks = {}
    for name, widths in NETWORKS.items():
        networks[name] = row = measure(widths)
        print(
            f"| {name} | {statistics.median(row['ours_ms']):.1f} "
            f"| {statistics.median(row['torch_ms']):.1f} | {row['ratio']:.2f} "
            f"| {min(row['ratios']):.2f} to {max(row['ratios']):.2f} "
            f"| {row['compile_seconds']:.1f} | {row['others_busy_cores']:.2f} |",
            flush=True,
        )
    results = {**about, "toy": TOY.value, "updates": UPDATES.value, "networks": networks}
    pathlib.Path(OUT.value).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    app.run(main)
