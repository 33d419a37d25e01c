"""Figure 3 of the paper: what validation in the search says of the final test accuracy.

python -m experiments.figure3 --dataset=tfds:cifar10

Each point is a run of `experiments.table1`: the validation accuracy of the network that its search
ended with, and the test accuracy of this network after its final training.
"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from experiments.study import Study, run, study_from_flags
from experiments.table1 import constant_runs
from nash_jax.runs import RunView

TITLE = "Figure 3: validation in the search against the final test"
COLUMNS = ("training of children", "paper: R^2", "R^2", "runs")


def accuracies(runs: list[RunView]) -> np.ndarray:
    """Validation and test accuracy in percent, `[2, runs]`."""
    finals = [run.final for run in runs if run.final is not None]
    valid = [run.chosen[-1]["validation_accuracy"] for run in runs]
    return 100 * np.array([valid, [final["test_accuracy"] for final in finals]])


def r_squared(points: np.ndarray) -> float:
    """The square of Pearson's correlation of two rows."""
    return float(np.corrcoef(points)[0, 1] ** 2)


def main(argv: list[str]) -> None:
    with study_from_flags(argv) as study:
        annealed = [*study.runs("hill_climbing"), *study.runs("random", num_neighbours=1)]
        write(study, [("SGDR", 0.64, annealed), ("constant rate", 0.36, constant_runs(study))])


def write(study: Study, groups: list[tuple[str, float, list[RunView]]]) -> None:
    figure = Figure(figsize=(5.5, 4.5), layout="constrained")
    axes = figure.subplots()
    rows, points = [], []
    for (name, paper, runs), color in zip(groups, ("#cc4125", "#3d85c6")):
        enough = len(runs) > 2  # any two points lie on a line
        squared = f"{r_squared(accuracies(runs)):.2f}" if enough else "not measured"
        rows.append((name, f"{paper:.2f}", squared, str(len(runs))))
        if runs:
            axes.plot(*accuracies(runs), "o", color=color, label=f"{name}: R² {squared}")
        points += [
            {
                "training_of_children": name,
                "run": run.workdir.name,
                "validation_accuracy_percent": round(float(valid), 4),
                "test_accuracy_percent": round(float(test), 4),
                "paper_r_squared": paper,
                "r_squared": float(squared) if enough else None,
                "n": len(runs),
            }
            for run, valid, test in zip(runs, *accuracies(runs))
        ]
    axes.set_xlabel("validation accuracy in the search (%)")
    axes.set_ylabel("final test accuracy (%)")
    axes.set_title(TITLE, fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend()
    study.write_csv("figure3", points)
    study.write_markdown("figure3", TITLE, COLUMNS, rows)
    study.write_figure("figure3", figure)


if __name__ == "__main__":
    run(main)
