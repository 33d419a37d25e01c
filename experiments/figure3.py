"""Figure 3 of the paper: how validation accuracy in the search predicts final test accuracy.

python -m experiments.figure3 --dataset=tfds:cifar10

Each point is a run of `experiments.table1`: the validation accuracy of the network that its search
ended with, and the test accuracy of this network after its final training.
"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from experiments.study import Study, run, study_from_flags
from experiments.table1 import constant_runs, random_runs
from experiments.tables import spread, statistics_of
from nash_jax.runs import RunView

TITLE = "Figure 3: validation in the search against the final test"
COLUMNS = (
    *("training of children", "paper: R^2", "R^2", "n"),
    *("validation accuracy %", "test accuracy %", "minutes"),
)


def accuracies(runs: list[RunView]) -> np.ndarray:
    """Validation and test accuracy in percent, `[2, runs]`."""
    finals = [run.final for run in runs if run.final is not None]
    valid = [run.chosen[-1].estimate.accuracy for run in runs]
    return 100 * np.array([valid, [final.estimate.accuracy for final in finals]])


def correlation(points: np.ndarray) -> float | None:
    """Pearson's r of two rows; None where it would mean nothing.

    Any two points lie on a line, and a row of equal numbers has no correlation.
    """
    if points.shape[1] < 3 or (points == points[:, :1]).all(axis=1).any():
        return None
    return float(np.corrcoef(points)[0, 1])


def main(argv: list[str]) -> None:
    with study_from_flags(argv) as study:
        climbed = study.runs("hill_climbing")
        groups = [
            ("SGDR, hill climbing", 0.64, climbed),
            ("SGDR, with random networks", None, [*climbed, *random_runs(study)]),
            ("constant rate", 0.36, constant_runs(study)),
        ]
        write(study, groups)


def write(study: Study, groups: list[tuple[str, float | None, list[RunView]]]) -> None:
    figure = Figure(figsize=(5.5, 4.5), layout="constrained")
    axes = figure.subplots()
    rows, records = [], []
    markers = (("o", "#cc4125", 3), ("x", "#e69138", 2), ("o", "#3d85c6", 1))
    for (name, paper, runs), (marker, color, order) in zip(groups, markers):
        points = accuracies(runs)
        r = correlation(points)
        squared = None if r is None else r**2
        said = "not measured" if r is None else f"{r**2:.2f} (r {r:+.2f})"
        minutes = [run.seconds / 60 for run in runs]
        spreads = [spread(*statistics_of(values)) for values in points.tolist()]
        papers = "" if paper is None else f"{paper:.2f}"
        mean = spread(statistics_of(minutes)[0], None, 1)
        rows.append((name, papers, said, str(len(runs)), *spreads, mean))
        axes.plot(*points, marker, color=color, zorder=order, label=f"{name}: R² {said}")
        records += [
            {
                "training_of_children": name,
                "run": run.workdir.name,
                "validation_accuracy_percent": valid,
                "test_accuracy_percent": test,
                "minutes": spent,
                "paper_r_squared": paper,
                "r_squared": squared,
                "r": r,
                "n": len(runs),
            }
            for run, spent, valid, test in zip(runs, minutes, *points.tolist())
        ]
    axes.set_xlabel("validation accuracy in the search (%)")
    axes.set_ylabel("final test accuracy (%)")
    axes.set_title(study.titled(TITLE), fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend()
    study.write_csv("figure3", records)
    study.write_markdown("figure3", study.titled(TITLE), COLUMNS, rows)
    study.write_figure("figure3", figure)


if __name__ == "__main__":
    run(main)
