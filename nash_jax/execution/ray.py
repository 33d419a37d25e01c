"""A cluster of Ray's, for jobs on its CPUs or accelerators.

Each worker is an actor, so that its compiled programs, XLA and the images stay where they are from
job to job; a task of Ray's may come into any process. Which node has how many is decided here: a
node can be refused, and a job done with nothing beside it. The driver alone reads and writes files.

One thread knows all workers. It asks each for its next messages, and whatever happens, an answer, a
death or a new job, comes to it through one queue.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import math
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from nash_jax.estimation import (
    ESTIMATORS,
    Estimate,
    Images,
    Job,
    Network,
    Outcome,
    Seconds,
    Tools,
)
from nash_jax.estimation.job import Unfinished
from nash_jax.execution.deaths import Deaths
from nash_jax.execution.executor import Jobs
from nash_jax.execution.ray_cluster import Node, Size, import_ray, joined, nodes
from nash_jax.execution.ray_worker import (
    Equipment,
    Message,
    Task,
    Worker,
    about_this,
    as_arrays,
    on_host,
    other_versions,
)
from nash_jax.jax_settings import settings
from nash_jax.record.checkpoints import Checkpoints
from nash_jax.text import listed, one_line
from nash_jax.training import Snapshot

#: Seconds between two looks at the nodes, if nothing happens.
_TICK = 1.0
#: Seconds without a worker after which people are told what is waited for.
_PATIENCE = 30.0
#: Workers that may end on a node before they are ready.
_BEGINNINGS = 3


__all__ = ["Ray", "Size", "Use", "joined", "nodes"]


class Use(NamedTuple):
    """What is used of a cluster.

    Attributes:
      size: what a worker takes of a node.
      environment: variables that its processes have from their beginning.
      most: workers.
    """

    size: Size
    environment: Mapping[str, str]
    most: int


@dataclasses.dataclass(eq=False)
class _Given:
    """A job that is to be done, or is being done."""

    job: Job
    submitted: float
    parent: Any


@dataclasses.dataclass(eq=False)
class _Actor:
    """A worker, and what it is doing."""

    handle: Any
    node: Node
    ready: bool = False
    given: _Given | None = None
    alone: bool = False
    waited: float = 0.0
    free: float = 0.0
    saved: _Saved | None = None


class _Answer(NamedTuple):
    """Something that a worker has said, or how it ended."""

    actor: _Actor
    method: str
    future: concurrent.futures.Future[Any]


class _Found(NamedTuple):
    """A snapshot has been looked for."""

    actor: _Actor
    future: concurrent.futures.Future[Snapshot | None]


_CLOSE = object()


class Ray:
    """Does jobs in actors of Ray's."""

    def __init__(self, images: Images, tools: Tools, use: Use, address: str) -> None:
        """Join the cluster; workers begin with `start` or the first job.

        Args:
          images: those of the run.
          tools: what jobs are done with.
          use: what is used of the cluster.
          address: where it is: see `joined`.

        Raises:
          ValueError: if there is none, or it has no room for a worker.
        """
        self._images, self._tools, self._use = images, tools, use
        self._closing = contextlib.ExitStack()
        self._closing.enter_context(joined(address, use.size))
        self._ray = import_ray()
        checkpoints = tools.trainings if isinstance(tools.trainings, Checkpoints) else None
        kept = checkpoints is not None and checkpoints.folder is not None
        self._checkpoints = checkpoints if kept else None
        folder: str | None = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
        self._equipment = Equipment(
            settings(),
            dict(ESTIMATORS),
            tools.max_bytes,
            None if self._checkpoints is None else self._checkpoints.seconds,
            None if folder is None else (folder, about_this()["machine"]),
        )
        self._networks: dict[str, Network] = {}
        self._there: dict[str, Any] = {}  # of networks that jobs begin with, references to them
        self._jobs, self._deaths = Jobs(), Deaths()
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._disk = concurrent.futures.ThreadPoolExecutor(1, "snapshots")
        self._thread: threading.Thread | None = None
        # What only the thread uses.
        self._actors: list[_Actor] = []
        self._waiting: collections.deque[_Given] = collections.deque()
        self._suspects: list[_Given] = []  # waiting too: workers died of them
        self._failed_to_begin: collections.Counter[str] = collections.Counter()
        self._refused: dict[str, str] = {}
        self._known: dict[str, Node] = {}
        self._patient_until = math.inf
        self._load = (0, 0, 0)
        self._changed = True  # there may be a job for a worker

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, daemon=True)
            self._thread.start()

    def put(self, name: str, network: Network) -> None:
        self._networks[name] = network  # put into the object store if there is a job for it

    def release(self, name: str) -> None:
        self._networks.pop(name, None)
        self._there.pop(name, None)

    def submit(self, job: Job) -> None:
        self._jobs.submit(job)

    def done(self) -> Iterator[tuple[str, Outcome]]:
        return self._jobs.done(self._dispatch)

    def close(self) -> None:
        if self._thread is not None:
            self._events.put(_CLOSE)
            self._thread.join()
            self._thread = None
        self._disk.shutdown()
        self._there.clear()
        self._closing.close()

    def _dispatch(self) -> None:
        """Hand on what has been submitted, the largest first, so that all end at the same time."""
        jobs, now = self._jobs.take(), time.monotonic()
        if not jobs:
            return
        self.start()
        given = []
        for job in jobs:
            if job.parent is not None and job.parent not in self._there:
                network = self._networks[job.parent]
                on_this = network._replace(variables=on_host(network.variables))
                self._there[job.parent] = self._ray.put(on_this)
            given.append(_Given(job, now, self._there.get(job.parent or "")))
        self._events.put(given)

    # What the thread does.

    def _serve(self) -> None:
        """Do what each event asks for, until the executor is closed."""
        try:
            arrays = self._ray.put(as_arrays(self._images))
            self._patient_until, looked = time.monotonic() + _PATIENCE, -math.inf
            while True:
                if time.monotonic() - looked >= _TICK:
                    self._begin_workers()
                    self._tell_load()
                    self._changed, looked = True, time.monotonic()
                if self._changed:
                    self._assign()
                with contextlib.suppress(queue.Empty):
                    event = self._events.get(timeout=_TICK)
                    if event is _CLOSE:
                        break
                    self._take(event, arrays)
        except BaseException as error:  # the main thread raises it
            self._jobs.end(error)
        for actor in self._actors:
            self._kill(actor)
            if actor.saved is not None:
                self._on_disk(actor.saved.close)
        self._tools.on_load(0, 0, 0)

    def _take(self, event: Any, arrays: Any) -> None:
        match event:
            case _Answer(actor, method, future) if actor in self._actors:
                if (error := future.exception()) is not None:
                    self._end(actor, error)
                    return
                answer: Any = future.result()
                match method:
                    case "about":
                        self._admit(actor, answer, arrays)
                    case "equip":
                        actor.ready, actor.free = True, time.monotonic()
                        self._changed = True
                    case _:
                        self._hear(actor, answer)
            case _Found(actor, looking) if actor in self._actors:
                self._call(actor, "found", looking.result())
            case list(given):
                self._waiting.extend(given)
                self._changed = True

    def _tell_load(self) -> None:
        """Tell how much of the cluster is used, if it is another than the last time."""
        ready = [actor.node.id for actor in self._actors if actor.ready]
        load = len(set(ready)), len(ready), len(self._waiting) + len(self._suspects)
        if load != self._load:
            self._tools.on_load(*load)
        self._load = load

    def _call(self, actor: _Actor, method: str, *args: Any) -> None:
        """Have a worker do something; its answer will be an event."""

        def answered(future: concurrent.futures.Future[Any]) -> None:
            self._events.put(_Answer(actor, method, future))

        reference = getattr(actor.handle, method).remote(*args)
        reference.future().add_done_callback(answered)

    def _begin_workers(self) -> None:
        """Look for new nodes, and have as many workers as there may be, on all nodes alike."""
        found = {node.id: node for node in nodes(self._use.size)}
        lost = [node for node in self._known.values() if node.id not in found]
        for node in lost:
            self._tools.note(f"node {node.name} is lost")
        if new := [node for node in found.values() if node.id not in self._known]:
            names, slots = listed(node.name for node in new), sum(node.slots for node in new)
            self._tools.note(f"room for {slots} workers on {len(new)} nodes of Ray: {names}")
        self._known = found
        usable = [node for node in found.values() if node.id not in self._refused]
        if not usable and self._refused:
            raise ValueError(
                f"no node can be used; {'; '.join(self._refused.values())}; install the same "
                "versions there"
            )
        there = collections.Counter(actor.node.id for actor in self._actors)
        while len(self._actors) < self._use.most:
            free = [node for node in usable if there[node.id] < node.slots]
            if not free:
                break
            node = min(free, key=lambda node: (there[node.id], node.id))
            there[node.id] += 1
            self._begin(node)
        if any(actor.ready for actor in self._actors):
            self._patient_until = time.monotonic() + _PATIENCE
        elif time.monotonic() > self._patient_until:
            self._patient_until = math.inf
            self._tools.note(
                f"no worker could begin yet: it waits for a node that has {self._use.size} free"
            )

    def _begin(self, node: Node) -> None:
        """Have a node begin a worker."""
        scheduling = self._ray.util.scheduling_strategies
        size, environment = self._use.size, dict(self._use.environment)
        handle = (
            self._ray.remote(Worker)
            .options(
                num_cpus=size.cpus,
                num_gpus=size.gpus or None,
                scheduling_strategy=scheduling.NodeAffinitySchedulingStrategy(node.id, soft=False),
                runtime_env={"env_vars": environment},
            )
            .remote()
        )
        actor = _Actor(handle, node)
        self._actors.append(actor)
        self._call(actor, "about")

    def _admit(self, actor: _Actor, there: Mapping[str, Any], arrays: Any) -> None:
        """Equip a worker, unless it would compute something else than the driver."""
        here, name = about_this(), actor.node.name
        if others := other_versions(here["versions"], there["versions"]):
            self._refuse(actor.node, f"node {name} has {', '.join(others)}")
            return
        if there["cpu"] != here["cpu"]:
            self._tools.note(
                f"the processor of node {name} is {there['cpu']}, here it is {here['cpu']}: the "
                "result may differ from that of one machine"
            )
        self._call(actor, "equip", self._equipment, arrays)

    def _refuse(self, node: Node, why: str) -> None:
        """Have no worker on a node any more."""
        if node.id not in self._refused:
            self._refused[node.id] = why
            self._tools.note(f"{why}: it is not used")
        for actor in [each for each in self._actors if each.node.id == node.id]:
            self._remove(actor)

    def _assign(self) -> None:
        """Give jobs to workers that have none.

        A job that a worker died of gets a node for itself; others wait until that has been so.
        """
        self._changed = False
        busy = collections.Counter(each.node.id for each in self._actors if each.given)
        kept = {each.node.id for each in self._actors if each.given and each.alone}
        idle = [each for each in self._actors if each.ready and each.given is None]
        for given in [*self._suspects]:
            free = [each for each in self._actors if each.ready and each.node.id not in kept]
            if not free:
                break
            node = min(free, key=lambda each: (busy[each.node.id], each.node.id)).node
            kept.add(node.id)
            if not busy[node.id]:
                actor = next(each for each in idle if each.node.id == node.id)
                self._suspects.remove(given)
                self._give(actor, given, alone=True)
        for actor in idle:
            if self._waiting and actor.node.id not in kept:
                self._give(actor, self._waiting.popleft())

    def _give(self, actor: _Actor, given: _Given, alone: bool = False) -> None:
        """Have a worker do a job."""
        slots = [each for each in self._actors if each.node.id == actor.node.id]
        actor.given, actor.alone = given, alone or len(slots) == 1
        actor.waited = time.monotonic() - max(given.submitted, actor.free)
        name, begun = given.job.name, False
        if self._checkpoints is not None:
            actor.saved = _Saved(self._checkpoints, name, self._tools)
            begun = self._checkpoints.path(name).exists()
        self._call(actor, "messages", Task(given.job, begun), given.parent)

    def _hear(self, actor: _Actor, messages: list[Message]) -> None:
        """Do what the messages of a worker ask for, and ask for the next ones."""
        for kind, *content in messages:
            match kind:
                case "epoch":
                    self._tools.on_epoch(*content)
                case "note":
                    self._tools.note(*content)
                case "snapshot":
                    assert actor.saved is not None
                    self._on_disk(actor.saved.write, *content)
                case "begun":
                    assert actor.saved is not None
                    looking = self._disk.submit(actor.saved.find, *content)
                    looking.add_done_callback(functools.partial(self._found, actor))
                    return
                case "outcome":
                    self._finish(actor, *content)
                    return
                case _:
                    raise content[0]
        self._call(actor, "messages")

    def _found(self, actor: _Actor, future: concurrent.futures.Future[Snapshot | None]) -> None:
        self._events.put(_Found(actor, future))

    def _finish(self, actor: _Actor, outcome: Outcome) -> None:
        """Tell of what a worker has done, and have it free."""
        given = self._let_go(actor)
        seconds = outcome.estimate.seconds + Seconds(wait=actor.waited)
        estimate = dataclasses.replace(outcome.estimate, seconds=seconds)
        variables = jax.tree.map(np.array, outcome.variables)  # not in the object store
        result = given.job.name, Outcome(estimate, variables, actor.node.name)
        self._on_disk(self._jobs.end, result)  # when its snapshots are written

    def _let_go(self, actor: _Actor) -> _Given:
        """Take a worker's job from it."""
        given, saved = actor.given, actor.saved
        assert given is not None
        if saved is not None:
            self._on_disk(saved.close)
        actor.given, actor.saved, actor.free = None, None, time.monotonic()
        self._changed = True
        return given

    def _on_disk(self, function: Any, *args: Any) -> None:
        """Have the thread that writes do something, after all before."""

        def check(future: concurrent.futures.Future[Any]) -> None:
            if (error := future.exception()) is not None:
                self._jobs.end(error)

        self._disk.submit(function, *args).add_done_callback(check)

    def _end(self, actor: _Actor, error: BaseException) -> None:
        """A worker has ended; its job is done again, unless it is to blame."""
        errors = self._ray.exceptions
        if not isinstance(error, errors.RayError) or isinstance(error, errors.RayTaskError):
            raise error
        given = None if actor.given is None else self._let_go(actor)
        self._remove(actor)
        if given is None:
            self._failed_to_begin[actor.node.id] += not actor.ready
            if self._failed_to_begin[actor.node.id] == _BEGINNINGS and not _is_lost(errors, error):
                name, why = actor.node.name, one_line(_cause(error))
                self._refuse(actor.node, f"workers on node {name} end as they begin: {why}")
            return
        name = given.job.name
        if _is_lost(errors, error):
            self._tools.note(f"node {actor.node.name} is lost; another trains {name} again")
        elif self._deaths.blames(name, actor.alone):
            estimate = Estimate(0.0, math.inf, Seconds(), failure=f"its worker {_how(error)}")
            self._on_disk(self._jobs.end, (name, Outcome(estimate, None, actor.node.name)))
            return
        else:
            self._tools.note(f"the worker of {name} {_how(error)}; another tries again")
        self._wait_again(given)
        self._begin_workers()

    def _remove(self, actor: _Actor) -> None:
        """Have a worker no more; what it was doing is done by another."""
        if actor.given is not None:
            self._wait_again(self._let_go(actor))
        self._actors.remove(actor)
        self._kill(actor)

    def _wait_again(self, given: _Given) -> None:
        """Have a job done before all others, with nothing beside it if a worker died of it."""
        if self._deaths.suspects(given.job.name):
            self._suspects.append(given)
        else:
            self._waiting.appendleft(given)

    def _kill(self, actor: _Actor) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError, ConnectionError):
            self._ray.kill(actor.handle)


class _Saved:
    """The snapshots of a job, in the folder of the run; one thread calls all of it."""

    def __init__(self, checkpoints: Checkpoints, name: str, tools: Tools) -> None:
        self._checkpoints = dataclasses.replace(checkpoints, seconds=0.0)  # the worker has waited
        self._name, self._tools = name, tools
        self._stack = contextlib.ExitStack()
        self._there: Unfinished | None = None

    def find(self, shapes: Any) -> Snapshot | None:
        """What is there, of a training whose state has some shapes."""
        opened = self._checkpoints.of(self._name, lambda: shapes, self._tools.note)
        self._there = self._stack.enter_context(opened)
        return self._there.snapshot

    def write(self, snapshot: Snapshot) -> None:
        """Put a new one in the place of the one before."""
        if self._there is None:
            self.find(None)  # nothing was there
        assert self._there is not None
        assert self._there.checkpoint is not None
        self._there.checkpoint(lambda: snapshot)

    def close(self) -> None:
        self._stack.close()


def _is_lost(errors: Any, error: BaseException) -> bool:
    """Whether it is a node that has ended, or cannot be reached, and not a worker by itself."""
    if isinstance(error, errors.ActorDiedError):
        return error.preempted or "node has died" in str(error)
    return not isinstance(error, errors.OutOfMemoryError)


def _how(error: BaseException) -> str:
    """How a worker has ended, for people."""
    if "low on memory" in str(error):
        return "was ended, because its node had hardly any memory left"
    return "died"


def _cause(error: BaseException) -> BaseException:
    """The error in the worker's process, on the last line of what Ray says."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return RuntimeError(lines[-1] if lines else "")
