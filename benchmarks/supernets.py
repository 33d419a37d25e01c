"""Strategies of shared weights against random genotypes, and what a supernet costs.

  python -m benchmarks.supernets --dataset=digits --dataset=npz:cifar10.npz --out=supernets.jsonl
  python -m benchmarks.supernets --parts=50
  python -m benchmarks.supernets --cost

Networks are much smaller than published ones, and of a set at most 5,000 training images of 16x16
pixels are used. Every result is a line of the file and is never made again; the table is printed at
the end. With `--table`, NAS-Bench-201's own accuracy of each genotype is in its line too.

`--parts` compares so many random parts of each supernet with the networks that `subnet` gives, in
float64: logits in both modes, statistics and gradients. `--cost` trains supernets for two
updates, by pieces and as one program.
"""

from __future__ import annotations

import functools
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

import nash_jax as nj
from benchmarks.machine import machine
from benchmarks.rows import add_row, read_rows
from benchmarks.spaces import DATASETS, OUT, small_images
from nash_jax import policies, spaces
from nash_jax.data import Examples
from nash_jax.estimation import Table
from nash_jax.evaluation import relative_improvement
from nash_jax.launching import compile_faster
from nash_jax.runs import Config, run_search
from nash_jax.text import mean_and_deviation
from nash_jax.training import TrainingSettings, bilevel, parts, supernet, updates_per_program

TABLE = flags.DEFINE_string("table", "", "NAS-Bench-201 as an npz file; see docs/spaces.md")
SEEDS = flags.DEFINE_integer("seeds", 3, "of each method, from 0")
RANDOM = flags.DEFINE_integer("random", 8, "random genotypes of each space")
METHOD = flags.DEFINE_multi_string("method", [], "some methods alone; by default all of the space")
SPACE = flags.DEFINE_string("space", "nb201", "nb201 or darts")
PARTS = flags.DEFINE_integer("parts", 0, "compare so many parts of each supernet instead")
COST = flags.DEFINE_bool("cost", False, "measure what supernets cost instead")

#: The sizes of each space's networks.
SIZES: dict[str, dict[str, Any]] = {
    "nb201": {"channels": 8, "cells": 1},
    "darts": {"channels": 4, "cells": 3},
}
#: Those that search DARTS's cells alone.
OF_DARTS = ("p_darts", "stacnas")
#: The settings of each method: a supernet has about 20 epochs of the training images.
METHODS: dict[str, dict[str, Any]] = {
    "darts, first order": {"strategy": "darts", "order": "first"},
    "darts, second order": {"strategy": "darts", "order": "second"},
    "one_shot": {"strategy": "one_shot", "num_samples": 50},
    "enas": {"strategy": "enas", "supernet_lr_start": 0.025, "controller_lr": 3.5e-3},
    "manas": {"strategy": "manas"},
    "manas, least squares": {"strategy": "manas", "credit": "least_squares"},
    "stacnas": {"strategy": "stacnas", "stage_cells": (3, 4)},
    "p_darts": {"strategy": "p_darts", "stage_cells": (3, 4, 5), "frozen_epochs": 5},
}


def config_of(dataset: str, space: str, seed: int, settings: dict[str, Any]) -> Config:
    """A run at the scale of two cores."""
    digits = dataset == "digits"
    config = Config().replace(
        space=space,
        **SIZES[space],
        **settings,
        seed=seed,
        epochs_neighbours=10,
        epochs_final=20,
        batch_size=64,
        crop_padding=1 if digits else 2,
        flip=not digits,
    )
    if settings["strategy"] != "random_search":
        config = config.replace(supernet_epochs=20, supernet_batch_size=64)
    if settings["strategy"] in ("darts", *OF_DARTS):  # few updates must move the edges
        config = config.replace(edge_lr=3e-3)
    return config


def search(dataset: Any, space: str, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """A run's test accuracy and genotype."""
    start = time.perf_counter()
    result = run_search(config_of(dataset.name, space, seed, settings), dataset, workers=1)
    best = result.best
    row = {
        "accuracy": round(100 * best.estimate.accuracy, 2),
        "genotype": list(best.genotype),
        "params": nj.count_params(best.spec),
        "seconds": round(time.perf_counter() - start),
    }
    if TABLE.value and space == "nb201":
        table = Table.load(TABLE.value, data="c10")
        place = table.row(spaces.NB201().code(best.genotype))
        row["table_accuracy"] = round(float(table.test[place]), 2)
    return row


def compare() -> None:
    """Run every method on every set, and print the table."""
    kind = SPACE.value
    methods = [m for m in METHODS if kind == "darts" or METHODS[m]["strategy"] not in OF_DARTS]
    methods = [m for m in methods if not METHOD.value or m in METHOD.value]
    for name in DATASETS.value:
        dataset = small_images(name)
        work = [("random", 100 + n) for n in range(RANDOM.value)]
        work += [(method, seed) for seed in range(SEEDS.value) for method in methods]
        for method, seed in work:
            what = {"dataset": dataset.name, "space": kind, "method": method, "seed": seed}
            if any(what.items() <= row.items() for row in read_rows(OUT.value)):
                continue
            drawn = {"strategy": "random_search", "num_samples": 1}
            add_row(OUT.value, what | search(dataset, kind, seed, METHODS.get(method, drawn)))
    print_table(kind)


def print_table(kind: str) -> None:
    """Means, relative improvement over random genotypes and its 95% interval (Welch's)."""
    from scipy import stats

    rows = [row for row in read_rows(OUT.value) if row["space"] == kind]
    print(f"{machine()}\n\n| set | method | accuracy % | RI % | 95% interval | table % | s |")
    print("|---" * 7 + "|")
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        of_set = [row for row in rows if row["dataset"] == dataset]
        drawn = [row["accuracy"] for row in of_set if row["method"] == "random"]
        for method in dict.fromkeys(row["method"] for row in of_set):
            found = [row for row in of_set if row["method"] == method]
            values = [row["accuracy"] for row in found]
            improvement = interval = ""
            if method != "random" and len(values) > 1 and len(drawn) > 1:
                improvement = f"{relative_improvement(values, drawn):+.2f}"
                if statistics.pstdev(values) + statistics.pstdev(drawn):
                    test = stats.ttest_ind(values, drawn, equal_var=False)
                    ends = test.confidence_interval()
                    low, high = (100 * end / statistics.mean(drawn) for end in ends)
                    interval = f"{low:+.2f} to {high:+.2f}"
            looked_up = [row["table_accuracy"] for row in found if "table_accuracy" in row]
            seconds = statistics.mean(row["seconds"] for row in found)
            print(
                f"| {dataset} | {method} | {mean_and_deviation(values)} | {improvement} | "
                f"{interval} | {mean_and_deviation(looked_up)} | {seconds:.0f} |"
            )


def outcome(spec: Any, variables: Any, images: Any, labels: Any) -> Any:
    """Logits in both modes, statistics and gradients."""

    def loss_of(params: Any) -> Any:
        logits, new = nj.apply(
            spec, {**variables, "params": params}, images, train=True, key=jax.random.key(0)
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), (logits, new["batch_stats"])

    (_, (logits, stats)), gradients = jax.value_and_grad(loss_of, has_aux=True)(variables["params"])
    return (logits, nj.apply(spec, variables, images)), {"stats": stats, "gradients": gradients}


def compare_parts() -> None:
    """The largest differences between parts of supernets and the networks of their genotypes."""
    small: dict[str, Any] = {"input_shape": (8, 8, 3), "num_classes": 4}
    cells = {**small, "channels": 4, "cells": 3}
    kinds = (
        spaces.Darts(**cells),
        spaces.SubOptimal(**cells),
        spaces.CNAS(**cells),
        spaces.ENASMicro(**cells),
        spaces.NB201(**{**cells, "cells": 1}),
        spaces.NBMacro(**small, channels=2, head=8),
    )
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(4, 8, 8, 3)), np.arange(4)
    run = jax.jit(outcome, static_argnums=0)
    with jax.enable_x64(True):
        for space in kinds:
            spec = space.supernet()
            variables = nj.init(spec, jax.random.key(1), jnp.float64)
            worst = {"logits": 0.0, "stats": 0.0, "gradients": 0.0}
            for number in range(PARTS.value):
                genotype = space.sample(jax.random.key(number))
                weights = space.one_hot(genotype)
                masked = nj.architecture.with_edge_weights(spec, variables, weights)
                whole, of_whole = run(spec, masked, images, labels)
                part, of_part = run(*space.subnet(variables, genotype), images, labels)
                errors = [abs(np.asarray(a - b)).max() for a, b in zip(whole, part)]
                worst["logits"] = max(worst["logits"], *errors)
                for kind, nodes in of_part.items():
                    for node, arrays in nodes.items():
                        for name, array in arrays.items():
                            wanted = np.asarray(of_whole[kind][node][name])
                            if wanted.shape != array.shape:  # rows of states that it has not
                                wanted = wanted[..., np.abs(wanted).max(-1) > 0, :]
                            error = float(abs(wanted - np.asarray(array)).max())
                            worst[kind] = max(worst[kind], error)
            print(f"{type(space).__name__}: {PARTS.value} parts, largest differences {worst}")


def _same(found: Any, *_: Any) -> Any:
    """The same, whatever is asked."""
    return found


def measure_cost() -> None:
    """Compile time, seconds per update and memory, piece by piece and as one program."""
    print(machine())
    rng, key = np.random.default_rng(0), jax.random.key(0)
    num = max(2, updates_per_program())
    pixels = rng.integers(0, 256, (num * 64, 32, 32, 3), np.uint8)
    data = Examples(pixels, np.arange(len(pixels)) % 10)
    settings = TrainingSettings(batch_size=64, nesterov=False, clip_norm=5.0)
    print("| supernet | nodes | rule | run | compile s | s per update | memory GiB |")
    print("|---" * 7 + "|")
    for space, name, ways in (
        (spaces.NB201(channels=16, cells=1), "NB201, 16 channels, 3 cells", (True, False)),
        (spaces.NB201(channels=16, cells=5), "NB201, 16 channels, 15 cells", (True, False)),
        (spaces.Darts(channels=16, cells=8), "DARTS, 16 channels, 8 cells", (True,)),
    ):
        spec = space.supernet()
        drawn = policies.Uniform(functools.partial(_same, space.one_hot(space.start)))
        rules: dict[str, parts.Rule] = {
            "a path": drawn,
            "all ops and their weights, first order": bilevel.EdgeSettings("first"),
        }
        for rule, decides in rules.items():
            for pieces in ways:
                parts.by_pieces = functools.partial(_same, pieces)
                args = spec, nj.init(spec, key), data, data, key, 1, settings, decides
                first, second = (supernet.fit_supernet(*args).fit for _ in range(2))
                compiling = first.compile_seconds + first.train_seconds - second.train_seconds
                how = "by pieces" if pieces else "one program"
                print(
                    f"| {name} | {len(spec.nodes)} | {rule} | {how} | {compiling:.0f} | "
                    f"{second.train_seconds / num:.2f} | {second.required_bytes / 2**30:.2f} |",
                    flush=True,
                )


def main(argv: list[str]) -> None:
    del argv
    compile_faster()
    if PARTS.value:
        compare_parts()
    elif COST.value:
        measure_cost()
    else:
        compare()


if __name__ == "__main__":
    app.run(main)
