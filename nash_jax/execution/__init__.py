"""Where jobs are done."""

from nash_jax.execution.cache import check_cache, use_cache
from nash_jax.execution.devices import Devices
from nash_jax.execution.executor import Executor, memory_limit
from nash_jax.execution.processes import Processes, cpu_environment
from nash_jax.execution.serial import Serial

__all__ = [
    "Devices",
    "Executor",
    "Processes",
    "Serial",
    "check_cache",
    "cpu_environment",
    "memory_limit",
    "use_cache",
]
