"""Where a result comes from, beyond its settings and data."""

from __future__ import annotations

import os
import pathlib
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import jax

from nash_jax.jax_settings import deciding
from nash_jax.machine import cpu_model, num_cores
from nash_jax.training import compiler_options

_PACKAGES = ("nash_jax", "jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn")
_ROOT = pathlib.Path(__file__).parents[2]


def provenance(command: Sequence[str] = ()) -> dict[str, Any]:
    """What else the last bits of a result depend on.

    Args:
      command: by which the run was begun, if there was one.
    """
    return {
        "command": list(command),
        "versions": {name: _version(name) for name in _PACKAGES},
        "commit": _commit(),
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
        "cpu": cpu_model(),
        "num_cpus": num_cores(),
        "NPROC": os.environ.get("NPROC"),  # if set, the number of XLA's threads on a CPU
        "XLA_FLAGS": os.environ.get("XLA_FLAGS"),
        "compiler_options": compiler_options(jax.default_backend(), jax.local_device_count()),
        "jax_settings": deciding(),
    }


def changes(
    before: Mapping[str, Any], now: Mapping[str, Any], otherwise: str = "a run without a stop"
) -> list[str]:
    """What is not a setting of the run and may change its result all the same: a line for each.

    Args:
      before: what `provenance` said when the run began, among other things; by an early version
        less than now.
      now: what it says now.
      otherwise: what the result may differ from, for people.
    """
    lines = []
    for name, value in now.items():
        if name == "command" or name not in before:
            continue
        if isinstance(value, dict) and isinstance(before[name], dict):
            lines += changes(before[name], value, otherwise)
        elif value != before[name]:
            lines.append(
                f"{name} was {before[name]!r} when the run began, and is {value!r}: the result may "
                f"differ from that of {otherwise}"
            )
    return lines


def versions() -> dict[str, str]:
    """Versions that decide what a training gives, of packages and of Python."""
    names = [name for name in _PACKAGES if name != "scikit-learn"]  # data alone come from it
    return {**{name: _version(name) for name in names}, "python": platform.python_version()}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # found by its path, say
        return "not installed"


def _commit() -> str | None:
    """That of the code, with `-dirty` if files differ from it; None outside of a repository."""
    if not (_ROOT / ".git").exists():
        return None
    # Without locks, which would be in the way of whoever works there (`describe` takes one anyway).
    git = ["git", "--no-optional-locks", "-C", str(_ROOT)]
    try:
        commit, changed = (
            subprocess.run(
                [*git, *command], capture_output=True, text=True, check=True, timeout=10
            ).stdout.strip()
            for command in (
                ["rev-parse", "HEAD"],
                ["status", "--porcelain", "--untracked-files=no"],
            )
        )
    except (OSError, subprocess.SubprocessError):  # no git, or a repository of someone else's
        return None
    return f"{commit}-dirty" if changed else commit
