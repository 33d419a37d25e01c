"""Running specs: against an independent NumPy interpreter, and the contracts of init and apply."""

import collections
import dataclasses
import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import random_images, random_variables
from numpy_network import numpy_apply
from zoo import ZOO

import nash_jax as nj
from nash_jax import Node, ops
from nash_jax.architecture.network import _convolve, _convolve_pairs

KEY = jax.random.key(0)


@pytest.mark.parametrize("name", ZOO)
def test_agrees_with_the_numpy_interpreter(name, x64):
    spec = ZOO[name]()
    variables = random_variables(spec, dtype=jnp.float64)
    images = random_images(spec, dtype=np.float64)
    ours = np.asarray(nj.apply(spec, variables, images))
    theirs = numpy_apply(nj.to_json(spec), variables, images)
    assert ours.dtype == np.float64
    assert np.abs(ours - theirs).max() <= 1e-12 * np.abs(theirs).max()


@pytest.mark.parametrize(
    "op", [ops.MaxPool(3, 2, "SAME"), ops.AvgPool(3, 2, "SAME"), ops.MaxPool(3, 1)]
)
def test_pools_with_overlap_and_padding(op, x64):
    nodes = [
        Node("x", op, "input"),
        Node("flat", ops.Flatten(), "x"),
        Node("y", ops.Dense(3), "flat"),
    ]
    spec = nj.Architecture((7, 6, 2), nodes)
    variables, images = random_variables(spec, dtype=jnp.float64), random_images(spec)
    ours, theirs = (
        nj.apply(spec, variables, images),
        numpy_apply(nj.to_json(spec), variables, images),
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_what_is_made_of_zeros_is_not_computed(x64):
    """XLA would do it while it compiles, for seconds."""
    spec = nj.Architecture(
        (7, 6, 2),
        [
            Node("zero", ops.Zero(2), "input"),
            Node("pool", ops.AvgPool(3, 1, "SAME"), "zero"),
            Node("max", ops.MaxPool(2, 2), "pool"),
            Node("sum", ops.Add(), ("pool", "zero")),
            Node("relu", ops.Relu(), "sum"),
            Node("small", ops.MaxPool(2, 2), "relu"),
            Node("image", ops.AvgPool(4, 3, "SAME"), "input"),
            Node("both", ops.Concat(), ("max", "small")),
            Node("flat", ops.Flatten(), "both"),
            Node("flat2", ops.Flatten(), "image"),
            Node("all", ops.Concat(), ("flat", "flat2")),
            Node("y", ops.Dense(3), "all"),
        ],
    )
    variables, images = random_variables(spec, dtype=jnp.float64), random_images(spec)
    ours = nj.apply(spec, variables, images)
    np.testing.assert_allclose(ours, numpy_apply(nj.to_json(spec), variables, images), rtol=1e-12)
    program = str(jax.make_jaxpr(lambda x: nj.apply(spec, variables, x))(images))
    assert program.count("reduce_window") == 1  # of the images


def test_gradient_of_our_pooling_is_that_of_the_window_maximum():
    nodes = [Node("x", ops.MaxPool(2), "input"), Node("flat", ops.Flatten(), "x"),
             Node("y", ops.Dense(1, use_bias=False), "flat")]  # fmt: skip
    spec = nj.Architecture((3, 4, 1), nodes)  # the last row is in no window
    variables = {"params": {"y": {"kernel": jnp.array([[2.0], [3.0]])}}, "batch_stats": {}}
    images = jnp.array([[1, 2, 8, 7], [4, 3, 5, 6], [9, 9, 9, 9]], jnp.float32).reshape(1, 3, 4, 1)
    gradient = jax.grad(lambda x: nj.apply(spec, variables, x).sum())(images)
    expected = [[0, 0, 3, 0], [2, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(gradient[0, :, :, 0], expected)


def test_training_mode_uses_the_batch_and_updates_statistics():
    spec = nj.Architecture(
        (1, 1, 1),
        [
            Node("bn", ops.BatchNorm(momentum=0.75, epsilon=1e-5), "input"),
            Node("flat", ops.Flatten(), "bn"),
            Node("y", ops.Dense(1, use_bias=False), "flat"),
        ],
    )
    variables = nj.init(spec, jax.random.key(0))
    variables["params"]["y"]["kernel"] = jnp.ones((1, 1))
    images = jnp.array([1.0, 3.0]).reshape(2, 1, 1, 1)
    logits, new = nj.apply(spec, variables, images, train=True)
    np.testing.assert_allclose(logits[:, 0], [-1, 1], rtol=1e-5)
    np.testing.assert_allclose(new["batch_stats"]["bn"]["mean"], 0.75 * 0 + 0.25 * 2)
    np.testing.assert_allclose(new["batch_stats"]["bn"]["var"], 0.75 * 1 + 0.25 * 1)
    assert variables["batch_stats"]["bn"]["mean"] == 0


def test_dropout_needs_a_key_only_in_training():
    spec = ZOO["separable"]()
    variables, images = nj.init(spec, jax.random.key(0)), random_images(spec)
    nj.apply(spec, variables, images)
    with pytest.raises(ValueError, match="needs a key"):
        nj.apply(spec, variables, images, train=True)
    one, _ = nj.apply(spec, variables, images, train=True, key=jax.random.key(1))
    two, _ = nj.apply(spec, variables, images, train=True, key=jax.random.key(2))
    assert (one != two).any()


def test_raw_pixels_are_taken_in_the_type_of_the_parameters():
    spec = nj.chain((8, 8, 1), 5, (3,), ops.Normalize((2.0,), (4.0,)))
    variables = nj.init(spec, jax.random.key(0), jnp.bfloat16)
    pixels = np.full((2, 8, 8, 1), 200, np.uint8)
    logits = nj.apply(spec, variables, pixels)
    assert logits.dtype == jnp.bfloat16
    np.testing.assert_array_equal(logits, nj.apply(spec, variables, pixels.astype(np.float32)))


def test_init_depends_on_the_key_and_the_name_alone():
    small, large = nj.chain((8, 8, 1), 5, (3, 4)), nj.chain((8, 8, 1), 5, (3, 4, 5))
    key = jax.random.key(3)
    for name in ("conv1", "conv2"):
        np.testing.assert_array_equal(
            nj.init(small, key)["params"][name]["kernel"],
            nj.init(large, key)["params"][name]["kernel"],
        )


def test_init_has_the_variance_that_it_states():
    spec = nj.chain((8, 8, 3), 100, (256, 256))
    params = nj.init(spec, jax.random.key(0))["params"]
    np.testing.assert_allclose(np.var(params["conv2"]["kernel"]), 1 / 3 / (9 * 256), rtol=0.02)
    without = nj.Architecture(
        spec.input_shape,
        tuple(
            dataclasses.replace(node, op=ops.Identity()) if node.name == "bn2" else node
            for node in spec.nodes
        ),
    )
    params = nj.init(without, jax.random.key(0))["params"]
    np.testing.assert_allclose(np.var(params["conv1"]["kernel"]), 1 / 3 / (9 * 3), rtol=0.05)
    np.testing.assert_allclose(np.var(params["conv2"]["kernel"]), 2 / (9 * 256), rtol=0.02)
    np.testing.assert_allclose(np.var(params["dense"]["kernel"]), 1 / (16 * 256), rtol=0.02)


def test_second_call_compiles_nothing():
    spec = nj.chain((8, 8, 1), 5, (3,))
    variables = nj.init(spec, jax.random.key(0))
    run = jax.jit(nj.apply)
    run(spec, variables, random_images(spec))
    run(nj.chain((8, 8, 1), 5, (3,)), variables, random_images(spec, seed=2))
    assert run._cache_size() == 1


def test_wrong_images_and_variables_are_one_clear_error():
    spec, other = nj.chain((8, 8, 1), 5, (3,)), nj.chain((8, 8, 1), 5, (4,))
    variables = nj.init(spec, jax.random.key(0))
    with pytest.raises(ValueError, match=r"images must have shape \[batch, 8, 8, 1\]; got \[2, 8"):
        nj.apply(spec, variables, np.zeros((2, 8, 9, 1)))
    with pytest.raises(
        ValueError, match=r"params/conv1/kernel must have shape \(3, 3, 1, 4\); got"
    ):
        nj.apply(other, variables, random_images(spec))
    del variables["params"]["dense"]
    with pytest.raises(ValueError, match="params/dense/kernel must have .* got no such array"):
        nj.apply(spec, variables, random_images(spec))
    with pytest.raises(ValueError, match="variables must be"):
        nj.apply(spec, {"conv1": 3}, random_images(spec))


@pytest.mark.parametrize("shape", [(7, 6, 3), (15, 15, 3), (8, 8, 1)])
def test_the_compiled_gradient_of_max_pooling_is_the_uncompiled_one(shape):
    """XLA may compute the input of a pooling twice, and round it differently."""
    spec = nj.chain(shape, 5, (3, 4))
    variables, images = nj.init(spec, jax.random.key(0)), random_images(spec, batch=16)

    def loss(params):
        logits, _ = nj.apply(spec, {**variables, "params": params}, images, train=True)
        return (logits**2).mean()

    plain, compiled = (
        jax.grad(loss)(variables["params"]),
        jax.jit(jax.grad(loss))(variables["params"]),
    )
    chex.assert_trees_all_close(plain, compiled, rtol=1e-3, atol=1e-5)


def test_max_pooling_passes_on_what_is_not_a_number():
    nodes = [
        Node("pool", ops.MaxPool(2), "input"),
        Node("flat", ops.Flatten(), "pool"),
        Node("out", ops.Dense(1), "flat"),
    ]
    spec = nj.Architecture((2, 2, 1), nodes)
    variables = nj.init(spec, jax.random.key(0))
    for place in range(4):
        image = np.arange(4.0)
        image[place] = np.nan
        assert np.isnan(nj.apply(spec, variables, image.reshape(1, 2, 2, 1))).all()


@pytest.mark.parametrize("padding", ["SAME", ((4, 5), (3, 2))])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1)])
@pytest.mark.parametrize("stride", [(1, 1), (1, 2)])
@pytest.mark.parametrize("size", [(3, 3), (5, 2)])
@pytest.mark.parametrize("image", [(1, 1), (2, 3), (4, 2)])
def test_a_kernel_larger_than_the_image_convolves_all_the_same(
    x64, image, size, stride, dilation, padding
):
    """For such kernels, `_convolve` uses a dense matrix instead of a convolution."""
    rng = np.random.default_rng(0)
    images, kernel = rng.normal(size=(3, *image, 4)), rng.normal(size=(*size, 4, 5))
    options = {
        "window_strides": stride,
        "padding": padding,
        "rhs_dilation": dilation,
        "dimension_numbers": ("NHWC", "HWIO", "NHWC"),
    }
    expected = jax.lax.conv_general_dilated(images, kernel, **options)
    layer = nn.Conv(
        5,
        size,
        stride,
        padding=padding,
        kernel_dilation=dilation,
        use_bias=False,
        conv_general_dilated=_convolve,
        param_dtype=jnp.float64,
    )
    found = layer.apply({"params": {"kernel": kernel}}, images)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("size", [(3, 3), (1, 3), (5, 2), (4, 5)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_convolution_in_pairs_is_a_convolution_and_so_are_its_derivatives(x64, size, channels):
    def convolve(x, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)

    def results(conv):
        def loss(x, kernel):
            return (conv(x, kernel) ** 3).sum()

        def slope(x, kernel):
            return sum((g**2).sum() for g in jax.grad(loss, argnums=(0, 1))(x, kernel))

        args = images[0], kernels[0]
        return {
            "outputs": conv(*args),
            "forward mode": jax.jvp(conv, args, (images[1], kernels[1]))[1],
            "gradients": jax.grad(loss, argnums=(0, 1))(*args),
            "second derivatives": jax.grad(slope, argnums=(0, 1))(*args),
            "population": jax.vmap(jax.grad(loss, argnums=(0, 1)))(images, kernels),
        }

    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(2, 3, 5, 6, channels)))
    kernels = jnp.asarray(rng.normal(size=(2, *size, channels, 4)))
    chex.assert_trees_all_close(
        jax.jit(results, static_argnums=0)(_convolve_pairs),
        jax.jit(results, static_argnums=0)(convolve),
        rtol=1e-10,
        atol=1e-10,
    )


#: The rms error of a gradient in bfloat16, as a share of its rms: the kernels are rounded too.
BFLOAT16_BOUNDS = {
    **{"Mix.lambda": 0.01, "Affine.scale": 0.01, "Affine.bias": 0.01, "Conv.bias": 0.01},
    **{"Dense.bias": 0.01, "Dense.kernel": 0.02, "BatchNorm.scale": 0.04, "BatchNorm.bias": 0.04},
    "Conv.kernel": 0.15,
}


def test_gradients_in_bfloat16_are_those_in_float32_up_to_rounding():
    """Of every kind of parameter, over networks that have each of them."""

    @functools.partial(jax.jit, static_argnames=("spec", "dtype"))
    def gradients(spec, variables, images, dtype):
        def loss(params):
            new = {**variables, "params": params}
            logits, _ = nj.apply(spec, new, images, train=True, key=KEY, dtype=dtype)
            return -jax.nn.log_softmax(logits)[:, 0].mean()

        return jax.grad(loss)(variables["params"])

    found = collections.defaultdict(list)
    for name in ("stages", "small_resnet", "dense_layers", "one_pixel", "concats"):
        spec = ZOO[name]()
        variables, images = random_variables(spec), random_images(spec, 32)
        exact, rounded = (gradients(spec, variables, images, t) for t in (None, jnp.bfloat16))
        for node, arrays in exact.items():
            for name, x in arrays.items():
                kind = f"{type(spec[node].op).__name__}.{name}"
                found[kind].append((np.ravel(x), np.ravel(rounded[node][name])))
    assert found.keys() == BFLOAT16_BOUNDS.keys()
    for kind, pairs in found.items():
        x, other = (np.concatenate(arrays) for arrays in zip(*pairs))
        assert np.sqrt(np.mean((other - x) ** 2) / np.mean(x**2)) <= BFLOAT16_BOUNDS[kind], kind


def test_products_are_exact_unless_another_precision_is_asked_for():
    spec = nj.chain((4, 4, 1), 2, (3,))
    variables, images = random_variables(spec), random_images(spec)
    call = functools.partial(nj.apply, spec)
    text = str(jax.make_jaxpr(call)(variables, images))
    assert text.count("Precision.HIGHEST") >= 2  # of a convolution and a dense layer
    with jax.default_matmul_precision("tensorfloat32"):
        assert "HIGHEST" not in str(jax.make_jaxpr(call)(variables, images))
