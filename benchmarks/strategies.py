"""Strategies at equal training FLOPs, several seeds each.

  python -m benchmarks.strategies --preset=digits --workdir=DIR
  python -m benchmarks.strategies --preset=small --dataset=npz:cifar10.npz --workdir=DIR

Hill climbing has the sizes of the preset. The sizes of the others are chosen before anything is
trained, so that their trainings are expected to take as many FLOPs: the expectation is the mean of
simulated searches, in which larger networks tend to be better. What was spent in fact is in the
table, hill climbing's as 1. `one_network` is model_0 alone, trained for as many FLOPs.
All have the same bounds, recipe and final training. Networks are chosen on validation images; the
test images are looked at once, by the final network. Runs that are in the folder are not made
again. Prints a table.
"""

from __future__ import annotations

import pathlib
import random
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from absl import app, flags, logging

import nash_jax as nj
from benchmarks.machine import machine
from nash_jax.architecture import count_flops
from nash_jax.estimation import Estimate, Seconds
from nash_jax.runs import Config, Problem, prepare, read_run, space_of
from nash_jax.runs.problem import dataset_of
from nash_jax.search import STRATEGIES, Keys, Proposal, Trial, simulate
from nash_jax.text import mean_and_deviation

PRESET = flags.DEFINE_string("preset", "digits", "the sizes of hill climbing, and the recipe")
DATASET = flags.DEFINE_string("dataset", "digits", "as `nash search` takes it")
SEEDS = flags.DEFINE_integer("seeds", 3, "runs of each strategy")
WORKERS = flags.DEFINE_integer("workers", 1, "trials side by side")
WORKDIR = flags.DEFINE_string("workdir", None, "folder of the runs", required=True)

SIMULATIONS = 9


def configs(config: Config, size: int) -> dict[str, Config]:
    """What is compared with hill climbing, at a number of networks or epochs."""
    epochs = config.recipes.epochs_neighbours
    population = max(3, size // 3)
    evolution = {
        "num_samples": size,
        "population": population,
        "tournament": max(2, population // 2),
        "window": 2,
    }
    halving = {"num_samples": size, "first_epochs": max(1, round(epochs / 3))}
    kinds: dict[str, dict[str, Any]] = {
        "random_search": {"num_samples": size},
        "aging_evolution": evolution,
        "successive_halving": halving,
        "one_network": {"epochs_pretrain": size},
    }
    return {
        kind: nj.preset(PRESET.value, strategy=kind, dataset=DATASET.value, **settings)
        for kind, settings in kinds.items()
    }


def epochs_of(trial: Trial, config: Config) -> int:
    """Epochs that a simulated trial would have been trained for."""
    budget = trial.proposal.budget
    return config.recipes.by_name()[trial.recipe].epochs if budget is None else round(budget)


def expected(config: Config, problem: Problem) -> float:
    """FLOPs for one image, times epochs, that a search is expected to spend."""
    found = []
    for seed in range(SIMULATIONS):
        rng = random.Random(seed)

        def estimate(proposal: Proposal, rng: random.Random = rng) -> Estimate:
            score = count_flops(proposal.genotype) * rng.uniform(0.5, 1.5)
            return Estimate(score, 1.0, Seconds())

        space = space_of(config, problem.model_0)
        strategy = STRATEGIES[config.values()["strategy"]]
        keys = Keys(*jax.random.split(jax.random.key(1000 + seed), 4))
        trials = simulate(space, strategy(space, config.strategy, keys), estimate)
        found.append(sum(trial.flops * epochs_of(trial, config) for trial in trials))
    return statistics.mean(found)


def size_for(budget: float, at: Callable[[int], float]) -> int:
    """The size whose expected spending is nearest to a budget; it rises with the size."""
    size = 4
    while at(size) < budget:
        size += max(1, size // 8)
    below = max(size - max(1, size // 8), 4)
    return min(range(below, size + 1), key=lambda n: abs(at(n) - budget))


class Outcome(NamedTuple):
    """What a run spent and found."""

    networks: int
    flops: float  # for one image, times epochs
    validation: float
    test: float


def outcome_of(workdir: pathlib.Path) -> Outcome:
    """What a finished run spent and found."""
    view = read_run(workdir)
    tried = [trial for trial in view.tried if not trial.failed]
    assert view.final is not None
    return Outcome(
        len(tried),
        sum(trial.flops * len(trial.estimate.train_losses) for trial in tried),
        max(trial.estimate.accuracy for trial in tried),
        view.final.estimate.accuracy,
    )


def main(argv: list[str]) -> None:
    del argv
    logging.set_verbosity(logging.WARNING)
    climbing = nj.preset(PRESET.value, dataset=DATASET.value)
    dataset = dataset_of(climbing)
    problem = prepare(climbing, dataset)
    budget = expected(climbing, problem)
    compared = {"hill_climbing": climbing}
    for kind in configs(climbing, 4):

        def at(size: int, kind: str = kind) -> float:
            return expected(configs(climbing, size)[kind], problem)

        compared[kind] = configs(climbing, size_for(budget, at))[kind]
    rows: dict[str, list[Outcome]] = {kind: [] for kind in compared}
    for seed in range(SEEDS.value):
        for kind, config in compared.items():
            workdir = pathlib.Path(WORKDIR.value) / f"{kind}-{seed}"
            nj.run_search(
                config.replace(seed=seed), dataset, workers=WORKERS.value, workdir=workdir
            )
            rows[kind].append(outcome_of(workdir))
            print(kind, seed, *(f"{value:.4g}" for value in rows[kind][-1]), flush=True)
    one = statistics.mean(outcome.flops for outcome in rows["hill_climbing"])
    print(f"\n{machine()}\n")
    print("| strategy | networks | training FLOPs | validation % | test % | test %, by seed |")
    print("|---|---|---|---|---|---|")
    for kind, outcomes in rows.items():
        shares = [outcome.flops / one for outcome in outcomes]
        tests = [100 * outcome.test for outcome in outcomes]
        cells = [
            kind,
            f"{statistics.mean(outcome.networks for outcome in outcomes):.0f}",
            f"{statistics.mean(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})",
            f"{100 * statistics.mean(outcome.validation for outcome in outcomes):.2f}",
            mean_and_deviation(tests),
            ", ".join(f"{test:.2f}" for test in tests),
        ]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    app.run(main)
