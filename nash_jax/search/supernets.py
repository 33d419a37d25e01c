"""What strategies of shared weights have in common: how their supernet is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

from nash_jax.checks import check_least
from nash_jax.estimation import EdgeRule, Recipe
from nash_jax.search.strategy import Planned
from nash_jax.training import TrainingSettings


@dataclasses.dataclass(frozen=True)
class SupernetSettings:
    """How the weights of a supernet are trained, to inherit from; the defaults are DARTS's.

    Images are cropped, mirrored and cut out as in all trainings of the run.

    Attributes:
      supernet_epochs: epochs of the supernet.
      supernet_batch_size: images per update.
      supernet_lr_start: learning rate at the start.
      supernet_lr_end: learning rate at the end.
      supernet_momentum: of SGD, without looking ahead (ENAS: with).
      supernet_weight_decay: L2 factor of the kernels.
      supernet_clip_norm: largest norm of all gradients together; 0: none.
    """

    #: Whether momentum looks ahead.
    NESTEROV: ClassVar[bool] = False

    supernet_epochs: int = 50
    supernet_batch_size: int = 64
    supernet_lr_start: float = 0.025
    supernet_lr_end: float = 0.001
    supernet_momentum: float = 0.9
    supernet_weight_decay: float = 3e-4
    supernet_clip_norm: float = 5.0

    def __post_init__(self) -> None:
        check_least(self, supernet_epochs=1)
        _ = self.training(TrainingSettings())  # checks its own fields

    def training(self, base: TrainingSettings) -> TrainingSettings:
        """How the supernet's weights are trained, in a run whose networks are trained so."""
        return dataclasses.replace(
            base,
            lr_start=self.supernet_lr_start,
            lr_end=self.supernet_lr_end,
            momentum=self.supernet_momentum,
            nesterov=self.NESTEROV,
            weight_decay=self.supernet_weight_decay,
            batch_size=self.supernet_batch_size,
            clip_norm=self.supernet_clip_norm,
            drop_path=0.0,
            auxiliary_weight=0.0,
        )

    def recipes(self, others: Mapping[str, Recipe]) -> dict[str, Recipe]:
        """The recipes 'supernet' and 'shared', in a run that has others."""
        training = self.training(others["scratch"].training)
        shared = Recipe(0, training, "shared", alone=True)
        supernet = Recipe(self.supernet_epochs, training, "nothing", alone=True, rule=self.rule)
        return {"supernet": supernet, "shared": shared}

    @property
    def rule(self) -> EdgeRule:
        """What decides the weights of the supernet's edges."""
        return "drawn"

    @property
    def plan(self) -> Sequence[Planned]:
        """What it asks for."""
        raise NotImplementedError

    def num_edits(self, sampled: int) -> int:
        """There are none."""
        del sampled
        return 0

    @property
    def num_at_once(self) -> int:
        """How many trials can be made side by side."""
        return 1


@dataclasses.dataclass(frozen=True)
class DerivingSettings(SupernetSettings):
    """Of strategies that derive one network of the weights of edges, to inherit from."""

    @property
    def plan(self) -> Sequence[Planned]:
        """What it asks for."""
        return [Planned("supernet", 1), Planned("scratch", 1)]

    def phase(self, step: int) -> str:
        """What a round of it is, for people."""
        return "the supernet" if step == 0 else "the derived network"
