"""What became of a supernet's edges: their weights by epoch, and the cells of a network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from nash_jax.reporting.view import RunView
from nash_jax.search import Trial
from nash_jax.spaces import Supernet
from nash_jax.training.bilevel import EdgeSettings

COLUMNS = 5
_WHITE: Any = {"facecolor": "white", "edgecolor": "none", "pad": 1}
#: A line of its own for each choice; those of more than ten are repeated, dashed.
_STYLES = [(f"C{number % 10}", "-" if number < 10 else "--") for number in range(100)]


def supernets(run: RunView) -> list[Trial]:
    """The supernets whose edges' weights are known."""
    return [trial for trial in run.trials if trial.estimate.edges]


def entropy(weights: Mapping[str, Any]) -> np.ndarray:
    """Mean entropy of the edges' weights after each epoch, as a share of the most, `[epochs]`.

    Edges with one choice do not count.

    >>> entropy({"a": ((0.5, 0.5), (1.0, 0.0))}).tolist()
    [1.0, 0.0]
    """
    shares = []
    for history in weights.values():
        p = np.asarray(history, np.float64)
        if p.shape[1] > 1:
            logs = np.log(np.where(p > 0, p, 1.0))
            shares.append(-(p * logs).sum(axis=1) / math.log(p.shape[1]))
    return np.mean(shares, axis=0) if shares else np.zeros(0)


def skips(run: RunView, trial: Trial) -> list[int] | None:
    """How many edges of the network that is derived after each epoch are skips.

    None where the space has no skips, or nothing is derived of its weights.
    """
    space, supernet = _space(run, trial), trial.genotype
    rule = run.recipes[trial.recipe].rule
    if not isinstance(rule, EdgeSettings) and rule not in ("exp3", "least_squares"):
        return None
    if space is None or not isinstance(supernet, Supernet):
        return None
    if not any("skip_connect" in choice for _, choices in supernet.edges for choice in choices):
        return None
    found = []
    for epoch in range(len(next(iter(trial.estimate.edges.values())))):
        weights = {edge: history[epoch] for edge, history in trial.estimate.edges.items()}
        chosen = space.chosen(space.derive(weights, supernet))
        found.append(sum(op.startswith("skip_connect") for op in chosen.values()))
    return found


def _space(run: RunView, trial: Trial) -> Any:
    """The space of a run, if its genotypes have edges."""
    made = getattr(run.config.space, "made", None)
    if made is None:
        return None
    space = made(trial.spec.input_shape, trial.spec.num_classes, None)
    return space if getattr(space, "edges", ()) else None


def edge_weights(run: RunView) -> Figure:
    """The last supernet: a panel for each edge, and one for all."""
    trial = supernets(run)[-1]
    supernet, history = trial.genotype, trial.estimate.edges
    edges = [(name, choices) for name, choices in supernet.edges if len(choices) > 1]
    rows = -(-(len(edges) + 1) // COLUMNS)
    figure = Figure(figsize=(10.4, 0.6 + 1.6 * rows), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, squeeze=False, sharex=True).ravel()
    summary, *others = panels
    epochs = np.arange(1, len(next(iter(history.values()))) + 1)
    summary.plot(epochs, entropy(history), color="#222222")
    summary.set_title("all: entropy, of 1; skips (right)", fontsize=8)
    summary.set_ylim(0, 1.02)
    if (counted := skips(run, trial)) is not None:
        right = summary.twinx()
        right.plot(epochs, counted, color="#e69138", drawstyle="steps-mid")
        right.set_ylim(0, max(1, *counted) + 0.5)
        right.tick_params(labelsize=7)
    labels: dict[str, Any] = {}
    for panel, (name, choices) in zip(others, edges):
        for choice, weights, (color, line) in zip(choices, zip(*history[name]), _STYLES):
            (drawn,) = panel.plot(epochs, weights, color=color, linestyle=line, linewidth=1.2)
            labels.setdefault(choice, drawn)
        panel.set_title(name, fontsize=8)
    for panel in panels:
        panel.tick_params(labelsize=7)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in others[len(edges) :]:
        panel.axis("off")
    if len(labels) <= 12:
        columns = min(len(labels), 6)
        where: Any = {"loc": "outside lower center", "ncols": columns}
        figure.legend(list(labels.values()), list(labels), **where, fontsize=8, frameon=False)
    return figure


def cells(run: RunView) -> Figure | None:
    """The cells of the last network that was chosen, as papers draw them; None: it has none."""
    trial = run.chosen[-1] if run.chosen else None
    space = None if trial is None or not isinstance(trial.genotype, tuple) else _space(run, trial)
    if space is None or trial is None:
        return None
    kinds: dict[str, list[tuple[int, int, str]]] = {}
    for name, choice in space.chosen(trial.genotype).items():
        op, _, state = choice.partition("~")
        words = name.split("_")
        kind = words.pop(0) if not words[0].isdecimal() else "cell"
        if state:
            words = [state, words[0]]
        if len(words) == 2 and all(map(str.isdecimal, words)) and op != "none":
            kinds.setdefault(kind, []).append((int(words[0]), int(words[1]), op))
    if not kinds:
        return None
    figure = Figure(figsize=(10.4, 2.6 * len(kinds)), layout="constrained")
    panels = figure.subplots(len(kinds), 1, squeeze=False).ravel()
    for panel, (kind, reads) in zip(panels, kinds.items()):
        _draw_cell(panel, kind, reads, num_inputs=1 if kind == "cell" else 2)
    return figure


def _draw_cell(axes: Any, kind: str, reads: list[tuple[int, int, str]], num_inputs: int) -> None:
    """States from the left to the right, each behind what it reads; ops on the arrows."""
    states = range(max(target for _, target, _ in reads) + 1)
    column = dict.fromkeys(range(num_inputs), 0)
    for state in states[num_inputs:]:
        column[state] = 1 + max((column[s] for s, t, _ in reads if t == state), default=0)
    place = {}
    for number in sorted(set(column.values())):
        here = [state for state in states if column[state] == number]
        for row, state in enumerate(here):
            place[state] = (number, (len(here) - 1) / 2 - row + 0.18 * (number % 2))
    columns, rows = max(column.values()), [y for _, y in place.values()]
    low, high = min(rows) - 0.7, max(rows) + 0.7
    # An arrow bends in inches: how many rows are as long as a column.
    slope = (10.4 / (columns + 0.8)) / (2.4 / (high - low))
    several: dict[tuple[int, int], int] = {}
    for source, target, op in reads:
        again = several[source, target] = several.get((source, target), 0) + 1
        bend = 0.12 * (column[target] - column[source] - 1) + 0.2 * (again - 1)
        (x, y), (x2, y2) = place[source], place[target]
        arrow = {"arrowstyle": "->", "color": "#666666", "connectionstyle": f"arc3,rad={-bend}"}
        axes.annotate("", (x2 - 0.09, y2), (x + 0.09, y), arrowprops=arrow)
        share = 0.62  # of the way: arrows often cross in the middle
        up = 2 * share * (1 - share) * bend * (x2 - x) * slope
        where = x + share * (x2 - x), y + share * (y2 - y) + up
        axes.text(*where, op, fontsize=7, ha="center", va="center", bbox=_WHITE)
    for state, (x, y) in place.items():
        given = state < num_inputs
        inputs = ("input",) if num_inputs == 1 else ("c(k-2)", "c(k-1)")
        name, color = (inputs[state], "#fff2cc") if given else (str(state), "#cfe2f3")
        box = {"boxstyle": "round", "facecolor": color, "edgecolor": "#666666"}
        axes.text(x, y, name, ha="center", va="center", fontsize=9, bbox=box)
    axes.set_title("cell" if kind == "cell" else f"{kind} cell", fontsize=9, loc="left")
    axes.set_xlim(-0.4, columns + 0.4)
    axes.set_ylim(low, high + 0.15 * columns * (columns > 1))
    axes.axis("off")
