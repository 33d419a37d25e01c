"""What keeping a run costs: the seconds of a search that go to its workdir.

  python -m benchmarks.checkpointing

A search on the digits runs in this process with the launcher's settings. Every call is timed that
writes to the workdir (networks, snapshots, ledger, config, result) or shows the run to people
(progress, TensorBoard). Pictures are drawn after the search and are counted apart. Workers write
snapshots only in trainings longer than `checkpoint_seconds`; what one costs is timed for model_0
of the paper and for the network that 25 edits made of it (`benchmarks/specs`), and set against
the default of one per minute.

The goal is under 3%. Prints two tables and writes checkpointing.json.
"""

from __future__ import annotations

import functools
import json
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
from absl import app, flags, logging

import nash_jax as nj
from benchmarks.machine import machine
from nash_jax import runs, training
from nash_jax.launching import compile_faster
from nash_jax.record import checkpoints, files, workdir
from nash_jax.reporting import TensorBoard, charts, pictures, plain, several
from nash_jax.runs import result, trials
from nash_jax.training.loop import _snapshot, starting_state

OUT = flags.DEFINE_string("out", "checkpointing.json", "file to write the figures to")
DATASET = flags.DEFINE_string(
    "dataset", "", "a training on these images too, one snapshot a minute"
)
EPOCHS = flags.DEFINE_integer("epochs", 10, "of that training")
TOY = flags.DEFINE_boolean("toy", False, "a tiny search, to see that it works")

TINY: dict[str, Any] = {"widths": (4,), "num_steps": 1, "num_neighbours": 2, "epochs_pretrain": 1}


class Spent:
    """Seconds and number of calls, by what they were for."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}

    def timed(self, what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spent = time.perf_counter() - start
                self.seconds[what] = self.seconds.get(what, 0.0) + spent
                self.calls[what] = self.calls.get(what, 0) + 1

        return wrapped


def measure(config: runs.Config) -> tuple[float, Spent]:
    """The seconds of a run, and those that went to keeping it."""
    spent = Spent()
    for module, name, what in (
        (workdir, "save_network", "networks"),
        (checkpoints.Writer, "write", "snapshots"),
        (workdir, "append_line", "ledger"),
        (trials, "line_of", "ledger"),
        (workdir, "write_json", "config and result"),
        (result, "write_json", "config and result"),
        (files, "locked", "lock"),
        (pictures, "draw_network", "pictures"),
        (charts, "climb", "pictures"),
    ):
        setattr(module, name, spent.timed(what, getattr(module, name)))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "run")
        tell = several(plain(), TensorBoard(path))
        start = time.perf_counter()
        timed = spent.timed("progress and TensorBoard", tell)
        runs.run_search(config, tell=timed, workdir=path)
        return time.perf_counter() - start, spent


def measure_snapshot(spec: nj.Architecture, rounds: int = 5) -> tuple[float, float]:
    """Median seconds of taking and writing a snapshot, and its size in MiB."""
    variables = nj.init(spec, jax.random.key(0))
    state = jax.device_put(starting_state(variables, training.TrainingSettings()))
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "model_0")
        with checkpoints.Writer(path) as writer:
            for epoch in range(1, rounds + 1):
                start = time.perf_counter()
                writer.write(_snapshot(state, [0.0] * epoch))
                seconds.append(time.perf_counter() - start)
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        return statistics.median(seconds), size / 2**20


def main(_: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # orbax tells every step
    compile_faster()
    on = machine()
    print(
        f"{on['cpu']}, {on['cores']} cores, Python {on['python']}, jax {on['jax']}, {on['date']}\n"
    )
    seconds, spent = measure(nj.preset("digits", **(TINY if TOY.value else {})))
    print("\n| what | calls | s | share of the search |\n|---|---|---|---|")
    for what, value in spent.seconds.items():
        print(f"| {what} | {spent.calls[what]} | {value:.3f} | {value / seconds:.2%} |")
    kept = sum(value for what, value in spent.seconds.items() if what != "pictures")
    print(f"| all but pictures | | {kept:.3f} | {kept / seconds:.2%} |")
    print(f"| the search | | {seconds:.1f} | |\n")
    folder = pathlib.Path(__file__).parent / "specs"
    specs = {"model_0": nj.chain((32, 32, 3), 10, (64, 128, 256))}
    if not TOY.value:
        specs["25 edits"] = nj.from_json((folder / "edits25.json").read_text())
    print(
        "| a snapshot of | parameters | MiB | s | share, at one a minute |\n|---|---|---|---|---|"
    )
    snapshots = {}
    for name, spec in specs.items():
        each, size = measure_snapshot(spec)
        snapshots[name] = {"seconds": each, "mebibytes": size}
        print(f"| {name} | {nj.count_params(spec):,} | {size:.0f} | {each:.2f} | {each / 60:.2%} |")
    if DATASET.value:
        seconds, spent = measure(
            nj.preset(
                *("laptop", "paper"),
                dataset=DATASET.value,
                strategy="one_network",
                widths=(64, 128, 256),
                epochs_pretrain=EPOCHS.value,
                epochs_final=0,
            )
        )
        kept = spent.seconds.get("snapshots", 0.0)
        print(
            f"\nmodel_0 of the paper on {DATASET.value}, {EPOCHS.value} epochs: {seconds:.0f} s, "
            f"{spent.calls.get('snapshots', 0)} snapshots, {kept:.2f} s: {kept / seconds:.2%}"
        )
    figures = {"seconds": seconds, "spent": spent.seconds, "snapshots": snapshots, "machine": on}
    pathlib.Path(OUT.value).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    app.run(main)
