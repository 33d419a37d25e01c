"""Children of one step, side by side: in processes on CPU, in a thread per device elsewhere.

A child is the same whoever makes it: all that is random comes from its proposal's key, and on CPU,
where the number of XLA's threads decides the last bits, every child has as many of them as the
config says. XLA takes that number from the environment when it starts, hence the processes.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import heapq
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from nash_jax import morphisms
from nash_jax.architecture import Architecture, Variables, count_flops, init
from nash_jax.data import Examples
from nash_jax.estimation import Seconds, train_and_validate
from nash_jax.runs.cache import use_cache
from nash_jax.runs.config import Config
from nash_jax.search import Candidate, Proposal
from nash_jax.training import faster_flags, precompile, precompile_evaluation

#: Settings of the C library that keep memory between updates, where it is glibc: without them every
#: update gives its pages back and takes new ones, which costs it 5 to 15 percent.
_KEEP_MEMORY = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=100000000000"
)


def make_child(
    config: Config,
    train: Examples,
    valid: Examples,
    best: Candidate,
    proposal: Proposal,
    on_epoch: Callable[[int], None],
    max_bytes: int | None = None,
) -> Candidate:
    """Grow a proposal out of the current best, train it briefly and validate it.

    Args:
      config: says how it is trained.
      train: training images.
      valid: validation images.
      best: the current best.
      proposal: what to make of it.
      on_epoch: is told of every epoch.
      max_bytes: of memory; a child that wants more is a failure, and not trained.
    """
    grow_key, train_key, batch_key = jax.random.split(proposal.key, 3)
    start = time.perf_counter()
    variables = best.variables
    if proposal.edits:
        batch = jax.random.choice(batch_key, len(train), (config.batch_size,), replace=False)
        images = train.images[jax.device_get(batch)]
        _, variables = morphisms.Sequence(proposal.edits)(best.spec, variables, grow_key, images)
        jax.block_until_ready(variables)
    # Nearly all of growing is compiling the forward pass that calibrates normalisation.
    growing = Seconds(compile=time.perf_counter() - start)
    variables, estimate = train_and_validate(
        proposal.spec,
        variables,
        *(train_key, train, valid, config.epochs_neighbours, config.training, on_epoch, max_bytes),
    )
    estimate = dataclasses.replace(estimate, seconds=estimate.seconds + growing)
    return Candidate(proposal.name, best.name, proposal.edits, proposal.spec, variables, estimate)


class Crew(Protocol):
    """Makes children."""

    def make(self, best: Candidate, proposals: Sequence[Proposal]) -> Iterator[Candidate]:
        """The children, in the order of the proposals, as they are finished."""


@contextlib.contextmanager
def hire(
    config: Config,
    train: Examples,
    valid: Examples,
    workers: int,
    devices: Sequence[jax.Device],
    on_epoch: Callable[[], None],
) -> Iterator[Crew]:
    """Who makes the children of a run.

    Args:
      config: the settings.
      train: training images.
      valid: validation images.
      workers: processes, on CPU.
      devices: accelerators, each with a thread; on CPU of no meaning.
      on_epoch: is told of every epoch, from any thread.
    """
    interrupted = threading.Event()

    def after_epoch(_: int) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        on_epoch()

    if devices[0].platform != "cpu":
        crew: Any = _Devices(config, train, valid, devices, after_epoch)
    else:
        crew = _Processes(config, train, valid, workers, on_epoch)
    try:
        yield crew
    except BaseException:
        interrupted.set()  # what is in training stops after its epoch
        raise
    finally:
        crew.close()


def _largest_first(proposals: Sequence[Proposal]) -> list[Proposal]:
    """In the order that lets all workers end at about the same time."""
    return sorted(proposals, key=lambda proposal: -count_flops(proposal.spec))


def max_bytes(config: Config, device: jax.Device | None = None) -> int | None:
    """What a training may take of a device's memory: as configured, or all of an accelerator's."""
    if config.max_memory:
        return int(config.max_memory * 2**30)
    stats = device.memory_stats() if device is not None else None
    return stats.get("bytes_limit") if stats else None


class _Devices:
    """A thread for each device, and threads that compile what the devices will need next."""

    def __init__(
        self,
        config: Config,
        train: Examples,
        valid: Examples,
        devices: Sequence[jax.Device],
        on_epoch: Callable[[int], None],
    ) -> None:
        self._config, self._devices, self._on_epoch = config, devices, on_epoch
        self._data = {
            device: [
                Examples(*jax.device_put((data.images, data.labels), device))
                for data in (train, valid)
            ]
            for device in devices
        }
        self._workers = [concurrent.futures.ThreadPoolExecutor(1) for _ in devices]
        self._compilers = concurrent.futures.ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1))
        self._free_since = dict.fromkeys(devices, 0.0)

    def make(self, best: Candidate, proposals: Sequence[Proposal]) -> Iterator[Candidate]:
        submitted = time.time()
        load = [(0, number) for number in range(len(self._devices))]
        futures = {}
        for proposal in _largest_first(proposals):
            flops, number = heapq.heappop(load)  # the device with the least to do
            heapq.heappush(load, (flops + count_flops(proposal.spec), number))
            device = self._devices[number]
            ahead = self._compilers.submit(self._compile, proposal.spec, device)
            futures[proposal.name] = self._workers[number].submit(
                self._make, best, proposal, device, ahead, submitted
            )
        for proposal in proposals:
            yield futures[proposal.name].result()

    def _compile(self, spec: Architecture, device: jax.Device) -> float:
        """Compile the training and the evaluation of a child; the seconds that it took."""
        train, valid = self._data[device]
        training = self._config.training
        with jax.default_device(device):
            key = jax.random.key(0)
            shapes = jax.eval_shape(lambda: init(spec, key))
            return precompile(spec, shapes, train, key, training) + precompile_evaluation(
                spec, shapes, valid, training.precision
            )

    def _make(
        self,
        best: Candidate,
        proposal: Proposal,
        device: jax.Device,
        ahead: concurrent.futures.Future[float],
        submitted: float,
    ) -> Candidate:
        waited = time.time() - max(submitted, self._free_since[device])
        with jax.default_device(device):
            here = dataclasses.replace(best, variables=jax.device_put(best.variables, device))
            train, valid = self._data[device]
            limit = max_bytes(self._config, device)
            child = make_child(self._config, train, valid, here, proposal, self._on_epoch, limit)
        self._free_since[device] = time.time()
        return _with(child, Seconds(wait=waited, compile=ahead.result()))

    def close(self) -> None:
        for pool in (*self._workers, self._compilers):
            pool.shutdown(wait=False, cancel_futures=True)


def _with(child: Candidate, seconds: Seconds) -> Candidate:
    estimate = dataclasses.replace(child.estimate, seconds=child.estimate.seconds + seconds)
    return dataclasses.replace(child, estimate=estimate)


class _Processes:
    """Spawned processes, each with as many of XLA's threads as the config says."""

    def __init__(
        self,
        config: Config,
        train: Examples,
        valid: Examples,
        workers: int,
        on_epoch: Callable[[], None],
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._stop, self._epochs = context.Event(), context.SimpleQueue()
        self._inbox = context.Queue()  # a process would be waited for that took these as arguments
        for _ in range(workers):
            self._inbox.put((config, train, valid))
        self._listener = threading.Thread(target=self._listen, args=(on_epoch,), daemon=True)
        self._listener.start()
        cache: str | None = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
        self._pool = concurrent.futures.ProcessPoolExecutor(
            workers,
            context,
            _enter,
            (self._inbox, self._epochs, self._stop, cache),
        )
        environment = {
            # These two decide the last bits of a child.
            "NPROC": str(config.threads_per_child),
            "XLA_FLAGS": faster_flags(os.environ.get("XLA_FLAGS", "")),
            "GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", _KEEP_MEMORY),
            "JAX_PLATFORMS": "cpu",
        }
        with _environment(environment):  # a process is started for each task that finds none free
            for _ in range(workers):
                self._pool.submit(_ready)

    def _listen(self, on_epoch: Callable[[], None]) -> None:
        while self._epochs.get():
            on_epoch()

    def make(self, best: Candidate, proposals: Sequence[Proposal]) -> Iterator[Candidate]:
        best = dataclasses.replace(best, variables=_on_host(best.variables))
        submitted = time.time()
        futures = {}
        for proposal in _largest_first(proposals):
            key = np.asarray(jax.random.key_data(proposal.key))
            task = (best, proposal.name, proposal.edits, proposal.spec, key, submitted)
            futures[proposal.name] = self._pool.submit(_work, *task)
        for proposal in proposals:
            yield futures[proposal.name].result()

    def close(self) -> None:
        self._stop.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._inbox.cancel_join_thread()  # of a run that ends before its workers have begun
        self._inbox.close()
        self._epochs.put(False)
        self._listener.join()


@contextlib.contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _on_host(variables: Variables) -> Any:
    return jax.tree.map(np.asarray, variables)


_here: dict[str, Any] = {}  # what a worker process knows


def _enter(inbox: Any, epochs: Any, stop: Any, cache: str | None) -> None:
    """The beginning of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process says when to stop
    if cache:
        use_cache(cache)
    config, train, valid = inbox.get()
    _here.update(config=config, train=train, valid=valid, epochs=epochs, stop=stop, free=0.0)


def _ready() -> None:
    jax.devices()  # start XLA


def _work(
    best: Candidate,
    name: str,
    edits: tuple[morphisms.Edit, ...],
    spec: Architecture,
    key: np.ndarray,
    submitted: float,
) -> Candidate:
    """One child, in a worker process."""
    waited = time.time() - max(submitted, _here["free"])
    config: Config = _here["config"]

    def on_epoch(_: int) -> None:
        if _here["stop"].is_set():
            raise KeyboardInterrupt
        _here["epochs"].put(True)

    proposal = Proposal(name, edits, spec, jax.random.wrap_key_data(jnp.asarray(key)))
    child = make_child(
        config, _here["train"], _here["valid"], best, proposal, on_epoch, max_bytes(config)
    )
    child = dataclasses.replace(child, variables=_on_host(child.variables))
    _here["free"] = time.time()
    return _with(child, Seconds(wait=waited))
