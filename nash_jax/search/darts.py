"""DARTS: gradient descent on a relaxed architecture (Liu, Simonyan and Yang, ICLR 2019)."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import jax

from nash_jax.search.strategy import Ask, Keys, Proposal, Strategy, select
from nash_jax.search.supernets import DerivingSettings
from nash_jax.training.bilevel import EdgeSettings, Order


@dataclasses.dataclass(frozen=True)
class DartsSettings(DerivingSettings):
    """Algorithm 1 of Liu et al.; the defaults are theirs.

    Attributes:
      order: of the gradient of the edges: first, second (through a step of the weights) or finite
        (the same by their finite difference).
      edge_lr: learning rate of the edges, by Adam.
      edge_weight_decay: L2 factor of the edges' logits.
      frozen_epochs: epochs at the beginning in which the edges stay as they are.
    """

    order: str = "second"
    edge_lr: float = 3e-4
    edge_weight_decay: float = 1e-3
    frozen_epochs: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.rule  # checks its own fields

    @property
    def rule(self) -> EdgeSettings:
        """How the edges are trained."""
        return EdgeSettings(
            cast(Order, self.order),
            lr=self.edge_lr,
            weight_decay=self.edge_weight_decay,
            frozen_epochs=self.frozen_epochs,
        )


def darts(space: Any, settings: DartsSettings, keys: Keys) -> Strategy:
    """Train a supernet and its edges at once; train the network that the edges favour anew.

    Args:
      space: what is searched; it has a supernet.
      settings: of the training.
      keys: of the run.
    """
    del settings  # they are in the recipe
    return derived_network(space, keys)


def derived_network(space: Any, keys: Keys) -> Strategy:
    """A supernet, and the network that its edges favour."""
    supernet_key, derived_key = jax.random.split(keys.search)
    asked = Proposal("supernet", space.whole(), supernet_key, recipe="supernet")
    supernet = select((yield Ask([asked])))
    weights = {edge: history[-1] for edge, history in supernet.estimate.edges.items()}
    derived = Proposal("derived", space.derive(weights), derived_key, "supernet", recipe="scratch")
    return [select((yield Ask([derived], alive={"supernet"})))]
