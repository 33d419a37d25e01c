"""A run: settings, problem, engine, result."""

from nash_jax.execution import check_cache, use_cache
from nash_jax.jax_settings import check_devices
from nash_jax.record import (
    DamagedError,
    WriteError,
    load,
    load_network,
    provenance,
    read_ledger,
    save_network,
    write_atomically,
)
from nash_jax.reporting import RunView
from nash_jax.runs.config import Config, config_of, read_run, settings_of
from nash_jax.runs.planning import Plan, plan
from nash_jax.runs.presets import PRESETS, RECIPES, preset
from nash_jax.runs.problem import Problem, dataset_of, prepare, space_of
from nash_jax.runs.reproduction import Reproduction, reproduce
from nash_jax.runs.result import Result
from nash_jax.runs.run import (
    check_precision,
    execute,
    open_run,
    run_search,
)
from nash_jax.runs.spaces import SPACE_SETTINGS, SpaceSettings, Start, choices_settings
from nash_jax.runs.stopped import StoppedError
from nash_jax.runs.trials import Run

__all__ = [
    "Config",
    "DamagedError",
    "PRESETS",
    "Plan",
    "Problem",
    "RECIPES",
    "Reproduction",
    "Result",
    "Run",
    "RunView",
    "SPACE_SETTINGS",
    "SpaceSettings",
    "Start",
    "StoppedError",
    "WriteError",
    "check_cache",
    "check_devices",
    "check_precision",
    "choices_settings",
    "config_of",
    "dataset_of",
    "execute",
    "load",
    "load_network",
    "open_run",
    "plan",
    "prepare",
    "preset",
    "provenance",
    "read_ledger",
    "read_run",
    "reproduce",
    "run_search",
    "save_network",
    "settings_of",
    "space_of",
    "use_cache",
    "write_atomically",
]
