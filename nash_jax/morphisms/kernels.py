"""The network morphisms on plain arrays (NASH, section 3), usable without any spec.

Kernels are `[height, width, in, out]` (convolution) or `[in, out]` (dense).
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def identity_kernel(kernel_size: tuple[int, int], channels: int, dtype: Any) -> jax.Array:
    """The convolution that passes its input on: Type I, eq. 2 with `A = 1`.

    Exact for stride 1 and 'SAME' padding, for any size without dilation.

    Returns:
      `[height, width, channels, channels]`, zero but for ones at the middle.

    >>> identity_kernel((3, 3), 2, jnp.float32)[1, 1].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    height, width = kernel_size
    kernel = jnp.zeros((height, width, channels, channels), dtype)
    return kernel.at[(height - 1) // 2, (width - 1) // 2].set(jnp.eye(channels, dtype=dtype))


def rebase_batch_norm(
    params: dict[str, jax.Array],
    stats: dict[str, jax.Array],
    mean: jax.Array,
    var: jax.Array,
    epsilon: float,
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
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
    a = params["scale"] / jnp.sqrt(stats["var"] + epsilon)
    c = params["bias"] - a * stats["mean"]
    new = {"scale": a * jnp.sqrt(var + epsilon), "bias": c + a * mean}
    return new, {"mean": mean, "var": var}


def batch_norm_identity(
    channels: int, epsilon: float, dtype: Any
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """A batch normalisation that is the identity in evaluation (eq. 3) with statistics (0, 1).

    >>> params, stats = batch_norm_identity(2, 0.21, jnp.float32)
    >>> params['scale'].round(6).tolist(), stats['var'].tolist()
    ([1.100000023841858, 1.100000023841858], [1.0, 1.0])
    """
    zeros, ones = jnp.zeros(channels, dtype), jnp.ones(channels, dtype)
    params = {"scale": ones * math.sqrt(1 + epsilon), "bias": zeros}
    return params, {"mean": zeros, "var": ones}


def widen_kernel(
    kernel: jax.Array, fresh: jax.Array, kept_in: np.ndarray, kept_out: np.ndarray
) -> jax.Array:
    """A larger kernel whose old outputs do not see its new inputs (Type II, eq. 4).

    Old outputs keep their weights on old inputs and have zeros (the `A~ = 0` of eq. 4) on new ones;
    new outputs have the fresh weights on all inputs.

    Args:
      kernel: the old kernel, `[..., in, out]`.
      fresh: weights of the new units, `[..., new in, new out]`; the rest of it is not used.
      kept_in: `[in]`, where each old input stands among the new.
      kept_out: `[out]`, where each old output stands among the new.

    Returns:
      The new kernel, in the shape of `fresh` and the type of `kernel`.

    >>> widen_kernel(jnp.ones((1, 1)), jnp.full((2, 2), 9.0), np.array([0]), np.array([0])).tolist()
    [[1.0, 9.0], [0.0, 9.0]]
    """
    num_in, num_out = fresh.shape[-2:]
    source_in, old_in = _sources(kept_in, num_in)
    source_out, old_out = _sources(kept_out, num_out)
    spaced = jnp.take(kernel, source_in, axis=-2, mode="clip")
    spaced = jnp.take(spaced, source_out, axis=-1, mode="clip")
    old_units = jnp.where(old_in[:, None], spaced, 0)
    return jnp.where(old_out, old_units, fresh.astype(kernel.dtype))


def widen_vector(vector: jax.Array, fresh: jax.Array, kept: np.ndarray) -> jax.Array:
    """A longer per-channel vector: old values at `kept`, fresh ones elsewhere.

    >>> widen_vector(jnp.array([1.0, 2.0]), jnp.zeros(4), np.array([0, 3])).tolist()
    [1.0, 0.0, 0.0, 2.0]
    """
    source, old = _sources(kept, len(fresh))
    spaced = jnp.take(vector, source, mode="clip")
    return jnp.where(old, spaced, fresh.astype(vector.dtype))


def _sources(kept: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of `size` new places, the old index it holds (0 if none), and whether it holds one.

    Gathering by these compiles several times faster than scattering to `kept`.
    """
    source, old = np.zeros(size, int), np.zeros(size, bool)
    source[kept], old[kept] = np.arange(len(kept)), True
    return source, old
