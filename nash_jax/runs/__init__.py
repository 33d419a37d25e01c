"""The record of a run: config, workdir, ledger, network, pictures."""

from nash_jax.runs.cache import check_cache, use_cache
from nash_jax.runs.checkpoint import load, load_network, save_network
from nash_jax.runs.children import Crew, Listener, hire
from nash_jax.runs.config import PRESETS, Config
from nash_jax.runs.files import DamagedError, WriteError
from nash_jax.runs.ledger import read_ledger
from nash_jax.runs.progress import QuietReporter, RichReporter
from nash_jax.runs.run import Reporter, Result, Run, StoppedError, execute, open_run, prepare

__all__ = [
    "Config",
    "Crew",
    "DamagedError",
    "Listener",
    "PRESETS",
    "QuietReporter",
    "Reporter",
    "Result",
    "RichReporter",
    "Run",
    "StoppedError",
    "WriteError",
    "check_cache",
    "execute",
    "hire",
    "load",
    "load_network",
    "open_run",
    "prepare",
    "read_ledger",
    "save_network",
    "use_cache",
]
