"""What the engine costs per trial: a strategy, the record and replay, where nothing is trained.

python -m benchmarks.engine --trials=10000

A random search over a hundred small networks, whose estimates are a table of numbers. The run is
made in a folder, with its flushes to the disk and without, and then replayed from its record.
"""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
import time
from collections.abc import Iterator

import jax
import numpy as np
from absl import app, flags

import nash_jax as nj
from benchmarks.machine import machine
from nash_jax.estimation import Estimate, Job, Network, Outcome, Seconds
from nash_jax.record import files
from nash_jax.runs import engine, run, trials
from nash_jax.spaces import Morphs

TRIALS = flags.DEFINE_integer("trials", 10000, "of the search", lower_bound=2)


class Table:
    """An executor that looks outcomes up."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []
        self._accuracies = np.random.default_rng(0).random(1000)

    def start(self) -> None: ...

    def put(self, name: str, network: Network) -> None: ...

    def release(self, name: str) -> None: ...

    def close(self) -> None: ...

    def submit(self, job: Job) -> None:
        self._jobs.append(job)

    def done(self) -> Iterator[tuple[str, Outcome]]:
        while self._jobs:
            job = self._jobs.pop()
            accuracy = self._accuracies[int(job.key[0]) % len(self._accuracies)]
            yield job.name, Outcome(Estimate(float(accuracy), 1.0, Seconds()), None)


@dataclasses.dataclass(frozen=True)
class Few(Morphs):
    """A space of a hundred networks."""

    def sample(self, key: jax.Array) -> nj.Architecture:
        number = int(jax.random.key_data(key)[0]) % 100
        return nj.chain((8, 8, 1), 10, (4, 1 + number))


def main(argv: list[str]) -> None:
    del argv
    digits = nj.data.load_dataset("digits")
    print(f"{machine()}; milliseconds per trial\n")
    print(
        "| trials | made, flushed to the disk | made, not flushed | replayed |\n|---|---|---|---|"
    )
    table = Table()
    run._executors = lambda *_: (table, table)
    trials.space_of = lambda config, model_0: Few(model_0)
    run.write_result = lambda *_: None
    engine.Engine.train_to_the_end = lambda self, best: best  # type: ignore[method-assign]
    for number in (TRIALS.value // 10, TRIALS.value):
        config = nj.Config().replace(
            widths=(4,), strategy="random_search", num_samples=number, max_flops=0
        )
        seconds = []
        for flushed in (True, False):
            setattr(files.os, "fsync", _fsync if flushed else _nothing)  # noqa: B010
            with tempfile.TemporaryDirectory() as folder:
                workdir = pathlib.Path(folder, "run")
                for _ in range(2 - flushed):
                    start = time.perf_counter()
                    with nj.runs.open_run(config, workdir, dataset=digits) as opened:
                        nj.runs.execute(opened)
                    seconds.append(time.perf_counter() - start)
        print(f"| {number:,} | " + " | ".join(f"{1e3 * s / number:.2f}" for s in seconds) + " |")


_fsync = files.os.fsync


def _nothing(descriptor: int) -> None:
    del descriptor


if __name__ == "__main__":
    app.run(main)
