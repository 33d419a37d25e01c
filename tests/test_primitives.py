"""The morphisms on plain arrays, by hand and against what they promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nash_jax import morphisms

RNG = np.random.default_rng(0)


def conv(x, kernel, padding="SAME", groups=1, dilation=(1, 1)):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), padding, rhs_dilation=dilation, feature_group_count=groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip


def images(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(("size", "dilation"), [((1, 1), 1), ((3, 5), 1), ((3, 3), 2), ((2, 4), 1)])
def test_the_identity_kernel_passes_images_on_to_the_last_bit(groups, size, dilation):
    x = images(2, 6, 7, 4)
    kernel = morphisms.identity_kernel(size, 4, jnp.float32, groups)
    assert kernel.shape == (*size, 4 // groups, 4)
    out = conv(x, kernel, groups=groups, dilation=(dilation, dilation))
    np.testing.assert_array_equal(out, x)


def test_widening_a_dense_pair_keeps_what_it_computes():
    first, second = images(5, 3), images(3, 2)
    source = np.array([0, -1, 1, 2, -1])
    wider = morphisms.widen_out(first, source, images(5, 5))
    reader = morphisms.widen_in(second, source)
    x = images(4, 5)
    np.testing.assert_array_equal(wider[:, [0, 2, 3]], first)
    np.testing.assert_array_equal(reader[np.array([1, 4])], np.zeros((2, 2)))
    np.testing.assert_allclose(
        jax.nn.relu(x @ wider) @ reader, jax.nn.relu(x @ first) @ second, rtol=1e-5, atol=1e-6
    )


def test_copies_share_the_weights_of_their_reader():
    first, second = images(5, 3), images(3, 2)
    origin = np.array([0, 0, 1, 2, 2, 2])
    copies, reader = morphisms.copy_out(first, origin), morphisms.split_in(second, origin)
    x = images(4, 5)
    np.testing.assert_allclose(reader.sum(0), second.sum(0), rtol=1e-5)
    np.testing.assert_allclose(
        jax.nn.relu(x @ copies) @ reader, jax.nn.relu(x @ first) @ second, rtol=1e-5, atol=1e-6
    )


def test_a_larger_kernel_computes_the_same():
    x, kernel = images(2, 6, 7, 3), images(3, 1, 3, 4)
    larger = morphisms.grow_kernel(kernel, (5, 3))
    assert larger.shape == (5, 3, 3, 4)
    np.testing.assert_allclose(conv(x, larger), conv(x, kernel), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"a kernel can only grow; got \(1, 1\) for one of \(3, 1"):
        morphisms.grow_kernel(kernel, (1, 1))


def test_a_window_kernel_and_a_1x1_convolution_are_the_convolution():
    x, kernel = images(2, 5, 4, 2), images(3, 3, 2, 4)
    window = conv(x, morphisms.window_kernel((3, 3), 2, jnp.float32))
    np.testing.assert_allclose(
        conv(window, kernel.reshape(1, 1, 18, 4)), conv(x, kernel), rtol=1e-5, atol=1e-6
    )


def test_batch_normalisation_keeps_its_line_with_other_statistics():
    params = {"scale": jnp.array([2.0]), "bias": jnp.array([1.0])}
    stats = {"mean": jnp.array([3.0]), "var": jnp.array([3.0])}
    # scale / sqrt(3 + 1) = 1, so the line is x - 2; with variance 8 and mean 5 it is kept by
    # scale 3 and bias 3.
    new, stats = morphisms.rebase_batch_norm(params, stats, jnp.array([5.0]), jnp.array([8.0]), 1.0)
    assert (float(new["scale"][0]), float(new["bias"][0])) == (3.0, 3.0)
    assert (float(stats["mean"][0]), float(stats["var"][0])) == (5.0, 8.0)


def test_a_line_is_folded_into_a_kernel():
    x, kernel, bias, a, c = images(4, 3), images(3, 2), images(2), images(2), images(2)
    folded, shifted = morphisms.fold_line(kernel, bias, a, c)
    np.testing.assert_allclose(
        x @ folded + shifted, a * (x @ kernel + bias) + c, rtol=1e-5, atol=1e-6
    )


def test_a_blend_with_weight_one_is_its_first_function():
    f, h = images(3, 4), images(3, 4)
    np.testing.assert_array_equal(morphisms.blend(f, h), f)
    np.testing.assert_allclose(morphisms.blend(f, h, 0.25), 0.25 * f + 0.75 * h)


def test_numpy_arrays_stay_numpy_arrays_and_types_are_kept():
    source = np.array([0, -1])
    for dtype in (np.float32, jnp.bfloat16):
        array = np.ones((2, 1), dtype)
        for wider in (
            morphisms.widen_out(array, source, np.zeros((2, 2))),
            morphisms.widen_in(array, np.array([0, 1, -1])),
            morphisms.split_in(array, np.array([0, 0, 1])),
        ):
            assert type(wider) is np.ndarray
            assert wider.dtype == dtype


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap, lambda f: jax.jit(jax.vmap(f))])
def test_primitives_under_transformations(transform):
    stacked, source = images(3, 4, 2), np.array([-1, 0, 1])
    out = transform(lambda k: morphisms.widen_in(morphisms.widen_out(k, source, 0.0), np.arange(4)))
    expected = jnp.pad(stacked, ((0, 0), (0, 0), (1, 0)))
    np.testing.assert_array_equal(out(stacked), expected)
