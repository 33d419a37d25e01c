"""How the next trial is chosen: one file per strategy."""

from collections.abc import Callable
from typing import Any

from nash_jax.search.aging_evolution import AgingEvolutionSettings, aging_evolution
from nash_jax.search.darts import DartsSettings, darts
from nash_jax.search.enas import EnasSettings, enas
from nash_jax.search.hill_climbing import HillClimbingSettings, child, hill_climbing
from nash_jax.search.lineage import Lineage, lineage
from nash_jax.search.manas import ManasSettings, manas
from nash_jax.search.one_network import OneNetworkSettings, one_network
from nash_jax.search.one_shot import OneShotSettings, one_shot
from nash_jax.search.p_darts import PDartsSettings, p_darts
from nash_jax.search.random_search import RandomSearchSettings, random_search
from nash_jax.search.stacnas import StacnasSettings, stacnas
from nash_jax.search.strategy import (
    AFTER,
    ALONE,
    AllFailedError,
    Ask,
    Deferred,
    Keys,
    Planned,
    Proposal,
    Strategy,
    StrategySettings,
    Trial,
    epochs_in_all,
    num_due,
    ranked,
    resolved,
    select,
    simulate,
)
from nash_jax.search.successive_halving import SuccessiveHalvingSettings, successive_halving
from nash_jax.search.supernets import SupernetSettings
from nash_jax.search.within_time import Period, within

#: Every strategy by its name.
STRATEGIES: dict[str, Callable[[Any, Any, Keys], Strategy]] = {
    "aging_evolution": aging_evolution,
    "darts": darts,
    "enas": enas,
    "hill_climbing": hill_climbing,
    "manas": manas,
    "one_network": one_network,
    "one_shot": one_shot,
    "p_darts": p_darts,
    "random_search": random_search,
    "stacnas": stacnas,
    "successive_halving": successive_halving,
}

#: The settings of every strategy.
STRATEGY_SETTINGS: dict[str, type[Any]] = {
    "aging_evolution": AgingEvolutionSettings,
    "darts": DartsSettings,
    "enas": EnasSettings,
    "hill_climbing": HillClimbingSettings,
    "manas": ManasSettings,
    "one_network": OneNetworkSettings,
    "one_shot": OneShotSettings,
    "p_darts": PDartsSettings,
    "random_search": RandomSearchSettings,
    "stacnas": StacnasSettings,
    "successive_halving": SuccessiveHalvingSettings,
}

__all__ = [
    "AFTER",
    "ALONE",
    "AgingEvolutionSettings",
    "AllFailedError",
    "Ask",
    "DartsSettings",
    "Deferred",
    "EnasSettings",
    "HillClimbingSettings",
    "Keys",
    "Lineage",
    "ManasSettings",
    "OneNetworkSettings",
    "OneShotSettings",
    "PDartsSettings",
    "Period",
    "Planned",
    "Proposal",
    "RandomSearchSettings",
    "STRATEGIES",
    "STRATEGY_SETTINGS",
    "StacnasSettings",
    "Strategy",
    "StrategySettings",
    "SuccessiveHalvingSettings",
    "SupernetSettings",
    "Trial",
    "aging_evolution",
    "child",
    "darts",
    "enas",
    "epochs_in_all",
    "hill_climbing",
    "lineage",
    "manas",
    "num_due",
    "one_network",
    "one_shot",
    "p_darts",
    "random_search",
    "ranked",
    "resolved",
    "select",
    "simulate",
    "stacnas",
    "successive_halving",
    "within",
]
