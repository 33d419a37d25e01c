"""Networks built from ops: published ones of known size, and small ones that edits find hard."""

from __future__ import annotations

import nash_jax as nj
from nash_jax import ops
from nash_jax.architecture.builders import Builder
from nash_jax.spaces.cells import squeeze_excitation


def densenet() -> nj.Architecture:
    """A dense block of three layers: every layer reads all before it."""
    b = Builder()
    x = b.conv_norm_relu("input", 4)
    for _ in range(3):
        x = b.add(ops.Concat(), x, b.conv_norm_relu(x, 3))
    x = b.add(ops.AvgPool(2), b.conv_norm_relu(x, 4, kernel_size=1))
    return b.classify(x, 5, (8, 8, 3))


def small_resnet() -> nj.Architecture:
    """Two residual blocks whose sums tie the widths of three convolutions."""
    b = Builder()
    x = b.conv_norm_relu("input", 4)
    for _ in range(2):
        y = b.add(ops.BatchNorm(), b.add(ops.Conv(4), b.conv_norm_relu(x, 4)))
        x = b.add(ops.Relu(), b.add(ops.Add(), y, x))
    return b.classify(x, 5, (8, 8, 3))


def padded_resnet() -> nj.Architecture:
    """A residual block with an option-A shortcut: pooling and channels of zeros."""
    b = Builder()
    x = b.conv_norm_relu("input", 4)
    y = b.add(ops.BatchNorm(), b.add(ops.Conv(8, stride=2), x))
    shortcut = b.add(ops.PadChannels(2, 2), b.add(ops.MaxPool(1, 2), x))
    x = b.add(ops.Relu(), b.add(ops.Add(), y, shortcut))
    return b.classify(x, 5, (8, 8, 3))


def inception() -> nj.Architecture:
    """Four branches, joined; the join is read by two convolutions."""
    b = Builder()
    x = b.conv_norm_relu("input", 4)
    branches = [b.conv_norm_relu(x, 3, kernel_size=size) for size in (1, 3, 5)]
    branches.append(b.add(ops.AvgPool(3, 1, "SAME"), x))
    joined = b.add(ops.Concat(), *branches)
    left, right = b.conv_norm_relu(joined, 4), b.conv_norm_relu(joined, 4, use_bias=True)
    return b.classify(b.add(ops.Mix(), left, right), 5, (7, 9, 3))


def separable() -> nj.Architecture:
    """Depthwise and grouped convolutions, strides, dilation, dropout."""
    b = Builder()
    x = b.conv_norm_relu("input", 4, stride=2)
    x = b.conv_norm_relu(x, 4, groups=4)
    x = b.conv_norm_relu(x, 6, kernel_size=1)
    x = b.conv_norm_relu(x, 12, groups=6)  # two outputs per channel
    x = b.conv_norm_relu(x, 4, dilation=2)
    x = b.add(ops.Dropout(0.3), x)
    return b.classify(b.conv_norm_relu(x, 4, groups=2), 5, (9, 9, 1))


def dense_layers() -> nj.Architecture:
    """Several dense layers with a sum and a mix of vectors."""
    b = Builder()
    x = b.add(ops.Flatten(0.7, 3.0), b.add(ops.MaxPool(2), b.conv_norm_relu("input", 3)))
    x = b.add(ops.Relu(), b.add(ops.Dense(6), x))
    y = b.add(ops.Tanh(), b.add(ops.Dense(6), x))
    z = b.add(ops.Gelu(), b.add(ops.Dense(6, use_bias=False), x))
    x = b.add(ops.Mix(), b.add(ops.Add(), x, y), z)
    b.add(ops.Dense(5), x)
    return nj.Architecture((5, 4, 1), b.nodes)


def one_pixel() -> nj.Architecture:
    """A 1x1 image, and activations of every kind."""
    b = Builder()
    x = b.conv_norm_relu("input", 4)
    for op in (ops.LeakyRelu(), ops.Elu(), ops.Silu(), ops.Sigmoid(), ops.Identity()):
        x = b.add(op, b.add(ops.Conv(3, 1, use_bias=True), x))
    return b.classify(x, 5, (1, 1, 2))


def grouped() -> nj.Architecture:
    """A ResNeXt block (Xie et al. 2017), and a grouped convolution that reads a concatenation."""
    b = Builder()
    x = b.conv_norm_relu("input", 4)
    y = b.conv_norm_relu(b.conv_norm_relu(x, 6, kernel_size=1), 6, groups=2)
    x = b.add(ops.Add(), x, b.add(ops.Conv(4, 1), y))
    x = b.add(ops.Concat(), x, b.conv_norm_relu(x, 2))
    return b.classify(b.conv_norm_relu(x, 9, groups=3, use_bias=True), 5, (6, 6, 2))


def shared_input() -> nj.Architecture:
    """Three branches that read the image, itself part of the join and of a sum."""
    b = Builder()
    left = b.conv_norm_relu("input", 3, stride=2)
    right = b.conv_norm_relu("input", 2, kernel_size=5, stride=2, dilation=1)
    small = b.add(ops.AvgPool(3, 2, "SAME"), "input")
    summed = b.add(ops.Add(), small, b.add(ops.Conv(3, 1), left))
    x = b.conv_norm_relu(b.add(ops.Concat(), left, right, small, summed), 4)
    return b.classify(x, 5, (7, 7, 3))


def concats() -> nj.Architecture:
    """Concatenations of concatenations, one node twice in one, scaled, padded and flattened."""
    b = Builder()
    x = b.conv_norm_relu("input", 2)
    y = b.add(ops.Concat(), x, b.add(ops.Affine(), b.conv_norm_relu(x, 2)))
    z = b.add(ops.Concat(), y, x, b.add(ops.Tanh(), y))
    z = b.add(ops.MaxPool(2), b.add(ops.PadChannels(1, 2), z))
    x = b.add(ops.Relu(), b.add(ops.Dense(4), b.add(ops.Flatten(), z)))
    b.add(ops.Dense(5), b.add(ops.Concat(), x, b.add(ops.Dropout(0.2), x)))
    return nj.Architecture((4, 5, 1), b.nodes)


def cell() -> nj.Architecture:
    """Ops of cells: zeros, a factorised reduction, a gate, a shuffle, resizing, a weighted sum.

    Behind a depthwise convolution of the image with two outputs per colour.
    """
    b = Builder()
    x = b.conv_norm_relu("input", 6, groups=3)
    shifted = b.add(ops.Conv(3, 1, stride=2), b.add(ops.Shift(), x))
    halved = b.add(
        ops.BatchNorm(), b.add(ops.Concat(), b.add(ops.Conv(3, 1, stride=2), x), shifted)
    )
    halved = b.add(ops.Add(), halved, b.add(ops.Zero(2), x))
    y = b.add(ops.Conv(6, (3, 5), groups=6, dilation=2), b.add(ops.Relu(), halved))
    y = b.add(ops.DropPath(0.5), b.add(ops.BatchNorm(), b.add(ops.Conv(6, 1), y)))
    y = squeeze_excitation(b, y, 6, reduction=2)
    large = b.add(ops.Resize(8, 7), b.add(ops.Shuffle(3), y))
    mixed = b.add(ops.Standardize(), b.add(ops.Conv(4), b.add(ops.Relu(), large)))
    pooled = b.add(ops.MaxPool(3, 1, "SAME"), b.add(ops.Conv(4, 1), large))
    mixed = b.add(ops.WeightedSum("edge"), mixed, pooled)
    x = b.add(ops.Concat(), x, mixed)
    return b.classify(b.conv_norm_relu(x, 4, kernel_size=1), 5, (8, 7, 3))


ZOO = {
    "cell": cell,
    "plain": lambda: nj.chain((8, 8, 1), 5, widths=(3, 4, 5)),
    "stages": lambda: nj.chain(
        (7, 6, 3), 5, widths=((3, 3), (4,)), normalize=ops.Normalize((0.1, 0.2, 0.3), (1, 2, 3))
    ),
    "densenet": densenet,
    "small_resnet": small_resnet,
    "padded_resnet": padded_resnet,
    "inception": inception,
    "separable": separable,
    "dense_layers": dense_layers,
    "one_pixel": one_pixel,
    "grouped": grouped,
    "shared_input": shared_input,
    "concats": concats,
}
