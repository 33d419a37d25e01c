"""The run as people see it: a progress bar with the time left, and a line per candidate."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import rich.console
import rich.progress

from nash_jax.morphisms import Deepen, Edit, SkipAdd, SkipConcat, Widen, edit_from_dict
from nash_jax.runs.ledger import Line


class QuietReporter:
    """Tells nobody anything."""

    def start(self, total_epochs: int, known: Sequence[Line]) -> None:
        pass

    def phase(self, what: str) -> None:
        pass

    def epoch(self, name: str, epoch: int, loss: float) -> None:
        pass

    def candidate(self, line: Line) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class PlainReporter:
    """Prints a line for each part of the run and each candidate, with the time: for logs."""

    def __init__(self, write: Callable[[str], None] = print) -> None:
        self._write = write

    def start(self, total_epochs: int, known: Sequence[Line]) -> None:
        if known:
            self.note(goes_on(known))

    def phase(self, what: str) -> None:
        self._say(what)

    def epoch(self, name: str, epoch: int, loss: float) -> None:
        pass

    def candidate(self, line: Line) -> None:
        self._say(describe_line(line))

    def note(self, text: str) -> None:
        self._say(f"note: {text}")

    def _say(self, text: str) -> None:
        self._write(f"{datetime.datetime.now():%Y-%m-%d %H:%M:%S} {text}")


@dataclasses.dataclass(frozen=True)
class Callbacks:
    """Calls functions of yours, each if it is given; from any thread."""

    on_epoch: Callable[[str, int, float], None] | None = None
    on_candidate: Callable[[Line], None] | None = None
    on_note: Callable[[str], None] | None = None

    def start(self, total_epochs: int, known: Sequence[Line]) -> None:
        pass

    def phase(self, what: str) -> None:
        pass

    def epoch(self, name: str, epoch: int, loss: float) -> None:
        if self.on_epoch is not None:
            self.on_epoch(name, epoch, loss)

    def candidate(self, line: Line) -> None:
        if self.on_candidate is not None:
            self.on_candidate(line)

    def note(self, text: str) -> None:
        if self.on_note is not None:
            self.on_note(text)


class Reporters:
    """Tells several reporters, in their order."""

    def __init__(self, *reporters: Any) -> None:
        self._reporters = reporters

    def start(self, total_epochs: int, known: Sequence[Line]) -> None:
        for reporter in self._reporters:
            reporter.start(total_epochs, known)

    def phase(self, what: str) -> None:
        for reporter in self._reporters:
            reporter.phase(what)

    def epoch(self, name: str, epoch: int, loss: float) -> None:
        for reporter in self._reporters:
            reporter.epoch(name, epoch, loss)

    def candidate(self, line: Line) -> None:
        for reporter in self._reporters:
            reporter.candidate(line)

    def note(self, text: str) -> None:
        for reporter in self._reporters:
            reporter.note(text)


def goes_on(known: Sequence[Line]) -> str:
    if known[-1]["kind"] == "final":
        return "the run is finished"
    return f"the run goes on: {len(known)} networks are there"


class RichReporter:
    """Tells a terminal how a run goes; use it as a context manager."""

    def __init__(self, console: rich.console.Console) -> None:
        self._progress = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(bar_width=12),
            rich.progress.TextColumn("{task.completed}/{task.total} epochs,"),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TextColumn("and"),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("left"),
            console=console,
        )
        self._task = self._progress.add_task("NASH", total=None)
        self._epochs: dict[str, int] = {}
        self._phase = ""

    def __enter__(self) -> RichReporter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def start(self, total_epochs: int, known: Sequence[Line]) -> None:
        self._epochs = {line["name"]: len(line["train_losses"]) for line in known}
        self._progress.update(self._task, total=total_epochs)
        self._progress.start()
        if known:
            self._progress.advance(self._task, sum(self._epochs.values()))
            self.note(goes_on(known))

    def phase(self, what: str) -> None:
        self._phase = what
        self._progress.update(self._task, description=what)

    def epoch(self, name: str, epoch: int, loss: float) -> None:
        self._progress.advance(self._task, max(0, epoch - self._epochs.get(name, 0)))
        self._epochs[name] = max(epoch, self._epochs.get(name, 0))
        child = f"{name.rpartition('-')[2]} " if "-" in name else ""
        self._progress.update(self._task, description=f"{self._phase}, {child}epoch {epoch}")

    def candidate(self, line: Line) -> None:
        self._progress.console.print(describe_line(line), highlight=False, markup=False)

    def note(self, text: str) -> None:
        self._progress.console.print(f"note: {text}", highlight=False, markup=False)


#: Titles of `cells_of`.
CELLS = ("candidate", "accuracy", "parameters", "MFLOPs", "seconds", "made by")


def cells_of(line: Line) -> tuple[str, ...]:
    """One candidate of the ledger as a row of a table."""
    accuracy = line.get("test_accuracy", line.get("validation_accuracy"))
    return (
        line["name"],
        "failed" if accuracy is None else f"{accuracy:.2%}",
        f"{line['params']:,}",
        f"{line['flops'] / 1e6:,.2f}",
        f"{sum(line['seconds'].values()):.1f}",
        line.get("failure", origin(line)),
    )


def describe_line(line: Line) -> str:
    """One candidate of the ledger in one line."""
    split = "test" if line["kind"] == "final" else "validation"
    accuracy = line[f"{split}_accuracy"]
    return (
        f"{line['name']:<13} {split} {'failed' if accuracy is None else f'{accuracy:.2%}':>7}  "
        f"{line['params']:>10,} parameters  {sum(line['seconds'].values()):6.1f} s  "
        f"{origin(line)}" + (f": {line['failure']}" if "failure" in line else "")
    )


def origin(line: Line) -> str:
    """What made a candidate, in a few words."""
    match line["kind"]:
        case "pretrained":
            return "pretraining"
        case "final":
            return f"{line['parent']}, trained on with the validation images"
    edits = [describe_edit(edit_from_dict(edit)) for edit in line["edits"]]
    return ", ".join(edits) or "unchanged"


def describe_edit(edit: Edit) -> str:
    """An edit in a few words: `widen conv2 to 64`."""
    match edit:
        case Deepen():
            return f"deepen after {edit.after} ({edit.kernel_size}x{edit.kernel_size})"
        case Widen():
            return f"widen {edit.node} to {edit.features}"
        case SkipAdd():
            return f"skip {edit.source} to {edit.target} (add)"
        case SkipConcat():
            return f"skip {edit.source} to {edit.target} (concat)"
    return repr(edit)
