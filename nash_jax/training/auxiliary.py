"""A second classifier in the middle of a network of cells, in training alone (Szegedy et al. 2015).

As in DARTS: it reads the output of the cell after two thirds of all cells; in `resnet50`, that of
the second stage (Yang et al. 2020, appendix A.3.1). Networks are counted, evaluated, kept and
exported without it.
"""

from __future__ import annotations

import re

import jax

from nash_jax.architecture import Architecture, Node, Variables, init, ops
from nash_jax.training.settings import TrainingSettings

#: The names of a tower's nodes begin with it.
PREFIX = "auxiliary."
#: Features of its two convolutions.
WIDTHS = (128, 768)


def check_tower(spec: Architecture) -> None:
    """Raises `ValueError` unless the network has cells, or stages."""
    if not _place(spec):
        raise ValueError(
            "auxiliary_weight needs a network of cells, as those of the spaces darts, enas, nasnet "
            f"and nsganet, or resnet50; got another, of {len(spec.nodes)} nodes; take "
            "auxiliary_weight 0"
        )


def _place(spec: Architecture) -> str:
    """The node that a tower reads; none if the network has no place for it."""
    for kind, part, of in (("cell", 2, 3), ("stage", 1, 2)):  # cells are numbered from 0
        if found := [n.name for n in spec.nodes if re.fullmatch(rf"{kind}\d+", n.name)]:
            return f"{kind}{part * len(found) // of}"
    return ""


def tower_of(spec: Architecture) -> Architecture:
    """The network with a tower: its logits are the network's, and behind them the tower's.

    Pooling by 5 with stride 3, a 1x1 and a 2x2 convolution, and a dense layer; on maps smaller than
    8x8, windows are as large as there is room for.

    Raises:
      ValueError: if the network has no cells and no stages.
    """
    check_tower(spec)
    place = _place(spec)
    pooled = [min(5, size) for size in spec.shapes[place][:2]]
    kernel = tuple(
        min(2, (size - window) // 3 + 1) for size, window in zip(spec.shapes[place], pooled)
    )
    layers: dict[str, ops.Op] = {
        "relu0": ops.Relu(),
        "pool": ops.AvgPool((pooled[0], pooled[1]), (3, 3)),
        "conv1": ops.Conv(WIDTHS[0], (1, 1)),
        "bn1": ops.BatchNorm(),
        "relu1": ops.Relu(),
        "conv2": ops.Conv(WIDTHS[1], (kernel[0], kernel[1]), padding="VALID"),
        "bn2": ops.BatchNorm(),
        "relu2": ops.Relu(),
        "mean": ops.GlobalAvgPool(),
        "dense": ops.Dense(spec.num_classes),
    }
    nodes, last = list(spec.nodes), place
    for name, op in layers.items():
        nodes.append(Node(PREFIX + name, op, last))
        last = nodes[-1].name
    nodes.append(Node(PREFIX + "both", ops.Concat(), (spec.output, last)))
    return Architecture(spec.input_shape, tuple(nodes))


def with_tower(
    spec: Architecture, variables: Variables, key: jax.Array, settings: TrainingSettings
) -> tuple[Architecture, Variables]:
    """The network that a training trains, and its variables; those of a tower are drawn.

    Args:
      spec: the network.
      variables: its arrays; of a population, with a first axis `[members]`.
      key: of the training; of a population `[members]`.
      settings: how it is trained; without an auxiliary loss, network and variables stay.

    Raises:
      ValueError: if there is an auxiliary loss, and the network has no place for it.
    """
    if not settings.auxiliary_weight:
        return spec, variables
    tower = tower_of(spec)

    def drawn(key: jax.Array) -> Variables:
        return init(tower, jax.random.fold_in(key, len(tower.nodes)))

    typed = jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)
    several = key.ndim > (0 if typed else 1)
    new = (jax.vmap(drawn) if several else drawn)(key)
    return tower, {
        collection: {
            **variables.get(collection, {}),
            **{name: arrays for name, arrays in nodes.items() if name.startswith(PREFIX)},
        }
        for collection, nodes in new.items()
    }


def without_tower(spec: Architecture, variables: Variables) -> Variables:
    """The variables of a network alone."""
    names = {node.name for node in spec.nodes}
    return {
        collection: {name: arrays for name, arrays in nodes.items() if name in names}
        for collection, nodes in variables.items()
    }
