"""A run as people see it while it goes on: a progress bar with the time left, or lines for logs."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import assert_never

import rich.console
import rich.progress

from nash_jax.reporting.describe import describe_trial
from nash_jax.reporting.events import Begun, Chosen, Done, Epoch, Event, Load, Note, Phase, Tell


def plain(write: Callable[[str], None] = print) -> Tell:
    """Writes a line for each part of a run and each trial, with the time: for logs."""

    def say(text: str) -> None:
        write(f"{datetime.datetime.now():%Y-%m-%d %H:%M:%S} {text}")

    limits: dict[str, float] = {}

    def tell(event: Event) -> None:
        match event:
            case Begun(_, known):
                limits.update(event.limits)
                if known:
                    say(f"note: {goes_on(known)}")
            case Phase(text):
                say(text)
            case Epoch() | Load() | Chosen():
                pass
            case Done(trial):
                say(describe_trial(trial, limits))
            case Note(text):
                say(f"note: {text}")
            case _:
                assert_never(event)

    return tell


def goes_on(known: Mapping[str, int]) -> str:
    """The line that is shown for a run that has trials already."""
    if "final" in known:
        return "the run is finished"
    return f"the run goes on: {len(known)} networks are there"


class Progress:
    """Shows in a terminal how a run goes: a bar, and a line for each trial; a context manager."""

    def __init__(self, console: rich.console.Console) -> None:
        self._progress = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(bar_width=12),
            rich.progress.TextColumn("{task.completed}/{task.total} epochs,"),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TextColumn("and"),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("left{task.fields[cluster]}"),
            console=console,
        )
        self._task = self._progress.add_task("NASH", total=None, cluster="")
        self._since, self._done = time.monotonic(), 0
        self._load = Load(0, 0, 0)
        self._epochs: dict[str, int] = {}
        self._phase = ""
        self._limits: Mapping[str, float] = {}

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        match event:
            case Begun(total_epochs, known, limits):
                self._limits = limits
                self._begin(total_epochs, known)
            case Phase(text):
                self._phase = text
                self._progress.update(self._task, description=text)
            case Epoch(name, number):
                self._count(name, number)
            case Load():
                self._load = event
                self._show_load()
            case Done(trial):
                self._done += 1
                self._show_load()
                self._print(describe_trial(trial, self._limits))
            case Chosen():
                pass
            case Note(text):
                self._print(f"note: {text}")
            case _:
                assert_never(event)

    def _begin(self, total_epochs: int, known: Mapping[str, int]) -> None:
        self._epochs = dict(known)
        self._progress.update(self._task, total=total_epochs)
        self._progress.start()
        if known:
            self._progress.advance(self._task, sum(self._epochs.values()))
            self._print(f"note: {goes_on(known)}")

    def _show_load(self) -> None:
        """Say how much of a cluster is used, if there is one."""
        cluster = ""
        if self._load.workers:
            hours = (time.monotonic() - self._since) / 3600
            nodes, workers, waiting = self._load
            cluster = f", {nodes} nodes, {workers} workers, {waiting} trials waiting"
            cluster += f", {self._done / hours:,.0f} done per hour" if self._done else ""
        self._progress.update(self._task, cluster=cluster)

    def _count(self, name: str, number: int) -> None:
        """Advance the bar; an epoch that is done again is not counted twice."""
        self._progress.advance(self._task, max(0, number - self._epochs.get(name, 0)))
        self._epochs[name] = max(number, self._epochs.get(name, 0))
        (task,) = self._progress.tasks
        if task.total is not None and task.completed > task.total:  # what was not planned
            self._progress.update(self._task, total=task.completed)
        who = f"{name.rpartition('-')[2]} " if "-" in name else ""
        self._progress.update(self._task, description=f"{self._phase}, {who}epoch {number}")

    def _print(self, text: str) -> None:
        self._progress.console.print(text, highlight=False, markup=False)
