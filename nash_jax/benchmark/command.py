"""`nash benchmark`: its flags, and what it prints and writes."""

from __future__ import annotations

import functools
import os
import pathlib
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any

import rich.console
from absl import app, flags

from nash_jax import launching, search_flags
from nash_jax.benchmark import figures
from nash_jax.benchmark.methods import method_named
from nash_jax.benchmark.plan import Plan, name_in_paths, protocol_named, read_plan
from nash_jax.benchmark.table import Row, as_csv, markdown, rows_of
from nash_jax.benchmark.work import make, trained_in
from nash_jax.data import Dataset
from nash_jax.machine import seconds_since_start
from nash_jax.record.files import check_folder_of, write_atomically
from nash_jax.reporting.pictures import png
from nash_jax.runs import PRESETS, Config, Result, StoppedError

FLAGS = flags.FLAGS
#: Flags of a search that a benchmark has not, or decides by itself, and what is to be done.
_NOT_HERE = {
    **{"dataset": "give --datasets", "strategy": "give --methods", "recipe": "give --protocols"},
    **dict.fromkeys(("minutes", "hours"), "give --num_samples or --supernet_epochs, say"),
    **dict.fromkeys(("table", "table_data", "table_epochs", "seconds"), "leave it out"),
    **dict.fromkeys(("baseline", "repeats"), "leave it out"),
}
USAGE = """nash benchmark --methods=METHOD,... --datasets=DATA,... [--workdir=FOLDER] [--FLAG=VALUE]
nash benchmark --plan=FILE.json ...

Searches by each method on each set, and random networks of the methods' spaces, all trained alike
from new weights: is a method better than random? All runs are kept in the folder; the same command
goes on with what is not there. Flags of `nash search` are for all runs, and win over all else.
"""


def define_flags() -> None:
    """Define, once a process, the flags of a benchmark beside those of a search."""
    search_flags.define_flags()
    if "methods" in FLAGS:
        return
    flags.DEFINE_list("methods", [], "names of methods or strategies, with commas between them")
    flags.DEFINE_list("datasets", [], "data sets, as --dataset of a search")
    flags.DEFINE_list(
        "protocols",
        [],
        "recipes by which all networks are trained; own: as each method's paper does it; default: "
        "paper",
    )
    flags.DEFINE_integer("seeds", 8, "searches of every method on every set")
    flags.DEFINE_integer("random", 8, "random networks of every space")
    flags.DEFINE_string("plan", None, "a JSON file that says these things; see docs/benchmark.md")
    flags.DEFINE_string(
        "against", "", "a method with which the others of its space are compared, seed by seed"
    )
    flags.DEFINE_boolean("only_report", False, "make no run, and print what is there")


def plan_from_flags(**usual: Any) -> Plan:
    """The plan of the flags, or of a file with the flags over it.

    Args:
      **usual: fields of a plan that is not said otherwise.

    Raises:
      ValueError: for anything wrong with it.
    """
    for name, remedy in _NOT_HERE.items():
        if FLAGS[name].present:
            raise ValueError(f"{name} is no flag of a benchmark; got {FLAGS[name].value}; {remedy}")
    said = usual
    if FLAGS.plan is not None:
        said = {**usual, **read_plan(pathlib.Path(os.path.expanduser(FLAGS.plan)))}
    named: dict[str, Callable[[str], Any]] = {
        "methods": method_named,
        "datasets": lambda name: {},
        "protocols": protocol_named,
    }
    for flag, made in named.items():
        if names := FLAGS[flag].value:  # of a plan, those that are named
            planned = said.get(flag, {})
            said[flag] = {n: planned[n] if n in planned else made(n) for n in names}
    numbers = {"seeds": "seeds", "random": "num_random", "seed": "seed", "against": "against"}
    for flag, field in numbers.items():
        if FLAGS[flag].present or field not in said:
            said[field] = FLAGS[flag].value
    given = search_flags.given_settings()
    given.pop("seed", None)
    for needed in ("methods", "datasets"):
        if not said.get(needed):
            raise ValueError(f"a benchmark needs {needed}; got none; give --{needed} or --plan")
    return Plan(**said, given=given, preset=PRESETS[FLAGS.preset])


def run(
    argv: list[str], about: Callable[[Sequence[Row]], str] = lambda rows: "", **usual: Any
) -> None:
    """A benchmark, from its flags to its last line.

    Args:
      argv: words that are no flags; there must be none.
      about: what else is to be said below the tables.
      **usual: as `plan_from_flags`.
    """
    launching.begin(argv)
    console = rich.console.Console(soft_wrap=True)
    say = functools.partial(console.print, markup=False, highlight=False)
    with launching.workdir_from_flags("benchmark") as folder, launching.exiting_on_errors(folder):
        check_folder_of(folder, "a benchmark", "*/searches", "*/networks/*.json")
        plan = plan_from_flags(**usual)
        load = launching.dataset_from_flags
        failures = [] if FLAGS.only_report else make(plan, folder, _perform(console), say, load)
        trained = trained_in(plan, folder, lambda text: None, load)
        if failures and not trained:
            raise StoppedError(f"no network was trained; {failures[0]}")
        if not trained:
            raise ValueError(
                f"{folder} has no trained network yet; leave --only_report out, or give the "
                "--workdir of a benchmark"
            )
        rows = rows_of(trained)
        against = plan.against if plan.against in {row.method for row in rows} else ""
        text = markdown(trained, against) + about(rows)
        for failure in failures:
            text += f"\nNot finished: {failure}.\n"
        command = shlex.join(launching.command())
        write_atomically(folder / "benchmark.md", f"`{command}`\n\n{text}".encode())
        write_atomically(folder / "benchmark.csv", as_csv(trained).encode())
        for protocol in plan.protocols:
            here = [row for row in rows if row.protocol == protocol]
            pictures = {"random": figures.beside_random(here)} if here else {}
            for name in dict.fromkeys(row.dataset for row in here):
                of_set = [row for row in here if row.dataset == name]
                pictures[f"cost-{name_in_paths(name)}"] = figures.beside_cost(of_set)
            for name, figure in pictures.items():
                path = folder / f"{name}-{name_in_paths(protocol)}.png"
                write_atomically(path, png(figure))
        say(text)
    say(f"written: {folder}/benchmark.md, benchmark.csv and pictures")
    if failures:
        sys.exit(1)


def _perform(console: rich.console.Console) -> Any:
    """Makes a run as the flags say."""

    def perform(
        config: Config, workdir: pathlib.Path, dataset: Dataset, only_search: bool
    ) -> Result:
        since = seconds_since_start()
        return launching.perform(
            config, workdir, console, dataset, only_search=only_search, since=since
        )

    return perform


def main(
    program: str,
    argv: Sequence[str] | None = None,
    about: Callable[[Sequence[Row]], str] = lambda rows: "",
    **usual: Any,
) -> None:
    """A benchmark as a command.

    Args:
      program: its name.
      argv: the words behind it; by default those of this process.
      about: as `run`.
      **usual: likewise.
    """
    define_flags()
    words = search_flags.arguments()[1:] if argv is None else list(argv)
    if {"-h", "--help", "-help"} & set(words):
        print(USAGE)
        for flag in FLAGS.flags_by_module_dict()[__name__]:
            print(f"  --{flag.name}\n      {flag.help} ({flag.default})")
        print("\nFlags of all runs: nash search --help")
        return
    action = functools.partial(run, about=about, **usual)
    app.run(action, [program, *words], flags_parser=search_flags.parse)
