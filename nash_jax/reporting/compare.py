"""Several runs side by side, in the terminal and as a page."""

from __future__ import annotations

import pathlib
import statistics
from collections.abc import Sequence
from typing import Any, Literal

import rich.box
import rich.console
import rich.markup
import rich.table

from nash_jax.record.files import write_atomically
from nash_jax.reporting.charts import climbs
from nash_jax.reporting.describe import percent
from nash_jax.reporting.report import inline_svg, page
from nash_jax.reporting.view import RunView
from nash_jax.search import Trial

MEANS = ("runs", "seeds", "mean test accuracy", "standard deviation", "mean seconds")


def compare(
    runs: Sequence[RunView],
    out: pathlib.Path | None = None,
    console: rich.console.Console | None = None,
) -> None:
    """Print several runs side by side, and the mean over those that differ only in their seed.

    Settings are shown where they differ.

    Args:
      runs: the runs; they may still go on.
      out: an HTML file, which needs no other file, to write the same and a chart of the climbs to.
      console: to print to.

    Raises:
      ValueError: if they are not of the same data, by the fingerprint.
      WriteError: if the file cannot be written.
    """
    console = console or rich.console.Console()
    _check_data(runs)
    tables = [("", ["", *_names(runs)], rows(runs))]
    if found := means(runs):
        tables.append(("Mean over seeds", list(MEANS), found))
    for _, head, cells in tables:
        _print(console, head, cells)
    if out is not None:
        tables[0] = ("What was found", *tables[0][1:])
        svg = inline_svg(climbs(runs), "climbs")
        text = page("compare.html.jinja", names=_names(runs), tables=tables, svg=svg)
        write_atomically(out, text.encode(errors="backslashreplace"))


def means(runs: Sequence[RunView]) -> list[list[str]]:
    """For every group of `groups` a row with the columns of `MEANS`, about the test accuracy."""
    found = []
    for group in groups(runs):
        accuracies = [100 * (run.final.accuracy or 0.0) for run in group if run.final]
        cells = [", ".join(_names(group)), ", ".join(str(run.config.seed) for run in group)]
        cells += [f"{statistics.mean(accuracies):.2f}%", f"{statistics.stdev(accuracies):.2f}"]
        found.append([*cells, f"{statistics.mean(run.seconds for run in group):,.0f}"])
    return found


def groups(runs: Sequence[RunView]) -> list[list[RunView]]:
    """Finished runs that differ only in their seed, two or more of them, each seed once.

    All are on the same data; files are identified by their content, not by their names.
    """
    found: dict[Any, dict[int, RunView]] = {}
    for run in runs:
        if run.final:
            same = run.config.replace(seed=0, dataset="")
            if "model_0" in (known := run.config.values()):
                start = run.about.get("network") or known["model_0"]
                same = same.replace(model_0=start)
            found.setdefault(same, {}).setdefault(run.config.seed, run)
    return [list(group.values()) for group in found.values() if len(group) > 1]


def rows(runs: Sequence[RunView]) -> list[list[str]]:
    """Rows of a table with a column for every run: what the row is, and each run's cell."""
    steps = sorted({trial.step for run in runs for trial in run.chosen})
    bests = [{trial.step: trial for trial in run.chosen} for run in runs]
    found = [run.best for run in runs]
    titled = [
        ("data", [run.data_name for run in runs]),
        ("seed", [str(run.config.seed) for run in runs]),
        *_differing(runs),
        ("state", [run.state for run in runs]),
        *(
            (f"step {step}" if step else "model_0", [_accuracy(best.get(step)) for best in bests])
            for step in steps
        ),
        ("test accuracy", [_accuracy(run.final) for run in runs]),
        ("parameters", [f"{best.params:,}" if best else "" for best in found]),
        ("MFLOPs", [f"{best.flops / 1e6:,.2f}" if best else "" for best in found]),
        ("networks", [f"{len(run.tried)}" for run in runs]),
        ("failed", [f"{len(run.failures)}" for run in runs]),
        ("seconds", [f"{run.seconds:,.0f}" for run in runs]),
    ]
    return [[title, *cells] for title, cells in titled]


def _print(
    console: rich.console.Console, head: Sequence[str], cells: Sequence[Sequence[str]]
) -> None:
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for number, title in enumerate(head):
        justify: Literal["left", "right"] = "right" if number else "left"
        table.add_column(rich.markup.escape(title), justify=justify, overflow="fold")
    for row in cells:
        table.add_row(*map(rich.markup.escape, row))
    console.print(table)


def _names(runs: Sequence[RunView]) -> list[str]:
    return [str(run.workdir) for run in runs]


def _check_data(runs: Sequence[RunView]) -> None:
    for run in runs[1:]:
        if run.about.get("data") != runs[0].about.get("data"):
            raise ValueError(
                "runs that are compared must be on the same data, by its fingerprint; got "
                + " and ".join(
                    f"{each.about.get('data')} ({each.data_name}) in {each.workdir}"
                    for each in (runs[0], run)
                )
                + "; compare them apart"
            )


def _differing(runs: Sequence[RunView]) -> list[tuple[str, list[str]]]:
    """The settings, apart from data set and seed, that are not the same in all runs."""
    values = [run.config.values() for run in runs]
    names = dict.fromkeys(name for each in values for name in each)
    rows = [
        (name, [_text(each.get(name, "")) for each in values])
        for name in names
        if name not in ("dataset", "seed")
    ]
    return [(name, cells) for name, cells in rows if len(set(cells)) > 1]


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _accuracy(trial: Trial | None) -> str:
    return percent(trial.accuracy) if trial else ""
