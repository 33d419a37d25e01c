"""A ranking of proxies as people and programs read it: Markdown, CSV and a picture."""

from __future__ import annotations

import csv
import io
import math
import pathlib
from collections.abc import Sequence

from matplotlib.figure import Figure

from nash_jax.evaluation import FULL, Ranking, Row
from nash_jax.record.files import write_atomically, writing
from nash_jax.reporting.axes import GRID, INK
from nash_jax.reporting.pictures import BEST, MORPHED, png
from nash_jax.text import markdown_table

#: The files of a ranking.
TABLE_FILE, ROWS_FILE = "rank.md", "rank.csv"
VALUES_FILE, PICTURE_FILE = "values.csv", "rank.png"


def columns(ranking: Ranking) -> list[str]:
    """The titles of the table's columns."""
    return [
        *("proxy", "Spearman", "95% interval", "Kendall's tau-b"),
        *(f"of the best {ranking.top}", "its best is behind by", "seconds", "% of the seconds"),
        *("% of the FLOPs", "compiling, s", "failed"),
    ]


def cells(row: Row) -> list[str]:
    """A row of the table for people; what means nothing is empty."""
    spearman = interval = tau = ""
    if row.spearman is not None and row.tau is not None and row.name != FULL:
        spearman, tau = f"{row.spearman.mean:.3f}", f"{row.tau:.3f}"
        interval = f"{row.spearman.low:.2f} to {row.spearman.high:.2f}"
    shares = [
        "" if math.isnan(share) else f"{100 * share:.1f}"
        for share in (row.seconds_share, row.flops_share)
    ]
    return [
        *(row.name, spearman, interval, tau, f"{row.overlap:.0%}", f"{row.behind:.2f}"),
        *(f"{row.cost.seconds:.0f}", *shares, f"{row.cost.compile_seconds:.0f}"),
        str(row.cost.failed),
    ]


def as_markdown(ranking: Ranking) -> str:
    """The table for people."""
    return markdown_table(columns(ranking), map(cells, ranking.rows))


def write_ranking(ranking: Ranking, workdir: pathlib.Path, about: str) -> None:
    """Write `rank.md`, `rank.csv`, `rank.png`, and `values.csv` with a line for each genotype.

    Args:
      ranking: what to write.
      workdir: a folder, made if it is not there.
      about: how it came about: a paragraph of Markdown.

    Raises:
      WriteError: if a file cannot be written.
    """
    with writing(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
    title = f"# {len(ranking.codes)} genotypes, against {ranking.truth}\n\n"
    text = f"{title}{about}\n\n{as_markdown(ranking)}"
    write_atomically(workdir / TABLE_FILE, text.encode())
    head = ("proxy", "spearman", "low", "high", "tau", "overlap", "behind", "seconds", "flops")
    records: list[Sequence[object]] = [
        (row.name, *(row.spearman or ("", "", "")), row.tau, row.overlap, row.behind, *row.cost)
        for row in ranking.rows
    ]
    _write_csv(workdir / ROWS_FILE, (*head, "compile_seconds", "failed"), records)
    by_genotype = list(zip(ranking.codes, *(v.tolist() for v in ranking.values.values())))
    _write_csv(workdir / VALUES_FILE, ("genotype", *ranking.values), by_genotype)
    write_atomically(workdir / PICTURE_FILE, png(ranking_figure(ranking)))


def _write_csv(
    path: pathlib.Path, head: Sequence[str], records: Sequence[Sequence[object]]
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(records)
    write_atomically(path, text.getvalue().encode())


def ranking_figure(ranking: Ranking) -> Figure:
    """Each proxy's rank correlation with its interval; beside its name, its share of the cost."""
    rows = [row for row in ranking.rows if row.spearman is not None and row.name != FULL]
    figure = Figure(figsize=(7, 1.2 + 0.36 * len(rows)), layout="constrained")
    axes = figure.subplots()
    names = []
    for place, row in enumerate(rows):
        assert row.spearman is not None
        mean, low, high = row.spearman
        axes.plot([low, high], [place, place], color=MORPHED, linewidth=2)
        axes.plot([mean], [place], "o", color=BEST)
        share = "" if math.isnan(row.seconds_share) else f" ({100 * row.seconds_share:.0f}%)"
        names.append(f"{row.name}{share if row.cost.seconds else ' (free)'}")
    axes.set_yticks(range(len(rows)), names, fontsize=9)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_xlim(-1, 1)
    axes.set_xlabel("Spearman's rank correlation with the full training, 95% interval", color=INK)
    axes.set_title(f"{len(ranking.codes)} genotypes; in brackets: share of the seconds", fontsize=9)
    axes.grid(axis="x", color=GRID)
    return figure
