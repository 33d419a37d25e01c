"""Pictures of a network and of a climb, as PNG or SVG by the file's ending."""

from __future__ import annotations

import io
import pathlib
from typing import assert_never

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from nash_jax.architecture import INPUT, Architecture, count_flops, count_params, ops

#: What the points and lines of every chart mean.
MORPHED, UNCHANGED, BEST = "#3d85c6", "#999999", "#cc4125"
#: The boxes of a network, by kind of op.
BOX_COLORS = {
    "conv": "#cfe2f3",
    "pool": "#d9ead3",
    "join": "#fce5cd",
    "dense": "#ead1dc",
    "other": "#eeeeee",
}


def draw_network(spec: Architecture, path: pathlib.Path) -> None:
    """Write `network_figure` to a file."""
    network_figure(spec).savefig(path, dpi=130)


def png(figure: Figure) -> bytes:
    """A figure as the content of a PNG file."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=130)
    return picture.getvalue()


def network_figure(spec: Architecture, marked: frozenset[str] = frozenset()) -> Figure:
    """A network from top to bottom; Conv-BatchNorm-activation chains are one box.

    Args:
      spec: the network.
      marked: boxes that hold one of these nodes get a thick red edge.
    """
    blocks = _blocks(spec)
    arcs = 0.15 * _longest(_edges(spec, blocks))
    inch = max(1.05, 0.033 * max(len(_label(spec, block)[0]) for block in blocks))
    size = (inch * (2.9 + arcs), 0.5 * len(blocks) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    draw_blocks(axes, spec, blocks, marked)
    axes.set_xlim(-1.75, 1.15 + arcs)
    axes.set_title(
        f"{count_params(spec):,} parameters, {count_flops(spec) / 1e6:,.1f} MFLOPs per image",
        fontsize=9,
    )
    return figure


def draw_blocks(
    axes: Axes, spec: Architecture, blocks: list[list[str]], marked: frozenset[str] = frozenset()
) -> None:
    """Draw boxes in a column, with the shape that each one outputs at its left.

    Arrows to the next box are straight; those that skip boxes are arcs on the right.

    Args:
      axes: to draw on; limits are set.
      spec: the network.
      blocks: the names of the nodes of each box, from top to bottom.
      marked: boxes that hold one of these nodes get a thick red edge.
    """
    edges = _edges(spec, blocks)
    for start, end in edges:
        skips = end - start > 1
        arrow = FancyArrowPatch(
            (1.0 if skips else 0.0, -start if skips else -start - 0.33),
            (1.0 if skips else 0.0, -end if skips else -end + 0.33),
            connectionstyle=f"arc3,rad={-0.55 if skips else 0}",
            arrowstyle="-|>",
            mutation_scale=9,
            color="#b45f06" if skips else "#444444",
            linewidth=1.1,
            shrinkA=0,
            shrinkB=0,
        )
        axes.add_patch(arrow)
    for number, block in enumerate(blocks):
        text, kind = _label(spec, block)
        edge, width = ("#cc0000", 2.0) if marked.intersection(block) else ("#888888", 1.0)
        style = "round,pad=0.02,rounding_size=0.08"
        box = FancyBboxPatch(
            (-1, -number - 0.31), 2, 0.62, style, fc=BOX_COLORS[kind], ec=edge, lw=width
        )
        axes.add_patch(box)
        axes.text(0, -number, text, ha="center", va="center", fontsize=8)
        shape = "x".join(map(str, spec.shapes[block[-1]]))
        axes.text(-1.08, -number, shape, ha="right", va="center", fontsize=7, color="#666666")
    axes.set_xlim(-1.75, 1.15 + 0.29 * _longest(edges))
    axes.set_ylim(-len(blocks) + 0.4, 0.6)
    axes.axis("off")


def _edges(spec: Architecture, blocks: list[list[str]]) -> list[tuple[int, int]]:
    """The arrows between boxes, by their numbers; short ones first."""
    row = {name: number for number, block in enumerate(blocks) for name in block}
    edges = {
        (row[source], row[node.name])
        for node in spec.nodes
        for source in node.inputs
        if row[source] != row[node.name]
    }
    return sorted(edges, key=lambda edge: (edge[1] - edge[0], edge))


def _longest(edges: list[tuple[int, int]]) -> int:
    return max((end - start for start, end in edges), default=1)


def _blocks(spec: Architecture) -> list[list[str]]:
    """The nodes in order, with normalisations and activations joined to the only node they read."""
    blocks = [[INPUT]]
    of: dict[str, list[str]] = {INPUT: blocks[0]}
    for node in spec.nodes:
        source = node.inputs[0]
        joins = (
            isinstance(node.op, ops.BatchNorm | ops.Activation)
            and source != INPUT
            and of[source][-1] == source
            and len(spec.readers[source]) == 1
        )
        if joins:
            of[source].append(node.name)
            of[node.name] = of[source]
        else:
            of[node.name] = [node.name]
            blocks.append(of[node.name])
    return blocks


def _label(spec: Architecture, block: list[str]) -> tuple[str, str]:
    """The text of a box, and the kind that decides its colour."""
    if block == [INPUT]:
        return "input", "other"
    op = spec[block[0]].op
    words = [ops.describe(op)] if not isinstance(op, ops.Normalize) else ["Normalize"]
    words += [type(spec[name].op).__name__ for name in block[1:]]
    text = f"{block[0]}: " + " - ".join(words).replace("BatchNorm", "BN")
    match op:
        case ops.Conv():
            return text, "conv"
        case ops.MaxPool() | ops.AvgPool() | ops.GlobalAvgPool():
            return text, "pool"
        case ops.ChannelwiseJoin() | ops.Concat():
            return text, "join"
        case ops.Dense():
            return text, "dense"
        case ops.Channelwise() | ops.Flatten() | ops.Normalize():
            return text, "other"
        case ops.PadChannels() | ops.Shuffle():
            return text, "other"
        case _:
            assert_never(op)
