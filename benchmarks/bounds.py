"""Whether any proposal of any strategy exceeds a bound: nothing is trained, estimates are made up.

  python -m benchmarks.bounds

On CIFAR-10's image shape, from preset laptop's model_0. Prints a table: strategies down, bounds
across, and how many of the proposals exceed each. The goal is 0.
"""

from __future__ import annotations

import random

import jax
from absl import app, flags, logging

import nash_jax as nj
from benchmarks.machine import machine
from nash_jax.architecture import COSTS
from nash_jax.estimation import Estimate, Seconds
from nash_jax.runs import space_of
from nash_jax.search import STRATEGIES, Keys, Proposal, simulate

PROPOSALS = flags.DEFINE_integer("proposals", 1000, "of each strategy under each bound")
ONLY = flags.DEFINE_list("strategies", [s for s in STRATEGIES if s != "one_network"], "which")
TIMES = flags.DEFINE_float("times", 3.0, "each bound, as a multiple of what model_0 costs")

BOUNDS = ("params", "flops", "bytes", "activation_bytes")


def settings_of(strategy: str, proposals: int) -> dict[str, int]:
    """Settings with which a strategy makes about so many proposals."""
    match strategy:
        case "hill_climbing":
            steps = max(1, proposals // 50)  # many steps would make networks of hundreds of nodes
            return {"num_steps": steps, "num_neighbours": 50, "num_morphisms": 2}
        case "aging_evolution":
            sizes = {"population": min(20, proposals), "tournament": min(5, proposals)}
            return {"num_samples": proposals, **sizes}
        case _:
            return {"num_samples": proposals}


def over(strategy: str, bound: str) -> tuple[int, int]:
    """How many proposals a strategy makes, and how many of them exceed the bound."""
    config = nj.preset("laptop", strategy=strategy, num_edits=6, max_flops=0)
    config = config.replace(**settings_of(strategy, PROPOSALS.value))
    model_0 = nj.chain((32, 32, 3), 10, config.space.widths)
    most = int(TIMES.value * COSTS[bound](model_0))
    config = config.replace(**{f"max_{bound}": most})
    space, rng = space_of(config, model_0), random.Random(0)

    def estimate(proposal: Proposal) -> Estimate:
        return Estimate(rng.random(), 1.0, Seconds())

    keys = Keys(*jax.random.split(jax.random.key(0), 4))
    trials = list(simulate(space, STRATEGIES[strategy](space, config.strategy, keys), estimate))
    return len(trials), sum(COSTS[bound](trial.spec) > most for trial in trials)


def main(argv: list[str]) -> None:
    del argv
    logging.set_verbosity(logging.WARNING)
    print(f"{machine()}; each bound is {TIMES.value:g} times what model_0 costs\n")
    print("| strategy | " + " | ".join(f"over max_{bound}" for bound in BOUNDS) + " |")
    print("|---" * (1 + len(BOUNDS)) + "|")
    for strategy in ONLY.value:
        found = [over(strategy, bound) for bound in BOUNDS]
        cells = [f"{number} of {proposals:,}" for proposals, number in found]
        print(f"| {strategy} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    app.run(main)
