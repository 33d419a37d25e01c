"""Studies: runs that share settings and a folder, and the tables that are made of them.

A study's folder has a folder for every run, named by what is done and the seed. A run that is there
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
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import rich.console
from absl import app, flags
from matplotlib.figure import Figure

from experiments import launching
from nash_jax.architecture import Architecture, count_flops, to_json
from nash_jax.data import Dataset
from nash_jax.runs import (
    Config,
    Problem,
    RunView,
    StoppedError,
    load,
    prepare,
    read_run,
    spec_of,
    write_atomically,
)

FLAGS = flags.FLAGS

launching.define_flags()
flags.DEFINE_integer("repeats", 0, "seeds, from --seed on; 0: 10 of the preset paper, else 3")
flags.DEFINE_list("rows", [], "the rows of a table to make, by name; default: all")
flags.adopt_module_key_flags(launching)


def run(main: Callable[[list[str]], None]) -> None:
    """Run a launcher's main function; `--help` shows all flags."""
    for flag in FLAGS.get_key_flags_for_module(sys.modules[__name__]):
        FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    app.run(main)


class Paper(NamedTuple):
    """What the paper reports of a setting."""

    error_percent: float | None
    error_std: float | None = None
    hours: float | None = None
    params_millions: float | None = None


class Outcome(NamedTuple):
    """What one repetition gives: test error in percent, parameters, seconds, FLOPs of training."""

    error: float
    params: float
    seconds: float
    flops: float


class Row(NamedTuple):
    """A row of a table."""

    setting: str
    paper: Paper | None
    outcomes: Sequence[Outcome]


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
    """Runs that differ in what a table compares, and in their seeds.

    Attributes:
      config: what they share.
      folder: has their folders.
      dataset: the data.
      seeds: one for every repetition.
      console: to say what is being done.
      made: the runs so far, by the names of their folders.
      failures: why others could not be made, likewise.
    """

    config: Config
    folder: pathlib.Path
    dataset: Dataset
    seeds: Sequence[int]
    console: rich.console.Console
    made: dict[str, RunView] = dataclasses.field(default_factory=dict)
    failures: dict[str, str] = dataclasses.field(default_factory=dict)

    def run(self, name: str, seed: int, **changes: Any) -> list[RunView]:
        """The run of a seed with some settings changed, made if it is not there.

        It is the only item of a list, which is empty if the run cannot be trained to its end.
        """
        config = dataclasses.replace(self.config, seed=seed, **changes)
        folder = self.folder / f"{name}-seed{seed}"
        if folder.name not in {*self.made, *self.failures}:
            self._make(config, folder)
        return [self.made[folder.name]] if folder.name in self.made else []

    def _make(self, config: Config, folder: pathlib.Path) -> None:
        """Make a run, or see that it is there."""
        finished = (folder / "result.json").exists()
        if not finished:
            self.console.print(f"{folder}", highlight=False)
        try:
            launching.perform(config, folder, self.console, self.dataset, quiet=finished)
        except StoppedError as error:
            self.failures[folder.name] = str(error)
            self.console.print(f"{folder} is given up: {error}", highlight=False)
        else:
            self.made[folder.name] = read_run(folder)

    def runs(self, name: str, **changes: Any) -> list[RunView]:
        """The runs of all seeds with some settings changed."""
        return [run for seed in self.seeds for run in self.run(name, seed, **changes)]

    def trained(self, name: str, run: RunView, network: pathlib.Path, epochs: int) -> list[RunView]:
        """A network trained on training and validation set, and tested, without any search."""
        changes = {"model_0": str(network), "epochs_pretrain": 0, "num_steps": 0}
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
        return prepare(run.config, self.dataset)

    def outcome(self, run: RunView) -> Outcome:
        """What a run gives, its whole cost included."""
        assert run.final is not None
        error, params = 100 * (1 - run.final["test_accuracy"]), run.final["params"]
        return Outcome(error, params, run.seconds, self.training_flops(run))

    def outcomes(self, runs: Iterable[RunView]) -> list[Outcome]:
        return [self.outcome(run) for run in runs]

    def start(self, model_0: str) -> Architecture:
        """A network to start from, for this study's data."""
        config = dataclasses.replace(self.config, model_0=model_0, num_steps=0)
        return prepare(config, self.dataset).model_0

    def epoch_flops(self, spec: Architecture) -> float:
        """FLOPs of training on all images once; gradients take twice those of the network."""
        most = self.config.max_train_examples or len(self.dataset.train)
        return 3.0 * count_flops(spec) * min(most, len(self.dataset.train))

    def training_flops(self, run: RunView) -> float:
        """FLOPs of all trainings of a run."""
        searching = 1 - self.config.validation_fraction
        return sum(
            self.epoch_flops(spec_of(line))
            * len(line["train_losses"])
            * (1 if line["kind"] == "final" else searching)
            for line in run.lines
        )

    def write(self, name: str, suffix: str, content: bytes) -> None:
        path = self.folder / f"{name}{suffix}"
        write_atomically(path, content)
        self.console.print(f"written: {path}", highlight=False)

    def write_csv(self, name: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Write numbers for programs: a line per record, with the machine that made them."""
        text = io.StringIO()
        columns = [*dict.fromkeys(key for record in records for key in record), "device"]
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**record, "device": self.machines()} for record in records)
        self.write(name, ".csv", text.getvalue().encode())

    def write_markdown(
        self, name: str, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]
    ) -> None:
        """Write a table for people, which also says how it came about, and print it."""
        lines = [columns, ["---"] * len(columns), *rows]
        table = "".join("| " + " | ".join(cells) + " |\n" for cells in lines)
        self.write(name, ".md", f"# {title}\n\n{self.about()}\n{table}".encode())
        self.console.print(table, markup=False, highlight=False)

    def write_figure(self, name: str, figure: Figure) -> None:
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=130)
        self.write(name, ".png", picture.getvalue())

    def machines(self) -> str:
        """Where the runs so far were begun."""
        return " and on ".join(dict.fromkeys(_machine(run.about) for run in self.made.values()))

    def about(self) -> str:
        """How the numbers came about: a paragraph of Markdown."""
        config = self.config
        failed = "".join(f"\n\nNot finished: {n}: {why}." for n, why in self.failures.items())
        return (
            f"`{shlex.join(['python', *sys.orig_argv[1:]])}`, "
            f"{datetime.date.today().isoformat()}, runs on "
            f"{self.machines() or 'nothing'}; data {self.dataset.name}, fingerprint "
            f"{self.dataset.fingerprint()}, {config.max_train_examples or 'all'} training images; "
            f"recipe {FLAGS.recipe}; seeds {', '.join(map(str, self.seeds))}. The paper's numbers "
            f"are those of its own data, settings and GPU.{failed}\n"
        )


def _machine(about: Mapping[str, Any]) -> str:
    """Where a run was begun."""
    jax_version = about["versions"].get("jax")
    return f"{about.get('device')} with {about.get('num_cpus')} CPU cores, jax {jax_version}"


@contextlib.contextmanager
def study_from_flags(argv: list[str]) -> Iterator[Study]:
    """The study that the flags describe; what is the user's to mend ends the program."""
    launching.begin(argv)
    console = rich.console.Console(soft_wrap=True)
    name = f"{launching.data_name()}-{FLAGS.preset}-{FLAGS.recipe}"
    folder = pathlib.Path(os.path.expanduser(FLAGS.workdir or f"runs/{name}"))
    with launching.exiting_on_errors(folder):
        config = launching.config_from_flags()
        if FLAGS.repeats < 0:
            raise ValueError(f"repeats must be >= 0; got {FLAGS.repeats}")
        repeats = FLAGS.repeats or (10 if FLAGS.preset == "paper" else 3)
        dataset = launching.dataset_from_flags(
            config, lambda text: console.print(f"note: {text}", markup=False, highlight=False)
        )
        seeds = range(config.seed, config.seed + repeats)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"workdir {folder} cannot be used: {error.strerror}; choose another"
            ) from None
        yield Study(config, folder, dataset, seeds, console)


def write_table(
    study: Study, name: str, title: str, rows: Mapping[str, Callable[[Study], Row]]
) -> None:
    """Make the rows that the flags ask for and write them as CSV, Markdown and a picture."""
    if unknown := set(FLAGS.rows) - set(rows):
        raise ValueError(f"rows must be among {', '.join(rows)}; got {', '.join(sorted(unknown))}")
    title = f"{title}, recipe {FLAGS.recipe}"
    made = [row(study) for key, row in rows.items() if key in FLAGS.rows or not FLAGS.rows]
    study.write_csv(name, [record_of(row) for row in made])
    study.write_markdown(name, title, COLUMNS, [cells_of(row) for row in made])
    study.write_figure(name, errors_figure(made, title))


COLUMNS = (
    *("setting", "paper: error %", "paper: hours", "paper: params M"),
    *("error %", "n", "params M", "minutes", "training TFLOPs", "every error %"),
)


def record_of(row: Row) -> dict[str, Any]:
    """A row as numbers: the paper's, then ours; None where there is none."""
    errors = [outcome.error for outcome in row.outcomes]
    paper = row.paper or Paper(None)

    def mean(name: str, unit: float) -> float | None:
        values = [getattr(outcome, name) / unit for outcome in row.outcomes]
        return round(statistics.mean(values), 4) if values else None

    return {
        "setting": row.setting,
        **{f"paper_{name}": value for name, value in paper._asdict().items()},
        "n": len(errors),
        "error_percent": mean("error", 1),
        "error_std": round(statistics.stdev(errors), 4) if len(errors) > 1 else None,
        "params_millions": mean("params", 1e6),
        "minutes": mean("seconds", 60),
        "training_tflops": mean("flops", 1e12),
        "every_error_percent": " ".join(f"{error:.2f}" for error in errors),
    }


def cells_of(row: Row) -> list[str]:
    """A row as text: the paper's numbers, then ours as means, the error's with its deviation."""
    record = record_of(row)

    def cell(name: str, form: str) -> str:
        return "" if record[name] is None else format(record[name], form)

    return [
        row.setting,
        _spread(record["paper_error_percent"], record["paper_error_std"], 1),
        *(cell("paper_hours", "g"), cell("paper_params_millions", "g")),
        _spread(record["error_percent"], record["error_std"], 2) or "not measured",
        *(str(record["n"]), cell("params_millions", ".2f"), cell("minutes", ".1f")),
        *(cell("training_tflops", ",.1f"), record["every_error_percent"]),
    ]


def _spread(mean: float | None, deviation: float | None, digits: int) -> str:
    if mean is None:
        return ""
    return f"{mean:.{digits}f}" + ("" if deviation is None else f" ± {deviation:.2f}")


def errors_figure(rows: Sequence[Row], title: str) -> Figure:
    """A point for every run's test error and a line at the mean, row by row."""
    figure = Figure(figsize=(7.5, 0.9 + 0.5 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        errors = [outcome.error for outcome in row.outcomes]
        axes.plot(errors, [place] * len(errors), "o", color="#3d85c6", alpha=0.7)
        if errors:
            mean = statistics.mean(errors)
            axes.plot([mean, mean], [place - 0.3, place + 0.3], color="#cc4125", linewidth=2)
    names = [
        row.setting + (f" (paper: {row.paper.error_percent}%)" if row.paper else "") for row in rows
    ]
    axes.set_yticks(range(len(rows)), names, fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("test error (%): every run, and the mean")
    axes.set_title(title, fontsize=10)
    axes.grid(axis="x", alpha=0.3)
    return figure
