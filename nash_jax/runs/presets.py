"""Settings by name: presets for the size of a search, recipes for how networks are trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nash_jax.runs.config import KINDS, Config
from nash_jax.runs.protocols import PROTOCOLS
from nash_jax.runs.spaces import MorphsSettings

#: How to train; each replaces the defaults that are named. A better training must not be mistaken
#: for a better search: results of different recipes are never put into one table.
RECIPES: dict[str, dict[str, Any]] = {
    "paper": {},
    # The protocol of DARTS and of those that compare with it, on CIFAR-10.
    "darts": PROTOCOLS["C+D+A"],
    "modern": {"label_smoothing": 0.1, "clip_norm": 5.0, "flip_test": True, "cutout": 8},
    **PROTOCOLS,
}

#: Settings by size; each replaces the defaults that are named.
PRESETS: dict[str, dict[str, Any]] = {
    # The paper names no limit, but 25 edits, drawn as it says, give a network of 300 million
    # parameters in the median; the paper's random networks have 4.4 million. Below 1 GFLOP ours
    # have 5.9 million. In float32 the paper's table 1 would take a GPU several times as long.
    "paper": {"max_flops": 1_000_000_000, "precision": "auto"},
    # The embedded 8x8 digits in about a minute. No flips: mirrored digits are different signs.
    "digits": {
        "widths": (16, 32, 64),
        "num_steps": 3,
        "num_neighbours": 5,
        "num_morphisms": 3,
        "max_flops": 3_000_000,
        "epochs_pretrain": 10,
        "epochs_neighbours": 6,
        "epochs_final": 30,
        "batch_size": 64,
        "crop_padding": 1,
        "flip": False,
    },
    # Images of about 32x32, like CIFAR-10, on a laptop's CPU.
    "laptop": {
        "max_train_examples": 10_000,
        "widths": (16, 32, 64),
        "num_steps": 3,
        "num_neighbours": 4,
        "num_morphisms": 3,
        "max_flops": 20_000_000,
        "epochs_pretrain": 5,
        "epochs_neighbours": 4,
        "epochs_final": 10,
        "batch_size": 64,
    },
}
# As laptop, in less than half the time: for tables of many runs on a CPU.
PRESETS["small"] = PRESETS["laptop"] | {
    "max_flops": 16_000_000,
    "epochs_pretrain": 4,
    "epochs_neighbours": 2,
    "epochs_final": 6,
}


def preset(name: str, recipe: str = "paper", **settings: Any) -> Config:
    """The settings of a preset and a recipe.

    Args:
      name: of the preset.
      recipe: name of the recipe.
      **settings: as `Config.replace` takes them; they override both. Settings of the preset that
        the given strategy or space does not have are ignored; of a recipe they are refused.

    Raises:
      ValueError: as `Config.replace`.

    >>> preset("digits", num_steps=1).recipes.epochs_final
    30
    """
    config = with_defaults(PRESETS[name] | RECIPES[recipe], settings)
    check_recipe(config, recipe)
    return config


def check_recipe(config: Config, recipe: str) -> None:
    """Raises `ValueError` if a recipe has a setting of a space that the config does not have."""
    known = config.values()
    config.replace(**{n: value for n, value in RECIPES[recipe].items() if n not in known})


def with_defaults(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> Config:
    """A config with other defaults: those of them that the given strategy and space have.

    Raises:
      ValueError: as `Config.replace`.
    """
    kinds = {group: given[group] for group in KINDS if group in given}
    config = Config().replace(**kinds)
    known = config.values()
    if not isinstance(config.space, MorphsSettings):  # a preset's bound is of its own networks
        defaults = {name: value for name, value in defaults.items() if name != "max_flops"}
    config = config.replace(**{name: value for name, value in defaults.items() if name in known})
    return config.replace(**{name: value for name, value in given.items() if name not in KINDS})
