"""A worker on a node of a cluster: an actor of Ray's, and what is sent to it and comes back.

It reads and writes no file of the run: images, networks and snapshots are sent to it, and what it
has to say is fetched. Nothing here knows Ray.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import pathlib
import platform
import queue
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from nash_jax.data import Examples
from nash_jax.estimation import ESTIMATORS, Images, Job, Network, Tools, perform
from nash_jax.estimation.job import Unfinished
from nash_jax.execution.cache import use_cache
from nash_jax.execution.executor import memory_limit
from nash_jax.jax_settings import adopt
from nash_jax.machine import cpu_model
from nash_jax.record.provenance import versions
from nash_jax.training import Snapshot


class Equipment(NamedTuple):
    """What a worker needs before its first job, beside the images.

    Attributes:
      settings: JAX's.
      estimators: those of the program.
      max_bytes: as in `Tools`; None: all that an accelerator has.
      checkpoint_seconds: between two snapshots of a training; None: none are wanted.
      cache: the folder that keeps compiled programs, and the machine that has it; or None.
    """

    settings: Mapping[str, Any]
    estimators: Mapping[str, Any]
    max_bytes: int | None
    checkpoint_seconds: float | None
    cache: tuple[str, str] | None


class Task(NamedTuple):
    """A job, and whether it was begun before, so that a snapshot of it may be there."""

    job: Job
    begun: bool = False


#: What a worker has to say: its kind, then its content. 'epoch' and 'note' have the arguments of
#: `Tools.on_epoch` and `Tools.note`; 'begun' the shapes of the state of a training, whose snapshot,
#: or None, it waits for; 'snapshot' a new one; 'outcome' and 'error' are the last ones of a job.
Message = tuple[Any, ...]


class Worker:
    """Does one job after the other, each in a thread, while its messages are fetched."""

    def __init__(self) -> None:
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._found: queue.SimpleQueue[Snapshot | None] = queue.SimpleQueue()

    def about(self) -> dict[str, Any]:
        """What results depend on, beside what is sent."""
        return about_this()

    def equip(self, equipment: Equipment, images: Mapping[str, Any]) -> None:
        """Take what all jobs need; `images` are those of `as_arrays`."""
        adopt(equipment.settings)
        ESTIMATORS.update(equipment.estimators)
        if equipment.cache is not None and equipment.cache[1] == platform.node():
            use_cache(equipment.cache[0])
        (device, *_) = jax.local_devices()  # starts XLA
        max_bytes = equipment.max_bytes
        if max_bytes is None and device.platform != "cpu":
            max_bytes = memory_limit(0.0, device)
        self._images = _images_of(images)
        self._checkpoint_seconds = equipment.checkpoint_seconds
        self._tools = Tools(
            on_epoch=lambda *epoch: self._messages.put(("epoch", *epoch)),
            note=lambda text: self._messages.put(("note", text)),
            max_bytes=max_bytes,
        )

    def messages(self, task: Task | None = None, parent: Network | None = None) -> list[Message]:
        """Wait for the next messages; the last of a job is its outcome.

        Args:
          task: a job to begin before; the one before must have ended.
          parent: the network that it begins with.
        """
        if task is not None:
            threading.Thread(target=self._do, args=(task, parent), daemon=True).start()
        messages = [self._messages.get()]
        while not self._messages.empty():
            messages.append(self._messages.get())
        return messages

    def found(self, snapshot: Snapshot | None) -> list[Message]:
        """The answer to 'begun', and the next messages."""
        self._found.put(snapshot)
        return self.messages()

    def _do(self, task: Task, parent: Network | None) -> None:
        tools = self._tools
        if self._checkpoint_seconds is not None:
            find = self._find if task.begun else None
            sent = _Sent(find, self._checkpoint_seconds, self._messages.put)
            tools = dataclasses.replace(tools, trainings=sent)
        try:
            outcome = perform(task.job, self._images, parent, tools)
            self._messages.put(("outcome", outcome._replace(variables=on_host(outcome.variables))))
        except Exception as error:  # the driver raises it
            error.add_note(f"in a worker of a cluster:\n{traceback.format_exc()}")
            self._messages.put(("error", error))

    def _find(self, shapes: Any) -> Snapshot | None:
        """Ask for the snapshot of a training that was begun before."""
        self._messages.put(("begun", shapes))
        return self._found.get()


class _Sent:
    """Trainings whose snapshots are sent instead of being written."""

    def __init__(
        self,
        find: Callable[[Any], Snapshot | None] | None,
        seconds: float,
        send: Callable[[Message], None],
    ) -> None:
        self._find, self._seconds, self._send = find, seconds, send

    @contextlib.contextmanager
    def of(
        self, name: str, shapes: Callable[[], Any], note: Callable[[str], None]
    ) -> Iterator[Unfinished]:
        snapshot = self._find(shapes()) if self._find else None
        last = time.monotonic()

        def checkpoint(take: Callable[[], Snapshot]) -> None:
            nonlocal last
            if time.monotonic() - last >= self._seconds:
                now = take()
                state = jax.tree.map(np.array, now.state)  # copies, before they change
                self._send(("snapshot", Snapshot(state, np.array(now.losses))))
                last = time.monotonic()

        yield Unfinished(snapshot, checkpoint)


def on_host(variables: Any) -> Any:
    """Weights as arrays of NumPy, which Ray passes on without a copy."""
    return jax.tree.map(np.asarray, variables)


def as_arrays(images: Images) -> dict[str, Any]:
    """The images that children see, without names of files: not those of the test set."""
    return {
        part: {
            name: np.ascontiguousarray(values)
            for name in ("images", "labels", "groups")
            if (values := getattr(getattr(images, part), name)) is not None
        }
        for part in ("train", "valid")
    }


def _images_of(arrays: Mapping[str, Any]) -> Images:
    train = Examples(**arrays["train"])
    return Images(train, Examples(**arrays["valid"]), train.take(np.arange(0)))


@functools.cache
def about_this() -> dict[str, Any]:
    """Versions of this process with a checksum of this code, the processor, and the machine."""
    sums = hashlib.sha256()
    package = pathlib.Path(__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        sums.update(f"{path.relative_to(package)}\n".encode() + path.read_bytes())
    code = {"code of nash_jax": sums.hexdigest()[:8]}
    return {"versions": {**versions(), **code}, "cpu": cpu_model(), "machine": platform.node()}


def other_versions(here: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    """What a node has in another version than the driver, for people.

    >>> other_versions({'jax': '0.10.2', 'numpy': '2.4'}, {'jax': '0.10.1', 'numpy': '2.4'})
    ['jax 0.10.1 instead of 0.10.2']
    """
    return [
        f"{name} {there.get(name, 'not installed')} instead of {version}"
        for name, version in here.items()
        if there.get(name) != version
    ]
