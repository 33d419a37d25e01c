"""Whether a search pays: for the same minutes, against the network one would have trained by hand.

  python -m benchmarks.pays --minutes=2 --dataset=digits --dataset=npz:cifar10.npz --out=pays.jsonl

One process after the other, each timed as a whole, start-up and loading of data included:

  search            `nash search --minutes=M`; `--search` has further flags
  model-0           the same without a search: the first network, trained for all of the time
  random            the same with random search
  torch-plain       a plain network of five convolutions in PyTorch, for as many epochs as fit
  torch-resnet-20   ResNet-20 in PyTorch, likewise
  plain             the plain network in nash_jax's trainer, likewise
  plain-modern      the same with the recipe of the search
  torch-...-flops   the networks in PyTorch again, for as many training FLOPs as the search took in
                    all, whatever the time

Same images (at most `--images` for training), crops, flips (not of digits), cosine. On a GPU the
networks in PyTorch are compiled and trained in bfloat16, with twice as many images per update at
twice the rate, because what takes their time there is that Python launches kernels. The methods
alternate. A search splits a fifth off for validation and puts it back for its final training; the
others train on all. Every result is a line of a file and is never made again; `--report` prints the
tables.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import app, flags, logging

import nash_jax as nj
from benchmarks.machine import machine
from benchmarks.networks import as_planned, plain
from benchmarks.rows import add_row, read_rows, set_name
from nash_jax.data import Dataset, Examples, channel_statistics, load_dataset, subset
from nash_jax.evaluation import paired_interval
from nash_jax.launching import compile_faster
from nash_jax.machine import keep_freed_memory
from nash_jax.reporting.view import RunView
from nash_jax.runs import read_run
from nash_jax.runs.planning import RECIPE
from nash_jax.training import TrainingSettings, evaluate, fit

MINUTES = flags.DEFINE_float("minutes", 2.0, "of every process", lower_bound=0.1)
DATASETS = flags.DEFINE_multi_string("dataset", [], "as `nash search` takes it; several times")
IMAGES = flags.DEFINE_integer("images", 10_000, "training images, or all if there are fewer")
SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "of every method on every set")
#: The methods that are one `nash search`, each with its flags.
SEARCHES = {
    "search": [],
    "model-0": ["--strategy=one_network"],
    "random": ["--strategy=random_search"],
}
EQUAL_FLOPS = ("torch-plain-flops", "torch-resnet-20-flops")
METHODS = (*SEARCHES, "torch-plain", "torch-resnet-20", "plain", "plain-modern", *EQUAL_FLOPS)
ONLY = flags.DEFINE_list("methods", list(METHODS), "which are measured")
SEARCH = flags.DEFINE_string("search", "", "further flags of `nash search`")
OUT = flags.DEFINE_string("out", "pays.jsonl", "the file of the results")
REPORT = flags.DEFINE_bool("report", False, "measure nothing, and print the tables")
ONE = flags.DEFINE_string("one", "", "train this method in this process: used by the others")
TFLOPS = flags.DEFINE_float("tflops", 0.0, "of its training, instead of a time")

#: Sets whose images nobody would flip. A search must find that out by itself.
NO_FLIPS = ("digits", "mnist")
#: Updates by which the time of an epoch is estimated.
TIMED = 48
#: When the process of a method was started, by the clock that all processes share.
STARTED = "PAYS_STARTED"


def spec_of(method: str, dataset: Dataset) -> nj.Architecture:
    """The network that a baseline trains."""
    normalize = nj.ops.Normalize(*channel_statistics(dataset.train.images))
    if "plain" in method:
        return plain(dataset.image_shape, dataset.num_classes, normalize)
    return nj.resnet(dataset.image_shape, dataset.num_classes, 20, normalize)


def train_one(method: str, name: str, seed: int) -> float:
    """Train a baseline for the time that is left, or for some FLOPs; its test accuracy.

    Some updates are timed first (after as many that compile and warm up), and then thrown away.
    """
    compile_faster()
    keep_freed_memory()
    dataset = load_dataset(name)
    train = subset(dataset.train, IMAGES.value, seed)
    spec = spec_of(method, dataset)
    changed = dict(RECIPE) if method == "plain-modern" else {}
    if set_name(name) in NO_FLIPS:
        changed["flip"] = False
    if jax.default_backend() != "cpu":
        changed["precision"] = "bfloat16"  # as searches have it there
    settings = as_planned(dataset, **changed)

    def epochs_for(seconds: float, batch_size: int) -> int:
        """How many epochs to train for, if an update takes so long."""
        if TFLOPS.value:
            return max(1, round(1e12 * TFLOPS.value / (3 * nj.count_flops(spec) * len(train))))
        left = 60 * MINUTES.value - (time.monotonic() - float(os.environ[STARTED]))
        return max(1, int(left / (seconds * (len(train) // batch_size))))

    if method.startswith("torch"):
        accuracy, epochs = train_in_torch(spec, train, dataset.test, settings, seed, epochs_for)
    else:
        init_key, key = jax.random.split(jax.random.key(seed))
        variables = nj.init(spec, init_key)
        some, updates = to_time(train, settings, seed)
        fit(spec, variables, some, key, 1, settings)
        seconds = fit(spec, variables, some, key, 1, settings).train_seconds
        epochs = epochs_for(seconds / updates, settings.batch_size)
        trained = fit(spec, variables, train, key, epochs, settings)
        test = evaluate(spec, trained.variables, dataset.test, **settings.evaluation)
        accuracy = test.accuracy
    print(json.dumps({"accuracy": accuracy, "epochs": epochs}))
    return accuracy


def to_time(train: Examples, settings: TrainingSettings, seed: int) -> tuple[Examples, int]:
    """Images by which an update is timed, and the number of updates that an epoch of them has."""
    some = subset(train, TIMED * settings.batch_size, seed)
    return some, len(some) // settings.batch_size


def train_in_torch(
    spec: nj.Architecture,
    train: Examples,
    test: Examples,
    settings: TrainingSettings,
    seed: int,
    epochs_for: Callable[[float, int], int],
) -> tuple[float, int]:
    """Train a network in PyTorch, on a GPU if there is one; its test accuracy, and the epochs.

    Args:
      spec: the network.
      train: the images to train on.
      test: those to test it with.
      settings: of the training on a CPU.
      seed: of the training.
      epochs_for: how many epochs to train for, by the seconds of an update and its images.
    """
    import torch

    from benchmarks import torch_network

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(seed)
    module, untrained = (torch_network.TorchNetwork(spec) for _ in range(2))
    on_gpu: dict[str, Any] = {}
    if torch.cuda.is_available():
        on_gpu = {"device": "cuda", "autocast": torch.bfloat16}
        size, rate = 2 * settings.batch_size, 2 * settings.lr_start
        settings = dataclasses.replace(settings, batch_size=size, lr_start=rate)
        module.compile(dynamic=False)
    some, updates = to_time(train, settings, seed)
    torch_network.train(module, some, 1, settings, seed, **on_gpu)
    seconds = torch_network.train(module, some, 1, settings, seed, **on_gpu)
    epochs = epochs_for(seconds / updates, settings.batch_size)
    module.load_state_dict(untrained.state_dict())
    torch_network.train(module, train, epochs, settings, seed, **on_gpu)
    trained = torch_network.TorchNetwork(spec)  # the other is compiled, for batches as in training
    trained.load_state_dict(module.state_dict())
    return torch_network.evaluate(trained, test, **on_gpu).accuracy, epochs


def training_flops(name: str, run: RunView) -> float:
    """Of all trainings of a search: three times those of a forward pass, for every image."""
    images = min(IMAGES.value, len(load_dataset(name).train))
    forward = 0.0
    for trial in run.trials:
        part = 1.0 if trial.recipe == "final" else 0.8
        work = run.recipes[trial.recipe].mean_work(trial.spec) * len(trial.estimate.train_losses)
        forward += part * work * nj.count_flops(trial.spec)
    return 3.0 * images * forward


def flops_of_search(name: str, seed: int) -> float:
    """What the search on the same images took, in tera: it must have been measured before."""
    what = ("search", set_name(name), seed)
    return float([row["tflops"] for row in rows_there() if _place(row) == what][-1])


def rows_there() -> list[dict[str, Any]]:
    """The results that are there for so many minutes and images, on a device like this."""
    rows = [{"images": 10_000, "device": "cpu", **row} for row in read_rows(OUT.value)]
    these = {"minutes": MINUTES.value, "images": IMAGES.value, "device": device()}
    return [row for row in rows if these.items() <= row.items()]


@functools.cache
def device() -> str:
    """What JAX trains on here: asked of another process, because this one must leave it alone."""
    asked = "import jax; print(jax.devices()[0].device_kind)"
    command = [sys.executable, "-c", asked]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _place(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["method"], row["dataset"], row["seed"]


def measured(method: str, name: str, seed: int) -> dict[str, Any]:
    """Run a method in a process of its own."""
    started = time.monotonic()
    environment = os.environ | {STARTED: str(started)}
    with tempfile.TemporaryDirectory() as folder:
        workdir = pathlib.Path(folder, "run")
        data = [f"--dataset={name}", f"--minutes={MINUTES.value}", f"--images={IMAGES.value}"]
        command = ["-m", "benchmarks.pays", *data, f"--seeds={seed}", f"--one={method}"]
        if method.startswith("torch"):
            environment["JAX_PLATFORMS"] = "cpu"  # else JAX takes most of a GPU's memory
            if device() == "cpu":
                environment["CUDA_VISIBLE_DEVICES"] = ""
        if method in EQUAL_FLOPS:
            command.append(f"--tflops={flops_of_search(name, seed)}")
        if method in SEARCHES:
            most = f"--max_train_examples={IMAGES.value}"
            given = [f"--dataset={name}", most, f"--seed={seed}", f"--workdir={workdir}"]
            given += [f"--minutes={MINUTES.value}", "--progress=quiet", "--cache_dir=none"]
            given += [*SEARCHES[method], *SEARCH.value.split()]
            command = ["-m", "nash_jax.cli", "search", *given]
        done = subprocess.run(
            [sys.executable, *command], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{method} on {name} ended with status {done.returncode}:\n{done.stderr}")
        seconds = time.monotonic() - started
        found: dict[str, Any]
        if method in SEARCHES:
            print(done.stderr, file=sys.stderr)  # the plan, and what became of it
            result = json.loads((workdir / "result.json").read_text())
            run = read_run(workdir)
            assert run.final is not None
            epochs = len(run.final.estimate.train_losses)
            found = {"accuracy": result["test_accuracy"], "epochs": epochs}
            found["trials"] = len(run.trials) - 1
            found["mflops"] = round(nj.count_flops(run.final.spec) / 1e6, 1)
            found["tflops"] = round(training_flops(name, run) / 1e12, 2)
        else:
            found = json.loads(done.stdout.splitlines()[-1])
    what = {"method": method, "dataset": set_name(name), "seed": seed}
    if method in SEARCHES:
        what["search"] = SEARCH.value
    what |= {"minutes": MINUTES.value, "images": IMAGES.value, "device": device()}
    return {**what, "seconds": round(seconds, 1), **found}


class Pair(NamedTuple):
    """Test accuracies in % of a search and of the better network of PyTorch's."""

    set: str
    seed: int
    search: float
    rival: float


def _interval(pairs: list[Pair], what: str) -> str:
    """The mean difference with its interval over all pairs, or over the means of sets or seeds."""
    groups: dict[Any, list[tuple[float, float]]] = {}
    for number, pair in enumerate(pairs):
        key = getattr(pair, what) if what else number
        groups.setdefault(key, []).append((pair.search, pair.rival))
    most = max(map(len, groups.values()), default=0)  # what lacks a pair is left out
    means = [np.mean(group, axis=0) for group in groups.values() if len(group) == most]
    text = f"over {len(means)} {what or 'pair'}s"
    if len(means) < 2:
        return f"{text}: two are needed"
    mean, low, high = paired_interval(*np.transpose(means))
    return f"{text} {mean:+.2f} ({low:+.2f} to {high:+.2f})"


def report() -> None:
    """Print the tables of what is there, for so many minutes and images, on a device like this."""
    found = rows_there()
    print(f"{device()}, {machine()}\n")
    print(f"{MINUTES.value:g} minutes; test accuracy in %, mean of the seeds\n")
    minus = "search minus the better of PyTorch"
    titles = ["set", *METHODS, f"{minus}, equal time", f"{minus}, equal FLOPs"]
    print("| " + " | ".join(titles) + " |")
    print("|---" * len(titles) + "|")
    found_pairs: dict[bool, list[Pair]] = {False: [], True: []}
    for name in dict.fromkeys(row["dataset"] for row in found):
        by_method = {
            method: {
                row["seed"]: 100 * row["accuracy"]
                for row in found
                if (row["method"], row["dataset"]) == (method, name)
            }
            for method in METHODS
        }
        means = {m: statistics.mean(of.values()) for m, of in by_method.items() if of}
        cells = [f"{means[m]:.2f}" if m in means else "" for m in METHODS]
        for equal_flops, pairs in found_pairs.items():
            rivals = [
                m for m in means if m.startswith("torch") and (m in EQUAL_FLOPS) == equal_flops
            ]
            rival = by_method[max(rivals, key=means.__getitem__)] if rivals else {}
            searched = by_method["search"].items()
            here = [Pair(name, seed, x, rival[seed]) for seed, x in searched if seed in rival]
            cells.append(f"{np.mean([p.search - p.rival for p in here]):+.2f}" if here else "")
            pairs += here
        print(f"| {name} | " + " | ".join(cells) + " |")
    for equal_flops, pairs in found_pairs.items():
        print(f"\nat equal {'FLOPs' if equal_flops else 'time'}, with 95% intervals:")
        for what in ("", "set", "seed"):
            print(f"  {_interval(pairs, what)}")
    for method in METHODS:
        seconds = [row["seconds"] for row in found if row["method"] == method]
        if seconds:
            print(f"{method}: {min(seconds):.0f} to {max(seconds):.0f} s")


def main(argv: list[str]) -> None:
    del argv
    logging.set_verbosity(logging.WARNING)
    if REPORT.value:
        report()
        return
    if ONE.value:
        train_one(ONE.value, DATASETS.value[0], int(SEEDS.value[0]))
        return
    done = {_place(row) for row in rows_there()}
    for seed in map(int, SEEDS.value):
        for name in DATASETS.value:
            for method in ONLY.value:
                if (method, set_name(name), seed) in done:
                    continue
                add_row(OUT.value, measured(method, name, seed))
    report()


if __name__ == "__main__":
    app.run(main)
