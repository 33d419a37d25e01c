"""Where jobs are done."""

from nash_jax.execution.cache import check_cache, use_cache
from nash_jax.execution.devices import Devices
from nash_jax.execution.executor import Executor, memory_limit
from nash_jax.execution.processes import Processes
from nash_jax.execution.serial import Serial

__all__ = [
    "Devices",
    "Executor",
    "Processes",
    "Serial",
    "check_cache",
    "memory_limit",
    "use_cache",
]
