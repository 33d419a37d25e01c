"""Where the time of a run went, and how busy its workers were."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nash_jax.reporting.axes import GID, INK, SEVERAL, legend_above, new_axes, plain
from nash_jax.reporting.view import RunView
from nash_jax.search import Trial

#: Where time goes.
PARTS = {"compile": "#e69138", "train": "#3d85c6", "evaluate": "#6aa84f", "wait": "#cccccc"}
#: The nodes with the most trials have an area each; all others share one.
_NODES = len(SEVERAL) - 1


def time(run: RunView) -> Figure:
    """Seconds of every trial, by what they were spent on."""
    figure, axes = new_axes(10.4, 0.9 + 0.19 * len(run.trials))
    for row, trial in enumerate(run.trials):
        left = 0.0
        for part, seconds in dataclasses.asdict(trial.estimate.seconds).items():
            bar = axes.barh(row, seconds, 0.72, left, color=PARTS[part])
            bar[0].set_gid(GID + trial.name)
            left += seconds
    axes.set_yticks(range(len(run.trials)), [trial.name for trial in run.trials], fontsize=7.5)
    axes.set_ylim(len(run.trials) - 0.4, -0.6)
    axes.set_xlabel("seconds")
    axes.grid(axis="y", visible=False)
    for part, color in PARTS.items():
        axes.barh([0], [0], color=color, label=part)
    legend_above(axes, len(PARTS))
    return figure


class Busy(NamedTuple):
    """How many trials were being made.

    Attributes:
      seconds: of the run, `[times]`: when a trial began or ended.
      by_node: for each node that made trials, how many from each of these times on, `[times]`.
    """

    seconds: np.ndarray
    by_node: Mapping[str, np.ndarray]

    def share(self, workers: int) -> float:
        """How much of the time of so many workers was worked."""
        worked = np.sum(list(self.by_node.values()), axis=0)[:-1] @ np.diff(self.seconds)
        there = workers * (self.seconds[-1] - self.seconds[0])
        return float(worked / there) if there else 0.0


def busy(trials: Iterable[Trial], overlapped: bool = False) -> Busy:
    """How many trials were being made at each time, on each node.

    A trial ended when it was recorded, and began as long before as it took without waiting.

    Args:
      trials: of a search.
      overlapped: whether they were compiled beside others: see `view.shares_of_time`.
    """
    spans: dict[str, list[tuple[float, float]]] = {}
    for trial in trials:
        seconds = trial.estimate.seconds
        beside = seconds.wait + (seconds.compile if overlapped else 0.0)
        begun = max(0.0, trial.elapsed - seconds.total + beside)
        spans.setdefault(trial.place, []).append((begun, trial.elapsed))
    times = np.unique([time for each in spans.values() for span in each for time in span])
    by_node = {}
    for node in sorted(spans):
        begun, ended = np.sort(np.array(spans[node]), axis=0).T
        after = [np.searchsorted(each, times, "right") for each in (begun, ended)]
        by_node[node] = after[0] - after[1]
    return Busy(times, by_node)


def workers(run: RunView) -> Figure:
    """How many trials of the search were made side by side, by time and node."""
    found = busy(run.tried, run.overlapped)
    nodes = sorted(found.by_node, key=lambda node: -found.by_node[node].sum())
    areas = {node: found.by_node[node] for node in nodes[:_NODES]}
    if others := nodes[_NODES:]:
        areas[f"{len(others)} others"] = np.sum([found.by_node[node] for node in others], axis=0)
    figure, axes = new_axes(10.4, 2.6)
    axes.stackplot(found.seconds, *areas.values(), colors=SEVERAL, step="post", linewidth=0)
    known = sorted((trial.elapsed, trial.workers) for trial in run.tried)
    most = max(trial.workers for trial in run.tried)
    ends, there = zip((found.seconds[0], known[0][1]), *known)
    label = f"workers; busy: {found.share(most):.0%}"
    axes.step(ends, there, where="pre", color=INK, linewidth=1, label=label)
    for (node, _), color in zip(areas.items(), SEVERAL):
        axes.fill_between([], [], color=color, label=plain(node) or "trials being made")
    axes.set_xlabel("seconds of the run")
    axes.set_ylabel("trials at a time")
    axes.set_ylim(0, 1.08 * most)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    legend_above(axes, 1 + min(len(areas), 4))
    return figure
