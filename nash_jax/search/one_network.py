"""No search: the first network of the space alone."""

from __future__ import annotations

import dataclasses

from nash_jax.search.strategy import Ask, Keys, Planned, Proposal, Strategy, select
from nash_jax.spaces import Space


@dataclasses.dataclass(frozen=True)
class OneNetworkSettings:
    """There is nothing to set."""

    @property
    def plan(self) -> list[Planned]:
        """What it asks for."""
        return [Planned("pretrain", 1)]

    def num_edits(self, sampled: int) -> int:
        """There are none."""
        del sampled
        return 0

    @property
    def num_at_once(self) -> int:
        """How many trials can be made side by side."""
        return 1

    def phase(self, step: int) -> str:
        """What a round of it is, for people."""
        del step
        return "pretraining"


def one_network(space: Space, settings: OneNetworkSettings, keys: Keys) -> Strategy:
    """The space's first network, trained.

    Args:
      space: says which network.
      settings: none.
      keys: of the run.
    """
    del settings
    asked = Proposal("model_0", space.start, keys.pretrain, recipe="pretrain")
    return [select((yield Ask([asked])))]
