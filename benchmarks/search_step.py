"""How long one step of a search takes on the CPU: ours, and PyTorch's one child after the other.

  python -m benchmarks.search_step --dataset=npz:cifar10.npz --rounds=3

Measures eight children of the first step, compiling included: of the search on the digits and, if
`--dataset` names CIFAR-10, of the `laptop` preset on 10,000 of its images. nash_jax pretrains
model_0 once, untimed. Both sides are given the same proposals and settings, and take turns. Ratios
are given of the medians over the rounds, and of each round.

Ours: worker processes, one per core, as the launcher has them, fresh in every round. A search
starts them while it pretrains, so the clock starts when they are ready; the seconds with their
start are given apart. In 'ours' nothing is compiled before and there is no cache on disk; in
'second run' the cache is there, filled by an untimed round. These times include growing.

PyTorch: eager mode, all cores. Its times include neither growing nor the costs that only the first
training in a process has: an untimed child comes before the first round. The ratio uses the seconds
with all cores. PyTorch is also timed with one thread, which other processes cannot hold up: if one
thread is much faster, it is the fairer comparison, or other processes were busy and the ratio means
nothing.

The shares are parts of the workers' time in the step (workers times seconds), means over the
rounds; growing counts as compiling, and 'neither' is the rest, mostly waiting for the last child.

At the end a whole search runs, `experiments.nash --preset=digits` without a cache. The ledger has
the seconds of compiling, training and evaluating. 'Nobody busy' is what is left of the run's
seconds after pretraining, the steps and final training: starting workers, saving, drawing;
proposing, some hundredths of a second, is in the steps. 'Workers idle' is the part of the steps in
which workers had nothing to do, mostly while the last child is trained, divided by their number.
Starting Python and reading the data come before the run; its seconds are given apart.

It needs a machine that does nothing else: see `benchmarks.updates`, also for the column of cores
that others kept busy. Needs the `torch` extra. Prints tables and writes search_step.json.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import jax
import numpy as np
from absl import app, flags

import nash_jax as nj
from benchmarks.machine import busy_seconds, machine
from nash_jax.architecture import Variables
from nash_jax.data import load_dataset
from nash_jax.estimation import (
    Estimate,
    Images,
    Job,
    Network,
    Seconds,
    Tools,
    train_and_validate,
)
from nash_jax.execution import Processes
from nash_jax.launching import compile_faster
from nash_jax.machine import num_cores
from nash_jax.runs import (
    Config,
    prepare,
    read_ledger,
    space_of,
)
from nash_jax.runs.problem import Problem
from nash_jax.search import Keys, Proposal, Trial, child

# Workers import this module too, and PyTorch would cost them seconds, memory and threads: functions
# import it, and `benchmarks.torch_network`.

ROUNDS = flags.DEFINE_integer("rounds", 3, "how often the two take turns")
BRIEF = flags.DEFINE_bool("brief", False, "no second run, and no PyTorch with one thread")
DATASET = flags.DEFINE_string("dataset", "", "CIFAR-10 as npz:FILE; without, only the digits")
TOY = flags.DEFINE_bool("toy", False, "one round of two tiny children: only to see that it runs")
OUT = flags.DEFINE_string("out", "search_step.json", "file to write the figures to")

TOY_CONFIG = {"max_train_examples": 200, "epochs_pretrain": 1, "epochs_neighbours": 1}
BUSY = ("compile", "train", "evaluate")


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """What both sides are given: a search after pretraining, and its first proposals."""

    config: Config
    problem: Problem
    best: Network
    proposals: tuple[Proposal, ...]
    grown: tuple[Variables, ...]


def first_step(config: Config) -> Step:
    """Pretrain, propose, and grow the children for PyTorch."""
    problem = prepare(config, load_dataset(config.data.dataset))
    keys = Keys(*jax.random.split(jax.random.key(config.seed), 4))
    spec, train = problem.model_0, problem.train
    variables, _ = train_and_validate(
        spec,
        nj.init(spec, keys.init),
        keys.pretrain,
        train,
        problem.valid,
        config.recipes.epochs_pretrain,
        config.recipes.training,
    )
    best = Trial(Proposal("model_0", spec, keys.pretrain), spec, Estimate(0.0, 0.0, Seconds()))
    space, settings = space_of(config, spec), config.strategy
    proposals = tuple(
        child(space, best, keys.search, 1, number, settings)
        for number in range(1, settings.num_neighbours + 1)
    )
    images = train.images[: config.recipes.training.batch_size]
    grown = tuple(
        nj.morphisms.Sequence(p.edits)(spec, variables, p.key, images)[1] if p.edits else variables
        for p in proposals
    )
    return Step(config, problem, Network(spec, variables), proposals, grown)


def num_workers(config: Config) -> int:
    """As many as the launcher takes."""
    return min(max(1, num_cores() // config.threads_per_child), config.strategy.num_neighbours)


def our_step(step: Step, cache: str | None) -> dict[str, Any]:
    """The step by fresh worker processes, with a cache of compiled programs or without."""
    config, problem, workers = step.config, step.problem, num_workers(step.config)
    images = Images(problem.train, problem.valid, problem.valid.take(np.arange(0)))
    jax.config.update("jax_compilation_cache_dir", cache)  # workers take it from this setting
    start = time.perf_counter()
    executor = Processes(images, Tools(), workers, config.threads_per_child)
    jax.config.update("jax_compilation_cache_dir", None)  # only the workers use it
    try:
        executor.wait()
        ready = time.perf_counter()
        executor.put("model_0", step.best)
        for proposal in step.proposals:
            key = np.asarray(jax.random.key_data(proposal.key))
            recipe = config.recipes.by_name()[proposal.recipe]
            job = Job(proposal.name, proposal.genotype, key, recipe, "model_0", proposal.edits)
            executor.submit(job)
        outcomes = dict(executor.done())
        end = time.perf_counter()
    finally:
        executor.close()
    estimates = [outcomes[proposal.name].estimate for proposal in step.proposals]
    spent = {what: sum(getattr(e.seconds, what) for e in estimates) for what in BUSY}
    shares = {what: seconds / (workers * (end - ready)) for what, seconds in spent.items()}
    return {
        "seconds": end - ready,
        "seconds_with_start": end - start,
        "shares": {**shares, "neither": 1 - sum(shares.values())},
        "accuracies": [e.accuracy for e in estimates],
    }


def torch_step(step: Step, threads: int, children: int | None = None) -> dict[str, Any]:
    """The step in PyTorch, one child after the other; or its first children alone."""
    import torch

    from benchmarks import torch_network

    config, problem = step.config, step.problem
    torch.set_num_threads(threads)
    start, accuracies = time.perf_counter(), []
    for proposal, variables in list(zip(step.proposals, step.grown))[:children]:
        network = torch_network.TorchNetwork(proposal.genotype)
        torch_network.load(network, variables)
        recipe = config.recipes.by_name()["brief"]
        torch_network.train(network, problem.train, recipe.epochs, recipe.training)
        accuracies.append(torch_network.evaluate(network, problem.valid).accuracy)
    return {"seconds": time.perf_counter() - start, "accuracies": accuracies}


def measure(config: Config) -> dict[str, Any]:
    """All rounds of one search."""
    import torch

    def lap() -> tuple[float, float]:
        """The time, and the seconds of all cores that went to others; workers are ours."""
        everybody, own = busy_seconds()
        times = os.times()
        return time.perf_counter(), everybody - own - times.children_user - times.children_system

    step, threads = first_step(config), torch.get_num_threads()
    sides = (
        ("ours", "torch") if BRIEF.value else ("ours", "torch", "second_run", "torch_one_thread")
    )
    rows: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as cache:
        if not BRIEF.value:
            our_step(step, cache)
        torch_step(step, threads, children=1)
        start, others_before = lap()
        for _ in range(1 if TOY.value else ROUNDS.value):
            rows["ours"].append(our_step(step, None))
            rows["torch"].append(torch_step(step, threads))
            if not BRIEF.value:
                rows["second_run"].append(our_step(step, cache))
                rows["torch_one_thread"].append(torch_step(step, 1))
        end, others_after = lap()
    torch.set_num_threads(threads)
    seconds = {side: [row["seconds"] for row in rows[side]] for side in rows}
    median = {side: statistics.median(values) for side, values in seconds.items()}
    started = statistics.median(row["seconds_with_start"] for row in rows["ours"])
    return {
        "config": dataclasses.asdict(config),
        "workers": num_workers(config),
        "params": [nj.count_params(proposal.genotype) for proposal in step.proposals],
        "median_seconds": {**median, "ours_with_start": started},
        "ratio": median["torch"] / median["ours"],
        "ratios": [theirs / ours for theirs, ours in zip(seconds["torch"], seconds["ours"])],
        "others_busy_cores": max(0.0, (others_after - others_before) / (end - start)),
        "rounds": rows,
    }


def whole_search(workers: int) -> dict[str, float]:
    """Where the seconds of a run of the launcher went."""
    settings = TOY_CONFIG | {"epochs_final": 1, "num_steps": 1, "num_neighbours": 2}
    extra = [f"--{name}={value}" for name, value in settings.items()] if TOY.value else []
    command = [sys.executable, "-m", "experiments.nash", "--preset=digits", "--cache_dir=none"]
    with tempfile.TemporaryDirectory() as folder:
        workdir = pathlib.Path(folder, "run")
        start = time.perf_counter()
        run = [*command, f"--workdir={workdir}", f"--workers={workers}", *extra]
        subprocess.run(run, check=True, capture_output=True)
        process_seconds = time.perf_counter() - start
        result = json.loads((workdir / "result.json").read_text())
        ledger = read_ledger(workdir)
    spent = {kind: 0.0 for kind in ("pretrained", "child", "final")}
    for line in ledger:
        spent[line["kind"]] += sum(line["seconds"][what] for what in BUSY)
    children = spent["child"] / workers
    steps = children / (1 - result["shares"]["wait"])
    nobody = result["seconds"] - spent["pretrained"] - steps - spent["final"]
    return {
        "process_seconds": process_seconds,
        "seconds": result["seconds"],
        "pretraining": spent["pretrained"],
        "steps": steps,
        "final_training": spent["final"],
        "nobody_busy": nobody,
        "workers_idle": steps - children,
    }


def print_table(titles: tuple[str, ...], rows: list[list[str]]) -> None:
    lines = [list(titles), ["---"] * len(titles), *rows]
    print("\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n", flush=True)


def print_steps(steps: dict[str, dict[str, Any]]) -> None:
    """What was measured, search by search; then the shares."""
    titles = ("search", "ours, s", "with the workers' start, s", "PyTorch, s", "PyTorch / ours")
    more = ("lowest to highest", "second run, s", "PyTorch / second run")
    last = ("PyTorch with one thread, s", "that / ours", "cores busy with others")
    rows, shares = [], []
    for name, row in steps.items():
        median = row["median_seconds"]
        seconds = [f"{median[side]:.1f}" for side in ("ours", "ours_with_start", "torch")]
        spread = f"{min(row['ratios']):.2f} to {max(row['ratios']):.2f}"
        second, one = ["", ""], ["", ""]
        if "second_run" in median:
            again, single = median["second_run"], median["torch_one_thread"]
            second = [f"{again:.1f}", f"{median['torch'] / again:.2f}"]
            one = [f"{single:.1f}", f"{single / median['ours']:.2f}"]
        others = f"{row['others_busy_cores']:.2f}"
        rows.append([name, *seconds, f"{row['ratio']:.2f}", spread, *second, *one, others])
        for side, title in (("ours", name), ("second_run", f"{name}, second run")):
            parts = [measured["shares"] for measured in row["rounds"].get(side, [])]
            if not parts:
                continue
            means = [statistics.mean(part[what] for part in parts) for what in (*BUSY, "neither")]
            shares.append([title, *(f"{mean:.1%}" for mean in means)])
    print_table((*titles, *more, *last), rows)
    if any(row["others_busy_cores"] > 0.1 for row in steps.values()):
        print("Others were busy: the ratios to PyTorch on all cores mean nothing.\n")
    print_table(("of the workers' time in the step", *BUSY, "neither"), shares)


def main(_: list[str]) -> None:
    compile_faster()
    if jax.default_backend() != "cpu":
        raise app.UsageError("this is a benchmark of CPUs; set JAX_PLATFORMS=cpu")
    for name in ("NPROC", "JAX_COMPILATION_CACHE_DIR"):
        if name in os.environ:
            raise app.UsageError(f"unset {name}: cores and caches are what is measured here")
    toy: dict[str, Any] = TOY_CONFIG | {"num_neighbours": 2} if TOY.value else {}
    configs = {"digits": nj.preset("digits", **{"num_neighbours": 8} | toy)}
    if DATASET.value:
        laptop: dict[str, Any] = {"dataset": DATASET.value, "num_neighbours": 8}
        configs["CIFAR-10"] = nj.preset("laptop", **laptop | toy)
    about, workers = machine(), num_workers(configs["digits"])
    print(
        f"{about['cpu']}, {about['cores']} cores, as many threads for PyTorch and "
        f"{workers} workers for us, Python {about['python']}, jax {about['jax']}, "
        f"torch {about['torch']}, {about['date']}\n"
    )
    results: dict[str, Any] = {**about, "toy": TOY.value, "steps": {}}

    def save() -> None:
        pathlib.Path(OUT.value).write_text(json.dumps(results, indent=1) + "\n")

    for name, config in configs.items():
        results["steps"][name] = measure(config)
        save()
    print_steps(results["steps"])
    if not DATASET.value:
        print("CIFAR-10 is left out: --dataset=npz:FILE was not given.\n")
    results["whole_search"] = whole = whole_search(workers)
    save()
    titles = ("pretraining", "steps", "final_training", "nobody_busy", "workers_idle")
    seconds = whole["seconds"]
    print_table(
        ("whole search", *(title.replace("_", " ") for title in titles)),
        [
            [f"{seconds:.1f} s", *(f"{whole[title]:.1f} s" for title in titles)],
            ["share", *(f"{whole[title] / seconds:.1%}" for title in titles)],
        ],
    )
    print(f"The process, from its start to its end: {whole['process_seconds']:.1f} s.")


if __name__ == "__main__":
    app.run(main)
