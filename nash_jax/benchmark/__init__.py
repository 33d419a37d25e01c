"""Is it better than random? Methods beside random networks of their own spaces, trained alike.

The protocol of Yang, Esperança and Carlucci, "NAS evaluation is frustratingly hard" (ICLR 2020).
"""

from nash_jax.benchmark.methods import METHODS, Method, method_named
from nash_jax.benchmark.plan import Plan, read_plan
from nash_jax.benchmark.table import Trained, markdown
from nash_jax.benchmark.work import make, trained_in

__all__ = [
    "METHODS",
    "Method",
    "Plan",
    "Trained",
    "make",
    "markdown",
    "method_named",
    "read_plan",
    "trained_in",
]
