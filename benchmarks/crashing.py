"""The launcher `experiments.nash`, killed at a chosen point: see `benchmarks.faults`.

The environment variable CRASH_AT says where, as `POINT:COUNT`: the process, and the one that
started it if this is a worker, is killed by SIGKILL when it comes to the point for the COUNT-th
time. Worker processes import this module too. EPOCHS_FILE gets a line for every epoch.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from absl import app

import nash_jax.execution.processes
import nash_jax.record.files
import nash_jax.record.ledger
import nash_jax.record.networks
import nash_jax.record.workdir
import nash_jax.reporting.pictures
import nash_jax.runs.run
import nash_jax.search.hill_climbing
from nash_jax import launching, search_flags
from nash_jax.reporting import Epoch, Event, Progress
from nash_jax.runs import read_ledger

POINTS = (
    *("config half written", "config written", "executor made"),
    *("pretraining", "snapshot half written", "snapshot written", "child in training"),
    *("network half written", "network written", "ledger line half written", "ledger line written"),
    *("other networks let go", "selecting", "final training", "final network written"),
    *("picture drawn", "result half written", "result written"),
)
_point, _, _count = os.environ.get("CRASH_AT", "").partition(":")
_left = int(_count or 0)


def die() -> NoReturn:
    """Kill the run, from whatever process of it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        os.kill(parent.pid, signal.SIGKILL)  # type: ignore[arg-type]
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def reach(point: str) -> bool:
    """Whether to die here."""
    global _left
    assert point in POINTS, point
    _left -= point == _point
    return point == _point and _left == 0


def watch() -> None:
    """Replace the functions that belong to the points by ones that check whether to die there."""
    files, ledger = nash_jax.record.files, nash_jax.record.ledger
    write_atomically, append_line = files.write_atomically, ledger.append_line

    def writing(path: pathlib.Path, data: bytes) -> None:
        kind = "network" if path.parent.name == "networks" else path.stem
        if path.parent.parent.name == "trainings":
            kind = "snapshot"
        if kind in ("network", "snapshot", "config", "result"):
            if reach(f"{kind} half written"):
                path.with_name(path.name + ".1.new").write_bytes(data[: len(data) // 2])
                die()
            write_atomically(path, data)
            if reach(f"{kind} written") or (
                path.stem == "final" and reach("final network written")
            ):
                die()
        else:
            write_atomically(path, data)

    def appending(workdir: pathlib.Path, line: Any) -> bytes:
        if reach("ledger line half written"):
            before = (workdir / "ledger.jsonl").read_bytes() if line["step"] else b""
            append_line(workdir, line)
            whole = (workdir / "ledger.jsonl").read_bytes()
            os.truncate(workdir / "ledger.jsonl", (len(before) + len(whole)) // 2)
            die()
        text = append_line(workdir, line)
        if reach("ledger line written"):
            die()
        return text

    for module in (files, nash_jax.record.networks):
        module.write_atomically = writing  # type: ignore[attr-defined]
    nash_jax.record.workdir.append_line = appending

    def dying_after(module: Any, name: str, point: str) -> None:
        function = getattr(module, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            if reach(point):
                die()
            return result

        setattr(module, name, wrapped)

    dying_after(nash_jax.record.workdir.Workdir, "release", "other networks let go")
    for name, chooses in (
        ("hill_climbing", "select"),
        ("aging_evolution", "select"),
        ("successive_halving", "ranked"),
    ):
        dying_after(sys.modules[f"nash_jax.search.{name}"], chooses, "selecting")
    dying_after(nash_jax.execution.processes.Processes, "__init__", "executor made")
    dying_after(nash_jax.reporting.pictures, "draw_network", "picture drawn")
    told = Progress.__call__

    def counting(self: Progress, event: Event) -> None:
        told(self, event)
        if isinstance(event, Epoch):
            with open(os.environ["EPOCHS_FILE"], "a") as log:
                log.write(f"{event.name} {event.number}\n")
            kinds = {"model_0": "pretraining", "final": "final training"}
            if reach(kinds.get(event.name, "child in training")):
                die()

    Progress.__call__ = counting  # type: ignore[method-assign]


_SMALL = (
    *("--preset=digits", "--widths=4,6", "--max_flops=400000", "--epochs_neighbours=4"),
    *("--epochs_final=6", "--checkpoint_seconds=0"),
)
SETTINGS = (
    *(*_SMALL, "--num_steps=2", "--num_neighbours=3", "--num_morphisms=2", "--epochs_pretrain=4"),
)
#: By strategy.
RUNS = {
    "hill_climbing": SETTINGS,
    "aging_evolution": (
        *(*_SMALL, "--strategy=aging_evolution", "--num_samples=8", "--population=4"),
        *("--tournament=2", "--num_edits=2", "--window=3"),
    ),
    "successive_halving": (
        *(*_SMALL, "--strategy=successive_halving", "--num_samples=4", "--eta=2"),
        *("--first_epochs=2", "--num_edits=2"),
    ),
}


def launch(
    workdir: pathlib.Path, workers: int, crash_at: str = "", settings: Sequence[str] = SETTINGS
) -> subprocess.Popen[str]:
    """Begin or go on with a run."""
    environment = os.environ | {
        "CRASH_AT": crash_at,
        "EPOCHS_FILE": str(workdir.with_suffix(".epochs")),
    }
    command = [sys.executable, "-m", "benchmarks.crashing", *settings, f"--workdir={workdir}"]
    more = [f"--cache_dir={workdir.parent / 'cache'}", f"--workers={workers}"]
    return subprocess.Popen(
        [*command, *more],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> int:
    """Wait for a run's end; show its output if it neither succeeded nor was killed on purpose."""
    output, _ = process.communicate()
    if process.returncode not in (0, -signal.SIGKILL):
        sys.exit(f"the run ended with status {process.returncode}:\n{output}")
    return process.returncode


def content(workdir: pathlib.Path) -> dict[str, Any]:
    """All of a finished run that does not depend on the clock or the number of workers."""
    clock = ("seconds", "elapsed", "workers", "place")
    return {
        **{path.name: path.read_bytes() for path in (workdir / "networks").iterdir()},
        **{
            line["name"]: {name: value for name, value in line.items() if name not in clock}
            for line in read_ledger(workdir)
        },
        "test accuracy": json.loads((workdir / "result.json").read_text())["test_accuracy"],
    }


if "CRASH_AT" in os.environ:
    watch()

if __name__ == "__main__":
    search_flags.define_flags()
    app.run(launching.search)
