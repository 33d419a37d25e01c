"""Alternatives to NASH at the same cost of training, counted in FLOPs.

python -m experiments.baselines --dataset=tfds:cifar10
python -m experiments.baselines --dataset=npz:cifar10.npz --preset=small

Hand-made networks, trained by the same trainer at SGDR's learning rate of 0.05, for as many epochs
as cost the same as the search of `experiments.table1` with the same seed; and random networks, each
trained from scratch, of which the best goes on to the final training.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Sequence

import jax

from experiments import table1
from experiments.study import Study, run, study_from_flags, write_table
from experiments.tables import Row
from nash_jax.runs import RunView, space_of
from nash_jax.spaces import Morphs

HAND_MADE = ("resnet-20", "resnet-56", "wrn-16-4", "wrn-28-10")


def hand_made(study: Study, network: str) -> Row:
    """The network, trained for as many epochs as cost the same as the search of the same seed."""
    changes = {
        "model_0": network,
        "epochs_pretrain": 0,
        "strategy": "one_network",
        "lr_start": 0.05,
    }
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
    """As many random networks as a search's cost allows, each with its largest number of edits."""
    config = study.config
    num_edits = study.config.strategy.num_edits(sampled=0)
    brief = (1 - config.data.validation_fraction) * config.recipes.epochs_neighbours
    drawn = config.replace(strategy="random_search", num_edits=num_edits)
    space = space_of(drawn, study.start(config.space.model_0))
    assert isinstance(space, Morphs)
    numbers, runs = [], []
    for search in hill_climbing_runs(study):
        seed = search.config.seed
        each = statistics.mean(random_flops(study, space, seed))
        left = study.training_flops(search) - config.recipes.epochs_final * each
        numbers.append(max(int(left / (brief * each)), 0))
        if numbers[-1]:
            runs += study.run(
                "random_search",
                seed,
                strategy="random_search",
                num_samples=numbers[-1],
                num_edits=num_edits,
            )
    counted = _counted([number for number in numbers if number] or [0], "random networks")
    return Row(f"best of {counted}, each from scratch", None, study.outcomes(runs))


def hill_climbing_runs(study: Study) -> list[RunView]:
    """The searches; the other rows may cost as much as these, final training included."""
    runs = study.runs("hill_climbing")
    if not runs:
        raise ValueError(
            f"the cost of a search must be known, and none ended in {study.folder}; lower lr_start "
            "in a new workdir"
        )
    return runs


def random_flops(study: Study, space: Morphs, seed: int, number: int = 30) -> list[float]:
    """FLOPs of an epoch of some random networks."""
    keys = jax.random.split(jax.random.key(seed), number)
    return [study.epoch_flops(space.sample(key)) for key in keys]


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
