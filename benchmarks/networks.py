"""Networks that several benchmarks train by hand."""

from __future__ import annotations

from nash_jax import ops
from nash_jax.architecture import Architecture
from nash_jax.architecture.builders import Builder


def plain(input_shape: tuple[int, ...], num_classes: int, normalize: ops.Normalize) -> Architecture:
    """Five normalised convolutions, two poolings, a global mean and a dense layer."""
    b = Builder()
    x = b.add(normalize, "input")
    for number, width in enumerate((16, 16, 32, 32, 64)):
        if number in (2, 4):
            x = b.add(ops.MaxPool(), x)
        x = b.conv_norm_relu(x, width)
    return b.classify(x, num_classes, input_shape)
