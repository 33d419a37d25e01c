"""Children of one step, side by side: in processes on CPU, in a thread per device elsewhere.

A child is the same whoever makes it: all that is random comes from its proposal's key, and on CPU,
where the number of XLA's threads decides the last bits, every child has as many of them as the
config says. XLA takes that number from the environment when it starts, hence the processes. What
goes wrong with one child, or with the process that makes it, is that child's failure.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import heapq
import math
import multiprocessing
import multiprocessing.connection
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from nash_jax import morphisms
from nash_jax.architecture import Architecture, Variables, count_flops, init
from nash_jax.data import Examples
from nash_jax.estimation import FAILURES, Estimate, Seconds, failed, train_and_validate
from nash_jax.jax_settings import adopt, holding, settings
from nash_jax.machine import num_cores
from nash_jax.runs.cache import use_cache
from nash_jax.runs.checkpoint import NO_CHECKPOINTS, Checkpoints
from nash_jax.runs.config import Config
from nash_jax.search import Candidate, Proposal
from nash_jax.training import faster_flags, fits_on_device, precompile, precompile_evaluation

#: Settings of the C library that keep memory between updates, where it is glibc: without them every
#: update gives its pages back and takes new ones, which costs it 5 to 15 percent.
_KEEP_MEMORY = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=100000000000"
)


class Listener(Protocol):
    """Who is told of what happens while children are made, from any thread."""

    def epoch(self, name: str, epoch: int, loss: float) -> None:
        """An epoch of a candidate's training is done, with this mean loss."""

    def note(self, text: str) -> None:
        """Something happened that people should know of."""


def make_child(
    config: Config,
    train: Examples,
    valid: Examples,
    best: Candidate,
    proposal: Proposal,
    listener: Listener,
    max_bytes: int | None = None,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
    grown: Variables | None = None,
) -> Candidate:
    """Grow a proposal out of the current best, train it briefly and validate it.

    Args:
      config: says how it is trained.
      train: training images.
      valid: validation images.
      best: the current best.
      proposal: what to make of it.
      listener: is told of every epoch.
      max_bytes: of memory; a child that wants more is a failure, and not trained.
      checkpoints: where an unfinished training of it may be, and is written.
      grown: what `grow` gives, if that is done.

    Returns:
      The child; if it could not be trained, without weights and with an estimate that says why.
    """
    start = time.perf_counter()
    name, spec, variables = proposal.name, proposal.spec, best.variables
    settings = config.training_of_children
    training = checkpoints.of(name, spec, settings, listener.note)
    try:
        train_key = jax.random.split(proposal.key, 3)[1]
        if not training.unfinished:
            variables = grow(config, best, proposal, train) if grown is None else grown
            jax.block_until_ready(variables)
        # Nearly all of growing is compiling the forward pass that calibrates normalisation.
        growing = Seconds(compile=time.perf_counter() - start)
        variables, estimate = train_and_validate(
            *(spec, variables, train_key, train, valid, config.epochs_neighbours, settings),
            lambda epoch, loss: listener.epoch(name, epoch, loss),
            max_bytes=max_bytes,
            resume=training.unfinished,
            checkpoint=training.checkpoint,
        )
        estimate = dataclasses.replace(estimate, seconds=estimate.seconds + growing)
    except FAILURES as error:
        variables, estimate = {}, failed(error, time.perf_counter() - start)
    return Candidate(name, best.name, proposal.edits, spec, variables, estimate)


def grow(config: Config, best: Candidate, proposal: Proposal, train: Examples) -> Variables:
    """The weights that a child begins with.

    Args:
      config, best, proposal, train: as in `make_child`.
    """
    grow_key, _, batch_key = jax.random.split(proposal.key, 3)
    if config.inherit == "nothing":
        return init(proposal.spec, grow_key)
    if not proposal.edits:
        return best.variables
    if config.inherit == "by_name":
        return morphisms.inherit_by_name(best.spec, best.variables, proposal.spec, grow_key)
    batch = jax.random.choice(batch_key, len(train), (config.batch_size,), replace=False)
    images = train.images[jax.device_get(batch)]
    return morphisms.Sequence(proposal.edits)(best.spec, best.variables, grow_key, images)[1]


class Crew(Protocol):
    """Makes children."""

    def make(self, best: Candidate, proposals: Sequence[Proposal]) -> Iterator[Candidate]:
        """The children, in the order in which they are finished."""

    def start(self) -> None:
        """Get ready to make children, while the caller does something else."""

    def wait(self) -> None:
        """Return when all who make children could begin."""


@contextlib.contextmanager
def hire(
    config: Config,
    train: Examples,
    valid: Examples,
    workers: int,
    devices: Sequence[jax.Device],
    listener: Listener,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
) -> Iterator[Crew]:
    """Who makes the children of a run.

    Args:
      config: the settings.
      train: training images.
      valid: validation images.
      workers: processes, on CPU.
      devices: accelerators, each with a thread; on CPU of no meaning.
      listener: is told of every epoch, from any thread.
      checkpoints: where unfinished trainings are written.

    Raises:
      ValueError: if this program cannot begin processes.
    """
    crew: Any
    if devices[0].platform != "cpu":
        crew = _Devices(config, train, valid, devices, listener, checkpoints)
    else:
        if config.num_steps:
            _check_that_processes_can_be()
        crew = _Processes(config, train, valid, workers, listener, checkpoints)
    try:
        yield crew
    finally:
        crew.close()


def _check_that_processes_can_be() -> None:
    """Raises `ValueError` if this process may have no others, or they could not read its program.

    A new process imports the file of the program that begins it.
    """
    if multiprocessing.current_process().daemon:
        raise ValueError(
            "children are trained in processes, which a daemonic process cannot begin, such as a "
            "worker of multiprocessing.Pool; call the search from a worker of "
            "concurrent.futures.ProcessPoolExecutor, or from the main process"
        )
    program = sys.modules["__main__"]
    file = getattr(program, "__file__", None)
    if getattr(program, "__spec__", None) is None and file and not os.path.isfile(file):
        raise ValueError(
            "children are trained in processes, which import the file of the program; got "
            f"{file}, which is none; put the program into a file"
        )


def _largest_first(proposals: Sequence[Proposal]) -> list[Proposal]:
    """In the order that lets all workers end at about the same time."""
    return sorted(proposals, key=lambda proposal: -count_flops(proposal.spec))


def max_bytes(config: Config, device: jax.Device | None = None) -> int | None:
    """What a training may take of a device's memory: as configured, or all of an accelerator's."""
    if config.max_memory:
        return int(config.max_memory * 2**30)
    stats = device.memory_stats() if device is not None else None
    return stats.get("bytes_limit") if stats else None


#: A proposal whose programs are compiled and whose weights are grown; the seconds that it took.
_Ahead = concurrent.futures.Future[tuple[float, Variables]]
_Ready = tuple[Proposal, _Ahead]


def _announce(ready: queue.SimpleQueue[_Ready], proposal: Proposal, ahead: _Ahead) -> None:
    ready.put((proposal, ahead))


class _Devices:
    """A thread for each device, and threads that compile what the devices will need next."""

    def __init__(
        self,
        config: Config,
        train: Examples,
        valid: Examples,
        devices: Sequence[jax.Device],
        listener: Listener,
        checkpoints: Checkpoints = NO_CHECKPOINTS,
    ) -> None:
        self._config, self._devices = config, devices
        self._listener, self._checkpoints = listener, checkpoints
        self._closing, self._settings = False, settings()
        self._data = {
            device: [
                Examples(*jax.device_put((data.images, data.labels), device))
                if fits_on_device(data, device)
                else data
                for data in (train, valid)
            ]
            for device in devices
        }
        self._workers = [concurrent.futures.ThreadPoolExecutor(1) for _ in devices]
        self._compilers = concurrent.futures.ThreadPoolExecutor(max(1, num_cores() - 1))
        self._free_since = dict.fromkeys(devices, 0.0)

    def make(self, best: Candidate, proposals: Sequence[Proposal]) -> Iterator[Candidate]:
        submitted = time.time()
        load = [(0, number) for number in range(len(self._devices))]
        of_device: dict[int, list[Proposal]] = {}
        for proposal in _largest_first(proposals):
            flops, number = heapq.heappop(load)  # the device with the least to do
            heapq.heappush(load, (flops + count_flops(proposal.spec), number))
            of_device.setdefault(number, []).append(proposal)
        futures = []
        for number, mine in of_device.items():
            device = self._devices[number]
            here = dataclasses.replace(best, variables=jax.device_put(best.variables, device))
            # A device takes what is ready first. That is the unchanged parent, whose program there
            # is; then small networks, which are compiled soonest.
            ready: queue.SimpleQueue[_Ready] = queue.SimpleQueue()
            for proposal in sorted(mine, key=lambda p: (bool(p.edits), count_flops(p.spec))):
                ahead = self._compilers.submit(self._prepare, here, proposal, device)
                ahead.add_done_callback(functools.partial(_announce, ready, proposal))
            futures += [
                self._workers[number].submit(self._make, here, ready, device, submitted)
                for _ in mine
            ]
        for future in concurrent.futures.as_completed(futures):
            yield future.result()

    def _prepare(
        self, here: Candidate, proposal: Proposal, device: jax.Device
    ) -> tuple[float, Variables]:
        """Compile training and evaluation of a child and grow its weights; the seconds of that."""
        train, valid = self._data[device]
        training, start = self._config.training_of_children, time.perf_counter()
        with holding(self._settings), jax.default_device(device):
            key = jax.random.key(0)
            shapes = jax.eval_shape(lambda: init(proposal.spec, key))
            precompile(proposal.spec, shapes, train, key, training)
            precompile_evaluation(proposal.spec, shapes, valid, **training.evaluation)
            variables = grow(self._config, here, proposal, train)
        return time.perf_counter() - start, variables

    def _make(
        self,
        here: Candidate,
        ready: queue.SimpleQueue[_Ready],
        device: jax.Device,
        submitted: float,
    ) -> Candidate:
        proposal, ahead = ready.get()
        if self._closing:
            raise KeyboardInterrupt
        waited = time.time() - max(submitted, self._free_since[device])
        with holding(self._settings), jax.default_device(device):
            train, valid = self._data[device]
            limit = max_bytes(self._config, device)
            # What fails ahead fails here again, and is the child's failure.
            compiling, grown = (0.0, None) if ahead.exception() else ahead.result()
            child = make_child(
                *(self._config, train, valid, here, proposal, self, limit, self._checkpoints),
                grown=grown,
            )
        self._free_since[device] = time.time()
        return _with(child, Seconds(wait=waited, compile=compiling))

    def start(self) -> None:
        """Devices are always there."""

    def wait(self) -> None:
        """Devices are always there."""

    def epoch(self, name: str, epoch: int, loss: float) -> None:
        if self._closing:  # what is in training stops after its epoch
            raise KeyboardInterrupt
        self._listener.epoch(name, epoch, loss)

    def note(self, text: str) -> None:
        self._listener.note(text)

    def close(self) -> None:
        self._closing = True
        for pool in (*self._workers, self._compilers):
            pool.shutdown(wait=False, cancel_futures=True)


def _with(child: Candidate, seconds: Seconds) -> Candidate:
    estimate = dataclasses.replace(child.estimate, seconds=child.estimate.seconds + seconds)
    return dataclasses.replace(child, estimate=estimate)


class _Task(NamedTuple):
    """What a worker process is sent; the key as numbers."""

    best: Candidate
    name: str
    edits: tuple[morphisms.Edit, ...]
    spec: Architecture
    key: np.ndarray
    submitted: float


class _Processes:
    """Spawned processes, each with as many of XLA's threads as the config says.

    Each has a pipe and a thread of its own here, and shares nothing with the others: a process that
    dies takes nobody with it, and another takes its place.
    """

    def __init__(
        self,
        config: Config,
        train: Examples,
        valid: Examples,
        workers: int,
        listener: Listener,
        checkpoints: Checkpoints,
    ) -> None:
        cache: str | None = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
        self._equipment = config, train, valid, checkpoints, cache, settings()
        self._environment = {
            # These two decide the last bits of a child.
            "NPROC": str(config.threads_per_child),
            "XLA_FLAGS": faster_flags(os.environ.get("XLA_FLAGS", "")),
            "GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", _KEEP_MEMORY),
            "JAX_PLATFORMS": "cpu",
        }
        self._listener, self._closing, self._hiring = listener, False, threading.Lock()
        self._ready = threading.Semaphore(0)
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Candidate | BaseException] = queue.SimpleQueue()
        self._workers = workers
        self._processes: list[tuple[Any, multiprocessing.connection.Connection]] = []
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        if not self._processes:
            self._processes = [self._begin() for _ in range(self._workers)]
            self._threads = [
                threading.Thread(target=self._employ, args=(number,), daemon=True)
                for number in range(self._workers)
            ]
            for thread in self._threads:
                thread.start()

    def make(self, best: Candidate, proposals: Sequence[Proposal]) -> Iterator[Candidate]:
        if not proposals:
            return
        self.start()
        best = dataclasses.replace(best, variables=_on_host(best.variables))
        submitted = time.time()
        for p in _largest_first(proposals):
            key = np.asarray(jax.random.key_data(p.key))
            self._tasks.put(_Task(best, p.name, p.edits, p.spec, key, submitted))
        for _ in proposals:
            result = self._results.get()
            if isinstance(result, BaseException):
                raise result
            yield result

    def wait(self) -> None:
        """Return when every process could begin with a child."""
        self.start()
        for _ in self._threads:
            self._ready.acquire()

    def close(self) -> None:
        with self._hiring:
            self._closing = True
            for process, _ in self._processes:
                process.kill()  # what it writes is whole or not there
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()
        for process, connection in self._processes:
            process.join()
            connection.close()

    def _begin(self) -> tuple[Any, multiprocessing.connection.Connection]:
        """A new process, and our end of its pipe."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs,), daemon=True)
        with _environment(self._environment):
            process.start()
        theirs.close()
        return process, ours

    def _employ(self, number: int) -> None:
        """Have a process make one child after the other: the work of one thread."""
        try:
            try:
                self._equip(number)  # in this thread, because it waits for the process to begin
            finally:
                self._ready.release()
            while (task := self._tasks.get()) is not None:
                child, how = self._ask(number, task), ""
                for again in (True, False):
                    if child is None and (how := self._replace(number)) and again:
                        self._listener.note(f"the worker of {task.name} {how}; another tries again")
                        child = self._ask(number, task)
                if child is None:
                    estimate = Estimate(0.0, math.inf, Seconds(), failure=f"its worker {how}")
                    name, parent = task.name, task.best.name
                    child = Candidate(name, parent, task.edits, task.spec, {}, estimate)
                self._results.put(child)
        except BaseException as error:  # the main thread raises it
            self._results.put(error)

    def _equip(self, number: int) -> None:
        """Send a process all that it needs; if it is killed, that will be seen later."""
        process, connection = self._processes[number]
        try:
            connection.send(self._equipment)
            connection.recv()
        except (EOFError, OSError):
            process.join()
            if process.exitcode > 0:
                raise RuntimeError(
                    "a worker process ended before it had begun, by the error that it printed; a "
                    'program that searches needs `if __name__ == "__main__":` before what it does'
                ) from None

    def _ask(self, number: int, task: _Task) -> Candidate | None:
        """What a process makes of a task; nothing if it dies."""
        connection = self._processes[number][1]
        try:
            connection.send(task)
            while True:
                kind, *content = connection.recv()
                match kind:
                    case "epoch":
                        self._listener.epoch(*content)
                    case "note":
                        self._listener.note(*content)
                    case "child":
                        child: Candidate = content[0]
                        return child
                    case _:
                        raise content[0]
        except (EOFError, ConnectionError):
            return None

    def _replace(self, number: int) -> str:
        """Put another process in the place of a dead one, and say how that died.

        Nothing is said, and nobody hired, where the crew is dismissed.
        """
        process, connection = self._processes[number]
        process.join()
        with self._hiring:
            if self._closing:
                return ""
            connection.close()
            self._processes[number] = self._begin()
        self._equip(number)
        code = process.exitcode
        return f"died ({signal.Signals(-code).name if code < 0 else f'exit status {code}'})"


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


def _work(connection: multiprocessing.connection.Connection) -> None:
    """The life of a worker process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the main process says when to stop
    threading.Thread(target=_die_with_parent, daemon=True).start()
    config, train, valid, checkpoints, cache, given = connection.recv()
    adopt(given)
    if cache:
        use_cache(cache)
    jax.devices()  # start XLA
    connection.send("ready")
    messenger, free = _Messenger(connection), 0.0
    while True:
        task: _Task = connection.recv()
        waited = time.time() - max(task.submitted, free)
        key = jax.random.wrap_key_data(jnp.asarray(task.key))
        proposal = Proposal(task.name, task.edits, task.spec, key)
        try:
            limit = max_bytes(config)
            child = make_child(
                *(config, train, valid, task.best, proposal, messenger, limit, checkpoints)
            )
        except Exception as error:  # the main process raises it
            error.add_note(f"in a worker process:\n{traceback.format_exc()}")
            connection.send(("error", error))
            continue
        child = dataclasses.replace(child, variables=_on_host(child.variables))
        free = time.time()
        connection.send(("child", _with(child, Seconds(wait=waited))))


def _die_with_parent() -> None:
    """End this process when its parent has ended, however that was."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


class _Messenger:
    """Tells the main process what happens in this one."""

    def __init__(self, connection: multiprocessing.connection.Connection) -> None:
        self._connection = connection

    def epoch(self, name: str, epoch: int, loss: float) -> None:
        self._connection.send(("epoch", name, epoch, loss))

    def note(self, text: str) -> None:
        self._connection.send(("note", text))
