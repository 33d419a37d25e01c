"""ENAS: a controller learns to write networks that share weights (Pham et al., ICML 2018)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import jax

from nash_jax.checks import check_least
from nash_jax.policies import ControllerSettings
from nash_jax.search.strategy import Ask, Keys, Planned, Proposal, Strategy, ranked, select
from nash_jax.search.supernets import SupernetSettings


@dataclasses.dataclass(frozen=True)
class EnasSettings(SupernetSettings):
    """The sizes of Pham et al. for CIFAR-10's cells, as Yang et al. 2020 ran them.

    Theirs anneal the learning rate again and again; here it is annealed once. Their scripts drop
    paths and values; here nothing is dropped. The reward is accuracy, whatever the run's metric.

    Attributes:
      supernet_epochs: epochs of the supernet.
      supernet_batch_size: images per update.
      supernet_lr_start: learning rate at the start.
      supernet_lr_end: learning rate at the end.
      supernet_weight_decay: L2 factor of the kernels.
      controller_lr: learning rate of the controller, by Adam.
      controller_steps: updates of the controller after each epoch.
      controller_samples: networks for each of them, judged on a batch each.
      entropy_weight: what a nat of the controller's entropy is worth, in accuracy.
    """

    NESTEROV: ClassVar[bool] = True

    supernet_epochs: int = 150
    supernet_batch_size: int = 160
    supernet_lr_start: float = 0.05
    supernet_lr_end: float = 0.001
    supernet_weight_decay: float = 1e-4
    controller_lr: float = 3.5e-4
    controller_steps: int = 30
    controller_samples: int = 10
    entropy_weight: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, controller_lr=0, controller_steps=1, controller_samples=1)
        check_least(self, entropy_weight=0)

    @property
    def rule(self) -> ControllerSettings:
        """How the controller learns."""
        return ControllerSettings(
            self.controller_lr,
            self.entropy_weight,
            steps=self.controller_steps,
            samples=self.controller_samples,
        )

    @property
    def plan(self) -> Sequence[Planned]:
        """What it asks for, if the controller's last ten networks are different ones."""
        return [Planned("supernet", 1), Planned("shared", 10), Planned("scratch", 1)]

    def phase(self, step: int) -> str:
        """What a round of it is, for people."""
        judged = "what the controller writes, with the shared weights"
        return ("the supernet and its controller", judged, "the best of them")[min(step, 2)]


def enas(space: Any, settings: EnasSettings, keys: Keys) -> Strategy:
    """Train a supernet and a controller in turn; train the best of what it writes anew.

    Args:
      space: what is searched; it has a supernet.
      settings: of the training.
      keys: of the run.
    """
    del settings  # they are in the recipe
    supernet_key, judge_key, train_key = jax.random.split(keys.search, 3)
    asked = Proposal("supernet", space.whole(), supernet_key, recipe="supernet")
    supernet = select((yield Ask([asked])))
    written = [
        Proposal(f"written{number}", genotype, judge_key, "supernet", recipe="shared")
        for number, genotype in enumerate(supernet.estimate.candidates, start=1)
    ]
    best = ranked((yield Ask(written)))[0]
    retrained = Proposal("retrained", best.genotype, train_key, best.name, recipe="scratch")
    return [select((yield Ask([retrained], alive=())))]
