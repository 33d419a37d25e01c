"""How a search scales beyond the machines that are there: the real engine, and simulated workers.

  python -m benchmarks.scale --workers=1000 --trials=10000
  python -m benchmarks.scale --replay --trials=100000

Aging evolution on NAS-Bench-201's cells. Trials take 60 +- 30 seconds of a simulated clock, or as
long as those of `--ledger`; one of a hundred takes five times as long, and one of a hundred loses
its worker in the middle and begins again elsewhere. Events are simulated one after the other; the
engine, the strategy and the record are the real ones. It prints the share of the workers' time in
which they worked, by `--window`, and the driver's time for each trial. `--replay` makes a record of
so many trials, and measures how long a run that was stopped at its end takes to be where it was,
with memory and bytes.
"""

from __future__ import annotations

import collections
import heapq
import itertools
import pathlib
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from absl import app, flags

import nash_jax as nj
from benchmarks.machine import machine
from nash_jax.estimation import Estimate, Job, Network, Outcome, Seconds
from nash_jax.record import files, ledger
from nash_jax.runs import run
from nash_jax.search import STRATEGIES, Strategy, Trial, aging_evolution
from nash_jax.spaces import NB201

WORKERS = flags.DEFINE_multi_integer("workers", [1, 10, 100, 1000], "simulated workers")
WINDOWS = flags.DEFINE_list("window", ["1", "2", "3"], "trials at a time, in times of workers")
TRIALS = flags.DEFINE_integer("trials", 10_000, "of each search", lower_bound=2)
ORDERS = flags.DEFINE_list("order", ["proposal"], "of trials: proposal, arrival")
LEDGER = flags.DEFINE_string("ledger", "", "a run's folder, whose trials say how long trials take")
REPLAY = flags.DEFINE_bool("replay", False, "measure how long a record takes to be replayed")
STRAGGLERS = flags.DEFINE_float("stragglers", 0.01, "share of trials that take five times as long")
FAILURES = flags.DEFINE_float("failures", 0.01, "share of trials that lose a worker on the way")


#: Milliseconds of a trial, of what the driver does.
PARTS = ("engine, record", "strategy", "building")
#: Seconds of two of them.
SPENT: dict[str, float] = {}


class Simulated:
    """An executor whose workers are events: the next one is the one that ends first.

    Attributes:
      clock: seconds of the simulation.
      busy: seconds that workers have worked, what was lost with them left out.
      tenths: real seconds at which each tenth of the trials began to be told of.
    """

    def __init__(self, workers: int, durations: np.ndarray) -> None:
        self.workers, self.clock, self.busy = workers, 0.0, 0.0
        self.tenths: list[float] = []
        self._told = 0
        self._durations = durations
        self._rng = np.random.default_rng(0)
        self._waiting: collections.deque[Job] = collections.deque()
        self._ends: list[tuple[float, int, Job]] = []  # a heap
        self._number = 0

    def start(self) -> None: ...

    def put(self, name: str, network: Network) -> None: ...

    def release(self, name: str) -> None: ...

    def close(self) -> None: ...

    def submit(self, job: Job) -> None:
        self._waiting.append(job)
        self._begin()

    def done(self) -> Iterator[tuple[str, Outcome]]:
        while self._ends:
            self.clock, _, job = heapq.heappop(self._ends)
            self._begin()
            if self._told % max(1, TRIALS.value // 10) == 0:
                self.tenths.append(time.perf_counter())
            self._told += 1
            accuracy = np.random.default_rng(int(job.key[0])).random()
            yield job.name, Outcome(Estimate(float(accuracy), 1.0, Seconds()), None)

    def _begin(self) -> None:
        """Let free workers begin."""
        while self._waiting and len(self._ends) < self.workers:
            seconds = float(self._rng.choice(self._durations))
            if self._rng.random() < STRAGGLERS.value:
                seconds *= 5
            lost = 0.0
            if self._rng.random() < FAILURES.value:  # the worker is lost, and another begins anew
                lost = seconds * self._rng.random()
            self.busy += seconds
            self._number += 1
            end = self.clock + lost + seconds
            heapq.heappush(self._ends, (end, self._number, self._waiting.popleft()))


def durations() -> np.ndarray:
    """Seconds of trials: 60 +- 30, or those of a ledger."""
    if LEDGER.value:
        lines = ledger.read_ledger(pathlib.Path(LEDGER.value))
        return np.array([sum(line["seconds"].values()) for line in lines])
    return np.maximum(1.0, np.random.default_rng(1).normal(60.0, 30.0, 10_000))


def search(
    simulated: Simulated, window: int, workdir: pathlib.Path | None, trials: int, order: str
) -> float:
    """A search of the simulated workers; the driver's seconds, without those of its beginning."""
    run._executors = lambda *_: (simulated, simulated)
    config = nj.Config().replace(
        **{"space": "nb201", "channels": 4, "cells": 1, "strategy": "aging_evolution"},
        **{"num_samples": trials, "window": window, "population": max(100, window)},
        trial_order=order,
    )
    dataset = nj.data.load_dataset("digits")
    start = time.perf_counter()
    SPENT.clear()
    with nj.runs.open_run(config, workdir, dataset=dataset) as opened:
        nj.runs.execute(opened, only_search=True)
    return time.perf_counter() - start


def _no_flush(descriptor: int) -> None:
    """Disks differ; `benchmarks.engine` has what a flush takes."""
    del descriptor


def parts(seconds: float) -> list[str]:
    """Milliseconds of a trial in `PARTS` of the driver, for a search that took so long."""
    spent = [seconds - sum(SPENT.values()), SPENT["strategy"], SPENT.get("build", 0.0)]
    return [f"{1e3 * each / TRIALS.value:.2f}" for each in spent]


def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function; what it takes is added to `SPENT`."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            SPENT[part] = SPENT.get(part, 0.0) + time.perf_counter() - start

    return wrapped


def timed_evolution(*args: Any) -> Strategy:
    """Aging evolution; what it takes is added to `SPENT`."""
    strategy = aging_evolution(*args)
    ask = timed("strategy", next)(strategy)
    send = timed("strategy", strategy.send)
    while True:
        told = yield ask
        try:
            ask = send(told)
        except StopIteration as end:
            returned: Sequence[Trial] = end.value
            return returned


def memory() -> float:
    """The most that this process has had, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def throughput() -> None:
    head = ("workers", "window", "order", "trials", "busy %", *PARTS, "trials/s at most")
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for workers, times, order in itertools.product(WORKERS.value, WINDOWS.value, ORDERS.value):
        simulated = Simulated(workers, durations())
        seconds = search(simulated, round(float(times) * workers), None, TRIALS.value, order)
        busy = 100 * simulated.busy / (workers * simulated.clock)
        print(
            f"| {workers:,} | {times} x | {order} | {TRIALS.value:,} | {busy:.1f} | "
            f"{' | '.join(parts(seconds))} | {TRIALS.value / seconds:,.0f} |",
            flush=True,
        )


def replay() -> None:
    print(f"| | seconds | {' | '.join(PARTS)} | memory GiB | ledger MiB |")
    print("|---" * (4 + len(PARTS)) + "|")
    with tempfile.TemporaryDirectory() as folder:
        workdir = pathlib.Path(folder, "run")
        for what in ("made", "replayed"):
            executor = Simulated(1000, durations())
            seconds = search(executor, 3000, workdir, TRIALS.value, ORDERS.value[0])
            size = (workdir / "ledger.jsonl").stat().st_size / 2**20
            growth = ""
            if len(executor.tenths) == 10:
                second, ninth = 1e4 / TRIALS.value * np.diff(executor.tenths)[[1, -1]]
                growth = f", {second:.2f} ms each in the second tenth, {ninth:.2f} in the ninth"
            print(
                f"| {TRIALS.value:,} trials {what}{growth} | {seconds:.1f} | "
                f"{' | '.join(parts(seconds))} | {memory():.2f} | {size:.0f} |",
                flush=True,
            )


def main(argv: list[str]) -> None:
    del argv
    print(f"{machine()}\n")
    setattr(files.os, "fsync", _no_flush)  # noqa: B010
    STRATEGIES["aging_evolution"] = timed_evolution
    setattr(NB201, "build", timed("build", NB201.build))  # noqa: B010
    search(Simulated(1, durations()), 1, None, 20, "proposal")  # everything is compiled
    replay() if REPLAY.value else throughput()


if __name__ == "__main__":
    app.run(main)
