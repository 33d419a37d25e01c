"""Where unfinished trainings stand: orbax checkpoints, each with a manifest of its files.

trainings/NAME/EPOCHS/       what orbax wrote
trainings/NAME/EPOCHS.json   a checksum of each of these files, and the shapes of the arrays in
                             them; without it they do not count

orbax does not notice a flipped bit in its files, and cuts or fills arrays of other shapes, so both
are looked for before it reads. The earlier checkpoint is removed when the manifest of the later one
is on the disk.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from nash_jax.estimation import Unfinished
from nash_jax.record.files import (
    DamagedError,
    WriteError,
    read_inside,
    read_json,
    sync,
    sync_folder,
    write_json,
    writing,
)
from nash_jax.text import one_line, printable
from nash_jax.training import Snapshot

_MANIFEST = ".json"


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """Where trainings write how far they have come.

    Attributes:
      folder: with a folder for each training; nothing is written if there is none.
      seconds: between two writings, at least; they come between epochs.
    """

    folder: pathlib.Path | None = None
    seconds: float = 60.0

    def path(self, name: str) -> pathlib.Path:
        assert self.folder is not None
        return self.folder / name

    @contextlib.contextmanager
    def of(
        self,
        name: str,
        shapes: Callable[[], Any],
        note: Callable[[str], None],
    ) -> Iterator[Unfinished]:
        """What is there of a trial's training; if damaged, `note` is told and it begins anew.

        `shapes` gives the shapes and types of its state.

        All that was to be written is on the disk when the context ends.

        Raises:
          WriteError: if something could not be written.
        """
        if self.folder is None:
            yield Unfinished()
            return
        path, snapshot, last = self.path(name), None, time.monotonic()
        try:
            snapshot = load_snapshot(path, shapes)
        except DamagedError as error:
            note(f"{error}; {name} is trained from its beginning")
        with Writer(path) as writer:

            def checkpoint(take: Callable[[], Snapshot]) -> None:
                nonlocal last
                if time.monotonic() - last >= self.seconds:
                    writer.write(take())
                    last = time.monotonic()

            yield Unfinished(snapshot, checkpoint)

    def remove(self, name: str) -> None:
        """Let go of what is there of a training."""
        _remove(self.path(name))


class Writer:
    """Writes the checkpoints of one training, one after the other, by orbax.

    The arrays of a snapshot are copied to the host, each shard by itself, before `write` returns.
    On accelerators the files are written in the background, while the training goes on.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._background = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._writing: concurrent.futures.Future[None] | None = None
        self._orbax: Any = None

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.wait()
        finally:
            self._background.shutdown()
            if self._orbax is not None:
                with _orbax_writing(self._path):
                    self._orbax.close()

    def write(self, snapshot: Snapshot) -> None:
        """Write where the training stands, after what is being written.

        Raises:
          WriteError: if this, or an earlier one, cannot be written.
        """
        import orbax.checkpoint as ocp  # takes half a second, and most trainings are shorter

        self.wait()
        if self._orbax is None:
            self._orbax = ocp.AsyncCheckpointer(ocp.StandardCheckpointHandler())
        there = self._path / str(len(snapshot.losses))
        with writing(self._path):
            self._path.mkdir(parents=True, exist_ok=True)
            _remove(there)
        with _orbax_writing(there):
            self._orbax.save(there.absolute(), args=ocp.args.StandardSave(_tree(snapshot)))
        about = {"arrays": _arrays(snapshot), "losses": str(snapshot.losses.dtype)}
        self._writing = self._background.submit(self._finish, there, about)
        if not self._in_background(snapshot):
            self.wait()

    def _in_background(self, snapshot: Snapshot) -> bool:
        """On CPU the training would be as much slower as the writing is faster."""
        arrays = [x for x in jax.tree.leaves(snapshot.state) if isinstance(x, jax.Array)]
        devices = {each for x in arrays for each in x.devices()}
        return any(device.platform != "cpu" for device in devices)

    def wait(self) -> None:
        """Until everything is on the disk.

        Raises:
          WriteError: if it cannot be written.
        """
        if self._writing is not None:
            waiting, self._writing = self._writing, None
            waiting.result()

    def _finish(self, there: pathlib.Path, about: dict[str, Any]) -> None:
        with _orbax_writing(there):
            self._orbax.wait_until_finished()
        manifest = there.with_name(there.name + _MANIFEST)
        with writing(there):
            _flush(there)  # orbax flushes the arrays alone
            sync_folder(there.parent)
            sums = _checksums(there)
        write_json(manifest, {**about, "files": sums})
        for other in self._path.iterdir():
            if other not in (there, manifest):
                _remove(other)


def load_snapshot(path: pathlib.Path, shapes: Callable[[], Any]) -> Snapshot | None:
    """Where a training stood, if that was written: its arrays are NumPy's.

    Args:
      path: of the training.
      shapes: gives the shapes and types of its state.

    Raises:
      DamagedError: if the files are not those that were written, or of another training.
    """
    found = path.glob("*" + _MANIFEST)
    manifests = {int(each.stem): each for each in found if each.stem.isdecimal()}
    if not manifests:
        return None
    manifest = manifests[max(manifests)]
    there, damaged = manifest.with_suffix(""), f"{printable(manifest.with_suffix(''))} is damaged"
    try:
        about = read_json(path, manifest.name)
        sums = _checksums(there)
    except (OSError, ValueError) as error:
        raise DamagedError(f"{damaged}: {one_line(error)}") from None
    if sums != about.get("files"):
        raise DamagedError(f"{damaged}: it does not match its checksums")
    state = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), shapes())
    empty = Snapshot(state, np.empty(int(there.name), about.get("losses", "float32")))
    if about.get("arrays") != _arrays(empty):
        raise DamagedError(f"{damaged}: it is not of a training of this network")
    import orbax.checkpoint as ocp

    try:
        with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as orbax:
            args = ocp.args.StandardRestore(_tree(empty))
            return Snapshot(**orbax.restore(there.absolute(), args=args))
    except Exception as error:  # orbax and tensorstore raise all kinds of errors
        raise DamagedError(f"{damaged}: {one_line(error, 200)}") from None


def _tree(snapshot: Snapshot) -> dict[str, Any]:
    return {"state": snapshot.state, "losses": snapshot.losses}


def _arrays(snapshot: Snapshot) -> dict[str, Any]:
    """Type and shape of every array, by its path."""
    leaves = jax.tree_util.tree_leaves_with_path(_tree(snapshot))
    return {jax.tree_util.keystr(path): [str(x.dtype), list(x.shape)] for path, x in leaves}


def _checksums(folder: pathlib.Path) -> dict[str, str]:
    """A checksum of every file below a folder, by its path from there."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return {name: hashlib.sha256(read_inside(folder, name)).hexdigest() for name in sorted(names)}


def _flush(folder: pathlib.Path) -> None:
    """Flush all files and folders below a folder, and itself, to the disk."""
    for path in [*folder.rglob("*"), folder]:
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb") as file:
                sync(file.fileno())


def _remove(path: pathlib.Path) -> None:
    """Remove a file or a folder, if it is there."""
    with writing(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _orbax_writing(path: pathlib.Path) -> Iterator[None]:
    """Turns any error of orbax and tensorstore into a `WriteError`."""
    try:
        yield
    except Exception as error:  # they raise all kinds
        raise WriteError(
            f"{printable(path)} cannot be written: {one_line(error, 200)}; free some space, or "
            "make it writable"
        ) from error
