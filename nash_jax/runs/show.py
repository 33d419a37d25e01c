"""A run in the terminal: what was tried, what was chosen, where the time went."""

from __future__ import annotations

import pathlib

import rich.console
import rich.markup
import rich.table

from nash_jax.runs.ledger import read_ledger
from nash_jax.runs.progress import CELLS, cells_of
from nash_jax.runs.workdir import RESULT_FILE, read_config


def show(workdir: pathlib.Path, console: rich.console.Console | None = None) -> None:
    """Print a run's candidates as a table, and how far it is.

    Args:
      workdir: the run's folder; the run may still go on.
      console: to print to.

    Raises:
      ValueError: if it is not the folder of a run.
    """
    console = console or rich.console.Console()
    (config, _), ledger = read_config(workdir), read_ledger(workdir)
    chosen = {line["parent"] for line in ledger}
    table = rich.table.Table(*CELLS)
    for line in ledger:
        cells = map(rich.markup.escape, cells_of(line))
        table.add_row(*cells, style="bold" if line["name"] in chosen else None)
    console.print(table)
    children = config.num_steps * config.num_neighbours
    done = sum(line["kind"] == "child" for line in ledger)
    state = "finished" if (workdir / RESULT_FILE).exists() else f"{done} of {children} children"
    seconds = max((line["elapsed"] for line in ledger), default=0.0)
    console.print(f"{workdir}: {state}, {seconds:.0f} s", highlight=False, markup=False)
