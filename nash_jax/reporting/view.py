"""A run as its readers see it, finished or not; nothing here changes a run."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from nash_jax.architecture import Architecture
from nash_jax.architecture.serialization import from_dict
from nash_jax.estimation import Recipe, Seconds
from nash_jax.record.files import DamagedError
from nash_jax.record.ledger import LEDGER_FILE, ledger_in
from nash_jax.record.lines import Build, Line, extended, is_outdated, trials_of
from nash_jax.record.workdir import CONFIG_FILE, DATA_NAME, FIRST_NETWORK, read_config
from nash_jax.search import AFTER, ALONE, Trial
from nash_jax.spaces import Stage


class Node(NamedTuple):
    """What a node of a cluster has done.

    Attributes:
      name: of the node.
      trials: that were made there.
      failed: how many of them failed.
      seconds: that its workers were busy with them.
    """

    name: str
    trials: int
    failed: int
    seconds: float


@dataclasses.dataclass(frozen=True, eq=False)
class RunView:
    """What a workdir says at one moment.

    Attributes:
      workdir: the run's folder.
      config: its settings, a dataclass.
      about: what `config.json` says: fingerprint of the data, command, versions, machine.
      trials: in the order of their proposals.
      decisions: what the strategy decided, by step.
      timings: what was decided by time: see `ledger.Ledger`.
    """

    workdir: pathlib.Path
    config: Any
    about: dict[str, Any]
    trials: Sequence[Trial]
    decisions: Mapping[int, Line] = dataclasses.field(default_factory=dict)
    timings: Sequence[Line] = ()

    @functools.cached_property
    def by_name(self) -> dict[str, Trial]:
        return {trial.name: trial for trial in self.trials}

    @property
    def final(self) -> Trial | None:
        """The final network, of a run that is finished."""
        return self.by_name.get("final")

    @property
    def data_name(self) -> str:
        """What its data are called: as a program called those that it gave, or by their source."""
        return str(self.about.get(DATA_NAME, self.config.data.dataset))

    @functools.cached_property
    def recipes(self) -> Mapping[str, Recipe]:
        """How its trials were trained, by name."""
        found: Mapping[str, Recipe] = self.config.recipes_by_name()
        return found

    @property
    def strategy(self) -> str:
        """The name of the strategy."""
        return str(self.config.values()["strategy"])

    @property
    def baseline(self) -> Trial | None:
        """model_0, trained for as many epochs as the best network, if the run did that."""
        return self.by_name.get("baseline")

    @property
    def tried(self) -> list[Trial]:
        """Those of the search."""
        return [trial for trial in self.trials if trial.recipe not in AFTER]

    @property
    def failures(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.failed]

    @property
    def seconds(self) -> float:
        return max((trial.elapsed for trial in self.trials), default=0.0)

    @functools.cached_property
    def nodes(self) -> list[Node]:
        """What each node of a cluster has done; empty if there was none."""
        made = [trial for trial in self.trials if trial.place]
        return [
            Node(
                place,
                len(there := [trial for trial in made if trial.place == place]),
                sum(trial.failed for trial in there),
                sum(dataclasses.replace(t.estimate.seconds, wait=0.0).total for t in there),
            )
            for place in sorted({trial.place for trial in made})
        ]

    @property
    def overlapped(self) -> bool:
        """Whether trials were compiled beside others' training: on accelerators."""
        return bool(self.about.get("device", "cpu") != "cpu")

    @property
    def state(self) -> str:
        """How far the run is, in a few words."""
        if self.final:
            return "finished"
        if not self.trials:
            return "unfinished, no network yet"
        number = len(self.tried)
        return f"unfinished, {number} network{'s' if number > 1 else ''} so far"

    @functools.cached_property
    def chosen(self) -> list[Trial]:
        """The best so far and those that it came from, the first network first."""
        return way_to(self.final.parent if self.final else self._incumbent(), self.tried)

    def _incumbent(self) -> str | None:
        """The best of a run that is not finished, as its strategy said."""
        for _, decision in sorted(self.decisions.items(), reverse=True):
            if found := decision["incumbent"] or next(iter(decision["returned"]), None):
                return str(found)
        last = self.tried[-1] if self.tried else None
        if last is None:
            return None
        return last.parent or (None if last.failed else last.name)  # an early run

    @property
    def is_climb(self) -> bool:
        """Whether the best comes from the first network by way of the best of every step."""
        return all(
            trial.step == number and (number > 0 or trial.recipe == "pretrain")
            for number, trial in enumerate(self.chosen)
        )

    @functools.cached_property
    def dropped(self) -> dict[str, tuple[int, str]]:
        """The trials that the strategy dropped: the step in which it said so, and why."""
        return {
            name: (step, why)
            for step, decision in sorted(self.decisions.items())
            for name, why in decision.get("dropped", {}).items()
        }

    @functools.cached_property
    def best(self) -> Trial | None:
        """The network that the run has found so far: the final one, or the current best."""
        return self.final or (self.chosen[-1] if self.chosen else None)

    @functools.cached_property
    def shares(self) -> dict[str, float]:
        """Parts of the workers' time; empty if there are no children: see `shares_of_time`."""
        return shares_of_time(self.trials, self.overlapped, extended(self.timings))

    def parent(self, trial: Trial) -> Trial | None:
        return self.by_name.get(trial.parent or "")


def way_to(name: str | None, trials: Iterable[Trial]) -> list[Trial]:
    """A trial and those that it came from, the first network first.

    A trial that the ledger has lost ends the way back.
    """
    way: list[Trial] = []
    there = {trial.name: trial for trial in trials}
    while name in there:
        way.insert(0, there.pop(name))
        name = way[0].parent
    return way


def shares_of_time(
    trials: Iterable[Trial], overlapped: bool, begun: Sequence[float] = ()
) -> dict[str, float]:
    """What part of the workers' time in the search went where.

    Args:
      trials: of a run.
      overlapped: whether trials are compiled beside others' training, so that compiling takes none
        of the workers' time.
      begun: when the search began anew, in seconds of the run, because the run got more time; what
        was between the trial before and then was no search.

    Returns:
      Parts of 'compile', 'train', 'evaluate', and 'wait', when a worker had nothing to do; empty if
      no trial was made by a worker.
    """
    spent, total, before = Seconds(), 0.0, 0.0
    for trial in sorted(trials, key=lambda trial: trial.elapsed):
        before = max([before, *(x for x in begun if x <= trial.elapsed)])
        if trial.recipe not in ALONE:
            spent += trial.estimate.seconds
            total += trial.workers * (trial.elapsed - before)
        before = trial.elapsed
    if total <= 0:
        return {}
    busy = dataclasses.replace(spent, wait=0.0, **({"compile": 0.0} if overlapped else {}))
    parts = {name: seconds / total for name, seconds in dataclasses.asdict(busy).items()}
    return {**parts, "wait": 1 - sum(parts.values())}


def read_run(
    workdir: pathlib.Path,
    config_of: Callable[[Mapping[str, Any]], Any],
    build_of: Callable[[Any, Architecture], Build],
) -> RunView:
    """Read a run at any time: before its first network, while it goes on, when it is finished.

    Args:
      workdir: the run's folder.
      config_of: makes the settings from the content of `config.json`.
      build_of: gives what builds the networks of the settings' space, by its first network.

    Raises:
      ValueError: if it is not the folder of a run.
    """
    about = read_config(workdir)
    config = config_of(about)
    if not (workdir / LEDGER_FILE).exists():
        return RunView(workdir, config, about, [])
    ledger = ledger_in(workdir)
    start = about.get(FIRST_NETWORK) or next(
        (line["spec"] for line in ledger.trials.values() if "spec" in line), None
    )

    @functools.cache
    def built() -> Build:
        """Made only if a network is wanted: most readers want none."""
        if start is None:
            raise DamagedError(f"{workdir / CONFIG_FILE} does not say which network was the first")
        return build_of(config, from_dict(start))

    @functools.lru_cache(maxsize=1024)
    def build(genotype: Any, stage: Stage) -> Architecture:
        return built()(genotype, stage)

    lines = (
        line  # a run that got more time since has no final network
        for name, line in ledger.trials.items()
        if not (name == "final" and is_outdated(line, ledger.timings))
    )
    trials = trials_of(lines, build)
    return RunView(workdir, config, about, trials, ledger.decisions, ledger.timings)


def changed_nodes(before: Architecture, after: Architecture) -> frozenset[str]:
    """The nodes of `after` that are new, do something else, or join another number of inputs.

    A node that only reads a different node, because something was inserted before it, has not
    changed.
    """
    old = {node.name: (node.op, len(node.inputs)) for node in before.nodes}
    return frozenset(n.name for n in after.nodes if old.get(n.name) != (n.op, len(n.inputs)))
