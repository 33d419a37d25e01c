"""The network morphisms on plain arrays (NASH, section 3): no spec, no layer class, no framework.

Kernels are `[height, width, in / groups, out]` (convolution) or `[in, out]` (dense); every
function takes both where it makes sense. All are pure and run under `jax.jit`, `jax.vmap` and
`jax.grad`. Given NumPy arrays, those that rearrange arrays compute with NumPy and compile nothing.

A *source* says where the entries along an axis come from: `source[j]` is the old index that new
index `j` holds, or -1 if entry `j` is new. It is a NumPy array, known before tracing.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Arrays = dict[str, jax.Array]


def rearrange(array: Any, source: np.ndarray, axis: int, fresh: Any = 0.0) -> Any:
    """An array with entries along one axis kept, moved, repeated, dropped, or joined by new ones.

    Args:
      array: any array.
      source: `[new size]`, for each new index the old one, or -1.
      axis: negative, counted from the last.
      fresh: what stands where `source` is -1: a number, or an array of the new shape.

    >>> rearrange(jnp.array([5.0, 6.0]), np.array([1, -1, 0]), axis=-1).tolist()
    [6.0, 0.0, 5.0]
    """
    xp = np if isinstance(array, np.ndarray) else jnp
    moved = xp.take(array, np.maximum(source, 0), axis=axis, mode="clip")
    if (source >= 0).all():
        return moved
    old = (source >= 0).reshape((-1,) + (1,) * (-axis - 1))
    # Gathering compiles several times faster than scattering the old entries to their places.
    return xp.where(old, moved, xp.asarray(fresh, array.dtype))


def widen_in(kernel: Any, source: np.ndarray) -> Any:
    """A kernel that reads more inputs, the new ones with zero weights: `A~ = 0` in eq. 4 (Type II).

    Args:
      kernel: `[..., in, out]`.
      source: `[new in]`, the old input that each new one is, or -1 for one that is new.

    Returns:
      `[..., new in, out]`.

    >>> widen_in(jnp.ones((1, 2)), np.array([0, -1])).tolist()
    [[1.0, 1.0], [0.0, 0.0]]
    """
    return rearrange(kernel, source, axis=-2)


def widen_out(array: Any, source: np.ndarray, fresh: Any) -> Any:
    """More output units, the new ones with fresh weights: `h~` in eq. 4 (Type II).

    Args:
      array: a kernel `[..., out]`, or a vector `[out]` of biases, scales or statistics.
      source: `[new out]`, the old unit that each new one is, or -1 for one that is new.
      fresh: `[..., new out]`; used at the new units only.

    Returns:
      `[..., new out]`.

    >>> widen_out(jnp.ones((1, 1)), np.array([0, -1]), jnp.full((1, 2), 9.0)).tolist()
    [[1.0, 9.0]]
    """
    return rearrange(array, source, axis=-1, fresh=fresh)


def copy_out(array: Any, origin: np.ndarray) -> Any:
    """Output units repeated: unit `j` is a copy of old unit `origin[j]` (Net2Wider, Chen et al.).

    Args:
      array: a kernel `[..., out]` or a vector `[out]`.
      origin: `[new out]`, never -1.
    """
    return rearrange(array, origin, axis=-1)


def split_in(kernel: Any, origin: np.ndarray) -> Any:
    """A kernel that reads repeated inputs, the weight shared equally among the copies (Net2Wider).

    Exact up to the rounding of the longer sum, and of the division where an input has a number of
    copies that is no power of two.

    Args:
      kernel: `[..., in, out]`.
      origin: `[new in]`, the old input that each new one copies; every old one occurs.

    >>> split_in(jnp.array([[8.0], [3.0]]), np.array([0, 0, 1])).tolist()
    [[4.0], [4.0], [3.0]]
    """
    copies = np.bincount(origin, minlength=kernel.shape[-2])[origin]
    return rearrange(kernel, origin, axis=-2) / copies[:, None].astype(kernel.dtype)


def grow_kernel(
    kernel: Any, kernel_size: tuple[int, int], offset: tuple[int, int] | None = None
) -> Any:
    """A larger convolution kernel, zero around the old one (Wei et al. 2016, section 3.4).

    Args:
      kernel: `[height, width, in / groups, out]`.
      kernel_size: `(height, width)` of the new one, no smaller.
      offset: zeros before the old kernel, in rows and columns; by default it stands in the middle,
        which is exact for stride 1, 'SAME' padding and a growth by an even number.

    Raises:
      ValueError: if a side would become shorter.

    >>> grow_kernel(jnp.ones((1, 1, 1, 1)), (1, 3))[0, :, 0, 0].tolist()
    [0.0, 1.0, 0.0]
    """
    old = kernel.shape[:2]
    if any(new < n for new, n in zip(kernel_size, old)):
        raise ValueError(
            f"a kernel can only grow; got {tuple(kernel_size)} for one of {old}; name a size that "
            "is no smaller"
        )
    if offset is None:
        offset = ((kernel_size[0] - old[0]) // 2, (kernel_size[1] - old[1]) // 2)
    for axis in (0, 1):
        kernel = rearrange(kernel, shifted(old[axis], kernel_size[axis], offset[axis]), axis - 4)
    return kernel


def shifted(size: int, new_size: int, offset: int) -> np.ndarray:
    """The source of an axis that grows to `new_size`; its `size` old entries begin at `offset`.

    >>> shifted(1, 3, 1).tolist()
    [-1, 0, -1]
    """
    source = np.arange(new_size) - offset
    return np.where((source >= 0) & (source < size), source, -1)


def identity_kernel(
    kernel_size: tuple[int, int], channels: int, dtype: Any, groups: int = 1, xp: Any = jnp
) -> Any:
    """The convolution that passes its input on: Type I, eq. 2 with `A = 1`.

    Exact to the last bit for stride 1 and 'SAME' padding, and with dilation where the kernel's
    sides are odd. `groups=channels` is the depthwise identity. For a dense layer: `jnp.eye`.

    Args:
      kernel_size: `(height, width)`.
      channels: of the input and the output.
      dtype: of the kernel.
      groups: of the convolution; divides `channels`.
      xp: `numpy` or `jax.numpy`, the library of the result.

    Returns:
      `[height, width, channels / groups, channels]`, zero but for ones at the middle.

    >>> identity_kernel((3, 3), 2, jnp.float32)[1, 1].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    height, width = kernel_size
    top, left = (height - 1) // 2, (width - 1) // 2
    one = xp.tile(xp.eye(channels // groups, dtype=dtype), (1, groups))[None, None]
    return xp.pad(one, [(top, height - 1 - top), (left, width - 1 - left), (0, 0), (0, 0)])


def window_kernel(kernel_size: tuple[int, int], channels: int, dtype: Any, xp: Any = jnp) -> Any:
    """The convolution that collects its window: output `(i, j, c)` is input `c` at place `(i, j)`.

    A 1x1 convolution behind it, with a kernel reshaped to `[1, 1, height * width * in, out]`,
    computes what the kernel did.

    Returns:
      `[height, width, channels, height * width * channels]`, zeros and ones.

    >>> window_kernel((1, 2), 1, jnp.float32)[0, :, 0].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    height, width = kernel_size
    size = height * width * channels
    return xp.eye(size, dtype=dtype).reshape(height, width, channels, size)


def batch_norm_identity(
    channels: int, epsilon: float, dtype: Any, xp: Any = jnp
) -> tuple[Arrays, Arrays]:
    """A batch normalisation that is the identity in evaluation (eq. 3) with statistics (0, 1).

    >>> params, stats = batch_norm_identity(2, 0.21, jnp.float32)
    >>> params['scale'].round(6).tolist(), stats['var'].tolist()
    ([1.100000023841858, 1.100000023841858], [1.0, 1.0])
    """
    zeros, ones = xp.zeros(channels, dtype), xp.ones(channels, dtype)
    scale = xp.full(channels, math.sqrt(1 + epsilon), dtype)
    return {"scale": scale, "bias": zeros}, {"mean": zeros, "var": ones}


def rebase_batch_norm(
    params: Arrays, stats: Arrays, mean: jax.Array, var: jax.Array, epsilon: float
) -> tuple[Arrays, Arrays]:
    """Other statistics for a batch normalisation, its function in evaluation unchanged (eq. 3).

    In evaluation it computes `a * x + c` with `a = scale / sqrt(old var + epsilon)` and
    `c = bias - a * old mean`. With the new `A = 1 / sqrt(var + epsilon)`, `b = -A * mean` in eq. 3,
    the new scale is `C = a / A` and the new bias `d = c + a * mean`. If `mean` and `var` are those
    of a batch, training mode computes `a * x + c` on that batch too.

    Args:
      params: `scale` and `bias`, `[channels]` each.
      stats: `mean` and `var`, `[channels]` each.
      mean: the new running mean, `[channels]`.
      var: the new running variance, `[channels]`.
      epsilon: the normalisation's.

    Returns:
      New `(params, stats)`.
    """
    a, c = batch_norm_line(params, stats, epsilon)
    return {"scale": a * jnp.sqrt(var + epsilon), "bias": c + a * mean}, {"mean": mean, "var": var}


def batch_norm_line(params: Arrays, stats: Arrays, epsilon: float) -> tuple[Any, Any]:
    """The `(a, c)`, `[channels]` each: in evaluation the normalisation computes `a * x + c`."""
    xp = np if isinstance(params["scale"], np.ndarray) else jnp
    a = params["scale"] / xp.sqrt(stats["var"] + xp.asarray(epsilon, stats["var"].dtype))
    return a, params["bias"] - a * stats["mean"]


def fold_line(kernel: Any, bias: Any, a: Any, c: Any) -> tuple[Any, Any]:
    """The layer `a * (kernel x + bias) + c`: kernel `[..., out]`, the rest `[out]`."""
    return kernel * a, bias * a + c


def blend(f: Any, h: Any, weight: Any = 1.0) -> Any:
    """`lambda f + (1 - lambda) h` (Type IV, eq. 6): exactly `f` at lambda 1, where `h` is finite.

    Args:
      f: what the network computes now.
      h: anything of the same shape.
      weight: lambda, a learnable scalar.
    """
    return weight * f + (1 - weight) * h
