"""Networks and trainings as files: safetensors, with a checksum over names, shapes and bytes.

One file holds a network, its spec in the header; another kind of file holds where a training
stands. Both are written atomically and checked when they are read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import flax.traverse_util
import jax
import numpy as np
import safetensors
import safetensors.numpy

from nash_jax.architecture import Architecture, Variables, from_json, init, to_json
from nash_jax.estimation import Unfinished
from nash_jax.record.files import CHECKSUM, DamagedError, read_inside, write_atomically
from nash_jax.training import Snapshot, TrainingSettings, state_shapes

NETWORK_ENDING = ".safetensors"
_HEADER = "nash_jax"


def save_network(path: pathlib.Path, spec: Architecture, variables: Variables) -> None:
    """Write a network as one file, or over an earlier one.

    Raises:
      WriteError: if it cannot be written.
    """
    _save(path, _flat(variables), {"spec": to_json(spec)})


def load_network(
    path: pathlib.Path, within: pathlib.Path | None = None
) -> tuple[Architecture, Variables]:
    """Read what `save_network` wrote, onto JAX's default device.

    Args:
      path: the file.
      within: a folder that no link may lead out of; by default the file's.

    Raises:
      DamagedError: if it is something else.
      ValueError: if there is no such file, or it cannot be read.
    """
    arrays, header = _load(path, within)
    try:
        spec = from_json(header.get("spec", ""))
    except ValueError as error:
        raise DamagedError(f"{path} is damaged: {error}") from None
    expected = _flat(jax.eval_shape(lambda: init(spec, jax.random.key(0))))
    if {name: x.shape for name, x in arrays.items()} != {n: x.shape for n, x in expected.items()}:
        raise DamagedError(f"{path} is damaged: its weights are not those of its architecture")
    nested = flax.traverse_util.unflatten_dict(arrays, sep="/")
    return spec, {"params": {}, "batch_stats": {}, **jax.device_put(nested, may_alias=False)}


def save_snapshot(path: pathlib.Path, snapshot: Snapshot) -> None:
    """Write where a training stands.

    Raises:
      WriteError: if it cannot be written.
    """
    leaves = {f"state{n}": x for n, x in enumerate(jax.tree.leaves(snapshot.state))}
    _save(path, {"losses": snapshot.losses, **leaves}, {})


def load_snapshot(
    path: pathlib.Path, spec: Architecture, settings: TrainingSettings
) -> Snapshot | None:
    """Where the training of a network stood, if that was written.

    Raises:
      DamagedError: if the file is not that of such a training.
    """
    if not path.exists():
        return None
    arrays, _ = _load(path)
    expected, structure = jax.tree.flatten(state_shapes(spec, settings))
    leaves = [arrays.get(f"state{number}") for number in range(len(expected))]
    fits = all(x is not None and x.shape == e.shape for x, e in zip(leaves, expected))
    if not fits or "losses" not in arrays or len(arrays) != len(expected) + 1:
        raise DamagedError(f"{path} is damaged: it is not of a training of this network")
    return Snapshot(jax.tree.unflatten(structure, leaves), arrays["losses"])


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """Where trainings write how far they have come.

    Attributes:
      folder: with a file for each training; nothing is written if there is none.
      seconds: between two writings, at least; they come between epochs.
    """

    folder: pathlib.Path | None = None
    seconds: float = 60.0

    def path(self, name: str) -> pathlib.Path:
        assert self.folder is not None
        return self.folder / (name + NETWORK_ENDING)

    def of(
        self,
        name: str,
        spec: Architecture,
        settings: TrainingSettings,
        note: Callable[[str], None],
    ) -> Unfinished:
        """What is there of a trial's training; if damaged, `note` is told and it begins anew."""
        if self.folder is None:
            return Unfinished()
        path, unfinished, last = self.path(name), None, time.monotonic()
        try:
            unfinished = load_snapshot(path, spec, settings)
        except DamagedError as error:
            note(f"{error}; {name} is trained from its beginning")

        def checkpoint(take: Callable[[], Snapshot]) -> None:
            nonlocal last
            if time.monotonic() - last >= self.seconds:
                save_snapshot(path, take())
                last = time.monotonic()

        return Unfinished(unfinished, checkpoint)


def load(workdir: str | os.PathLike[str], name: str = "final") -> tuple[Architecture, Variables]:
    """A network of a run, ready for `nj.apply` on raw pixels 0 to 255.

    Args:
      workdir: the run's folder.
      name: of the trial; `final` is the best, trained to the end. Of the others, those
        that were the best so far are there, or all if the run was told to keep all.

    Raises:
      ValueError: if there is no such network.
    """
    folder = pathlib.Path(workdir) / "networks"
    there = files_in(folder)
    if name not in there:
        have = ", ".join(sorted(there)) or "no networks"
        raise ValueError(f"there is no network {name!r} in {workdir}; it has {have}")
    return load_network(there[name], folder.parent)


def files_in(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """The files of networks or trainings in a folder, by name."""
    paths = folder.glob("*" + NETWORK_ENDING)
    return {path.name.removesuffix(NETWORK_ENDING): path for path in paths}


def _flat(variables: Variables) -> dict[str, Any]:
    flat: dict[str, Any] = flax.traverse_util.flatten_dict(variables, sep="/")
    return flat


def _save(path: pathlib.Path, arrays: Mapping[str, Any], header: dict[str, str]) -> None:
    # Copies, because safetensors writes memory as it lies.
    arrays = {name: np.array(x, order="C") for name, x in arrays.items()}
    header = {**header, CHECKSUM: _checksum(arrays, header)}
    # One entry: safetensors writes several in any order, and equal networks are equal files.
    write_atomically(path, safetensors.numpy.save(arrays, {_HEADER: json.dumps(header)}))


def _load(
    path: pathlib.Path, within: pathlib.Path | None = None
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    within = path.parent if within is None else within
    data = read_inside(within, str(path.relative_to(within)))
    try:
        arrays = safetensors.numpy.load(data)
        size = int.from_bytes(data[:8], "little")
        header = json.loads(json.loads(data[8 : 8 + size])["__metadata__"][_HEADER])
        found = header.pop(CHECKSUM)
    except (safetensors.SafetensorError, ValueError, KeyError, AttributeError, TypeError):
        raise DamagedError(f"{path} is damaged: it is no safetensors file of ours") from None
    if found != _checksum(arrays, header):
        raise DamagedError(f"{path} is damaged: it does not match its checksum")
    return arrays, header


def _checksum(arrays: Mapping[str, np.ndarray], header: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(sorted(header.items())).encode())
    for name, x in sorted(arrays.items()):
        digest.update(json.dumps([name, str(x.dtype), x.shape]).encode())
        digest.update(x.tobytes())
    return digest.hexdigest()
