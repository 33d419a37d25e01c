"""Progressive resizing: a training begins with smaller images (Howard 2018, for DAWNBench).

Most of what a network learns early it learns from small images too, at two fifths of the cost. The
weights are the same for all sizes where a network ends in a global mean.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import threading
import weakref

import jax
import jax.numpy as jnp
import numpy as np

from nash_jax.architecture import Architecture, Shape, count_flops
from nash_jax.architecture.shapes import output_shape
from nash_jax.data import Examples
from nash_jax.morphisms.branches import pool_between
from nash_jax.training.augment import resized
from nash_jax.training.settings import TrainingSettings
from nash_jax.training.sgdr import Cosine

#: The edges of smaller images are about this part of those of the images: 20 pixels of 32, ...
SCALE = 5 / 8
#: ... and within these.
SCALES = (1 / 2, 3 / 4)


class SizeError(Exception):
    """A network whose weights or maps do not fit smaller images."""


@functools.lru_cache(maxsize=256)
def smaller(spec: Architecture) -> Architecture | None:
    """The network for smaller images, or None if its weights or its maps do not fit any.

    The maps must also fit skips that are not there yet, so that what edits make of a network has
    the same smaller images.
    """
    height, width, _ = spec.input_shape
    least, most = math.ceil(SCALES[0] * height), math.floor(SCALES[1] * height)
    edges = sorted(range(least, most + 1), key=lambda edge: (abs(edge - SCALE * height), -edge))
    of_sizes = (_resized_to(spec, (edge, round(width * edge / height))) for edge in edges)
    return next((found for found in of_sizes if found is not None), None)


def _resized_to(spec: Architecture, size: tuple[int, int]) -> Architecture | None:
    """The network for images of a size, if its weights and maps fit them."""
    try:
        found = Architecture((*size, spec.input_shape[-1]), spec.nodes)
    except ValueError:  # maps that are pooled to nothing, or do not fit together
        return None
    maps: dict[Shape, Shape] = {}
    for name, shape in spec.shapes.items():
        new = found.shapes[name]
        if new[-1] != shape[-1] or maps.setdefault(shape[:-1], new[:-1]) != new[:-1]:
            return None
    of_maps = [shape for shape in maps if len(shape) == 2]
    for old, new in itertools.permutations(of_maps, 2):
        if old[0] >= new[0] and old[1] >= new[1]:
            (height, width), pool = maps[old], pool_between(old, new)
            if pool.window[0] > height or pool.window[1] > width:
                return None
            if output_shape(pool, ((height, width, 1),))[:-1] != maps[new]:
                return None
    return found


def cost_of_smaller(spec: Architecture) -> float:
    """Of an epoch of smaller images, as a part of that of others; 1 if there are none."""
    small = smaller(spec)
    return 1.0 if small is None else count_flops(small) / count_flops(spec)


_known: weakref.WeakKeyDictionary[Examples, dict[tuple[int, ...], Examples]]
_known = weakref.WeakKeyDictionary()
_making = threading.Lock()
_resized = jax.jit(resized, static_argnames="size")


def smaller_examples(examples: Examples, size: tuple[int, ...]) -> Examples:
    """Examples whose images are made smaller, to `(height, width)`, where they are: here or there.

    It is done once for examples and a size. They are made smaller by thousands, because they are
    floats in between.
    """
    with _making:
        known = _known.setdefault(examples, {})
        if size not in known:
            parts = [
                _resized(examples.images[first : first + 1_000], size)
                for first in range(0, len(examples), 1_000)
            ]
            images = (
                np.concatenate([np.asarray(part) for part in parts])
                if isinstance(examples.images, np.ndarray)
                else jnp.concatenate(parts)
            )
            known[size] = dataclasses.replace(examples, images=images)
        return known[size]


def for_smaller(settings: TrainingSettings) -> TrainingSettings:
    """The training of smaller images: what is in pixels is smaller too."""
    padding, cutout = (round(SCALE * x) for x in (settings.crop_padding, settings.cutout))
    return dataclasses.replace(settings, crop_padding=padding, cutout=cutout)


@dataclasses.dataclass(frozen=True)
class Resizing:
    """Which epochs of a training have smaller images.

    Attributes:
      share: of the training, at its beginning; 0: no epoch has.
      cost: of an epoch of smaller images, as a part of that of another.
    """

    share: float = 0.0
    cost: float = 1.0

    @classmethod
    def of(cls, spec: Architecture, share: float) -> Resizing:
        """That of a network; none if there is none for smaller images."""
        return cls(share, cost_of_smaller(spec)) if share and smaller(spec) else cls()

    def is_small(self, cosine: Cosine, epoch: int) -> bool:
        """Whether the epoch after so many has smaller images."""
        return cosine.progress(epoch + 1) <= self.share

    def work(self, cosine: Cosine, epoch: int) -> float:
        """Of the epoch after so many, in epochs of images that are not smaller."""
        return self.cost if self.is_small(cosine, epoch) else 1.0

    def mean_work(self, progress: float = 0.0) -> float:
        """Of the epochs that are left after a part of the training, on average."""
        left = max(0.0, self.share - progress) / (1 - progress)
        return left * self.cost + 1 - left
