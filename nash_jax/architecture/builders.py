"""Ready-made specs, and a short way to write others by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nash_jax.architecture import ops
from nash_jax.architecture.shapes import Shape
from nash_jax.architecture.spec import INPUT, Architecture, Node, needed


class Builder:
    """Collects nodes; each method adds some and returns the name of the last.

    Args:
      norm: what normalises, where that is left open; by default batch normalisation.
    """

    def __init__(self, norm: ops.BatchNorm | ops.Standardize | None = None) -> None:
        self.nodes: list[Node] = []
        self.norm = ops.BatchNorm() if norm is None else norm

    def add(self, op: ops.Op, *inputs: str) -> str:
        name = f"{type(op).__name__.lower()}{len(self.nodes) + 1}"
        self.nodes.append(Node(name, op, inputs))
        return name

    def named(self, name: str, op: ops.Op, *inputs: str) -> str:
        """Add a node with a name that others look for; a join of one input passes it on."""
        joins = isinstance(op, ops.Add | ops.Concat)
        op = ops.Identity() if joins and len(inputs) == 1 else op
        self.nodes.append(Node(name, op, inputs))
        return name

    def norm_relu(self, x: str) -> str:
        return self.add(ops.Relu(), self.add(ops.BatchNorm(), x))

    def conv_norm_relu(self, x: str, features: int, kernel_size: Any = 3, **settings: Any) -> str:
        return self.norm_relu(self.add(ops.Conv(features, kernel_size, **settings), x))

    def classify(self, x: str, num_classes: int, input_shape: Shape) -> Architecture:
        """End the network with global average pooling and a dense layer behind `x`.

        Nodes that the logits do not depend on are left out.
        """
        output = self.add(ops.Dense(num_classes), self.add(ops.GlobalAvgPool(), x))
        return Architecture(input_shape, needed(self.nodes, output))


def chain(
    input_shape: Shape,
    num_classes: int,
    widths: Sequence[int | Sequence[int]] = (64, 128, 256),
    normalize: ops.Normalize | None = None,
) -> Architecture:
    """The paper's starting network: Conv-MaxPool-Conv-MaxPool-Conv-FC (NASH, section 5.1.1).

    Conv means Conv-BatchNorm-Relu, as in the paper's footnote 3; softmax is left to the loss.

    The flattened feature map is divided by the square root of its number of pixels; the paper does
    not mention this. The curvature of the loss in a dense layer's weights is proportional to the
    squared length of the layer's inputs, and with 8x8 pixels it would be too much for a learning
    rate of 0.05. Where the map becomes wider, it is divided by more, so that the curvature stays.

    Args:
      input_shape: `(height, width, channels)` of one image.
      num_classes: number of logits.
      widths: channels of the convolutions, with 2x2 max pooling between them. An entry that is
        itself a sequence is several convolutions without pooling: `((32, 32), (64, 64))`.
      normalize: how raw pixels are normalised, if the network is to do it.

    Raises:
      ValueError: if a width is not a whole number >= 1 or the images are too small for the pooling.

    >>> [node.name for node in chain((8, 8, 1), 10, widths=(16, 32)).nodes]
    ['conv1', 'bn1', 'relu1', 'pool1', 'conv2', 'bn2', 'relu2', 'flatten', 'dense']
    """
    if not isinstance(widths, Sequence):
        raise ValueError(f"widths must be a sequence of whole numbers; got {widths!r}")
    stages = [(w,) if isinstance(w, int) else tuple(w) for w in widths]
    if not stages or not all(stages):
        raise ValueError(f"widths must name at least one convolution per stage; got {widths!r}")
    _check_poolings(input_shape, len(stages))
    nodes: list[Node] = []

    def append(name: str, op: ops.Op) -> None:
        nodes.append(Node(name, op, nodes[-1].name if nodes else INPUT))

    if normalize is not None:
        append("normalize", normalize)
    number = 0
    for stage, stage_widths in enumerate(stages, start=1):
        for width in stage_widths:
            number += 1
            append(f"conv{number}", ops.Conv(width))
            append(f"bn{number}", ops.BatchNorm())
            append(f"relu{number}", ops.Relu())
        if stage < len(stages):
            append(f"pool{stage}", ops.MaxPool())
    append("flatten", ops.Flatten(length=math.sqrt(stages[-1][-1])))
    append("dense", ops.Dense(num_classes))
    return Architecture(input_shape, tuple(nodes))


def vgg(
    input_shape: Shape,
    num_classes: int,
    widths: Sequence[int] = (16, 32, 64, 128),
    normalize: ops.Normalize | None = None,
) -> Architecture:
    """Stages of 3x3 convolutions with 2x2 max pooling between them (Simonyan & Zisserman 2015).

    Unlike theirs, every convolution is normalised, and a global mean and one dense layer end it.
    The first stage, whose images are largest, has one convolution; all others have two.

    Args:
      input_shape: `(height, width, channels)` of one image.
      num_classes: number of logits.
      widths: channels of each stage.
      normalize: how raw pixels are normalised, if the network is to do it.

    Raises:
      ValueError: if the images are too small for the poolings.

    >>> names = [node.name for node in vgg((8, 8, 1), 10, widths=(8, 16)).nodes]
    >>> [name for name in names if name.startswith(("conv", "maxpool"))]
    ['conv1', 'maxpool4', 'conv5', 'conv8']
    """
    _check_poolings(input_shape, len(widths))
    b = Builder()
    x = INPUT if normalize is None else b.add(normalize, INPUT)
    for stage, width in enumerate(widths):
        if stage:
            x = b.conv_norm_relu(b.add(ops.MaxPool(), x), width)
        x = b.conv_norm_relu(x, width)
    return b.classify(x, num_classes, input_shape)


def resnet(
    input_shape: Shape, num_classes: int, depth: int = 20, normalize: ops.Normalize | None = None
) -> Architecture:
    """The residual networks for CIFAR, shortcuts of option A (He et al. 2016, section 4.2).

    Args:
      input_shape: `(height, width, channels)` of one image.
      num_classes: number of logits.
      depth: `6 n + 2`: 20, 32, 44, 56, 110.
      normalize: how raw pixels are normalised, if the network is to do it.

    Raises:
      ValueError: for another depth.
    """
    _check_depth("resnet", depth, 2)
    b = Builder()
    x = INPUT if normalize is None else b.add(normalize, INPUT)
    x, channels = b.conv_norm_relu(x, 16), 16
    for features in (16, 32, 64):
        for _ in range((depth - 2) // 6):
            stride = features // channels
            y = b.conv_norm_relu(x, features, stride=stride)
            y = b.add(ops.BatchNorm(), b.add(ops.Conv(features), y))
            if stride > 1:
                pad = (features - channels) // 2
                x = b.add(ops.MaxPool((1, 1), (stride, stride)), x)  # takes every second pixel
                x, channels = b.add(ops.PadChannels(pad, pad), x), features
            x = b.add(ops.Relu(), b.add(ops.Add(), y, x))
    return b.classify(x, num_classes, input_shape)


def resnet50(
    input_shape: Shape, num_classes: int, width: int = 64, normalize: ops.Normalize | None = None
) -> Architecture:
    """ResNet-50 for small images: stages of 3, 4, 6, 3 bottlenecks (He et al. 2016, table 1).

    Its stem is one 3x3 convolution without pooling, and the 3x3 convolution of a bottleneck has the
    stride, as in most code for CIFAR. Each residual branch ends with a `DropPath`, whose depth is
    its place among all: with `drop_path_by_depth` a training drops branches as stochastic depth
    does (Huang et al. 2016, equation 4).

    Args:
      input_shape: `(height, width, channels)` of one image.
      num_classes: number of logits.
      width: channels within the bottlenecks of the first stage; the paper: 64.
      normalize: how raw pixels are normalised, if the network is to do it.

    Raises:
      ValueError: if the width is not >= 1.

    >>> drops = [node.op for node in resnet50((8, 8, 3), 10, 4).nodes if "droppath" in node.name]
    >>> len(drops), drops[0].depth, drops[-1].depth
    (16, 0.0625, 1.0)
    """
    if width < 1:
        raise ValueError(f"width must be >= 1; got {width}; the paper has 64")
    b = Builder()
    x = INPUT if normalize is None else b.add(normalize, INPUT)
    x, blocks, number = b.conv_norm_relu(x, width), (3, 4, 6, 3), 0
    for stage, count in enumerate(blocks, start=1):
        features = width * 2 ** (stage - 1)
        for block in range(count):
            number += 1
            stride = 2 if stage > 1 and not block else 1
            y = b.conv_norm_relu(x, features, (1, 1))
            y = b.conv_norm_relu(y, features, stride=stride)
            y = b.add(ops.BatchNorm(), b.add(ops.Conv(4 * features, (1, 1)), y))
            y = b.add(ops.DropPath(number / sum(blocks)), y)
            if not block:  # other channels, or half as many pixels
                projection = ops.Conv(4 * features, (1, 1), (stride, stride))
                x = b.add(ops.BatchNorm(), b.add(projection, x))
            x = b.add(ops.Add(), y, x)
            last = block + 1 == count
            x = b.named(f"stage{stage}", ops.Relu(), x) if last else b.add(ops.Relu(), x)
    return b.classify(x, num_classes, input_shape)


def wide_resnet(
    input_shape: Shape,
    num_classes: int,
    depth: int = 16,
    factor: int = 4,
    normalize: ops.Normalize | None = None,
) -> Architecture:
    """WRN-depth-factor, pre-activated, without dropout (Zagoruyko & Komodakis 2016, Table 1).

    Args:
      input_shape: `(height, width, channels)` of one image.
      num_classes: number of logits.
      depth: `6 n + 4`: 10, 16, 22, 28, 40.
      factor: how many times wider than a residual network the blocks are.
      normalize: how raw pixels are normalised, if the network is to do it.

    Raises:
      ValueError: for another depth.
    """
    _check_depth("wide_resnet", depth, 4)
    b = Builder()
    x = INPUT if normalize is None else b.add(normalize, INPUT)
    x, channels = b.add(ops.Conv(16), x), 16
    for stage, features in enumerate((16 * factor, 32 * factor, 64 * factor)):
        for block in range((depth - 4) // 6):
            stride = 2 if stage and not block else 1
            normed = b.norm_relu(x)
            y = b.conv_norm_relu(normed, features, stride=stride)
            y = b.add(ops.Conv(features), y)
            if channels != features:
                x, channels = b.add(ops.Conv(features, (1, 1), (stride, stride)), normed), features
            x = b.add(ops.Add(), y, x)
    return b.classify(b.norm_relu(x), num_classes, input_shape)


def _check_poolings(input_shape: Shape, num_stages: int) -> None:
    """Raises `ValueError` if images are too small for a pooling between any two stages."""
    if len(input_shape) == 3 and min(input_shape[:2]) < 2 ** (num_stages - 1):
        raise ValueError(
            f"images of {input_shape[0]}x{input_shape[1]} are too small for {num_stages - 1} "
            f"poolings by 2; use larger images or {min(input_shape[:2]).bit_length()} widths"
        )


def _check_depth(name: str, depth: int, rest: int) -> None:
    if depth < 6 + rest or (depth - rest) % 6:
        raise ValueError(
            f"{name} has a depth of 6 n + {rest}; got {depth}; take {6 + rest}, {12 + rest}, "
            f"{18 + rest} or more"
        )
