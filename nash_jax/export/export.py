"""Getting a network out: files that other programs read without nash_jax.

Every format gives the same logits as `nj.apply`, up to 1e-5 of the largest.
"""

from __future__ import annotations

import io
import json
import pathlib
from collections.abc import Callable
from typing import Any

import flax.traverse_util
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from nash_jax.architecture import Architecture, Variables, apply, to_json
from nash_jax.export.flax_source import flax_source
from nash_jax.record.files import write_atomically
from nash_jax.record.networks import load
from nash_jax.record.orbax_folders import orbax_files
from nash_jax.record.workdir import NO_MEANING, Meaning, read_meaning
from nash_jax.text import one_line

Files = dict[str, bytes]


def export(
    workdir: pathlib.Path,
    format: str,
    name: str = "final",
    out: pathlib.Path | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> pathlib.Path:
    """Write a network of a run in a format for others.

    Args:
      workdir: the run's folder.
      format: one of `FORMATS`.
      name: of the trial.
      out: a new or empty folder; by default `NAME-FORMAT` in the current folder.
      note: is told if the run's config is damaged.

    Returns:
      The folder.

    Raises:
      ValueError: if there is no such network, the folder is not empty, or the format's library is
        not there or cannot express the network.
      WriteError: if it cannot be written.
    """
    out = pathlib.Path(f"{name}-{format}") if out is None else out
    spec, variables = load(workdir, name)
    meaning = read_meaning(workdir, note)
    files = FORMATS[format](spec, variables, meaning)
    if any(meaning):
        files["data.json"] = (json.dumps(meaning._asdict(), indent=1) + "\n").encode()
    try:
        out.mkdir(parents=True)
    except FileExistsError:
        if not out.is_dir() or any(out.iterdir()):
            raise ValueError(
                f"out must be a new or empty folder; {out} is not; choose another"
            ) from None
    for file, content in files.items():
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out / file, content)
    return out


def as_weights(spec: Architecture, variables: Variables, meaning: Meaning = NO_MEANING) -> Files:
    """`spec.json`, for `nj.from_json`; `weights.safetensors`, named like `params/conv1/bias`.

    The names of the classes are in the metadata of the latter.
    """
    weights = safetensors.numpy.save(_flat(variables), _metadata(meaning) or None)
    return {"spec.json": (to_json(spec, indent=1) + "\n").encode(), "weights.safetensors": weights}


def as_orbax(spec: Architecture, variables: Variables, meaning: Meaning = NO_MEANING) -> Files:
    """`spec.json`, and the variables as an orbax checkpoint in `variables/`."""
    return orbax_files(spec, variables)


def as_flax(spec: Architecture, variables: Variables, meaning: Meaning = NO_MEANING) -> Files:
    """`network.py`, which needs flax alone, and `weights.npz` beside it."""
    return {
        "network.py": flax_source(spec, "network.py", "weights.npz", meaning.classes).encode(),
        "weights.npz": _npz(_flat(variables)),
    }


def as_stablehlo(spec: Architecture, variables: Variables, meaning: Meaning = NO_MEANING) -> Files:
    """`network.stablehlo`: `jax.export.deserialize(data).call(images)`, weights inside.

    Images are float32 `[batch, height, width, channels]`, of any batch; for CPU, CUDA, ROCm and
    TPU. The format has no place for names: `data.json` beside it has them.
    """
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *spec.input_shape), jnp.float32)
    constant = jax.device_put(variables)
    exported = jax.export.export(
        jax.jit(lambda images: apply(spec, constant, images)),
        platforms=("cpu", "cuda", "rocm", "tpu"),
    )(images)
    return {"network.stablehlo": bytes(exported.serialize())}


def as_onnx(spec: Architecture, variables: Variables, meaning: Meaning = NO_MEANING) -> Files:
    """`network.onnx`, with input `images`, float32 `[batch, height, width, channels]`.

    The names of the classes are in its `metadata_props`.
    """
    try:
        import jax2onnx
    except ImportError:
        raise ValueError(
            "onnx needs the package jax2onnx; got none; pip install 'nash_jax[onnx]'"
        ) from None
    names: dict[str, Any] = {"__name__": "network"}
    exec(flax_source(spec, "network.py", "weights.npz"), names)  # layers that the converter knows
    network, constant = names["Network"](), jax.device_put(variables)
    try:
        model: Any = jax2onnx.to_onnx(
            lambda images: network.apply(constant, images), [("B", *spec.input_shape)]
        )
    except Exception as error:  # the converter raises all kinds for what it does not know
        raise ValueError(
            f"jax2onnx cannot express this network: {one_line(error)}; take stablehlo"
        ) from error
    for key, value in _metadata(meaning).items():
        model.metadata_props.add(key=key, value=value)
    del model.graph.value_info[:]  # some inner shapes are of another layout; not needed
    return {"network.onnx": model.SerializeToString()}


#: What writes each format.
FORMATS: dict[str, Callable[[Architecture, Variables, Meaning], Files]] = {
    "weights": as_weights,
    "orbax": as_orbax,
    "flax": as_flax,
    "stablehlo": as_stablehlo,
    "onnx": as_onnx,
}


def _metadata(meaning: Meaning) -> dict[str, str]:
    """Names of classes and pixel range, as JSON by name, where they are known."""
    return {name: json.dumps(value) for name, value in meaning._asdict().items() if value}


def _flat(variables: Variables) -> dict[str, np.ndarray]:
    flat = flax.traverse_util.flatten_dict(variables, sep="/")
    return {name: np.array(x, order="C") for name, x in flat.items()}


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()
