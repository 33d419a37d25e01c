"""Makes the runs of a benchmark, one after the other, and reads them again.

WORKDIR/DATASET/searches/METHOD-seed0/       a search, which ends before the final training
               /networks/METHOD-seed0.json   what it found
               /networks/METHOD-random0.json a random network of the space of METHOD
               /trained-PROTOCOL/...         each network, trained from new weights and tested

All of them are ordinary runs. Methods that have a space and a way to train in common share their
random networks, which have the name of the first of them. What is there was made with the settings,
the data and the networks of now, or is refused.
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from nash_jax.architecture import Architecture, Node, from_json, ops, to_json
from nash_jax.benchmark.plan import Plan, name_in_paths
from nash_jax.benchmark.table import Trained, check_comparable
from nash_jax.data import Dataset
from nash_jax.record.workdir import CONFIG_FILE, check_unchanged
from nash_jax.reporting import RunView
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
from nash_jax.runs.spaces import Start, checksum_of
from nash_jax.spaces import Space

#: Makes a run, or goes on with it: settings, folder, data, and whether it ends with its search.
Perform = Callable[[Config, pathlib.Path, Dataset, bool], Result]
#: Is told what is made next, and what failed.
Say = Callable[[str], None]
#: Loads the data set of some settings, and tells what users should know of it.
Load = Callable[[Config, Say], Dataset]
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


def make(
    plan: Plan, folder: pathlib.Path, perform: Perform, say: Say, load: Load = dataset_of
) -> list[str]:
    """Make all runs that are not there.

    Everything is checked before the first network is trained.

    Args:
      plan: what to make.
      folder: of the benchmark.
      perform: makes a run.
      say: is told what is made next, and what failed.
      load: loads the data of a set.

    Returns:
      What could not be made, a line for each.

    Raises:
      ValueError: for anything wrong with a run's settings or data, or if the folder has a run of
        other settings.
      WriteError: if a run cannot be written.
    """
    failures: list[str] = []
    first, *others = plan.datasets
    for name in others:  # loaded again later: all together may need too much memory
        SetWork(plan, folder, name, lambda text: None, load).check()
    for name in (first, *others):
        work = SetWork(plan, folder, name, say, load)
        work.check()
        for found in work.searches:
            failures += work.trying(functools.partial(work.search, found, perform))
        for protocol in plan.protocols:
            for found in work.networks:
                if work.path(found).exists():  # its search did not fail
                    failures += work.trying(functools.partial(work.train, found, protocol, perform))
    return failures


class SetWork:
    """The runs of a benchmark on one data set."""

    def __init__(self, plan: Plan, folder: pathlib.Path, name: str, say: Say, load: Load) -> None:
        self.plan, self.name, self.say = plan, name, say
        self.folder = folder / name_in_paths(name)
        first = next(iter(plan.methods))
        self.dataset = load(plan.search(first, name, plan.seed), say)
        self._data = self.dataset.fingerprint()
        self._starts: dict[str, Start] = {}
        self._spaces: dict[str, Space] = {}
        for method in plan.methods:
            config = plan.search(method, name, plan.seed)
            self._starts[method] = start = prepare(config, self.dataset).start
            self._spaces[method] = space_of(config, start.spec)
        ways = {
            method: (space, self._trainings(method, pathlib.Path("a network")))
            for method, space in self._spaces.items()
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

    def check(self) -> None:
        """Check the runs that are there, draw the random networks, and check their trainings.

        Raises:
          ValueError: for anything wrong.
        """
        for found in self.searches:
            self.searched(found)
        for found in self.networks:
            for protocol in self.plan.protocols:
                self.trained(found, protocol)
        key = jax.random.fold_in(jax.random.key(self.plan.seed), _DRAWING)
        for found in self.drawn:
            self._draw(found, jax.random.fold_in(key, found.number))
            for config in self._trainings(found.method, self.path(found)):
                prepare(config, self.dataset)

    def search(self, found: Found, perform: Perform) -> None:
        """Search, unless it was done, and keep the architecture of what was found."""
        path = self.path(found)
        if self.searched(found) and path.exists():
            return
        path.unlink(missing_ok=True)  # of a search that is no longer there
        number = 1 + self.searches.index(found)
        self.say(f"{self.name}: search {number} of {len(self.searches)}, {found.name}")
        config = self.plan.search(found.method, self.name, found.number)
        result = perform(config, self._searched_in(found), self.dataset, True)
        self._keep(found, self._network(found.method, result.best.genotype))

    def train(self, found: Found, protocol: str, perform: Perform) -> None:
        """Train a network from new weights, unless it was done, and test it."""
        run = self.trained(found, protocol)
        if run is None or run.final is None:
            config = self.plan.training(found.method, self.name, protocol, self.path(found))
            number = 1 + self.networks.index(found)
            of = f"{number} of {len(self.networks)}"
            self.say(f"{self.name}: training {of}, {protocol}, {found.name}")
            perform(config, self._trained_in(found, protocol), self.dataset, False)

    def searched(self, found: Found) -> RunView | None:
        """A search, if it has begun.

        Raises:
          ValueError: if it is of other settings or data.
        """
        config = self.plan.search(found.method, self.name, found.number)
        return self._run(self._searched_in(found), config, self._starts[found.method].checksum)

    def trained(self, found: Found, protocol: str) -> RunView | None:
        """The run in which a network is trained, if it has begun, and the network is there.

        Raises:
          ValueError: if it is of other settings, data or another network.
        """
        path = self.path(found)
        if not path.exists():
            return None
        config = self.plan.training(found.method, self.name, protocol, path)
        return self._run(self._trained_in(found, protocol), config, checksum_of(path))

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

    def _searched_in(self, found: Found) -> pathlib.Path:
        return self.folder / "searches" / found.name

    def _trained_in(self, found: Found, protocol: str) -> pathlib.Path:
        return self.folder / f"trained-{name_in_paths(protocol)}" / found.name

    def _trainings(self, method: str, network: pathlib.Path) -> list[Config]:
        """How a method's networks are trained by each protocol."""
        plan = self.plan
        return [plan.training(method, self.name, each, network) for each in plan.protocols]

    def _run(self, workdir: pathlib.Path, config: Config, network: str) -> RunView | None:
        """The run in a folder; None if there is none.

        Raises:
          ValueError: if it has other settings or data, or another first network.
        """
        if not (workdir / CONFIG_FILE).exists():
            return None
        run, settings = read_run(workdir), settings_of(config)
        contents = {"data": self._data} | ({"network": network} if network else {})
        check_unchanged(
            f"run in {workdir}",
            {**settings.defaults, **run.about},
            {**settings.values, **contents},
            "; or remove the folder, and it is made anew",
        )
        return run

    def _draw(self, found: Found, key: jax.Array) -> None:
        """Draw a random network, unless it is there."""
        genotype, path = self._spaces[found.method].sample(key), self.path(found)
        spec = self._network(found.method, genotype)
        if path.exists():
            if from_json(path.read_text()) == spec:
                return
            for protocol in self.plan.protocols:
                if (workdir := self._trained_in(found, protocol)).exists():
                    raise ValueError(
                        f"random networks must be of the space that is searched; {path} is not; "
                        f"choose another workdir, or remove {workdir}, and it is made anew"
                    )
        self._keep(found, spec)

    def _network(self, method: str, genotype: Any) -> Architecture:
        """The final architecture of a genotype.

        Pixels are normalised as in all networks here: each search has training images of its own.
        """
        spec = self._spaces[method].build(genotype, "final")
        first, *rest = spec.nodes
        normalize = self._starts[method].spec.nodes[0].op
        if isinstance(first.op, ops.Normalize) and isinstance(normalize, ops.Normalize):
            nodes = (Node(first.name, normalize, first.inputs), *rest)
            spec = Architecture(spec.input_shape, nodes)
        return spec

    def _keep(self, found: Found, spec: Architecture) -> None:
        """Write an architecture."""
        path = self.path(found)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, to_json(spec).encode())


def trained_in(
    plan: Plan, folder: pathlib.Path, say: Say, load: Load = dataset_of
) -> list[Trained]:
    """The networks of a benchmark that were trained so far.

    Args:
      plan: of the benchmark.
      folder: likewise.
      say: is told what is found of the data.
      load: loads the data of a set.

    Raises:
      ValueError: if a run is damaged or of other settings, or the data cannot be read.
    """
    rows = []
    for name in plan.datasets:
        work = SetWork(plan, folder, name, say, load)
        for protocol in plan.protocols:
            for found in work.networks:
                run = work.trained(found, protocol)
                search = None if found.drawn else work.searched(found)
                if run is None or run.final is None or not (found.drawn or search):
                    continue
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
