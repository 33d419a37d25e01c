"""Drawing edits as the paper does (NASH, section 4: ApplyNetMorph, ApplyNetMorphs)."""

from __future__ import annotations

import itertools
import math
from collections import abc
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from nash_jax.architecture import Architecture, Variables, check_key, count_flops, key_numbers, ops
from nash_jax.architecture.spec import Node
from nash_jax.morphisms.branches import SkipAdd, SkipConcat
from nash_jax.morphisms.deepen import Deepen, positions
from nash_jax.morphisms.edits import Edit
from nash_jax.morphisms.sequence import Sequence
from nash_jax.morphisms.widen import Widen

# The paper's choices (section 4).
KERNEL_SIZES = (3, 5)
WIDENING_FACTORS = (2, 4)

Cost = Callable[[Architecture], float]
Sizes = abc.Sequence[int]

#: The least growth to which a widening is reduced so that it fits, as a share of the features.
_LEAST_GROWTH = 1 / 8


def sample(
    spec: Architecture,
    key: jax.Array,
    kernel_sizes: Sizes = KERNEL_SIZES,
    widening_factors: Sizes = WIDENING_FACTORS,
    cost: Cost = count_flops,
    bound: float = math.inf,
) -> Edit:
    """One edit, drawn uniformly among deepen, widen and skip, and then within the kind.

    Deepen: position and kernel size uniform. Widen: convolution and factor uniform. Skip: layers i
    before j uniform, addition or concatenation uniform. Draws that do not apply are drawn again, so
    that the draw is uniform among those that do; a kind that applies nowhere is left out.

    The paper names no bound, but with its draws alone networks grow without end. An edit applies
    only if the grown architecture costs no more than `bound`. A widening may take half of the room
    that is left; if it needs more, the number of added features is halved, again and again, in
    multiples of 8, down to an eighth of the old features. So there is room for every kind of edit
    as long as the bound rises.

    Args:
      spec: the architecture to edit.
      key: decides the draw.
      kernel_sizes: to choose from in deepening.
      widening_factors: to choose from in widening, from 2 on.
      cost: of an architecture.
      bound: the most that the grown architecture may cost.

    Raises:
      ValueError: if nothing applies.

    >>> import nash_jax as nj
    >>> sample(nj.chain((8, 8, 1), 10, widths=(16, 32)), jax.random.key(3))
    SkipAdd(source='pool1', target='relu2')
    """
    check_key(key)
    drawn = _draw(spec, key, kernel_sizes, widening_factors, cost, bound)
    if drawn is None:
        raise ValueError(
            "no edit applies to this architecture; raise the bound or start from another"
        )
    return drawn[0]


def _draw(
    spec: Architecture,
    key: jax.Array,
    kernel_sizes: Sizes,
    widening_factors: Sizes,
    cost: Cost,
    bound: float,
) -> tuple[Edit, Architecture] | None:
    """What `sample` draws and the architecture that it makes; None if nothing applies."""
    for name, values, least in (
        ("kernel_sizes", kernel_sizes, 1),
        ("widening_factors", widening_factors, 2),
    ):
        if not all(type(value) is int and value >= least for value in values):
            raise ValueError(f"{name} must be whole numbers >= {least}; got {tuple(values)}")
    rng = generator(key)
    half = bound if bound == math.inf else (cost(spec) + bound) / 2
    kinds = (
        lambda: _deepen_edits(spec, rng, kernel_sizes),
        lambda: _widen_edits(spec, rng, widening_factors),
        lambda: _skip_edits(spec, rng),
    )
    for kind in rng.permutation(len(kinds)):
        for edit in kinds[kind]():
            most = half if isinstance(edit, Widen) else bound
            for smaller in _down_to_fit(spec, edit):
                try:
                    grown = smaller.change(spec).after
                except ValueError:
                    break  # does not apply here: draw again
                if most == math.inf or cost(grown) <= most:
                    return smaller, grown
    return None


def _down_to_fit(spec: Architecture, edit: Edit) -> abc.Iterator[Edit]:
    """The edit, and of a widening those that add less and less."""
    yield edit
    if isinstance(edit, Widen):
        op = spec[edit.node].op
        assert isinstance(op, ops.Conv)
        added = _halved(edit.features - op.features)
        while added >= max(1, _LEAST_GROWTH * op.features):
            yield Widen(edit.node, op.features + added)
            added = _halved(added)


def _halved(features: int) -> int:
    """Half as many, from 8 on a multiple of 8: other numbers are slow on tensor cores."""
    half = features // 2
    return half if half < 8 else half - half % 8


def sample_edits(
    spec: Architecture,
    key: jax.Array,
    num: int,
    kernel_sizes: Sizes = KERNEL_SIZES,
    widening_factors: Sizes = WIDENING_FACTORS,
    cost: Cost = count_flops,
    bounds: abc.Sequence[float] = (),
) -> tuple[tuple[Edit, ...], Architecture]:
    """`num` edits, each drawn for the architecture that the ones before have made.

    Args:
      spec: the architecture to edit.
      key: decides the draws.
      num: how many edits.
      kernel_sizes, widening_factors, cost: as in `sample`.
      bounds: for each edit, the most that the grown architecture may cost, `[num]`; empty: none.

    Returns:
      The edits, fewer than `num` where none applies, and the architecture they make.

    Raises:
      ValueError: if `num` is no number of edits, or there is not a bound for each.
    """
    if type(num) is not int or num < 0:
        raise ValueError(f"num must be a whole number >= 0; got {num!r}")
    if len(bounds) not in (0, num):
        raise ValueError(f"bounds must be one for each of {num} edits, or none; got {len(bounds)}")
    check_key(key)
    edits: list[Edit] = []
    for number in range(num):
        draw_key = jax.random.fold_in(key, number)
        bound = bounds[number] if bounds else math.inf
        drawn = _draw(spec, draw_key, kernel_sizes, widening_factors, cost, bound)
        if drawn is not None:
            edit, spec = drawn
            edits.append(edit)
    return tuple(edits), spec


def rising_bounds(first: float, last: float, num: int) -> tuple[float, ...]:
    """A bound for each of `num` edits that rises evenly from one to the next, `[num]`.

    If all edits had the last bound, the first ones would leave no room for the others.

    Args:
      first: what the architecture costs before the first edit.
      last: what it may cost after the last.
      num: how many edits.

    >>> rising_bounds(10, 100, 3)
    (40.0, 70.0, 100.0)
    """
    return tuple(first + (last - first) * number / num for number in range(1, num + 1))


def apply_random(
    spec: Architecture, variables: Variables, key: jax.Array, num: int = 5, calibration: Any = None
) -> tuple[Architecture, Variables]:
    """The paper's ApplyNetMorphs: `num` edits, each drawn by `sample` and applied.

    Args:
      spec: the architecture.
      variables: its variables; not changed.
      key: decides the draws and the new weights.
      num: how many edits.
      calibration: images by which inserted batch normalisations are set, as in `Edit.transfer`.

    Returns:
      The grown architecture and its variables, which compute the same outputs.
    """
    check_key(key)
    draw_key, weight_key = jax.random.split(key)
    edits, _ = sample_edits(spec, draw_key, num)
    return Sequence(edits)(spec, variables, weight_key, calibration)


def generator(key: jax.Array) -> np.random.Generator:
    """NumPy's generator from a JAX key: drawing small whole numbers needs no compilation."""
    return np.random.default_rng(key_numbers(key).ravel())


def _deepen_edits(
    spec: Architecture, rng: np.random.Generator, kernel_sizes: Sizes
) -> Iterable[Edit]:
    for place, size in _shuffled(rng, positions(spec), kernel_sizes):
        yield Deepen(place, size)


def _widen_edits(
    spec: Architecture, rng: np.random.Generator, widening_factors: Sizes
) -> Iterable[Edit]:
    convs = [node.name for node in spec.nodes if isinstance(node.op, ops.Conv)]
    for name, factor in _shuffled(rng, convs, widening_factors):
        op = spec[name].op
        assert isinstance(op, ops.Conv)
        yield Widen(name, factor * op.features)


def _skip_edits(spec: Architecture, rng: np.random.Generator) -> Iterable[Edit]:
    layers = [node.name for node in spec.nodes if _ends_layer(spec, node)]
    pairs = tuple(itertools.combinations(layers, 2))
    for (source, target), skip in _shuffled(rng, pairs, (SkipAdd, SkipConcat)):
        yield skip(source, target)


def _ends_layer(spec: Architecture, node: Node) -> bool:
    """Whether a node ends a layer: Conv-BatchNorm-Relu counts as one (the paper's footnote 3)."""
    inside = ops.BatchNorm | ops.Activation
    readers = [spec[name].op for name in spec.readers[node.name]]
    return len(spec.shapes[node.name]) == 3 and not (
        isinstance(node.op, ops.Normalize) or any(isinstance(op, inside) for op in readers)
    )


def _shuffled(rng: np.random.Generator, *choices: abc.Sequence[Any]) -> Iterable[tuple[Any, ...]]:
    """All combinations, in random order."""
    combinations = list(itertools.product(*choices))
    return (combinations[i] for i in rng.permutation(len(combinations)))
