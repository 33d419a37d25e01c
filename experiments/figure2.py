"""Figure 2 of the paper: the best validation error by step, with and without SGDR.

python -m experiments.figure2 --dataset=tfds:cifar10

The runs are those of `experiments.table1`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.study import Study, run, study_from_flags
from experiments.table1 import constant_runs
from nash_jax.runs import RunView

TITLE = "Figure 2: the best network by step"
COLUMNS = ("training of children", "step", "validation error %", "n")


def errors_by_step(runs: list[RunView]) -> np.ndarray:
    """Validation error in percent of the current best, `[runs, steps + 1]`."""
    return np.array([[100 * (1 - x["validation_accuracy"]) for x in r.chosen] for r in runs])


def main(argv: list[str]) -> None:
    with study_from_flags(argv) as study:
        write(study, {"SGDR": study.runs("hill_climbing"), "constant rate": constant_runs(study)})


def write(study: Study, groups: dict[str, list[RunView]]) -> None:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    records = []
    for (name, runs), color in zip(groups.items(), ("#cc4125", "#3d85c6")):
        if not runs:
            continue
        errors = errors_by_step(runs)
        mean = errors.mean(axis=0)
        deviation = errors.std(axis=0, ddof=1) if len(runs) > 1 else np.zeros_like(mean)
        steps = range(len(mean))
        axes.plot(steps, mean, "--o", color=color, label=f"{name} ({len(runs)} runs)")
        axes.fill_between(steps, mean - 2 * deviation, mean + 2 * deviation, color=color, alpha=0.2)
        records += [
            {
                "training_of_children": name,
                "step": step,
                "validation_error_percent": round(float(mean[step]), 4),
                "validation_error_std": round(float(deviation[step]), 4),
                "n": len(runs),
            }
            for step in steps
        ]
    axes.set_xlabel("hill climbing step (0: model_0)")
    axes.set_ylabel("validation error of the current best (%)")
    axes.set_title(f"{TITLE}, mean ± 2 standard deviations", fontsize=10)
    axes.set_xticks(range(study.config.num_steps + 1))
    axes.grid(alpha=0.3)
    axes.legend()
    study.write_csv("figure2", records)
    study.write_markdown("figure2", TITLE, COLUMNS, [cells_of(record) for record in records])
    study.write_figure("figure2", figure)


def cells_of(record: Mapping[str, Any]) -> list[str]:
    name, step, mean, deviation, number = record.values()
    return [name, str(step), f"{mean:.2f} ± {deviation:.2f}", str(number)]


if __name__ == "__main__":
    run(main)
