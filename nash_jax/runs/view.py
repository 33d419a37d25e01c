"""A run as those see it who only look at it, finished or not."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

from nash_jax.architecture import Architecture
from nash_jax.morphisms import edit_from_dict
from nash_jax.runs.config import Config
from nash_jax.runs.ledger import (
    LEDGER_FILE,
    Line,
    estimate_of,
    read_ledger,
    shares_of_time,
    spec_of,
)
from nash_jax.runs.workdir import read_config
from nash_jax.search import Candidate, select


@dataclasses.dataclass(frozen=True, eq=False)
class RunView:
    """What a workdir says at one moment.

    Attributes:
      workdir: the run's folder.
      config: its settings.
      about: the rest of `config.json`: fingerprint of the data, command, versions, machine.
      lines: of the ledger, in the order of the search.
    """

    workdir: pathlib.Path
    config: Config
    about: dict[str, Any]
    lines: Sequence[Line]

    @functools.cached_property
    def by_name(self) -> dict[str, Line]:
        return {line["name"]: line for line in self.lines}

    @property
    def final(self) -> Line | None:
        """The final network's line, of a run that is finished."""
        return self.by_name.get("final")

    @property
    def tried(self) -> list[Line]:
        """The lines of model_0 and of all children."""
        return [line for line in self.lines if line["kind"] != "final"]

    @property
    def failures(self) -> list[Line]:
        return [line for line in self.lines if "failure" in line]

    @property
    def seconds(self) -> float:
        return max((line["elapsed"] for line in self.lines), default=0.0)

    @property
    def state(self) -> str:
        """How far the run is, in a few words."""
        if self.final:
            return "finished"
        if not self.lines:
            return "unfinished, no network yet"
        done = sum(line["kind"] == "child" for line in self.lines)
        return (
            f"unfinished, {done} of {self.config.num_steps * self.config.num_neighbours} children"
        )

    @functools.cached_property
    def chosen(self) -> list[Line]:
        """The current best of every step that is done, from model_0 on.

        A line that the ledger has lost ends the way back.
        """
        name = self.final["parent"] if self.final else self._leader()
        way: list[Line] = []
        there = {line["name"]: line for line in self.tried}
        while name in there:
            way.insert(0, there.pop(name))
            name = way[0]["parent"]
        return way

    def _leader(self) -> str | None:
        """The current best of a run that is not finished."""
        if not self.tried:
            return None
        step = self.tried[-1]["step"]
        children = [line for line in self.tried if line["step"] == step]
        whole = step == 0 or len(children) == self.config.num_neighbours
        good = [line for line in children if "failure" not in line]
        if whole and good:
            return select([candidate_of(line) for line in good]).name
        return children[0]["parent"]

    @functools.cached_property
    def best(self) -> Line | None:
        """The network that the run has found so far: the final one, or the current best."""
        return self.final or (self.chosen[-1] if self.chosen else None)

    @functools.cached_property
    def shares(self) -> dict[str, float]:
        """Parts of the workers' time; empty if there are no children: see `shares_of_time`."""
        written = sorted(self.lines, key=lambda line: line["elapsed"])
        return shares_of_time(written, overlapped=self.about.get("device", "cpu") != "cpu")

    def parent(self, line: Line) -> Line | None:
        return self.by_name.get(line["parent"] or "")


def read_run(workdir: pathlib.Path) -> RunView:
    """Read a run at any time: before its first network, while it goes on, when it is finished.

    Args:
      workdir: the run's folder.

    Raises:
      ValueError: if it is not the folder of a run.
    """
    config, about = read_config(workdir)
    there = (workdir / LEDGER_FILE).exists()
    return RunView(workdir, config, about, read_ledger(workdir) if there else [])


def candidate_of(line: Line) -> Candidate:
    """The candidate of a line, without its weights."""
    edits = tuple(edit_from_dict(edit) for edit in line["edits"])
    return Candidate(line["name"], line["parent"], edits, spec_of(line), {}, estimate_of(line))


def accuracy_of(line: Line) -> float | None:
    """Of the final network on the test set, of others on the validation set; None if it failed."""
    accuracy: float | None = line.get("test_accuracy", line.get("validation_accuracy"))
    return accuracy


def changed_nodes(before: Architecture, after: Architecture) -> frozenset[str]:
    """The nodes of `after` that are new, do something else, or join another number of inputs.

    A node that only reads another one, because something was put before it, has not changed.
    """
    old = {node.name: (node.op, len(node.inputs)) for node in before.nodes}
    return frozenset(n.name for n in after.nodes if old.get(n.name) != (n.op, len(n.inputs)))
