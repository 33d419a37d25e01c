"""The network that a run starts from: model_0."""

from __future__ import annotations

import hashlib
import os
import pathlib
import re
from typing import NamedTuple

from nash_jax.architecture import (
    Architecture,
    Shape,
    Variables,
    chain,
    from_json,
    ops,
    resnet,
    wide_resnet,
)
from nash_jax.record.networks import NETWORK_ENDING, load_network
from nash_jax.record.orbax_folders import load_orbax
from nash_jax.runs.config import MorphsSettings


class Start(NamedTuple):
    """What a run starts from.

    Attributes:
      spec: the architecture.
      variables: its weights, if it has any.
      checksum: of the files that it comes from; empty if it comes from none.
    """

    spec: Architecture
    variables: Variables | None = None
    checksum: str = ""


def starting_network(
    space: MorphsSettings, input_shape: Shape, num_classes: int, normalize: ops.Normalize
) -> Start:
    """model_0 as the settings of the space name it, for images and classes of a data set.

    Args:
      space: says which.
      input_shape: `(height, width, channels)` of one image.
      num_classes: number of logits.
      normalize: how raw pixels are normalised. A network of a file has its own.

    Raises:
      ValueError: if there is no such network, or it is one for other data.
    """
    data = input_shape, num_classes
    name = space.model_0
    if name == "chain":
        return Start(chain(*data, space.widths, normalize))
    if match := re.fullmatch(r"resnet-(\d+)", name):
        return Start(resnet(*data, int(match[1]), normalize))
    if match := re.fullmatch(r"wrn-(\d+)-(\d+)", name):
        return Start(wide_resnet(*data, int(match[1]), int(match[2]), normalize))
    path = pathlib.Path(os.path.expanduser(name))
    if path.suffix not in (".json", NETWORK_ENDING) and not path.is_dir():
        raise ValueError(
            "model_0 must be chain, resnet-DEPTH, wrn-DEPTH-FACTOR, a file that ends with .json or "
            f"{NETWORK_ENDING}, or a folder with an orbax checkpoint; got {name!r}"
        )
    try:
        checksum, spec, variables = _read(path)
    except OSError as error:
        raise ValueError(f"model_0 {name} cannot be read: {error.strerror}") from None
    if (spec.input_shape, spec.num_classes) != data:
        raise ValueError(
            f"model_0 {name} is for images of {list(spec.input_shape)} and {spec.num_classes} "
            f"classes; the data have {list(input_shape)} and {num_classes}; give another network"
        )
    return Start(spec, variables, checksum)


def _read(path: pathlib.Path) -> tuple[str, Architecture, Variables | None]:
    """A checksum of what is there, the architecture and the weights."""
    if path.is_dir():
        spec, variables = load_orbax(path)
        digest = hashlib.sha256()
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            digest.update(f"{file.relative_to(path).as_posix()} {file.stat().st_size} ".encode())
            digest.update(file.read_bytes())
        return digest.hexdigest()[:16], spec, variables
    content = path.read_bytes()
    checksum = hashlib.sha256(content).hexdigest()[:16]
    if path.suffix == NETWORK_ENDING:
        return checksum, *load_network(path)
    try:
        return checksum, from_json(content.decode()), None
    except ValueError as error:  # also of what is no UTF-8
        raise ValueError(f"model_0 {path} is no architecture: {error}") from None
