"""No search: the first network of the space alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from nash_jax.search.strategy import Ask, Keys, Proposal, Strategy, select
from nash_jax.spaces import Space


@dataclasses.dataclass(frozen=True)
class OneNetworkSettings:
    """There is nothing to set."""

    @property
    def num_trials(self) -> Mapping[str, int]:
        """How many trials of each recipe it asks for."""
        return {"pretrain": 1}

    @property
    def num_edits(self) -> int:
        """How many edits the last network has at most."""
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
