"""Every edit against every invariant, on every network of the zoo that it applies to."""

import functools
import json

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from edit_cases import AFTER, KEY, KINDS, PAIRS, case, error, sites, spread_numbers, stated_bounds
from numpy_network import numpy_apply
from test_network import random_images, random_variables
from zoo import ZOO

import nash_jax as nj
from nash_jax import Node, morphisms, ops
from nash_jax.architecture import activations
from nash_jax.architecture.weights import expected_shapes
from nash_jax.morphisms import (
    EDITS,
    Blend,
    Bottleneck,
    Branch,
    Deepen,
    DeepenDense,
    Duplicate,
    FoldBatchNorm,
    GrowKernel,
    Insert,
    InsertSeparable,
    Remove,
    RemoveBranch,
    RemoveInput,
    RemoveUnits,
    Sequence,
    SkipAdd,
    SkipConcat,
    Widen,
    WidenByCopies,
)
from nash_jax.morphisms.change import origins

# Where the logits are all that a loss sees, little is compiled and much is run: no optimisation.
QUICK = {"xla_backend_optimization_level": 0}


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


@pytest.mark.parametrize(("name", "kind"), PAIRS)
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
        unseen = isinstance(edit, GrowKernel) and name == "one_pixel"
        by_chance = name in MAY_BE_OFF or isinstance(edit, DeepenDense)
        assert share == 1 or unseen or (by_chance and share >= 0.5), (edit, path)


def keeps_training(edit, spec, changed):
    """Whether an edit promises the same outputs in training: not about dropout, nor what is taken
    out of the statistics of a batch."""
    if any(isinstance(node.op, ops.Dropout) for node in (*spec.nodes, *changed.nodes)):
        return False
    removes_norm = isinstance(edit, Remove) and isinstance(spec[edit.node].op, ops.BatchNorm)
    return not removes_norm and not isinstance(edit, FoldBatchNorm)


@pytest.mark.parametrize("name", ["small_resnet", "mobile"])
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


# Networks with Relu on what no normalisation centres.
MAY_BE_OFF = ("dense_layers", "concats")


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
@hypothesis.settings(max_examples=8)
@hypothesis.given(name=st.sampled_from(sorted(ZOO)), seed=st.integers(0, 10**6))
def test_chains_of_30_random_edits_preserve_the_function(name, seed):
    with jax.enable_x64(True):
        spec = ZOO[name]()
        variables = random_variables(spec, seed, dtype=jnp.float64)
        images = random_images(spec, 3, seed, np.float64)
        old_logits = numpy_apply(nj.to_json(spec), variables, images)
        key = jax.random.key(seed)
        edits, grown = morphisms.sample_edits(
            spec, key, 30, fits=lambda spec: nj.count_flops(spec) < 2e6
        )
        assert len(edits) == 30 or name == "dense_layers"
        final, new = Sequence(edits)(spec, variables, key)
        assert final == grown
        logits = numpy_apply(nj.to_json(grown), new, images)
        assert error(logits, old_logits) <= 1e-10
        assert error(nj.apply(grown, new, images), logits) <= 1e-12


def test_widening_by_hand():
    nodes = [
        Node("flat", ops.Flatten(), "input"),
        Node("hidden", ops.Dense(1), "flat"),
        Node("out", ops.Dense(2), "hidden"),
    ]
    spec = nj.Architecture((1, 2, 1), nodes)
    variables = nj.init(spec, KEY)
    grown, new = morphisms.widen(spec, variables, KEY, node="hidden", features=3)
    hidden, out = new["params"]["hidden"], new["params"]["out"]
    np.testing.assert_array_equal(hidden["kernel"][:, :1], variables["params"]["hidden"]["kernel"])
    assert (np.asarray(hidden["kernel"][:, 1:]) != 0).all()
    np.testing.assert_array_equal(out["kernel"][:1], variables["params"]["out"]["kernel"])
    np.testing.assert_array_equal(out["kernel"][1:], np.zeros((2, 2)))
    np.testing.assert_array_equal(out["bias"], variables["params"]["out"]["bias"])
    assert grown["hidden"].op.features == 3


def test_widening_before_flatten_puts_zeros_between_the_pixels():
    spec = nj.chain((1, 2, 1), 2, (2,))
    variables = random_variables(spec)
    _, new = morphisms.widen(spec, variables, KEY, node="conv1", features=3)
    kernel, old = new["params"]["dense"]["kernel"], variables["params"]["dense"]["kernel"]
    np.testing.assert_array_equal(kernel[np.array([0, 1, 3, 4])], old)
    np.testing.assert_array_equal(kernel[np.array([2, 5])], np.zeros((2, 2)))


def test_widening_one_of_a_sum_widens_all_that_are_tied():
    spec = ZOO["small_resnet"]()
    convs = [n.name for n in spec.nodes if isinstance(n.op, ops.Conv)]
    grown = Widen(convs[0], 6).rewrite(spec)
    assert [grown[name].op.features for name in convs] == [6, 4, 6, 4, 6]


def test_widening_behind_an_option_a_shortcut_pads_more():
    spec = ZOO["padded_resnet"]()
    second = [n.name for n in spec.nodes if isinstance(n.op, ops.Conv)][1]
    grown = Widen(second, 11).rewrite(spec)
    pad = next(n.op for n in grown.nodes if isinstance(n.op, ops.PadChannels))
    assert pad == ops.PadChannels(2, 5)


def test_skips_pool_and_project_where_shapes_differ():
    spec = nj.chain((9, 8, 1), 5, (3, 4, 5))  # 9x8, 4x4, 2x2
    grown = SkipAdd("relu1", "relu3").rewrite(spec)
    assert grown["pool4"].op == ops.MaxPool((5, 4), (4, 4))
    assert grown["project4"].op == ops.Conv(5, 1)
    assert grown["mix4"].inputs == ("relu3", "project4")
    assert grown["flatten"].inputs == ("mix4",)
    grown = SkipConcat("relu1", "relu3").rewrite(spec)
    assert grown.shapes["concat4"] == (2, 2, 8)
    assert grown["flatten"].inputs == ("concat4",)


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("plain", Deepen("bn1"), "cannot deepen after 'bn1': .* choose one of relu1, pool1"),
        ("plain", Deepen("rleu1"), "there is no node 'rleu1'; the nearest names are relu1"),
        ("plain", Deepen("flatten"), "cannot deepen after 'flatten'"),
        ("plain", Deepen("input"), "cannot deepen after 'input'"),
        ("plain", Widen("relu1", 9), "cannot widen 'relu1', a Relu; choose one of conv1, conv2"),
        ("plain", Widen("conv1", 3), "needs more than its 3 features; got 3"),
        ("plain", Widen("dense", 9), "the logits of 'dense' would become more than the classes"),
        ("plain", Widen("input", 9), "'input' is the image"),
        ("separable", Widen("conv17", 8), "'conv17' is a convolution of 2 groups"),
        ("plain", SkipAdd("relu3", "relu1"), "the source must come before the target"),
        ("plain", SkipAdd("relu1", "relu1"), "the source must come before the target"),
        ("plain", SkipAdd("relu1", "pool1"), "no layer with weights between them"),
        ("plain", SkipAdd("bn1", "relu1"), "no layer with weights between them"),
        ("plain", SkipAdd("relu1", "dense"), "one is a feature map, the other a vector"),
        ("dense_layers", SkipConcat("dense6", "dense14"), "it is the output"),
        ("small_resnet", SkipConcat("relu3", "batchnorm8"), "is tied"),
    ],
)
def test_an_edit_that_does_not_apply_says_why(name, edit, message):
    with pytest.raises(ValueError, match=message):
        edit.rewrite(ZOO[name]())


@pytest.mark.parametrize("detour", range(6))
def test_ties_are_judged_when_all_demands_are_known(detour):
    nodes = [Node("conv", ops.Conv(2), "input"), Node("flat", ops.Flatten(), "conv")]
    nodes += [Node(f"relu{n}", ops.Relu(), f"relu{n - 1}" if n else "conv") for n in range(detour)]
    last = nodes[-1].name if detour else "conv"
    nodes += [
        Node("other", ops.Flatten(), last),
        Node("sum", ops.Add(), ("flat", "other")),
        Node("dense", ops.Dense(2), "sum"),
    ]
    spec = nj.Architecture((3, 3, 1), nodes)
    assert Widen("conv", 3).rewrite(spec).shapes["sum"] == (27,)


def test_only_batch_normalisations_are_calibrated():
    spec = ZOO["plain"]()
    with pytest.raises(ValueError, match="only batch normalisations are calibrated; got 'relu1'"):
        morphisms.calibrate(spec, nj.init(spec, KEY), random_images(spec), ["relu1"], KEY)


def test_a_width_tied_to_the_image_cannot_grow():
    nodes = [
        Node("conv", ops.Conv(3), "input"),
        Node("sum", ops.Add(), ("conv", "input")),
        Node("pool", ops.GlobalAvgPool(), "sum"),
        Node("dense", ops.Dense(2), "pool"),
    ]
    spec = nj.Architecture((4, 4, 3), nodes)
    with pytest.raises(ValueError, match="cannot widen 'conv': the image would need more channels"):
        Widen("conv", 4).rewrite(spec)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Widen("conv1", 0),
            "Widen.features must be a whole number from 1 to 2147483647; got 0",
        ),
        (lambda: Deepen("relu1", 2.5), "Deepen.kernel_size must be a whole number"),
        (lambda: morphisms.edit_from_dict({"edit": "Shrink"}), "edit must be one of Deepen"),
        (lambda: morphisms.edit_from_dict({"edit": "Widen", "node": "a"}), "needs the field"),
        (lambda: morphisms.edit_from_dict([]), "expected an object"),
        (lambda: SkipAdd([], "relu1"), r"SkipAdd.source must be the name of a node; got \[\]"),
    ],
)
def test_bad_edit_is_one_clear_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_variables_of_another_spec_are_refused():
    spec = ZOO["plain"]()
    variables = nj.init(ZOO["small_resnet"](), KEY)
    with pytest.raises(ValueError, match="the variables do not fit the spec: params/conv1/kernel"):
        morphisms.widen(spec, variables, KEY, node="conv1", features=8)


def test_sampling_is_uniform_among_the_kinds_and_deterministic():
    spec = nj.chain((8, 8, 1), 10, (16, 32, 64))
    keys = jax.random.split(jax.random.key(0), 600)
    edits = [morphisms.sample(spec, key) for key in keys]
    assert edits[:20] == [morphisms.sample(spec, key) for key in keys[:20]]
    counts = {kind: sum(type(e).__name__ == kind for e in edits) for kind in morphisms.EDITS}
    # Of 600 draws a third is 200, with a standard deviation of 11.5; a sixth is 100, with 9.1.
    assert all(abs(counts[kind] - 200) < 46 for kind in ("Deepen", "Widen")), counts
    assert all(abs(counts[kind] - 100) < 37 for kind in ("SkipAdd", "SkipConcat")), counts
    assert {e.kernel_size for e in edits if isinstance(e, Deepen)} == {3, 5}
    assert {e.after for e in edits if isinstance(e, Deepen)} == {
        "relu1",
        "relu2",
        "relu3",
        "pool1",
        "pool2",
    }
    widened = {(e.node, e.features) for e in edits if isinstance(e, Widen)}
    assert widened == {(f"conv{n}", f * w) for n, w in ((1, 16), (2, 32), (3, 64)) for f in (2, 4)}
    assert {e.source for e in edits if isinstance(e, SkipAdd)} == {
        "relu1",
        "pool1",
        "relu2",
        "pool2",
    }


def test_sampling_respects_limits_and_says_when_nothing_applies():
    spec = nj.chain((8, 8, 1), 10, (4, 4))
    limit = nj.count_flops(spec) + 1
    edits, grown = morphisms.sample_edits(spec, KEY, 3, fits=lambda s: nj.count_flops(s) < limit)
    assert nj.count_flops(grown) < limit
    assert all(isinstance(edit, SkipAdd) for edit in edits)
    with pytest.raises(ValueError, match="no edit applies"):
        morphisms.sample(spec, KEY, fits=lambda _: False)
    assert morphisms.sample_edits(spec, KEY, 3, fits=lambda _: False) == ((), spec)


def test_sampling_draws_from_the_given_sizes_and_factors():
    spec = nj.chain((8, 8, 1), 10, (4, 4))
    edits = [morphisms.sample(spec, key, None, (1, 7), (3,)) for key in jax.random.split(KEY, 60)]
    assert {e.kernel_size for e in edits if isinstance(e, Deepen)} == {1, 7}
    assert {e.features for e in edits if isinstance(e, Widen)} == {12}


def test_apply_random_is_the_paper_s_apply_net_morphs():
    spec = nj.chain((8, 8, 1), 10, (4, 4))
    variables, images = random_variables(spec), random_images(spec)
    grown, new = morphisms.apply_random(spec, variables, jax.random.key(5), num=4)
    assert grown != spec
    assert error(nj.apply(grown, new, images), nj.apply(spec, variables, images)) <= 1e-5
    with pytest.raises(ValueError, match="num must be a whole number >= 0; got -1"):
        morphisms.apply_random(spec, variables, KEY, num=-1)
