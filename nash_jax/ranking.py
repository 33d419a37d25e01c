"""The command `nash rank`, from its flags to its last line."""

from __future__ import annotations

import pathlib
import shlex
from collections.abc import Sequence
from datetime import date
from typing import Any

import rich.console
from absl import app, flags

from nash_jax import launching
from nash_jax.data import Dataset
from nash_jax.evaluation import Ranking
from nash_jax.machine import seconds_since_start
from nash_jax.record import provenance
from nash_jax.reporting.ranking import as_markdown, write_ranking
from nash_jax.runs import Result, preset
from nash_jax.runs.rank import rank, rank_in_table
from nash_jax.search_flags import define_flags, given_settings, help_text, parse

FLAGS = flags.FLAGS
USAGE = """nash rank --dataset=DATA --space=SPACE --num_samples=20 --epochs_final=30 \\
          --proxy=epochs=3 --proxy=images=1000 --proxy=channels=8,epochs=10 --workdir=W
nash rank --table=FILE --table_data=DATA --space=SPACE

Random genotypes are trained fully, for --epochs_final epochs at the space's final size, and by each
proxy; how alike the orders are, and what they cost, is printed and written to the workdir. A proxy
has less of epochs, images, channels, cells or pixels, or has another estimator=NAME; it is
an ordinary run in a folder of the workdir. In a table, trainings of different length are compared.
All other flags are those of nash search:
"""


def rank_proxies(argv: list[str]) -> None:
    """A ranking, from its flags to its last line."""
    launching.begin(argv)
    console = rich.console.Console(soft_wrap=True)
    with launching.workdir_from_flags() as workdir, launching.exiting_on_errors(workdir):
        for name in ("seconds", "repeats", "table_epochs", "baseline"):
            if FLAGS[name].present:
                raise ValueError(
                    f"{name} is not for a ranking; got {FLAGS[name].value}; leave it out"
                )
        given = given_settings()
        config = preset(FLAGS.preset, FLAGS.recipe, **{"strategy": "random_search"} | given)
        if FLAGS.table is not None:
            samples = given.get("num_samples", 0)
            found = rank_in_table(config, FLAGS.table, FLAGS.table_data, FLAGS.proxy, samples)
            _show(found, workdir, console, f"`{FLAGS.table}`, {FLAGS.table_data}")
            return
        if not FLAGS.proxy:
            raise ValueError("proxy must be given, at least once; got none; as in --proxy=epochs=3")

        def note(text: str) -> None:
            console.print(f"note: {text}", markup=False, highlight=False)

        def load(config: Any) -> Dataset:
            return launching.dataset_from_flags(config, note)

        def perform(config: Any, folder: pathlib.Path, dataset: Dataset) -> Result:
            console.print(f"{folder}", markup=False, highlight=False)
            finished = (folder / "result.json").exists()
            since = seconds_since_start()
            return launching.perform(config, folder, console, dataset, finished, since=since)

        found = rank(config, FLAGS.proxy, workdir, perform, load)
        _show(found, workdir, console, f"Data {FLAGS.dataset}")


def _show(found: Ranking, workdir: pathlib.Path, console: rich.console.Console, what: str) -> None:
    """Write a ranking, and print its table."""
    here = provenance()
    about = (
        f"{what}; `{shlex.join(launching.command())}`, {date.today().isoformat()}, on "
        f"{here['device']} with {here['num_cpus']} CPU cores, jax {here['versions']['jax']}. "
        "Seconds are those of training and evaluating all genotypes, one after the other."
    )
    write_ranking(found, workdir, about)
    console.print(as_markdown(found), markup=False, highlight=False)
    console.print(f"{workdir}: rank.md, rank.csv, rank.png, values.csv", markup=False)


def run_rank_command(argv: Sequence[str]) -> None:
    """`nash rank`.

    Args:
      argv: the words behind it.
    """
    define_flags()
    if "proxy" not in FLAGS:
        flags.DEFINE_multi_string("proxy", [], "what a proxy has less of; several times")
    if {"-h", "--help", "-help"} & set(argv):
        print(USAGE + help_text().partition("\n")[2])
        return
    app.run(rank_proxies, ["nash rank", *argv], flags_parser=parse)
