"""Charts of a run, as matplotlib figures: the climb, the lineage, learning curves, costs, time.

Whatever stands for a candidate has the gid `candidate-NAME`, so that a page can say more of it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import (
    EngFormatter,
    FormatStrFormatter,
    Formatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
)

from nash_jax.estimation import Seconds
from nash_jax.runs.ledger import Line, spec_of
from nash_jax.runs.pictures import BEST, MORPHED, UNCHANGED, network_figure
from nash_jax.runs.view import RunView, accuracy_of, changed_nodes

GID = "candidate-"
INK, GRID = "#222222", "#dddddd"
#: Where time goes.
PARTS = {"compile": "#e69138", "train": "#3d85c6", "evaluate": "#6aa84f", "wait": "#cccccc"}

#: Of several runs in one chart.
SEVERAL = (MORPHED, BEST, "#6aa84f", "#e69138", "#8e7cc3", "#45818e", "#a64d79", "#999999")


def figures(run: RunView) -> dict[str, Figure]:
    """All charts that a run has something to show in, by name, networks last."""
    charts: dict[str, Callable[[RunView], Figure]] = {
        **{"climb": climb, "lineage": lineage, "curves": curves},
        **{"cost": cost, "time": time},
    }
    drawn = {name: chart(run) for name, chart in charts.items()} if run.lines else {}
    return {**drawn, **{f"network-{line['name']}": network(run, line) for line in run.chosen}}


def network(run: RunView, line: Line) -> Figure:
    """A candidate's network; what its parent does not have is marked."""
    parent, spec = run.parent(line), spec_of(line)
    marked = changed_nodes(spec_of(parent), spec) if parent else frozenset[str]()
    return network_figure(spec, marked)


def climb(run: RunView) -> Figure:
    """Validation accuracy of every child by step; children of a step stand side by side."""
    figure, axes = _axes(10.4, 4.2)
    place = {line["name"]: _beside(run, line) for line in run.tried}
    way = run.chosen
    axes.plot(
        [place[line["name"]] for line in way],
        [_percent(line) for line in way],
        color=BEST,
        linewidth=1.6,
        label="current best",
        zorder=2,
    )
    good = [line for line in run.tried if "failure" not in line]
    lowest = min((_percent(line) for line in good), default=0.0)
    highest = max((_percent(line) for line in good), default=100.0)
    below = lowest - max(0.08 * (highest - lowest), 0.5)
    for line in run.tried:
        height = below if "failure" in line else _percent(line)
        _point(axes, place[line["name"]], height, line, run)
    steps = _steps(run)
    axes.set_xticks(list(steps.values()), list(map(str, steps)))
    axes.set_xlabel("step of hill climbing (0: model_0, pretrained)")
    axes.set_ylabel("validation accuracy (%)")
    _legend(axes, run.tried)
    return figure


def climbs(runs: Sequence[RunView]) -> Figure:
    """Validation accuracy of the current best of several runs, by step."""
    figure, axes = _axes(10.4, 4.2)
    for number, run in enumerate(runs):
        steps = [line["step"] for line in run.chosen]
        color = SEVERAL[number % len(SEVERAL)]
        label = _plain(str(run.workdir))
        accuracies = [_percent(line) for line in run.chosen]
        axes.plot(steps, accuracies, marker="o", linewidth=1.6, color=color, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("step of hill climbing (0: model_0, pretrained)")
    axes.set_ylabel("validation accuracy (%)")
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    return figure


def lineage(run: RunView) -> Figure:
    """Who came from whom: a column per step, a row per child, the chosen way in red."""
    rows, steps = _rows(run), _steps(run)
    figure = Figure(figsize=(1.6 + 2.2 * (len(steps) - 1), 0.9 + 0.36 * rows), layout="constrained")
    axes = figure.subplots()
    place = {line["name"]: (steps[line["step"]], _row(line, rows)) for line in run.tried}
    on_way = {line["name"] for line in run.chosen}
    for line in sorted(run.tried, key=lambda line: line["name"] in on_way):
        if line["parent"] in place:
            _branch(axes, place[line["parent"]], place[line["name"]], line["name"] in on_way)
    for line in run.tried:
        x, y = place[line["name"]]
        _point(axes, x, y, line, run)
        text = "failed" if "failure" in line else f"{_percent(line):.2f}%"
        bold = "bold" if line["name"] in on_way else "normal"
        axes.text(x, y + 0.26, text, ha="center", fontsize=7.5, color=INK, weight=bold)
    for step, column in steps.items():
        title = f"step {step}" if step else "model_0"
        axes.text(column, rows - 0.1, title, ha="center", fontsize=8.5, color="#666666")
    axes.set_xlim(-0.4, len(steps) - 0.6)
    axes.set_ylim(-0.5, rows + 0.3)
    axes.axis("off")
    return figure


def curves(run: RunView) -> Figure:
    """Training loss by epoch, every candidate's after its parent's; the chosen way stands out."""
    figure, axes = _axes(10.4, 4.0)
    on_way = {line["name"] for line in [*run.chosen, *([run.final] if run.final else [])]}
    for line in run.lines:
        losses = [float("nan") if x is None else x for x in line["train_losses"]]
        first = _epochs_before(run, line) + 1
        chosen, morphed = line["name"] in on_way, bool(line["edits"])
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
        # A line is hard to point at: a wide one that cannot be seen lies over it.
        gid = GID + line["name"]
        axes.plot(epochs, losses, color=color, linewidth=7, alpha=0.0, zorder=4, gid=gid)
    if any(x is not None and x > 0 for line in run.lines for x in line["train_losses"]):
        axes.set_yscale("log")
        _label_log(axes.yaxis, FormatStrFormatter("%g"))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlabel("epoch, those of the parents included")
    axes.set_ylabel("training loss (nats)")
    for color, label in ((BEST, "chosen"), (MORPHED, "morphed child"), (UNCHANGED, "unchanged")):
        axes.plot([], [], color=color, label=label)
    _outside(axes, 3)
    return figure


def cost(run: RunView) -> Figure:
    """Validation accuracy against parameters and against FLOPs, each with its Pareto front."""
    figure = Figure(figsize=(10.4, 4.0), layout="constrained")
    good = [line for line in run.tried if "failure" not in line]
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, what, title in ((left, "params", "parameters"), (right, "flops", "FLOPs per image")):
        _tidy(axes)
        front = pareto_front(good, what)
        axes.plot(
            [line[what] for line in front],
            [_percent(line) for line in front],
            color="#6aa84f",
            linewidth=1.4,
            drawstyle="steps-post",
            label="Pareto front",
            zorder=2,
        )
        for line in good:
            _point(axes, line[what], _percent(line), line, run)
        if good:
            axes.set_xscale("log")
            _label_log(axes.xaxis, EngFormatter(sep=""))
        axes.set_xlabel(title)
    left.set_ylabel("validation accuracy (%)")
    _legend(right, good)
    return figure


def pareto_front(lines: Sequence[Line], what: str) -> list[Line]:
    """The lines that no other one beats: as accurate for less, or more accurate for as much.

    Args:
      lines: of candidates that did not fail.
      what: the cost, `params` or `flops`.
    """
    front: list[Line] = []
    for line in sorted(lines, key=lambda line: (line[what], -_percent(line))):
        if not front or _percent(line) > _percent(front[-1]):
            front.append(line)
    return front


def time(run: RunView) -> Figure:
    """Seconds of every candidate, by what they were spent on."""
    figure, axes = _axes(10.4, 0.9 + 0.19 * len(run.lines))
    for row, line in enumerate(run.lines):
        left = 0.0
        for part, seconds in dataclasses.asdict(Seconds(**line["seconds"])).items():
            bar = axes.barh(row, seconds, 0.72, left, color=PARTS[part])
            bar[0].set_gid(GID + line["name"])
            left += seconds
    axes.set_yticks(range(len(run.lines)), [line["name"] for line in run.lines], fontsize=7.5)
    axes.set_ylim(len(run.lines) - 0.4, -0.6)
    axes.set_xlabel("seconds")
    axes.grid(axis="y", visible=False)
    for part, color in PARTS.items():
        axes.barh([0], [0], color=color, label=part)
    _outside(axes, len(PARTS))
    return figure


def _plain(text: str) -> str:
    """A text that matplotlib draws as it is: no mathematics, no glyph that its font has not."""
    text = text.encode("ascii", "replace").decode().replace("$", r"\$")
    return f"./{text}" if text.startswith("_") else text


def _percent(line: Line) -> float:
    return 100 * (accuracy_of(line) or 0.0)


def _steps(run: RunView) -> dict[int, int]:
    """The column of every step that has candidates, from 0."""
    return {step: column for column, step in enumerate(sorted({x["step"] for x in run.tried}))}


def _rows(run: RunView) -> int:
    """How many children the largest step has."""
    return max((_number(line) for line in run.tried), default=1) or 1


def _number(line: Line) -> int:
    """Of a child within its step, from 1."""
    return int(line["name"].rpartition("child")[2]) if line["kind"] == "child" else 0


def _row(line: Line, rows: int) -> float:
    """Of a candidate in the lineage: child 1 at the top, model_0 in the middle."""
    return (rows - 1) / 2 if line["kind"] != "child" else rows - _number(line)


def _beside(run: RunView, line: Line) -> float:
    """Where a child stands in the climb: at its step, left to right by number."""
    if line["kind"] != "child":
        return 0.0
    rows, column = _rows(run), _steps(run)[line["step"]]
    return column + 0.5 * ((_number(line) - 1) / (rows - 1) - 0.5) if rows > 1 else column


def _epochs_before(run: RunView, line: Line) -> int:
    """Epochs that a candidate's ancestors were trained for."""
    before, seen = 0, {line["name"]}
    while (parent := run.parent(line)) is not None and parent["name"] not in seen:
        before += len(parent["train_losses"])
        seen.add(parent["name"])
        line = parent
    return before


def _point(axes: Axes, x: float, y: float, line: Line, run: RunView) -> None:
    """A candidate in a chart: round if it was morphed, square if not, a cross if it failed."""
    chosen = any(line is best for best in run.chosen)
    style: dict[str, Any] = {"color": MORPHED if line["edits"] else UNCHANGED, "markersize": 7}
    if "failure" in line:
        style |= {"marker": "x", "color": INK, "markeredgewidth": 1.6}
    else:
        style["marker"] = "o" if line["edits"] or line["kind"] != "child" else "s"
    if chosen:
        style |= {"markeredgecolor": BEST, "markeredgewidth": 2.0, "markersize": 9}
    axes.plot(
        [x], [y], **style, linestyle="none", zorder=4 if chosen else 3, gid=GID + line["name"]
    )


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


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    _tidy(axes)
    return figure, axes


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)


def _label_log(axis: Axis, formatter: Formatter) -> None:
    """Label a logarithmic axis at 1, 2, 5, 10, and so on."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(formatter)
    axis.set_minor_formatter(NullFormatter())


def _legend(axes: Axes, lines: Sequence[Line]) -> None:
    """What the points that occur mean."""
    kinds = Counter(
        "failed" if "failure" in line else "morphed" if line["edits"] else "unchanged"
        for line in lines
        if line["kind"] == "child"
    )
    for kind, label, marker, color in (
        ("morphed", "morphed child", "o", MORPHED),
        ("unchanged", "trained on, unchanged", "s", UNCHANGED),
        ("failed", "failed", "x", INK),
    ):
        if kinds[kind]:
            axes.plot([], [], marker, color=color, label=label)
    axes.legend(loc="lower right", fontsize=8, frameon=False)


def _outside(axes: Axes, columns: int) -> None:
    """A legend above the axes, in one row."""
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=columns, fontsize=8, frameon=False)
