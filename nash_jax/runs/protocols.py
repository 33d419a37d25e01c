"""Training protocols by name (Yang et al. 2020, "NAS evaluation is frustratingly hard", section 4).

A protocol is the training of DARTS without any trick, and the tricks that its name has: how a
network is trained, which decides more of its accuracy than which network of a space it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: The training of DARTS on CIFAR-10 without its tricks.
BASE: Mapping[str, Any] = {
    **{"lr_start": 0.025, "weight_decay": 3e-4, "batch_size": 96, "clip_norm": 5.0},
    "epochs_final": 600,
}
#: Auxiliary tower, dropped paths, cutout, AutoAugment, more channels, more epochs.
TRICKS: Mapping[str, Mapping[str, Any]] = {
    "A": {"auxiliary_weight": 0.4},
    "D": {"drop_path": 0.2},
    "C": {"cutout": 16},
    "AA": {"auto_augment": True},
    "50C": {"channels": 50},
    "1500E": {"epochs_final": 1500},
}
#: The ten protocols of the paper's figures 3 and 10, in their order.
NAMES = (
    *("base", "A", "D", "C", "C+D", "C+D+A", "C+D+A+50C", "C+D+A+AA", "C+D+A+AA+1500E"),
    "C+D+A+AA+50C+1500E",
)


def tricks_of(name: str) -> dict[str, Any]:
    """The settings that a protocol adds to the base.

    >>> tricks_of("C+D")
    {'cutout': 16, 'drop_path': 0.2}
    """
    used = [] if name == "base" else name.split("+")
    return {setting: value for trick in used for setting, value in TRICKS[trick].items()}


def scaled(name: str, *, epochs: int, channels: int, edge: int) -> dict[str, Any]:
    """The tricks of a protocol at a smaller scale: each is as large a part of it as in the paper.

    The paper has 600 epochs, 36 channels, and images of 32x32 pixels.

    Args:
      name: of the protocol.
      epochs: of the base.
      channels: of a network of the base.
      edge: pixels of an image, from left to right.

    >>> scaled("C+50C+1500E", epochs=20, channels=8, edge=16)
    {'cutout': 8, 'channels': 11, 'epochs_final': 50}
    """
    settings = tricks_of(name)
    sizes = {"cutout": edge / 32, "channels": channels / 36, "epochs_final": epochs / 600}
    return {key: round(x * sizes[key]) if key in sizes else x for key, x in settings.items()}


#: Every protocol with all that it sets.
PROTOCOLS: dict[str, dict[str, Any]] = {name: {**BASE, **tricks_of(name)} for name in NAMES}
