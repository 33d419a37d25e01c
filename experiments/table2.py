"""Table 2 of the paper: longer searches and ensembles on CIFAR-10.

python -m experiments.table2 --dataset=tfds:cifar10
python -m experiments.table2 --dataset=npz:cifar10.npz --preset=small
"""

from __future__ import annotations

from experiments import table1
from experiments.ensembles import snapshot_ensemble, together
from experiments.study import Paper, Row, Study, run, study_from_flags, write_table
from nash_jax.runs import RunView


def long_runs(study: Study) -> list[RunView]:
    """Searches of 8 steps where the others have 5, or as many in proportion."""
    return study.runs("long", num_steps=long_steps(study))


def long_steps(study: Study) -> int:
    return round(study.config.num_steps * 8 / 5)


def longer(study: Study, paper: Paper) -> Row:
    setting = f"n_steps = {long_steps(study)}, n_neigh = {study.config.num_neighbours}"
    return Row(setting, paper, study.outcomes(long_runs(study)))


def snapshots(study: Study, paper: Paper) -> Row:
    outcomes = [snapshot_ensemble(study, run, fitted=False) for run in long_runs(study)]
    return Row("snapshot ensemble", paper, outcomes)


def fitted_snapshots(study: Study) -> Row:
    outcomes = [snapshot_ensemble(study, run, fitted=True) for run in long_runs(study)]
    return Row("snapshot ensemble, weights fitted on validation data", None, outcomes)


def across_runs(study: Study, paper: Paper) -> Row:
    """All runs as one; whatever the number of runs, there is one such ensemble."""
    runs = long_runs(study)
    outcomes = [together(study, runs)] if runs else []
    return Row(f"ensemble across {len(runs)} runs", paper, outcomes)


ROWS = {
    "random": table1.random_networks,
    "hill_climbing": table1.hill_climbing,
    "longer": lambda study: longer(study, Paper(5.2, None, 24, 19.7)),
    "snapshots": lambda study: snapshots(study, Paper(4.7, None, 48, 57.8)),
    "fitted_snapshots": fitted_snapshots,
    "across_runs": lambda study: across_runs(study, Paper(4.4, None, 96, 88)),
}


def main(argv: list[str]) -> None:
    with study_from_flags(argv) as study:
        write_table(study, "table2", "Table 2: longer searches and ensembles", ROWS)


if __name__ == "__main__":
    run(main)
