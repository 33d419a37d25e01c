"""Several runs side by side in the terminal."""

from __future__ import annotations

import dataclasses
import pathlib
import statistics
from collections.abc import Sequence

import rich.box
import rich.console
import rich.markup
import rich.table

from nash_jax.runs.config import Config
from nash_jax.runs.view import RunView, accuracy_of, read_run


def compare(workdirs: Sequence[pathlib.Path], console: rich.console.Console | None = None) -> None:
    """Print several runs as columns of a table, and the mean over those that are one but for seeds.

    Args:
      workdirs: the runs' folders; the runs may still go on.
      console: to print to.

    Raises:
      ValueError: if one is not the folder of a run.
    """
    console = console or rich.console.Console()
    runs = [read_run(workdir) for workdir in workdirs]
    console.print(side_by_side(runs))
    if means := over_seeds(runs):
        console.print(means)


def side_by_side(runs: Sequence[RunView]) -> rich.table.Table:
    """A column for every run, a row for what there is to compare.

    Settings are shown where they differ. A run on other data than the first one's is marked.
    """
    table = rich.table.Table("", box=rich.box.SIMPLE_HEAD)
    for run in runs:
        table.add_column(rich.markup.escape(str(run.workdir)), justify="right", overflow="fold")
    for title, cells in _rows(runs):
        table.add_row(title, *map(rich.markup.escape, cells))
    return table


def over_seeds(runs: Sequence[RunView]) -> rich.table.Table | None:
    """Mean and standard deviation of the test accuracy over runs that differ only in their seed.

    Of several finished runs with the same seed the first counts. None if no two runs are left.
    """
    table = rich.table.Table(
        *("runs", "seeds", "mean test accuracy", "standard deviation", "mean seconds"),
        box=rich.box.SIMPLE_HEAD,
    )
    for group in groups(runs):
        accuracies = [100 * (accuracy_of(run.final) or 0.0) for run in group if run.final]
        names = [str(run.workdir) for run in group]
        table.add_row(
            rich.markup.escape(", ".join(names)),
            ", ".join(str(run.config.seed) for run in group),
            f"{statistics.mean(accuracies):.2f}%",
            f"{statistics.stdev(accuracies):.2f}",
            f"{statistics.mean(run.seconds for run in group):,.0f}",
        )
    return table if table.row_count else None


def groups(runs: Sequence[RunView]) -> list[list[RunView]]:
    """Finished runs that differ only in their seed, two or more of them, each seed once."""
    found: dict[tuple[Config, object], dict[int, RunView]] = {}
    for run in runs:
        if run.final:
            same = dataclasses.replace(run.config, seed=0), run.about.get("data")
            found.setdefault(same, {}).setdefault(run.config.seed, run)
    return [list(group.values()) for group in found.values() if len(group) > 1]


def _rows(runs: Sequence[RunView]) -> list[tuple[str, list[str]]]:
    """What each row is, and its cells."""
    steps = sorted({line["step"] for run in runs for line in run.chosen})
    bests = [{line["step"]: line for line in run.chosen} for run in runs]
    found = [run.best for run in runs]
    return [
        ("data", [_data(run, runs[0]) for run in runs]),
        ("seed", [str(run.config.seed) for run in runs]),
        *_differing(runs),
        ("state", [run.state for run in runs]),
        *(
            (f"step {step}" if step else "model_0", [_accuracy(best.get(step)) for best in bests])
            for step in steps
        ),
        ("test accuracy", [_accuracy(run.final) for run in runs]),
        ("parameters", [f"{best['params']:,}" if best else "" for best in found]),
        ("MFLOPs", [f"{best['flops'] / 1e6:,.2f}" if best else "" for best in found]),
        ("networks", [f"{len(run.tried)}" for run in runs]),
        ("failed", [f"{len(run.failures)}" for run in runs]),
        ("seconds", [f"{run.seconds:,.0f}" for run in runs]),
    ]


def _data(run: RunView, first: RunView) -> str:
    same = run.about.get("data") == first.about.get("data")
    return run.config.dataset + ("" if same else " (other data, not comparable)")


def _differing(runs: Sequence[RunView]) -> list[tuple[str, list[str]]]:
    """The settings, apart from data set and seed, that are not the same in all runs."""
    names = [field.name for field in dataclasses.fields(Config)]
    rows = [
        (name, [_text(getattr(run.config, name)) for run in runs])
        for name in names
        if name not in ("dataset", "seed")
    ]
    return [(name, cells) for name, cells in rows if len(set(cells)) > 1]


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _accuracy(line: dict[str, object] | None) -> str:
    accuracy = accuracy_of(line) if line else None
    return "" if accuracy is None else f"{accuracy:.2%}"
