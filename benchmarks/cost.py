"""What Table 1, row 1 should take on a GPU, by a model: arithmetic, memory traffic, compilations.

python -m benchmarks.cost
python -m benchmarks.cost --mflops=500 --teraflops=200 --gigabytes=3000 --compile_seconds=15

Draws the searches of some seeds as `benchmarks.sizes` does, takes a random child for the best of
every step, and adds up, over pretraining, children and final training:

- arithmetic: three forward passes per image, at `--teraflops`, what convolutions of this size reach
  in bfloat16;
- memory: operations without arithmetic move every output of normalisations, activations, joins and
  poolings `--passes` times (forward and backward together), at `--gigabytes` per second;
- waiting: new graphs are compiled while other networks train; in every step the device waits for
  the first of these compilations, `--compile_seconds`.

The machine's three numbers are guesses; what an H200 reached: docs/performance.md, "On a GPU".
"""

from __future__ import annotations

import dataclasses
import math
import statistics

import jax
import numpy as np
from absl import app, flags, logging

import nash_jax as nj
from nash_jax import ops
from nash_jax.architecture import numbered
from nash_jax.estimation import Estimate, Seconds
from nash_jax.runs import Config, space_of
from nash_jax.search import Keys, Proposal, hill_climbing, select, simulate

SEEDS = flags.DEFINE_integer("seeds", 10, "searches", lower_bound=1)
MFLOPS = flags.DEFINE_list("mflops", ["1000", "500"], "bounds on networks, per image")
TERAFLOPS = flags.DEFINE_float("teraflops", 100, "arithmetic per second that is reached")
GIGABYTES = flags.DEFINE_float("gigabytes", 2000, "memory traffic per second that is reached")
PASSES = flags.DEFINE_float("passes", 8, "times that an activation is read or written per update")
COMPILE_SECONDS = flags.DEFINE_float("compile_seconds", 20, "of one graph")
TRAIN, VALID = 40_000, 10_000

_MOVES = (
    *(ops.BatchNorm, ops.Affine, ops.Add, ops.Concat, ops.Mix, ops.MaxPool, ops.AvgPool),
    *(ops.Relu, ops.Flatten),
)


def bytes_moved(spec: nj.Architecture) -> float:
    """Bytes, in bfloat16, of one image's activations that are only moved, not multiplied."""
    sizes = [math.prod(spec.shapes[n.name]) for n in spec.nodes if isinstance(n.op, _MOVES)]
    return 2.0 * sum(sizes)


@dataclasses.dataclass
class Bill:
    """What a search costs."""

    flops: float = 0.0
    moved: float = 0.0
    graphs: set[nj.Architecture] = dataclasses.field(default_factory=set)
    waits: int = 0

    def train(self, spec: nj.Architecture, epochs: int, images: int) -> None:
        self.flops += 3.0 * nj.count_flops(spec) * epochs * images
        self.moved += PASSES.value * bytes_moved(spec) * epochs * images
        self.graphs.add(numbered(spec)[0])

    @property
    def minutes(self) -> tuple[float, float, float]:
        """Of arithmetic, of memory traffic, and of waiting for the compiler."""
        return (
            self.flops / (1e12 * TERAFLOPS.value) / 60,
            self.moved / (1e9 * GIGABYTES.value) / 60,
            self.waits * COMPILE_SECONDS.value / 60,
        )


def search(config: Config, seed: int) -> Bill:
    """The bill of one search."""
    space, bill = space_of(config, nj.chain((32, 32, 3), 10, config.space.widths)), Bill()
    rng = np.random.default_rng(seed)

    def estimate(proposal: Proposal) -> Estimate:
        """A random child is the best; the unchanged one is not."""
        return Estimate(rng.random() if proposal.edits else 0.0, 0.0, Seconds())

    strategy = hill_climbing(space, config.strategy, Keys(*[jax.random.key(seed)] * 4))
    trials = list(simulate(space, strategy, estimate))
    recipes = config.recipes.by_name()
    for trial in trials:
        bill.train(trial.spec, recipes[trial.recipe].epochs, TRAIN)
    num_steps = config.strategy.num_steps
    bill.waits = num_steps  # the unchanged parent trains while the others are compiled
    last = [trial for trial in trials if trial.step == num_steps]
    bill.train(select(last).spec, recipes["final"].epochs, TRAIN + VALID)
    return bill


def main(argv: list[str]) -> None:
    del argv
    logging.set_verbosity(logging.WARNING)
    print(
        f"{TERAFLOPS.value:g} TFLOP/s, {GIGABYTES.value:g} GB/s, {PASSES.value:g} passes, "
        f"{COMPILE_SECONDS.value:g} s to compile a graph; means of {SEEDS.value} searches\n"
    )
    print("| bound, MFLOPs | PFLOP | graphs | minutes: arithmetic | memory | waiting | all |")
    print("|---|---|---|---|---|---|---|")
    for bound in map(float, MFLOPS.value):
        config = nj.preset("paper", max_flops=round(1e6 * bound))
        bills = [search(config, seed) for seed in range(SEEDS.value)]
        minutes = [statistics.mean(part) for part in zip(*(bill.minutes for bill in bills))]
        pflop = statistics.mean(bill.flops for bill in bills) / 1e15
        graphs = statistics.mean(len(bill.graphs) for bill in bills)
        cells = [f"{pflop:.0f}", f"{graphs:.0f}", *(f"{m:.1f}" for m in (*minutes, sum(minutes)))]
        print(f"| {bound:g} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    app.run(main)
