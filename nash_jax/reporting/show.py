"""A run in the terminal: what was tried, what was chosen, where the time went."""

from __future__ import annotations

import dataclasses
from typing import Any

import rich.console
import rich.markup
import rich.table

from nash_jax.architecture import COSTS
from nash_jax.morphisms import edit_to_dict
from nash_jax.reporting.describe import CELLS, cells_of, split_of
from nash_jax.reporting.view import RunView
from nash_jax.search import Trial


def show(run: RunView, console: rich.console.Console | None = None) -> None:
    """Print a run's trials as a table, and how far it is.

    Args:
      run: the run; it may still go on.
      console: to print to.
    """
    console = console or rich.console.Console()
    chosen = {trial.name for trial in run.chosen}
    table = rich.table.Table(*CELLS)
    for trial in run.trials:
        cells = map(rich.markup.escape, cells_of(trial))
        table.add_row(*cells, style="bold" if trial.name in chosen else None)
    console.print(table)
    console.print(f"{run.workdir}: {run.state}, {run.seconds:.0f} s", highlight=False, markup=False)


def as_json(run: RunView) -> dict[str, Any]:
    """What `show` prints, for programs: settings, how far the run is, and every trial."""
    best = run.best
    return {
        "workdir": str(run.workdir),
        "state": run.state,
        "seconds": run.seconds,
        "settings": run.config.values(),
        "limits": run.about.get("limits", {}),
        "best": best.name if best else None,
        "chosen": [trial.name for trial in run.chosen],
        "trials": [_trial(trial) for trial in run.trials],
    }


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "name": trial.name,
        "recipe": trial.recipe,
        "step": trial.step,
        "parent": trial.parent,
        "edits": [edit_to_dict(edit) for edit in trial.edits],
        "accuracy": trial.accuracy,
        "judged_on": split_of(trial),
        "balanced_accuracy": trial.estimate.balanced_accuracy,
        "objectives": dict(trial.estimate.objectives),
        **{name: cost(trial.spec) for name, cost in COSTS.items()},
        "seconds": dataclasses.asdict(trial.estimate.seconds),
        "elapsed": trial.elapsed,
        "failure": trial.estimate.failure,
    }
