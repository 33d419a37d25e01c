"""Every edit on every network of the zoo that it applies to: the cases of the shared invariants."""

from __future__ import annotations

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import random_variables
from zoo import ZOO

from nash_jax import morphisms
from nash_jax.morphisms import EDITS, Blend, Branch, Insert, Sequence, Widen

KEY = jax.random.key(7)

#: Edits that undo others apply only after one of these edits.
AFTER = {
    "Remove": (Insert,),
    "RemoveBranch": (Blend,),
    "RemoveInput": (Branch, morphisms.SkipConcat),
    "RemoveUnits": (Widen,),
}
KINDS = [kind for kind in EDITS if kind != "Sequence"]


@functools.cache
def sites(name, kind):
    """All edits of a kind on a network, as pairs (the edit that goes before or None, the edit)."""
    spec = ZOO[name]()
    if kind not in AFTER:
        return [(None, edit) for edit in EDITS[kind].sites(spec)]
    return [(first, None) for cls in AFTER[kind] for first in cls.sites(spec)]


def case(name, kind, number, dtype=jnp.float32):
    """One case: a spec, its variables and an edit that applies to them, or None."""
    spec = ZOO[name]()
    variables = random_variables(spec, dtype=dtype)
    first, edit = sites(name, kind)[number]
    if first is None:
        return spec, variables, edit
    spec, variables = first(spec, variables, KEY)
    for edit in reversed(list(EDITS[kind].sites(spec))):
        try:
            edit.check(spec, variables)
        except ValueError:
            continue
        return spec, variables, edit
    return None


def spread_numbers(name, kind, most):
    """Up to `most` of a network's sites, evenly spread."""
    total = len(sites(name, kind))
    return sorted({round(i) for i in np.linspace(0, total - 1, min(most, total))}) if total else []


PAIRS = [
    pytest.param(name, kind, id=f"{name}-{kind}")
    for name in ZOO
    for kind in KINDS
    if sites(name, kind)
]


def error(new, old):
    new, old = np.asarray(new, np.float64), np.asarray(old, np.float64)
    return float(np.abs(new - old).max() / max(np.abs(old).max(), np.abs(new).max()))


def stated_bounds(edit):
    """The rounding that an edit's docstring allows: (float32, bfloat16)."""
    found = re.search(r"float32 ([\de.-]+), bfloat16 ([\de-]+)", " ".join(edit.__doc__.split()))
    return float(found[1]), float(found[2])


def inserts_dropout(edit):
    return isinstance(edit, Insert) and isinstance(edit.op, morphisms.edits.ops.Dropout)


def flat(edit):
    return edit.edits if isinstance(edit, Sequence) else (edit,)
