"""The record of a run: config, workdir, ledger, network, pictures."""

from nash_jax.runs.cache import check_cache, use_cache
from nash_jax.runs.checkpoint import load, load_network, save_network
from nash_jax.runs.children import Crew, Listener, hire, num_cores
from nash_jax.runs.config import PRESETS, Config
from nash_jax.runs.files import DamagedError, WriteError
from nash_jax.runs.ledger import read_ledger
from nash_jax.runs.progress import (
    Callbacks,
    PlainReporter,
    QuietReporter,
    Reporters,
    RichReporter,
)
from nash_jax.runs.provenance import provenance
from nash_jax.runs.run import (
    Reporter,
    Result,
    Run,
    StoppedError,
    execute,
    open_run,
    prepare,
    run_search,
)
from nash_jax.runs.tensorboard import TensorBoardReporter

__all__ = [
    "Callbacks",
    "Config",
    "Crew",
    "DamagedError",
    "Listener",
    "PRESETS",
    "PlainReporter",
    "QuietReporter",
    "Reporter",
    "Reporters",
    "Result",
    "RichReporter",
    "Run",
    "StoppedError",
    "TensorBoardReporter",
    "WriteError",
    "check_cache",
    "execute",
    "hire",
    "load",
    "load_network",
    "num_cores",
    "open_run",
    "prepare",
    "provenance",
    "read_ledger",
    "run_search",
    "save_network",
    "use_cache",
]
