"""How the axes of all charts look."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import Formatter, LogLocator, NullFormatter

from nash_jax.reporting.pictures import BEST, MORPHED

#: What the id of an element begins with that shows a candidate, before its name.
GID = "candidate-"
INK, GRID = "#222222", "#dddddd"
#: Colours for several runs, or nodes, in one chart.
SEVERAL = (MORPHED, BEST, "#6aa84f", "#e69138", "#8e7cc3", "#45818e", "#a64d79", "#999999")


def new_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of so many inches, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    tidy(axes)
    return figure, axes


def tidy(axes: Axes) -> None:
    """A faint grid, and no frame."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)


def label_log(axis: Axis, formatter: Formatter) -> None:
    """Label a logarithmic axis at 1, 2, 5, 10, and so on."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(formatter)
    axis.set_minor_formatter(NullFormatter())


def legend_above(axes: Axes, columns: int) -> None:
    """A legend above the axes, in one row."""
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=columns, fontsize=8, frameon=False)


def plain(text: str) -> str:
    """The text without anything that matplotlib reads as mathematics or its font does not have."""
    text = text.encode("ascii", "replace").decode().replace("$", r"\$")
    return f"./{text}" if text.startswith("_") else text
