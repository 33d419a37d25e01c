"""The record of a run: config, workdir, ledger, network, pictures."""

from nash_jax.jax_settings import check_devices
from nash_jax.runs.cache import check_cache, use_cache
from nash_jax.runs.checkpoint import load, load_network, save_network
from nash_jax.runs.children import Crew, Listener, hire
from nash_jax.runs.config import INHERIT, PRESETS, RECIPES, Config
from nash_jax.runs.files import DamagedError, WriteError, write_atomically
from nash_jax.runs.ledger import read_ledger, spec_of
from nash_jax.runs.progress import (
    Callbacks,
    PlainReporter,
    QuietReporter,
    Reporters,
    RichReporter,
)
from nash_jax.runs.provenance import provenance
from nash_jax.runs.run import (
    Problem,
    Reporter,
    Result,
    Run,
    StoppedError,
    bounds_on_flops,
    check_precision,
    dataset_of,
    execute,
    open_run,
    prepare,
    run_search,
)
from nash_jax.runs.tensorboard import TensorBoardReporter
from nash_jax.runs.view import RunView, read_run

__all__ = [
    "Callbacks",
    "Config",
    "Crew",
    "DamagedError",
    "INHERIT",
    "Listener",
    "PRESETS",
    "PlainReporter",
    "Problem",
    "QuietReporter",
    "RECIPES",
    "Reporter",
    "Reporters",
    "Result",
    "RichReporter",
    "Run",
    "RunView",
    "StoppedError",
    "TensorBoardReporter",
    "WriteError",
    "bounds_on_flops",
    "check_cache",
    "check_devices",
    "check_precision",
    "dataset_of",
    "execute",
    "hire",
    "load",
    "load_network",
    "open_run",
    "prepare",
    "provenance",
    "read_ledger",
    "read_run",
    "run_search",
    "save_network",
    "spec_of",
    "use_cache",
    "write_atomically",
]
