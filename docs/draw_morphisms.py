"""Draw what each edit does: a small network before and after it, as docs/images/morphisms/NAME.svg.

  python -m docs.draw_morphisms

The edit is really applied. A red edge marks what goes, at the left, and at the right the nodes that
are new or whose arrays change.
"""

from __future__ import annotations

import pathlib

import jax
import matplotlib
from matplotlib.figure import Figure

import nash_jax as nj
from nash_jax import ops
from nash_jax.morphisms import (
    Blend,
    Bottleneck,
    Branch,
    Deepen,
    DeepenDense,
    Duplicate,
    Edit,
    FoldBatchNorm,
    GrowKernel,
    Insert,
    InsertSeparable,
    Remove,
    RemoveBranch,
    RemoveInput,
    RemoveUnits,
    SkipAdd,
    SkipConcat,
    Widen,
    WidenByCopies,
)
from nash_jax.reporting.pictures import draw_blocks

FOLDER = pathlib.Path(__file__).parent / "images" / "morphisms"


def network(*nodes: tuple[str, ops.Op]) -> nj.Architecture:
    """A chain of named ops on 8x8 images, and a classifier."""
    names = ["input", *(name for name, _ in nodes)]
    chain = [nj.Node(name, op, source) for (name, op), source in zip(nodes, names)]
    tail = [nj.Node("pool", ops.GlobalAvgPool(), names[-1])]
    tail.append(nj.Node("dense", ops.Dense(10), "pool"))
    return nj.Architecture((8, 8, 1), (*chain, *tail))


def plain() -> nj.Architecture:
    return network(
        *(("conv1", ops.Conv(4)), ("relu1", ops.Relu())),
        *(("conv2", ops.Conv(6)), ("relu2", ops.Relu())),
    )


def vectors() -> nj.Architecture:
    nodes = (
        *(nj.Node("flatten", ops.Flatten(), "input"), nj.Node("dense1", ops.Dense(20), "flatten")),
        *(nj.Node("relu1", ops.Relu(), "dense1"), nj.Node("dense2", ops.Dense(10), "relu1")),
    )
    return nj.Architecture((8, 8, 1), nodes)


#: The network and the edit; for the way back, another edit that goes before.
EXAMPLES: tuple[tuple[nj.Architecture, Edit | None, Edit], ...] = (
    (plain(), None, Insert("relu1", ops.BatchNorm())),
    (plain(), None, Deepen("relu1", kernel_size=3)),
    (vectors(), None, DeepenDense("relu1")),
    (plain(), None, InsertSeparable("relu1", kernel_size=3)),
    (plain(), None, Duplicate("relu1")),
    (plain(), None, Widen("conv1", features=8)),
    (plain(), None, WidenByCopies("conv1", features=8)),
    (plain(), None, SkipAdd("relu1", "relu2")),
    (plain(), None, SkipConcat("input", "relu1")),
    (plain(), None, Blend("conv1", "relu1", (ops.Tanh(),))),
    (plain(), None, Branch("input", "relu1", (ops.Conv(4, (5, 5)), ops.Relu()))),
    (plain(), None, GrowKernel("conv1", (5, 5))),
    (plain(), None, Bottleneck("conv2", features=8)),
    (plain(), Insert("relu1", ops.Conv(4)), Remove("conv3")),
    (plain(), Blend("conv1", "relu1", (ops.Tanh(),)), RemoveBranch("mix3")),
    (plain(), SkipConcat("input", "relu1"), RemoveInput("concat3", "input")),
    (plain(), Widen("conv1", features=8), RemoveUnits("conv1", (4, 5, 6, 7))),
    (
        network(("conv1", ops.Conv(4)), ("bn1", ops.BatchNorm()), ("relu1", ops.Relu())),
        *(None, FoldBatchNorm("bn1")),
    ),
)


def draw(spec: nj.Architecture, first: Edit | None, edit: Edit, folder: pathlib.Path) -> None:
    """One picture: the network before and after the edit."""
    key = jax.random.key(0)
    variables = nj.init(spec, key)
    if first is not None:
        spec, variables = first(spec, variables, key)
    edit.check(spec, variables)
    change = edit.change(spec)
    rows = max(len(spec.nodes), len(change.after.nodes)) + 1
    figure = Figure(figsize=(6.4, 0.42 * rows + 0.3), layout="constrained")
    gone = frozenset(spec.shapes) - frozenset(change.after.shapes)
    before, after = figure.subplots(1, 2)
    for axes, title, shown, marked in (
        (before, "before", spec, gone),
        (after, "after", change.after, change.touched),
    ):
        boxes = [["input"], *([node.name] for node in shown.nodes)]
        draw_blocks(axes, shown, boxes, marked)
        axes.set_xlim(-1.6, 1.9)
        axes.set_ylim(-rows + 0.4, 0.6)
        axes.set_title(title, fontsize=9)
    figure.savefig(folder / f"{type(edit).__name__}.svg", metadata={"Date": None, "Creator": None})


def main(folder: pathlib.Path = FOLDER) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # The same network gives the same bytes.
    with matplotlib.rc_context({"svg.hashsalt": "nash_jax", "svg.fonttype": "none"}):
        for spec, first, edit in EXAMPLES:
            draw(spec, first, edit, folder)


if __name__ == "__main__":
    main()
