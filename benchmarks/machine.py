"""What figures about speed depend on: the machine, and the other work that it does meanwhile."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import platform
import time
from importlib import metadata
from typing import Any

import jax

from nash_jax.machine import cpu_model, num_cores


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    has_torch = importlib.util.find_spec("torch") is not None
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": cpu_model(),
        "cores": num_cores(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "torch": metadata.version("torch") if has_torch else "none",
    }


def busy_seconds() -> tuple[float, float]:
    """Seconds of all cores that any process (or a host that stole them) used, and this one's."""
    stat = pathlib.Path("/proc/stat")
    if not stat.exists():
        return float("nan"), float("nan")
    user, nice, system, _, _, irq, soft_irq, steal = map(int, stat.read_text().split()[1:9])
    busy = (user + nice + system + irq + soft_irq + steal) / os.sysconf("SC_CLK_TCK")
    return busy, time.process_time()
