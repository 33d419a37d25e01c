"""Saving and loading a network: the spec as JSON, the weights by orbax, known nowhere else."""

from __future__ import annotations

import os
import pathlib

import jax
import orbax.checkpoint as ocp

from nash_jax.architecture import Architecture, Variables, from_json, init, to_json

SPEC_FILE = "spec.json"
WEIGHTS_FOLDER = "weights"


def save_network(folder: pathlib.Path, spec: Architecture, variables: Variables) -> None:
    """Write `spec.json` and `weights/` into an existing folder that has neither."""
    (folder / SPEC_FILE).write_text(to_json(spec, indent=1))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save((folder / WEIGHTS_FOLDER).resolve(), variables)


def load_network(folder: pathlib.Path) -> tuple[Architecture, Variables]:
    """Read what `save_network` wrote, as float32, onto this machine's first device.

    Raises:
      ValueError: if the folder has no network, or one that cannot be read.
    """
    for name in (SPEC_FILE, WEIGHTS_FOLDER):
        if not (folder / name).exists():
            raise ValueError(f"there is no network in {folder}: {name} is missing")
    spec = from_json((folder / SPEC_FILE).read_text())
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        jax.eval_shape(lambda: init(spec, jax.random.key(0))),
    )
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            return spec, checkpointer.restore((folder / WEIGHTS_FOLDER).resolve(), abstract)
    except Exception as error:  # orbax and tensorstore raise all kinds for damaged files
        why = " ".join(str(error).split())[:200]
        raise ValueError(f"the weights in {folder} cannot be read: {why}") from error


def load(workdir: str | os.PathLike[str]) -> tuple[Architecture, Variables]:
    """The best network of a finished run, ready for `nj.apply` on raw pixels 0 to 255.

    Args:
      workdir: the run's folder.

    Raises:
      ValueError: if the folder is not that of a finished run.
    """
    return load_network(pathlib.Path(workdir) / "best")
