"""What an executor is: it does jobs, somewhere, and says which are done."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from typing import Protocol

import jax

from nash_jax.architecture import count_flops
from nash_jax.estimation import Network, Outcome
from nash_jax.estimation.job import Job


class Executor(Protocol):
    """Does jobs. A job's outcome does not depend on which worker does it, nor on other jobs."""

    def start(self) -> None:
        """Get ready, while the caller does something else."""

    def put(self, name: str, network: Network) -> None:
        """Give a network for the jobs that begin with it; one call, however many they are."""

    def release(self, name: str) -> None:
        """Let go of a network that was `put`; no job that begins with it is out."""

    def submit(self, job: Job) -> None:
        """Take a job to be done. The network that it begins with was `put` before."""

    def done(self) -> Iterator[tuple[str, Outcome]]:
        """Names and outcomes of jobs as they are finished, until no job is out."""

    def close(self) -> None:
        """Stop all work, and let go of everything; a second call does nothing."""


class Jobs:
    """The jobs of an executor that other threads do: submitted, out, and ended.

    Attributes:
      out: how many have been submitted and are not yet told of.
    """

    def __init__(self) -> None:
        self.out = 0
        self._submitted: list[Job] = []
        self._ended: queue.SimpleQueue[tuple[str, Outcome] | BaseException] = queue.SimpleQueue()

    def submit(self, job: Job) -> None:
        self._submitted.append(job)
        self.out += 1

    def take(self) -> list[Job]:
        """What has been submitted since the last time, the largest first: then all end together."""
        jobs, self._submitted = self._submitted, []
        return sorted(jobs, key=lambda job: -count_flops(job.spec)) if len(jobs) > 1 else jobs

    def end(self, result: tuple[str, Outcome] | BaseException) -> None:
        """From any thread: a job's name and outcome, or an error that the main thread raises."""
        self._ended.put(result)

    def done(self, dispatch: Callable[[], None]) -> Iterator[tuple[str, Outcome]]:
        """As `Executor.done`; `dispatch` hands on what `take` gives."""
        while self.out:
            dispatch()
            result = self._ended.get()
            if isinstance(result, BaseException):
                raise result
            self.out -= 1
            yield result


def memory_limit(gibibytes: float, device: jax.Device | None = None) -> int | None:
    """Bytes that a training may take of a device: as given, or all of an accelerator's.

    Args:
      gibibytes: 0 for what the device has.
      device: None for a CPU, whose memory has no limit here.
    """
    if gibibytes:
        return int(gibibytes * 2**30)
    stats = device.memory_stats() if device is not None else None
    return stats.get("bytes_limit") if stats else None
