"""Specs as JSON text, versioned; reading never raises anything but `ValueError`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, NoReturn

from nash_jax.architecture import ops
from nash_jax.architecture.spec import Architecture, Node

FORMAT = "nash_jax.architecture"
VERSION = 1


def to_json(spec: Architecture, indent: int | None = None) -> str:
    """The spec as JSON; `from_json` gives an equal spec back."""
    return json.dumps(to_dict(spec), indent=indent)


def to_dict(spec: Architecture) -> dict[str, Any]:
    """The spec as dictionaries, lists, strings and numbers: what `to_json` writes."""
    nodes = [
        {"name": node.name, "inputs": list(node.inputs), **tagged(node.op, "op")}
        for node in spec.nodes
    ]
    return {
        "format": FORMAT,
        "version": VERSION,
        "input_shape": list(spec.input_shape),
        "nodes": nodes,
    }


def from_json(text: str | bytes) -> Architecture:
    """The spec that `to_json` wrote.

    Raises:
      ValueError: if the text is no JSON, not this format or version, or no valid architecture.
    """
    return from_dict(read_json(text))


def read_json(text: str | bytes) -> Any:
    """Parse JSON strictly: no NaN, no doubled keys; whatever is wrong is a `ValueError`."""
    if not isinstance(text, str | bytes):
        raise ValueError(f"JSON must be text; got {type(text).__name__}")
    try:
        return json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique_keys)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply to be read") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"numbers must be finite; got {name}")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) < len(pairs):
        raise ValueError("a JSON object names a key twice")
    return keys


def from_dict(data: Any) -> Architecture:
    """The spec that `to_dict` wrote; raises as `from_json` does."""
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ValueError(f'this is not an architecture: an object with "format": "{FORMAT}"')
    if type(data.get("version")) is not int or data["version"] != VERSION:
        raise ValueError(
            f"version must be {VERSION}; got {data.get('version')!r}: a newer nash_jax may read it"
        )
    unknown = sorted(set(data) - {"format", "version", "input_shape", "nodes"})
    if unknown:
        raise ValueError(f"an architecture has no field {unknown[0]!r}")
    if not isinstance(data.get("nodes"), list):
        raise ValueError("nodes must be a list")
    nodes = []
    for i, entry in enumerate(data["nodes"]):
        if not isinstance(entry, dict) or not {"name", "inputs"} <= entry.keys():
            raise ValueError(f"node {i} must be an object with name, op and inputs")
        rest = {key: value for key, value in entry.items() if key not in ("name", "inputs")}
        op = untagged(rest, "op", ops.OPS)
        nodes.append(Node(entry["name"], op, entry["inputs"]))
    return Architecture(data.get("input_shape"), tuple(nodes))  # type: ignore[arg-type]


def tagged(value: Any, tag: str) -> dict[str, Any]:
    """A dataclass as a dictionary: its class's name under `tag`, then its fields, with lists."""
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    lists = {name: list(v) if isinstance(v, tuple) else v for name, v in fields.items()}
    return {tag: type(value).__name__} | lists


def untagged(data: Any, tag: str, classes: Mapping[str, type]) -> Any:
    """The dataclass that `tagged` wrote, one of `classes`; anything else is a `ValueError`."""
    if not isinstance(data, dict):
        raise ValueError(f"expected an object with {tag!r}; got {data!r:.100}")
    name = data.get(tag)
    if not isinstance(name, str) or name not in classes:
        raise ValueError(f"{tag} must be one of {', '.join(sorted(classes))}; got {name!r:.100}")
    fields = {f.name: f for f in dataclasses.fields(classes[name])}
    given = {key: value for key, value in data.items() if key != tag}
    unknown = sorted(set(given) - set(fields))
    if unknown:
        raise ValueError(
            f"{name} has no field {unknown[0]!r}; it has {', '.join(fields) or 'none'}"
        )
    missing = [n for n, f in fields.items() if n not in given and f.default is dataclasses.MISSING]
    if missing:
        raise ValueError(f"{name} needs the field {missing[0]!r}")
    return classes[name](**given)
