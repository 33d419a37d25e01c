"""Neural architecture search by hill climbing (NASH, Algorithm 1)."""

from __future__ import annotations

import dataclasses

import jax

from nash_jax.checks import check_least
from nash_jax.morphisms import Edit
from nash_jax.search.strategy import Ask, Keys, Planned, Proposal, Strategy, Trial, select
from nash_jax.spaces import Space


@dataclasses.dataclass(frozen=True)
class HillClimbingSettings:
    """The sizes of Algorithm 1; the defaults are the paper's.

    Attributes:
      num_steps: hill climbing steps (n_steps).
      num_neighbours: children per step, the current best among them (n_neigh). With 1 there is no
        selection: the only child is morphed and taken; these are the paper's random networks.
      num_morphisms: edits per child (n_NM).
    """

    num_steps: int = 5
    num_neighbours: int = 8
    num_morphisms: int = 5

    def __post_init__(self) -> None:
        check_least(self, num_steps=0, num_neighbours=1, num_morphisms=1)

    @property
    def plan(self) -> list[Planned]:
        """What it asks for."""
        return [Planned("pretrain", 1), Planned("brief", self.num_steps * self.num_neighbours)]

    def num_edits(self, sampled: int) -> int:
        """Over how many edits the size of networks may grow: those of the last network."""
        del sampled
        return self.num_steps * self.num_morphisms

    @property
    def num_at_once(self) -> int:
        """How many trials can be made side by side."""
        return self.num_neighbours

    def phase(self, step: int) -> str:
        """What a round of it is, for people."""
        return f"step {step} of {self.num_steps}" if step else "pretraining"


def hill_climbing(space: Space, settings: HillClimbingSettings, keys: Keys) -> Strategy:
    """NASH, Algorithm 1: the best child of the current best becomes the next current best.

    Args:
      space: what is searched.
      settings: the sizes.
      keys: of the run.
    """
    best = select((yield Ask([Proposal("model_0", space.start, keys.pretrain, recipe="pretrain")])))
    for step in range(1, settings.num_steps + 1):
        children = [
            child(space, best, keys.search, step, number, settings)
            for number in range(1, settings.num_neighbours + 1)
        ]
        best = select((yield Ask(children, incumbent=best.name, alive={best.name})))
    return [best]


def child(
    space: Space,
    best: Trial,
    key: jax.Array,
    step: int,
    number: int,
    settings: HillClimbingSettings,
) -> Proposal:
    """A neighbour of the current best: Algorithm 1, lines 13, 14 and 19.

    Each but the last is the current best with `num_morphisms` random edits; the last is the current
    best itself. Taken literally, Algorithm 1 would morph nothing with one neighbour; but the
    paper's random networks need morphed children, so an only child is morphed here.

    Args:
      space: what is searched.
      best: the current best.
      key: of the whole search; besides it, a child's key depends only on step and number.
      step: from 1.
      number: of the child in its step, from 1.
      settings: the sizes.
    """
    draw_key, child_key = jax.random.split(
        jax.random.fold_in(jax.random.fold_in(key, step - 1), number)
    )
    genotype, edits = best.genotype, tuple[Edit, ...]()
    if number < max(settings.num_neighbours, 2):
        done = (step - 1) * settings.num_morphisms
        genotype, edits = space.mutate(genotype, draw_key, settings.num_morphisms, done)
    return Proposal(f"step{step}-child{number}", genotype, child_key, best.name, edits)
