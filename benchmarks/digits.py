"""Hill climbing against random networks on the digits: test accuracy and time over several seeds.

  python -m benchmarks.digits --seeds=5

Both have the same number of epochs per network; random networks are num_neighbours=1. Every run
is a new process, so that its time includes all compilation. Prints a table and writes digits.json.
"""

from __future__ import annotations

import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

from absl import app, flags

SEEDS = flags.DEFINE_integer("seeds", 5, "seeds 0 to this - 1")
EXTRA = flags.DEFINE_multi_string("extra", [], "further flags for experiments.nash")
OUT = flags.DEFINE_string("out", "digits.json", "file to write the figures to")


def run_nash(*extra: str) -> dict[str, float]:
    """One run of the launcher; its result.json, with the process's whole duration."""
    with tempfile.TemporaryDirectory() as folder:
        workdir = pathlib.Path(folder, "run")
        start = time.perf_counter()
        command = [sys.executable, "-m", "experiments.nash", "--preset=digits", "--cache_dir=none"]
        subprocess.run(
            [*command, *EXTRA.value, f"--workdir={workdir}", *extra],
            check=True,
            capture_output=True,
        )
        seconds = time.perf_counter() - start
        return json.loads((workdir / "result.json").read_text()) | {"process_seconds": seconds}


def main(_: list[str]) -> None:
    print(
        f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, {time.strftime('%Y-%m-%d')}"
    )
    print(f"{'':<34}{'mean test accuracy':>20}{'std':>8}{'parameters':>12}{'seconds':>10}")
    figures: dict[str, list[dict[str, float]]] = {}
    for title, extra in (
        ("hill climbing", ()),
        ("random networks (num_neighbours=1)", ("--num_neighbours=1",)),
    ):
        runs = [run_nash(f"--seed={seed}", *extra) for seed in range(SEEDS.value)]
        figures[title] = runs
        accuracies = [100 * run["test_accuracy"] for run in runs]
        spread = statistics.stdev(accuracies) if len(runs) > 1 else float("nan")
        params = statistics.mean(run["params"] for run in runs)
        seconds = statistics.mean(run["process_seconds"] for run in runs)
        print(
            f"{title:<34}{statistics.mean(accuracies):>19.2f}%{spread:>7.2f}%"
            f"{params:>12,.0f}{seconds:>10.0f}   " + " ".join(f"{a:.2f}" for a in accuracies),
            flush=True,
        )
    pathlib.Path(OUT.value).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    app.run(main)
