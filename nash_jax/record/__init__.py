"""What a run remembers: trials, networks, and the folder that holds them."""

from nash_jax.record.files import DamagedError, WriteError, write_atomically
from nash_jax.record.ledger import read_ledger
from nash_jax.record.lines import line_of, trial_of
from nash_jax.record.networks import load, load_network, save_network
from nash_jax.record.provenance import provenance
from nash_jax.record.settings import Settings
from nash_jax.record.workdir import Memory, Record, Workdir, open_workdir, read_config

__all__ = [
    "DamagedError",
    "Memory",
    "Record",
    "Settings",
    "Workdir",
    "WriteError",
    "line_of",
    "load",
    "load_network",
    "open_workdir",
    "provenance",
    "read_config",
    "read_ledger",
    "save_network",
    "trial_of",
    "write_atomically",
]
