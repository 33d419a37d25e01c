"""What one would do instead of NASH, at the same cost of training, counted in FLOPs.

python -m experiments.baselines --dataset=tfds:cifar10
python -m experiments.baselines --dataset=npz:cifar10.npz --preset=small

Hand-made networks by the same trainer, at SGDR's learning rate of 0.05, for as many epochs as the
search of the same seed of `experiments.table1` would pay for; and random networks, each trained
from scratch, of which the best goes on to the final training.
"""

from __future__ import annotations

import dataclasses
import functools
import statistics
from collections.abc import Callable, Sequence

import jax

from experiments import table1
from experiments.study import Study, run, study_from_flags, write_table
from experiments.tables import Row
from nash_jax.architecture import Architecture
from nash_jax.morphisms import sample_edits
from nash_jax.runs import RunView, bounds_on_flops

HAND_MADE = ("resnet-20", "resnet-56", "wrn-16-4", "wrn-28-10")


def hand_made(study: Study, network: str) -> Row:
    """A network of that kind, for as many epochs as the search of the same seed would pay for."""
    changes = {"model_0": network, "epochs_pretrain": 0, "num_steps": 0, "lr_start": 0.05}
    epoch = study.epoch_flops(study.start(network))
    searches = hill_climbing_runs(study)
    epochs = [int(study.training_flops(search) / epoch) for search in searches]
    runs = [
        trained
        for search, number in zip(searches, epochs)
        if number
        for trained in study.run(network, search.config.seed, epochs_final=number, **changes)
    ]
    return Row(f"{network}, {_counted(epochs, 'epochs')}", None, study.outcomes(runs))


def random_search(study: Study) -> Row:
    """As many edits as a search makes at most, on each of as many networks as its cost allows.

    Beside them the network that the search would start from is trained, as the current best is.
    """
    config = study.config
    edits = config.num_steps * config.num_morphisms
    brief = (1 - config.validation_fraction) * config.epochs_neighbours
    start = study.start(config.model_0)
    first = brief * study.epoch_flops(start)
    numbers, runs = [], []
    for search in hill_climbing_runs(study):
        seed = search.config.seed
        each = statistics.mean(random_flops(study, start, seed, edits))
        left = study.training_flops(search) - config.epochs_final * each - first
        numbers.append(max(int(left / (brief * each)), 0))
        if not numbers[-1]:
            continue
        runs += study.run(
            "random_search",
            seed,
            num_steps=1,
            num_neighbours=numbers[-1] + 1,
            num_morphisms=edits,
            inherit="nothing",
            epochs_pretrain=0,
        )
    counted = _counted([number for number in numbers if number] or [0], "random networks")
    setting = f"best of {counted} and the chain, each from scratch"
    return Row(setting, None, study.outcomes(runs))


def hill_climbing_runs(study: Study) -> list[RunView]:
    """The searches whose cost, final training included, is what the others may cost."""
    runs = study.runs("hill_climbing")
    if not runs:
        raise ValueError(
            f"the cost of a search must be known, and none ended in {study.folder}; lower lr_start "
            "in a new workdir"
        )
    return runs


def random_flops(
    study: Study, start: Architecture, seed: int, edits: int, number: int = 30
) -> list[float]:
    """FLOPs of an epoch of some random networks."""
    config = dataclasses.replace(study.config, num_steps=1, num_morphisms=edits)
    bounds = bounds_on_flops(config, start)
    sizes = config.kernel_sizes, config.widening_factors
    keys = jax.random.split(jax.random.key(seed), number)
    drawn = (sample_edits(start, key, edits, *sizes, bounds=bounds)[1] for key in keys)
    return [study.epoch_flops(spec) for spec in drawn]


def _counted(numbers: Sequence[int], what: str) -> str:
    """`3 to 5 epochs`: each seed has its own budget."""
    least, most = min(numbers), max(numbers)
    return f"{least} {what}" if least == most else f"{least} to {most} {what}"


ROWS: dict[str, Callable[[Study], Row]] = {
    "hill_climbing": table1.hill_climbing,
    "random_search": random_search,
    **{name: functools.partial(hand_made, network=name) for name in HAND_MADE},
}


def main(argv: list[str]) -> None:
    with study_from_flags(argv, ROWS) as study:
        write_table(study, "baselines", "Instead of NASH, at equal cost of training", ROWS)


if __name__ == "__main__":
    run(main)
