"""DARTS: gradient descent on a relaxed architecture (Liu, Simonyan and Yang, ICLR 2019)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax

from nash_jax.estimation import Recipe
from nash_jax.search.strategy import Ask, Keys, Planned, Proposal, Strategy, select
from nash_jax.search.supernets import SupernetSettings
from nash_jax.training.bilevel import EdgeSettings, Order


@dataclasses.dataclass(frozen=True)
class DartsSettings(SupernetSettings):
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
        _ = self.edges  # checks its own fields

    @property
    def edges(self) -> EdgeSettings:
        """How the edges are trained."""
        return EdgeSettings(
            cast(Order, self.order),
            lr=self.edge_lr,
            weight_decay=self.edge_weight_decay,
            frozen_epochs=self.frozen_epochs,
        )

    def recipes(self, others: Mapping[str, Recipe]) -> dict[str, Recipe]:
        """As of all supernets, but with logits of edges that are trained."""
        found = super().recipes(others)
        return {**found, "supernet": dataclasses.replace(found["supernet"], edges=self.edges)}

    @property
    def plan(self) -> Sequence[Planned]:
        """What it asks for."""
        return [Planned("supernet", 1), Planned("scratch", 1)]

    def phase(self, step: int) -> str:
        """What a round of it is, for people."""
        return "the supernet" if step == 0 else "the derived network"


def darts(space: Any, settings: DartsSettings, keys: Keys) -> Strategy:
    """Train a supernet and its edges at once; train the network that the edges favour anew.

    Args:
      space: what is searched; it has a supernet.
      settings: of the training.
      keys: of the run.
    """
    del settings  # they are in the recipe
    supernet_key, derived_key = jax.random.split(keys.search)
    asked = Proposal("supernet", space.whole(), supernet_key, recipe="supernet")
    supernet = select((yield Ask([asked])))
    weights = {edge: history[-1] for edge, history in supernet.estimate.edges.items()}
    genotype = space.derive(weights)
    derived = Proposal("derived", genotype, derived_key, "supernet", recipe="scratch")
    return [select((yield Ask([derived], alive={"supernet"})))]
