"""Files that are whole or not there, and that tell when they are damaged.

A file is written beside its place, flushed to the disk and moved there. What is read carries a
checksum of what it says, so that a flipped bit is a message and never another result.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import pathlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nash_jax.architecture import serialization
from nash_jax.text import printable

CHECKSUM = "checksum"
#: Ending of what is not yet in its place; left behind only by a process that was killed.
UNFINISHED = ".new"


_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or have the quota raised",
    errno.EFBIG: "have the limit on the size of files raised",
    errno.EIO: "see whether the disk is sound",
}

#: The errors of a file system that has no locks, or cannot flush.
_NOT_THERE = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}


class DamagedError(ValueError):
    """A file does not say what was written to it."""


class WriteError(OSError):
    """Something could not be written; what was there before is whole."""


@contextmanager
def writing(path: pathlib.Path) -> Iterator[None]:
    """Turns a failure to write into one line: what, why, remedy.

    Raises:
      WriteError: for a full disk, missing permission and all else that the system refuses.
    """
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        remedy = _REMEDIES.get(error.errno or 0, "make it writable, or choose another place")
        raise WriteError(f"{printable(path)} cannot be written: {why}; {remedy}") from error


def write_atomically(path: pathlib.Path, data: bytes) -> None:
    """Write a file so that at any moment it is the old one or the new one, on the disk too.

    Raises:
      WriteError: if that cannot be done; the old file is as it was.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}{UNFINISHED}")
    with writing(path):
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                sync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def sync(descriptor: int) -> bool:
    """Flush what was written to the disk; False if the file system cannot do that.

    Raises:
      OSError: if that fails.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
        return False
    return True


def sync_folder(folder: pathlib.Path) -> bool:
    """As `sync`, of the names in a folder: a file is not safe before its name is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        return sync(descriptor)
    finally:
        os.close(descriptor)


def check_folder_of(path: pathlib.Path, what: str, *ours: str) -> None:
    """Raises `ValueError` unless a folder is new, empty, or has one of the things that are `ours`.

    Args:
      path: the folder.
      what: it is to be of, for people.
      *ours: patterns, as of `glob`.
    """
    try:
        others = sum(not entry.name.endswith(UNFINISHED) for entry in path.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise ValueError(
            f"workdir {path} cannot be used: {error.strerror}; choose another"
        ) from None
    if others and not any(any(path.glob(pattern)) for pattern in ours):
        raise ValueError(
            f"workdir must be new, empty or that of {what}; got {path} with {others} other "
            "entries, and nothing is written over; choose another"
        )


def read_inside(folder: pathlib.Path, name: str) -> bytes:
    """The content of a file of `folder`, which must not be a link to somewhere else.

    Raises:
      ValueError: if it cannot be read, or lies outside.
    """
    path = folder / name
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{path} must not lead out of its folder; got a link; remove it")
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def with_checksum(data: Mapping[str, Any]) -> dict[str, Any]:
    """The same, with a checksum of all the rest as its last entry."""
    return {**data, CHECKSUM: checksum(data)}


def checked(data: Any, what: str) -> dict[str, Any]:
    """What `with_checksum` was given.

    Raises:
      DamagedError: if it is something else.
    """
    if not isinstance(data, dict) or CHECKSUM not in data:
        raise DamagedError(f"{what} is damaged: it has no checksum")
    rest = {name: value for name, value in data.items() if name != CHECKSUM}
    if data[CHECKSUM] != checksum(rest):
        raise DamagedError(f"{what} is damaged: it does not match its checksum")
    return rest


def checksum(data: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that another content would not have."""
    text = json.dumps(data, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def parse_json(text: bytes, what: str) -> Any:
    """A JSON value.

    Raises:
      DamagedError: if it is none.
    """
    try:
        return serialization.read_json(text)
    except ValueError:
        raise DamagedError(f"{what} is damaged: it is not JSON") from None


def write_json(path: pathlib.Path, data: Mapping[str, Any]) -> None:
    """Write a JSON object with its checksum.

    Raises:
      WriteError: if it cannot be written.
    """
    text = json.dumps(with_checksum(data), indent=1, allow_nan=False) + "\n"
    write_atomically(path, text.encode())


def read_json(folder: pathlib.Path, name: str) -> dict[str, Any]:
    """What `write_json` wrote, without the checksum.

    Raises:
      DamagedError: if it is something else.
      ValueError: if it cannot be read.
    """
    what = str(folder / name)
    return checked(parse_json(read_inside(folder, name), what), what)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back until this block ends; a second one ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []

    def wait(number: int, _: Any) -> None:
        if waiting:
            os._exit(128 + number)
        waiting.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, wait) for number in numbers}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        for number in waiting:
            signal.raise_signal(number)


@contextmanager
def locked(path: pathlib.Path, note: Callable[[str], None] = lambda text: None) -> Iterator[None]:
    """Hold a file as a lock; the system lets go of it when the process ends, however it ends.

    Args:
      path: the file.
      note: is told if the file system has no locks.

    Raises:
      ValueError: if another process holds it.
      WriteError: if there can be no such file.
    """
    with writing(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            raise ValueError(
                f"only one process may work on {printable(path.parent)}; {owner or 'another'} "
                "does; wait for it, or stop it"
            ) from None
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise
            note(
                f"the file system of {printable(path.parent)} has no locks: do not let two "
                "processes work on this folder, neither would notice"
            )
        with writing(path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
