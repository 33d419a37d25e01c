"""Networks as files: safetensors, with the spec and a checksum in the header.

A file is written atomically, and checked when it is read.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import jax
import numpy as np
import safetensors
import safetensors.numpy

from nash_jax.architecture import Architecture, Variables, from_json, init, to_json
from nash_jax.record.files import CHECKSUM, DamagedError, read_inside, write_atomically

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
    """The files of networks in a folder, by name."""
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
