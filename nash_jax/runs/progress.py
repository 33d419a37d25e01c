"""The run as people see it: a progress bar with the time left, and a line per candidate."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import rich.console
import rich.progress

from nash_jax.morphisms import Deepen, Edit, SkipAdd, SkipConcat, Widen, edit_from_dict


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

    def __enter__(self) -> RichReporter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def start(self, total_epochs: int) -> None:
        self._progress.update(self._task, total=total_epochs)
        self._progress.start()

    def phase(self, what: str) -> None:
        self._progress.update(self._task, description=what)

    def epoch(self) -> None:
        self._progress.advance(self._task)

    def candidate(self, line: dict[str, Any]) -> None:
        self._progress.console.print(describe_line(line), highlight=False, markup=False)


def describe_line(line: dict[str, Any]) -> str:
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
