"""StacNAS: groups of similar ops first, then the op within each (Li, Zhang, Wang et al. 2019)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax

from nash_jax.estimation import Recipe
from nash_jax.search.strategy import Ask, Keys, Planned, Proposal, Strategy, select
from nash_jax.search.supernets import SupernetSettings
from nash_jax.spaces import Darts, Genotype, Supernet
from nash_jax.training.bilevel import EdgeSettings

#: Ops whose outputs are much alike, and so would share an edge's weight; the first stands for all.
GROUPS = (
    ("max_pool_3x3", "avg_pool_3x3"),
    ("skip_connect",),
    ("sep_conv_3x3", "sep_conv_5x5"),
    ("dil_conv_3x3", "dil_conv_5x5"),
)


@dataclasses.dataclass(frozen=True)
class StacnasSettings(SupernetSettings):
    """The two stages of Li et al., as Yang et al. 2020 ran them.

    Edges and weights learn on the same images.
    The groups are the published ones: they are not found anew by the correlation of ops.

    Attributes:
      supernet_epochs: epochs of each stage.
      supernet_clip_norm: largest norm of all gradients together; 0: none.
      stage_cells: cells of the supernet of each of the two stages.
      edge_lr: learning rate of the edges, by Adam.
      edge_weight_decay: L2 factor of the edges' logits.
    """

    #: What it can search.
    SPACES: ClassVar[type[Darts]] = Darts

    supernet_epochs: int = 100
    supernet_clip_norm: float = 3.0
    stage_cells: tuple[int, ...] = (14, 20)
    edge_lr: float = 3e-4
    edge_weight_decay: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.rule  # checks its own fields
        if len(self.stage_cells) != 2 or min(self.stage_cells) < 3:
            raise ValueError(
                f"stage_cells must be two whole numbers >= 3; got {list(self.stage_cells)}"
            )

    @property
    def rule(self) -> EdgeSettings:
        """How the edges are trained: to first order, on the images of the weights."""
        return EdgeSettings(
            "first", lr=self.edge_lr, weight_decay=self.edge_weight_decay, share=0.0
        )

    def recipes(self, others: Mapping[str, Recipe]) -> dict[str, Recipe]:
        """One recipe for both stages."""
        return {"supernet": super().recipes(others)["supernet"]}

    @property
    def plan(self) -> Sequence[Planned]:
        """What it asks for."""
        return [Planned("supernet", 2), Planned("scratch", 1)]

    def phase(self, step: int) -> str:
        """What a round of it is, for people."""
        return ("groups of ops", "ops within the groups", "the derived network")[min(step, 2)]


def stacnas(space: Any, settings: StacnasSettings, keys: Keys) -> Strategy:
    """Choose edges and groups with one op for each group; then the op of each edge in its group.

    Args:
      space: what is searched: DARTS's cells.
      settings: of the stages.
      keys: of the run.
    """
    whole, genotype = space.whole(), None
    *stage_keys, derived_key = jax.random.split(keys.search, 3)
    for stage, (key, cells) in enumerate(zip(stage_keys, settings.stage_cells), start=1):
        allowed = first_of_groups(whole) if genotype is None else in_groups(space, whole, genotype)
        supernet = dataclasses.replace(space.whole(allowed), cells=cells)
        asked = Proposal(f"stage{stage}", supernet, key, recipe="supernet")
        trained = select((yield Ask([asked], alive=())))
        weights = {e: history[-1] for e, history in trained.estimate.edges.items()}
        genotype = space.derive(weights, supernet)
    derived = Proposal("derived", genotype, derived_key, trained.name, recipe="scratch")
    return [select((yield Ask([derived], alive=())))]


def group_of(op: str) -> tuple[str, ...]:
    """The group of an op; one that is in none is a group by itself.

    >>> group_of("sep_conv_5x5")
    ('sep_conv_3x3', 'sep_conv_5x5')
    """
    return next((group for group in GROUPS if op in group), (op,))


def first_of_groups(whole: Supernet) -> dict[str, list[str]]:
    """By edge, one op of each group, and 'none'."""
    return {
        edge: list(dict.fromkeys(next(o for o in group_of(op) if o in choices) for op in choices))
        for edge, choices in whole.edges
    }


def in_groups(space: Any, whole: Supernet, genotype: Genotype) -> dict[str, list[str]]:
    """By edge of a genotype, the ops of its op's group, and 'none'; of all others, 'none' alone."""
    chosen = space.sharing.chosen(genotype)
    return {
        edge: ["none", *(op for op in group_of(chosen.get(edge, "none")) if op in choices)]
        for edge, choices in whole.edges
    }
