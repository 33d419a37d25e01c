"""Single edits: by hand, and what they say where they do not apply."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from edit_cases import KEY, error
from helpers import random_images, random_variables
from zoo import ZOO

import nash_jax as nj
from nash_jax import Node, morphisms, ops
from nash_jax.morphisms import (
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
    # Flattening scaled the 4 values by sqrt(2 / 4); it scales the 6 values by sqrt(2 / 6).
    np.testing.assert_allclose(kernel[np.array([0, 1, 3, 4])], old * np.sqrt(6 / 4), rtol=1e-6)
    np.testing.assert_array_equal(kernel[np.array([2, 5])], np.zeros((2, 2)))


def test_a_flattened_map_of_constant_length_keeps_the_pace_of_what_reads_it():
    """A step of gradient descent on the dense layer moves the logits equally far, however wide."""
    spec = nj.chain((4, 4, 1), 3, (8,))
    variables, images = random_variables(spec), random_images(spec, 16)

    def pace(spec, variables):
        values, _ = nj.architecture.activations(spec, variables, images, train=True)
        return float((values["flatten"] ** 2).sum())

    before = pace(spec, variables)
    for edit in (Widen("conv1", 64), WidenByCopies("conv1", 64)):
        wider, new = edit(spec, variables, KEY)
        assert 1 / 2 < pace(wider, new) / before < 2  # without: about 8
    fixed = [Node("conv1", ops.Conv(8), "input"), Node("relu", ops.Relu(), "conv1")]
    fixed += [Node("flatten", ops.Flatten(0.25), "relu"), Node("dense", ops.Dense(3), "flatten")]
    fixed = nj.Architecture((4, 4, 1), fixed)
    wider, new = WidenByCopies("conv1", 64)(fixed, random_variables(fixed), KEY)
    assert pace(wider, new) > 4 * pace(fixed, random_variables(fixed))


def test_a_vector_of_constant_length_is_read_by_dense_layers_alone():
    nodes = [Node("conv", ops.Conv(2), "input"), Node("flat", ops.Flatten(length=2), "conv")]
    nodes += [Node("drop", ops.Dropout(0.1), "flat"), Node("dense", ops.Dense(2), "drop")]
    spec = nj.Architecture((2, 2, 1), nodes)
    variables, images = random_variables(spec), random_images(spec)
    wider, new = Widen("conv", 5)(spec, variables, KEY)
    assert error(nj.apply(wider, new, images), nj.apply(spec, variables, images)) <= 1e-5
    nodes.insert(2, Node("bent", ops.Tanh(), "flat"))
    nodes[3] = Node("drop", ops.Dropout(0.1), "bent")
    with pytest.raises(ValueError, match="'flat' has a constant length, and 'bent', which"):
        Widen("conv", 5).rewrite(nj.Architecture((2, 2, 1), nodes))


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
        ("plain", Deepen("bn1"), "cannot deepen after 'bn1': its output must be a feature map .*"
         r"what applies: Deepen\(after='relu1', kernel_size=3\), Deepen\(after='pool1'"),
        ("plain", Deepen("rleu1"), "there is no node 'rleu1'; the nearest names are relu1"),
        ("plain", Deepen("flatten"), "cannot deepen after 'flatten'"),
        ("plain", Deepen("input"), "cannot deepen after 'input'"),
        ("plain", DeepenDense("relu1"), "must be a vector .* what applies: DeepenDense.*flatten"),
        ("inception", DeepenDense("dense23"), "what applies: no DeepenDense in this network"),
        ("plain", Insert("relu1", ops.Dense(3)), "cannot insert Dense 3 after 'relu1': a dense "
         "layer needs a vector; what applies: Insert"),
        ("plain", Insert("relu1", ops.Conv(4)), "as many features as its input has channels, 3"),
        ("plain", Insert("relu1", ops.Conv(3, stride=2)), "its stride must be 1"),
        ("plain", Insert("relu1", ops.Conv(3, padding="VALID")), "its padding 'SAME'"),
        ("plain", Insert("relu1", ops.Conv(3, 2, dilation=2)), "no place of an even kernel"),
        ("plain", Insert("relu1", ops.Tanh()), "no weights make it pass its input on; Blend"),
        ("plain", Insert("bn1", ops.Relu()), "Relu passes on only what is never negative"),
        ("plain", InsertSeparable("flatten"), "a convolution needs a feature map"),
        ("plain", Duplicate("bn1"), "cannot duplicate 'bn1': BatchNorm is not idempotent; Blend "
         "can bring it in; what applies: Duplicate"),
        ("plain", Widen("relu1", 9), "cannot widen 'relu1': it must be Conv or Dense, not Relu; "
         r"what applies: Widen\(node='conv1', features=6\)"),
        ("plain", Widen("conv1", 3), "needs more than its 3 features; got 3"),
        ("plain", Widen("dense", 9), "the logits of 'dense' would become more than the classes"),
        ("plain", Widen("input", 9), "'input' is the image"),
        ("plain", WidenByCopies("conv1", 2), "needs more than its 3 features; got 2"),
        ("padded_resnet", WidenByCopies("conv4", 16), "has zeros where the others have copies"),
        ("separable", Widen("conv17", 7), "'conv17' is a convolution of 2 groups: widen it by a "
         "multiple of 2; got 7 features, 3 more"),
        ("grouped", Widen("conv4", 7), "'conv4' would get 8 features instead of 7, because a "
         "grouped convolution or a tie asks for more"),
        ("plain", SkipAdd("relu3", "relu1"), "the source must come before the target"),
        ("plain", SkipAdd("relu1", "relu1"), "the source must come before the target"),
        ("plain", SkipAdd("relu1", "pool1"), "no layer with weights between them"),
        ("plain", SkipAdd("bn1", "relu1"), "no layer with weights between them"),
        ("plain", SkipAdd("relu1", "dense"), "one is a feature map, the other a vector"),
        ("dense_layers", SkipConcat("dense6", "dense14"), "it is the output"),
        ("small_resnet", SkipConcat("relu3", "batchnorm8"), "is tied"),
        ("plain", Blend("relu1", "relu2", (ops.Tanh(),)), r"it would have shape \(8, 8, 3\), but "
         r"'relu2' has \(4, 4, 4\)"),
        ("plain", Blend("relu2", "relu1", (ops.Tanh(),)), "the source must come before the target"),
        ("plain", Branch("relu1", "relu2", (ops.Conv(2),)), "all but the last axis must agree"),
        ("plain", Branch("relu1", "relu2", (ops.Dense(2),)), "Dense 2 cannot read shape"),
        ("plain", GrowKernel("relu1", 5), "it must be Conv, not Relu"),
        ("plain", GrowKernel("conv1", (5, 1)), "it is 3x3, and no side may become shorter"),
        ("plain", GrowKernel("conv1", 3), "no side may become shorter, nor all stay"),
        ("separable", GrowKernel("conv13", 4), "from 3 to 4: with stride 1, dilation 2 and"),
        ("plain", Bottleneck("conv2", 3), "cannot split 'conv2' at 3 features: exact from 4 on"),
        ("grouped", Bottleneck("conv7", 9), "it has 2 groups, not 1"),
        ("plain", Remove("pool1"), "cannot remove 'pool1' .*: no weights make it pass its input"),
        ("inception", Remove("mix21"), "it joins 2 nodes; use RemoveBranch or RemoveInput"),
        ("plain", RemoveBranch("relu1"), "it must be Mix, not Relu; what applies: no RemoveBranch"),
        ("plain", RemoveInput("relu1", "bn1"), "it must be Concat, not Relu"),
        ("densenet", RemoveInput("concat7", "conv1"), "'concat7' does not read 'conv1'; it reads"),
        ("plain", RemoveUnits("conv1", (3,)), "its units are 0 to 2"),
        ("plain", RemoveUnits("conv1", (0, 1, 2)), "nothing would be left of 'conv1'"),
        ("plain", RemoveUnits("dense", (0,)), "the logits of 'dense' would become fewer"),
        ("plain", FoldBatchNorm("relu1"), "it must be BatchNorm, not Relu"),
        ("plain", Sequence((Deepen("relu1"), Deepen("bn1"))), "cannot deepen after 'bn1'"),
    ],
)  # fmt: skip
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
        (lambda: Insert("relu1", "Relu"), "Insert.op must be an op of nj.ops with one input; got"),
        (lambda: Insert("relu1", ops.Add()), "Insert.op must be an op of nj.ops with one input"),
        (lambda: Blend("a", "b", ()), "Blend.branch must be a tuple of one or more ops"),
        (lambda: Branch("a", "b", (3,)), "Branch.branch must be an op of nj.ops"),
        (lambda: WidenByCopies("a", 3, -1.0), "noise must be a number in .* got -1.0"),
        (lambda: GrowKernel("a", (3, 0)), "kernel_size must be a whole number >= 1 or a pair"),
        (lambda: RemoveUnits("a", (2, 1)), "units must be whole numbers >= 0, each once"),
        (lambda: Sequence((3,)), "Sequence.edits must be a tuple of edits; got"),
        (lambda: morphisms.edit_from_dict({"edit": "Shrink"}), "edit must be one of Blend, "),
        (
            lambda: morphisms.edit_from_dict({"edit": "Insert", "after": "a", "op": {"op": "Foo"}}),
            "op must be one of Add",
        ),
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


def test_what_is_no_random_key_is_refused():
    spec = ZOO["plain"]()
    variables = nj.init(spec, KEY)
    message = r"a random key is needed, such as jax.random.key\(0\); got "
    for key in (None, 0, np.zeros(2), jax.random.split(KEY, 2)):
        with pytest.raises(ValueError, match=message):
            nj.init(spec, key)
        with pytest.raises(ValueError, match=message):
            Deepen("relu1")(spec, variables, key)
        with pytest.raises(ValueError, match=message):
            morphisms.sample(spec, key)
    older = jax.random.PRNGKey(0)
    assert Deepen("relu1")(spec, nj.init(spec, older), older)


def test_a_calibration_batch_of_the_wrong_shape_is_refused():
    spec = ZOO["plain"]()
    variables = nj.init(spec, KEY)
    with pytest.raises(ValueError, match=r"images must have shape \[batch, 8, 8, 1\]; got \[4, 8"):
        Deepen("relu1")(spec, variables, KEY, np.zeros((4, 8, 8, 3)))
    with pytest.raises(ValueError, match="needs at least one image; got none"):
        Deepen("relu1")(spec, variables, KEY, np.zeros((0, 8, 8, 1)))


def test_widening_by_copies_by_hand():
    nodes = [
        Node("flat", ops.Flatten(), "input"),
        Node("hidden", ops.Dense(2), "flat"),
        Node("out", ops.Dense(1), "hidden"),
    ]
    spec = nj.Architecture((1, 1, 1), nodes)
    params = {
        "hidden": {"kernel": jnp.array([[3.0, 5.0]]), "bias": jnp.array([0.5, 0.25])},
        "out": {"kernel": jnp.array([[8.0], [6.0]]), "bias": jnp.array([1.0])},
    }
    variables = {"params": params, "batch_stats": {}}
    grown, new = WidenByCopies("hidden", 5)(spec, variables, KEY)
    # Unit 0 gets two copies and unit 1 one, each behind its original.
    np.testing.assert_array_equal(new["params"]["hidden"]["kernel"], [[3, 3, 3, 5, 5]])
    np.testing.assert_array_equal(new["params"]["hidden"]["bias"], [0.5, 0.5, 0.5, 0.25, 0.25])
    np.testing.assert_allclose(
        new["params"]["out"]["kernel"][:, 0], [8 / 3, 8 / 3, 8 / 3, 3, 3], rtol=1e-7
    )
    images = np.full((1, 1, 1, 1), 2.0)
    np.testing.assert_allclose(nj.apply(grown, new, images), nj.apply(spec, variables, images))


def test_noise_sets_copies_apart_and_is_off_by_default():
    spec = ZOO["plain"]()
    variables = random_variables(spec)
    _, same = WidenByCopies("conv2", 8)(spec, variables, KEY)
    _, apart = WidenByCopies("conv2", 8, noise=0.1)(spec, variables, KEY)
    old = variables["params"]["conv2"]["kernel"]
    np.testing.assert_array_equal(same["params"]["conv2"]["kernel"][..., 1::2], old)
    np.testing.assert_array_equal(apart["params"]["conv2"]["kernel"][..., ::2], old)
    noise = np.asarray(apart["params"]["conv2"]["kernel"][..., 1::2] - old)
    assert 0.05 < noise.std() / np.std(old) < 0.2


def test_a_larger_kernel_by_hand():
    nodes = [
        Node("conv", ops.Conv(1, (1, 3), stride=(1, 2)), "input"),
        Node("pool", ops.GlobalAvgPool(), "conv"),
    ]
    spec = nj.Architecture((1, 4, 1), nodes)
    kernel = jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)
    variables = {"params": {"conv": {"kernel": kernel}}, "batch_stats": {}}
    # With stride 2 on 4 pixels, SAME pads (0, 1) for 3 and (1, 2) for 5 places.
    _, new = GrowKernel("conv", (1, 5))(spec, variables, KEY)
    np.testing.assert_array_equal(new["params"]["conv"]["kernel"].ravel(), [0, 1, 2, 3, 0])


@pytest.mark.parametrize(("features", "shapes"), [(4, [(3, 3, 1, 4), (1, 1, 4, 4)]),
                                                  (6, [(3, 3, 1, 6), (1, 1, 6, 4)])])  # fmt: skip
def test_a_bottleneck_keeps_the_kernel_where_it_is_wide_enough(features, shapes):
    spec = nj.chain((8, 8, 1), 5, (4,))
    variables = random_variables(spec)
    grown, new = Bottleneck("conv1", features)(spec, variables, KEY)
    assert [new["params"][name]["kernel"].shape for name in ("conv1", "conv2")] == shapes
    np.testing.assert_array_equal(
        new["params"]["conv1"]["kernel"][..., :4], variables["params"]["conv1"]["kernel"]
    )
    assert nj.count_params(grown) > nj.count_params(spec)


def test_a_bottleneck_as_narrow_as_the_window_saves_parameters():
    spec = nj.chain((8, 8, 1), 5, (64,))  # a window holds 9 numbers
    variables, images = random_variables(spec), random_images(spec)
    grown, new = Bottleneck("conv1", 9)(spec, variables, KEY)
    assert grown.shapes["conv2"] == (8, 8, 9)
    assert grown.shapes["conv1"] == (8, 8, 64)
    assert error(nj.apply(grown, new, images), nj.apply(spec, variables, images)) <= 1e-6


def test_distance_counts_the_nodes_that_differ():
    spec = ZOO["plain"]()
    assert morphisms.distance(spec, spec) == 0
    a, b = Deepen("relu1").rewrite(spec), Widen("conv3", 10).rewrite(spec)
    assert morphisms.distance(spec, a) == 4  # three new nodes, and pool1 reads another
    assert morphisms.distance(spec, b) == 1
    assert morphisms.distance(a, b) == morphisms.distance(b, a) == 5


def test_a_sequence_is_an_edit():
    spec = ZOO["plain"]()
    variables, images = random_variables(spec), random_images(spec)
    edits = Sequence((Deepen("relu1"), Widen("conv4", 6), Sequence((SkipAdd("relu1", "relu4"),))))
    grown, new = edits(spec, variables, KEY)
    assert error(nj.apply(grown, new, images), nj.apply(spec, variables, images)) <= 1e-5
    assert morphisms.edit_from_dict(morphisms.edit_to_dict(edits)) == edits
    # It gives what its edits give one by one, with a key for each.
    one, weights = spec, variables
    for number, edit in enumerate(edits.edits):
        one, weights = edit(one, weights, jax.random.fold_in(KEY, number))
    assert one == grown
    jax.tree.map(np.testing.assert_array_equal, weights, new)
    assert Sequence(())(spec, variables, KEY)[0] == spec


def test_an_edit_of_the_way_back_is_refused_where_weights_are_in_use():
    spec = ZOO["densenet"]()
    variables = random_variables(spec)
    for edit, message in (
        (
            RemoveUnits("conv1", (1,)),
            "cannot remove units of 'conv1': channel 1 of 'conv1' is read",
        ),
        (RemoveInput("concat7", "relu6"), "cannot remove 'relu6' from 'concat7': channel 4 of"),
        (Remove("batchnorm2"), "its weights do not pass its input on"),
    ):
        with pytest.raises(ValueError, match=message):
            edit(spec, variables, KEY)
    mixed, weights = Blend("relu3", "relu3", (ops.Gelu(),))(spec, variables, KEY)
    mix = next(node.name for node in mixed.nodes if isinstance(node.op, ops.Mix))
    weights["params"][mix]["lambda"] = jnp.float32(0.5)
    with pytest.raises(ValueError, match="its lambda is 0.5, not 1"):
        RemoveBranch(mix)(mixed, weights, KEY)
