"""What each op does to shapes, and which arrays it owns.

Shapes are per image: `(height, width, channels)` or `(features,)`.
"""

from __future__ import annotations

import math
from typing import TypeAlias, assert_never

import numpy as np

from nash_jax.architecture import ops

Shape: TypeAlias = tuple[int, ...]


def output_shape(op: ops.Op, inputs: tuple[Shape, ...]) -> Shape:
    """The shape that `op` makes of the shapes of its inputs.

    Raises:
      ValueError: with the rule that the inputs break.
    """
    first = inputs[0]
    match op:
        case ops.Conv():
            height, width, channels = _feature_map(op, first)
            if channels % op.groups:
                raise ValueError(
                    f"groups={op.groups} must divide the number of input channels, {channels}"
                )
            reach = tuple((k - 1) * d + 1 for k, d in zip(op.kernel_size, op.dilation))
            return (*_windows((height, width), reach, op.stride, op.padding), op.features)
        case ops.MaxPool() | ops.AvgPool():
            height, width, channels = _feature_map(op, first)
            assert op.stride is not None  # set on construction
            return (*_windows((height, width), op.window, op.stride, op.padding), channels)
        case ops.GlobalAvgPool():
            return (_feature_map(op, first)[2],)
        case ops.Flatten():
            return (math.prod(_feature_map(op, first)),)
        case ops.Dense():
            if len(first) != 1:
                raise ValueError(
                    f"Dense needs a vector, got shape {first}; put a Flatten before it"
                )
            return (op.features,)
        case ops.Normalize():
            if len(op.mean) != first[-1]:
                raise ValueError(f"{len(op.mean)} means do not fit {first[-1]} channels")
            return first
        case ops.PadChannels():
            return (*first[:-1], op.before + first[-1] + op.after)
        case ops.Zero():
            height, width, channels = _feature_map(op, first)
            return (*_windows((height, width), (1, 1), op.stride, "SAME"), channels)
        case ops.Shift():
            return _feature_map(op, first)
        case ops.Resize():
            return (op.height, op.width, _feature_map(op, first)[2])
        case ops.Shuffle():
            if first[-1] % op.groups:
                raise ValueError(f"groups={op.groups} must divide the {first[-1]} channels")
            return first
        case ops.Gate():
            if inputs[1] != _feature_map(op, first)[2:]:
                raise ValueError("the second input must have a number for each channel of the map")
            return first
        case ops.Concat():
            if len({shape[:-1] for shape in inputs}) > 1:
                raise ValueError("all but the last axis must agree")
            return (*first[:-1], sum(shape[-1] for shape in inputs))
        case ops.Add() | ops.Mix() | ops.WeightedSum():
            if len(set(inputs)) > 1:
                raise ValueError("the shapes must be equal")
            return first
        case ops.Elementwise():
            return first
        case _:
            assert_never(op)


def _feature_map(op: ops.Op, shape: Shape) -> Shape:
    if len(shape) != 3:
        raise ValueError(
            f"{type(op).__name__} needs a feature map (height, width, channels), got shape {shape}"
        )
    return shape


def _windows(size: Shape, window: Shape, stride: Shape, padding: str) -> Shape:
    if padding == "SAME":
        return tuple(-(-n // s) for n, s in zip(size, stride))
    if any(n < w for n, w in zip(size, window)):
        raise ValueError(
            f"a window of {window[0]}x{window[1]} does not fit an image of {size[0]}x{size[1]}"
        )
    return tuple((n - w) // s + 1 for n, w, s in zip(size, window, stride))


def nearest(old: int, new: int) -> np.ndarray:
    """For each of `new` places, which of `old` places along the same line is nearest.

    >>> nearest(4, 6).tolist()
    [0, 1, 1, 2, 3, 3]
    """
    return (2 * np.arange(new) + 1) * old // (2 * new)


def param_shapes(op: ops.Op, inputs: tuple[Shape, ...]) -> dict[str, Shape]:
    """The op's trainable arrays: kernels are `[height, width, in / groups, out]` or `[in, out]`."""
    features = inputs[0][-1]
    match op:
        case ops.Conv():
            shapes: dict[str, Shape] = {
                "kernel": (*op.kernel_size, features // op.groups, op.features)
            }
        case ops.Dense():
            shapes = {"kernel": (features, op.features)}
        case ops.BatchNorm() | ops.Affine():
            return {"scale": (features,), "bias": (features,)}
        case ops.Mix():
            return {"lambda": ()}
        case ops.Channelwise() | ops.Flatten() | ops.Normalize() | ops.PadChannels():
            return {}
        case ops.ChannelwiseJoin() | ops.Concat() | ops.Shuffle():
            return {}
        case _:
            assert_never(op)
    if op.use_bias:
        shapes["bias"] = (op.features,)
    return shapes


def stat_shapes(op: ops.Op, inputs: tuple[Shape, ...]) -> dict[str, Shape]:
    """The op's running statistics, which training updates without a gradient."""
    if isinstance(op, ops.BatchNorm | ops.Standardize):
        return {"mean": (inputs[0][-1],), "var": (inputs[0][-1],)}
    return {}


def arch_shapes(op: ops.Op, inputs: tuple[Shape, ...]) -> dict[str, Shape]:
    """The op's numbers that a rule makes: of a weighted sum, one for each input."""
    return {"weights": (len(inputs),)} if isinstance(op, ops.WeightedSum) else {}


def multiply_adds(op: ops.Op, inputs: tuple[Shape, ...], output: Shape) -> int:
    """Multiply-adds of a convolution or dense layer on one image; other ops count as free."""
    if isinstance(op, ops.Conv | ops.Dense):
        kernel = param_shapes(op, inputs)["kernel"]
        return math.prod(kernel) * math.prod(output[:-1])
    return 0
