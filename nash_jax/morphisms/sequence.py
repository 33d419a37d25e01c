"""Several edits as one, and how far apart two architectures are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax

from nash_jax.architecture import Architecture, Variables
from nash_jax.morphisms.change import Change
from nash_jax.morphisms.edits import Edit, register


@register
@dataclasses.dataclass(frozen=True)
class Sequence(Edit):
    """The edits one after the other: each is of the spec that the ones before have made.

    Inserted batch normalisations are calibrated all at once, behind the last edit.

    Preserved: what all of the edits preserve.
    Rounding: the sum of theirs.
    """

    edits: tuple[Edit, ...]

    def __post_init__(self) -> None:
        edits: Any = self.edits
        if not isinstance(edits, tuple | list) or not all(isinstance(e, Edit) for e in edits):
            raise ValueError(f"Sequence.edits must be a tuple of edits; got {self.edits!r:.100}")
        object.__setattr__(self, "edits", tuple(edits))

    @classmethod
    def sites(cls, spec: Architecture) -> Iterator[Sequence]:
        """None: what a sequence applies to is a matter of its edits."""
        return iter(())

    def change(self, spec: Architecture) -> Change:
        steps, after = [], spec
        for edit in self.edits:
            steps.append(edit._change_or_advice(after))
            after = steps[-1].after
        return Change(spec, after, steps=tuple(steps))

    def _change_or_advice(self, spec: Architecture) -> Change:
        return self.change(spec)  # the edit that does not apply gives the advice

    def check(self, spec: Architecture, variables: Variables) -> None:
        if all(type(edit).check is Edit.check for edit in self.edits):
            return
        key = jax.random.key(0)  # checks do not depend on new weights
        for edit in self.edits:
            edit.check(spec, variables)
            spec, variables = edit(spec, variables, key)

    def weights(self, change: Change, variables: Variables, key: Any, xp: Any) -> Variables:
        for number, (edit, step) in enumerate(zip(self.edits, change.steps)):
            variables = edit.weights(step, variables, jax.random.fold_in(key, number), xp)
        return variables


def distance(a: Architecture, b: Architecture) -> int:
    """How many nodes differ between two architectures of one ancestor: a metric.

    Nodes are compared by name, and a name stays with its node under every edit: what counts is
    nodes that only one of the two has, and nodes that both have with another op or other inputs.

    >>> import nash_jax as nj
    >>> spec = nj.chain((8, 8, 1), 10, widths=(4, 6))
    >>> distance(spec, nj.morphisms.Widen('conv1', 8).rewrite(spec))
    1
    """
    nodes_a, nodes_b = ({n.name: n for n in spec.nodes} for spec in (a, b))
    names = nodes_a.keys() | nodes_b.keys()
    differ = sum(nodes_a.get(name) != nodes_b.get(name) for name in names)
    return differ + (a.input_shape != b.input_shape)
