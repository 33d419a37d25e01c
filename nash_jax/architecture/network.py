"""Running a spec: the one Flax module that interprets it, and the only code that knows Flax."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection
from typing import Any, Literal, TypeAlias, assert_never, overload

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from nash_jax.architecture import ops
from nash_jax.architecture.shapes import nearest, output_shape
from nash_jax.architecture.spec import INPUT, Architecture, Node
from nash_jax.architecture.weights import Variables, check_variables, param_dtype
from nash_jax.jax_settings import usual_promotion

#: What makes zeros of zeros.
_ZERO_OF_ZEROS = (ops.MaxPool, ops.AvgPool, ops.Relu, ops.Identity, ops.Add)

#: For how far down the network a path lies, the rate at which it is dropped.
DropRate: TypeAlias = Callable[[float], Any]


class Network(nn.Module):
    """Interprets a spec node by node; each node's arrays live under its name.

    Attributes:
      spec: the architecture.
      frozen: batch normalisations that use their running statistics even in training.
      dtype: the type in which nodes compute and give their outputs; None: that of the images.
        Pixels are normalised in the type of the images; statistics are taken in at least float32.
    """

    spec: Architecture
    frozen: frozenset[str] = frozenset()
    dtype: Any = None

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool, drop_path: DropRate | None = None
    ) -> dict[str, jax.Array]:
        """Every node's output by name, for images `[batch, height, width, channels]`."""
        dtype = images.dtype if self.dtype is None else self.dtype
        values, zeros = {INPUT: images}, set[str]()
        for node in self.spec.nodes:
            in_training = train and node.name not in self.frozen
            values[node.name] = _computed(node, values, zeros, in_training, dtype, drop_path)
        return values


class Nodes(nn.Module):
    """Interprets some nodes of a network, as `Network` does all, behind what is given by name."""

    nodes: tuple[Node, ...]

    @nn.compact
    def __call__(
        self, given: dict[str, jax.Array], train: bool, drop_rate: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """Every node's output by name, and what was given; all of one type."""
        values, zeros = dict(given), set[str]()
        (dtype,) = {x.dtype for x in given.values()}
        drop_path = None if drop_rate is None else lambda depth: drop_rate
        for node in self.nodes:
            values[node.name] = _computed(node, values, zeros, train, dtype, drop_path)
        return values


def _computed(
    node: Node,
    values: dict[str, jax.Array],
    zeros: set[str],
    train: bool,
    dtype: Any,
    drop_path: DropRate | None,
) -> jax.Array:
    """A node's output, by what is known; its name is added to `zeros` if it is known to be zero.

    XLA would pool zeros while it compiles, which takes it seconds.
    """
    inputs = [values[name] for name in node.inputs]
    if isinstance(node.op, ops.Zero):
        zeros.add(node.name)
    if isinstance(node.op, _ZERO_OF_ZEROS) and zeros.issuperset(node.inputs):
        zeros.add(node.name)
        shape = output_shape(node.op, tuple(x.shape[1:] for x in inputs))
        return jnp.zeros((inputs[0].shape[0], *shape), dtype)
    if not isinstance(node.op, ops.Normalize):
        inputs = [x.astype(dtype) for x in inputs]
    if isinstance(node.op, ops.DropPath) and train and drop_path is not None:
        (x,), rate = inputs, drop_path(node.op.depth)
        return DropPath(name=node.name)(x, rate)
    return _run(node.op, node.name, train, *inputs).astype(dtype)


def _run(op: ops.Op, name: str, train: bool, x: jax.Array, *others: jax.Array) -> jax.Array:
    match op:
        case ops.Conv():
            return nn.Conv(
                op.features,
                kernel_size=op.kernel_size,
                strides=op.stride,
                feature_group_count=op.groups,
                kernel_dilation=op.dilation,
                use_bias=op.use_bias,
                padding=op.padding,
                dtype=x.dtype,
                promote_dtype=_all_but_bias,
                conv_general_dilated=_convolve,
                name=name,
            )(x)
        case ops.Dense():
            return nn.Dense(
                op.features,
                use_bias=op.use_bias,
                dtype=x.dtype,
                promote_dtype=_all_but_bias,
                name=name,
            )(x)
        case ops.BatchNorm():
            return BatchNorm(op.momentum, op.epsilon, name=name)(x, train)
        case ops.Standardize():
            return BatchNorm(op.momentum, op.epsilon, affine=False, name=name)(x, train)
        case ops.Affine():
            return Affine(name=name)(x)
        case ops.Relu():
            return nn.relu(x)
        case ops.LeakyRelu():
            return nn.leaky_relu(x, op.negative_slope)
        case ops.Elu():
            return nn.elu(x)
        case ops.Gelu():
            return nn.gelu(x, approximate=False)
        case ops.Silu():
            return nn.silu(x)
        case ops.Tanh():
            return nn.tanh(x)
        case ops.Sigmoid():
            return nn.sigmoid(x)
        case ops.MaxPool() | ops.AvgPool():
            return _pool(op, x)
        case ops.GlobalAvgPool():
            return x.mean(axis=(1, 2))
        case ops.Flatten():
            flat = x.reshape(x.shape[0], -1)
            return op.factor(flat.shape[1]) * flat
        case ops.Dropout():
            return nn.Dropout(op.rate, deterministic=not train, name=name)(x)
        case ops.Identity() | ops.DropPath():
            return x
        case ops.Normalize():
            return (x - jnp.asarray(op.mean, x.dtype)) / jnp.asarray(op.std, x.dtype)
        case ops.PadChannels():
            return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(op.before, op.after)])
        case ops.Zero():
            return jnp.zeros_like(x[:, :: op.stride[0], :: op.stride[1]])
        case ops.Shift():
            moved = [(0, 0), (0, op.rows), (0, op.columns), (0, 0)]
            return jnp.pad(x, moved)[:, op.rows :, op.columns :]
        case ops.Resize():
            x = jnp.take(x, nearest(x.shape[1], op.height), axis=1)
            return jnp.take(x, nearest(x.shape[2], op.width), axis=2)
        case ops.Shuffle():
            blocks = x.reshape(*x.shape[:-1], op.groups, -1)
            return blocks.swapaxes(-1, -2).reshape(x.shape)
        case ops.Gate():
            return x * others[0][:, None, None]
        case ops.Add():
            for other in others:
                x = x + other
            return x
        case ops.Concat():
            return jnp.concatenate([x, *others], axis=-1)
        case ops.Mix():
            return Mix(name=name)(x, *others)
        case ops.WeightedSum():
            return WeightedSum(name=name)(x, *others)
        case _:
            assert_never(op)


def _all_but_bias(
    *arrays: jax.Array | None, dtype: Any = None, inexact: bool = True
) -> list[jax.Array | None]:
    """Inputs and kernel in the type to compute with; the bias as it is.

    An array that is broadcast over a batch or over space keeps its type until it is combined with
    the other operand. If it were cast before, its gradient would be a sum of many numbers in
    bfloat16, on devices that leave them in that type.
    """
    x, kernel, bias = arrays
    assert x is not None
    assert kernel is not None
    return [x.astype(dtype), kernel.astype(dtype), bias]


def _convolve(
    x: jax.Array, kernel: jax.Array, strides: Any, padding: Any, **options: Any
) -> jax.Array:
    """`jax.lax.conv_general_dilated`; a matrix product where the kernel is larger than the image.

    Nearly every output then sees nearly every input, and a dense matrix takes fewer operations. XLA
    on CPU would swap image and kernel, and has only slow loops for the convolution that results.
    Images of few channels are convolved in pairs there.
    """
    batch, height, width, channels = x.shape
    size, dilations = math.prod(kernel.shape[:2]), options["rhs_dilation"]
    if options["feature_group_count"] > 1 or height * width >= size:
        plain = padding == "SAME" and math.prod((*strides, *dilations)) == 1 < kernel.shape[1]
        few = channels <= 4 and options["feature_group_count"] == 1 and width % 2 == 0
        if plain and few and jax.default_backend() == "cpu":
            return _convolve_pairs(x, jnp.asarray(kernel))
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)
    if isinstance(padding, str):
        dilated = [(k - 1) * d + 1 for k, d in zip(kernel.shape, dilations)]
        padding = jax.lax.padtype_to_pads((height, width), dilated, strides, padding)
    reads = []  # per axis: whether input i is read by output o through place k of the kernel
    for inputs, k, d, stride, (low, high) in zip(
        (height, width), kernel.shape, dilations, strides, padding
    ):
        outputs = (inputs + low + high - (k - 1) * d - 1) // stride + 1
        read = stride * np.arange(outputs)[:, None] + d * np.arange(k) - low
        reads.append(read == np.arange(inputs)[:, None, None])
    selected = np.einsum("iak,jbl->ijabkl", *reads).reshape(height * width, -1, size)
    matrix = jnp.einsum(
        "iok,kcf->icof", selected.astype(x.dtype), kernel.reshape(size, channels, -1)
    )
    out = x.reshape(batch, -1) @ matrix.reshape(height * width * channels, -1)
    return out.reshape(batch, reads[0].shape[1], reads[1].shape[1], -1)


@jax.custom_jvp
def _convolve_pairs(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A convolution (stride 1, 'SAME') as one product, a row of which makes two outputs.

    The row holds all that two neighbours see, and the matrix the kernel twice, the second time one
    pixel further: half as much to copy as with a row for each output. With 3 channels and one
    thread it takes 0.3 (16 features) to 0.6 (64) of the time of XLA's convolution on CPU, and an
    update of a small network 0.84 to 0.99. Derivatives are XLA's: those of the product are slower.
    """
    rows, columns, channels, features = kernel.shape
    pairs = columns // 2 + 1  # of pixels in a row of the image, that two outputs see
    (top, bottom), (left, right) = jax.lax.padtype_to_pads(
        x.shape[1:3], (rows, columns), (1, 1), "SAME"
    )
    even = right + (columns + 1) % 2
    padded = jnp.pad(x, ((0, 0), (top, bottom), (left, even), (0, 0)))
    padded = padded.reshape(*padded.shape[:2], -1, 2 * channels)
    height, width = x.shape[1], x.shape[2] // 2
    seen = [padded[:, i : i + height, j : j + width] for i in range(rows) for j in range(pairs)]
    spare = 2 * pairs - columns
    moved = [jnp.pad(kernel, ((0, 0), (i, spare - i), (0, 0), (0, 0))) for i in (0, 1)]
    matrix = jnp.stack(moved, axis=3).reshape(-1, 2 * features)
    return (jnp.concatenate(seen, axis=-1) @ matrix).reshape(*x.shape[:3], features)


@_convolve_pairs.defjvp
def _(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)

    (x, kernel), (of_x, of_kernel) = primals, tangents
    return _convolve_pairs(x, kernel), convolve(of_x, kernel) + convolve(x, of_kernel)


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, with statistics in at least float32.

    As Flax's, but cheaper on CPU: the sums are fast, and the mean counts as a constant where it is
    subtracted. The mean's gradient goes through the bias, so that two sums over the batch suffice.
    """

    momentum: float
    epsilon: float
    affine: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        shape, dtype = x.shape[-1:], jnp.promote_types(x.dtype, jnp.float32)
        scale, bias = jnp.ones((), dtype), jnp.zeros((), dtype)
        if self.affine:
            scale = self.param("scale", nn.initializers.ones, shape)
            bias = self.param("bias", nn.initializers.zeros, shape)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape)
        wide = x.astype(dtype)
        if train:
            num = x.size // x.shape[-1]
            mean = _channel_sum(wide) / num
            var = nn.relu(_channel_sum(wide * wide) / num - mean * mean)
            for running, batch in ((running_mean, mean), (running_var, var)):
                new = self.momentum * running.value + (1 - self.momentum) * batch
                running.value = new.astype(running.value.dtype)
        else:
            mean, var = running_mean.value.astype(dtype), running_var.value.astype(dtype)
        factor = scale * jax.lax.rsqrt(var + self.epsilon)
        constant = jax.lax.stop_gradient(mean)
        bias = bias - (mean - constant) * factor
        return ((wide - constant) * factor + bias).astype(x.dtype)


def _channel_sum(x: jax.Array) -> jax.Array:
    """The sum over all axes but the last, `[channels]`.

    On CPU it is taken in two parts: XLA sums rows of 2,048 numbers there five times as fast as
    rows of 32.
    """
    if jax.default_backend() != "cpu":
        return x.sum(axis=tuple(range(x.ndim - 1)))
    channels = x.shape[-1]
    positions = math.prod(x.shape[:-1])
    row = math.gcd(positions, 1 << max((2048 // channels).bit_length() - 1, 0))
    return x.reshape(-1, row * channels).sum(axis=0).reshape(row, channels).sum(axis=0)


class DropPath(nn.Module):
    """Each image's map with probability `1 - rate`, divided by it, and else zeros."""

    @nn.compact
    def __call__(self, x: jax.Array, rate: jax.Array | float) -> jax.Array:
        shape = (len(x), *(1 for _ in x.shape[1:]))
        kept = jax.random.bernoulli(self.make_rng("dropout"), 1 - rate, shape)
        return x * (kept / (1 - rate)).astype(x.dtype)


class Affine(nn.Module):
    """`scale * x + bias` per channel."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        return (scale * x.astype(scale.dtype) + bias).astype(x.dtype)


class Mix(nn.Module):
    """`lambda * f + (1 - lambda) * h`, lambda learnable and 1 at the start (NASH, eq. 6)."""

    @nn.compact
    def __call__(self, f: jax.Array, h: jax.Array) -> jax.Array:
        weight = self.param("lambda", nn.initializers.ones, ())
        wide = weight.dtype
        return (weight * f.astype(wide) + (1 - weight) * h.astype(wide)).astype(f.dtype)


class WeightedSum(nn.Module):
    """The sum of some arrays, each times its weight."""

    @nn.compact
    def __call__(self, *xs: jax.Array) -> jax.Array:
        num = len(xs)
        weights = self.variable("arch", "weights", lambda: jnp.full(num, 1 / num)).value
        total = sum(weight * x.astype(weights.dtype) for weight, x in zip(weights, xs))
        return jnp.asarray(total).astype(xs[0].dtype)


def _pool(op: ops.Pool, x: jax.Array) -> jax.Array:
    assert op.stride is not None  # set on construction
    (height, width), pools_max = op.window, isinstance(op, ops.MaxPool)
    if op.stride == op.window and op.padding == "VALID" and height * width <= 16:
        # On CPU the gradients of these forms are ten times as fast as those of nn.*_pool.
        rows, columns = x.shape[1] // height, x.shape[2] // width
        x = x[:, : rows * height, : columns * width]
        windows = x.reshape(x.shape[0], rows, height, columns, width, x.shape[3])
        return _window_max(windows) if pools_max else jnp.mean(windows, axis=(2, 4))
    if pools_max:
        return nn.max_pool(x, op.window, op.stride, op.padding)
    # nn.avg_pool counts the pixels of every window of every image, and XLA folds that for seconds.
    sums = nn.pool(x, 0.0, jax.lax.add, op.window, op.stride, op.padding)
    high, wide = (_counts(*axis, op.padding) for axis in zip(x.shape[1:3], op.window, op.stride))
    return (sums / (high[:, None, None] * wide[:, None])).astype(x.dtype)


def _counts(size: int, window: int, stride: int, padding: str) -> np.ndarray:
    """How many pixels each window along an axis has, without padding."""
    ((before, after),) = jax.lax.padtype_to_pads((size,), (window,), (stride,), padding)
    real = np.pad(np.ones(size, np.float32), (before, after))
    windows = np.lib.stride_tricks.sliding_window_view(real, window)[::stride]
    return np.asarray(windows.sum(axis=-1))


def _window_max(windows: jax.Array) -> jax.Array:
    """The maximum over axes 2 and 4, the first if several are equal; NaN if a number is NaN.

    Differentiation treats the place of the maximum as a constant, and the value there is selected.
    The gradient of jnp.max would instead look for the numbers that are equal to the maximum, and
    miss them where XLA computes x twice and rounds it differently.
    """
    height, width = windows.shape[2], windows.shape[4]
    constant = jax.lax.stop_gradient(windows)
    largest, place = constant[:, :, 0, :, 0], jnp.int8(0)
    for number in range(1, height * width):
        x = constant[:, :, number // width, :, number % width]
        larger = (largest < x) | jnp.isnan(x)
        largest, place = jnp.where(larger, x, largest), jnp.where(larger, jnp.int8(number), place)
    numbers = jnp.arange(height * width, dtype=jnp.int8).reshape(height, 1, width, 1)
    chosen = jnp.broadcast_to(place, largest.shape)[:, :, None, :, None] == numbers
    return jnp.where(chosen, windows, 0).sum(axis=(2, 4))


@overload
def apply(
    spec: Architecture,
    variables: Variables,
    images: Any,
    *,
    train: Literal[False] = False,
    key: jax.Array | None = None,
    dtype: Any = None,
    drop_path: DropRate | None = None,
) -> jax.Array: ...


@overload
def apply(
    spec: Architecture,
    variables: Variables,
    images: Any,
    *,
    train: Literal[True],
    key: jax.Array | None = None,
    dtype: Any = None,
    drop_path: DropRate | None = None,
) -> tuple[jax.Array, Variables]: ...


@usual_promotion
def apply(
    spec: Architecture,
    variables: Variables,
    images: Any,
    *,
    train: bool = False,
    key: jax.Array | None = None,
    dtype: Any = None,
    drop_path: DropRate | None = None,
) -> jax.Array | tuple[jax.Array, Variables]:
    """The network's logits; in training mode also the variables with new batch statistics.

    Pure, and usable under `jax.jit`, `jax.grad` and `jax.vmap`; it does not jit by itself.

    Args:
      spec: the architecture.
      variables: its arrays, as `init` or an edit makes them.
      images: `[batch, height, width, channels]`, of any number type; computed with in the type of
        the parameters.
      train: normalise by the statistics of the batch and apply dropout.
      key: a random key, needed only in training a network with dropout.
      dtype: what to compute with, say bfloat16, while parameters and statistics keep their type;
        by default that of the parameters.
      drop_path: in training, for how far down a path lies, in [0, 1], the rate at which `DropPath`
        drops it; by default none is.

    Returns:
      Logits `[batch, classes]` in the type of the parameters, or `(logits, variables)` if `train`.

    Raises:
      ValueError: if the images or the variables do not fit the spec, or a key is missing.

    >>> import jax, jax.numpy as jnp, nash_jax as nj
    >>> spec = nj.chain((8, 8, 1), 10, widths=(16,))
    >>> nj.apply(spec, nj.init(spec, jax.random.key(0)), jnp.zeros((2, 8, 8, 1))).shape
    (2, 10)
    """
    values, updated = activations(
        spec, variables, images, train=train, key=key, dtype=dtype, drop_path=drop_path
    )
    logits = values[spec.output].astype(param_dtype(variables))
    return (logits, updated) if train else logits


def check_images(spec: Architecture, images: Any) -> None:
    """Raises `ValueError` unless images are `[batch, height, width, channels]` for this spec."""
    if jnp.ndim(images) != 4 or jnp.shape(images)[1:] != spec.input_shape:
        raise ValueError(
            f"images must have shape [batch, {', '.join(map(str, spec.input_shape))}]; "
            f"got {list(jnp.shape(images))}"
        )


@usual_promotion
def activations(
    spec: Architecture,
    variables: Variables,
    images: Any,
    *,
    train: bool = False,
    key: jax.Array | None = None,
    frozen: Collection[str] = (),
    dtype: Any = None,
    drop_path: DropRate | None = None,
) -> tuple[dict[str, jax.Array], Variables]:
    """As `apply`, but the outputs of all nodes by name, and always the variables.

    `frozen` names batch normalisations that use their running statistics even in training.

    Products of float32 numbers are exact to float32 unless `jax.default_matmul_precision` says
    otherwise, even on devices that by default use only 10 binary digits for them.
    """
    images = jnp.asarray(images)
    check_images(spec, images)
    check_variables(spec, variables)
    random = ops.Dropout if drop_path is None else ops.Dropout | ops.DropPath
    if train and key is None and any(isinstance(node.op, random) for node in spec.nodes):
        raise ValueError(
            "training a network with dropout needs a key; pass key=jax.random.key(...)"
        )
    with _exact_unless_told():
        values, updates = Network(spec, frozenset(frozen), dtype).apply(
            variables,
            images.astype(param_dtype(variables)),
            train=train,
            drop_path=drop_path,
            mutable=["batch_stats"] if train else [],
            rngs=None if key is None else {"dropout": key},
        )
    return values, {**variables, **updates}


def _exact_unless_told() -> contextlib.AbstractContextManager[Any]:
    told: Any = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    return jax.default_matmul_precision("highest") if told is None else contextlib.nullcontext()
