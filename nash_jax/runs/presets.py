"""Settings by name: presets for the size of a search, recipes for how networks are trained."""

from __future__ import annotations

from typing import Any

from nash_jax.runs.config import KINDS, Config

#: How to train; each replaces the defaults that are named. How one trains must not be mistaken for
#: how one searches: results of the two are never put into one table.
RECIPES: dict[str, dict[str, Any]] = {
    "paper": {},
    "modern": {"label_smoothing": 0.1, "clip_norm": 5.0, "flip_test": True, "cutout": 8},
}

#: Settings by size; each replaces the defaults that are named.
PRESETS: dict[str, dict[str, Any]] = {
    # The paper names no limit, but drawn as it says, 25 edits give a network of 300 million
    # parameters in the median; its random networks have 4.4 million. Below 1 GFLOP they have 5.9.
    # In float32 its table 1 would take a GPU several times as long.
    "paper": {"max_flops": 1_000_000_000, "precision": "auto"},
    # The embedded 8x8 digits in about a minute. Mirrored digits are other signs, so no flips.
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
      **settings: win over both, as `Config.replace` takes them. Of the preset count those that the
        given strategy and space have.

    Raises:
      ValueError: as `Config.replace`.

    >>> preset("digits", num_steps=1).recipes.epochs_final
    30
    """
    kinds = {group: settings.pop(group) for group in KINDS if group in settings}
    config = Config().replace(**kinds)
    known = config.values()
    both = PRESETS[name] | RECIPES[recipe]
    config = config.replace(**{name: value for name, value in both.items() if name in known})
    return config.replace(**settings)
