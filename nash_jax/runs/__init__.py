"""The record of a run: config, workdir, ledger, network, pictures."""

from nash_jax.runs.cache import check_cache, use_cache
from nash_jax.runs.checkpoint import load, load_network, save_network
from nash_jax.runs.children import Crew, hire
from nash_jax.runs.config import PRESETS, Config
from nash_jax.runs.progress import RichReporter
from nash_jax.runs.run import Reporter, Result, Run, execute, open_run, prepare, search
from nash_jax.runs.workdir import read_ledger

__all__ = [
    "Config",
    "Crew",
    "PRESETS",
    "Reporter",
    "Result",
    "RichReporter",
    "Run",
    "check_cache",
    "execute",
    "hire",
    "load",
    "load_network",
    "open_run",
    "prepare",
    "read_ledger",
    "save_network",
    "search",
    "use_cache",
]
