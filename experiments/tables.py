"""Rows of tables: the paper's numbers beside ours, as numbers, as text and as a picture."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure


class Paper(NamedTuple):
    """What the paper reports of a setting."""

    error_percent: float | None
    error_std: float | None = None
    hours: float | None = None
    params_millions: float | None = None
    runs: int | None = None


class Outcome(NamedTuple):
    """What one repetition gives: test error in percent, parameters, seconds, FLOPs of training."""

    error: float
    params: float
    seconds: float
    flops: float


class Row(NamedTuple):
    """A row of a table."""

    setting: str
    paper: Paper | None
    outcomes: Sequence[Outcome]


COLUMNS = (
    *("setting", "paper: error %", "paper: n", "paper: hours", "paper: params M"),
    *("error %", "n", "params M", "minutes", "training TFLOPs", "every error %"),
)
PAPERS = ("paper_runs", "paper_hours", "paper_params_millions")


def record_of(row: Row) -> dict[str, Any]:
    """A row as numbers: the paper's, then ours; None where there is none."""
    errors = [outcome.error for outcome in row.outcomes]
    error, deviation = statistics_of(errors)
    paper = row.paper or Paper(None)

    def mean(name: str, unit: float) -> float | None:
        return statistics_of([getattr(outcome, name) / unit for outcome in row.outcomes])[0]

    return {
        "setting": row.setting,
        **{f"paper_{name}": value for name, value in paper._asdict().items()},
        "n": len(errors),
        "error_percent": error,
        "error_std": deviation,
        "params_millions": mean("params", 1e6),
        "minutes": mean("seconds", 60),
        "training_tflops": mean("flops", 1e12),
        "every_error_percent": " ".join(f"{error:.2f}" for error in errors),
    }


def cells_of(row: Row) -> list[str]:
    """A row as text: the paper's numbers, then ours as means, the error's with its deviation."""
    record = record_of(row)

    def cell(name: str, digits: int) -> str:
        value = record[name]
        small = value is not None and value < 0.1
        return "" if value is None else f"{value:.2g}" if small else f"{value:,.{digits}f}"

    return [
        row.setting,
        spread(record["paper_error_percent"], record["paper_error_std"], 1),
        *("" if record[name] is None else f"{record[name]:g}" for name in PAPERS),
        spread(record["error_percent"], record["error_std"]) or "not measured",
        *(str(record["n"]), cell("params_millions", 2), cell("minutes", 1)),
        *(cell("training_tflops", 1), record["every_error_percent"]),
    ]


def spread(mean: float | None, deviation: float | None, digits: int = 2) -> str:
    """`5.70 ± 0.35`; without a deviation the mean alone, and nothing without a mean."""
    if mean is None:
        return ""
    return f"{mean:.{digits}f}" + ("" if deviation is None else f" ± {deviation:.2f}")


def statistics_of(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and standard deviation; a single value has no deviation."""
    mean = statistics.mean(values) if values else None
    return mean, statistics.stdev(values) if len(values) > 1 else None


def errors_figure(rows: Sequence[Row], title: str) -> Figure:
    """A point for every run's test error and a line at the mean, row by row."""
    figure = Figure(figsize=(7.5, 0.9 + 0.5 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        errors = [outcome.error for outcome in row.outcomes]
        axes.plot(errors, [place] * len(errors), "o", color="#3d85c6", alpha=0.7)
        if errors:
            mean = statistics.mean(errors)
            axes.plot([mean, mean], [place - 0.3, place + 0.3], color="#cc4125", linewidth=2)
    names = [
        row.setting + (f" (paper: {row.paper.error_percent}%)" if row.paper else "") for row in rows
    ]
    axes.set_yticks(range(len(rows)), names, fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("test error (%): every run, and the mean")
    axes.set_title(title, fontsize=10)
    axes.grid(axis="x", alpha=0.3)
    return figure
