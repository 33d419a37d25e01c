"""Ops that pass their input on, and the arrays with which they do (eqs. 2, 3 and 5)."""

from __future__ import annotations

from typing import Any, assert_never

import jax.numpy as jnp
import numpy as np

from nash_jax.architecture import Architecture, Shape, ops
from nash_jax.morphisms.primitives import batch_norm_identity, batch_norm_line, identity_kernel

NOT_BY_WEIGHTS = "no weights make it pass its input on; Blend can bring it in"


def why_no_identity(op: ops.Op, shape: Shape, nonnegative: bool) -> str | None:
    """Why an op cannot pass an input on, or nothing if it can.

    Args:
      op: the op, with whatever weights suit best.
      shape: of its input, per image.
      nonnegative: whether the input is never negative.
    """
    match op:
        case ops.Conv():
            if len(shape) != 3:
                return "a convolution needs a feature map (height, width, channels)"
            if op.features != shape[-1]:
                return f"it must have as many features as its input has channels, {shape[-1]}"
            if op.features % op.groups:
                return f"groups={op.groups} must divide its {shape[-1]} channels"
            if op.stride != (1, 1) or (op.padding != "SAME" and op.kernel_size != (1, 1)):
                return "its stride must be 1 and its padding 'SAME'"
            if any((k - 1) * d // 2 % d for k, d in zip(op.kernel_size, op.dilation)):
                return "with this dilation, no place of an even kernel is in the middle"
        case ops.Dense():
            if len(shape) != 1:
                return "a dense layer needs a vector"
            if op.features != shape[-1]:
                return f"it must have as many features as its input, {shape[-1]}"
        case ops.Relu():
            if not nonnegative:
                return "Relu passes on only what is never negative"
        case ops.BatchNorm() | ops.Affine() | ops.Identity() | ops.Dropout() | ops.DropPath():
            pass
        case ops.MaxPool(stride=(1, 1), window=(1, 1)) | ops.AvgPool(stride=(1, 1), window=(1, 1)):
            if len(shape) != 3:
                return "pooling needs a feature map (height, width, channels)"
        case ops.Elementwise() | ops.MaxPool() | ops.AvgPool() | ops.GlobalAvgPool():
            return NOT_BY_WEIGHTS
        case ops.Flatten() | ops.Normalize() | ops.PadChannels():
            return NOT_BY_WEIGHTS
        case ops.Zero() | ops.Shift() | ops.Resize() | ops.Shuffle():
            return NOT_BY_WEIGHTS
        case ops.ChannelwiseJoin() | ops.Concat():
            return NOT_BY_WEIGHTS
        case _:
            assert_never(op)
    return None


def identity_node(
    op: ops.Op, shape: Shape, dtype: Any, xp: Any = jnp
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and statistics with which an op passes an input of that shape on."""
    channels = shape[-1]
    match op:
        case ops.Conv():
            kernel = identity_kernel(op.kernel_size, channels, dtype, op.groups, xp)
        case ops.Dense():
            kernel = xp.eye(channels, dtype=dtype)
        case ops.BatchNorm():
            return batch_norm_identity(channels, op.epsilon, dtype, xp)
        case ops.Affine():
            return {"scale": xp.ones(channels, dtype), "bias": xp.zeros(channels, dtype)}, {}
        case ops.Channelwise() | ops.Flatten() | ops.Normalize() | ops.PadChannels():
            return {}, {}
        case ops.ChannelwiseJoin() | ops.Concat() | ops.Shuffle():
            return {}, {}
        case _:
            assert_never(op)
    bias = {"bias": xp.zeros(channels, dtype)} if op.use_bias else {}
    return {"kernel": kernel, **bias}, {}


def is_identity(
    op: ops.Op, shape: Shape, nonnegative: bool, params: dict[str, Any], stats: dict[str, Any]
) -> bool:
    """Whether an op with these arrays passes its input on in evaluation.

    Batch normalisation needs to do so only up to rounding. Dropout counts only with rate 0, and
    DropPath not at all, because
    it matters in training.
    """
    if why_no_identity(op, shape, nonnegative) or isinstance(op, ops.DropPath):
        return False
    if isinstance(op, ops.Dropout) and op.rate > 0:
        return False
    params = {name: np.asarray(x) for name, x in params.items()}
    if isinstance(op, ops.BatchNorm):
        stats = {name: np.asarray(x) for name, x in stats.items()}
        a, c = batch_norm_line(params, stats, op.epsilon)
        rounding = 8 * float(jnp.finfo(a.dtype).eps)
        size = 1 + np.abs(params["bias"]) + np.abs(stats["mean"])
        return bool((np.abs(a - 1) <= rounding).all() and (np.abs(c) <= rounding * size).all())
    wanted, _ = identity_node(op, shape, np.float32, np)
    return all((params[name] == wanted[name]).all() for name in params)


def nonnegative_nodes(spec: Architecture) -> frozenset[str]:
    """The nodes whose outputs are never negative, whatever the weights and images.

    Padded channels do not count: they are zero on all images, and a Relu behind would not learn.
    """
    found: set[str] = set()
    for node in spec.nodes:
        makes = isinstance(node.op, ops.Relu | ops.Sigmoid)
        passes_on = isinstance(
            node.op,
            ops.Elu
            | ops.LeakyRelu
            | ops.Gelu
            | ops.Silu
            | ops.Tanh
            | ops.MaxPool
            | ops.AvgPool
            | ops.GlobalAvgPool
            | ops.Flatten
            | ops.Dropout
            | ops.DropPath
            | ops.Identity
            | ops.Shift
            | ops.Resize
            | ops.Shuffle
            | ops.Gate
            | ops.Add
            | ops.Concat,
        )
        if makes or (passes_on and found.issuperset(node.inputs)):
            found.add(node.name)
    return frozenset(found)
