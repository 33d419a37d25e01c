"""Running a network piece by piece, each a program of its own, shared by all pieces that are alike.

A network of cells has the same few ops many times. As one program it takes minutes to compile on
CPU, and a path of a supernet would need a program for every path, or one that computes all ops.
By pieces, there is a program for each different op, shape and place of a stride; a path costs what
its own ops cost.

A piece is a chain of nodes that nothing outside reads, but for its end. Its gradient is the
program that JAX makes of it; the chain rule over pieces is done here.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nash_jax.architecture import INPUT, Node, Variables, ops
from nash_jax.architecture.network import Nodes
from nash_jax.architecture.spec import needed
from nash_jax.training.compilation import CPU_OPTIONS
from nash_jax.training.settings import TrainingSettings
from nash_jax.training.sgdr import direction


class Piece(NamedTuple):
    """A chain of nodes.

    Attributes:
      nodes: with names by their places, so that pieces that are alike are equal; they read
        `input0`, `input1` and so on.
      names: of the nodes in the network.
      reads: the nodes in front of it.
    """

    nodes: tuple[Node, ...]
    names: tuple[str, ...]
    reads: tuple[str, ...]

    @property
    def output(self) -> str:
        return self.names[-1]


def pieces(nodes: Sequence[Node], output: str) -> tuple[Piece, ...]:
    """A network's nodes as pieces, in their order.

    Args:
      nodes: in topological order.
      output: the node that is wanted; others that it does not depend on are left out.
    """
    nodes = needed(nodes, output)
    readers: dict[str, int] = {}
    for node in nodes:
        for name in node.inputs:
            readers[name] = readers.get(name, 0) + 1
    chains: dict[str, list[Node]] = {}
    for node in nodes:
        (first, *others) = node.inputs
        goes_on = not others and readers[first] == 1 and first in chains
        chains[node.name] = [*chains.pop(first), node] if goes_on else [node]
    order = {node.name: place for place, node in enumerate(nodes)}
    return tuple(
        _piece(chain) for _, chain in sorted(chains.items(), key=lambda each: order[each[0]])
    )


def _piece(chain: Sequence[Node]) -> Piece:
    reads = tuple(dict.fromkeys(chain[0].inputs))
    new = {name: f"input{place}" for place, name in enumerate(reads)}
    renamed = []
    for place, node in enumerate(chain):
        new[node.name] = f"node{place}"
        renamed.append(Node(f"node{place}", node.op, [new[name] for name in node.inputs]))
    return Piece(tuple(renamed), tuple(node.name for node in chain), reads)


def _run(
    nodes: tuple[Node, ...],
    train: bool,
    arrays: Any,
    stats: Any,
    inputs: tuple[jax.Array, ...],
    dropped: Any,
) -> tuple[jax.Array, Any]:
    """The output of a piece, and its new statistics; `dropped`: a rate of paths and a key."""
    variables = {**arrays, "batch_stats": stats}
    given = {f"input{place}": x for place, x in enumerate(inputs)}
    rate, key = (None, None) if dropped is None else dropped
    rngs = None if key is None else {"dropout": key}
    mutable = ["batch_stats"] if train else []
    values, new = Nodes(nodes).apply(variables, given, train, rate, mutable=mutable, rngs=rngs)
    return values[nodes[-1].name], new.get("batch_stats", stats)


_forward = jax.jit(_run, static_argnums=(0, 1), compiler_options=CPU_OPTIONS)


@functools.partial(jax.jit, static_argnums=0, compiler_options=CPU_OPTIONS)
def _linearized(nodes: tuple[Node, ...], arrays: Any, stats: Any, inputs: Any, dropped: Any) -> Any:
    """The output of a piece, how gradients go back through it, and its new statistics."""
    return jax.vjp(
        lambda arrays, inputs: _run(nodes, True, arrays, stats, inputs, dropped),
        arrays,
        inputs,
        has_aux=True,
    )


@functools.partial(jax.jit, compiler_options=CPU_OPTIONS)
def _back(pull: Any, gradient: jax.Array) -> Any:
    """Gradients of a piece's arrays and inputs, and the sum of squares of its parameters'."""
    arrays, inputs = pull(gradient)
    squares = sum(jnp.vdot(x, x) for x in jax.tree.leaves(arrays["params"]))
    return arrays, inputs, jnp.asarray(squares)


@functools.partial(jax.jit, static_argnums=5, compiler_options=CPU_OPTIONS)
def _stepped(
    params: Any, trace: Any, gradients: Any, scale: Any, rate: Any, settings: TrainingSettings
) -> tuple[Any, Any]:
    """Parameters and momentum after a step of SGD, by gradients that are to be scaled."""
    step = direction(dataclasses.replace(settings, clip_norm=0.0))
    decay, momentum = step.init(params)
    gradients = jax.tree.map(lambda x: x * scale, gradients)
    steps, (_, momentum) = step.update(gradients, (decay, momentum._replace(trace=trace)), params)
    return jax.tree.map(lambda p, s: p - (rate * s).astype(p.dtype), params, steps), momentum.trace


_added = jax.jit(jnp.add)


class Gradients(NamedTuple):
    """What a backward pass over all pieces gives; all by node.

    Attributes:
      loss: the loss.
      params: gradients of parameters.
      arch: gradients of edge weights.
      stats: new statistics.
      norm: the length of all gradients of parameters together.
    """

    loss: jax.Array
    params: dict[str, Any]
    arch: dict[str, Any]
    stats: dict[str, Any]
    norm: float


@dataclasses.dataclass(frozen=True)
class Pieces:
    """A network, or a path of a supernet, that is run piece by piece."""

    parts: tuple[Piece, ...]

    @classmethod
    def of(cls, nodes: Sequence[Node], output: str) -> Pieces:
        return cls(pieces(nodes, output))

    def logits(
        self, variables: Variables, images: jax.Array, train: bool
    ) -> tuple[jax.Array, dict[str, Any]]:
        """Logits, and in training the new statistics, by node."""
        values, new = {INPUT: images}, dict[str, Any]()
        for part in self.parts:
            inputs = tuple(values[name] for name in part.reads)
            arrays = _arrays(part, variables)
            values[part.output], stats = _forward(part.nodes, train, *arrays, inputs, None)
            new |= _by_name(part, stats)
        return values[self.parts[-1].output], new

    def gradients(
        self,
        variables: Variables,
        images: jax.Array,
        loss_of: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
        dropped: tuple[Any, jax.Array] | None = None,
    ) -> Gradients:
        """The loss in training mode, and its gradients.

        Args:
          variables: of the network; what it does not need may be there too.
          images: `[batch, height, width, channels]`, floats.
          loss_of: gives of logits the loss and its gradient in them.
          dropped: the rate at which paths are dropped, and a key; by default none is.
        """
        values, stats, pulls = {INPUT: images}, dict[str, Any](), []
        for place, part in enumerate(self.parts):
            inputs = tuple(values[name] for name in part.reads)
            own = None
            if dropped is not None and any(isinstance(n.op, ops.DropPath) for n in part.nodes):
                own = dropped[0], jax.random.fold_in(dropped[1], place)
            arrays = _arrays(part, variables)
            values[part.output], pull, new = _linearized(part.nodes, *arrays, inputs, own)
            pulls.append(pull)
            stats |= _by_name(part, new)
        last = self.parts[-1].output
        loss, towards = loss_of(values[last])
        left: dict[str, jax.Array] = {last: towards}
        params, arch, squares = dict[str, Any](), dict[str, Any](), []
        for part, pull in zip(reversed(self.parts), reversed(pulls)):
            of_arrays, of_inputs, square = _back(pull, left.pop(part.output))
            squares.append(square)
            params |= _by_name(part, of_arrays["params"])
            arch |= _by_name(part, of_arrays["arch"])
            for name, gradient in zip(part.reads, of_inputs):
                if name != INPUT:
                    before = left.get(name)
                    left[name] = gradient if before is None else _added(before, gradient)
        norm = float(np.sqrt(np.sum([np.asarray(square, np.float64) for square in squares])))
        return Gradients(loss, params, arch, stats, norm)

    def step(
        self,
        params: dict[str, Any],
        trace: dict[str, Any],
        found: Gradients,
        rate: Any,
        settings: TrainingSettings,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Parameters and momentum after a step of SGD; those of other nodes stay as they are."""
        clip = settings.clip_norm
        scale = np.float32(clip / found.norm if clip and found.norm > clip else 1.0)
        params, trace = dict(params), dict(trace)
        for part in self.parts:
            names = [name for name in part.names if name in found.params]
            if names:
                new = {f"node{place}": name for place, name in enumerate(names)}
                before = [{n: tree[name] for n, name in new.items()} for tree in (params, trace)]
                gradients = {n: found.params[name] for n, name in new.items()}
                after = _stepped(*before, gradients, scale, rate, settings)
                for tree, arrays in zip((params, trace), after):
                    tree.update({name: arrays[n] for n, name in new.items()})
        return params, trace


def _arrays(part: Piece, variables: Variables) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and edge weights, and statistics, of a piece, by the names of its nodes."""
    found = {}
    for collection in ("params", "arch", "batch_stats"):
        there = variables.get(collection, {})
        own = zip(part.nodes, part.names)
        found[collection] = {node.name: there[name] for node, name in own if name in there}
    return {name: found[name] for name in ("params", "arch")}, found["batch_stats"]


def _by_name(part: Piece, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays of a piece by the names that its nodes have in the network."""
    own = zip(part.nodes, part.names)
    return {name: arrays[node.name] for node, name in own if node.name in arrays}
