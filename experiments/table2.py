"""Table 2 of the paper: longer searches and ensembles on CIFAR-10.

python -m experiments.table2 --dataset=tfds:cifar10
python -m experiments.table2 --dataset=npz:cifar10.npz --preset=small
"""

from __future__ import annotations

from experiments import table1
from experiments.ensembles import snapshot_ensemble, together
from experiments.study import Study, run, study_from_flags, write_table
from experiments.tables import Outcome, Paper, Row
from nash_jax.runs import RunView


def long_runs(study: Study, paper: Paper) -> list[RunView]:
    """Searches of 8 steps if the others have 5; else 8/5 of the others' steps."""
    assert paper.runs is not None
    return study.runs("long", papers=paper.runs, num_steps=long_steps(study))


def long_steps(study: Study) -> int:
    return round(study.config.strategy.num_steps * 8 / 5)


def longer(study: Study, paper: Paper) -> Row:
    setting = f"n_steps = {long_steps(study)}, n_neigh = {study.config.strategy.num_neighbours}"
    return Row(setting, paper, study.outcomes(long_runs(study, paper)))


def snapshots(study: Study, paper: Paper) -> Row:
    return Row("snapshot ensemble", paper, _ensembles(study, paper, fitted=False))


def fitted_snapshots(study: Study, paper: Paper) -> Row:
    """As `snapshots`, with fitted weights; the paper's numbers are of `snapshots`."""
    setting = "snapshot ensemble, weights fitted on validation data"
    return Row(setting, None, _ensembles(study, paper, fitted=True))


def _ensembles(study: Study, paper: Paper, fitted: bool) -> list[Outcome]:
    return [
        outcome
        for run in long_runs(study, paper)
        for outcome in snapshot_ensemble(study, run, fitted)
    ]


def across_runs(study: Study, paper: Paper) -> Row:
    """One ensemble of all runs, however many there are."""
    runs = long_runs(study, paper)
    outcomes = [together(study, runs)] if runs else []
    return Row(f"ensemble across {len(runs)} runs", paper, outcomes)


SNAPSHOTS = Paper(4.7, None, 48, 57.8, 4)

ROWS = {
    "random": table1.random_networks,
    "hill_climbing": table1.hill_climbing,
    "longer": lambda study: longer(study, Paper(5.2, None, 24, 19.7, 4)),
    "snapshots": lambda study: snapshots(study, SNAPSHOTS),
    "fitted_snapshots": lambda study: fitted_snapshots(study, SNAPSHOTS),
    "across_runs": lambda study: across_runs(study, Paper(4.4, None, 96, 88, 4)),
}


def main(argv: list[str]) -> None:
    with study_from_flags(argv, ROWS) as study:
        write_table(study, "table2", "Table 2: longer searches and ensembles", ROWS)


if __name__ == "__main__":
    run(main)
