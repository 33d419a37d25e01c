"""A network as what Flax users have: an orbax checkpoint of its variables, and its architecture.

spec.json       the architecture, as `nj.to_json` gives it
variables/      what `ocp.StandardCheckpointer().save(path, variables)` writes
checksums.json  of all other files, if `orbax_files` made them: orbax notices no flipped bit
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import tempfile
from typing import Any

import flax.traverse_util
import jax
import numpy as np

from nash_jax.architecture import Architecture, Variables, from_json, init, to_json
from nash_jax.record.files import parse_json, read_inside
from nash_jax.text import listed, one_line, printable

SPEC_FILE, CHECKSUMS_FILE = "spec.json", "checksums.json"
_CHECKPOINT = "_METADATA"  # a file that every orbax checkpoint of a tree has
_REMEDY = "nash export --format=orbax writes such a folder"


def orbax_files(spec: Architecture, variables: Variables) -> dict[str, bytes]:
    """The content of such a folder, by the files' paths."""
    import orbax.checkpoint as ocp  # takes half a second

    files = {SPEC_FILE: (to_json(spec, indent=1) + "\n").encode()}
    with tempfile.TemporaryDirectory() as temporary:
        root = pathlib.Path(temporary).resolve()
        with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as orbax:
            args = ocp.args.StandardSave(jax.tree.map(np.asarray, variables))
            orbax.save(root / "variables", args=args)
        written = sorted(path for path in root.rglob("*") if path.is_file())
        files |= {path.relative_to(root).as_posix(): path.read_bytes() for path in written}
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return files | {CHECKSUMS_FILE: (json.dumps(sums, indent=1) + "\n").encode()}


def load_orbax(folder: pathlib.Path) -> tuple[Architecture, Variables]:
    """The network of a folder with `spec.json` and an orbax checkpoint, wherever it is below.

    The checkpoint's tree has `params` and, if the network normalises batches, `batch_stats`, and of
    a supernet `arch`; what else it has is not read.

    Raises:
      ValueError: if there are no such files, or they are not of one network.
    """
    what = printable(folder)
    if not (folder / SPEC_FILE).is_file():
        raise ValueError(f"{what} must have a file {SPEC_FILE}, the architecture; {_REMEDY}")
    try:
        spec = from_json(read_inside(folder, SPEC_FILE).decode())
    except ValueError as error:
        raise ValueError(f"{what}/{SPEC_FILE} is no architecture: {error}") from None
    _check_sums(folder, what)
    found = sorted({path.parent for path in folder.rglob(_CHECKPOINT)})
    if len(found) != 1:
        raise ValueError(
            f"{what} must have one orbax checkpoint beside {SPEC_FILE}; got "
            f"{listed([str(path) for path in found]) or 'none'}; {_REMEDY}"
        )
    shapes = jax.eval_shape(lambda: init(spec, jax.random.key(0)))
    expected = {"/".join(path): x for path, x in _flat(shapes).items()}
    import orbax.checkpoint as ocp

    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as orbax:
            tree = orbax.metadata(found[0].absolute()).item_metadata.tree
            read = {name: tree[name] for name in ("params", "batch_stats", "arch") if name in tree}
            there = {"/".join(map(str, path)): x for path, x in _flat(read).items()}
            _check(expected, there)
            empty = {name: part for name, part in shapes.items() if part}
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), empty)
            args = ocp.args.PyTreeRestore(empty, restore_args=as_numpy, partial_restore=True)
            variables = orbax.restore(found[0].absolute(), args=args)
    except _OtherError as error:
        raise ValueError(f"{what}: {error}") from None
    except Exception as error:  # orbax and tensorstore raise all kinds of errors
        raise ValueError(f"{what} cannot be read by orbax: {one_line(error, 200)}") from None
    variables = jax.tree.map(lambda x, e: jax.numpy.asarray(x, e.dtype), variables, empty)
    return spec, {"params": {}, "batch_stats": {}, **variables}


def _check_sums(folder: pathlib.Path, what: str) -> None:
    """Raises `ValueError` if a file is not what its checksum says."""
    if not (folder / CHECKSUMS_FILE).is_file():
        return
    sums = parse_json(read_inside(folder, CHECKSUMS_FILE), f"{what}/{CHECKSUMS_FILE}")
    for name, expected in sums.items():
        if hashlib.sha256(read_inside(folder, name)).hexdigest() != expected:
            raise ValueError(
                f"{what}/{name} must be as it was exported; its checksum is another; export it "
                f"anew, or remove {CHECKSUMS_FILE} if it was changed on purpose"
            )


class _OtherError(Exception):
    """A checkpoint is not of the network that its `spec.json` describes."""


def _check(expected: dict[str, Any], there: dict[str, Any]) -> None:
    """Raises `_OtherError` unless the arrays of a checkpoint are those of its architecture."""
    lacking, more = sorted(set(expected) - set(there)), sorted(set(there) - set(expected))
    others = [n for n in sorted(set(expected) & set(there)) if there[n].shape != expected[n].shape]
    if not lacking and not more and not others:
        return
    if lacking or more:
        wrong = f"it lacks {listed(lacking)}" if lacking else f"it also has {listed(more)}"
    else:
        name = others[0]
        wrong = f"{name} is {list(there[name].shape)} there, {list(expected[name].shape)} here"
    raise _OtherError(
        f"the checkpoint must be of the network of {SPEC_FILE}; {wrong}; put the spec of "
        "its own network beside it"
    )


def _flat(tree: Any) -> dict[tuple[str, ...], Any]:
    flat: dict[tuple[str, ...], Any] = flax.traverse_util.flatten_dict(tree)
    return flat
