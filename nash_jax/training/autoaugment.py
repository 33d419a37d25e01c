"""AutoAugment's policy for CIFAR-10 (Cubuk et al. 2019, table 7), on the device.

An image gets one of 25 sub-policies at random: two operations, each with a probability and a
magnitude from 0 to 9. All arithmetic is that of whole numbers, so that every device gives the same
pixels; they are those of Pillow's functions, which the paper names, but for one grey level where
Pillow's floating-point numbers are rounded.

What the paper leaves open is as in Popien's code (2019): magnitudes are ten equal steps, and
operations with two directions take one at random. Unlike there, images are rotated in both
directions, sheared without interpolation, and what lies outside of them has their mean colour.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

#: Two operations each: name, probability, magnitude.
Operation = tuple[str, float, int]
POLICY: tuple[tuple[Operation, Operation], ...] = (
    (("invert", 0.1, 7), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.5, 8), ("equalize", 0.9, 2)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("color", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 5), ("equalize", 0.5, 1)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("color", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 7), ("autocontrast", 0.4, 8)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("color", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 3)),
    (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
    (("equalize", 0.2, 8), ("equalize", 0.6, 4)),
    (("color", 0.9, 9), ("equalize", 0.6, 6)),
    (("autocontrast", 0.8, 4), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("color", 0.7, 0)),
    (("solarize", 0.4, 5), ("autocontrast", 0.9, 3)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.9, 2), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 8), ("invert", 0.1, 3)),
    (("translate_y", 0.7, 9), ("autocontrast", 0.9, 1)),
)


class Step(NamedTuple):
    """One operation on one image, as arrays.

    Attributes:
      branch: which of `BRANCHES`.
      amount: what the branch takes besides.
      place: where a pixel comes from, in 1/65,536 pixels: `[2, 3]`, rows and columns by row,
        column and 1.
    """

    branch: jax.Array | np.ndarray
    amount: jax.Array | np.ndarray
    place: jax.Array | np.ndarray


#: Changes an image `[height, width, channels]` by a step; what lies outside has a colour.
Change: TypeAlias = Callable[[jax.Array, Step, jax.Array], jax.Array]


def auto_augment(
    images: jax.Array, key: jax.Array, fill: Any, change: Change | None = None
) -> jax.Array:
    """Each image changed by one sub-policy of `POLICY` at random.

    Args:
      images: `[batch, height, width, channels]`, from 0 to 255; three channels are red,
        green and blue.
      key: decides which sub-policy, whether and in which direction.
      fill: the colour of what lies outside, a number or one for each channel.
      change: how one image is changed by one operation; by default what is faster here.

    Returns:
      Images of the same shape and type.
    """
    batch, height, width, channels = images.shape
    policy_key, use_key, sign_key = jax.random.split(key, 3)
    policy = jax.random.randint(policy_key, (batch,), 0, len(POLICY))
    probabilities = np.array([[op[1] for op in pair] for pair in POLICY], np.float32)
    uses = jax.random.uniform(use_key, (batch, 2)) < jnp.asarray(probabilities)[policy]
    signs = jax.random.bernoulli(sign_key, shape=(batch, 2)).astype(jnp.int32)
    table = _table(height, width)
    fill = jnp.broadcast_to(jnp.asarray(fill, jnp.int32), (batch, channels))
    if change is None:
        change = one_by_one if jax.default_backend() == "cpu" else changed
    wide = images.astype(jnp.int32)
    for number in range(2):
        steps = Step(*(jnp.asarray(x)[policy, number, signs[:, number]] for x in table))
        branch = jnp.where(uses[:, number], steps.branch, 0)
        wide = jax.vmap(change)(wide, steps._replace(branch=branch), fill)
    return wide.astype(images.dtype)


@functools.cache
def _table(height: int, width: int) -> Step:
    """All steps, `[sub-policies, 2 operations, 2 directions, ...]`."""
    steps = [
        step_of(name, magnitude, sign, height, width)
        for pair in POLICY
        for name, _, magnitude in pair
        for sign in (-1, 1)
    ]
    shape = len(POLICY), 2, 2
    return Step(*(np.reshape(x, (*shape, *np.shape(x[0]))) for x in zip(*steps)))


def step_of(name: str, magnitude: int, sign: int, height: int, width: int) -> Step:
    """An operation in one direction, for images of some size; the arrays are NumPy's."""
    amount, matrix = 0, np.eye(2, 3)
    part, angle = sign * magnitude / 9, math.radians(sign * magnitude / 9 * 30)
    match name:
        case "shear_y":  # of rows by columns
            matrix[0, 1] = 0.3 * part
        case "translate_x":
            matrix[1, 2] = 150 / 331 * width * part
        case "translate_y":
            matrix[0, 2] = 150 / 331 * height * part
        case "rotate":
            matrix[:, :2] = [
                [math.cos(angle), math.sin(angle)],
                [-math.sin(angle), math.cos(angle)],
            ]
            middle = np.array([height / 2, width / 2])
            matrix[:, 2] = middle - matrix[:, :2] @ middle
        case "posterize":  # what is a multiple of the amount stays
            amount = 2 ** round(magnitude / 9 * 4)
        case "solarize":  # what is as bright as this or more is inverted
            amount = math.ceil(256 - 256 * magnitude / 9)
        case "color" | "contrast" | "brightness" | "sharpness":  # tenths of the image
            amount = 10 + sign * magnitude
    matrix[:, 2] += matrix[:, :2].sum(axis=1) / 2  # the middle of a pixel
    branch = "move" if name in ("shear_y", "translate_x", "translate_y", "rotate") else name
    place = np.floor(matrix * 65536 + 0.5).astype(np.int32)
    return Step(np.array(list(BRANCHES).index(branch), np.int32), np.array(amount, np.int32), place)


def _move(image: jax.Array, step: Step, fill: jax.Array) -> jax.Array:
    """Every pixel is the one that lies where an affine map says."""
    height, width, _ = image.shape
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)
    row, column = (a * rows + b * columns + c >> 16 for a, b, c in step.place)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    places = jnp.where(inside, row * width + column, 0)
    return jnp.where(inside[..., None], image.reshape(height * width, -1)[places], fill)


def _invert(image: jax.Array, step: Step, fill: jax.Array) -> jax.Array:
    return 255 - image


def _solarize(image: jax.Array, step: Step, fill: jax.Array) -> jax.Array:
    return jnp.where(image < step.amount, image, 255 - image)


def _posterize(image: jax.Array, step: Step, fill: jax.Array) -> jax.Array:
    return image & -step.amount


def _autocontrast(image: jax.Array, step: Step, fill: jax.Array) -> jax.Array:
    """Each channel stretched to all grey levels."""
    low, high = image.min(axis=(0, 1)), image.max(axis=(0, 1))
    return jnp.where(high > low, (image - low) * 255 // jnp.maximum(high - low, 1), image)


def _equalize(image: jax.Array, step: Step, fill: jax.Array) -> jax.Array:
    """Each channel so that all grey levels are about equally frequent.

    As in Pillow, a channel with fewer than 255 pixels below its brightest level stays.
    """
    channels = image.shape[-1]
    pixels = image.reshape(-1, channels)
    counts = jnp.zeros((channels, 256), jnp.int32).at[jnp.arange(channels), pixels].add(1)
    level = (len(pixels) - jnp.take_along_axis(counts, pixels.max(axis=0)[:, None], 1)) // 255
    below = jnp.cumsum(counts, axis=1) - counts + level // 2
    table = jnp.minimum(below // jnp.maximum(level, 1), 255)
    table = jnp.where(level > 0, table, jnp.arange(256))
    return table[jnp.arange(channels), pixels].reshape(image.shape)


def _grey(image: jax.Array) -> jax.Array:
    """The brightness of each pixel, `[height, width, 1]` (ITU-R 601-2); the mean if not three."""
    if image.shape[-1] != 3:
        return image.sum(axis=-1, keepdims=True) // image.shape[-1]
    weighted = image * jnp.array([19595, 38470, 7471])
    return weighted.sum(axis=-1, keepdims=True) + 0x8000 >> 16


def _blended(image: jax.Array, other: jax.Array | int, step: Step) -> jax.Array:
    """`amount / 10` of the image and the rest of another, cut off at 0 and 255."""
    return jnp.clip((10 * other + step.amount * (image - other)) // 10, 0, 255)


def _color(image: jax.Array, step: Step, fill: jax.Array) -> jax.Array:
    return _blended(image, _grey(image), step)


def _contrast(image: jax.Array, step: Step, fill: jax.Array) -> jax.Array:
    grey = _grey(image)
    return _blended(image, (2 * grey.sum() + grey.size) // (2 * grey.size), step)


def _brightness(image: jax.Array, step: Step, fill: jax.Array) -> jax.Array:
    return _blended(image, 0, step)


def _sharpness(image: jax.Array, step: Step, fill: jax.Array) -> jax.Array:
    """Blended with means of 3x3 pixels, the middle weighted by 5; the border stays."""
    height, width, _ = image.shape
    if min(height, width) < 3:
        return image
    total = 4 * image[1:-1, 1:-1]
    for row in range(3):
        for column in range(3):
            total += image[row : height - 2 + row, column : width - 2 + column]
    return _blended(image, image.at[1:-1, 1:-1].set((2 * total + 13) // 26), step)


#: What an image may get; the first leaves it as it is.
BRANCHES: dict[str, Change] = {
    "none": lambda image, step, fill: image,
    "move": _move,
    "invert": _invert,
    "solarize": _solarize,
    "posterize": _posterize,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "color": _color,
    "contrast": _contrast,
    "brightness": _brightness,
    "sharpness": _sharpness,
}


def changed(image: jax.Array, step: Step, fill: jax.Array) -> jax.Array:
    """One image after one operation."""
    return jax.lax.switch(step.branch, list(BRANCHES.values()), image, step, fill)


#: On CPU the one branch that was drawn is computed; where many images are computed side by side,
#: all branches would be.
one_by_one = jax.custom_batching.sequential_vmap(changed)
