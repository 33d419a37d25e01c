"""Progressive resizing: a training begins with smaller images (Howard 2018, for DAWNBench).

Most of what a network learns early it learns from small images too, at a third of the cost. The
weights are the same for all sizes where a network ends in a global mean.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from nash_jax.architecture import Architecture, count_flops
from nash_jax.data import Examples
from nash_jax.training.augment import resized
from nash_jax.training.settings import TrainingSettings
from nash_jax.training.sgdr import Cosine

#: The edges of the smaller images, as a part of those of the images: 20 pixels of 32.
SCALE = 5 / 8


def smaller(spec: Architecture) -> Architecture | None:
    """The network for smaller images, or None if its weights are of one size of images."""
    height, width, channels = spec.input_shape
    try:
        found = Architecture((round(SCALE * height), round(SCALE * width), channels), spec.nodes)
    except ValueError:  # maps that are pooled to nothing, or do not fit together
        return None
    alike = all(found.shapes[name][-1] == shape[-1] for name, shape in spec.shapes.items())
    return found if alike else None


def smaller_examples(examples: Examples, size: tuple[int, ...]) -> Examples:
    """Examples whose images are made smaller, to `(height, width)`, where they are: here or there.

    They are made smaller by thousands, because they are floats in between.
    """
    parts = [
        _resized(examples.images[first : first + 1_000], size)
        for first in range(0, len(examples), 1_000)
    ]
    images = (
        np.concatenate([np.asarray(part) for part in parts])
        if isinstance(examples.images, np.ndarray)
        else jnp.concatenate(parts)
    )
    return dataclasses.replace(examples, images=images)


_resized = functools.partial(jax.jit, static_argnames="size")(resized)


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
        """That of a network, by its FLOPs; none if there is none for smaller images."""
        small = smaller(spec) if share else None
        return cls() if small is None else cls(share, count_flops(small) / count_flops(spec))

    def is_small(self, cosine: Cosine, epoch: int) -> bool:
        """Whether the epoch after so many has smaller images."""
        return cosine.progress(epoch) < self.share

    def work(self, cosine: Cosine, epoch: int) -> float:
        """Of the epoch after so many, in epochs of images that are not smaller."""
        return self.cost if self.is_small(cosine, epoch) else 1.0

    def mean_work(self, progress: float = 0.0) -> float:
        """Of the epochs that are left after a part of the training, on average."""
        left = max(0.0, self.share - progress) / (1 - progress)
        return left * self.cost + 1 - left
