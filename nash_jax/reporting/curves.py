"""What searches found over time, with intervals: several in one picture."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np

from nash_jax.reporting.axes import GRID, INK, SEVERAL


def draw_curves(curves: Mapping[str, np.ndarray], across: str, up: str) -> bytes:
    """A PNG picture of means and their intervals over time, on a logarithmic scale.

    Args:
      curves: by name, rows of time, mean, and the ends of the interval, `[points, 4]`.
      across: title of the horizontal axis.
      up: of the vertical one.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for (name, rows), colour in zip(curves.items(), SEVERAL * len(curves)):
        time, mean, low, high = np.asarray(rows).T
        axes.plot(time, mean, color=colour, label=name)
        axes.fill_between(time, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.set_yscale("log")
    for axis_format in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        axis_format("{x:g}")
    axes.set_xlabel(across, color=INK)
    axes.set_ylabel(up, color=INK)
    axes.grid(color=GRID)
    axes.legend()
    picture = io.BytesIO()
    figure.savefig(picture, dpi=150)
    return picture.getvalue()
