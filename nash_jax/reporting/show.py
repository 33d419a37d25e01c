"""A run in the terminal: what was tried, what was chosen, where the time went."""

from __future__ import annotations

import rich.console
import rich.markup
import rich.table

from nash_jax.reporting.describe import CELLS, cells_of
from nash_jax.reporting.view import RunView


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
