"""Searches on the digits that are killed again and again, against one that is not.

  python -m benchmarks.faults --kills=80 --strategy=hill_climbing

Every run is killed by SIGKILL, resumed and killed again until its share of the kills is used up:
first at each of the named points of `benchmarks.crashing`, then at random moments. Then it is
resumed to its end and compared with the undisturbed run: every network byte by byte, every line of
the ledger but for seconds and number of workers, the test accuracy. Odd sessions have one worker,
even ones two. Trainings are written after every epoch.

Repeated training is counted in epochs that were reported to the main process twice; besides these,
a kill costs each worker the epoch that it was in. Prints a table and writes faults.json. The exit
status is 1 if anything differed or was lost.
"""

from __future__ import annotations

import json
import os
import pathlib
import random
import signal
import sys
import tempfile
import time

from absl import app, flags

from benchmarks.crashing import POINTS, RUNS, content, finish, launch
from benchmarks.machine import machine
from nash_jax.runs import read_ledger

KILLS = flags.DEFINE_integer("kills", 80, "in all; at least the named points", lower_bound=20)
PER_RUN = flags.DEFINE_integer("kills_per_run", 8, "before a run is let to its end")
STRATEGY = flags.DEFINE_enum("strategy", "hill_climbing", list(RUNS), "what is killed")
OUT = flags.DEFINE_string("out", "faults.json", "file to write the figures to")


def known(workdir: pathlib.Path) -> set[str]:
    try:
        return {line["name"] for line in read_ledger(workdir)}
    except ValueError:
        return set()


def main(_: list[str]) -> None:
    rng, settings = random.Random(0), RUNS[STRATEGY.value]
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        assert (
            finish(launch(folder / "compiling", 2, settings=settings)) == 0
        )  # later runs reuse its programs
        start = time.perf_counter()
        assert finish(launch(folder / "undisturbed", 2, settings=settings)) == 0
        seconds = time.perf_counter() - start
        expected = content(folder / "undisturbed")
        # Later points come later in a run: the named ones are gone through in this order.
        points = [p for p in POINTS if p != "pretraining" or STRATEGY.value == "hill_climbing"]
        plan = [f"{point}:{rng.choice((1, 1, 2))}" for point in points]
        num_epochs = len((folder / "undisturbed.epochs").read_text().splitlines())
        kinds = [*plan, *[""] * (KILLS.value - len(plan))]
        rows: dict[str, dict[str, int]] = {}
        kills = lost = differences = again = num_runs = 0
        while kinds:
            num_runs += 1
            workdir, session, in_run = folder / f"run{num_runs}", 0, 0
            while in_run < PER_RUN.value and kinds:
                session += 1
                crash_at = kinds.pop(0)
                before = known(workdir)
                process = launch(workdir, 1 + session % 2, crash_at, settings)
                if not crash_at:
                    time.sleep(rng.uniform(0, seconds))
                    if rng.random() < 0.5:
                        process.kill()
                    else:
                        os.killpg(process.pid, signal.SIGKILL)
                row = rows.setdefault(
                    crash_at.partition(":")[0] or "a random moment",
                    {"kills": 0, "trials lost": 0},
                )
                if finish(process) == 0:  # the end came first
                    if crash_at:
                        kinds.insert(0, crash_at.partition(":")[0] + ":1")
                    else:
                        kinds.insert(0, "")
                    break
                vanished = len(before - known(workdir))
                in_run, kills, lost = in_run + 1, kills + 1, lost + vanished
                row["kills"] += 1
                row["trials lost"] += vanished
            assert finish(launch(workdir, 2, settings=settings)) == 0
            found = content(workdir)
            differing = [name for name in expected | found if expected.get(name) != found.get(name)]
            differences += len(differing)
            told = workdir.with_suffix(".epochs").read_text().splitlines()
            twice = len(told) - len(set(told))
            again += twice
            print(
                f"run {num_runs}: {in_run} kills, {twice} epochs trained twice, "
                f"{differing or 'no'} differences",
                flush=True,
            )
    on = machine()
    print(
        f"\n{on['cpu']}, {on['cores']} cores, Python {on['python']}, jax {on['jax']}, "
        f"{on['date']}; a run without a stop takes {seconds:.0f} s\n"
    )
    print("| killed | kills | trials lost from the ledger |\n|---|---|---|")
    for name, row in rows.items():
        print(f"| {name} | {row['kills']} | {row['trials lost']} |")
    print(
        f"\n{kills} kills in {num_runs} runs: {lost} trials lost, {differences} differences, "
        f"{again} of {num_runs * num_epochs} epochs trained twice"
    )
    pathlib.Path(OUT.value).write_text(
        json.dumps(
            {
                "kills": kills,
                "runs": num_runs,
                "lost": lost,
                "differences": differences,
                "epochs_again": again,
                "rows": rows,
            },
            indent=1,
        )
        + "\n"
    )
    sys.exit(bool(lost or differences))


if __name__ == "__main__":
    app.run(main)
