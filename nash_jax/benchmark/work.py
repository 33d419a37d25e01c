"""Makes the runs of a benchmark, one after the other, and reads them again.

WORKDIR/DATASET/searches/METHOD-seed0/       a search, which ends before the final training
               /networks/METHOD-seed0.json   what it found
               /networks/METHOD-random0.json a random network of the space of METHOD
               /trained-PROTOCOL/...         each network, trained from new weights and tested

All of them are ordinary runs. Methods that have a space and a way to train in common share their
random networks, which have the name of the first of them.
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from nash_jax.architecture import Architecture, Node, ops, to_json
from nash_jax.benchmark.plan import Plan, name_in_paths
from nash_jax.benchmark.table import Trained, check_comparable
from nash_jax.data import Dataset
from nash_jax.record.settings import KNOWN_BY
from nash_jax.record.workdir import CONFIG_FILE
from nash_jax.runs import (
    Config,
    Result,
    StoppedError,
    dataset_of,
    prepare,
    read_run,
    settings_of,
    space_of,
    write_atomically,
)
from nash_jax.spaces import Space

#: Makes a run, or goes on with it: settings, folder, data, and whether it ends with its search.
Perform = Callable[[Config, pathlib.Path, Dataset, bool], Result]
#: Is told what is made next, and what failed.
Say = Callable[[str], None]
#: Random networks are drawn by keys of their own.
_DRAWING = 2**32 - 1


class Found(NamedTuple):
    """A network of a benchmark.

    Attributes:
      method: that found it, or of whose space it was drawn.
      number: seed of the search; of a random network, its number.
      drawn: whether it was drawn at random.
    """

    method: str
    number: int
    drawn: bool

    @property
    def name(self) -> str:
        """In paths."""
        return f"{name_in_paths(self.method)}-{'random' if self.drawn else 'seed'}{self.number}"


def make(plan: Plan, folder: pathlib.Path, perform: Perform, say: Say) -> list[str]:
    """Make all runs that are not there.

    Everything is checked before the first network of a set is trained.

    Args:
      plan: what to make.
      folder: of the benchmark.
      perform: makes a run.
      say: is told what is made next, and what failed.

    Returns:
      What could not be made, a line for each.

    Raises:
      ValueError: for anything wrong with a run's settings or data, or if the folder has a run of
        other settings.
      WriteError: if a run cannot be written.
    """
    failures: list[str] = []
    for name in plan.datasets:
        work = SetWork(plan, folder, name, say)
        work.draw()
        for found in work.searches:
            failures += work.trying(functools.partial(work.search, found, perform))
        for protocol in plan.protocols:
            for found in work.networks:
                if work.path(found).exists():  # its search did not fail
                    failures += work.trying(functools.partial(work.train, found, protocol, perform))
    return failures


class SetWork:
    """The runs of a benchmark on one data set."""

    def __init__(self, plan: Plan, folder: pathlib.Path, name: str, say: Say) -> None:
        self.plan, self.name, self.say = plan, name, say
        self.folder = folder / name_in_paths(name)
        first = next(iter(plan.methods))
        self.dataset = dataset_of(plan.search(first, name, plan.seed), say)
        self.spaces = {method: self._space(method) for method in plan.methods}
        ways = {
            method: (space, self._training(method, pathlib.Path("a network")))
            for method, (space, _) in self.spaces.items()
        }
        #: By method, the first one with the same space, and the same trainings.
        self.like = {m: next(n for n in ways if ways[n] == ways[m]) for m in ways}
        seeds = range(plan.seed, plan.seed + plan.seeds)
        self.searches = [Found(m, seed, drawn=False) for m in plan.methods for seed in seeds]
        firsts = dict.fromkeys(self.like.values())
        self.drawn = [Found(m, n, drawn=True) for m in firsts for n in range(plan.num_random)]
        self.networks = [*self.searches, *self.drawn]
        if plan.against:
            spaces = {m: str(plan.search(m, name, plan.seed).values()["space"]) for m in self.like}
            check_comparable(plan.against, self.like, spaces)

    def draw(self) -> None:
        """Draw the random networks that are not there, and check how they are trained."""
        key = jax.random.fold_in(jax.random.key(self.plan.seed), _DRAWING)
        for found in self.drawn:
            if not self.path(found).exists():
                space, _ = self.spaces[found.method]
                self._keep(found, space.sample(jax.random.fold_in(key, found.number)))
            for config in self._training(found.method, self.path(found)):
                prepare(config, self.dataset)

    def search(self, found: Found, perform: Perform) -> None:
        """Search, unless it was done, and keep the architecture of what was found."""
        config = self.plan.search(found.method, self.name, found.number)
        workdir = self.folder / "searches" / found.name
        if not (self.path(found).exists() and _is_of(workdir, config, self.dataset)):
            number = 1 + self.searches.index(found)
            self.say(f"{self.name}: search {number} of {len(self.searches)}, {found.name}")
            result = perform(config, workdir, self.dataset, True)
            self._keep(found, result.best.genotype)

    def train(self, found: Found, protocol: str, perform: Perform) -> None:
        """Train a network from new weights, unless it was done, and test it."""
        config = self.plan.training(found.method, self.name, protocol, self.path(found))
        workdir = self.workdir(found, protocol)
        if not (_is_of(workdir, config, self.dataset) and read_run(workdir).final):
            number = 1 + self.networks.index(found)
            of = f"{number} of {len(self.networks)}"
            self.say(f"{self.name}: training {of}, {protocol}, {found.name}")
            perform(config, workdir, self.dataset, False)

    def trying(self, act: Callable[[], None]) -> list[str]:
        """Do something; what failed, if anything did."""
        try:
            act()
        except StoppedError as error:
            self.say(f"given up: {error}")
            return [f"{self.name}: {error}"]
        return []

    def path(self, found: Found) -> pathlib.Path:
        """The file of a network's architecture."""
        return self.folder / "networks" / f"{found.name}.json"

    def workdir(self, found: Found, protocol: str) -> pathlib.Path:
        """Where a network is trained."""
        return self.folder / f"trained-{name_in_paths(protocol)}" / found.name

    def _space(self, method: str) -> tuple[Space, ops.Op]:
        """A method's space, and its network's first op."""
        config = self.plan.search(method, self.name, self.plan.seed)
        start = prepare(config, self.dataset).model_0
        return space_of(config, start), start.nodes[0].op

    def _training(self, method: str, network: pathlib.Path) -> list[Config]:
        """How a method's networks are trained by each protocol."""
        plan = self.plan
        return [plan.training(method, self.name, each, network) for each in plan.protocols]

    def _keep(self, found: Found, genotype: Any) -> None:
        """Write the final architecture of a genotype.

        Pixels are normalised as in all networks here: each search has training images of its own.
        """
        space, normalize = self.spaces[found.method]
        spec = space.build(genotype, "final")
        first, *rest = spec.nodes
        if isinstance(first.op, ops.Normalize) and isinstance(normalize, ops.Normalize):
            nodes = (Node(first.name, normalize, first.inputs), *rest)
            spec = Architecture(spec.input_shape, nodes)
        path = self.path(found)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, to_json(spec).encode())


def _is_of(workdir: pathlib.Path, config: Config, dataset: Dataset) -> bool:
    """Whether a folder has a run of these settings and data; else it is made, or refused."""
    if not (workdir / CONFIG_FILE).exists():
        return False
    run = read_run(workdir)
    before, now = (settings_of(each).given for each in (run.config, config))
    same = {n: x for n, x in before.items() if n not in KNOWN_BY} == {
        n: x for n, x in now.items() if n not in KNOWN_BY
    }
    return same and run.about.get("data") == dataset.fingerprint()


def trained_in(plan: Plan, folder: pathlib.Path, say: Say) -> list[Trained]:
    """The networks of a benchmark that were trained so far.

    Args:
      plan: of the benchmark.
      folder: likewise.
      say: is told what is found of the data.

    Raises:
      ValueError: if a run is damaged, or the data cannot be read.
    """
    rows = []
    for name in plan.datasets:
        work = SetWork(plan, folder, name, say)
        for protocol in plan.protocols:
            for found in work.networks:
                workdir = work.workdir(found, protocol)
                run = read_run(workdir) if (workdir / CONFIG_FILE).exists() else None
                if run is None or run.final is None:
                    continue
                search = None if found.drawn else read_run(work.folder / "searches" / found.name)
                rows.append(
                    Trained(
                        dataset=name,
                        protocol=protocol,
                        method=found.method,
                        drawn=found.drawn,
                        number=found.number,
                        random=work.like[found.method],
                        space=str(plan.search(found.method, name, plan.seed).values()["space"]),
                        accuracy=run.final.estimate.accuracy,
                        params=run.final.params,
                        search_seconds=search.seconds if search else 0.0,
                        train_seconds=run.seconds,
                    )
                )
    return rows
