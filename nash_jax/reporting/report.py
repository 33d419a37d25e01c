"""A run as one HTML file that needs nothing else: no network, no other file, no plug-in."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import importlib.resources
import io
import math
import pathlib
import re
import shlex
from typing import Any
from xml.etree import ElementTree

import jinja2
import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from nash_jax.record.files import write_atomically, writing
from nash_jax.record.workdir import DATA_NAME
from nash_jax.reporting import charts
from nash_jax.reporting.axes import GID
from nash_jax.reporting.describe import describe_edit, origin, percent, split_of, used_of
from nash_jax.reporting.pictures import BEST, BOX_COLORS, MORPHED, UNCHANGED
from nash_jax.reporting.timing import PARTS
from nash_jax.reporting.view import RunView
from nash_jax.search import Trial

REPORT_FILE = "report.html"
PICTURE_FORMATS = ("svg", "png")

#: The colours of charts, and what they become on a dark screen; the page has a variable for each.
DARK = {
    **{"#000000": "#e6e6e6", "#222222": "#e6e6e6", "#444444": "#b5b5b5", "#666666": "#a3a3a3"},
    **{"#888888": "#7d7d7d", "#bbbbbb": "#555b63", "#cccccc": "#59606a", "#dddddd": "#2f343b"},
    **{BEST: "#f0705a", "#cc0000": "#ff6b5e", "#b45f06": "#e6a05a"},
    **{
        charts.FROM_SCRATCH: "#a99bd8",
        MORPHED: "#6fa8dc",
        UNCHANGED: "#9a9a9a",
        "#e69138": "#e69138",
        "#6aa84f": "#7fbf63",
    },
    **dict(zip(BOX_COLORS.values(), ("#1f3d57", "#2a4528", "#54401f", "#4c2f3d", "#33383f"))),
}
CHARTS = {
    "climb": (
        "The climb",
        "Every network that was tried, by step; the children of a step stand side by side.",
    ),
    "population": (
        "The population",
        "The life of every network, from its proposal until it is dropped; a thin line comes from "
        "its parent; the way to the best is red.",
    ),
    "rungs": (
        "The rungs",
        "Every network by rung; those that went on are joined by lines, the best by a red one.",
    ),
    "lineage": (
        "The lineage",
        "Who came from whom, with validation accuracy; the chosen way is red.",
    ),
    "cells": ("The cells", "The cells of the network that was chosen last."),
    "edges": (
        "The edges of the supernet",
        "The weights of every edge after each epoch, or how often a policy draws its choices.",
    ),
    "curves": (
        "Learning curves",
        "Training loss of every epoch; a child's curve begins where its parent's ended.",
    ),
    "cost": ("Accuracy and cost", "Nothing beats a network on the Pareto front at its cost."),
    "time": ("Where the time went", "Seconds of every trial, in the order of the search."),
    "workers": ("The workers", "How many trials were made at a time, and on which nodes."),
}


def report(run: RunView, out: pathlib.Path | None = None) -> pathlib.Path:
    """Write a run's report.

    Args:
      run: the run; it may still go on.
      out: the file to write; by default `report.html` in the folder.

    Returns:
      The file that was written.

    Raises:
      WriteError: if the file cannot be written.
    """
    out = run.workdir / REPORT_FILE if out is None else out
    write_atomically(out, render(run).encode(errors="backslashreplace"))
    return out


def pictures(run: RunView, folder: pathlib.Path, ending: str = "svg") -> list[pathlib.Path]:
    """Write every chart of a run, and every network on the way to the best, as a file of its own.

    Args:
      run: the run; it may still go on.
      folder: is made if it is not there.
      ending: `svg` or `png`.

    Returns:
      The files that were written.

    Raises:
      ValueError: for another ending.
      WriteError: if a file cannot be written.
    """
    if ending not in PICTURE_FORMATS:
        raise ValueError(f"format must be {' or '.join(PICTURE_FORMATS)}; got {ending!r}")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in charts.figures(run).items():
        paths.append(folder / f"{name}.{ending}")
        write_atomically(paths[-1], _saved(figure, ending, name))
    return paths


def render(run: RunView) -> str:
    """The report as HTML; the same run gives the same bytes."""
    script = resource("report.js")
    shown = run.chosen
    if not run.is_climb:
        before = [None, *(trial.spec for trial in run.chosen)]
        shown = [trial for trial, spec in zip(run.chosen, before) if trial.spec != spec]
    drawn = {name: inline_svg(figure, name) for name, figure in charts.figures(run).items()}
    return page(
        "report.html.jinja",
        run=run,
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        charts=[(name, *CHARTS[name], drawn[name]) for name in CHARTS if name in drawn],
        networks=[
            (trial, drawn[f"network-{trial.name}"])
            for trial in shown
            if f"network-{trial.name}" in drawn
        ],
        facts=facts(run),
        rows=[row(run, trial) for trial in run.trials],
        comparison=comparison(run),
        by_step=not charts.one_by_one(run.tried),
        edits=edits_by_step(run),
        chosen={trial.name for trial in run.chosen},
        tips={trial.name: tip(run, trial) for trial in run.trials},
        origin=origin,
        command=shlex.join(run.about["command"]) or python_call(run),
        first_charts=("climb", "population", "rungs", "lineage"),
        settings=settings(run.config),
        shares=run.shares,
        parts=PARTS,
    )


def page(template: str, **values: Any) -> str:
    """A page from a template, in the common style; values that are no `Markup` are escaped."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    style = environment.from_string(resource("style.css.jinja"))
    sheet = Markup(style.render(colors=DARK) + resource("report.css"))
    return environment.from_string(resource(template)).render(style=sheet, **values)


def edits_by_step(run: RunView) -> list[tuple[int, dict[str, int]]]:
    """For every step how many edits of each kind its trials have; for all as step 0, if the
    strategy asks for one at a time."""
    kinds = sorted({type(edit).__name__ for trial in run.trials for edit in trial.edits})
    counts: dict[int, dict[str, int]] = {}
    together = charts.one_by_one(run.tried)
    for trial in run.trials:
        if trial.recipe not in charts.ALONE:
            step = 0 if together else trial.step
            of_step = counts.setdefault(step, dict.fromkeys(kinds, 0))
            for edit in trial.edits:
                of_step[type(edit).__name__] += 1
    return sorted(counts.items()) if kinds else []


def facts(run: RunView) -> list[tuple[str, str]]:
    """The headline: what each number is, and the number."""
    best = run.best
    shown = [("seconds", f"{run.seconds:,.0f}"), ("networks tried", f"{len(run.tried):,}")]
    shown.append(("failed", f"{len(run.failures):,}"))
    if best is None:
        return shown
    return [
        (f"{split_of(best)} accuracy", _accuracy(best)),
        ("parameters", f"{best.params:,}"),
        ("MFLOPs per image", f"{best.flops / 1e6:,.2f}"),
        *(
            (f"left of max_{name}", f"{1 - share:.0%}")
            for name, share in used_of(best, run.about.get("limits", {}))
        ),
        *shown,
    ]


def comparison(run: RunView) -> list[tuple[str, ...]]:
    """Why this network: the best beside model_0, as rows of a table with a head.

    The baseline, if there is one, was trained as long as the best of the search.
    """
    first = run.tried[0] if run.tried and run.tried[0].recipe == "pretrain" else None
    best = run.chosen[-1] if run.chosen else None
    shown = [("model_0, where the search began", first), ("model_0, trained as long", run.baseline)]
    shown += [("the best of the search", best)]
    there = [(what, trial) for what, trial in shown if trial is not None]
    if best is None or best is first:
        return []
    head = ("network", "epochs in all", "validation accuracy", "loss", "parameters", "MFLOPs")
    return [
        head,
        *(
            (
                what,
                f"{charts.epochs_of(run, trial)}",
                _accuracy(trial),
                "" if trial.failed else f"{trial.estimate.loss:.4f}",
                f"{trial.params:,}",
                f"{trial.flops / 1e6:,.2f}",
            )
            for what, trial in there
        ),
    ]


def row(run: RunView, trial: Trial) -> dict[str, Any]:
    """One trial for the table."""
    loss, seconds = trial.estimate.loss, dataclasses.asdict(trial.estimate.seconds)
    return {
        "name": trial.name,
        "parent": trial.parent or "",
        "made by": origin(trial),
        "failure": trial.estimate.failure,
        "dropped": run.dropped[trial.name][1] if trial.name in run.dropped else "",
        "numbers": [
            _accuracy(trial) + (" (test)" if split_of(trial) == "test" else ""),
            f"{loss:.4f}" if math.isfinite(loss) else "",
            f"{trial.params:,}",
            f"{trial.flops / 1e6:,.2f}",
            *(f"{seconds[part]:.1f}" for part in PARTS),
            f"{trial.estimate.required_bytes / 2**20:,.1f}",
        ],
    }


def tip(run: RunView, trial: Trial) -> str:
    """What a page says when a trial is pointed at, in lines."""
    estimate = trial.estimate
    known = [
        f"{split_of(trial)} accuracy {_accuracy(trial)}",
        f"{trial.params:,} parameters, {trial.flops / 1e6:,.2f} MFLOPs",
        f"{estimate.seconds.total:.1f} s",
    ]
    return "\n".join(
        [
            trial.name + (f" from {trial.parent}" if trial.parent else ""),
            *(map(describe_edit, trial.edits) if trial.edits else [origin(trial)]),
            *([f"failed: {estimate.failure}"] if trial.failed else []),
            *known,
            *([f"dropped: {run.dropped[trial.name][1]}"] if trial.name in run.dropped else []),
            *(f"lambda of {node} {value:.2f}" for node, value in estimate.lambdas),
        ]
    )


def settings(config: Any) -> list[tuple[str, str, bool, str]]:
    """Every setting: name, value, whether it is not the default, and what it is."""
    return [
        (
            name,
            ", ".join(map(str, value)) if isinstance(value, tuple) else str(value),
            value != default,
            help,
        )
        for name, _, value, default, help in config.settings()
    ]


def python_call(run: RunView) -> str:
    """The Python call that runs these settings again, for a run that no command began."""
    given = [setting for setting in run.config.settings() if setting.value != setting.default]
    data = ", dataset" if DATA_NAME in run.about else ""
    words = ", ".join(f"{setting.name}={setting.value!r}" for setting in given)
    return f"nash_jax.run_search(nash_jax.Config().replace({words}){data})"


def inline_svg(figure: Figure, name: str) -> Markup:
    """A figure as an `svg` element of a page that has others.

    Its ids begin with the chart's name, its colours are the page's variables, its texts are not
    turned into paths, and every element with the gid `candidate-X` gets `data-candidate="X"`.

    Args:
      figure: the figure.
      name: of the chart; each chart of a page needs its own.
    """
    root = ElementTree.fromstring(_saved(figure, "svg", name, fonttype="none"))
    _without(root, {"metadata", "style"})
    for element in root.iter():
        element.tag = _local(element.tag)
        attributes = {_local(key): value for key, value in element.attrib.items()}
        element.attrib.clear()
        for key, value in attributes.items():
            if key == "id" and value.startswith(GID):
                element.set("data-candidate", value.removeprefix(GID))
            elif key == "id":
                element.set("id", f"{name}-{value}")
            elif key == "href":
                element.set("href", value.replace("#", f"#{name}-", 1))
            else:
                element.set(key, _COLOR.sub(_variable, value.replace("url(#", f"url(#{name}-")))
    root.attrib.pop("version", None)
    root.attrib.pop("height", None)
    root.set("width", str(round(96 * figure.get_figwidth())))
    return Markup(ElementTree.tostring(root, encoding="unicode"))


_COLOR = re.compile(r"#[0-9a-f]{6}\b")


def _local(name: str) -> str:
    """A name without its namespace: an `svg` element within a page needs none."""
    return name.rpartition("}")[2]


def _without(element: ElementTree.Element, tags: set[str]) -> None:
    """Remove elements, wherever they are."""
    for child in list(element):
        if _local(child.tag) in tags:
            element.remove(child)
        else:
            _without(child, tags)


def _saved(figure: Figure, ending: str, name: str, fonttype: str = "path") -> bytes:
    """A figure as a file's content, the same every time."""
    buffer = io.BytesIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type")) if ending == "svg" else None
    with matplotlib.rc_context({"svg.fonttype": fonttype, "svg.hashsalt": name}):
        figure.savefig(
            buffer, format=ending, metadata=metadata, dpi=200, transparent=fonttype == "none"
        )
    return buffer.getvalue()


def _variable(color: re.Match[str]) -> str:
    """A colour of a chart as the page's variable; one that is unknown stays as it is."""
    return f"var(--c{color[0][1:]},{color[0]})" if color[0] in DARK else color[0]


def _accuracy(trial: Trial) -> str:
    return percent(trial.accuracy) or "failed"


def resource(name: str) -> str:
    """The text of a file of this package."""
    return (importlib.resources.files("nash_jax.reporting") / name).read_text(encoding="utf-8")
