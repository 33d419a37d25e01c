"""Table 1 of the paper: what selection, morphisms, SGDR and inherited weights are worth.

python -m experiments.table1 --dataset=tfds:cifar10
python -m experiments.table1 --dataset=npz:cifar10.npz --preset=small
"""

from __future__ import annotations

from experiments.study import Study, run, study_from_flags, write_table
from experiments.tables import Paper, Row
from nash_jax.runs import RunView

#: Divisors of `lr_start` that give the constant rates: for 0.05, the paper's 0.01, 0.025, 0.05.
DIVISORS = (5, 2, 1)


def hill_climbing(study: Study) -> Row:
    outcomes = study.outcomes(study.runs("hill_climbing"))
    return Row(
        f"n_neigh = {study.config.strategy.num_neighbours}",
        Paper(5.7, 0.35, 12.8, 5.7, 10),
        outcomes,
    )


def random_networks(study: Study) -> Row:
    outcomes = study.outcomes(random_runs(study))
    return Row("random networks (n_neigh = 1)", Paper(6.5, 0.76, 4.5, 4.4, 30), outcomes)


def random_runs(study: Study) -> list[RunView]:
    """Without selection every child is taken."""
    return study.runs("random", papers=30, num_neighbours=1)


def from_scratch(study: Study) -> Row:
    """The networks of the first row, trained anew for the same total number of epochs."""
    recipes, num_steps = study.config.recipes, study.config.strategy.num_steps
    epochs = recipes.epochs_pretrain + num_steps * recipes.epochs_neighbours
    epochs += recipes.epochs_final
    runs = [
        trained
        for run in study.runs("hill_climbing")
        for trained in study.trained("from_scratch", run, study.architecture(run), epochs)
    ]
    setting = f"line 1 retrained from scratch ({epochs} epochs)"
    return Row(setting, Paper(6.1, 0.92, 5.3, 5.7, 10), study.outcomes(runs))


def constant_rates(study: Study) -> list[float]:
    return [study.config.recipes.training.lr_start / divisor for divisor in DIVISORS]


def constant_runs(study: Study, searches: bool = False) -> list[RunView]:
    """Children trained at a constant rate; pretraining and final training are annealed.

    With `searches`, also those whose final training failed.
    """
    make = study.searches if searches else study.runs
    rates = constant_rates(study)
    return [run for rate in rates for run in make(f"constant_{rate:g}", constant_lr=rate)]


def constant_rate(study: Study) -> Row:
    setting = f"no SGDR (constant {', '.join(f'{rate:g}' for rate in constant_rates(study))})"
    return Row(setting, Paper(6.4, 0.70, 10.6, 5.8, 30), study.outcomes(constant_runs(study)))


def no_morphism(study: Study) -> Row:
    outcomes = study.outcomes(study.runs("no_morphism", inherit="by_name"))
    return Row("no network morphism", Paper(6.1, 0.30, 6.6, 2.9, 10), outcomes)


ROWS = {
    "hill_climbing": hill_climbing,
    "random": random_networks,
    "from_scratch": from_scratch,
    "constant_rate": constant_rate,
    "no_morphism": no_morphism,
}


def main(argv: list[str]) -> None:
    with study_from_flags(argv, ROWS) as study:
        title = f"Table 1: n_steps = {study.config.strategy.num_steps}"
        write_table(study, "table1", title, ROWS)


if __name__ == "__main__":
    run(main)
