"""Figure 2 of the paper: the best validation error by step, with and without SGDR.

python -m experiments.figure2 --dataset=tfds:cifar10

The runs are those of `experiments.table1`; their final training does not matter here.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from experiments.study import Study, run, study_from_flags
from experiments.table1 import constant_runs
from experiments.tables import spread, statistics_of
from nash_jax.runs import RunView

TITLE = "Figure 2: the best network by step"
COLUMNS = ("training of children", "step", "validation error %", "n", "minutes until then")


def records_by_step(name: str, runs: list[RunView]) -> list[dict[str, Any]]:
    """Validation error of the current best and the time until it was trained, step by step.

    model_0 does not depend on the rate of the children, so it counts once for each seed.
    """
    if not runs:
        return []
    once = {run.config.seed: run for run in runs}.values()
    records = []
    for step in range(len(runs[0].chosen)):
        trials = [run.chosen[step] for run in (runs if step else once)]
        errors = [100 * (1 - trial.estimate.accuracy) for trial in trials]
        mean, deviation = statistics_of(errors)
        records.append(
            {
                "training_of_children": name,
                "step": step,
                "validation_error_percent": mean,
                "validation_error_std": deviation,
                "n": len(errors),
                "minutes": statistics.mean(trial.elapsed / 60 for trial in trials),
            }
        )
    return records


def cells_of(record: Mapping[str, Any]) -> list[str]:
    name, step, mean, deviation, number, minutes = record.values()
    return [name, str(step), spread(mean, deviation), str(number), f"{minutes:.1f}"]


def main(argv: list[str]) -> None:
    with study_from_flags(argv) as study:
        annealed = study.searches("hill_climbing")
        write(study, {"SGDR": annealed, "constant rate": constant_runs(study, searches=True)})


def write(study: Study, groups: dict[str, list[RunView]]) -> None:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    records = []
    for (name, runs), color in zip(groups.items(), ("#cc4125", "#3d85c6")):
        group = records_by_step(name, runs)
        steps = [record["step"] for record in group]
        means = [record["validation_error_percent"] for record in group]
        twice = [2 * (record["validation_error_std"] or 0) for record in group]
        axes.plot(steps, means, "--o", color=color, label=f"{name} ({len(runs)} runs)")
        low, high = ([m + sign * d for m, d in zip(means, twice)] for sign in (-1, 1))
        axes.fill_between(steps, low, high, color=color, alpha=0.2)
        records += group
    axes.set_xlabel("hill climbing step (0: model_0)")
    axes.set_ylabel("validation error of the current best (%)")
    axes.set_title(f"{study.titled(TITLE)}: mean ± 2 standard deviations", fontsize=9)
    axes.set_xticks(range(study.config.strategy.num_steps + 1))
    axes.grid(alpha=0.3)
    axes.legend()
    study.write_csv("figure2", records)
    study.write_markdown(
        "figure2", study.titled(TITLE), COLUMNS, [cells_of(record) for record in records]
    )
    study.write_figure("figure2", figure)


if __name__ == "__main__":
    run(main)
