"""Figures 3 and 10 of "NAS evaluation is frustratingly hard" (Yang et al. 2020): protocols.

  python -m experiments.protocols --space=darts --dataset=tfds:cifar10 --resnet50=64
  python -m experiments.protocols --space=darts --dataset=npz:cifar10-16.npz --genotypes=4 \
      --channels=8 --cells=4 --epochs_final=20 --batch_size=64 --crop_padding=2

Random genotypes of a space of cells, the same under every protocol, are trained on all training
images and tested, without any search; and so is ResNet-50, each time with another seed. Where
epochs, channels or images are fewer than the paper's (600, 36, 32x32 pixels), a protocol's tricks
are smaller too: see `runs.protocols.scaled`. `--rows` chooses protocols.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
from absl import flags
from matplotlib.figure import Figure

from experiments.study import Study, run, study_from_flags
from experiments.tables import spread, statistics_of
from nash_jax.runs import prepare, protocols, space_of
from nash_jax.spaces import Bounded, Choices

FLAGS = flags.FLAGS
flags.DEFINE_integer(
    "resnet50", 0, "also ResNet-50, with so many channels in its first bottlenecks (64); 0: not", 0
)

TITLE = "Training protocols"
#: Mean test accuracies of 8 random genotypes of DARTS in the paper's data, in percent.
PAPER = dict(
    zip(
        protocols.NAMES,
        (94.96, 95.04, 95.93, 96.39, 96.84, 97.00, 97.24, 97.31, 97.65, 97.87),
    )
)
COLUMNS = (
    *("protocol", "networks", "paper: accuracy %", "accuracy %", "lowest", "highest", "n"),
    *("minutes of each", "every accuracy %"),
)


@dataclasses.dataclass(frozen=True)
class Networks:
    """A kind of networks, all of which are trained under every protocol.

    Attributes:
      name: in the table.
      each: the settings of every network, by the name that its runs have.
      seeds: of every network.
      of_tricks: what a trick of a protocol sets besides, for these networks.
      without: the trick that they have no place for, if there is one.
    """

    name: str
    each: Mapping[str, Mapping[str, Any]]
    seeds: Sequence[int]
    of_tricks: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    without: str = ""

    def settings(self, study: Study, network: str, protocol: str) -> dict[str, Any]:
        """All that differs from the study's settings in the runs of a network under a protocol."""
        values = study.config.values()
        settings = {"strategy": "one_network", "epochs_pretrain": 0, **self.each[network]}
        settings |= protocols.scaled(
            protocol,
            epochs=values["epochs_final"],
            channels=values["channels"],
            edge=study.dataset.image_shape[1],
        )
        for trick in protocol.split("+"):
            settings |= self.of_tricks.get(trick, {})
        if "first" in settings:  # the network of the search is that of the end
            channels = settings.get("channels", values["channels"])
            settings |= {"search_channels": channels, "search_cells": values["cells"]}
        return settings


def numbers(study: Study) -> range:
    """Of the networks of each kind; the paper has 8."""
    return range(study.config.seed, study.config.seed + (FLAGS.genotypes or 8))


def cells(study: Study) -> Networks:
    """Random genotypes of the study's space."""
    data, settings = study.dataset, study.config.space
    model_0 = settings.start(data.image_shape, data.num_classes, None).spec
    bounded = space_of(study.config, model_0)
    assert isinstance(bounded, Bounded)
    assert isinstance(bounded.space, Choices)
    each = {}
    for number in numbers(study):
        code = bounded.space.code(bounded.sample(jax.random.key(number)))
        each[f"genotype{number}"] = {"first": code}
    return Networks(study.config.values()["space"], each, study.seeds(papers=1))


def resnet50(study: Study) -> Networks:
    """ResNet-50 with several seeds, as many as there are genotypes."""
    name = f"resnet50-{FLAGS.resnet50}"
    return Networks(
        name,
        {name: {"space": "morphs", "model_0": name}},
        seeds=numbers(study),
        of_tricks={"D": {"drop_path_by_depth": True}},  # stochastic depth
        without="50C",
    )


def check(study: Study, plan: Sequence[tuple[Networks, str]]) -> None:
    """Raises `ValueError` if networks cannot be trained under a protocol; nothing is trained."""
    for networks, protocol in plan:
        settings = networks.settings(study, next(iter(networks.each)), protocol)
        try:
            prepare(study.config.replace(**settings), study.dataset)
        except ValueError as error:
            raise ValueError(
                f"protocol {protocol} for {networks.name}: {error}; or choose protocols, as in "
                "--rows=base,C"
            ) from None


class Row(NamedTuple):
    """What a kind of networks gave under a protocol.

    Attributes:
      protocol: its name.
      networks: the name of the kind.
      accuracies: on the test images, in percent, of the runs of every network.
      minutes: of a run, in the mean; None without any run.
      paper: the mean accuracy in the paper, if it has one of this kind.
    """

    protocol: str
    networks: str
    accuracies: Mapping[str, Sequence[float]]
    minutes: float | None
    paper: float | None

    @property
    def every(self) -> list[float]:
        """The accuracies of all runs."""
        return [each for several in self.accuracies.values() for each in several]

    @property
    def mean(self) -> float:
        """Of the accuracies of all runs."""
        return statistics.mean(self.every)


def row_of(study: Study, networks: Networks, protocol: str) -> Row:
    """Make the runs of a row that are not there."""
    views, accuracies = [], {}
    for network in networks.each:
        name, settings = f"{protocol}-{network}", networks.settings(study, network, protocol)
        made = [view for seed in networks.seeds for view in study.run(name, seed, **settings)]
        views += made
        accuracies[network] = [100 - study.outcome(view).error for view in made]
    minutes, _ = statistics_of([view.seconds / 60 for view in views])
    paper = PAPER[protocol] if networks.name == "darts" else None
    return Row(protocol, networks.name, accuracies, minutes, paper)


def record_of(row: Row) -> dict[str, Any]:
    """A row as numbers; accuracies in percent."""
    mean, deviation = statistics_of(row.every)
    return {
        "protocol": row.protocol,
        "networks": row.networks,
        "paper_accuracy_percent": row.paper,
        "accuracy_percent": mean,
        "accuracy_std": deviation,
        "lowest": min(row.every, default=None),
        "highest": max(row.every, default=None),
        "n": len(row.every),
        "minutes": row.minutes,
        "every_accuracy_percent": " ".join(f"{each:.2f}" for each in row.every),
    }


def cells_of(row: Row) -> list[str]:
    """A row as text."""
    record = record_of(row)

    def cell(name: str, digits: int = 2) -> str:
        return "" if record[name] is None else f"{record[name]:.{digits}f}"

    return [
        *(row.protocol, row.networks, cell("paper_accuracy_percent")),
        spread(record["accuracy_percent"], record["accuracy_std"]) or "not measured",
        *(cell("lowest"), cell("highest"), str(record["n"]), cell("minutes", 1)),
        record["every_accuracy_percent"],
    ]


def spreads(rows: Sequence[Row]) -> list[str]:
    """For each kind of networks: how far protocols are apart, and the runs of one protocol."""
    lines = []
    for name in dict.fromkeys(row.networks for row in rows):
        found = [row for row in rows if row.networks == name and len(row.every) > 1]
        if len(found) < 2:
            continue
        found.sort(key=lambda row: row.mean)
        means = [row.mean for row in found]
        ranges = [max(row.every) - min(row.every) for row in found]
        deviations = [statistics.stdev(row.every) for row in found]
        lines.append(
            f"{name}: the means of {len(found)} protocols are {means[-1] - means[0]:.2f} points "
            f"apart ({found[0].protocol} to {found[-1].protocol}), with a deviation of "
            f"{statistics.stdev(means):.2f}; the runs of one protocol {min(ranges):.2f} to "
            f"{max(ranges):.2f} points, with deviations of {min(deviations):.2f} to "
            f"{max(deviations):.2f}, in the median {statistics.median(deviations):.2f}."
        )
    return lines


def figure_of(rows: Sequence[Row], title: str) -> Figure:
    """The accuracy of every run by protocol: a line for each network, a bar at each mean."""
    names = list(dict.fromkeys(row.protocol for row in rows))
    kinds = list(dict.fromkeys(row.networks for row in rows))
    figure = Figure(figsize=(8, 1.2 + 0.45 * len(names)), layout="constrained")
    axes = figure.subplots()
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        kind = kinds.index(row.networks)
        place = names.index(row.protocol) + 0.25 * kind
        for network, accuracies in row.accuracies.items():
            points.setdefault(network, []).extend((each, place) for each in accuracies)
        if row.every:
            ends = [place - 0.12, place + 0.12]
            axes.plot([row.mean] * 2, ends, color=("black", "#cc4125")[kind], linewidth=3)
    several = {network for row in rows for network in row.accuracies if len(row.accuracies) > 1}
    for network, found in points.items():
        style = "-o" if network in several else "s"
        x, y = [each for each, _ in found], [place for _, place in found]
        axes.plot(x, y, style, markersize=4, linewidth=0.7, alpha=0.7, label=network)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel("test accuracy (%): every run, and the mean of each protocol")
    axes.set_title(title, fontsize=9)
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize=7)
    return figure


def main(argv: list[str]) -> None:
    recipe = FLAGS.recipe
    FLAGS["recipe"].value = "base"
    with study_from_flags(argv, protocols.NAMES) as study:
        if FLAGS["recipe"].present and recipe != "base":
            raise ValueError(f"recipe must be left out: every row has its own; got {recipe}")
        space = study.config.values()["space"]
        if "search_channels" not in study.config.values():
            raise ValueError(f"space must be one of two cells; got {space}; give --space=darts")
        names = [name for name in protocols.NAMES if name in FLAGS.rows or not FLAGS.rows]
        kinds = [cells(study), *([resnet50(study)] if FLAGS.resnet50 else [])]
        plan = [
            (kind, protocol)
            for kind in kinds
            for protocol in names
            if kind.without not in protocol.split("+")
        ]
        check(study, plan)
        rows = [row_of(study, kind, protocol) for kind, protocol in plan]
        # Some rows get files of their own, so that they do not overwrite the whole table.
        name = "-".join(["protocols", *(names if len(names) < len(protocols.NAMES) else ())])
        title = study.titled(TITLE)
        study.write_csv(name, [record_of(row) for row in rows])
        study.write_markdown(name, title, COLUMNS, [cells_of(row) for row in rows])
        study.write(f"{name}-spreads", ".md", "".join(f"{x}\n" for x in spreads(rows)).encode())
        study.write_figure(name, figure_of(rows, title))


if __name__ == "__main__":
    run(main)
