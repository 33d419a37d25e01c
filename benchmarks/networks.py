"""What several benchmarks train by hand, and how."""

from __future__ import annotations

from typing import Any

from nash_jax import ops
from nash_jax.architecture import Architecture
from nash_jax.architecture.builders import Builder
from nash_jax.data import Dataset
from nash_jax.runs.planning import for_images
from nash_jax.training import TrainingSettings


def plain(input_shape: tuple[int, ...], num_classes: int, normalize: ops.Normalize) -> Architecture:
    """Five normalised convolutions, two poolings, a global mean and a dense layer."""
    b = Builder()
    x = b.add(normalize, "input")
    for number, width in enumerate((16, 16, 32, 32, 64)):
        if number in (2, 4):
            x = b.add(ops.MaxPool(), x)
        x = b.conv_norm_relu(x, width)
    return b.classify(x, num_classes, input_shape)


def as_planned(dataset: Dataset, **changed: Any) -> TrainingSettings:
    """How a data set is trained on: what plans take from its images, and the settings given."""
    settings = {**for_images(dataset), **changed}
    del settings["widths"]
    return TrainingSettings(**settings)
