"""The study of a search space in Yang et al. 2020, section 5: how much do architectures differ?

python -m experiments.space_study --curves=FILE.npz --workdir=W
python -m experiments.space_study --dataset=npz:cifar10.npz --space=darts --epochs_final=600 \
    --genotypes=32 --repeats=2 --depths=8 --others=suboptimal --workdir=W

The first reads learning curves of a file (its columns: `experiments/space_columns.py`). The second
trains random genotypes of a space: --repeats seeds of each, all in one program, the same with other
numbers of cells, and others of other spaces; it goes on where it was stopped, and writes such a
file, `study.npz`. Accuracies are those of the validation images: the test set is not looked at.

Both write `space_study.md` and `.csv`, and pictures like the paper's figures 4 to 9.
"""

from __future__ import annotations

import csv
import datetime
import io
import itertools
import os
import pathlib
import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import rich.console
from absl import flags

from experiments import space_columns, space_figures, space_trainings
from experiments.space_columns import Columns
from experiments.study import run, study_from_flags
from nash_jax import launching
from nash_jax.evaluation import correlations_with_end, kendall_tau, place_changes
from nash_jax.record.files import write_atomically, writing
from nash_jax.reporting.pictures import png

FLAGS = flags.FLAGS
NAME, COLUMNS_FILE = "space_study", "study.npz"
#: The epochs whose accuracies are shown, as parts of a training; of 600: 10, 50, 100 to 600.
PARTS = (1 / 60, 1 / 12, 1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1)

flags.DEFINE_string("curves", None, "npz file of learning curves to study; nothing is trained")
flags.DEFINE_list("depths", [], "other numbers of cells to train the same genotypes with")
flags.DEFINE_list("others", [], "other spaces to compare with, such as suboptimal")
flags.DEFINE_integer("smoothing", 0, "epochs of the moving mean; 0: a thirtieth, at least 2", 0)


class Figure(NamedTuple):
    """One figure of the study: of which part, what, and where (an epoch, a set, a pair)."""

    part: str
    what: str
    where: str
    value: float


def shown_epochs(epochs: int) -> list[int]:
    """The epochs whose accuracies are shown.

    >>> shown_epochs(600)
    [10, 50, 100, 200, 300, 400, 500, 600]
    """
    return sorted({max(1, round(part * epochs)) for part in PARTS})


def window_for(epochs: int, asked: int = 0) -> int:
    """The window of the smoothed correlation: 20 of 600 epochs, as the paper's.

    Raises:
      ValueError: if it is longer than the training.
    """
    if asked > epochs:
        raise ValueError(f"smoothing must be at most the {epochs} epochs; got {asked}")
    return asked or max(2, round(epochs / 30))


def measured(columns: Columns, window: int) -> Iterator[Figure]:
    """All figures of a study."""
    for name, curves in columns.curves.items():
        for what, values in (("last epoch", curves[:, -1]), ("best epoch", curves.max(axis=1))):
            for statistic in ("mean", "std", "min", "max"):
                value = float(getattr(np, statistic)(values))
                yield Figure(f"{what}: {statistic}", "accuracy %", f"{name}: {len(values)}", value)
    curves = next(iter(columns.curves.values()))
    for width in dict.fromkeys((1, window)):
        found = correlations_with_end(curves, width)
        for epoch, value in enumerate(found.tolist(), start=1):
            yield Figure("correlation with the end", f"window {width}", str(epoch), value)
    for cells, of_cells in sorted(columns.cells.items()):
        for statistic in ("mean", "std"):
            value = float(getattr(np, statistic)(of_cells[:, -1]))
            yield Figure(f"cells: {statistic}", "accuracy %", f"{cells}: {len(of_cells)}", value)
    for where, pairs in _pairs(columns).items():
        for what, values in _changes(pairs).items():
            yield Figure("order", what, where, values)


def _pairs(columns: Columns) -> dict[str, list[np.ndarray]]:
    """Values of the same networks, `[n, 2]`: by what is compared, each pair of it."""
    found = {}
    for name, values in columns.seeds.items():
        several = itertools.combinations(range(values.shape[1]), 2)
        label = f"{values.shape[1]} seeds of {len(values)}"
        found[f"{name}: {label}"] = [values[:, p] for p in several]
    for (few, many), values in columns.depths.items():
        found[f"{few} and {many} cells: {len(values)}"] = [values]
    return found


def _changes(pairs: Sequence[np.ndarray]) -> dict[str, float]:
    """How orders and accuracies change; means over all pairs, except the largest."""
    differences = np.array([abs(a - b) for a, b in (pair.T for pair in pairs)])
    shifts = [float(abs(place_changes(*pair.T)).max()) for pair in pairs]
    return {
        "Kendall's tau-b": float(np.mean([kendall_tau(*pair.T) for pair in pairs])),
        "mean difference": float(differences.mean()),
        "deviation of differences": float(differences.std()),
        "largest difference": float(differences.max()),
        "largest shift": max(shifts),
    }


def as_markdown(figures: Sequence[Figure], epochs: Sequence[int]) -> str:
    """The tables for people."""
    lines = ["| networks | mean ± deviation | lowest | highest | ... of each one's best epoch |"]
    lines.append("|---" * 5 + "|")
    values = {(f.part, f.what, f.where): f.value for f in figures}
    sets = dict.fromkeys(f.where for f in figures if f.part == "last epoch: mean")
    for name in sets:

        def cell(what: str, name: str = name) -> str:
            mean, std, low, high = (
                values[f"{what}: {statistic}", "accuracy %", name]
                for statistic in ("mean", "std", "min", "max")
            )
            return f"{mean:.3f} ± {std:.3f} | {low:.2f} | {high:.2f}"

        best = cell("best epoch").split(" | ")
        lines.append(f"| {name} | {cell('last epoch')} | {best[0]}, {best[1]} to {best[2]} |")
    widths = dict.fromkeys(f.what for f in figures if f.part == "correlation with the end")
    lines += ["", f"| correlation with the end, after epoch | {' | '.join(map(str, epochs))} |"]
    lines.append("|---" * (len(epochs) + 1) + "|")
    for width in widths:
        row = [values["correlation with the end", width, str(epoch)] for epoch in epochs]
        lines.append(f"| {width} | {' | '.join(f'{value:.3f}' for value in row)} |")
    if cells := dict.fromkeys(f.where for f in figures if f.part == "cells: mean"):
        lines += ["", "| cells: networks | accuracy % |", "|---|---|"]
        for where in cells:
            mean, std = (values[f"cells: {s}", "accuracy %", where] for s in ("mean", "std"))
            lines.append(f"| {where} | {mean:.3f} ± {std:.3f} |")
    if pairs := dict.fromkeys(f.where for f in figures if f.part == "order"):
        whats = dict.fromkeys(f.what for f in figures if f.part == "order")
        lines += ["", f"| the same networks | {' | '.join(whats)} |", "|---" * 6 + "|"]
        for where in pairs:
            row = [values["order", what, where] for what in whats]
            lines.append(f"| {where} | {' | '.join(f'{value:.3f}' for value in row)} |")
    return "\n".join(lines) + "\n"


def study(columns: Columns, folder: pathlib.Path, about: str, smoothing: int = 0) -> str:
    """Write tables and pictures of a study; give its tables.

    Args:
      columns: what was measured.
      folder: for the files, made if it is not there.
      about: how it came about: a paragraph of Markdown.
      smoothing: epochs of the moving mean; 0: a thirtieth.

    Raises:
      ValueError: if there are fewer epochs than that.
      WriteError: if a file cannot be written.
    """
    epochs = next(iter(columns.curves.values())).shape[1]
    window = window_for(epochs, smoothing)
    figures = [*measured(columns, window)]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    text = as_markdown(figures, shown_epochs(epochs))
    write_atomically(folder / f"{NAME}.md", f"# A search space\n\n{about}\n\n{text}".encode())
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(Figure._fields)
    writer.writerows(figures)
    write_atomically(folder / f"{NAME}.csv", table.getvalue().encode())
    for name, figure in space_figures.figures(columns, shown_epochs(epochs), window).items():
        write_atomically(folder / f"{name}.png", png(figure))
    return text


def main(argv: list[str]) -> None:
    command = shlex.join(["python", *sys.orig_argv[1:]])
    when = f"`{command}`, {datetime.date.today().isoformat()}"
    if FLAGS.curves:
        launching.begin(argv)
        folder = pathlib.Path(os.path.expanduser(FLAGS.workdir or f"runs/{NAME}"))
        with launching.exiting_on_errors(folder):
            columns = space_columns.read(pathlib.Path(os.path.expanduser(FLAGS.curves)))
            text = study(columns, folder, f"{when}, of {FLAGS.curves}.", FLAGS.smoothing)
        rich.console.Console(soft_wrap=True).print(text, markup=False, highlight=False)
        return
    with study_from_flags(argv) as made:
        if not all(word.isdecimal() for word in FLAGS.depths):
            raise ValueError(f"depths must be whole numbers like 4,8; got {','.join(FLAGS.depths)}")
        depths, seeds = [*map(int, FLAGS.depths)], made.repeats or 2
        genotypes = FLAGS.genotypes or 16
        if genotypes < 3:
            raise ValueError(f"genotypes must be >= 3, for their order; got {genotypes}")
        arrays = space_trainings.trained_columns(made, genotypes, seeds, depths, FLAGS.others)
        space_columns.write(made.folder / COLUMNS_FILE, arrays)
        data = f"data {made.dataset.name}, fingerprint {made.dataset.fingerprint()}"
        about = f"{when}, on {space_trainings.machines(made.folder)}; {data}."
        columns = space_columns.columns_of(arrays, COLUMNS_FILE)
        text = study(columns, made.folder, about, FLAGS.smoothing)
        made.console.print(text, markup=False, highlight=False)


if __name__ == "__main__":
    run(main)
