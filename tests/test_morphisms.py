"""Every edit against every invariant, on every network of the zoo that it applies to."""

import functools
import itertools
import json

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from edit_cases import AFTER, KEY, KINDS, PAIRS, case, error, spread_numbers, stated_bounds
from helpers import random_images, random_variables
from numpy_network import numpy_apply
from zoo import ZOO

import nash_jax as nj
from nash_jax import morphisms, ops
from nash_jax.architecture import activations
from nash_jax.architecture.weights import expected_shapes
from nash_jax.morphisms import (
    EDITS,
    Deepen,
    DeepenDense,
    FoldBatchNorm,
    GrowKernel,
    Remove,
    Sequence,
    SkipConcat,
    Widen,
)
from nash_jax.morphisms.change import origins

# Where the logits are all that a loss sees, little is compiled and much is run: no optimisation.
# And XLA's usual emitters: those of the launchers' flags may add in another order.
QUICK = {"xla_backend_optimization_level": 0, "xla_backend_extra_options": ""}


def outputs(spec, variables, images):
    """Logits in evaluation and in training mode."""
    in_training, _ = nj.apply(spec, variables, images, train=True, key=KEY)
    return nj.apply(spec, variables, images), in_training


@functools.partial(jax.jit, compiler_options=QUICK)
def outputs_and_gradient(spec, variables, images):
    """Logits in both modes, logits in bfloat16, and the gradient of a training loss."""

    def loss(params):
        both = outputs(spec, {**variables, "params": params}, images)
        labels = np.arange(len(images)) % spec.num_classes
        return optax.softmax_cross_entropy_with_integer_labels(both[1], labels).mean(), both

    gradient, both = jax.grad(loss, has_aux=True)(variables["params"])
    return both, gradient


@functools.partial(jax.jit, compiler_options=QUICK)
def evaluate(spec, variables, images):
    return nj.apply(spec, variables, images)


def test_every_kind_has_cases_on_most_networks():
    for kind in KINDS:
        networks = {case.values[0] for case in PAIRS if case.values[1] == kind}
        assert len(networks) >= (9 if kind == "DeepenDense" else len(ZOO) - 1), (kind, networks)
    assert len(ZOO) >= 12


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_evaluation_mode_is_preserved_in_float64(name, kind, x64):
    applied = 0
    for number in spread_numbers(name, kind, most=12):
        found = case(name, kind, number, jnp.float64)
        if found is None:
            continue
        applied += 1
        spec, variables, edit = found
        before = jax.tree.map(np.array, variables)
        images = random_images(spec, 2, dtype=np.float64)
        changed, new = edit(spec, variables, KEY)
        old_logits = numpy_apply(nj.to_json(spec), variables, images)
        assert error(numpy_apply(nj.to_json(changed), new, images), old_logits) <= 1e-12, edit
        # Nothing given was changed, types are kept, and the arrays are those of the new spec.
        chex.assert_trees_all_equal(variables, before)
        assert all(x.dtype == jnp.float64 for x in jax.tree.leaves(new))
        assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(new))
        assert jax.tree.map(np.shape, new) == expected_shapes(changed)
        assert edit.rewrite(spec) == changed
        text = json.dumps(morphisms.edit_to_dict(edit))
        assert morphisms.edit_from_dict(json.loads(text)) == edit
        if kind not in AFTER and kind != "FoldBatchNorm":
            # Old nodes keep their names, and arrays that stay the same are not copied.
            assert set(spec.shapes) <= set(changed.shapes)
            touched = edit.change(spec).touched
            for node, arrays in variables["params"].items():
                assert node in touched or all(new["params"][node][n] is arrays[n] for n in arrays)
    assert applied


#: The network of cells takes long to compile: there, the edits that spread through its new ops.
SPREADING = ("Widen", "WidenByCopies", "RemoveUnits", "Deepen")
IN_BOTH_MODES = [pair for pair in PAIRS if pair.values[0] != "cell" or pair.values[1] in SPREADING]


@pytest.mark.parametrize(("name", "kind"), IN_BOTH_MODES)
def test_both_modes_are_preserved_in_float32_and_nothing_new_is_dead(name, kind):
    numbers = spread_numbers(name, kind, most=3)
    found = [found for n in numbers if (found := case(name, kind, n)) is not None]
    spec, variables, edit = found[len(found) // 2]
    images = random_images(spec, batch=16)
    changed, new = edit(spec, variables, KEY, images)
    in_float32, _ = stated_bounds(edit)

    (old_eval, old_train), _ = outputs_and_gradient(spec, variables, images)
    (new_eval, new_train), first = outputs_and_gradient(changed, new, images)
    assert error(new_eval, old_eval) <= in_float32
    if keeps_training(edit, spec, changed):
        # An edit that inserts normalisation is exact on its calibration batch, up to the rounding
        # of two passes of statistics in float32.
        assert error(new_train, old_train) <= (1e-4 if in_float32 else 0)

    updated = jax.tree.map(lambda p, g: p - np.float32(0.1) * g, new["params"], first)
    _, second = outputs_and_gradient(changed, {**new, "params": updated}, images)
    places = origins(edit.change(spec), variables["params"])
    normalised = any(isinstance(n.op, ops.BatchNorm) for n in changed.nodes)
    for path, array in jax.tree_util.tree_leaves_with_path(new["params"]):
        node, leaf = path[0].key, path[1].key
        if node not in edit.change(spec).touched:
            continue
        is_new = places.get(node, {}).get(leaf, np.zeros(array.shape)) == 0
        alive = (np.abs(first[node][leaf]) + np.abs(second[node][leaf]) > 0) & is_new
        # Not every weight sees data (a 3x3 kernel on a 1x1 image), but every unit must learn,
        # except that without normalisation a Relu may be off on all 16 images by chance.
        over = tuple(range(alive.ndim - 1))
        total = is_new.any(over).sum()
        share = alive.any(over).sum() / total if total else 1
        unseen = isinstance(edit, GrowKernel) and name in ("one_pixel", "cell")
        by_chance = name in MAY_BE_OFF or isinstance(edit, DeepenDense)
        # Normalisation takes away whatever bias the convolution before it adds.
        cancelled = leaf == "bias" and isinstance(changed[node].op, ops.Conv) and normalised
        assert share == 1 or unseen or cancelled or (by_chance and share >= 0.5), (edit, path)


@pytest.mark.parametrize("name", ["densenet", "shared_input"])
def test_what_states_no_rounding_has_the_same_bits_node_by_node(name):
    kinds = set()
    for kind in (pair.values[1] for pair in PAIRS if pair.values[0] == name):
        for number in spread_numbers(name, kind, most=2):
            if (found := case(name, kind, number)) is None or stated_bounds(found[2])[0]:
                continue
            spec, variables, edit = found
            images = random_images(spec, batch=2)
            changed, new = edit(spec, variables, KEY, images)
            modes = 1 + keeps_training(edit, spec, changed)
            before, after = outputs(spec, variables, images), outputs(changed, new, images)
            chex.assert_trees_all_equal(before[:modes], after[:modes])
            kinds.add(kind)
    assert len(kinds) >= 5


def keeps_training(edit, spec, changed):
    """Whether an edit promises the same outputs in training: not for networks with dropout, nor if
    it removes a batch normalisation."""
    if any(isinstance(node.op, ops.Dropout) for node in (*spec.nodes, *changed.nodes)):
        return False
    removes_norm = isinstance(edit, Remove) and isinstance(spec[edit.node].op, ops.BatchNorm)
    return not removes_norm and not isinstance(edit, FoldBatchNorm)


@pytest.mark.parametrize("name", ["small_resnet", "separable"])
@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_is_preserved_within_the_stated_bound(name, kind):
    for number in spread_numbers(name, kind, most=2):
        found = case(name, kind, number)
        if found is None:
            continue
        spec, variables, edit = found
        half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), variables)
        images = random_images(spec, batch=16)
        changed, new = edit(spec, half, KEY)
        old_logits, new_logits = evaluate(spec, half, images), evaluate(changed, new, images)
        assert old_logits.dtype == new_logits.dtype == jnp.bfloat16
        assert error(new_logits, old_logits) <= stated_bounds(edit)[1], edit


# Networks with Relu on what no normalisation centres (`cell`: in its squeeze-excitation).
MAY_BE_OFF = ("dense_layers", "concats", "cell")


def test_adding_a_skip_is_exact_to_the_last_bit_in_both_modes():
    spec = ZOO["plain"]()
    variables, images = random_variables(spec), random_images(spec)
    grown, new = morphisms.skip_add(spec, variables, KEY, source="relu1", target="relu3")
    np.testing.assert_array_equal(nj.apply(grown, new, images), nj.apply(spec, variables, images))
    old_logits, _ = nj.apply(spec, variables, images, train=True)
    new_logits, _ = nj.apply(grown, new, images, train=True)
    np.testing.assert_array_equal(new_logits, old_logits)


def test_the_inserted_convolution_is_exact_to_the_last_bit():
    spec = ZOO["plain"]()
    variables, images = random_variables(spec), random_images(spec)
    grown, new = morphisms.deepen(spec, variables, KEY, after="relu1", kernel_size=5)
    values, _ = activations(grown, new, images)
    np.testing.assert_array_equal(values["conv4"], values["relu1"])


def test_calibrated_deepening_is_exact_in_training_on_its_batch_and_in_evaluation_on_all(x64):
    spec = ZOO["plain"]()
    variables = random_variables(spec, dtype=jnp.float64)
    batch, others = random_images(spec, 32, seed=1), random_images(spec, 32, seed=2)
    grown, new = morphisms.deepen(spec, variables, KEY, after="relu2", calibration=batch)
    assert error(nj.apply(grown, new, others), nj.apply(spec, variables, others)) <= 1e-12
    old_logits, _ = nj.apply(spec, variables, batch, train=True)
    assert error(nj.apply(grown, new, batch, train=True)[0], old_logits) <= 1e-12
    without = morphisms.deepen(spec, variables, KEY, after="relu2")[1]
    assert error(nj.apply(grown, without, batch, train=True)[0], old_logits) > 1e-3


def test_several_normalisations_are_calibrated_at_once(x64):
    spec = ZOO["plain"]()
    variables = random_variables(spec, dtype=jnp.float64)
    batch = random_images(spec, 32)
    edits = (Deepen("relu1"), Widen("conv4", 9), Deepen("relu4", 5), SkipConcat("relu1", "relu3"))
    grown, new = Sequence(edits)(spec, variables, KEY, batch)
    old_logits, _ = nj.apply(spec, variables, batch, train=True)
    assert error(nj.apply(grown, new, batch, train=True)[0], old_logits) <= 1e-12


@pytest.mark.slow
@hypothesis.settings(max_examples=16)
@hypothesis.given(
    name=st.sampled_from(sorted(ZOO)),
    draws=st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 60)), max_size=40),
)
def test_chains_of_up_to_40_edits_of_all_kinds_preserve_the_function(name, draws):
    with jax.enable_x64(True):
        spec = ZOO[name]()
        variables = random_variables(spec, dtype=jnp.float64)
        images = random_images(spec, 2, dtype=np.float64)
        old_logits = numpy_apply(nj.to_json(spec), variables, images)
        edits, start, grown = [], spec, variables
        for kind, number in draws:
            found = list(itertools.islice(EDITS[kind].sites(spec), number + 1))
            for edit in reversed(found):
                changed = edit.rewrite(spec)
                if nj.count_flops(changed) > 2e6 or len(changed.nodes) > 120:
                    continue
                try:
                    spec, grown = edit(spec, grown, jax.random.fold_in(KEY, len(edits)))
                except ValueError:
                    assert kind in AFTER  # this weight is still needed
                    continue
                edits.append(edit)
                break
        logits = numpy_apply(nj.to_json(spec), grown, images)
        assert error(logits, old_logits) <= 1e-10, edits
        assert error(jax.jit(nj.apply, static_argnums=0)(spec, grown, images), logits) <= 1e-12
        # The same edits as one, and the way back.
        if all(type(edit).check is morphisms.Edit.check for edit in edits):
            assert Sequence(edits).rewrite(start) == spec
        smaller, left = morphisms.simplify(spec, grown)
        assert nj.count_params(smaller) <= nj.count_params(spec)
        assert error(numpy_apply(nj.to_json(smaller), left, images), old_logits) <= 1e-10
