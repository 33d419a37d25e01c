"""Threads for each accelerator, and threads that compile what the accelerators will need next."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax

from nash_jax.architecture import Variables, count_flops, init
from nash_jax.data import Examples
from nash_jax.estimation import (
    ESTIMATORS,
    Images,
    Job,
    Network,
    Outcome,
    Seconds,
    Tools,
    grow,
    on_smaller_images,
    perform,
)
from nash_jax.execution.executor import Jobs, memory_limit
from nash_jax.jax_settings import holding, settings
from nash_jax.machine import num_cores
from nash_jax.training import fits_on_device, precompile, precompile_evaluation


class _Prepared(NamedTuple):
    """A job whose programs are compiled and whose weights are grown."""

    seconds: float
    required_bytes: int
    variables: Variables | None


_Ahead = concurrent.futures.Future[_Prepared]
_Ready = tuple[Job, float, _Ahead]

#: How many jobs may have their weights on a device before it is their turn.
_AHEAD = 8


class _Room:
    """The memory of a device, for jobs that are done on it side by side."""

    def __init__(self, max_bytes: int | None) -> None:
        self._max_bytes, self._taken = max_bytes, list[int]()
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taking(self, required_bytes: int) -> Iterator[None]:
        """Wait until so much is free beside what other jobs need, or there is no other job."""

        def fits() -> bool:
            everything = required_bytes + sum(self._taken)
            return not self._taken or self._max_bytes is None or everything <= self._max_bytes

        with self._changed:
            self._changed.wait_for(fits)
            self._taken.append(required_bytes)
        try:
            yield
        finally:
            with self._changed:
                self._taken.remove(required_bytes)
                self._changed.notify_all()


class Devices:
    """Does jobs on accelerators, on each as many at a time as it is named, if its memory allows.

    A job is bound to the device that has the least to do. A device takes jobs as they become ready:
    networks that are trained on unchanged, because their programs exist already, and then small
    networks, because they are compiled soonest.
    """

    def __init__(
        self,
        images: Images,
        tools: Tools,
        devices: Sequence[jax.Device],
        max_memory: float = 0.0,
    ) -> None:
        """Put the images on the devices, those that fit.

        Args:
          images: those of the run; the test images stay where they are.
          tools: what jobs are done with; `max_bytes` is found out for each device.
          devices: on which jobs are done; one that is listed twice does two at a time.
          max_memory: GiB of a device that a job may take; 0: all that there is.
        """
        self._on_epoch, self._closing = tools.on_epoch, False
        self._tools = {
            device: dataclasses.replace(
                tools, on_epoch=self._epoch, max_bytes=memory_limit(max_memory, device)
            )
            for device in dict.fromkeys(devices)
        }
        self._room = {device: _Room(tools.max_bytes) for device, tools in self._tools.items()}
        self._settings, self._devices = settings(), devices
        self._images = {
            device: Images(
                _placed(images.train, device), _placed(images.valid, device), images.test
            )
            for device in self._tools
        }
        self._networks: dict[str, Network] = {}
        self._placed: dict[tuple[str, jax.Device], Network] = {}
        self._workers = [concurrent.futures.ThreadPoolExecutor(1) for _ in devices]
        self._compilers = concurrent.futures.ThreadPoolExecutor(max(1, num_cores() - 1))
        self._free_since = [0.0 for _ in devices]
        self._load = [0 for _ in devices]
        self._ready: list[queue.SimpleQueue[_Ready]] = [queue.SimpleQueue() for _ in devices]
        self._slots = [threading.Semaphore(_AHEAD) for _ in devices]
        self._jobs = Jobs()

    def start(self) -> None:
        """Devices are always there."""

    def put(self, name: str, network: Network) -> None:
        self._networks[name] = network

    def release(self, name: str) -> None:
        self._networks.pop(name, None)
        for device in self._devices:
            self._placed.pop((name, device), None)

    def submit(self, job: Job) -> None:
        self._jobs.submit(job)

    def done(self) -> Iterator[tuple[str, Outcome]]:
        return self._jobs.done(self._dispatch)

    def close(self) -> None:
        self._closing = True
        for pool in (*self._workers, self._compilers):
            pool.shutdown(wait=not self._jobs.out, cancel_futures=True)
        for held in (self._images, self._networks, self._placed):
            held.clear()

    def _dispatch(self) -> None:
        """Bind what has been submitted to devices, the largest first, and have it compiled."""
        jobs, now = self._jobs.take(), time.monotonic()
        bound = []
        for job in jobs:
            number = min(range(len(self._devices)), key=lambda n: self._load[n])
            self._load[number] += count_flops(job.spec)
            bound.append((job, number))
        for job, number in sorted(
            bound, key=lambda pair: (bool(pair[0].edits), count_flops(pair[0].spec))
        ):
            parent = self._parent(job, self._devices[number])
            ahead = self._compilers.submit(self._prepare, job, parent, number)
            ahead.add_done_callback(functools.partial(self._announce, job, now, number))
            self._workers[number].submit(self._perform_next, number)

    def _parent(self, job: Job, device: jax.Device) -> Network | None:
        """The network that a job begins with, on a device, where it is put once."""
        if job.parent is None:
            return None
        key = job.parent, device
        if key not in self._placed:
            network = self._networks[job.parent]
            variables = jax.device_put(network.variables, device)
            self._placed[key] = network._replace(variables=variables)
        return self._placed[key]

    def _prepare(self, job: Job, parent: Network | None, number: int) -> _Prepared:
        """Compile training and evaluation of a job and grow its weights."""
        while not self._slots[number].acquire(timeout=1.0):  # enough are ready
            if self._closing:
                raise KeyboardInterrupt
        device, start = self._devices[number], time.perf_counter()
        with holding(self._settings), jax.default_device(device):
            job, images, parent = on_smaller_images(job, self._images[device], parent)
            training, (train, judge) = job.recipe.training, images.of(job.recipe)
            key = jax.random.key(0)
            shapes = jax.eval_shape(lambda: init(job.spec, key))
            required = 0
            if ESTIMATORS[job.recipe.estimator] is None:
                required = precompile(job.spec, shapes, train, key, training)
                precompile_evaluation(job.spec, shapes, judge, **training.evaluation)
            variables = grow(job, parent, train)
        return _Prepared(time.perf_counter() - start, required, variables)

    def _announce(self, job: Job, submitted: float, number: int, ahead: _Ahead) -> None:
        self._ready[number].put((job, submitted, ahead))

    def _perform_next(self, number: int) -> None:
        """Do that job of a device that is ready first; its thread calls this."""
        try:
            job, submitted, ahead = self._ready[number].get()
            self._slots[number].release()
            if self._closing:
                raise KeyboardInterrupt
            device = self._devices[number]
            # A job whose preparation failed fails here again, which is recorded.
            ready = _Prepared(0.0, 0, None) if ahead.exception() else ahead.result()
            parent = self._placed.get((job.parent or "", device))
            images, tools = self._images[device], self._tools[device]
            with (
                self._room[device].taking(ready.required_bytes),
                holding(self._settings),
                jax.default_device(device),
            ):
                waited = time.monotonic() - max(submitted, self._free_since[number])
                outcome = perform(job, images, parent, tools, grown=ready.variables)
            self._free_since[number] = time.monotonic()
            self._load[number] -= count_flops(job.spec)
            seconds = outcome.estimate.seconds + Seconds(wait=waited, compile=ready.seconds)
            estimate = dataclasses.replace(outcome.estimate, seconds=seconds)
            self._jobs.end((job.name, outcome._replace(estimate=estimate)))
        except BaseException as error:  # the main thread raises it
            self._jobs.end(error)

    def _epoch(self, name: str, number: int, loss: float, learning_rate: float) -> None:
        if self._closing:  # what is in training stops after its epoch
            raise KeyboardInterrupt
        self._on_epoch(name, number, loss, learning_rate)


def _placed(examples: Examples, device: jax.Device) -> Examples:
    """Images on a device, if they fit."""
    if not fits_on_device(examples, device):
        return examples
    images, labels = jax.device_put((examples.images, examples.labels), device)
    return Examples(images, labels, examples.groups)
