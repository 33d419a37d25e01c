"""Shared by all tests: the device, a fixed hypothesis profile, a strict switch of number types."""

from __future__ import annotations

import os

# Where there is a GPU, too: many tests ask for worker processes, which are for CPUs.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Two test processes on two cores: one thread each. Nearly all of their time is compiling,
# two thirds of it LLVM's optimisations, which would make the small programs here hardly faster.
os.environ["NPROC"] = "1"
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import hypothesis
import jax
import pytest

from nash_jax.runs import use_cache
from nash_jax.training import faster_flags

# Those of worker processes: searches may train in the tests' own process.
os.environ["XLA_FLAGS"] = faster_flags(os.environ["XLA_FLAGS"])

hypothesis.settings.register_profile(
    "nash",
    deadline=None,
    derandomize=True,
    max_examples=15,
    suppress_health_check=list(hypothesis.HealthCheck),
)
hypothesis.settings.load_profile("nash")


@pytest.fixture(scope="module", autouse=True)
def _as_before():
    """Drop what a module leaves to the next one in its process.

    XLA's programs hold memory maps, of which a process may have only 65,530; and launchers add to
    the flags that processes of later tests begin with.
    """
    flags = os.environ["XLA_FLAGS"]
    yield
    jax.clear_caches()
    os.environ["XLA_FLAGS"] = flags


@pytest.fixture
def x64():
    """64-bit numbers for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def program_cache(tmp_path_factory):
    """Compiled programs are kept for all tests of a module, and its worker processes."""
    use_cache(tmp_path_factory.mktemp("programs"))
    yield
    jax.config.update("jax_compilation_cache_dir", None)
