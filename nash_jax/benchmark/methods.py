"""What can be compared: methods by name, with the settings of the benchmark paper."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from nash_jax.checks import did_you_mean
from nash_jax.runs import RECIPES
from nash_jax.search import STRATEGIES


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to find networks.

    Attributes:
      search: the settings of its searches, the strategy and the space among them.
      training: how its paper trains what it finds; random networks of its space are trained alike.
    """

    search: Mapping[str, Any]
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)


#: The network that the edges favour is judged by its own training alone: the search need not.
_ON_EDGES = {"epochs_neighbours": 1}
_LIKE_DARTS = RECIPES["darts"]
#: The methods of Yang et al. 2020 that are there, with the settings of their appendix A.1. The
#: order of DARTS's gradient is that of its paper's best row. ENAS and CNAS are trained with one
#: cosine and SGD, as all others, where ENAS restarts it and CNAS takes Adam.
METHODS: dict[str, Method] = {
    "darts": Method({"space": "darts", "strategy": "darts", **_ON_EDGES}, _LIKE_DARTS),
    "p_darts": Method(
        {"space": "darts", "strategy": "p_darts", **_ON_EDGES},
        {**_LIKE_DARTS, "batch_size": 128, "drop_path": 0.3},
    ),
    "enas": Method(
        {
            **{"space": "enas", "strategy": "enas", **_ON_EDGES},
            **{"search_channels": 20, "search_cells": 8, "cells": 17},
        },
        {
            **{"lr_start": 0.05, "lr_end": 0.001, "weight_decay": 3e-4, "batch_size": 144},
            **{"clip_norm": 5.0, "epochs_final": 630, "cutout": 16, "drop_path": 0.2},
            "auxiliary_weight": 0.4,
        },
    ),
    "cnas": Method(
        {
            **{"space": "cnas", "strategy": "darts", "order": "first", **_ON_EDGES},
            **{"supernet_epochs": 60, "supernet_lr_end": 0.003},
        },
        {
            **{"lr_start": 0.025, "lr_end": 0.001, "weight_decay": 3e-4, "batch_size": 64},
            **{"clip_norm": 5.0, "epochs_final": 200, "cutout": 16, "drop_path": 0.25},
            "label_smoothing": 0.1,
        },
    ),
    "manas": Method(
        {"space": "darts", "strategy": "manas", **_ON_EDGES}, {**_LIKE_DARTS, "batch_size": 128}
    ),
    "stacnas": Method({"space": "darts", "strategy": "stacnas", **_ON_EDGES}, _LIKE_DARTS),
}


def method_named(name: str) -> Method:
    """A method of `METHODS`, or a strategy with its own defaults.

    Raises:
      ValueError: if there is no such method.

    >>> method_named("aging_evolution").search
    {'strategy': 'aging_evolution'}
    """
    if name in METHODS:
        return METHODS[name]
    known = [*METHODS, *(strategy for strategy in STRATEGIES if strategy not in METHODS)]
    if name not in known:
        raise ValueError(
            f"a method must be one of {', '.join(known)}, or of a plan; got {name!r:.80}"
            f"{did_you_mean(name, known)}"
        )
    return Method({"strategy": name})
