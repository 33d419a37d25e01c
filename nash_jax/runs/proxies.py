"""Proxies as recipes: the full training of a run, with less of something.

A full training is what the network that a search finds gets: `epochs_final` epochs, at the space's
final size. In a proxy, too, the learning rate is annealed to the end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nash_jax.checks import check_word
from nash_jax.data import Dataset
from nash_jax.estimation import ESTIMATORS
from nash_jax.runs.config import Config

#: What a proxy may have less of, and the setting of a run that says so.
LESS = {
    "epochs": "epochs_neighbours",
    "images": "max_train_examples",
    "channels": "channels",
    "cells": "cells",
    "pixels": "image_size",
}
#: Those that make another network of a genotype.
OF_SPACE = ("channels", "cells", "pixels")


def full_training(config: Config) -> Config:
    """The run of the full training: random genotypes, trained as the network of a search's end.

    Args:
      config: with `epochs_final` epochs, at least 1, and `num_samples` genotypes, at least 3.

    Raises:
      ValueError: for another strategy, a limit in time, another metric or too few genotypes.
    """
    values = config.values()
    if values["strategy"] != "random_search":
        raise ValueError(
            f"strategy must be random_search for a ranking; got {values['strategy']}; take it"
        )
    if config.minutes or config.metric != "accuracy":
        name, value = ("minutes", config.minutes) if config.minutes else ("metric", config.metric)
        raise ValueError(f"{name} is not for a ranking, by accuracy; got {value}; leave it out")
    if values["num_samples"] < 3:
        raise ValueError(
            f"num_samples must be at least 3, to have an order; got {values['num_samples']}"
        )
    if values["epochs_final"] < 1:
        raise ValueError("epochs_final must be at least 1, those of a full training; got 0")
    final = {f"search_{name}": values[name] for name in ("channels", "cells") if name in values}
    return config.replace(
        epochs_neighbours=values["epochs_final"],
        epochs_final=0,
        **{name: value for name, value in final.items() if name in values},
    )


def proxy_of(full: Config, text: str, dataset: Dataset) -> Config:
    """The run of a proxy.

    Args:
      full: the run of the full training.
      text: what differs: `NAME=NUMBER` of `LESS`, or `estimator=NAME`; with commas between several.
      dataset: the data of the full training.

    Raises:
      ValueError: if it is unknown, or not less than the full training has.
    """
    values, changes = full.values(), dict[str, Any]()
    for part in text.split(","):
        name, _, given = (word.strip() for word in part.partition("="))
        check_word("the name in proxy", name, (*LESS, "estimator"))
        if name == "estimator":
            check_word("estimator in proxy", given, [e for e in ESTIMATORS if e != values[name]])
            changes[name] = given
            continue
        if name in OF_SPACE and (not hasattr(full.space, "made") or LESS[name] not in values):
            raise ValueError(
                f"{name} in proxy needs a space of genotypes that has it, such as nb201; got "
                f"{values['space']}; take epochs or images"
            )
        most = _most(name, values, dataset)
        if not (given.isdecimal() and 1 <= int(given) < most):
            raise ValueError(
                f"{name} in proxy must be a whole number below the full training's {most}; got "
                f"{given or 'none'}; as in {name}={max(1, most // 4)}"
            )
        changes[LESS[name]] = int(given)
    return full.replace(**changes)


def _most(name: str, values: Mapping[str, Any], dataset: Dataset) -> int:
    """What the full training has."""
    there = len(dataset.train)
    if name == "images":
        return min(values[LESS[name]] or there, there)
    return min(dataset.image_shape[:2]) if name == "pixels" else int(values[LESS[name]])


def folder_of(proxy: str) -> str:
    """The name of a proxy's folder.

    >>> folder_of('epochs=3, channels=8')
    'epochs3-channels8'
    """
    return re.sub(r"[^\w-]", "", proxy.replace(",", "-"))
