"""Processes of this machine, for jobs on its CPU.

XLA takes the number of its threads, which decides the last bits, from the environment when it
starts: hence processes, each with as many threads as the run says. What goes wrong with one job, or
with the process that does it, is that job's failure.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import math
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import queue
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from nash_jax.architecture import Variables
from nash_jax.data import Examples
from nash_jax.estimation import Estimate, Images, Job, Network, Outcome, Seconds, Tools, perform
from nash_jax.execution.cache import use_cache
from nash_jax.execution.deaths import Deaths, Room
from nash_jax.execution.executor import Jobs
from nash_jax.jax_settings import adopt, settings
from nash_jax.record.files import writing
from nash_jax.record.networks import NETWORK_ENDING, load_network, save_network
from nash_jax.text import one_line
from nash_jax.training import faster_flags

#: Settings that make glibc, where it is the C library, keep memory between updates. Without them
#: every update gives its pages back and takes new ones.
_KEEP_MEMORY = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=100000000000"
)

#: Networks that a worker keeps in memory.
_KEPT = 4
#: A process whose connection is lost has so many seconds to end by itself.
_LAST_SECONDS = 10.0


class _Equipment(NamedTuple):
    """What a worker process needs before its first job.

    Attributes:
      folder: has the images, and the networks that jobs begin with.
      trainings, max_bytes: as in `Tools`.
      cache: keeps compiled programs; None: there is none.
      settings: JAX's.
    """

    folder: pathlib.Path
    trainings: Any
    max_bytes: int | None
    cache: str | None
    settings: Mapping[str, Any]


class _Task(NamedTuple):
    """A job, and when it was submitted."""

    job: Job
    submitted: float


class Processes:
    """Does jobs in processes that are spawned.

    Each has a pipe and a thread of its own here, and shares nothing with the others: one that dies
    takes no other with it, and is replaced. The images lie in a folder of this machine, from which
    all of them read the same memory; a network that jobs begin with is written there once.
    """

    def __init__(
        self, images: Images, tools: Tools, num_workers: int, threads_per_worker: int
    ) -> None:
        """Nothing begins before `start` or the first job.

        Args:
          images: those of the run.
          tools: what jobs are done with.
          num_workers: processes.
          threads_per_worker: of XLA, in each of them.

        Raises:
          ValueError: if this program cannot begin processes.
        """
        _check_that_processes_can_be()
        self._images, self._tools, self._num_workers = images, tools, num_workers
        self._environment = cpu_environment(threads_per_worker)
        self._cache: str | None = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
        self._settings = settings()
        self._closing, self._beginning = False, threading.Lock()
        self._ready = threading.Semaphore(0)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._networks: dict[str, Network] = {}
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._jobs, self._room = Jobs(), Room()
        self._processes: list[tuple[Any, multiprocessing.connection.Connection]] = []
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        if self._folder is not None:
            return
        self._folder = tempfile.TemporaryDirectory(prefix="nash_jax-")
        _write_images(self._path, self._images)
        self._processes = [self._begin() for _ in range(self._num_workers)]
        self._threads = [
            threading.Thread(target=self._serve, args=(number,), daemon=True)
            for number in range(self._num_workers)
        ]
        for thread in self._threads:
            thread.start()

    def wait(self) -> None:
        """Return when every process could begin with a job."""
        self.start()
        for _ in self._threads:
            self._ready.acquire()

    def put(self, name: str, network: Network) -> None:
        self._networks[name] = network  # written if there is a job for it

    def release(self, name: str) -> None:
        self._networks.pop(name, None)
        if self._folder is not None:
            _network_path(self._path, name).unlink(missing_ok=True)

    def submit(self, job: Job) -> None:
        self._jobs.submit(job)

    def done(self) -> Iterator[tuple[str, Outcome]]:
        return self._jobs.done(self._dispatch)

    def close(self) -> None:
        if self._closing:
            return
        with self._beginning:
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
        if self._folder is not None:
            self._folder.cleanup()

    @property
    def _path(self) -> pathlib.Path:
        assert self._folder is not None
        return pathlib.Path(self._folder.name)

    def _dispatch(self) -> None:
        """Hand on what has been submitted, the largest first, so that all end at the same time."""
        jobs, now = self._jobs.take(), time.monotonic()
        if jobs:
            self.start()
        for job in jobs:
            if job.parent is not None:
                path = _network_path(self._path, job.parent)
                if not path.exists():
                    save_network(path, *self._networks[job.parent])
            self._tasks.put(_Task(job, now))

    def _begin(self) -> tuple[Any, multiprocessing.connection.Connection]:
        """A new process, and our end of its pipe."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs,), daemon=True)
        with _environment(self._environment):
            process.start()
        theirs.close()
        return process, ours

    def _serve(self, number: int) -> None:
        """Have a process do one job after the other: the work of one thread."""
        try:
            try:
                self._equip(number)  # in this thread, because it waits for the process to begin
            finally:
                self._ready.release()
            while (task := self._tasks.get()) is not None:
                self._jobs.end((task.job.name, self._outcome(number, task)))
        except BaseException as error:  # the main thread raises it
            self._jobs.end(error)

    def _outcome(self, number: int, task: _Task) -> Outcome:
        """A task's outcome; a process that dies is replaced, and tries again: see `Deaths`."""
        name, deaths = task.job.name, Deaths()
        while True:
            alone = deaths.suspects(name) or self._num_workers == 1
            with self._room.taken(alone):
                outcome = self._ask(number, task)
            if outcome is not None:
                return outcome
            how = self._replace(number)
            if not how or deaths.blames(name, alone):
                failure = f"its worker {how}"
                return Outcome(Estimate(0.0, math.inf, Seconds(), failure=failure), None)
            self._tools.note(f"the worker of {name} {how}; another tries again")

    def _equip(self, number: int) -> None:
        """Send a process all that it needs; if it is killed, that will be seen later."""
        process, connection = self._processes[number]
        tools = self._tools
        try:
            connection.send(
                _Equipment(
                    self._path, tools.trainings, tools.max_bytes, self._cache, self._settings
                )
            )
            connection.recv()
        except (EOFError, OSError):
            process.join()
            if process.exitcode > 0:
                raise RuntimeError(
                    "a worker process ended before it had begun, by the error that it printed; a "
                    'program that searches needs `if __name__ == "__main__":` before what it does'
                ) from None

    def _ask(self, number: int, task: _Task) -> Outcome | None:
        """What a process makes of a task; None if it dies."""
        connection = self._processes[number][1]
        message: Any = task
        while True:
            try:
                if message is task:
                    connection.send(task)
                message = connection.recv()
            except (EOFError, OSError):  # the latter where it died in the middle of a message
                return None
            kind, *content = message
            match kind:
                case "epoch":
                    self._tools.on_epoch(*content)
                case "note":
                    self._tools.note(*content)
                case "outcome":
                    outcome: Outcome = content[0]
                    return outcome
                case _:
                    raise content[0]

    def _replace(self, number: int) -> str:
        """Put another process in the place of a dead one, and say how the dead one ended.

        While the executor is being closed, nothing is replaced, and the text is empty.
        """
        process, connection = self._processes[number]
        process.join(_LAST_SECONDS)
        process.kill()  # if only its connection is dead
        process.join()
        with self._beginning:
            if self._closing:
                return ""
            connection.close()
            self._processes[number] = self._begin()
        self._equip(number)
        code = process.exitcode
        return f"died ({signal.Signals(-code).name if code < 0 else f'exit status {code}'})"


def cpu_environment(threads: int) -> dict[str, str]:
    """Variables with which a process of CPU workers begins, with so many threads of XLA."""
    return {
        # These two decide the last bits.
        "NPROC": str(threads),
        "XLA_FLAGS": faster_flags(os.environ.get("XLA_FLAGS", "")),
        "GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", _KEEP_MEMORY),
        "JAX_PLATFORMS": "cpu",
    }


def _check_that_processes_can_be() -> None:
    """Raises `ValueError` if this process cannot begin others, or they cannot import its program.

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


def _write_images(folder: pathlib.Path, images: Images) -> None:
    """Write the images for all workers, but for the test set, which they have no use for."""
    with writing(folder):
        for part in ("train", "valid"):
            for name in ("images", "labels", "groups"):
                if (values := getattr(getattr(images, part), name)) is None:
                    continue
                array = np.ascontiguousarray(values)
                header = np.lib.format.header_data_from_array_1_0(array)
                with (folder / f"{part}-{name}.npy").open("wb") as file:
                    np.lib.format.write_array_header_1_0(file, header)
                    file.write(array.data)  # np.save does not say why a disk takes no more


def _read_images(folder: pathlib.Path) -> Images:
    """What `_write_images` wrote, as memory that all processes share."""

    def read(part: str) -> Examples:
        paths = {name: folder / f"{part}-{name}.npy" for name in ("images", "labels", "groups")}
        return Examples(
            **{
                name: np.load(path, mmap_mode="r", allow_pickle=False)
                for name, path in paths.items()
                if path.exists()
            }
        )

    train = read("train")
    return Images(train, read("valid"), train.take(np.arange(0)))


def _network_path(folder: pathlib.Path, name: str) -> pathlib.Path:
    return folder / (name + NETWORK_ENDING)


def _on_host(variables: Variables | None) -> Any:
    return jax.tree.map(np.asarray, variables)


def _work(connection: multiprocessing.connection.Connection) -> None:
    """The life of a worker process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the main process says when to stop
    threading.Thread(target=_die_with_parent, daemon=True).start()
    equipment: _Equipment = connection.recv()
    adopt(equipment.settings)
    if equipment.cache:
        use_cache(equipment.cache)
    jax.devices()  # start XLA
    images = _read_images(equipment.folder)
    tools = Tools(
        on_epoch=lambda *epoch: connection.send(("epoch", *epoch)),
        note=lambda text: connection.send(("note", text)),
        trainings=equipment.trainings,
        max_bytes=equipment.max_bytes,
    )
    connection.send("ready")
    networks: collections.OrderedDict[str, Network] = collections.OrderedDict()
    free = 0.0
    while True:
        task: _Task = connection.recv()
        waited = time.monotonic() - max(task.submitted, free)
        try:
            parent = _parent(networks, equipment.folder, task.job)
            outcome = perform(task.job, images, parent, tools)
        except Exception as error:  # the main process raises it
            error.add_note(f"in a worker process:\n{traceback.format_exc()}")
            _send(connection, "error", error)
            continue
        free = time.monotonic()
        seconds = outcome.estimate.seconds + Seconds(wait=waited)
        estimate = dataclasses.replace(outcome.estimate, seconds=seconds)
        _send(connection, "outcome", Outcome(estimate, _on_host(outcome.variables)))


def _send(connection: multiprocessing.connection.Connection, kind: str, content: Any) -> None:
    """Send what came of a task; if it cannot be sent, an error that says so in words."""
    try:
        connection.send((kind, content))
    except OSError:
        raise
    except Exception as error:  # pickling raises all kinds
        words = f"the outcome of a trial must be such that it can be pickled: {one_line(error)}"
        if isinstance(content, Exception):
            words = "\n".join([one_line(content), *content.__notes__])
        connection.send(("error", RuntimeError(words)))


def _parent(
    networks: collections.OrderedDict[str, Network], folder: pathlib.Path, job: Job
) -> Network | None:
    """The network that a job begins with, read once."""
    if job.parent is None:
        return None
    if job.parent in networks:
        networks.move_to_end(job.parent)
    else:
        networks[job.parent] = Network(*load_network(_network_path(folder, job.parent)))
        while len(networks) > _KEPT:
            networks.popitem(last=False)
    return networks[job.parent]


def _die_with_parent() -> None:
    """End this process when its parent has ended, however that was."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
