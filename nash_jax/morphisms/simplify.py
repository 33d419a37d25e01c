"""The way back: edits that remove what does not change the outputs, and normalisation folded away.

These edits are exact for some weights only. Called, an edit checks the weights it is given; its
weight half alone, `transfer`, does not, so that it runs under `jax.jit`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from nash_jax.architecture import INPUT, Architecture, Node, Variables, check_variables, ops
from nash_jax.architecture.spec import rewired
from nash_jax.morphisms.change import Change, carry
from nash_jax.morphisms.edits import Edit, applicable, check_name, register, the_op
from nash_jax.morphisms.identity import is_identity, nonnegative_nodes, why_no_identity
from nash_jax.morphisms.narrow import kept_sources, narrowed, spread_removal, used_channels
from nash_jax.morphisms.primitives import batch_norm_line, fold_line


@register
@dataclasses.dataclass(frozen=True)
class Remove(Edit):
    """Take out the node `node`, which passes its input on; its readers read its input instead.

    Batch normalisation must pass its input on in evaluation, up to rounding. Dropout does so in
    evaluation, but `simplify` leaves it.

    Preserved: evaluation mode. Training mode too, but for dropout and batch normalisation.
    Rounding: of one batch normalisation; without one, bit for bit; float32 1e-5, bfloat16 5e-2.
    """

    node: str

    def __post_init__(self) -> None:
        check_name(self, "node")

    @classmethod
    def sites(cls, spec: Architecture) -> Iterator[Remove]:
        return applicable(spec, (cls(node.name) for node in spec.nodes))

    def change(self, spec: Architecture) -> Change:
        node = spec[self.node]
        read = node.inputs[0]
        if len(node.inputs) > 1:
            raise ValueError(
                f"cannot remove '{self.node}': it joins {len(node.inputs)} nodes; use RemoveBranch "
                "or RemoveInput"
            )
        why = why_no_identity(node.op, spec.shapes[read], read in nonnegative_nodes(spec))
        if why:
            raise ValueError(f"cannot remove '{self.node}' ({ops.describe(node.op)}): {why}")
        return Change(spec, _without(spec, self.node, read))

    def check(self, spec: Architecture, variables: Variables) -> None:
        op = spec[self.node].op
        if not isinstance(op, ops.Dropout) and not _passes_on(spec, variables, self.node):
            raise ValueError(
                f"cannot remove '{self.node}' ({ops.describe(op)}): its weights do not pass its "
                "input on"
            )


@register
@dataclasses.dataclass(frozen=True)
class RemoveBranch(Edit):
    """Replace the mix `node` by its first input where lambda is 1, and drop what only it read.

    Preserved: evaluation and training mode, bit for bit, but for one rounding to bfloat16 less,
    as long as the dropped branch is finite.
    Rounding: float32 0, bfloat16 5e-2.
    """

    node: str

    def __post_init__(self) -> None:
        check_name(self, "node")

    @classmethod
    def sites(cls, spec: Architecture) -> Iterator[RemoveBranch]:
        return applicable(spec, (cls(n.name) for n in spec.nodes if isinstance(n.op, ops.Mix)))

    def change(self, spec: Architecture) -> Change:
        the_op(spec, self.node, (ops.Mix,), "remove a branch of")
        node = spec[self.node]
        return Change(spec, _without(spec, self.node, node.inputs[0]))

    def check(self, spec: Architecture, variables: Variables) -> None:
        weight = float(variables["params"][self.node]["lambda"])
        if weight != 1:
            raise ValueError(
                f"cannot remove a branch of '{self.node}': its lambda is {weight}, not 1"
            )


@register
@dataclasses.dataclass(frozen=True)
class RemoveInput(Edit):
    """Take the node `source` out of the concatenation `node`; readers must give it zero weights.

    Nodes that nothing else reads are dropped.

    Preserved: evaluation and training mode (without dropout), as long as what is dropped is finite.
    Rounding: of shorter sums; float32 1e-5, bfloat16 5e-2.
    """

    node: str
    source: str

    def __post_init__(self) -> None:
        check_name(self, "node", "source")

    @classmethod
    def sites(cls, spec: Architecture) -> Iterator[RemoveInput]:
        joins = (n for n in spec.nodes if isinstance(n.op, ops.Concat))
        return applicable(spec, (cls(n.name, i) for n in joins for i in dict.fromkeys(n.inputs)))

    def _removed(self, spec: Architecture) -> dict[str, np.ndarray]:
        the_op(spec, self.node, (ops.Concat,), "remove an input of")
        node = spec[self.node]
        if self.source not in node.inputs:
            raise ValueError(
                f"'{self.node}' does not read '{self.source}'; it reads {', '.join(node.inputs)}"
            )
        if set(node.inputs) == {self.source}:
            raise ValueError(f"cannot remove '{self.source}': '{self.node}' reads nothing else")
        mask = np.concatenate([np.full(spec.shapes[i][-1], i == self.source) for i in node.inputs])
        try:
            return spread_removal(spec, self.node, mask, asks_producer=False)
        except ValueError as error:
            raise ValueError(f"cannot remove '{self.source}' from '{self.node}': {error}") from None

    def change(self, spec: Architecture) -> Change:
        removed = self._removed(spec)
        sources = kept_sources(spec, removed)
        nodes = []
        for node in narrowed(spec, removed):
            if node.name != self.node:
                nodes.append(node)
                continue
            others = tuple(i for i in node.inputs if i != self.source)
            op = ops.Concat() if len(others) > 1 else ops.Identity()
            nodes.append(Node(node.name, op, others))
        staged = Architecture(spec.input_shape, _read_nodes(nodes, spec.output))
        if isinstance(staged[self.node].op, ops.Identity):
            staged = _without(staged, self.node, staged[self.node].inputs[0])
        present = {key: axes for key, axes in sources.items() if key[0] in staged.shapes}
        return Change(spec, staged, present)

    def check(self, spec: Architecture, variables: Variables) -> None:
        _check_unused(spec, variables, self._removed(spec), f"'{self.source}' from '{self.node}'")


@register
@dataclasses.dataclass(frozen=True)
class RemoveUnits(Edit):
    """Take units that readers give zero weights out of the convolution or dense layer `node`.

    Where a sum ties widths, the same channels are taken out of all tied layers.

    Args:
      node: the convolution or dense layer.
      units: the indices of the units, ascending.

    Preserved: evaluation and training mode (without dropout), as long as what is dropped is finite.
    Rounding: of shorter sums; float32 1e-5, bfloat16 5e-2.
    """

    node: str
    units: tuple[int, ...]

    def __post_init__(self) -> None:
        check_name(self, "node")
        units: Any = self.units
        if (
            not isinstance(units, tuple | list)
            or not units
            or not all(type(u) is int and u >= 0 for u in units)
            or sorted(set(units)) != list(units)
        ):
            raise ValueError(
                "RemoveUnits.units must be whole numbers >= 0, each once, ascending; "
                f"got {units!r:.100}"
            )
        object.__setattr__(self, "units", tuple(units))

    @classmethod
    def sites(cls, spec: Architecture) -> Iterator[RemoveUnits]:
        """Every single unit."""
        edits = (
            cls(node.name, (unit,))
            for node in spec.nodes
            if isinstance(op := node.op, ops.Conv | ops.Dense)
            for unit in range(op.features)
        )
        return applicable(spec, edits)

    def _removed(self, spec: Architecture) -> dict[str, np.ndarray]:
        op = the_op(spec, self.node, (ops.Conv, ops.Dense), "remove units of")
        if self.units[-1] >= op.features:
            raise ValueError(
                f"cannot remove unit {self.units[-1]} of '{self.node}': its units are 0 to "
                f"{op.features - 1}"
            )
        mask = np.isin(np.arange(op.features), self.units)
        try:
            return spread_removal(spec, self.node, mask)
        except ValueError as error:
            raise ValueError(f"cannot remove units of '{self.node}': {error}") from None

    def change(self, spec: Architecture) -> Change:
        removed = self._removed(spec)
        after = Architecture(spec.input_shape, narrowed(spec, removed))
        return Change(spec, after, kept_sources(spec, removed))

    def check(self, spec: Architecture, variables: Variables) -> None:
        _check_unused(spec, variables, self._removed(spec), f"units of '{self.node}'")


@register
@dataclasses.dataclass(frozen=True)
class FoldBatchNorm(Edit):
    """Merge the batch normalisation `node` into the layer before, if nothing else reads it.

    It is for inference.

    Preserved: evaluation mode. In training the network is another.
    Rounding: of the products `a * kernel`; float32 1e-4, bfloat16 1e-1.
    """

    node: str

    def __post_init__(self) -> None:
        check_name(self, "node")

    @classmethod
    def sites(cls, spec: Architecture) -> Iterator[FoldBatchNorm]:
        return applicable(spec, (cls(node.name) for node in spec.nodes))

    def change(self, spec: Architecture) -> Change:
        the_op(spec, self.node, (ops.BatchNorm,), "fold")
        layer = spec[self.node].inputs[0]
        if layer == INPUT or not isinstance(op := spec[layer].op, ops.Conv | ops.Dense):
            raise ValueError(f"cannot fold '{self.node}': it reads '{layer}', which has no kernel")
        if len(spec.readers[layer]) > 1:
            raise ValueError(
                f"cannot fold '{self.node}': '{layer}' is also read by "
                f"{', '.join(r for r in spec.readers[layer] if r != self.node)}"
            )
        biased = dataclasses.replace(op, use_bias=True)
        nodes = [Node(n.name, biased, n.inputs) if n.name == layer else n for n in spec.nodes]
        return Change(
            spec, _without(Architecture(spec.input_shape, tuple(nodes)), self.node, layer)
        )

    def weights(self, change: Change, variables: Variables, key: Any, xp: Any) -> Variables:
        node = change.before[self.node]
        layer = node.inputs[0]
        assert isinstance(node.op, ops.BatchNorm)
        new = carry(change, variables, key, xp)
        params, stats, old = (
            {name: xp.asarray(x) for name, x in variables[collection][of].items()}
            for collection, of in (
                ("params", self.node),
                ("batch_stats", self.node),
                ("params", layer),
            )
        )
        a, c = batch_norm_line(params, stats, node.op.epsilon)
        kernel, bias = fold_line(old["kernel"], old.get("bias", xp.zeros_like(c)), a, c)
        new["params"][layer] = {"kernel": kernel, "bias": bias}
        return new


def simplify(spec: Architecture, variables: Variables) -> tuple[Architecture, Variables]:
    """Remove, step by step, everything that does not change the outputs in evaluation.

    That is: ops that pass their input on, branches with lambda 1, and inputs and units that are
    read with zero weights. Dropout stays. This is the inverse of growing: what an edit has added is
    removed if it was not trained since, except copies (`WidenByCopies`) and larger kernels.

    Args:
      spec: the architecture.
      variables: its variables; not changed.

    Returns:
      The smaller architecture and its variables.

    Raises:
      ValueError: if the variables do not fit the spec.

    >>> import nash_jax as nj
    >>> spec, key = nj.chain((8, 8, 1), 10, widths=(4,)), jax.random.key(0)
    >>> variables = nj.init(spec, key)
    >>> wider, grown = nj.morphisms.widen(spec, variables, key, node='conv1', features=6)
    >>> simplify(wider, grown)[0] == spec
    True
    """
    check_variables(spec, variables)
    key = jax.random.key(0)  # nothing new is drawn
    while True:
        for edit in _removals(spec, variables):
            try:
                spec, variables = edit(spec, variables, key)
            except ValueError:
                continue  # tied to something that stays
            break
        else:
            return spec, variables


def _removals(spec: Architecture, variables: Variables) -> Iterator[Edit]:
    """Edits that may remove something from this network."""
    for node in spec.nodes:
        if isinstance(node.op, ops.Mix) and float(variables["params"][node.name]["lambda"]) == 1:
            yield RemoveBranch(node.name)
    nonnegative = nonnegative_nodes(spec)
    for node in spec.nodes:
        if len(node.inputs) == 1 and _passes_on(spec, variables, node.name, nonnegative):
            yield Remove(node.name)
    used = used_channels(spec, variables)
    for node in spec.nodes:
        if isinstance(node.op, ops.Concat) and not used[node.name].all():
            for source in dict.fromkeys(node.inputs):
                yield RemoveInput(node.name, source)
    for node in spec.nodes:
        if isinstance(op := node.op, ops.Conv | ops.Dense) and not used[node.name].all():
            dead = [int(unit) for unit in np.flatnonzero(~used[node.name])]
            if len(dead) < op.features:
                yield RemoveUnits(node.name, tuple(dead))
            yield from (RemoveUnits(node.name, (unit,)) for unit in dead)


def fold_batch_norm(spec: Architecture, variables: Variables) -> tuple[Architecture, Variables]:
    """Merge every batch normalisation that directly follows a layer into that layer, for inference.

    Args:
      spec: the architecture.
      variables: its variables; not changed.

    Returns:
      The architecture without those normalisations, and its variables; the same outputs in
      evaluation, up to rounding.

    Raises:
      ValueError: if the variables do not fit the spec.
    """
    check_variables(spec, variables)
    for edit in list(FoldBatchNorm.sites(spec)):
        spec, variables = edit(spec, variables, jax.random.key(0))
    return spec, variables


def _passes_on(
    spec: Architecture,
    variables: Variables,
    name: str,
    nonnegative: frozenset[str] | None = None,
) -> bool:
    node = spec[name]
    (read,) = node.inputs
    known = nonnegative_nodes(spec) if nonnegative is None else nonnegative
    params = variables["params"].get(name, {})
    stats = variables.get("batch_stats", {}).get(name, {})
    return is_identity(node.op, spec.shapes[read], read in known, params, stats)


def _check_unused(
    spec: Architecture, variables: Variables, removed: dict[str, np.ndarray], what: str
) -> None:
    used = used_channels(spec, variables)
    for name, mask in removed.items():
        if (channels := np.flatnonzero(mask & used[name])).size:
            raise ValueError(
                f"cannot remove {what}: channel {channels[0]} of '{name}' is read with weights "
                "that are not zero"
            )


def _without(spec: Architecture, name: str, by: str) -> Architecture:
    """The spec without a node: its readers read `by`; nodes that are no longer read go too."""
    output = by if name == spec.output else spec.output
    if output == INPUT:
        raise ValueError(f"cannot remove '{name}': it is the only node")
    nodes = [n for n in rewired(spec.nodes, name, by) if n.name != name]
    return Architecture(spec.input_shape, _read_nodes(nodes, output))


def _read_nodes(nodes: list[Node], output: str) -> tuple[Node, ...]:
    """The nodes that the output depends on."""
    needed = {output}
    for node in reversed(nodes):
        if node.name in needed:
            needed.update(node.inputs)
    return tuple(node for node in nodes if node.name in needed)
