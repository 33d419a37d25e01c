"""Whether a network learns as much here as in PyTorch: same images, epochs, rates and crops.

  python -m benchmarks.trainer_parity --dataset=npz:cifar10.npz

Each network is trained from new weights in both trainers, as the paper trains, for each number of
epochs and each seed. PyTorch begins as `torch.nn` does, nash_jax as `nj.init` does; `--starts` adds
other starts in nash_jax's trainer, to separate the effect of the start from the effect of the
trainer. Every training is appended to a file of JSON lines and never done again, so an interrupted
benchmark goes on where it was, and several processes may share the file, each with its own sets,
networks, starts or seeds. `--report` prints the tables of what is there.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from absl import app, flags, logging

import nash_jax as nj
from benchmarks.machine import machine
from benchmarks.networks import plain
from benchmarks.rows import add_row, read_rows, set_name
from nash_jax import morphisms, ops
from nash_jax.architecture import Architecture
from nash_jax.data import Examples, channel_statistics, load_dataset, stratified_split, subset
from nash_jax.launching import compile_faster
from nash_jax.text import mean_and_deviation
from nash_jax.training import TrainingSettings, evaluate, fit

DATASETS = flags.DEFINE_multi_string("dataset", [], "the images; may be given several times")
IMAGES = flags.DEFINE_integer("images", 10000, "training images, or all if there are fewer")
EPOCHS = flags.DEFINE_list("epochs", ["4", "16", "40"], "lengths of the trainings")
SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "of the weights and the order of the images")
NETWORKS = flags.DEFINE_list("networks", ["plain", "chain", "grown"], "which are trained")
STARTS = flags.DEFINE_list("starts", ["nash_jax", "pytorch"], "'pytorch' is PyTorch's trainer")
SPLIT = flags.DEFINE_enum(
    "split", "test", ["test", "validation"], "'validation': a fifth of the training images"
)
OUT = flags.DEFINE_string("out", "trainer_parity.jsonl", "the file of the trainings")
REPORT = flags.DEFINE_bool("report", False, "train nothing, and print the tables")

# Variances of kernels times the number of inputs, in convolutions and in dense layers. Glorot's
# variance is 2 / (inputs + outputs), which the paper's Keras began with.
STARTS_OF_KERNELS: dict[str, tuple[float, float]] = {
    "he": (2.0, 1.0),
    "lecun": (1.0, 1.0),
    "third": (1 / 3, 1.0),
    "thirds": (1 / 3, 1 / 3),
    "glorot": (math.nan, math.nan),
}


def network(
    name: str, input_shape: tuple[int, ...], num_classes: int, normalize: ops.Normalize
) -> Architecture:
    """The networks that are trained: `plain`, the paper's chain, and what ten edits make of it."""
    if name == "plain":
        return plain(input_shape, num_classes, normalize)
    chain = nj.chain(input_shape, num_classes, (16, 32, 64), normalize)
    if name == "chain":
        return chain
    if name != "grown":
        raise app.UsageError(f"no network {name!r}; there are plain, chain and grown")
    bounds = morphisms.rising_bounds(nj.count_flops(chain), 5 * nj.count_flops(chain), 10)
    key = jax.random.key(0)
    return morphisms.sample_edits(chain, key, 10, cost=nj.count_flops, bounds=bounds)[1]


def started(spec: Architecture, variables: Any, start: str) -> Any:
    """The variables with kernels of another size."""
    if start == "nash_jax":
        return variables
    params = {}
    for node, arrays in variables["params"].items():
        params[node] = dict(arrays)
        if "kernel" in arrays:
            kernel = np.asarray(arrays["kernel"])
            fan_in = math.prod(kernel.shape[:-1])
            fan_out = fan_in // kernel.shape[-2] * kernel.shape[-1]
            gain = STARTS_OF_KERNELS[start][kernel.ndim == 2]
            variance = 2 / (fan_in + fan_out) if start == "glorot" else gain / fan_in
            params[node]["kernel"] = kernel * np.float32(math.sqrt(variance) / kernel.std())
    return variables | {"params": params}


def accuracy_of(
    spec: Architecture, start: str, train: Examples, judge: Examples, epochs: int, seed: int
) -> tuple[float, float]:
    """The accuracy after a training, and its last loss (not known of PyTorch's)."""
    settings = TrainingSettings()
    if start == "pytorch":
        import torch

        from benchmarks import torch_network

        torch.manual_seed(seed)
        module = torch_network.TorchNetwork(spec)
        torch_network.train(module, train, epochs, settings, seed)
        return torch_network.evaluate(module, judge).accuracy, math.nan
    init_key, key = jax.random.split(jax.random.key(seed))
    variables = started(spec, nj.init(spec, init_key), start)
    trained = fit(spec, variables, train, key, epochs, settings)
    return evaluate(spec, trained.variables, judge).accuracy, float(trained.losses[-1])


def trainings() -> Iterator[dict[str, Any]]:
    """Do what is not done yet."""
    done = {tuple(row["what"]) for row in read_rows(OUT.value)}
    for name in DATASETS.value:
        dataset = load_dataset(name)
        train = dataset.train
        judge = dataset.test
        if SPLIT.value == "validation":
            train, judge = stratified_split(train, 0.2, seed=0)
        if IMAGES.value < len(train):
            train = subset(train, IMAGES.value, seed=0)
        normalize = ops.Normalize(*channel_statistics(train.images))
        shape, num_classes = dataset.image_shape, dataset.num_classes
        specs = {net: network(net, shape, num_classes, normalize) for net in NETWORKS.value}
        for seed, net, epochs, start in itertools.product(
            *(map(int, SEEDS.value), specs, map(int, EPOCHS.value), STARTS.value)
        ):
            about = set_name(name), SPLIT.value, len(train)
            what = (*about, net, epochs, start, seed)
            if what not in done:
                accuracy, loss = accuracy_of(specs[net], start, train, judge, epochs, seed)
                yield {"what": what, "accuracy": accuracy, "loss": loss}


def report() -> None:
    """A table: sets, networks and epochs down, starts across, and how far we are from PyTorch."""
    found: dict[Any, dict[str, list[float]]] = {}
    for row in read_rows(OUT.value):
        *what, start, _ = row["what"]
        found.setdefault(tuple(what), {}).setdefault(start, []).append(100 * row["accuracy"])
    starts = list(dict.fromkeys(start for accuracies in found.values() for start in accuracies))
    print(f"{machine()}\n")
    print("| images | network | epochs | " + " | ".join(starts) + " | nash_jax - pytorch |")
    print("|---" * (4 + len(starts)) + "|")
    for (name, split, images, net, epochs), accuracies in found.items():
        means = {start: statistics.mean(each) for start, each in accuracies.items()}
        cells = [mean_and_deviation(accuracies.get(start, [])) for start in starts]
        both = {"nash_jax", "pytorch"} <= set(means)
        cells.append(f"{means['nash_jax'] - means['pytorch']:+.2f}" if both else "")
        print(f"| {name}, {images:,}, {split} | {net} | {epochs} | " + " | ".join(cells) + " |")


def main(argv: list[str]) -> None:
    del argv
    logging.set_verbosity(logging.WARNING)
    if REPORT.value:
        report()
        return
    compile_faster()
    for row in trainings():
        add_row(OUT.value, row)


if __name__ == "__main__":
    app.run(main)
