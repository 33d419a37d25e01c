"""One job after the other, in this process."""

from __future__ import annotations

import collections
from collections.abc import Iterator

from nash_jax.estimation import Images, Network, Outcome, Tools, perform
from nash_jax.estimation.job import Job


class Serial:
    """Does jobs where it is called, in the order in which they came."""

    def __init__(self, images: Images, tools: Tools) -> None:
        self._images, self._tools = images, tools
        self._networks: dict[str, Network] = {}
        self._jobs: collections.deque[Job] = collections.deque()

    def start(self) -> None:
        """It is always ready."""

    def put(self, name: str, network: Network) -> None:
        self._networks[name] = network

    def release(self, name: str) -> None:
        self._networks.pop(name, None)

    def submit(self, job: Job) -> None:
        self._jobs.append(job)

    def done(self) -> Iterator[tuple[str, Outcome]]:
        while self._jobs:
            job = self._jobs.popleft()
            parent = self._networks[job.parent] if job.parent else None
            yield job.name, perform(job, self._images, parent, self._tools)

    def close(self) -> None:
        self._jobs.clear()
        self._networks.clear()
