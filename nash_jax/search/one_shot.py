"""One-shot search: paths that are drawn train a supernet, and its weights judge the networks.

Random search with weight sharing (Li and Talwalkar 2019, section 4.2), or single paths sampled
uniformly (Guo et al. 2020) without their evolution.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax

from nash_jax.checks import check_least
from nash_jax.search.strategy import Ask, Keys, Planned, Proposal, Strategy, ranked, select
from nash_jax.search.supernets import SupernetSettings


@dataclasses.dataclass(frozen=True)
class OneShotSettings(SupernetSettings):
    """The sizes of a one-shot search; epochs and samples are those of Yang et al. 2020.

    Attributes:
      supernet_epochs: epochs of the supernet.
      num_samples: networks that are judged by its weights.
      num_retrained: the best of them, which are then trained from scratch.
    """

    supernet_epochs: int = 250
    num_samples: int = 100
    num_retrained: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, num_samples=1, num_retrained=1)

    @property
    def plan(self) -> Sequence[Planned]:
        """What it asks for."""
        retrained = min(self.num_retrained, self.num_samples)
        return [
            Planned("supernet", 1),
            Planned("shared", self.num_samples),
            Planned("scratch", retrained),
        ]

    @property
    def num_at_once(self) -> int:
        """How many trials can be made side by side: those that are trained from scratch."""
        return min(self.num_retrained, self.num_samples)

    def phase(self, step: int) -> str:
        """What a round of it is, for people."""
        judged = f"{self.num_samples} networks with its weights"
        return ("the supernet", judged, "the best of them")[min(step, 2)]


def one_shot(space: Any, settings: OneShotSettings, keys: Keys) -> Strategy:
    """Train drawn paths of a supernet, judge networks by it, and train the best of them anew.

    Args:
      space: what is searched; it has a supernet.
      settings: the sizes.
      keys: of the run.
    """
    supernet_key, draw_key, judge_key, train_key = jax.random.split(keys.search, 4)
    asked = Proposal("supernet", space.whole(), supernet_key, recipe="supernet")
    select((yield Ask([asked])))
    draws = jax.random.split(draw_key, settings.num_samples)
    samples = [
        Proposal(f"sample{number}", space.sample(draw), judge_key, "supernet", recipe="shared")
        for number, draw in enumerate(draws, start=1)
    ]
    best = ranked((yield Ask(samples)))[: settings.num_retrained]
    trainings = [
        Proposal(f"retrained{number}", trial.genotype, key, trial.name, recipe="scratch")
        for number, (trial, key) in enumerate(
            zip(best, jax.random.split(train_key, len(best))), start=1
        )
    ]
    return ranked((yield Ask(trainings, alive=())))
