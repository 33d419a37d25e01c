"""How large the paper's random networks get, by the bound on their FLOPs.

python -m benchmarks.sizes

Draws what `--num_neighbours=1` draws in 5 steps of 5 edits from the paper's model_0, on images of
CIFAR, and prints the parameters and FLOPs of the networks. Nothing is trained.
"""

from __future__ import annotations

import statistics

import jax
from absl import app, flags, logging

import nash_jax as nj
from nash_jax.morphisms import sample_edits

SEEDS = flags.DEFINE_integer("seeds", 20, "networks for each bound", lower_bound=1)
BOUNDS = flags.DEFINE_list("gflops", ["0.5", "1", "2", "4", "inf"], "bounds, in GFLOPs per image")


def grown(seed: int, bound: float) -> nj.Architecture:
    """A network after 25 edits, each of which leaves it below the bound."""
    spec, key = nj.chain((32, 32, 3), 10), jax.random.key(seed)
    _, spec = sample_edits(spec, key, 25, lambda larger: nj.count_flops(larger) <= bound)
    return spec


def main(argv: list[str]) -> None:
    del argv
    logging.set_verbosity(logging.WARNING)
    print("| bound, GFLOPs | parameters, M: mean | median | largest | GFLOPs: mean |")
    print("|---|---|---|---|---|")
    for bound in map(float, BOUNDS.value):
        specs = [grown(seed, 1e9 * bound) for seed in range(SEEDS.value)]
        params = [nj.count_params(spec) / 1e6 for spec in specs]
        gflops = statistics.mean(nj.count_flops(spec) / 1e9 for spec in specs)
        cells = statistics.mean(params), statistics.median(params), max(params), gflops
        print(f"| {bound:g} | " + " | ".join(f"{cell:,.1f}" for cell in cells) + " |", flush=True)


if __name__ == "__main__":
    app.run(main)
