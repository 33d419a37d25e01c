"""Random search: networks drawn at random, of which the best is taken (Li and Talwalkar 2019)."""

from __future__ import annotations

import dataclasses
import math

import jax

from nash_jax.checks import check_least
from nash_jax.search.strategy import Ask, Keys, Planned, Proposal, Strategy, Trial, ranked
from nash_jax.spaces import Space


@dataclasses.dataclass(frozen=True)
class RandomSearchSettings:
    """The size of a random search.

    Attributes:
      num_samples: networks that are tried.
    """

    num_samples: int = 40

    def __post_init__(self) -> None:
        check_least(self, num_samples=1)

    @property
    def plan(self) -> list[Planned]:
        """What it asks for."""
        return [Planned("scratch", self.num_samples)]

    def num_edits(self, sampled: int) -> int:
        """Over how many edits the size of networks may grow: those of a random network."""
        return sampled

    @property
    def num_at_once(self) -> int:
        """How many trials can be made side by side."""
        return self.num_samples

    def phase(self, step: int) -> str:
        """What a round of it is, for people."""
        del step
        return f"{self.num_samples} random networks"


def random_search(space: Space, settings: RandomSearchSettings, keys: Keys) -> Strategy:
    """Networks drawn at random, each trained from scratch.

    Args:
      space: what is searched.
      settings: the size.
      keys: of the run.
    """
    draw_key, train_key = jax.random.split(keys.search)
    draws, trainings = (
        jax.random.split(key, settings.num_samples) for key in (draw_key, train_key)
    )
    samples = [
        Proposal(f"sample{number}", space.sample(draw), key, recipe="scratch")
        for number, (draw, key) in enumerate(zip(draws, trainings), start=1)
    ]
    # The trials come in up to a hundred parts, so that the best so far is known during the search.
    part = math.ceil(len(samples) / 100)
    trials: list[Trial] = []
    best: list[Trial] = []
    ask = Ask(samples, leave=len(samples) - part)
    while len(trials) < len(samples):
        new = yield ask
        trials += new
        best = ranked([*best, *new])[:1] if any(not t.failed for t in [*best, *new]) else []
        left = max(0, len(samples) - len(trials) - part)
        ask = Ask((), left, best[0].name if best else None, {trial.name for trial in best})
    return ranked(trials)
