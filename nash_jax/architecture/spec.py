"""The architecture: an immutable, hashable graph of named nodes, checked when it is made.

A spec holds no arrays. It is a pytree without leaves (`jax.tree_util.register_static`), so it
passes through `jax.jit` as an ordinary argument, and equal specs share one compiled program.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

import jax

from nash_jax.architecture import ops
from nash_jax.architecture.shapes import Shape, output_shape

INPUT = "input"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,99}")


@dataclasses.dataclass(frozen=True, init=False)
class Node:
    """One operation: its name, its op, and the names of the nodes that it reads.

    `inputs` may be one name; `'input'` is the image.

    >>> Node('conv1', ops.Conv(16), 'input').inputs
    ('input',)
    """

    name: str
    op: ops.Op
    inputs: tuple[str, ...]

    def __init__(self, name: str, op: ops.Op, inputs: str | Sequence[str]) -> None:
        inputs = (inputs,) if isinstance(inputs, str) else inputs
        if not isinstance(inputs, tuple | list) or not all(isinstance(i, str) for i in inputs):
            raise ValueError(f"node inputs must be names of nodes; got {inputs!r}")
        for field, value in (("name", name), ("op", op), ("inputs", tuple(inputs))):
            object.__setattr__(self, field, value)
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ValueError(
                "a node's name must be letters, digits, '_', '-' and '.', not start with a digit "
                f"and have at most 100 characters; got {self.name!r}"
            )
        if type(self.op) not in ops.OPS.values():
            raise ValueError(f"node '{self.name}': op must be one of nj.ops; got {self.op!r}")
        least, most = ops.num_inputs(self.op)
        if not least <= len(inputs) <= most:
            wanted = str(least) if least == most else f"{least} or more"
            raise ValueError(
                f"node '{self.name}': {type(self.op).__name__} takes {wanted} inputs; got {inputs}"
            )


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, repr=False)
class Architecture:
    """A directed acyclic graph of nodes, in topological order, with one output.

    Args:
      input_shape: `(height, width, channels)` of one image.
      nodes: the nodes; each reads `'input'` or nodes listed before it. The one node that no other
        reads is the output, a vector with one logit per class.

    Raises:
      ValueError: for a duplicate or unknown name, a cycle, shapes that do not fit, or not exactly
        one output.

    >>> Architecture((8, 8, 1), [Node('flat', ops.Flatten(), 'input'),
    ...                          Node('dense', ops.Dense(10), 'flat')]).num_classes
    10
    """

    input_shape: Shape
    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        shape: Any = self.input_shape
        if (
            not isinstance(shape, tuple | list)
            or len(shape) != 3
            or not all(type(n) is int and 1 <= n <= ops.LARGEST_SIZE for n in shape)
        ):
            raise ValueError(
                f"input_shape must be (height, width, channels), whole numbers >= 1; got {shape!r}"
            )
        object.__setattr__(self, "input_shape", tuple(shape))
        if not isinstance(self.nodes, Iterable):
            raise ValueError(f"nodes must be a sequence of Node; got {self.nodes!r}")
        object.__setattr__(self, "nodes", tuple(self.nodes))
        if not self.nodes or not all(isinstance(node, Node) for node in self.nodes):
            raise ValueError("nodes must be at least one Node, and nothing else")
        _check_names(self.nodes)
        _ = self.shapes  # infers, and so checks, every shape
        unread = [name for name, readers in self.readers.items() if not readers and name != INPUT]
        if len(unread) != 1:
            raise ValueError(
                f"an architecture has one output, but no node reads {', '.join(unread)}; "
                "join them or remove all but one"
            )
        if len(self.shapes[unread[0]]) != 1:
            raise ValueError(
                f"the output must be a vector of logits, but node '{unread[0]}' has shape "
                f"{self.shapes[unread[0]]}; end with GlobalAvgPool or Flatten and Dense"
            )

    def __reduce__(self) -> Any:
        return Architecture, (self.input_shape, self.nodes)  # what is inferred is not pickled

    @functools.cached_property
    def shapes(self) -> MappingProxyType[str, Shape]:
        """Per-image shape of the input and of every node's output, by name."""
        shapes: dict[str, Shape] = {INPUT: self.input_shape}
        for node in self.nodes:
            inputs = tuple(shapes[name] for name in node.inputs)
            try:
                shapes[node.name] = output_shape(node.op, inputs)
            except ValueError as error:
                read = ", ".join(f"'{n}' {s}" for n, s in zip(node.inputs, inputs))
                raise ValueError(
                    f"node '{node.name}' ({ops.describe(node.op)}) cannot read {read}: {error}"
                ) from None
            if max(shapes[node.name]) > ops.LARGEST_SIZE:
                raise ValueError(
                    f"sizes must be at most {ops.LARGEST_SIZE}; node '{node.name}' has shape "
                    f"{shapes[node.name]}; make it smaller"
                )
        return MappingProxyType(shapes)

    @functools.cached_property
    def readers(self) -> MappingProxyType[str, tuple[str, ...]]:
        """By name, the nodes that read the input or a node; a node that reads twice counts once."""
        readers: dict[str, list[str]] = {INPUT: [], **{node.name: [] for node in self.nodes}}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                readers[name].append(node.name)
        return MappingProxyType({name: tuple(found) for name, found in readers.items()})

    @functools.cached_property
    def _by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    @functools.cached_property
    def output(self) -> str:
        """The name of the node whose output is the logits."""
        return next(n for n, readers in self.readers.items() if not readers and n != INPUT)

    @property
    def num_classes(self) -> int:
        return self.shapes[self.output][0]

    def __getitem__(self, name: str) -> Node:
        """The node of that name; a `ValueError` with the nearest names if there is none."""
        self.check_name(name)
        if name == INPUT:
            raise ValueError("'input' is the image, not a node; name a node of the architecture")
        return self._by_name[name]

    def check_name(self, name: str) -> None:
        """Raises `ValueError` unless `name` is `'input'` or a node."""
        if not isinstance(name, str):
            raise ValueError(f"a node's name must be a string; got {name!r}")
        if name != INPUT and name not in self._by_name:
            near = (
                get_close_matches(str(name), self.shapes, n=3, cutoff=0.3) or list(self.shapes)[:3]
            )
            raise ValueError(f"there is no node {name!r}; the nearest names are {', '.join(near)}")

    def input_shapes(self, node: Node) -> tuple[Shape, ...]:
        return tuple(self.shapes[name] for name in node.inputs)

    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.input_shape, self.nodes))

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        from nash_jax.architecture.table import table  # here, because it imports this file

        return table(self)


def _check_names(nodes: Sequence[Node]) -> None:
    """Raise for duplicate and unknown names, for cycles and for nodes in the wrong order."""
    position: dict[str, int] = {}
    for i, node in enumerate(nodes):
        if node.name == INPUT:
            raise ValueError("'input' is the image's name; give the node another")
        if node.name in position:
            raise ValueError(f"node names must be unique; '{node.name}' stands twice")
        position[node.name] = i
    inputs = {node.name: node.inputs for node in nodes}
    for node in nodes:
        for name in node.inputs:
            if name != INPUT and name not in position:
                near = get_close_matches(name, [INPUT, *position], n=3, cutoff=0.3)
                hint = f"; did you mean {' or '.join(near)}?" if near else ""
                raise ValueError(f"node '{node.name}' reads '{name}', which does not exist{hint}")
    for i, node in enumerate(nodes):
        late = [name for name in node.inputs if name != INPUT and position[name] >= i]
        if late:
            cycle = _path(inputs, start=late[0], end=node.name)
            if cycle:
                raise ValueError(f"the graph has a cycle: {' -> '.join([*cycle, cycle[0]])}")
            raise ValueError(
                f"nodes must be listed in topological order, but '{node.name}' comes before its "
                f"input '{late[0]}'; list '{late[0]}' first"
            )


def _path(inputs: dict[str, tuple[str, ...]], start: str, end: str) -> list[str]:
    """Names on the data's way from `end` to `start`, if `start` depends on `end`; else none."""
    came_from: dict[str, str | None] = {start: None}
    stack = [start]
    while stack:
        name = stack.pop()
        if name == end:
            path = [name]
            while (above := came_from[path[-1]]) is not None:
                path.append(above)
            return path
        for below in inputs.get(name, ()):
            if below not in came_from:
                came_from[below] = name
                stack.append(below)
    return []


def needed(nodes: Sequence[Node], output: str) -> tuple[Node, ...]:
    """The nodes that `output` depends on, itself included, in their order."""
    names, found = {output}, []
    for node in reversed(nodes):
        if node.name in names:
            names.update(node.inputs)
            found.append(node)
    return tuple(found[::-1])


def fresh_names(spec: Architecture, *prefixes: str) -> tuple[str, ...]:
    """One unused name per prefix, numbered alike: `('conv4', 'bn4', 'relu4')`.

    The number is above every number in use, so a name never comes back with another meaning. A
    prefix that is asked for again takes the next number.
    """
    numbers = [int(match[0]) for node in spec.nodes if (match := re.search(r"\d+$", node.name))]
    number = 1 + max(numbers, default=0)
    return tuple(f"{p}{number + prefixes[:i].count(p)}" for i, p in enumerate(prefixes))


def prefix(op: ops.Op) -> str:
    """What the names of new nodes with this op start with."""
    short = {"BatchNorm": "bn", "MaxPool": "pool", "AvgPool": "pool", "GlobalAvgPool": "pool"}
    kind = type(op).__name__
    return short.get(kind, kind.lower())


def rewired(nodes: Iterable[Node], old: str, by: str) -> tuple[Node, ...]:
    """The nodes, reading `by` where they read `old`."""
    return tuple(
        dataclasses.replace(n, inputs=tuple(by if i == old else i for i in n.inputs))
        if old in n.inputs
        else n
        for n in nodes
    )


def insert_after(spec: Architecture, after: str, new: Iterable[Node], by: str) -> tuple[Node, ...]:
    """The nodes of `spec` with `new` put in behind node `after`, not validated yet.

    Every old node that read `after` reads `by` instead; the new nodes stay as they are.
    """
    names = [INPUT, *(node.name for node in spec.nodes)]
    spec.check_name(after)
    position = names.index(after)
    nodes = rewired(spec.nodes, after, by)
    return (*nodes[:position], *new, *nodes[position:])
