"""Charts of a run, as matplotlib figures: the climb, the lineage, learning curves, costs.

Every element that shows a candidate has the gid `candidate-NAME`, so that a page can show details.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    EngFormatter,
    FormatStrFormatter,
    MaxNLocator,
)

from nash_jax.architecture import Architecture
from nash_jax.reporting import edges
from nash_jax.reporting.axes import (
    GID,
    INK,
    SEVERAL,
    label_log,
    legend_above,
    new_axes,
    plain,
    tidy,
)
from nash_jax.reporting.pictures import BEST, MORPHED, UNCHANGED, network_figure
from nash_jax.reporting.timing import time, workers
from nash_jax.reporting.view import RunView, changed_nodes
from nash_jax.search import ALONE, Trial, epochs_in_all
from nash_jax.spaces import Supernet

FROM_SCRATCH = "#8e7cc3"


def figures(run: RunView) -> dict[str, Figure]:
    """All charts that a run has something to show in, by name, networks last."""
    name, first = "climb", climb_of
    if _went_on(run):
        name, first = "rungs", rungs
    elif run.dropped:
        name, first = "population", population
    charts: dict[str, Callable[[RunView], Figure]] = {name: first}
    charts |= {"lineage": lineage, "curves": curves, "cost": cost, "time": time, "workers": workers}
    parents = any(trial.parent for trial in run.tried[1:])
    if not run.tried or name == "rungs" or (not parents and len(run.tried) > 1):
        del charts["lineage"]  # none came from another
    if all(trial.workers == 1 for trial in run.tried):
        del charts["workers"]
    drawn = {name: chart(run) for name, chart in charts.items()} if run.trials else {}
    if edges.supernets(run):
        drawn["edges"] = edges.edge_weights(run)
    if (figure := edges.cells(run)) is not None:
        drawn["cells"] = figure
    networks = [trial for trial in run.chosen if not isinstance(trial.genotype, Supernet)]
    return {**drawn, **{f"network-{trial.name}": network(run, trial) for trial in networks}}


def network(run: RunView, trial: Trial) -> Figure:
    """A trial's network; what its parent does not have is marked."""
    parent, spec = run.parent(trial), trial.spec
    if parent is not None and isinstance(parent.genotype, Supernet):
        parent = None
    marked = changed_nodes(parent.spec, spec) if parent else frozenset[str]()
    return network_figure(spec, marked)


def climb_of(run: RunView) -> Figure:
    """The climb of a run."""
    return climb(run.tried, run.chosen)


def climb(tried: Sequence[Trial], chosen: Sequence[Trial]) -> Figure:
    """Validation accuracy of every trial by step; those of a step stand side by side.

    Args:
      tried: all trials but the final one.
      chosen: those that led to the best, the first first.
    """
    figure, axes = new_axes(10.4, 4.2)
    place = _beside(tried)
    axes.plot(
        [place[trial.name] for trial in chosen],
        [_percent(trial) for trial in chosen],
        color=BEST,
        linewidth=1.6,
        label="current best",
        zorder=2,
    )
    height = _heights(tried)
    for trial in tried:
        _point(axes, place[trial.name], height[trial.name], trial, chosen)
    if one_by_one(tried):
        _label_order(axes)
    else:
        steps = _steps(tried)
        axes.set_xticks(list(steps.values()), list(map(str, steps)))
        axes.set_xlabel("step of the search")
    axes.set_ylabel("validation accuracy (%)")
    _legend(axes, tried)
    return figure


def population(run: RunView) -> Figure:
    """Evolution: a line for the life of each network, from its proposal until it is dropped.

    A thin line goes down or up to it from its parent, at the time of its proposal.
    """
    figure, axes = new_axes(10.4, 5.0)
    place = _in_order(run.tried)
    height, end = _heights(run.tried), len(run.tried) + 0.9
    steps = [trial.step for trial in run.tried]  # they rise
    on_way = {trial.name for trial in run.chosen}
    for trial in run.tried:
        x, y, chosen = place[trial.name], height[trial.name], trial.name in on_way
        color = BEST if chosen else "#bbbbbb"
        if trial.parent in height:
            axes.plot(
                [x, x],
                [height[trial.parent], y],
                color=color,
                linewidth=1.4 if chosen else 0.7,
                zorder=1,
            )
        if not trial.failed:
            step = run.dropped[trial.name][0] if trial.name in run.dropped else math.inf
            until = bisect.bisect_left(steps, step) + 0.5  # before the first proposal of that step
            dies = until < len(steps)
            ends = [x, until if dies else end]
            axes.plot(ends, [y, y], color=color, linewidth=1.8 if chosen else 1.2, zorder=2)
            if dies:
                axes.plot([until], [y], "|", color=color, markersize=7, zorder=2)
        _point(axes, x, y, trial, run.chosen)
    axes.set_xlim(0.4, end)
    _label_order(axes)
    axes.set_ylabel("validation accuracy (%)")
    _legend(axes, run.tried)
    legend_above(axes, 4)
    return figure


def rungs(run: RunView) -> Figure:
    """Successive halving: validation accuracy by rung; a line for each network that went on."""
    figure, axes = new_axes(10.4, 4.6)
    steps, height = _steps(run.tried), _heights(run.tried)
    place, before = _beside(run.tried), _went_on(run)
    on_way, name = set[str](), run.chosen[-1].name if run.chosen else None
    while name is not None:
        on_way.add(name)
        name = before.get(name)
    for trial in run.tried:
        if trial.name in before:
            ends = before[trial.name], trial.name
            axes.plot(
                [place[end] for end in ends],
                [height[end] for end in ends],
                color=BEST if trial.name in on_way else "#bbbbbb",
                linewidth=1.8 if trial.name in on_way else 1.0,
                zorder=2,
            )
        _point(axes, place[trial.name], height[trial.name], trial, run.chosen)
    labels = []
    for number, step in enumerate(steps, start=1):
        there = [trial for trial in run.tried if trial.step == step]
        epochs = {epochs_of(run, trial) for trial in there}
        networks = f"{len(there)} network{'s' if len(there) > 1 else ''}"
        labels.append(f"rung {number}\n{networks}, {max(epochs)} epochs")
    axes.set_xticks(list(steps.values()), labels)
    axes.set_ylabel("validation accuracy (%)")
    _legend(axes, run.tried)
    return figure


def climbs(runs: Sequence[RunView]) -> Figure:
    """Validation accuracy of the current best of several runs, by step."""
    figure, axes = new_axes(10.4, 4.2)
    for number, run in enumerate(runs):
        steps = [trial.step for trial in run.chosen]
        color = SEVERAL[number % len(SEVERAL)]
        label = plain(str(run.workdir))
        accuracies = [_percent(trial) for trial in run.chosen]
        axes.plot(steps, accuracies, marker="o", linewidth=1.6, color=color, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("step of the search")
    axes.set_ylabel("validation accuracy (%)")
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    return figure


def lineage(run: RunView) -> Figure:
    """Who came from whom: a column per generation, a row per child, the chosen way in red."""
    column = _generations(run)
    sizes = Counter(column.values())
    rows, place, above = max(sizes.values()), dict[str, tuple[float, float]](), Counter[int]()
    for trial in run.tried:
        number = column[trial.name]
        middle = sizes[number] == 1 and trial.recipe in ALONE
        place[trial.name] = (number, (rows - 1) / 2 if middle else rows - 1 - above[number])
        above[number] += 1
    width = 1.6 + 2.2 * max(sizes)
    figure = Figure(figsize=(width, 0.9 + 0.36 * rows), layout="constrained")
    axes = figure.subplots()
    on_way = {trial.name for trial in run.chosen}
    for trial in sorted(run.tried, key=lambda trial: trial.name in on_way):
        if trial.parent in place:
            _branch(axes, place[trial.parent], place[trial.name], trial.name in on_way)
    for trial in run.tried:
        x, y = place[trial.name]
        _point(axes, x, y, trial, run.chosen)
        text = "failed" if trial.failed else f"{_percent(trial):.2f}%"
        bold = "bold" if trial.name in on_way else "normal"
        axes.text(x, y + 0.26, text, ha="center", fontsize=7.5, color=INK, weight=bold)
    word = "step" if all(column[trial.name] == trial.step for trial in run.tried) else "generation"
    for number in sizes:
        alone = [trial.name for trial in run.tried if column[trial.name] == number]
        title = alone[0] if len(alone) == 1 and not number else f"{word} {number}"
        axes.text(number, rows - 0.1, title, ha="center", fontsize=8.5, color="#666666")
    axes.set_xlim(-0.4, max(sizes) + 0.4)
    axes.set_ylim(-0.5, rows + 0.3)
    axes.axis("off")
    return figure


def curves(run: RunView) -> Figure:
    """Training loss by epoch; a trial's curve follows its parent's; the chosen way stands out."""
    figure, axes = new_axes(10.4, 4.0)
    on_way = {trial.name for trial in [*run.chosen, *([run.final] if run.final else [])]}
    for trial in run.trials:
        losses = [float("nan") if x is None else x for x in trial.estimate.train_losses]
        first = epochs_of(run, trial) - len(losses) + 1
        chosen, morphed = trial.name in on_way, bool(trial.edits)
        epochs = range(first, first + len(losses))
        color = BEST if chosen else MORPHED if morphed else UNCHANGED
        axes.plot(
            epochs,
            losses,
            color=color,
            linewidth=1.8 if chosen else 1.0,
            alpha=1.0 if chosen else 0.6,
            marker="." if len(losses) == 1 else None,
            zorder=3 if chosen else 2,
        )
        # A thin line is hard to point at, so a wide invisible line lies over it.
        gid = GID + trial.name
        axes.plot(epochs, losses, color=color, linewidth=7, alpha=0.0, zorder=4, gid=gid)
    if any(x is not None and x > 0 for trial in run.trials for x in trial.estimate.train_losses):
        axes.set_yscale("log")
        label_log(axes.yaxis, FormatStrFormatter("%g"))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlabel("epoch, those of the parents included")
    axes.set_ylabel("training loss (nats)")
    for color, label in (
        (BEST, "chosen"),
        (MORPHED, "morphed child"),
        (UNCHANGED, "without edits"),
    ):
        axes.plot([], [], color=color, label=label)
    legend_above(axes, 3)
    return figure


def cost(run: RunView) -> Figure:
    """Validation accuracy against parameters and against FLOPs, each with its Pareto front."""
    figure = Figure(figsize=(10.4, 4.0), layout="constrained")
    good = [trial for trial in run.tried if not trial.failed]
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, what, title in ((left, "params", "parameters"), (right, "flops", "FLOPs per image")):
        tidy(axes)
        front = pareto_front(good, what)
        axes.plot(
            [getattr(trial, what) for trial in front],
            [_percent(trial) for trial in front],
            color="#6aa84f",
            linewidth=1.4,
            drawstyle="steps-post",
            label="Pareto front",
            zorder=2,
        )
        for trial in good:
            _point(axes, getattr(trial, what), _percent(trial), trial, run.chosen)
        if good:
            axes.set_xscale("log")
            label_log(axes.xaxis, EngFormatter(sep=""))
        axes.set_xlabel(title)
    left.set_ylabel("validation accuracy (%)")
    _legend(right, good)
    return figure


def pareto_front(trials: Sequence[Trial], what: str) -> list[Trial]:
    """The trials for which no other is as accurate at less cost, or more accurate at equal cost.

    Args:
      trials: trials that did not fail.
      what: the cost, `params` or `flops`.
    """
    front: list[Trial] = []
    for trial in sorted(trials, key=lambda trial: (getattr(trial, what), -_percent(trial))):
        if not front or _percent(trial) > _percent(front[-1]):
            front.append(trial)
    return front


def _percent(trial: Trial) -> float:
    return 100 * (trial.accuracy or 0.0)


def _steps(tried: Sequence[Trial]) -> dict[int, int]:
    """The column of every step that has trials, from 0."""
    return {step: column for column, step in enumerate(sorted({trial.step for trial in tried}))}


def one_by_one(tried: Sequence[Trial]) -> bool:
    """Whether a strategy asks for one network at a time, so that its steps say nothing."""
    sizes = Counter(trial.step for trial in tried if trial.recipe not in ALONE)
    return len(sizes) > 2 and sum(size == 1 for size in sizes.values()) > len(sizes) / 2


def _in_order(tried: Sequence[Trial]) -> dict[str, float]:
    """Where trials stand in a chart whose axis is `_label_order`'s."""
    return {trial.name: float(number) for number, trial in enumerate(tried, start=1)}


def _beside(tried: Sequence[Trial]) -> dict[str, float]:
    """Where trials stand in a chart: around their step, left to right; or in their order."""
    if one_by_one(tried):
        return _in_order(tried)
    steps, place = _steps(tried), {}
    for step, column in steps.items():
        there = [trial for trial in tried if trial.step == step]
        for number, trial in enumerate(there):
            place[trial.name] = column + 0.5 * (number + 0.5 - len(there) / 2) / len(there)
    return place


def _went_on(run: RunView) -> dict[str, str]:
    """For networks that are trained on, or once more, in a later step: the trial before, by name.

    Networks that are trained anew have no parent; they are known by their architecture.
    """
    found: dict[str, str] = {}
    left: dict[Architecture, list[Trial]] = {}
    for trial in run.tried:
        parent = run.parent(trial)
        if trial.recipe == "further" and parent is not None:
            found[trial.name] = parent.name
        elif trial.recipe == "scratch":
            earlier = [t for t in left.get(trial.spec, []) if t.step < trial.step]
            if earlier:
                found[trial.name] = earlier[0].name
                left[trial.spec].remove(earlier[0])
            left.setdefault(trial.spec, []).append(trial)
    return found


def _label_order(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("network, in the order of the proposals")


def _heights(tried: Sequence[Trial]) -> dict[str, float]:
    """Validation accuracy of every trial in percent; those that failed stand below all others."""
    good = [_percent(trial) for trial in tried if not trial.failed]
    lowest, highest = min(good, default=0.0), max(good, default=100.0)
    below = lowest - max(0.08 * (highest - lowest), 0.5)
    return {trial.name: below if trial.failed else _percent(trial) for trial in tried}


def _generations(run: RunView) -> dict[str, int]:
    """How many trials stand between each trial and the first that it came from."""
    found: dict[str, int] = {}
    for trial in run.tried:
        parent = run.parent(trial)
        found[trial.name] = found.get(parent.name, -1) + 1 if parent else 0
    return found


def epochs_of(run: RunView, trial: Trial) -> int:
    """Epochs that a trial's weights were trained for: see `search.epochs_in_all`."""
    return epochs_in_all(trial, run.by_name, run.recipes)


COLORS = {"morphed": MORPHED, "scratch": FROM_SCRATCH, "unchanged": UNCHANGED, "failed": INK}
COLORS["alone"] = UNCHANGED


def _kind(trial: Trial) -> str:
    """What a point of a chart shows."""
    if trial.failed:
        return "failed"
    if trial.recipe in ALONE:
        return "alone"
    if trial.recipe == "scratch":
        return "scratch"
    return "morphed" if trial.edits else "unchanged"


def _point(axes: Axes, x: float, y: float, trial: Trial, chosen: Sequence[Trial]) -> None:
    """A trial in a chart: round if it was morphed, square if not, a cross if it failed."""
    on_way = any(trial is best for best in chosen)
    style: dict[str, Any] = {"color": COLORS[_kind(trial)], "markersize": 7}
    if trial.failed:
        style |= {"marker": "x", "color": INK, "markeredgewidth": 1.6}
    else:
        style["marker"] = "s" if _kind(trial) == "unchanged" else "o"
    if on_way:
        style |= {"markeredgecolor": BEST, "markeredgewidth": 2.0, "markersize": 9}
    axes.plot([x], [y], **style, linestyle="none", zorder=4 if on_way else 3, gid=GID + trial.name)


def _branch(
    axes: Axes, parent: tuple[float, float], child: tuple[float, float], chosen: bool
) -> None:
    """A line from a parent to its child, level at both ends."""
    middle = (parent[0] + child[0]) / 2
    points = [parent, (middle, parent[1]), (middle, child[1]), child]
    steps = [t / 24 for t in range(25)]
    weights = [((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3) for t in steps]
    axes.plot(
        *([sum(w * p[i] for w, p in zip(four, points)) for four in weights] for i in (0, 1)),
        color=BEST if chosen else "#bbbbbb",
        linewidth=2.0 if chosen else 1.0,
        zorder=2 if chosen else 1,
    )


def _legend(axes: Axes, trials: Sequence[Trial]) -> None:
    """A legend for the kinds of points that occur."""
    kinds = Counter(_kind(trial) for trial in trials)
    for kind, label, marker, color in (
        ("morphed", "morphed child", "o", MORPHED),
        ("scratch", "from scratch", "o", FROM_SCRATCH),
        ("unchanged", "trained on, without edits", "s", UNCHANGED),
        ("failed", "failed", "x", INK),
    ):
        if kinds[kind]:
            axes.plot([], [], marker, color=color, label=label)
    axes.legend(loc="lower right", fontsize=8, frameon=False)
