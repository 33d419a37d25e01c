"""Random networks of every space of genotypes: trained, crossed and exported.

  python -m benchmarks.spaces --dataset=digits --dataset=npz:cifar10.npz --out=spaces.jsonl
  python -m benchmarks.spaces --crossover
  python -m benchmarks.spaces --export
  python -m benchmarks.spaces --darts

Of each set at most 5,000 images of 16x16 pixels at most; networks are made smaller (`SMALL`), which
is not how any of the spaces was published. Every result is a line of the file and is never made
again; the table is printed at the end. `--crossover` crosses 10,000 pairs of each space in every
way; `--export` exports a network of each space in every format and reads it again; `--darts`
measures DARTS's network of 20 cells and 36 channels.
"""

from __future__ import annotations

import dataclasses
import importlib
import pathlib
import runpy
import tempfile
import time
from typing import Any

import jax
import numpy as np
from absl import app, flags

import nash_jax as nj
from benchmarks.machine import machine
from benchmarks.rows import add_row, read_rows, set_name
from nash_jax import spaces
from nash_jax.data import Dataset, Examples, channel_statistics, load_dataset, subset
from nash_jax.export.export import as_flax, as_onnx, as_orbax, as_stablehlo, as_weights
from nash_jax.launching import compile_faster
from nash_jax.record.orbax_folders import load_orbax
from nash_jax.spaces import CROSSOVERS, Choices
from nash_jax.text import mean_and_deviation
from nash_jax.training import TrainingSettings, evaluate, fit, precompile, updates_per_program

DATASETS = flags.DEFINE_multi_string("dataset", [], "as `nash search` takes it; several times")
NETWORKS = flags.DEFINE_integer("networks", 8, "random networks of each space")
EPOCHS = flags.DEFINE_integer("epochs", 6, "of each training")
OUT = flags.DEFINE_string("out", "spaces.jsonl", "the file of the results")
CROSS = flags.DEFINE_bool("crossover", False, "cross 10,000 pairs of each space instead")
EXPORT = flags.DEFINE_bool("export", False, "export a network of each space instead")
DARTS = flags.DEFINE_bool("darts", False, "measure DARTS's final network instead")

_CELLS = {"channels": 8, "cells": 3}
#: Each space with the sizes of its networks.
SMALL: dict[type[Choices], dict[str, int]] = {
    spaces.Darts: _CELLS,
    spaces.SubOptimal: _CELLS,
    spaces.CNAS: _CELLS,
    spaces.ENASMicro: _CELLS,
    spaces.NASNet: _CELLS,
    spaces.NSGANetMicro: {**_CELLS, "filter_increment": 8},
    spaces.NB201: {"channels": 8, "cells": 1},
    spaces.NBMacro: {"channels": 8, "head": 64},
}


def small_images(name: str) -> Dataset:
    """A set with at most 5,000 training images, of at most 16x16 pixels."""
    dataset = load_dataset(name)

    def smaller(examples: Examples) -> Examples:
        images = examples.images
        while images.shape[1] > 16:  # means of four pixels
            n, height, width, channels = images.shape
            fours = images.reshape(n, height // 2, 2, width // 2, 2, channels)
            images = np.rint(fours.mean(axis=(2, 4))).astype(images.dtype)
        return Examples(images, examples.labels)

    train = smaller(subset(dataset.train, 5_000, 0))
    return dataclasses.replace(dataset, train=train, test=smaller(dataset.test))


def space_of(kind: type[Choices], *data: Any) -> Choices:
    """A space of small networks."""
    sizes: dict[str, Any] = dict(SMALL[kind])
    return kind(*data, **sizes)


def trained(kind: type[Choices], dataset: Dataset, number: int) -> dict[str, Any]:
    """The test accuracy of a random network."""
    normalize = nj.ops.Normalize(*channel_statistics(dataset.train.images))
    space = space_of(kind, dataset.image_shape, dataset.num_classes, normalize)
    key = jax.random.key(number)
    spec = space.build(space.sample(key), "final")
    digits = dataset.name == "digits"
    settings = TrainingSettings(batch_size=64, crop_padding=1 if digits else 2, flip=not digits)
    start = time.perf_counter()
    fitted = fit(spec, nj.init(spec, key), dataset.train, key, EPOCHS.value, settings)
    accuracy = evaluate(spec, fitted.variables, dataset.test).accuracy
    return {
        "accuracy": round(100 * accuracy, 2),
        "params": nj.count_params(spec),
        "compile": round(fitted.compile_seconds, 1),
        "seconds": round(time.perf_counter() - start, 1),
    }


def train_all() -> None:
    for name in DATASETS.value:
        dataset = small_images(name)
        for number in range(NETWORKS.value):
            for kind in SMALL:
                what = {
                    "dataset": set_name(name), "space": kind.__name__, "number": number
                }  # fmt: skip
                if not any(what.items() <= row.items() for row in read_rows(OUT.value)):
                    add_row(OUT.value, what | trained(kind, dataset, number))
    names = [set_name(name) for name in DATASETS.value]
    print(f"{machine()}\n\n| space | {' | '.join(names)} | parameters |")
    print("|---" * (len(names) + 2) + "|")
    for kind in SMALL:
        rows = [row for row in read_rows(OUT.value) if row["space"] == kind.__name__]
        cells = [
            mean_and_deviation([row["accuracy"] for row in rows if row["dataset"] == name])
            for name in names
        ]
        params = [row["params"] for row in rows]
        print(f"| {kind.__name__} | {' | '.join(cells)} | {min(params):,} to {max(params):,} |")


def cross_all() -> None:
    """10,000 children of each space and kind: each is one of the space, of its parents' genes."""
    for kind in (*SMALL, spaces.MacroDarts):
        space, start, wrong = kind(), time.perf_counter(), 0
        keys = jax.random.split(jax.random.key(0), 10_001)
        genotypes = [space.sample(key) for key in keys]
        for key, a, b in zip(keys, genotypes, genotypes[1:]):
            for way in CROSSOVERS:
                child = space.crossover(a, b, key, way)
                space.check(child)
                wrong += any(gene not in genes for gene, genes in zip(child, zip(a, b)))
        took = time.perf_counter() - start
        print(
            f"{kind.__name__}: 10,000 pairs in {len(CROSSOVERS)} ways, {wrong} wrong, {took:.0f} s"
        )


def export_all() -> None:
    """Export a small random network of each space in every format, and read it again."""
    onnxruntime: Any = importlib.import_module("onnxruntime")
    print("| space | flax | stablehlo | onnx |\n|---|---|---|---|")
    for kind in SMALL:
        space, key = space_of(kind, (16, 16, 3), 10), jax.random.key(0)
        spec = space.build(space.sample(key), "final")
        variables = nj.init(spec, key)
        images = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype(np.float32)
        wanted = np.asarray(nj.apply(spec, variables, images))
        with tempfile.TemporaryDirectory() as folder:
            for form in (as_flax, as_stablehlo, as_onnx, as_weights, as_orbax):
                for name, content in form(spec, variables).items():
                    path = pathlib.Path(folder, form.__name__, name)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
            root = pathlib.Path(folder)
            assert nj.from_json((root / "as_weights" / "spec.json").read_text()) == spec, kind
            again, weights = load_orbax(root / "as_orbax")
            assert again == spec, kind
            assert jax.tree.all(jax.tree.map(np.array_equal, weights, variables)), kind
            names = runpy.run_path(str(root / "as_flax" / "network.py"))
            found = [names["Network"]().apply(names["load"](), images)]
            program = (root / "as_stablehlo" / "network.stablehlo").read_bytes()
            found.append(jax.export.deserialize(bytearray(program)).call(images))
            session = onnxruntime.InferenceSession(root / "as_onnx" / "network.onnx")
            found += session.run(None, {session.get_inputs()[0].name: images})
        errors = [float(np.abs(np.asarray(x) - wanted).max() / np.abs(wanted).max()) for x in found]
        print(f"| {kind.__name__} | " + " | ".join(f"{error:.0e}" for error in errors) + " |")


def measure_darts() -> None:
    """Build, compile and train DARTS's network for one update."""
    genotype = spaces.Darts().start
    start = time.perf_counter()
    spec = spaces.Darts(channels=36, cells=20).build(genotype, "final")
    built = time.perf_counter() - start
    settings = TrainingSettings(batch_size=96)
    rng, key = np.random.default_rng(0), jax.random.key(0)
    num = max(2, updates_per_program())
    images = rng.integers(0, 256, (num * 96, 32, 32, 3), np.uint8)
    examples = Examples(images, np.arange(num * 96) % 10)
    variables = nj.init(spec, key)
    start = time.perf_counter()
    required = precompile(spec, variables, examples, key, settings)
    compiled = time.perf_counter() - start
    fit(spec, variables, examples, key, 1, settings)
    seconds = fit(spec, variables, examples, key, 1, settings).train_seconds / num
    print(
        f"{machine()}\nnodes {len(spec.nodes)}, built in {built:.3f} s, compiled in {compiled:.0f} "
        f"s, an update of 96 images takes {seconds:.1f} s, memory {required / 2**30:.2f} GiB"
    )


def main(argv: list[str]) -> None:
    del argv
    compile_faster()
    if EXPORT.value:
        export_all()
    elif CROSS.value:
        cross_all()
    elif DARTS.value:
        measure_darts()
    else:
        train_all()


if __name__ == "__main__":
    app.run(main)
