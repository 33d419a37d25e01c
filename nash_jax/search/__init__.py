"""How the next trial is chosen: one file per strategy."""

from collections.abc import Callable
from typing import Any

from nash_jax.search.hill_climbing import HillClimbingSettings, child, hill_climbing
from nash_jax.search.lineage import Lineage, lineage
from nash_jax.search.one_network import OneNetworkSettings, one_network
from nash_jax.search.random_search import RandomSearchSettings, random_search
from nash_jax.search.strategy import (
    AllFailedError,
    Ask,
    Keys,
    Proposal,
    Strategy,
    StrategySettings,
    Trial,
    num_due,
    ranked,
    select,
    simulate,
)

#: Every strategy by its name.
STRATEGIES: dict[str, Callable[[Any, Any, Keys], Strategy]] = {
    "hill_climbing": hill_climbing,
    "one_network": one_network,
    "random_search": random_search,
}

#: The settings of every strategy.
STRATEGY_SETTINGS: dict[str, type[Any]] = {
    "hill_climbing": HillClimbingSettings,
    "one_network": OneNetworkSettings,
    "random_search": RandomSearchSettings,
}

__all__ = [
    "AllFailedError",
    "Ask",
    "HillClimbingSettings",
    "Keys",
    "Lineage",
    "OneNetworkSettings",
    "Proposal",
    "RandomSearchSettings",
    "STRATEGIES",
    "STRATEGY_SETTINGS",
    "Strategy",
    "StrategySettings",
    "Trial",
    "child",
    "hill_climbing",
    "lineage",
    "num_due",
    "one_network",
    "random_search",
    "ranked",
    "select",
    "simulate",
]
