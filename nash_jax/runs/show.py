"""A run in the terminal: what was tried, what was chosen, where the time went."""

from __future__ import annotations

import pathlib

import rich.console
import rich.markup
import rich.table

from nash_jax.runs.progress import CELLS, cells_of
from nash_jax.runs.view import read_run


def show(workdir: pathlib.Path, console: rich.console.Console | None = None) -> None:
    """Print a run's candidates as a table, and how far it is.

    Args:
      workdir: the run's folder; the run may still go on.
      console: to print to.

    Raises:
      ValueError: if it is not the folder of a run.
    """
    console = console or rich.console.Console()
    run = read_run(workdir)
    chosen = {line["name"] for line in run.chosen}
    table = rich.table.Table(*CELLS)
    for line in run.lines:
        cells = map(rich.markup.escape, cells_of(line))
        table.add_row(*cells, style="bold" if line["name"] in chosen else None)
    console.print(table)
    console.print(f"{workdir}: {run.state}, {run.seconds:.0f} s", highlight=False, markup=False)
