"""Searches in tables: what others have trained is looked up, and a search takes milliseconds."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from nash_jax.estimation import Estimate, Table
from nash_jax.evaluation import mean_interval
from nash_jax.record.files import (
    read_inside,
    read_json,
    write_atomically,
    write_json,
    writing,
)
from nash_jax.record.workdir import RESULT_FILE
from nash_jax.reporting.curves import draw_curves
from nash_jax.runs.config import Bounds, Config, settings_of
from nash_jax.search import STRATEGIES, Keys, Proposal, simulate
from nash_jax.spaces import Bounded, Choices, Supernet

REPEATS_FILE, CURVE_FILE, PICTURE_FILE = "repeats.csv", "regret.csv", "regret.png"
#: Points in time for which regret is written.
POINTS = 200


class Found(NamedTuple):
    """What one search in a table found.

    Attributes:
      genotype: the best by validation, in short code.
      validation: percent of the validation images that it classifies right.
      test: percent of the test images.
      trials: how many were made.
      seconds: what they took, by the table's clock.
      times: when a better one was found, `[n]`.
      tests: percent of the test images of the best from then on, `[n]`.
    """

    genotype: str
    validation: float
    test: float
    trials: int
    seconds: float
    times: tuple[float, ...]
    tests: tuple[float, ...]


def space_for(config: Config) -> Choices:
    """The space of a search in a table.

    Raises:
      ValueError: if the config's space is none of small whole numbers.
    """
    made = getattr(config.space, "made", None)
    if made is None:
        name = config.values()["space"]
        raise ValueError(
            f"a table needs a space of genotypes, such as nb201; got {name}; give --space"
        )
    space: Choices = made()
    return space


def config_for(config: Config, given: Mapping[str, Any], table: Table, seconds: float) -> Config:
    """The config with sizes that do not end a search before its time, where none are given.

    Evolution makes one child after the other, as published searches in tables do.

    Raises:
      ValueError: if there is a limit in seconds, and the table has none.
    """
    known = config.values()
    sizes: dict[str, Any] = {"window": 1}
    if seconds:
        least = float(table.seconds.min())
        if least <= 0:
            raise ValueError(
                f"seconds needs a table with a column of seconds; {table.name} has none; leave "
                "--seconds out"
            )
        most = math.ceil(seconds / least)
        sizes |= {"num_samples": most}
        if "num_steps" in known and "num_neighbours" in known:
            sizes["num_steps"] = math.ceil(most / known["num_neighbours"])
    return config.replace(
        **{name: value for name, value in sizes.items() if name in known and name not in given}
    )


def search_table(space: Choices, config: Config, table: Table, seconds: float, seed: int) -> Found:
    """Run a config's strategy on a table.

    A trial that would end after the limit does not count, as in the searches of NAS-Bench-201, and
    ends the search. The search sees validation values alone; the test value is that of the best.
    If the config names no first genotype, it is drawn.

    Args:
      space: of the table.
      config: its strategy decides.
      table: what is known.
      seconds: limit by the table's clock; 0: none.
      seed: of the search.

    Raises:
      ValueError: if the table lacks a genotype, or not even one trial ends in time.
    """
    keys = Keys(*jax.random.split(jax.random.key(seed), 4))
    if not space.first:
        space = dataclasses.replace(space, first=space.sample(keys.init))
    bounded = config.bounds != Bounds()  # else there is nothing to build
    limits = config.limits(space.build(space.start, "search")) if bounded else {}
    searched = Bounded(space, limits) if limits else space
    strategy = STRATEGIES[config.values()["strategy"]](searched, config.strategy, keys)

    def estimate(proposal: Proposal) -> Estimate:
        if proposal.budget is not None:
            raise ValueError(
                "a table has one value for every network; got a strategy that trains networks on, "
                f"{config.values()['strategy']}; take another"
            )
        if isinstance(proposal.genotype, Supernet):
            raise ValueError(
                "a table has values of networks; got a strategy that trains a supernet, "
                f"{config.values()['strategy']}; take another, such as aging_evolution"
            )
        return table.estimate(space.code(proposal.genotype))

    spent, trials, best = 0.0, 0, -math.inf
    genotype, times, tests = "", list[float](), list[float]()
    for trial in simulate(space, strategy, estimate, _no_network):
        if seconds and spent + trial.estimate.seconds.total > seconds:
            break
        spent, trials = spent + trial.estimate.seconds.total, trials + 1
        if trial.estimate.accuracy > best:
            best, genotype = trial.estimate.accuracy, space.code(trial.genotype)
            times.append(spent if seconds else float(trials))
            tests.append(float(table.test[table.row(genotype)]))
    if not trials:
        raise ValueError(
            f"seconds must be at least {trial.estimate.seconds.total:.0f}, what the first trial "
            f"takes by {table.name}; got {seconds:g}"
        )
    return Found(genotype, 100 * best, tests[-1], trials, spent, tuple(times), tuple(tests))


def _no_network(genotype: Any) -> None:
    """Nobody looks at it."""


def run_in_table(
    config: Config,
    given: Mapping[str, Any],
    workdir: pathlib.Path,
    path: str,
    data: str = "",
    epochs: int = 0,
    seconds: float = 0.0,
    repeats: int = 1,
) -> dict[str, dict[str, float]]:
    """Search a table several times, and write what is found.

    Writes `result.json` (percent), `repeats.csv` with a line for each search, `regret.csv` and its
    picture: how far the best by validation is behind the best of the table, over time.

    Args:
      config: the settings of strategy and space; the seeds begin with its own.
      given: those that were given; the sizes of a search follow from the limit, where they are not.
      workdir: a new or an empty folder.
      path: of the table.
      data, epochs: as in `Table.load`.
      seconds: limit by the table's clock; 0: none.
      repeats: how many searches.

    Returns:
      Mean and standard deviation of 'validation' and 'test', in percent.

    Raises:
      ValueError: if the table is none of this space, or the folder is not empty.
      WriteError: if a file cannot be written.
    """
    if workdir.exists() and any(workdir.iterdir()):
        raise ValueError(
            f"workdir must be new or empty for a search in a table; {workdir} is neither; give "
            "another"
        )
    table = Table.load(path, data, epochs)
    config = config_for(config, given, table, seconds)
    space = space_for(config)
    seeds = range(config.seed, config.seed + repeats)
    found = [search_table(space, config, table, seconds, seed) for seed in seeds]
    name = config.values()["strategy"]
    limit = seconds or float(max(each.trials for each in found))
    values = {what: [getattr(each, what) for each in found] for what in ("validation", "test")}
    means = {
        what: {
            "mean": round(float(np.mean(of)), 4),
            "std": round(float(np.std(of, ddof=min(1, repeats - 1))), 4),
        }
        for what, of in values.items()
    }
    curve = _regret(found, float(table.test.max()), limit)
    with writing(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
    head = ("genotype", "validation", "test", "trials", "seconds")
    rows = [(seed, *each[: len(head)]) for seed, each in zip(seeds, found)]
    _write_csv(workdir / REPEATS_FILE, ("seed", *head), rows)
    _write_csv(workdir / CURVE_FILE, ("time", "regret", "low", "high"), curve.tolist())
    clock = "seconds of the table" if seconds else "trials"
    picture = draw_curves({name: curve}, clock, "behind the best of the table, test %")
    write_atomically(workdir / PICTURE_FILE, picture)
    about = {"strategy": name, "table": table.name, "data": data, "epochs": table.epochs}
    about |= {"clock": clock, "seconds": seconds, "repeats": repeats}
    about |= {"settings": settings_of(config).given}
    about |= {"file": path, "fingerprint": fingerprint_of(path)}
    accuracy = {"test_accuracy": round(means["test"]["mean"] / 100, 6), "unit": "percent"}
    write_json(workdir / RESULT_FILE, {**about, **accuracy, **means})
    return means


def fingerprint_of(path: str) -> str:
    """Sixteen hexadecimal digits that another table would not have.

    Raises:
      ValueError: if there is no such file.
    """
    file = pathlib.Path(os.path.expanduser(path))
    return hashlib.sha256(read_inside(file.parent, file.name)).hexdigest()[:16]


def _regret(found: Sequence[Found], best: float, limit: float) -> np.ndarray:
    """Rows of time, mean regret and its interval, from when all searches have a trial."""
    times = np.linspace(0, limit, POINTS + 1)[1:]
    regret = best - np.array([_tests_at(each, times) for each in found])
    known = np.isfinite(regret).all(axis=0)
    return np.array([(t, *mean_interval(of)) for t, of in zip(times[known], regret.T[known])])


def _tests_at(found: Found, times: np.ndarray) -> np.ndarray:
    """The test value of the best at some times; NaN before the first."""
    places = np.searchsorted(found.times, times, side="right") - 1
    return np.where(places < 0, np.nan, np.array(found.tests)[places])


def _write_csv(path: pathlib.Path, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([[x if isinstance(x, str) else f"{x:.8g}" for x in row] for row in rows])
    write_atomically(path, lines.getvalue().encode())


def compare_tables(workdirs: Sequence[pathlib.Path], out: pathlib.Path | None = None) -> None:
    """Print what searches in a table found, side by side; regret over time as one picture.

    Args:
      workdirs: folders that `run_in_table` wrote.
      out: a PNG file for the picture.

    Raises:
      ValueError: if a folder has no such result, or they are of different tables.
      WriteError: if the file cannot be written.
    """
    results = [read_json(workdir, RESULT_FILE) for workdir in workdirs]
    for name in ("table", "data", "clock"):
        if len({result[name] for result in results}) > 1:
            raise ValueError(
                f"searches in a table can be compared if they have the same {name}; got "
                f"{', '.join(sorted({str(result[name]) for result in results}))}"
            )
    names = [str(result["strategy"]) for result in results]
    if len(set(names)) < len(names):
        names = [f"{name}, {workdir}" for name, workdir in zip(names, workdirs)]
    for name, result in zip(names, results):
        validation, test = described(result)
        print(f"{name}: {result['repeats']} searches, validation {validation}, test {test}")
    if out is not None:
        curves = {
            name: np.loadtxt(workdir / CURVE_FILE, delimiter=",", skiprows=1, ndmin=2)
            for name, workdir in zip(names, workdirs)
        }
        across = str(results[0]["clock"])
        picture = draw_curves(curves, across, "behind the best of the table, test %")
        write_atomically(out, picture)


def described(means: Mapping[str, Any]) -> tuple[str, str]:
    """Mean and deviation of validation and test, for people."""
    validation, test = (
        f"{means[what]['mean']:.2f} +- {means[what]['std']:.2f} %"
        for what in ("validation", "test")
    )
    return validation, test


def is_of_table(workdir: pathlib.Path) -> bool:
    """Whether a folder has what `run_in_table` wrote."""
    return (workdir / REPEATS_FILE).exists()
