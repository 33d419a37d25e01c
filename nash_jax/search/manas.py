"""MANAS: each edge of a supernet is a bandit (Carlucci, Esperança, Singh et al. 2019)."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, cast

from nash_jax.checks import check_word
from nash_jax.search.darts import derived_network
from nash_jax.search.strategy import Keys, Strategy
from nash_jax.search.supernets import DerivingSettings

#: How an edge learns: by EXP3, or by a linear model of the loss (MANAS-LS).
CREDITS = ("exp3", "least_squares")


@dataclasses.dataclass(frozen=True)
class ManasSettings(DerivingSettings):
    """How bandits learn; the training is DARTS's.

    Attributes:
      credit: how choices are credited: exp3, or least_squares (MANAS-LS).
    """

    credit: str = "exp3"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_word("credit", self.credit, CREDITS)

    @property
    def rule(self) -> Literal["exp3", "least_squares"]:
        """What decides the path of each update."""
        return cast(Literal["exp3", "least_squares"], self.credit)


def manas(space: Any, settings: ManasSettings, keys: Keys) -> Strategy:
    """Train paths that bandits draw; train the network that they favour anew.

    Args:
      space: what is searched; it has a supernet.
      settings: of the training.
      keys: of the run.
    """
    del settings  # they are in the recipe
    return derived_network(space, keys)
