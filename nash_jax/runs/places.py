"""Where children are trained; it decides no result."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence

import jax

from nash_jax.checks import check_word
from nash_jax.estimation import Images, Tools
from nash_jax.execution import Devices, Executor, Processes, Serial, cpu_environment
from nash_jax.execution.ray import Ray, Size, Use, joined, nodes
from nash_jax.machine import num_schedulable
from nash_jax.runs.config import Config
from nash_jax.runs.problem import searches
from nash_jax.training import faster_flags

EXECUTORS = ("auto", "serial", "processes", "devices", "ray")
#: On accelerators of a cluster memory is taken as it is needed: a driver may be on the same one.
_AS_NEEDED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


@dataclasses.dataclass(frozen=True)
class Place:
    """Where children are trained.

    Attributes:
      executor: one of `EXECUTORS`; 'auto': processes on a CPU, else devices.
      devices: JAX's, of this machine. Those of a cluster are of the same kind: CPUs, or
        accelerators.
      workers: children side by side on CPUs; 0, with Ray: as many as the cluster has room for.
      per_device: children side by side on each accelerator.
      address: of a cluster: see `ray_cluster.joined`.
    """

    executor: str
    devices: Sequence[jax.Device]
    workers: int = 1
    per_device: int = 1
    address: str = "auto"

    @property
    def on_cpu(self) -> bool:
        return self.devices[0].platform == "cpu"

    @property
    def kind(self) -> str:
        """The executor: not 'auto'."""
        if self.executor != "auto":
            return self.executor
        return "processes" if self.on_cpu else "devices"

    def check(self, config: Config) -> None:
        """Raises `ValueError` if the executor cannot be here, or would change the result."""
        check_word("executor", self.executor, EXECUTORS)
        if self.address != "auto" and self.kind != "ray":
            raise ValueError(
                f"address is that of a cluster of Ray's; got {self.address} with executor "
                f"{self.executor}; take executor ray"
            )
        if self.workers < (0 if self.kind == "ray" else 1):
            raise ValueError(f"workers must be >= 1; got {self.workers}; take one per core")
        if self.per_device < 1:
            raise ValueError(f"per_device must be >= 1; got {self.per_device}; 1 is usual")
        platform = self.devices[0].platform
        if self.kind == "devices" and self.on_cpu:
            raise ValueError("executor devices is for accelerators; got a CPU; take processes")
        if self.kind == "processes" and not self.on_cpu:
            raise ValueError(
                f"executor processes is for a CPU; got {platform}; take devices, or set "
                "JAX_PLATFORMS=cpu"
            )
        threads = config.threads_per_child
        if self.kind == "serial" and searches(config) and not self.is_like_a_worker(threads):
            flags = os.environ.get("XLA_FLAGS", "")
            raise ValueError(
                "executor serial trains children in this process, whose XLA must begin as "
                f"that of a worker; got NPROC={os.environ.get('NPROC')}, XLA_FLAGS={flags!r}; set "
                f"NPROC={threads} and XLA_FLAGS={faster_flags(flags)!r} before it begins, or take "
                "processes"
            )

    def is_like_a_worker(self, threads: int) -> bool:
        """Whether this process computes as a worker with so many threads does."""
        flags = os.environ.get("XLA_FLAGS", "")
        here = os.environ.get("NPROC", f"{num_schedulable()}")
        return not self.on_cpu or (here == str(threads) and faster_flags(flags) == flags)

    def size(self, config: Config) -> Size:
        """What a worker takes of a cluster's node."""
        if self.on_cpu:
            return Size(config.threads_per_child)
        return Size(1, 1 / self.per_device)

    @contextlib.contextmanager
    def joined(self, config: Config, note: Callable[[str], None]) -> Iterator[None]:
        """Be connected to the cluster, if there is to be one.

        Args:
          config: of the run.
          note: is told where the cluster can be watched.

        Raises:
          ValueError: if the executor cannot be, or the cluster cannot be used.
        """
        self.check(config)
        if self.kind != "ray" or not searches(config):
            yield
            return
        with joined(self.address, self.size(config)) as dashboard:
            if dashboard:
                note(f"Ray's dashboard: {dashboard}")
            yield

    def room(self, config: Config) -> int:
        """Children for which there is room side by side; a cluster must be joined."""
        if self.kind == "ray" and searches(config):
            return self.workers or sum(node.slots for node in nodes(self.size(config)))
        if self.kind == "serial":
            return 1
        return max(1, self.workers) if self.on_cpu else self.per_device * len(self.devices)

    def at_once(self, config: Config) -> int:
        """Children that are trained side by side: not more than the strategy ever asks for."""
        return min(self.room(config), config.strategy.num_at_once)

    def executor_of(self, config: Config, images: Images, tools: Tools, at_once: int) -> Executor:
        """The executor of children.

        Args:
          config: of the run.
          images: those of the run.
          tools: what jobs are done with.
          at_once: how many are trained side by side.
        """
        match self.kind:
            case "serial":
                return Serial(images, tools)
            case "processes":
                return Processes(images, tools, at_once, config.threads_per_child)
            case "devices":
                devices = [*self.devices] * self.per_device
                return Devices(images, tools, devices, config.bounds.max_memory)
            case _:
                most = min(self.workers or config.strategy.num_at_once, config.strategy.num_at_once)
                threads = config.threads_per_child
                environment = cpu_environment(threads) if self.on_cpu else _AS_NEEDED
                use = Use(self.size(config), environment, most)
                return Ray(images, tools, use, self.address)
