"""The pictures of a benchmark, after figures 1 and 2 of Yang et al. 2020."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from nash_jax.benchmark.table import Row


def beside_random(rows: Sequence[Row]) -> Figure:
    """For every set, what methods found against random networks of their spaces.

    Points are means, bars deviations; a method above the diagonal is better than random.

    Args:
      rows: of one protocol.
    """
    sets = list(dict.fromkeys(row.dataset for row in rows))
    columns = min(3, len(sets))
    lines = math.ceil(len(sets) / columns)
    figure = Figure(figsize=(1.5 + 3.6 * columns, 0.4 + 3.6 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat[len(sets) :]:
        axes.set_axis_off()
    methods = list(dict.fromkeys(row.method for row in rows))
    for axes, name in zip(grid.flat, sets):
        here = [row for row in rows if row.dataset == name and row.drawn]
        for row in here:
            found = [*row.found.values()]
            axes.errorbar(
                statistics.mean(row.drawn),
                statistics.mean(found),
                yerr=_deviation(found),
                xerr=_deviation(row.drawn),
                fmt="o",
                color=f"C{methods.index(row.method) % 10}",
                label=row.method,
                elinewidth=0.8,
            )
        low, high = _limits(here)
        axes.plot([low, high], [low, high], color="#999999", linewidth=0.8, linestyle="--")
        axes.set(xlim=(low, high), ylim=(low, high), title=name, aspect="equal")
        axes.set(xlabel="random networks, test %", ylabel="found, test %")
        axes.grid(alpha=0.3)
    handles = {
        label: handle
        for axes in grid.flat
        for handle, label in zip(*axes.get_legend_handles_labels())
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", fontsize=8, ncols=columns + 1
    )
    return figure


def beside_cost(rows: Sequence[Row]) -> Figure:
    """For one set, what methods found against the time of a search.

    Args:
      rows: of one set and one protocol.
    """
    figure = Figure(figsize=(7.6, 3.6), layout="constrained")
    axes: Axes = figure.subplots()
    for number, row in enumerate(rows):
        found = [*row.found.values()]
        axes.errorbar(
            row.search_seconds,
            statistics.mean(found),
            yerr=_deviation(found),
            fmt="o",
            color=f"C{number % 10}",
            label=row.method,
            elinewidth=0.8,
        )
    drawn = {(row.space, row.random): row.drawn for row in rows if row.drawn}
    for number, ((space, _), accuracies) in enumerate(drawn.items()):
        axes.axhline(
            statistics.mean(accuracies),
            color="#999999",
            linewidth=0.9,
            linestyle=("--", ":", "-.", (0, (6, 3)))[number % 4],
            label=f"random networks, {space}",
        )
    axes.set(xscale="log", xlabel="seconds of a search", ylabel="test %", title=rows[0].dataset)
    axes.xaxis.set_major_formatter(LogFormatter())  # plain numbers
    axes.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    figure.legend(loc="outside right center", fontsize=8)
    axes.grid(alpha=0.3)
    return figure


def _deviation(values: Sequence[float]) -> float:
    """Of one value, none."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _limits(rows: Sequence[Row]) -> tuple[float, float]:
    """Of both axes, with every network."""
    values = [value for row in rows for value in (*row.drawn, *row.found.values())] or [0.0, 1.0]
    margin = 0.05 * (max(values) - min(values)) or 0.5
    return min(values) - margin, max(values) + margin
