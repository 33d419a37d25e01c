"""Whether a child with a wider flattened map, trained at the paper's rate, falls below its parent.

python -m benchmarks.head --dataset=npz:cifar10.npz

Pretrains the paper's chain, with half of its channels, on real images, gives its last convolution
more and more channels, and trains each child on at rate 0.05 by one cosine. The chain's head, whose
flattened map has a constant length, is compared with four others: one scales its map by a constant,
one does not scale it, one takes the mean over the pixels, and one normalises its flattened map
(batch normalisation of the vector).
"""

from __future__ import annotations

import dataclasses
import statistics

import jax
from absl import app, flags, logging

import nash_jax as nj
from benchmarks.machine import machine
from nash_jax import ops
from nash_jax.architecture import Architecture, Node
from nash_jax.data import channel_statistics, load_dataset, stratified_split, subset
from nash_jax.training import TrainingSettings, evaluate, fit

DATASET = flags.DEFINE_string("dataset", "digits", "the images")
IMAGES = flags.DEFINE_integer("images", 5000, "training and validation images")
EPOCHS = flags.DEFINE_integer("epochs", 2, "of every child; the parent has twice as many")
SEEDS = flags.DEFINE_integer("seeds", 2, "parents for each head")
WIDTHS = flags.DEFINE_list("widths", ["256", "512", "1024", "2048", "4096"], "of the children")


def heads(spec: Architecture) -> dict[str, Architecture]:
    """The chain with each head."""
    *nodes, flatten, dense = spec.nodes
    scale = flatten.op.factor(spec.shapes["flatten"][0])  # type: ignore[union-attr]
    fixed = dataclasses.replace(flatten, op=ops.Flatten(scale=scale))
    norm = Node("norm", ops.BatchNorm(), "flatten")
    scaled = Node("flatten", ops.Flatten(), flatten.inputs)
    mean = Node("mean", ops.GlobalAvgPool(), flatten.inputs)
    return {
        "constant length": spec,
        "scaled once": Architecture(spec.input_shape, (*nodes, fixed, dense)),
        "not scaled": Architecture(spec.input_shape, (*nodes, scaled, dense)),
        "mean over the pixels": Architecture(
            spec.input_shape, (*nodes, mean, Node("dense", dense.op, "mean"))
        ),
        "normalised": Architecture(
            spec.input_shape, (*nodes, scaled, norm, Node("dense", dense.op, "norm"))
        ),
    }


def main(argv: list[str]) -> None:
    del argv
    logging.set_verbosity(logging.WARNING)
    dataset = load_dataset(DATASET.value)
    examples = subset(dataset.train, IMAGES.value, seed=0)
    train, valid = stratified_split(examples, 0.2, seed=0)
    normalize = ops.Normalize(*channel_statistics(train.images))
    chain = nj.chain(dataset.image_shape, dataset.num_classes, (32, 64, 256), normalize)
    settings = TrainingSettings()
    print(f"{machine()}; {dataset.name}, {len(train):,} training images, ", end="")
    print(f"{EPOCHS.value} epochs at rate 0.05, validation accuracy, {SEEDS.value} seeds\n")
    print("| head | parent | " + " | ".join(f"child of {w}" for w in WIDTHS.value) + " |")
    print("|---" * (2 + len(WIDTHS.value)) + "|")
    for name, spec in heads(chain).items():
        found: dict[str, list[float]] = {}
        for seed in range(SEEDS.value):
            init_key, key, grow_key, child_key = jax.random.split(jax.random.key(seed), 4)
            parent = fit(spec, nj.init(spec, init_key), train, key, 2 * EPOCHS.value, settings)
            accuracy = evaluate(spec, parent.variables, valid).accuracy
            found.setdefault("parent", []).append(accuracy)
            for width in WIDTHS.value:
                child, variables = spec, parent.variables
                if int(width) > 256:
                    edit = nj.morphisms.Widen("conv3", int(width))
                    child, variables = edit(spec, variables, grow_key)
                trained = fit(child, variables, train, child_key, EPOCHS.value, settings)
                accuracy = evaluate(child, trained.variables, valid).accuracy
                found.setdefault(width, []).append(accuracy)
        means = [f"{100 * statistics.mean(each):.1f}%" for each in found.values()]
        print(f"| {name} | " + " | ".join(means) + " |", flush=True)


if __name__ == "__main__":
    app.run(main)
