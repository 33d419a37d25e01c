"""How large the paper's random networks get, and by which edits, under a bound on their FLOPs.

python -m benchmarks.sizes
python -m benchmarks.sizes --preset=small

Draws what `--num_neighbours=1` draws, step by step, on images of CIFAR, and prints the parameters
and FLOPs of the networks and the share of each kind of edit in each step. Nothing is trained.
"""

from __future__ import annotations

import collections
import math
import statistics

import jax
from absl import app, flags, logging

import nash_jax as nj
from nash_jax.estimation import Estimate, Seconds
from nash_jax.morphisms import Edit
from nash_jax.runs import PRESETS, Config, space_of
from nash_jax.search import Keys, hill_climbing, simulate

SEEDS = flags.DEFINE_integer("seeds", 30, "networks for each bound", lower_bound=1)
BOUNDS = flags.DEFINE_list("mflops", [], "bounds, per image, or inf; default: the preset's")
PRESET = flags.DEFINE_enum("preset", "paper", list(PRESETS), "sizes of the search")

KINDS = ("Deepen", "Widen", "SkipAdd", "SkipConcat")


def grown(config: Config, seed: int) -> tuple[nj.Architecture, list[tuple[Edit, ...]]]:
    """A random network, and the edits of each step that made it."""
    space = space_of(config, nj.chain((32, 32, 3), 10, config.space.widths))
    strategy = hill_climbing(space, config.strategy, Keys(*[jax.random.key(seed)] * 4))
    trials = list(simulate(space, strategy, lambda proposal: Estimate(0.0, 0.0, Seconds())))
    return trials[-1].spec, [trial.edits for trial in trials[1:]]


def main(argv: list[str]) -> None:
    del argv
    logging.set_verbosity(logging.WARNING)
    preset = nj.preset(PRESET.value, num_neighbours=1)
    for bound in map(float, BOUNDS.value or [str(preset.bounds.max_flops / 1e6)]):
        flops = 0 if bound == math.inf else round(1e6 * bound)
        config = preset.replace(max_flops=flops)
        made = [grown(config, seed) for seed in range(SEEDS.value)]
        params = [nj.count_params(spec) / 1e6 for spec, _ in made]
        largest = max(nj.count_flops(spec) / 1e6 for spec, _ in made)
        mean = statistics.mean(nj.count_flops(spec) / 1e6 for spec, _ in made)
        print(f"\n{PRESET.value}, at most {bound:,g} MFLOPs, {SEEDS.value} seeds:")
        print(f"MFLOPs: mean {mean:,.1f}, largest {largest:,.1f}")
        print(
            f"parameters, M: mean {statistics.mean(params):,.2f}, median "
            f"{statistics.median(params):,.2f}, largest {max(params):,.2f}\n"
        )
        print("| step | edits | " + " | ".join(KINDS) + " |")
        print("|---" * (2 + len(KINDS)) + "|")
        for step in range(config.strategy.num_steps):
            counts = collections.Counter(type(e).__name__ for _, steps in made for e in steps[step])
            shares = [f"{counts[kind] / max(1, counts.total()):.0%}" for kind in KINDS]
            print(f"| {step + 1} | {counts.total()} | " + " | ".join(shares) + " |", flush=True)


if __name__ == "__main__":
    app.run(main)
