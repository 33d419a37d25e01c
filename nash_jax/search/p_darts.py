"""P-DARTS: supernets that grow deeper while their edges lose choices (Chen et al., ICCV 2019)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import numpy as np

from nash_jax.architecture import EdgeWeights
from nash_jax.checks import check_least
from nash_jax.estimation import Recipe
from nash_jax.search.strategy import Ask, Keys, Planned, Proposal, Strategy, select
from nash_jax.search.supernets import SupernetSettings
from nash_jax.spaces import Darts, Edge, Genotype, Supernet
from nash_jax.training.bilevel import EdgeSettings

SKIP = "skip_connect"
#: Choices of an edge of DARTS's supernet, none among them.
ALL = 8


@dataclasses.dataclass(frozen=True)
class PDartsSettings(SupernetSettings):
    """The stages of Chen et al.; every stage trains its weights and edges anew.

    Where they drop single values behind a skip, an image's whole map is dropped here.

    Attributes:
      supernet_epochs: epochs of each stage.
      supernet_batch_size: images per update.
      supernet_lr_end: learning rate at the end.
      stage_cells: cells of the supernet of each stage.
      stage_choices: choices that each edge has in each stage, none among them.
      stage_drops: how often a skip is dropped in each stage at most, in percent.
      edge_lr: learning rate of the edges, by Adam.
      edge_weight_decay: L2 factor of the edges' logits.
      frozen_epochs: epochs at the beginning in which the edges stay as they are.
      max_skips: skips that the normal cell has at the end, at most.
    """

    #: What it can search.
    SPACES: ClassVar[type[Darts]] = Darts

    supernet_epochs: int = 25
    supernet_batch_size: int = 96
    supernet_lr_end: float = 0.0
    stage_cells: tuple[int, ...] = (5, 11, 17)
    stage_choices: tuple[int, ...] = (8, 5, 3)
    stage_drops: tuple[int, ...] = (0, 40, 70)
    edge_lr: float = 6e-4
    edge_weight_decay: float = 1e-3
    frozen_epochs: int = 10
    max_skips: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, max_skips=0)
        _ = self.rule  # checks its own fields
        for name, rule, least, most in (
            ("stage_cells", "whole numbers >= 3", 3, 10**6),
            ("stage_choices", "whole numbers >= 2", 2, 10**6),
            ("stage_drops", "whole numbers from 0 to 99", 0, 99),
        ):
            values = getattr(self, name)
            if len(values) != len(self.stage_cells) or not values:
                raise ValueError(
                    f"{name} must have a number for each stage, {len(self.stage_cells)} as "
                    f"stage_cells; got {list(values)}"
                )
            if min(values) < least or max(values) > most:
                raise ValueError(f"{name} must be {rule}; got {list(values)}")

        falling = sorted(self.stage_choices, reverse=True)
        if self.stage_choices[0] != ALL or falling != list(self.stage_choices):
            raise ValueError(
                f"stage_choices must begin with all {ALL} and never rise; got "
                f"{list(self.stage_choices)}"
            )

    @property
    def rule(self) -> EdgeSettings:
        """How the edges are trained: to first order."""
        return EdgeSettings(
            "first",
            lr=self.edge_lr,
            weight_decay=self.edge_weight_decay,
            clip_norm=self.supernet_clip_norm,
            frozen_epochs=self.frozen_epochs,
        )

    def recipes(self, others: Mapping[str, Recipe]) -> dict[str, Recipe]:
        """A recipe for each stage: they differ in how often skips are dropped."""
        supernet = super().recipes(others)["supernet"]
        return {
            f"supernet{stage}": dataclasses.replace(
                supernet, training=dataclasses.replace(supernet.training, drop_path=drops / 100)
            )
            for stage, drops in enumerate(self.stage_drops, start=1)
        }

    @property
    def plan(self) -> Sequence[Planned]:
        """What it asks for."""
        stages = range(1, len(self.stage_cells) + 1)
        return [*(Planned(f"supernet{stage}", 1) for stage in stages), Planned("scratch", 1)]

    def phase(self, step: int) -> str:
        """What a round of it is, for people."""
        stages = len(self.stage_cells)
        return f"stage {step + 1} of {stages}" if step < stages else "the derived network"


def p_darts(space: Any, settings: PDartsSettings, keys: Keys) -> Strategy:
    """Train deeper and deeper supernets, each with the choices that weighed most in the one before.

    Args:
      space: what is searched: DARTS's cells.
      settings: of the stages.
      keys: of the run.
    """
    *stage_keys, derived_key = jax.random.split(keys.search, len(settings.stage_cells) + 1)
    supernet, weights = space.whole(), dict[str, np.ndarray]()
    for stage, key in enumerate(stage_keys, start=1):
        if weights:
            supernet = strongest(supernet, weights, settings.stage_choices[stage - 1])
        cells = settings.stage_cells[stage - 1]
        supernet = dataclasses.replace(supernet, cells=cells, drops_skips=True)
        asked = Proposal(f"stage{stage}", supernet, key, recipe=f"supernet{stage}")
        trained = select((yield Ask([asked], alive=())))
        weights = {e: np.array(history[-1]) for e, history in trained.estimate.edges.items()}
    genotype = with_few_skips(space, weights, supernet, settings.max_skips)
    derived = Proposal("derived", genotype, derived_key, trained.name, recipe="scratch")
    return [select((yield Ask([derived], alive=())))]


def strongest(supernet: Supernet, weights: EdgeWeights, num: int) -> Supernet:
    """The supernet whose edges have their `num` choices of most weight, in their order."""
    edges = []
    for name, choices in supernet.edges:
        order = np.argsort(-np.asarray(weights[name]), kind="stable")
        kept = sorted(order[:num].tolist())
        edges.append(Edge(name, tuple(choices[place] for place in kept)))
    return dataclasses.replace(supernet, edges=tuple(edges))


def with_few_skips(space: Any, weights: EdgeWeights, left: Supernet, most: int) -> Genotype:
    """The genotype that is derived when the weakest skips of the normal cell weigh nothing.

    As many lose their weight, one after the other, as there are too many.
    """
    weights = {edge: np.array(each) for edge, each in weights.items()}
    while True:
        genotype: Genotype = space.derive(weights, left)
        chosen = space.sharing.chosen(genotype)
        skips = [e for e, op in chosen.items() if e.startswith("normal") and op == SKIP]
        if len(skips) <= most:
            return genotype
        place = {edge: ops.index(SKIP) for edge, ops in left.edges if SKIP in ops}
        heavy = [e for e in skips if e in place and weights[e][place[e]] > 0]
        if not heavy:  # the edges have nothing else, or nothing else keeps the bounds
            return genotype
        weakest = min(heavy, key=lambda edge: weights[edge][place[edge]])
        weights[weakest][place[weakest]] = 0.0
