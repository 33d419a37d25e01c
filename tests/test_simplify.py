"""Simplification undoes growth, and folding normalisation keeps the outputs of evaluation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from edit_cases import KEY, KINDS, case, error, inserts_dropout, sites, spread_numbers
from helpers import random_images, random_variables
from numpy_network import numpy_apply
from zoo import ZOO

import nash_jax as nj
from nash_jax import morphisms, ops
from nash_jax.morphisms import Blend, Deepen, SkipConcat, Widen

GROWING = [k for k in KINDS if not k.startswith("Remove") and k != "FoldBatchNorm"]
STAYS = ("WidenByCopies", "GrowKernel", "Bottleneck")


@pytest.mark.parametrize("name", ZOO)
def test_simplification_undoes_what_an_edit_has_added(name, x64):
    spec = ZOO[name]()
    variables = random_variables(spec, dtype=jnp.float64)
    plain, arrays = morphisms.simplify(spec, variables)
    images = random_images(spec, 2, dtype=np.float64)
    old_logits = numpy_apply(nj.to_json(spec), variables, images)
    assert error(numpy_apply(nj.to_json(plain), arrays, images), old_logits) <= 1e-12
    for kind in set(GROWING) - set(STAYS):
        for number in spread_numbers(name, kind, most=6) if sites(name, kind) else ():
            _, _, edit = case(name, kind, number)
            if inserts_dropout(edit):
                continue
            grown, new = edit(spec, variables, KEY)
            smaller, left = morphisms.simplify(grown, new)
            assert smaller == plain, edit
            # Bit by bit, except dense kernels that are rescaled when a flattened map grows and
            # again when it shrinks.
            close = functools.partial(np.testing.assert_allclose, rtol=1e-15, atol=0)
            jax.tree.map(close, left, arrays)


def test_simplification_undoes_many_edits_at_once():
    spec = ZOO["plain"]()
    variables = random_variables(spec)
    edits = morphisms.Sequence(
        (
            *(Deepen("relu1"), Widen("conv4", 9), SkipConcat("relu4", "relu2")),
            *(Blend("concat5", "concat5", (ops.Conv(13), ops.Gelu())), Widen("conv2", 11)),
        )
    )
    grown, new = edits(spec, variables, KEY)
    smaller, left = morphisms.simplify(grown, new)
    assert smaller == spec
    jax.tree.map(np.testing.assert_array_equal, left, variables)


def test_simplification_leaves_dropout_and_what_was_trained():
    spec = ZOO["plain"]()
    variables = random_variables(spec)
    grown, new = morphisms.Insert("relu1", ops.Dropout())(spec, variables, KEY)
    assert morphisms.simplify(grown, new)[0] == grown
    grown, new = morphisms.widen(spec, variables, KEY, node="conv1", features=5)
    kernel = new["params"]["conv2"]["kernel"].at[0, 0, 4, 0].set(0.1)
    new["params"]["conv2"]["kernel"] = kernel
    smaller, left = morphisms.simplify(grown, new)
    assert smaller["conv1"].op.features == 4  # of the two new units, one is in use now
    images = random_images(spec)
    np.testing.assert_allclose(
        nj.apply(smaller, left, images), nj.apply(grown, new, images), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("name", ZOO)
def test_folding_batch_normalisation_keeps_evaluation(name, x64):
    spec = ZOO[name]()
    variables = random_variables(spec, dtype=jnp.float64)
    images = random_images(spec, 3, dtype=np.float64)
    folded, arrays = morphisms.fold_batch_norm(spec, variables)
    behind = [spec[n.inputs[0]].op for n in spec.nodes if isinstance(n.op, ops.BatchNorm)]
    left = sum(isinstance(node.op, ops.BatchNorm) for node in folded.nodes)
    assert left == sum(isinstance(op, ops.Concat) for op in behind) < len(behind)
    old_logits = numpy_apply(nj.to_json(spec), variables, images)
    assert error(numpy_apply(nj.to_json(folded), arrays, images), old_logits) <= 1e-12
    others = sum(isinstance(node.op, ops.Standardize) for node in folded.nodes)
    assert len(arrays["batch_stats"]) == left + others
