"""Random crops and flips as in SGDR, AutoAugment, and cutout (DeVries & Taylor 2017), on device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from nash_jax.training.autoaugment import auto_augment
from nash_jax.training.settings import TrainingSettings


def augment(
    images: jax.Array, key: jax.Array, settings: TrainingSettings, fill: Any = 0
) -> jax.Array:
    """Each image cropped, flipped, changed and cut out at random, as the settings say.

    Args:
      images: `[batch, height, width, channels]`.
      key: decides where; the same key gives the same images.
      settings: `crop_padding`, `flip`, `auto_augment` and `cutout`, in this order.
      fill: what is padded and cut out, a number or one for each channel; 0 is black.

    Returns:
      Images of the same shape and type.
    """
    fill = jnp.asarray(fill, images.dtype)
    crop_key, flip_key, cutout_key = jax.random.split(key, 3)
    batch, height, width, channels = images.shape
    if settings.crop_padding:
        pad = settings.crop_padding
        shape = (batch, height + 2 * pad, width + 2 * pad, channels)
        padded = jnp.broadcast_to(fill, shape).at[:, pad:-pad, pad:-pad].set(images)
        corners = jax.random.randint(crop_key, (batch, 2), 0, 2 * pad + 1)

        def crop(image: jax.Array, corner: jax.Array) -> jax.Array:
            start = (corner[0], corner[1], 0)
            return jax.lax.dynamic_slice(image, start, (height, width, channels))

        images = jax.vmap(crop)(padded, corners)
    if settings.flip:
        flipped = jax.random.bernoulli(flip_key, shape=(batch, 1, 1, 1))
        images = jnp.where(flipped, images[:, :, ::-1], images)
    if settings.auto_augment:
        images = auto_augment(images, jax.random.fold_in(key, 3), fill)
    if settings.cutout:
        middles = jax.random.randint(cutout_key, (batch, 2), 0, jnp.array([height, width]))
        top, left = (middles - settings.cutout // 2).T[..., None]
        rows, columns = jnp.arange(height), jnp.arange(width)
        in_rows = (top <= rows) & (rows < top + settings.cutout)
        in_columns = (left <= columns) & (columns < left + settings.cutout)
        cut = in_rows[:, :, None] & in_columns[:, None, :]
        images = jnp.where(cut[..., None], fill, images)
    return images


def resized(images: jax.Array, size: Sequence[int]) -> jax.Array:
    """Images of `size`, `(height, width)`, of the same type: linear, antialiased interpolation."""
    *members, _, _, channels = images.shape
    shape = (*members, *size, channels)
    if shape == images.shape:
        return images
    found = jax.image.resize(images.astype(jnp.float32), shape, "linear")
    if jnp.issubdtype(images.dtype, jnp.integer):
        found = jnp.rint(found)
    return found.astype(images.dtype)
