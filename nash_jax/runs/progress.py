"""The run as people see it: a progress bar with the time left, and a line per candidate."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

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


class RichReporter:
    """Tells a terminal how a run goes; use it as a context manager."""

    def __init__(self, console: rich.console.Console) -> None:
        self._progress = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.TextColumn("{task.completed}/{task.total} epochs"),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TextColumn("elapsed,"),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("left"),
            console=console,
        )
        self._task = self._progress.add_task("NASH", total=None)
        self._epochs: dict[str, int] = {}

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
            self.note(f"the run goes on: {len(known)} networks are there")

    def phase(self, what: str) -> None:
        self._progress.update(self._task, description=what)

    def epoch(self, name: str, epoch: int, loss: float) -> None:
        self._progress.advance(self._task, max(0, epoch - self._epochs.get(name, 0)))
        self._epochs[name] = max(epoch, self._epochs.get(name, 0))

    def candidate(self, line: Line) -> None:
        self._progress.console.print(describe_line(line), highlight=False, markup=False)

    def note(self, text: str) -> None:
        self._progress.console.print(f"note: {text}", highlight=False, markup=False)


def describe_line(line: Line) -> str:
    """One candidate of the ledger in one line."""
    split = "test" if line["kind"] == "final" else "validation"
    edits = ", ".join(describe_edit(edit_from_dict(edit)) for edit in line["edits"])
    what = {
        "pretrained": "pretraining",
        "final": f"{line['parent']}, trained on with the validation images",
    }
    accuracy = line[f"{split}_accuracy"]
    return (
        f"{line['name']:<13} {split} {'failed' if accuracy is None else f'{accuracy:.2%}':>7}  "
        f"{line['params']:>10,} parameters  {sum(line['seconds'].values()):6.1f} s  "
        f"{edits or what.get(line['kind'], 'unchanged')}"
        + (f": {line['failure']}" if "failure" in line else "")
    )


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
