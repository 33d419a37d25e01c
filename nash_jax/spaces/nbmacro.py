"""The space of NAS-Bench-Macro (Su et al., CVPR 2021): chains of inverted residuals."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import ClassVar, TypeAlias

import numpy as np

from nash_jax.architecture import INPUT, Architecture, EdgeWeights, ops
from nash_jax.architecture.builders import Builder
from nash_jax.spaces.choices import Genotype
from nash_jax.spaces.space import Stage
from nash_jax.spaces.supernet import Edge, Sharing, Supernet

#: What a block may be, by its number in a genotype: the kernel and the expansion, or nothing.
BLOCKS = (None, (3, 3), (5, 6))
#: Their names.
BLOCK_NAMES = ("none", "mb3_3x3", "mb6_5x5")
#: How many blocks each stage has.
STAGES = (2, 3, 3)
#: Adds a block: `(builder, node, place of the block, channels in, channels out) -> node`.
AddBlock: TypeAlias = Callable[[Builder, str, int, int, int], str]


@dataclasses.dataclass(frozen=True)
class NBMacro(Sharing):
    """Eight blocks in a row, each an inverted residual (Sandler et al. 2018) or nothing.

    The first block of a stage halves the map and doubles the channels; where it is nothing, a 1x1
    convolution does. Activations are Relu, where the benchmark has Relu6.

    Attributes:
      channels: in front of the first stage.
      head: of the last convolution.

    >>> NBMacro().size
    6561
    """

    channels: int = 32
    head: int = 1280

    sizes: ClassVar = (3,) * sum(STAGES)
    usual: ClassVar = (1,) * sum(STAGES)

    def canonical(self, genotype: Genotype) -> tuple[tuple[int, ...], ...]:
        """By stage, its first block and what others there are: nothing may stand anywhere.

        >>> NBMacro().canonical((1, 0, 0, 0, 2, 1, 2, 0))
        ((1,), (0, 2), (1, 2))
        """
        stages, left = [], genotype
        for num_blocks in STAGES:
            (first, *others), left = left[:num_blocks], left[num_blocks:]
            stages.append((first, *filter(None, others)))
        return tuple(stages)

    def build_one(self, genotype: Genotype, stage: Stage) -> Architecture:
        """The network of a genotype, the same for the search and the end."""
        del stage
        self.check(genotype)

        def add_block(b: Builder, x: str, place: int, channels: int, features: int) -> str:
            return _block(b, x, BLOCKS[genotype[place]], channels, features)

        return self._chained(add_block)

    @property
    def edges(self) -> tuple[Edge, ...]:
        """The edges of the supernet: a block each."""
        return tuple(Edge(f"block{place}", BLOCK_NAMES) for place in range(sum(STAGES)))

    def build_supernet(self, supernet: Supernet) -> Architecture:
        """The network of a supernet."""

        def add_block(b: Builder, x: str, place: int, channels: int, features: int) -> str:
            name, choices = supernet.edges[place]
            blocks = [BLOCKS[BLOCK_NAMES.index(choice)] for choice in choices]
            mixed = (_block(b, x, block, channels, features) for block in blocks)
            return b.add(ops.WeightedSum(name), *mixed)

        return self._chained(add_block)

    def chosen(self, genotype: Genotype) -> dict[str, str]:
        """By edge, the block that a genotype has there."""
        return {edge.name: BLOCK_NAMES[block] for edge, block in zip(self.edges, genotype)}

    def derive(self, weights: EdgeWeights, left: Supernet | None = None) -> Genotype:
        """For each place the block with most weight."""
        edges = (self.whole() if left is None else left).edges
        return tuple(
            BLOCK_NAMES.index(choices[int(np.argmax(weights[name]))]) for name, choices in edges
        )

    def _chained(self, add_block: AddBlock) -> Architecture:
        b, places, channels = Builder(), itertools.count(), self.channels
        x = INPUT if self.normalize is None else b.add(self.normalize, INPUT)
        x = b.conv_norm_relu(x, channels)
        for num_blocks in STAGES:
            for number in range(num_blocks):
                features = channels if number else 2 * channels
                x = add_block(b, x, next(places), channels, features)
                channels = features
        x = b.conv_norm_relu(x, self.head, kernel_size=1)
        return b.classify(x, self.num_classes, self.input_shape)


def _block(b: Builder, x: str, block: tuple[int, int] | None, channels: int, features: int) -> str:
    """An inverted residual; of stride 2 where the channels change."""
    stride = 1 if features == channels else 2
    if block is None:
        if stride == 1:
            return x
        return b.add(ops.BatchNorm(), b.add(ops.Conv(features, (1, 1), (stride, stride)), x))
    kernel_size, expansion = block
    inner = expansion * channels
    y = b.conv_norm_relu(x, inner, kernel_size=1)
    y = b.conv_norm_relu(y, inner, kernel_size=kernel_size, stride=stride, groups=inner)
    y = b.add(ops.BatchNorm(), b.add(ops.Conv(features, (1, 1)), y))
    return b.add(ops.Add(), x, y) if stride == 1 else y
