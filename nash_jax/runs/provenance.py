"""Where a result comes from, beyond its settings and data."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import jax

from nash_jax.runs.children import num_cores

_PACKAGES = ("nash_jax", "jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn")


def provenance(command: Sequence[str] = ()) -> dict[str, Any]:
    """What else the last bits of a result depend on.

    Args:
      command: by which the run was begun, if there was one.
    """
    return {
        "command": list(command),
        "versions": {name: metadata.version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
        "num_cpus": num_cores(),
        "NPROC": os.environ.get("NPROC"),  # if set, the number of XLA's threads on a CPU
        "XLA_FLAGS": os.environ.get("XLA_FLAGS"),
    }
