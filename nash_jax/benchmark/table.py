"""The tables of a benchmark: relative improvement over random networks, with intervals."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nash_jax.evaluation import (
    Interval,
    improvement_interval,
    paired_interval,
    relative_improvement,
    runs_to_separate,
    superiority,
)
from nash_jax.text import markdown_table, mean_and_deviation


class Trained(NamedTuple):
    """A network that was trained and tested.

    Attributes:
      dataset: on which set.
      protocol: by which protocol.
      method: that found it, or of whose space it was drawn.
      drawn: whether it was drawn at random.
      number: seed of the search; of a random network, its number.
      random: the method that its random networks are named after.
      space: that was searched.
      accuracy: on the test images, in [0, 1].
      params: its parameters.
      search_seconds: what the search took; 0 of a random network.
      train_seconds: what its training took.
    """

    dataset: str
    protocol: str
    method: str
    drawn: bool
    number: int
    random: str
    space: str
    accuracy: float
    params: int
    search_seconds: float
    train_seconds: float


class Row(NamedTuple):
    """A method on a set, beside random networks.

    Attributes:
      dataset: the set.
      protocol: of the trainings.
      method: its name.
      space: what it searched.
      random: the method that its random networks are named after.
      found: test accuracies of what it found, by seed, in percent.
      drawn: those of the random networks, in percent.
      params: mean parameters of what it found.
      search_seconds: mean seconds of a search.
    """

    dataset: str
    protocol: str
    method: str
    space: str
    random: str
    found: dict[int, float]
    drawn: list[float]
    params: float
    search_seconds: float

    @property
    def improvement(self) -> float | None:
        """Relative improvement in percent; None where a side has no run."""
        if not self.found or not self.drawn:
            return None
        return relative_improvement([*self.found.values()], self.drawn)

    @property
    def interval(self) -> Interval | None:
        """The improvement's 95% interval; None for fewer than two runs on a side."""
        if min(len(self.found), len(self.drawn)) < 2:
            return None
        return improvement_interval([*self.found.values()], self.drawn)

    @property
    def superiority(self) -> float | None:
        """How often what it found is better than a random network; None where a side has none."""
        if not self.found or not self.drawn:
            return None
        return superiority([*self.found.values()], self.drawn)

    @property
    def separating(self) -> int | None:
        """How many runs of each side would tell the two apart: see `runs_to_separate`."""
        if min(len(self.found), len(self.drawn)) < 2:
            return None
        return runs_to_separate([*self.found.values()], self.drawn)


def rows_of(trained: Sequence[Trained]) -> list[Row]:
    """A row for every set, protocol and method that found something, in this order."""
    rows: dict[tuple[str, str, str], list[Trained]] = {}
    for each in trained:
        if not each.drawn:
            rows.setdefault((each.dataset, each.protocol, each.method), []).append(each)
    return [
        Row(
            *place,
            space=found[0].space,
            random=found[0].random,
            found={each.number: 100 * each.accuracy for each in found},
            drawn=[
                100 * each.accuracy
                for each in trained
                if each.drawn
                and (each.dataset, each.protocol) == place[:2]
                and each.method == found[0].random
            ],
            params=statistics.mean(each.params for each in found),
            search_seconds=statistics.mean(each.search_seconds for each in found),
        )
        for place, found in rows.items()
    ]


COLUMNS = (
    *("method", "space", "random %", "found %", "RI %", "95% interval"),
    *("runs to tell apart", "better in", "params", "search s"),
)


def markdown(trained: Sequence[Trained], against: str = "") -> str:
    """The tables as Markdown: one for every set and protocol, and one of all sets.

    Args:
      trained: the networks.
      against: a method that the others of its space are compared with, seed by seed.

    Raises:
      ValueError: if there is no such method, or a method searches another space or is trained
        otherwise.
    """
    rows = rows_of(trained)
    if against:
        spaces = {row.method: row.space for row in rows}
        check_comparable(against, {row.method: row.random for row in rows}, spaces)
    parts = []
    for dataset, protocol in dict.fromkeys((row.dataset, row.protocol) for row in rows):
        here = [row for row in rows if (row.dataset, row.protocol) == (dataset, protocol)]
        compared = [f"minus {against}"] if against else []
        cells = [[*_cells(row), *([_minus(row, here, against)] if against else [])] for row in here]
        table = markdown_table([*COLUMNS, *compared], cells)
        parts.append(f"### {dataset}, {protocol}\n\n{table}")
    for protocol in dict.fromkeys(row.protocol for row in rows):
        here = [row for row in rows if row.protocol == protocol]
        sets = list(dict.fromkeys(row.dataset for row in here))
        methods = dict.fromkeys(row.method for row in here)
        of = {(row.method, row.dataset): row for row in here}
        cells = [[m, *(_improvement(of.get((m, name))) for name in sets)] for m in methods]
        parts.append(f"### RI %, {protocol}\n\n{markdown_table(['', *sets], cells)}")
    return "\n".join(parts)


def check_comparable(against: str, random: Mapping[str, str], spaces: Mapping[str, str]) -> None:
    """Raises `ValueError` unless all methods have the random networks of one of them.

    Args:
      against: that method.
      random: by method, the one that its random networks are named after.
      spaces: by method, its space.
    """
    if against not in random:
        raise ValueError(f"against must be one of {', '.join(random)}; got {against!r:.80}")
    for method, like in random.items():
        if like != random[against]:
            differs = (
                f"{spaces[method]} and {spaces[against]}"
                if spaces[method] != spaces[against]
                else "their sizes or trainings differ"
            )
            raise ValueError(
                "methods share a column only if they search one space and what they find is "
                f"trained alike; got {method} and {against}: {differs}; leave against out, and "
                "compare their relative improvements"
            )


def as_csv(trained: Sequence[Trained]) -> str:
    """A line for every network."""
    text = io.StringIO()
    writer = csv.DictWriter(text, Trained._fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(each._asdict() for each in trained)
    return text.getvalue()


def _cells(row: Row) -> list[str]:
    interval, separating = row.interval, row.separating
    return [
        row.method,
        row.space,
        _spread(row.drawn),
        _spread([*row.found.values()]),
        _improvement(row),
        f"{interval.low:+.2f} to {interval.high:+.2f}" if interval else "",
        "" if interval is None else "very many" if separating is None else f"{separating:,}",
        "" if row.superiority is None else f"{row.superiority:.0%}",
        f"{row.params:,.0f}",
        f"{row.search_seconds:,.0f}",
    ]


def _minus(row: Row, others: Sequence[Row], against: str) -> str:
    """The mean difference to another method on the same seeds, with its 95% interval."""
    other = next((each for each in others if each.method == against), None)
    seeds = [seed for seed in row.found if other and seed in other.found]
    if other is None or row.method == against or len(seeds) < 2:
        return ""
    mine, theirs = ([each.found[seed] for seed in seeds] for each in (row, other))
    mean, low, high = paired_interval(mine, theirs)
    return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


def _improvement(row: Row | None) -> str:
    improvement = None if row is None else row.improvement
    return "" if improvement is None else f"{improvement:+.2f}"


def _spread(values: Sequence[float]) -> str:
    """`97.03 ± 0.23 (8)`: mean, deviation and number."""
    return f"{mean_and_deviation(values)} ({len(values)})" if values else ""
