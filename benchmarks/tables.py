"""Strategies in a table of NAS-Bench-201, beside what was published.

  python -m benchmarks.tables --table=nb201.npz

500 searches of 12,000 s by the table's clock each; the table's file is described in docs/spaces.md.
"""

from __future__ import annotations

import pathlib
import tempfile
import time
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks.machine import machine
from nash_jax.runs import Config
from nash_jax.runs.tables import run_in_table

TABLE = flags.DEFINE_string("table", None, "npz or csv file", required=True)
DATA = flags.DEFINE_string("data", "c10", "its data set")
SECONDS = flags.DEFINE_float("seconds", 12_000.0, "of each search, by the table's clock")
REPEATS = flags.DEFINE_integer("repeats", 500, "searches of each strategy")

_EVOLUTION = {"strategy": "aging_evolution", "population": 10, "tournament": 3}
#: What is run, and the test value that was published (NAS-Bench-201, 500 runs), if any.
SEARCHES: dict[str, tuple[dict[str, Any], str]] = {
    "random search": ({"strategy": "random_search"}, "93.70 +- 0.36"),
    "aging evolution, P=10, S=3": (_EVOLUTION, "93.92 +- 0.30"),
    "the same, the worst dies": ({**_EVOLUTION, "dies": "worst"}, ""),
    "the same with crossover": ({**_EVOLUTION, "crossover": 0.5}, ""),
    "hill climbing, 8 neighbours of 1 change": (
        {"strategy": "hill_climbing", "num_neighbours": 8, "num_morphisms": 1},
        "",
    ),
}


def main(argv: list[str]) -> None:
    del argv
    from scipy import stats

    print(f"{machine()}\n\n| search | published | validation % | test % | trials | p | seconds |")
    print("|---|---|---|---|---|---|---|")
    random: np.ndarray | None = None
    for name, (given, published) in SEARCHES.items():
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            workdir = pathlib.Path(folder, "run")
            means = run_in_table(
                Config().replace(space="nb201", **given),
                given,
                workdir,
                TABLE.value,
                data=DATA.value,
                seconds=SECONDS.value,
                repeats=REPEATS.value,
            )
            columns = np.genfromtxt(
                workdir / "repeats.csv", delimiter=",", names=True, usecols=(3, 4)
            )
        random = columns["test"] if random is None else random
        p = stats.ttest_ind(columns["test"], random, equal_var=False).pvalue
        cells = [f"{each['mean']:.2f} +- {each['std']:.2f}" for each in means.values()]
        cells += [f"{columns['trials'].mean():.0f}", f"{p:.1e}" if p < 1 else ""]
        took = time.perf_counter() - start
        print(f"| {name} | {published} | " + " | ".join(cells) + f" | {took:.0f} |", flush=True)


if __name__ == "__main__":
    app.run(main)
