"""Ready-made specs."""

from __future__ import annotations

from collections.abc import Sequence

from nash_jax.architecture import ops
from nash_jax.architecture.shapes import Shape
from nash_jax.architecture.spec import INPUT, Architecture, Node


def chain(
    input_shape: Shape,
    num_classes: int,
    widths: Sequence[int | Sequence[int]] = (64, 128, 256),
    normalize: ops.Normalize | None = None,
) -> Architecture:
    """The paper's starting network: Conv-MaxPool-Conv-MaxPool-Conv-FC (NASH, section 5.1.1).

    Conv means Conv-BatchNorm-Relu, as in the paper's footnote 3; softmax is left to the loss.

    Args:
      input_shape: `(height, width, channels)` of one image.
      num_classes: number of logits.
      widths: channels of the convolutions, with 2x2 max pooling between them. An entry that is
        itself a sequence is several convolutions without pooling: `((32, 32), (64, 64))`.
      normalize: how raw pixels are normalised, if the network is to do it.

    Raises:
      ValueError: if a width is not a whole number >= 1 or the images are too small for the pooling.

    >>> [node.name for node in chain((8, 8, 1), 10, widths=(16, 32)).nodes]
    ['conv1', 'bn1', 'relu1', 'pool1', 'conv2', 'bn2', 'relu2', 'flatten', 'dense']
    """
    if not isinstance(widths, Sequence):
        raise ValueError(f"widths must be a sequence of whole numbers; got {widths!r}")
    stages = [(w,) if isinstance(w, int) else tuple(w) for w in widths]
    if not stages or not all(stages):
        raise ValueError(f"widths must name at least one convolution per stage; got {widths!r}")
    if len(input_shape) == 3 and min(input_shape[:2]) < 2 ** (len(stages) - 1):
        raise ValueError(
            f"images of {input_shape[0]}x{input_shape[1]} are too small for {len(stages) - 1} "
            f"poolings by 2; use larger images or {min(input_shape[:2]).bit_length()} widths"
        )
    nodes: list[Node] = []

    def append(name: str, op: ops.Op) -> None:
        nodes.append(Node(name, op, nodes[-1].name if nodes else INPUT))

    if normalize is not None:
        append("normalize", normalize)
    number = 0
    for stage, stage_widths in enumerate(stages, start=1):
        for width in stage_widths:
            number += 1
            append(f"conv{number}", ops.Conv(width))
            append(f"bn{number}", ops.BatchNorm())
            append(f"relu{number}", ops.Relu())
        if stage < len(stages):
            append(f"pool{stage}", ops.MaxPool())
    append("flatten", ops.Flatten())
    append("dense", ops.Dense(num_classes))
    return Architecture(input_shape, tuple(nodes))
