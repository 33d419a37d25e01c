"""Studies: runs that share settings and a folder, and the tables that are made of them.

A study's folder has a folder for every run, named after its row and its seed. A run that is there
is not made again: tables and figures of the same study share their runs.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import datetime
import io
import os
import pathlib
import shlex
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import rich.console
from absl import app, flags
from matplotlib.figure import Figure

from experiments.tables import COLUMNS, Outcome, Row, cells_of, errors_figure, record_of
from nash_jax import launching, search_flags
from nash_jax.architecture import Architecture, count_flops, to_json
from nash_jax.data import Dataset
from nash_jax.machine import seconds_since_start
from nash_jax.record.files import check_folder_of, read_json, write_json
from nash_jax.record.workdir import CONFIG_FILE, check_unchanged
from nash_jax.reporting.pictures import png
from nash_jax.runs import (
    Config,
    DamagedError,
    Problem,
    RunView,
    StoppedError,
    load,
    prepare,
    read_run,
    settings_of,
    write_atomically,
)
from nash_jax.search import HillClimbingSettings
from nash_jax.text import markdown_table

FLAGS = flags.FLAGS

#: What the runs of a study's folder share.
STUDY_FILE = "study.json"

search_flags.define_flags()
flags.DEFINE_list("rows", [], "the rows of a table to make, by name; default: all")
flags.DEFINE_integer(
    "genotypes", 0, "random genotypes of each space; 0: 16 in its study, 8 of protocols", 0
)
flags.adopt_module_key_flags(search_flags)


def run(main: Callable[[list[str]], None]) -> None:
    """Run a launcher's main function; `--help` shows all flags."""
    for flag in FLAGS.get_key_flags_for_module(sys.modules[__name__]):
        FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    app.run(main, search_flags.arguments())


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
    """Runs that differ in what a table compares, and in their seeds.

    Attributes:
      config: what they share; its seed is the first.
      folder: the folder that contains the folders of all runs.
      dataset: the data.
      repeats: runs of every setting; 0: as many as the paper has.
      console: to print progress to.
      views: the runs so far, by the names of their folders.
      failures: why runs could not be trained to their end, by the names of their folders.
    """

    config: Config
    folder: pathlib.Path
    dataset: Dataset
    repeats: int
    console: rich.console.Console
    views: dict[str, RunView] = dataclasses.field(default_factory=dict)
    failures: dict[str, str] = dataclasses.field(default_factory=dict)

    def seeds(self, papers: int = 10) -> range:
        """The seeds of a setting's runs; the paper has `papers` runs of the setting."""
        return range(self.config.seed, self.config.seed + (self.repeats or papers))

    def run(self, name: str, seed: int, **changes: Any) -> list[RunView]:
        """The run of a seed with some settings changed, made if it is not there.

        It is the only item of a list, which is empty if the run cannot be trained to its end.
        """
        return [view for view in self._view(name, seed, changes) if view.final is not None]

    def runs(self, name: str, papers: int = 10, **changes: Any) -> list[RunView]:
        """The runs of all seeds with some settings changed."""
        return [run for seed in self.seeds(papers) for run in self.run(name, seed, **changes)]

    def searches(self, name: str, **changes: Any) -> list[RunView]:
        """As `runs`, but also with runs of which only the final training failed."""
        views = [view for seed in self.seeds() for view in self._view(name, seed, changes)]
        return [view for view in views if len(view.chosen) == self.config.strategy.num_steps + 1]

    def _view(self, name: str, seed: int, changes: Mapping[str, Any]) -> list[RunView]:
        config = self.config.replace(seed=seed, **changes)
        folder = self.folder / f"{name}-seed{seed}"
        if folder.name not in {*self.views, *self.failures}:
            self._make(config, folder)
        return [self.views[folder.name]] if folder.name in self.views else []

    def _make(self, config: Config, folder: pathlib.Path) -> None:
        """Make a run, unless it is there."""
        finished = (folder / "result.json").exists()
        if not finished:
            self.console.print(f"{folder}", markup=False, highlight=False)
        try:
            since = seconds_since_start()
            launching.perform(config, folder, self.console, self.dataset, finished, since=since)
        except StoppedError as error:
            self.failures[folder.name] = str(error)
            self.console.print(f"{folder} is given up: {error}", markup=False, highlight=False)
        if (folder / CONFIG_FILE).exists():
            self.views[folder.name] = read_run(folder)

    def trained(self, name: str, run: RunView, network: pathlib.Path, epochs: int) -> list[RunView]:
        """A network trained on training and validation set, and tested, without any search."""
        changes = {"model_0": str(network), "epochs_pretrain": 0, "strategy": "one_network"}
        return self.run(name, run.config.seed, epochs_final=epochs, **changes)

    def architecture(self, run: RunView) -> pathlib.Path:
        """A file with the architecture that a run found, without its weights."""
        path = self.folder / "architectures" / f"{run.workdir.name}.json"
        path.parent.mkdir(exist_ok=True)
        spec, _ = load(run.workdir)
        write_atomically(path, to_json(spec).encode())
        return path

    def problem(self, run: RunView) -> Problem:
        """The images that a run sees."""
        return prepare(self.config.replace(seed=run.config.seed), self.dataset)

    def outcome(self, run: RunView) -> Outcome:
        """What a run gives, its whole cost included."""
        assert run.final is not None
        error, params = 100 * (1 - run.final.estimate.accuracy), run.final.params
        return Outcome(error, params, run.seconds, self.training_flops(run))

    def outcomes(self, runs: Iterable[RunView]) -> list[Outcome]:
        return [self.outcome(run) for run in runs]

    def start(self, model_0: str) -> Architecture:
        """A network to start from, for this study's data."""
        config = self.config.replace(model_0=model_0, strategy="one_network")
        return prepare(config, self.dataset).model_0

    def epoch_flops(self, spec: Architecture) -> float:
        """FLOPs of training on all images once; gradients take twice those of the network."""
        most = self.config.data.max_train_examples or len(self.dataset.train)
        return 3.0 * count_flops(spec) * min(most, len(self.dataset.train))

    def training_flops(self, run: RunView) -> float:
        """FLOPs of all trainings of a run."""
        searching = 1 - self.config.data.validation_fraction
        return sum(
            self.epoch_flops(trial.spec)
            * len(trial.estimate.train_losses)
            * run.recipes[trial.recipe].mean_work(trial.spec)
            * (1 if trial.recipe == "final" else searching)
            for trial in run.trials
        )

    def write(self, name: str, suffix: str, content: bytes) -> None:
        path = self.folder / f"{name}{suffix}"
        write_atomically(path, content)
        self.console.print(f"written: {path}", markup=False, highlight=False)

    def write_csv(self, name: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Write numbers for programs: a line per record, with the data and the machine."""
        origin = {
            "dataset": self.dataset.name,
            "recipe": FLAGS.recipe,
            "device": self.machines(),
            "date": datetime.date.today().isoformat(),
        }
        text = io.StringIO()
        columns = dict.fromkeys(key for record in records for key in (*record, *origin))
        writer = csv.DictWriter(text, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows({**record, **origin} for record in records)
        self.write(name, ".csv", text.getvalue().encode(errors="backslashreplace"))

    def write_markdown(
        self, name: str, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]
    ) -> None:
        """Write a table for people, which also says how it came about, and print it."""
        table = markdown_table(columns, rows)
        title = title.replace("\n", ", ")
        self.write(
            name, ".md", f"# {title}\n\n{self.about()}\n{table}".encode(errors="backslashreplace")
        )
        self.console.print(table, markup=False, highlight=False)

    def write_figure(self, name: str, figure: Figure) -> None:
        self.write(name, ".png", png(figure))

    def titled(self, title: str) -> str:
        """A title, with a second line that names the data and the recipe."""
        return f"{title}\n{self.dataset.name}, recipe {FLAGS.recipe}"

    def machines(self) -> str:
        """Where the runs so far were begun."""
        return " and on ".join(dict.fromkeys(_machine(run.about) for run in self.views.values()))

    def about(self) -> str:
        """How the numbers came about: a paragraph of Markdown."""
        config = self.config
        failed = "".join(f"\n\nNot finished: {n}: {why}." for n, why in self.failures.items())
        return (
            f"`{shlex.join(['python', *sys.orig_argv[1:]])}`, "
            f"{datetime.date.today().isoformat()}, runs on "
            f"{self.machines() or 'nothing'}; data {self.dataset.name}, fingerprint "
            f"{self.dataset.fingerprint()}, {config.data.max_train_examples or 'all'} training "
            "images; "
            f"recipe {FLAGS.recipe}; seeds from {config.seed} on. The paper's numbers "
            f"are those of its own data, settings and GPU.{failed}\n"
        )


def _machine(about: Mapping[str, Any]) -> str:
    """Where a run was begun."""
    jax_version = about["versions"].get("jax")
    return f"{about.get('device')} with {about.get('num_cpus')} CPU cores, jax {jax_version}"


@contextlib.contextmanager
def study_from_flags(argv: list[str], rows: Collection[str] = ()) -> Iterator[Study]:
    """The study that the flags describe; errors that users must fix end the program.

    `rows` are the names that the flag --rows may have; a figure has none.
    """
    launching.begin(argv)
    console = rich.console.Console(soft_wrap=True)
    name = f"{launching.data_name()}-{FLAGS.preset}-{FLAGS.recipe}"
    folder = pathlib.Path(os.path.expanduser(FLAGS.workdir or f"runs/{name}"))
    with launching.exiting_on_errors(folder):
        config = search_flags.config_from_flags()
        repeats = _checked_repeats(config, rows)
        dataset = launching.dataset_from_flags(
            config, lambda text: console.print(f"note: {text}", markup=False, highlight=False)
        )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"workdir {folder} cannot be used: {error.strerror}; choose another"
            ) from None
        _check_origin(folder, config, dataset)
        yield Study(config, folder, dataset, repeats, console)


def _checked_repeats(config: Config, rows: Collection[str]) -> int:
    """The runs of every setting, or 0: as in the paper. Raises `ValueError` for bad flags."""
    if unknown := set(FLAGS.rows) - set(rows):
        among = f"among {', '.join(rows)}" if rows else "left out, because a figure has none"
        raise ValueError(f"rows must be {among}; got {', '.join(sorted(unknown))}")
    if FLAGS.repeats < 0:
        raise ValueError(f"repeats must be >= 0; got {FLAGS.repeats}")
    if not isinstance(config.strategy, HillClimbingSettings):
        raise ValueError("strategy must be hill_climbing for tables and figures; leave it out")
    if (num_steps := config.strategy.num_steps) < 1:
        raise ValueError(f"num_steps must be >= 1 for tables and figures; got {num_steps}")
    repeats: int = FLAGS.repeats or (0 if FLAGS.preset == "paper" else 3)
    config.replace(seed=config.seed + (repeats or 30) - 1)  # checks the last seed
    launching.workers_from_flags(config)
    launching.devices_from_flags()
    return repeats


def _check_origin(folder: pathlib.Path, config: Config, dataset: Dataset) -> None:
    """Raises `ValueError` unless settings, recipe and data are those of all runs of the folder."""
    origin = {**settings_of(config).values, "recipe": FLAGS.recipe, "data": dataset.fingerprint()}
    del origin["seed"]  # only the first seed of this call
    path = folder / STUDY_FILE
    check_folder_of(folder, "an experiment", STUDY_FILE, f"*-seed*/{CONFIG_FILE}")
    if not path.exists():
        write_json(path, origin)
        return
    try:
        before = read_json(folder, STUDY_FILE)
    except DamagedError as error:
        raise ValueError(
            f"{error}; delete it, if the runs beside it are of these settings"
        ) from None
    check_unchanged(f"study in {folder}", before, origin)


def write_table(
    study: Study, name: str, title: str, rows: Mapping[str, Callable[[Study], Row]]
) -> None:
    """Make the rows that the flags ask for and write them as CSV, Markdown and a picture.

    A table of only some rows gets files of its own, so that it does not overwrite the whole table.
    """
    asked = [key for key in rows if key in FLAGS.rows or not FLAGS.rows]
    name = "-".join([name, *asked]) if len(asked) < len(rows) else name
    made = [rows[key](study) for key in asked]
    title = study.titled(title)
    study.write_csv(name, [record_of(row) for row in made])
    study.write_markdown(name, title, COLUMNS, [cells_of(row) for row in made])
    study.write_figure(name, errors_figure(made, title))
