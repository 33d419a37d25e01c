"""What one would do instead of NASH, at the same cost of training, counted in FLOPs.

python -m experiments.baselines --dataset=tfds:cifar10
python -m experiments.baselines --dataset=npz:cifar10.npz --preset=small

Hand-made networks by the same trainer, at SGDR's learning rate of 0.05, for as many epochs as the
searches of `experiments.table1` would pay for; and random networks, each trained from scratch, of
which the best goes on to the final training.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable

import jax

from experiments import table1
from experiments.study import Row, Study, run, study_from_flags, write_table
from nash_jax.architecture import Architecture, count_flops
from nash_jax.morphisms import sample_edits

HAND_MADE = ("resnet-20", "resnet-56", "wrn-16-4", "wrn-28-10")


def budget(study: Study) -> float:
    """FLOPs of a whole search, final training included: the mean over the seeds."""
    runs = study.runs("hill_climbing")
    if not runs:
        raise ValueError(
            f"the cost of a search must be known, and none ended in {study.folder}; lower lr_start "
            "in a new workdir"
        )
    return statistics.mean(map(study.training_flops, runs))


def hand_made(study: Study, network: str) -> Row:
    changes = {"model_0": network, "epochs_pretrain": 0, "num_steps": 0, "lr_start": 0.05}
    epochs = int(budget(study) / study.epoch_flops(study.start(network)))
    runs = study.runs(network, epochs_final=epochs, **changes) if epochs else []
    cost = f"{epochs} epochs" if epochs else "of which one epoch costs more"
    return Row(f"{network}, {cost}", None, study.outcomes(runs))


def random_search(study: Study) -> Row:
    """As many edits as a search makes at most, on each of as many networks as the cost allows."""
    config = study.config
    edits = config.num_steps * config.num_morphisms
    mean = statistics.mean(random_flops(study, edits))
    shared = 1 - config.validation_fraction
    final = config.epochs_final * mean
    number = int((budget(study) - final) / (mean * shared * config.epochs_neighbours))
    settings = {"num_steps": 1, "num_neighbours": max(number, 2), "num_morphisms": edits}
    runs = study.runs("random_search", inherit="nothing", epochs_pretrain=0, **settings)
    return Row(f"best of {max(number, 2)} random networks", None, study.outcomes(runs))


def random_flops(study: Study, edits: int, number: int = 30) -> list[float]:
    """FLOPs of an epoch of some random networks."""
    config, start = study.config, study.start("chain")

    def fits(spec: Architecture) -> bool:
        return not config.max_flops or count_flops(spec) <= config.max_flops

    sizes = config.kernel_sizes, config.widening_factors
    keys = jax.random.split(jax.random.key(config.seed), number)
    return [study.epoch_flops(sample_edits(start, key, edits, fits, *sizes)[1]) for key in keys]


ROWS: dict[str, Callable[[Study], Row]] = {
    "hill_climbing": table1.hill_climbing,
    "random_search": random_search,
    **{name: functools.partial(hand_made, network=name) for name in HAND_MADE},
}


def main(argv: list[str]) -> None:
    with study_from_flags(argv) as study:
        write_table(study, "baselines", "Instead of NASH, at equal cost of training", ROWS)


if __name__ == "__main__":
    run(main)
