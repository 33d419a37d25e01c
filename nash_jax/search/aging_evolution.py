"""Regularized evolution, in which the oldest dies (Real, Aggarwal, Huang and Le 2019)."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from nash_jax.checks import check_least, check_word
from nash_jax.search.strategy import (
    AllFailedError,
    Ask,
    Keys,
    Planned,
    Proposal,
    Strategy,
    Trial,
    numbered_keys,
    ranked,
    select,
)
from nash_jax.spaces import CROSSOVERS, Space

#: Which network is removed for a child: the paper removes the oldest, usual evolution the worst.
DIES = ("oldest", "worst")


@dataclasses.dataclass(frozen=True)
class AgingEvolutionSettings:
    """The sizes of Algorithm 1 of Real et al.; the defaults are the paper's.

    Attributes:
      num_samples: networks that are tried, the first population among them (C).
      population: networks in the population (P).
      tournament: draws, with replacement, of which the best becomes a parent (S).
      mutations: random changes that make a child of its parent.
      dies: which network is removed from the population for a child: oldest, or worst.
      crossover: share of the children that are made of two parents, in spaces that can cross
        genotypes, before they are mutated; Real et al. have none.
      crossover_kind: how: uniform, by nodes; one_point or two_point, between nodes; ops_one_point
        or ops_two_point, between ops, where the first parent's inputs stay.
      window: networks that are trained at a time. The result depends on it, but, unless trials
        count by arrival, not on the number of workers: take at least 3 for each of them.
    """

    num_samples: int = 20_000
    population: int = 100
    tournament: int = 25
    mutations: int = 1
    dies: str = "oldest"
    crossover: float = 0.0
    crossover_kind: str = "uniform"
    window: int = 8

    def __post_init__(self) -> None:
        check_least(self, num_samples=1, population=1, tournament=1, mutations=1, window=1)
        if self.tournament > self.population:
            raise ValueError(
                f"tournament must be at most population, {self.population}; got {self.tournament}"
            )
        check_word("dies", self.dies, DIES)
        check_word("crossover_kind", self.crossover_kind, CROSSOVERS)
        if not 0 <= self.crossover <= 1:
            raise ValueError(f"crossover must be in [0, 1]; got {self.crossover}")

    @property
    def plan(self) -> list[Planned]:
        """What it asks for."""
        first = min(self.population, self.num_samples)
        return [Planned("scratch", first), Planned("brief", self.num_samples - first)]

    def num_edits(self, sampled: int) -> int:
        """Over how many edits the size of networks may grow: those of the first population."""
        return sampled

    @property
    def num_at_once(self) -> int:
        """How many trials can be made side by side."""
        return min(self.window, self.population, self.num_samples)

    def phase(self, step: int) -> str:
        """What a round of it is, for people."""
        del step
        return f"evolution of {self.num_samples} networks"


def aging_evolution(space: Space, settings: AgingEvolutionSettings, keys: Keys) -> Strategy:
    """Real et al. 2019, Algorithm 1; asynchronous, as they ran it.

    The first population is drawn at random and trained from scratch. A child begins with its
    parent's weights, where its edits can carry them. A network that failed never enters the
    population.

    Args:
      space: what is searched.
      settings: the sizes.
      keys: of the run.
    """
    draw_key_of, train_key_of = (
        numbered_keys(key, settings.num_samples) for key in jax.random.split(keys.search)
    )
    rng = np.random.default_rng(np.asarray(jax.random.key_data(keys.search)).ravel())
    population: list[Trial] = []  # from the oldest to the youngest
    history: list[Trial] = []

    crossing: Any = space
    if settings.crossover and not hasattr(getattr(space, "space", space), "crossover"):
        raise ValueError(
            f"crossover must be 0 in a space that cannot cross genotypes; got {settings.crossover}"
        )

    def winner() -> Trial:
        drawn = rng.integers(len(population), size=settings.tournament)
        return select([population[index] for index in drawn])

    def propose(number: int) -> Proposal:
        draw_key, key = draw_key_of(number), train_key_of(number)
        if number < settings.population:
            return Proposal(f"sample{number + 1}", space.sample(draw_key), key, recipe="scratch")
        if not population:
            raise AllFailedError(history)
        parent = winner()
        genotype = parent.genotype
        if settings.crossover and rng.random() < settings.crossover:
            draw_key, cross_key = jax.random.split(draw_key)
            other = winner().genotype
            genotype = crossing.crossover(genotype, other, cross_key, settings.crossover_kind)
        genotype, edits = space.mutate(genotype, draw_key, settings.mutations)
        return Proposal(f"child{number + 1}", genotype, key, parent.name, edits)

    num_out, num_proposed = settings.num_at_once, 0
    best: list[Trial] = []
    dropped: dict[str, str] = {}
    while len(history) < settings.num_samples:
        until = min(len(history) + num_out, settings.num_samples)
        asked = [propose(number) for number in range(num_proposed, until)]
        num_proposed = until
        incumbent = best[0].name if best else None
        told = yield Ask(asked, num_out - 1, incumbent, dropped=dropped)
        dropped = {}
        for trial in told:
            history.append(trial)
            if trial.failed:
                continue
            best = ranked([*best, trial])[:1]
            population.append(trial)
            if len(population) > settings.population:
                dies = population[0] if settings.dies == "oldest" else ranked(population)[-1]
                population.remove(dies)
                dropped[dies.name] = f"the {settings.dies} when {trial.name} came"
    return ranked(history)
