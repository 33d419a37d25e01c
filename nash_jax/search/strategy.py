"""What a strategy is: a generator that asks for trials, is told of them, and returns the best.

A strategy decides what is tried next; it neither trains nor writes anything. A run is replayed from
its seed, so a strategy has no state that must be saved: what it asks for depends only on its
arguments and on the trials that it was told of.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import numpy as np

from nash_jax.architecture import Architecture, Variables, count_flops, count_params
from nash_jax.estimation import Estimate, Metric, Recipe
from nash_jax.morphisms import Edit
from nash_jax.spaces import Space


class Proposal(NamedTuple):
    """What a strategy asks for.

    Attributes:
      name: unique in the run; letters, digits, `_`, `-` and `.`.
      genotype: a point of the space.
      key: for everything random in growing and training it.
      parent: the trial whose weights it may take.
      edits: the edits of the parent's genotype that made this one, if edits made it.
      recipe: how it is estimated: a name that the run knows.
      budget: epochs of this training; None: as many as the recipe has.
    """

    name: str
    genotype: Any
    key: jax.Array
    parent: str | None = None
    edits: tuple[Edit, ...] = ()
    recipe: str = "brief"
    budget: float | None = None


#: An architecture, or what builds it when somebody looks.
Deferred: TypeAlias = Architecture | Callable[[], Architecture]


def resolved(network: Deferred) -> Architecture:
    """The architecture."""
    return network if isinstance(network, Architecture) else network()


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """A proposal with its outcome.

    Attributes:
      proposal: what was asked for; its key as the numbers that it consists of, which `jax.random`
        takes as well.
      network: the architecture that was trained, or what builds it: see `spec`.
      estimate: its scores.
      step: the round of the strategy in which it was asked for, from 0.
      index: the number of its proposal in that round, from 0.
      elapsed: seconds of the run until it was done, without the time between a stop and a resume.
      workers: how many trials could be made at a time.
      variables: its trained weights, in a run's result; a strategy is told of trials without them.
      metric: what the search climbs.
      place: the node of a cluster on which it was made; empty for this machine.
    """

    proposal: Proposal
    network: Deferred
    estimate: Estimate
    step: int = 0
    index: int = 0
    elapsed: float = 0.0
    workers: int = 1
    variables: Variables | None = None
    metric: Metric = "accuracy"
    place: str = ""

    @property
    def spec(self) -> Architecture:
        """The architecture that was trained."""
        return resolved(self.network)

    @property
    def name(self) -> str:
        return self.proposal.name

    @property
    def genotype(self) -> Any:
        return self.proposal.genotype

    @property
    def parent(self) -> str | None:
        return self.proposal.parent

    @property
    def edits(self) -> tuple[Edit, ...]:
        return self.proposal.edits

    @property
    def recipe(self) -> str:
        return self.proposal.recipe

    @property
    def failed(self) -> bool:
        return bool(self.estimate.failure)

    @property
    def accuracy(self) -> float | None:
        """On the images it was judged on (for recipe 'final' the test set); None if it failed."""
        return None if self.failed else self.estimate.accuracy

    @property
    def score(self) -> float:
        """What the search climbs: the larger the better."""
        return self.estimate.score(self.metric)

    @functools.cached_property
    def params(self) -> int:
        return count_params(self.spec)

    @functools.cached_property
    def flops(self) -> int:
        return count_flops(self.spec)


#: Recipes of what a run trains after its search: model_0 to compare with, and the final network.
AFTER = ("baseline", "final")
#: Recipes of trials that have the whole machine.
ALONE = ("pretrain", *AFTER)


def epochs_in_all(trial: Trial, trials: Mapping[str, Trial], recipes: Mapping[str, Recipe]) -> int:
    """Epochs that a trial's weights were trained for, also as those of the trials before it.

    Args:
      trial: the trial.
      trials: by name; a parent that is not there ends the way back.
      recipes: of the run; with weights 'nothing' a training begins anew.
    """
    epochs, seen = 0, set[str]()
    while trial.name not in seen:
        seen.add(trial.name)
        epochs += len(trial.estimate.train_losses)
        recipe, parent = recipes.get(trial.recipe), trials.get(trial.parent or "")
        if parent is None or (recipe is not None and recipe.weights == "nothing"):
            break
        trial = parent
    return epochs


class Ask(NamedTuple):
    """What a strategy yields.

    Attributes:
      proposals: to be tried, beside earlier ones that are not done yet.
      leave: how many of the trials that were asked for stay out of the answer: the youngest, in the
        order of their proposals, or by arrival those that are not done; 0: the answer has all. If
        the answer would have none and there are no new proposals, it has all too.
      incumbent: the trial that is the best so far; it is recorded, and reports take it from there.
      alive: trials whose weights may still be wanted; None: all but those that were dropped.
        Parents of trials that are not done yet are kept in any case.
      dropped: trials that will not be looked at again, each with the reason, for people; it is
        recorded, and reports take it from there. If `alive` is None, their weights are let go.
    """

    proposals: Sequence[Proposal]
    leave: int = 0
    incumbent: str | None = None
    alive: Collection[str] | None = None
    dropped: Mapping[str, str] = MappingProxyType({})


#: Yields asks, is sent trials, and returns trials, the best first.
Strategy: TypeAlias = Generator[Ask, Sequence[Trial], Sequence[Trial]]


class Planned(NamedTuple):
    """Trials of one kind that a strategy will ask for.

    Attributes:
      recipe: the recipe of each.
      number: how many there are.
      budget: epochs of each; None: as many as the recipe has.
    """

    recipe: str
    number: int
    budget: float | None = None


class StrategySettings(Protocol):
    """What a run must know of a strategy's settings, a frozen dataclass."""

    @property
    def plan(self) -> Sequence[Planned]:
        """What it asks for, if all goes well."""

    def num_edits(self, sampled: int) -> int:
        """Over how many edits the bounds rise; a network drawn at random has `sampled` edits."""

    @property
    def num_at_once(self) -> int:
        """How many trials can be made side by side."""

    def phase(self, step: int) -> str:
        """What a round of it is, for people."""


class Keys(NamedTuple):
    """The random keys of a run's parts."""

    init: jax.Array
    pretrain: jax.Array
    search: jax.Array
    final: jax.Array


def numbered_keys(key: jax.Array, num: int) -> Callable[[int], jax.Array]:
    """The keys that `jax.random.split(key, num)` has, by number.

    To index the array of keys takes ten times as long.

    >>> key = jax.random.key(0)
    >>> bool(numbered_keys(key, 3)(2) == jax.random.split(key, 3)[2])
    True
    """
    data = np.asarray(jax.random.key_data(jax.random.split(key, num)))
    implementation = jax.random.key_impl(key)
    return lambda number: jax.random.wrap_key_data(data[number], impl=implementation)


class AllFailedError(Exception):
    """A strategy cannot go on, because all trials that it would choose from failed.

    Attributes:
      trials: the trials that failed.
    """

    def __init__(self, trials: Sequence[Trial]) -> None:
        super().__init__(f"all of {', '.join(trial.name for trial in trials)} failed")
        self.trials = tuple(trials)


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that did not fail, the best score first (validation accuracy, unless set).

    Small validation sets make ties: among equals, the smaller validation loss comes first, then the
    earlier proposal.

    Raises:
      AllFailedError: if all failed.
    """
    good = [trial for trial in trials if not trial.estimate.failure]
    if not good:
        raise AllFailedError(trials)

    def performance(trial: Trial) -> tuple[float, float]:
        loss = trial.estimate.loss
        return trial.score, -loss if math.isfinite(loss) else -math.inf

    return sorted(good, key=performance, reverse=True)  # equals keep their order


def select(trials: Sequence[Trial]) -> Trial:
    """The best of some trials: see `ranked`."""
    return ranked(trials)[0]


def simulate(
    space: Space,
    strategy: Strategy,
    estimate: Callable[[Proposal], Estimate],
    build: Callable[[Any], Any] | None = None,
) -> Iterator[Trial]:
    """The trials of a strategy under estimates that are made up: nothing is trained.

    Args:
      space: what the strategy searches.
      strategy: a strategy that has not begun.
      estimate: gives the estimate of a proposal.
      build: gives the network of a genotype, where nobody looks at it; by default the space does.

    Returns:
      The trials, in the order of their proposals, to the end of the strategy.
    """
    ask, step = next(strategy), 0
    out: collections.deque[Trial] = collections.deque()
    with contextlib.suppress(StopIteration):
        while True:
            for index, proposal in enumerate(ask.proposals):
                genotype = proposal.genotype
                spec = build(genotype) if build else space.build(genotype, "search")
                out.append(Trial(proposal, spec, estimate(proposal), step, index))
                yield out[-1]
            told = [out.popleft() for _ in range(num_due(ask, len(out)))]
            ask, step = strategy.send(told), step + 1


def num_due(ask: Ask, out: int) -> int:
    """How many trials the answer to an ask has when `out` are unanswered."""
    return out if ask.leave >= out and not ask.proposals else max(0, out - ask.leave)
