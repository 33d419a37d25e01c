"""The pictures of a study of a search space, as figures 4 to 9 of Yang et al. 2020."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.space_columns import Columns
from nash_jax.evaluation import correlations_with_end, kendall_tau, place_changes, places
from nash_jax.reporting.axes import GRID, INK, SEVERAL


def figures(columns: Columns, epochs: Sequence[int], window: int) -> dict[str, Figure]:
    """All pictures that there are columns for, by name.

    Args:
      columns: of the study.
      epochs: whose accuracies are drawn as histograms.
      window: of the smoothed correlation.
    """
    first = next(iter(columns.curves.values()))
    drawn = {"curves": curves(first, epochs), "correlations": correlations(first, window)}
    if len(columns.curves) > 1:
        drawn["histograms"] = histograms(
            {name: each[:, -1] for name, each in columns.curves.items()}
        )
    if columns.cells:
        drawn["cells"] = cells({n: each[:, -1] for n, each in sorted(columns.cells.items())})
    for name, values in columns.seeds.items():
        drawn[name] = rank_changes(values[:, :2], ("seed A", "seed B"))
    for (few, many), values in columns.depths.items():
        drawn[f"depths-{few}-{many}"] = rank_changes(values, (f"{few} cells", f"{many} cells"))
    return drawn


def _axes(width: float = 5.6, height: float = 4.0) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.grid(color=GRID)
    return figure, axes


def curves(values: np.ndarray, epochs: Sequence[int]) -> Figure:
    """Figure 4: every learning curve; inset, the histograms of accuracies at some epochs."""
    figure, axes = _axes()
    axes.plot(
        np.arange(1, values.shape[1] + 1), values.T, color=SEVERAL[0], alpha=0.3, linewidth=0.6
    )
    axes.set_xlabel("epoch", color=INK)
    axes.set_ylabel("accuracy (%)", color=INK)
    inset = axes.inset_axes((0.4, 0.12, 0.56, 0.5))
    low = np.percentile(values[:, [epoch - 1 for epoch in epochs]], 1)
    bins = np.linspace(low, values.max(), 60).tolist()
    for epoch, colour in zip(epochs, SEVERAL):
        label = f"epoch {epoch}"
        inset.hist(
            values[:, epoch - 1], bins, histtype="stepfilled", color=colour, alpha=0.6, label=label
        )
    inset.legend(fontsize=6, frameon=False, loc="upper left")
    inset.tick_params(labelsize=6)
    return figure


def correlations(values: np.ndarray, window: int) -> Figure:
    """Figure 5: how the accuracy after each epoch correlates with that after the last."""
    figure, axes = _axes()
    epochs = np.arange(1, values.shape[1] + 1)
    for width, colour in zip(dict.fromkeys((1, window)), SEVERAL):
        label = "as it is" if width == 1 else f"mean of the last {width} epochs"
        axes.plot(epochs, correlations_with_end(values, width), color=colour, label=label)
    axes.set_xlabel("epoch", color=INK)
    axes.set_ylabel("Pearson's correlation with the last epoch", color=INK)
    axes.legend(frameon=False)
    return figure


def histograms(ends: Mapping[str, np.ndarray]) -> Figure:
    """Figure 6: accuracies after the last epoch, of each set."""
    figure, axes = _axes()
    both = np.concatenate([*ends.values()])
    bins = np.linspace(both.min(), both.max() + 1e-9, 25).tolist()
    for (name, values), colour in zip(ends.items(), SEVERAL):
        label = f"{name}: mean {values.mean():.2f}"
        axes.hist(
            values, bins, density=True, histtype="stepfilled", color=colour, alpha=0.5, label=label
        )
    axes.set_xlabel("accuracy after the last epoch (%)", color=INK)
    axes.set_ylabel("density", color=INK)
    axes.legend(frameon=False)
    return figure


def cells(ends: Mapping[int, np.ndarray]) -> Figure:
    """Figure 7: mean and deviation by the number of cells."""
    figure, axes = _axes()
    means, deviations = zip(*((each.mean(), each.std()) for each in ends.values()))
    axes.errorbar([*ends], means, deviations, marker="o", color=SEVERAL[0], capsize=3)
    axes.set_xlabel("number of cells", color=INK)
    axes.set_ylabel("accuracy after the last epoch (%)", color=INK)
    return figure


def rank_changes(values: np.ndarray, names: tuple[str, str]) -> Figure:
    """Figures 8 and 9: a line for each network from its place in one order to that in another."""
    figure, axes = _axes(4.2, 4.6)
    changes = np.abs(place_changes(*values.T))
    for ends, change in zip(np.stack([places(side) for side in values.T], axis=1), changes):
        shade = change / max(changes.max(), 1)
        axes.plot([0, 1], ends, "o-", color=SEVERAL[1], alpha=0.2 + 0.8 * shade, markersize=3)
    axes.set_xticks([0, 1], names)
    axes.invert_yaxis()
    axes.set_ylabel("place", color=INK)
    tau = kendall_tau(*values.T)
    axes.set_title(f"Kendall's tau-b {tau:.2f}, largest shift {changes.max():g}", fontsize=9)
    return figure
