"""Networks of stacked cells, as NASNet, ENAS, NSGA-Net and DARTS have them.

A cell reads the outputs of the two cells before it; each of its nodes joins two inputs, each behind
an op of its own. Ops are sequences of the library's ops, in the order of DARTS's code: ReLU first,
batch normalisation last. Maps are padded as JAX's 'SAME' does it; PyTorch pads stride 2 on the
other side, which shifts maps by a pixel.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from typing import ClassVar, NamedTuple, TypeAlias

from nash_jax.architecture import INPUT, Architecture, Shape, ops
from nash_jax.architecture.builders import Builder
from nash_jax.checks import did_you_mean
from nash_jax.spaces.choices import Genotype
from nash_jax.spaces.space import Stage
from nash_jax.spaces.supernet import Sharing, Supernet


class Read(NamedTuple):
    """What a node reads: a state of the cell, behind an op. States 0 and 1 are the inputs."""

    op: str
    state: int


class CellNode(NamedTuple):
    """A node of a cell: two reads, joined by 'add' or 'concat'."""

    reads: tuple[Read, Read]
    join: str = "add"


class Cell(NamedTuple):
    """A cell.

    Attributes:
      nodes: its nodes; the first is state 2.
      output: the states that are put side by side in its output.
    """

    nodes: tuple[CellNode, ...]
    output: tuple[int, ...]

    @classmethod
    def of(cls, nodes: Sequence[CellNode], output: Collection[int] | None = None) -> Cell:
        """A cell whose output has some states; by default those that no node reads."""
        read = {each.state for node in nodes for each in node.reads}
        unread = [state for state in range(2, len(nodes) + 2) if state not in read]
        return cls(tuple(nodes), tuple(unread if output is None else output))

    def canonical(self) -> tuple[object, ...]:
        """The same for cells that differ in the order of nodes or of what a node reads."""
        return min(self._renumbered(order) for order in self._orders())

    def _orders(self) -> Iterator[tuple[int, ...]]:
        """The orders in which every node comes after those that it reads."""
        for order in itertools.permutations(range(len(self.nodes))):
            place = {node: number for number, node in enumerate(order)}
            if all(
                place[read.state - 2] < place[node]
                for node in order
                for read in self.nodes[node].reads
                if read.state >= 2
            ):
                yield order

    def _renumbered(self, order: tuple[int, ...]) -> tuple[object, ...]:
        state_of = {0: 0, 1: 1, **{node + 2: place + 2 for place, node in enumerate(order)}}
        nodes = tuple(
            (tuple(sorted((r.op, state_of[r.state]) for r in self.nodes[node].reads)), join)
            for node in order
            for join in [self.nodes[node].join]
        )
        return nodes, tuple(sorted(state_of[state] for state in self.output))


def relu_conv_norm(
    b: Builder, x: str, features: int, *kernel_sizes: tuple[int, int], stride: int = 1
) -> str:
    """A Relu, convolutions one after the other, and batch normalisation.

    The stride is halved among the axes of two flat kernels: each has it along its own length.
    """
    x = b.add(ops.Relu(), x)
    for rows, columns in kernel_sizes:
        flat = len(kernel_sizes) > 1
        strides = (stride if not flat or rows > 1 else 1, stride if not flat or columns > 1 else 1)
        x = b.add(ops.Conv(features, (rows, columns), strides), x)
    return b.add(b.norm, x)


def depthwise_separable(
    b: Builder, x: str, features: int, kernel_size: int, stride: int = 1, dilation: int = 1
) -> str:
    """A Relu, a depthwise and a 1x1 convolution, and batch normalisation."""
    size, strides, dilations = (2 * (n,) for n in (kernel_size, stride, dilation))
    depthwise = ops.Conv(features, size, strides, groups=features, dilation=dilations)
    x = b.add(depthwise, b.add(ops.Relu(), x))
    return b.add(b.norm, b.add(ops.Conv(features, (1, 1)), x))


def factorized_reduction(b: Builder, x: str, features: int) -> str:
    """Half of the channels from every second pixel, half from the pixels between them.

    Raises:
      ValueError: for an odd number of features.
    """
    if features % 2:
        raise ValueError(
            f"channels must be even where a factorised reduction makes them; got {features}"
        )
    x = b.add(ops.Relu(), x)
    half = ops.Conv(features // 2, (1, 1), (2, 2))
    joined = b.add(ops.Concat(), b.add(half, x), b.add(half, b.add(ops.Shift(), x)))
    return b.add(b.norm, joined)


def squeeze_excitation(b: Builder, x: str, channels: int, reduction: int = 4) -> str:
    """Every channel times a number that all channels decide (Hu, Shen and Sun 2018)."""
    inner = b.add(ops.Dense(max(1, channels // reduction)), b.add(ops.GlobalAvgPool(), x))
    gate = b.add(ops.Dense(channels), b.add(ops.Relu(), inner))
    return b.add(ops.Gate(), x, b.add(ops.Sigmoid(), gate))


def shuffled_convolution(b: Builder, x: str, channels: int, size: int, stride: int) -> str:
    """The unit of ShuffleNet with 4 groups (Zhang et al. 2018), as wide within as without.

    Raises:
      ValueError: if the channels are no multiple of 4.
    """
    if channels % 4:
        raise ValueError(
            f"channels must be a multiple of 4 where groups of them are shuffled; got {channels}"
        )
    grouped = ops.Conv(channels, (1, 1), groups=4)
    depthwise = ops.Conv(channels, (size, size), (stride, stride), groups=channels)
    y = b.add(ops.Relu(), b.add(b.norm, b.add(grouped, x)))
    y = b.add(b.norm, b.add(depthwise, b.add(ops.Shuffle(4), y)))
    y = b.add(b.norm, b.add(grouped, y))
    around = x if stride == 1 else factorized_reduction(b, x, channels)
    return b.add(ops.Relu(), b.add(ops.Add(), y, around))


#: The ops by name: DARTS's, and those that other spaces have besides.
CELL_OPS = (
    *("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5"),
    *("dil_conv_3x3", "dil_conv_5x5", "sep_conv_7x7", "conv_7x1_1x7", "conv_3x1_1x3"),
    *("max_pool_5x5", "max_pool_7x7", "conv_1x1", "conv_3x3", "conv_7x7", "conv_11x11"),
    *("channel_weights", "shuffle_conv_3x3"),
)


def cell_op(b: Builder, op: str, x: str, channels: int, stride: int) -> str:
    """Apply an op of `CELL_OPS` to a map of as many channels as it is to have."""
    kind, _, size = op.rpartition("_")
    kernel_size = int(size.partition("x")[0]) if size[:1].isdigit() else 0
    match kind or op:
        case "none":
            return b.add(ops.Zero((stride, stride)), x)
        case "skip":
            return x if stride == 1 else factorized_reduction(b, x, channels)
        case "max_pool" | "avg_pool":
            pool = ops.MaxPool if kind == "max_pool" else ops.AvgPool
            return b.add(pool((kernel_size, kernel_size), (stride, stride), "SAME"), x)
        case "sep_conv":
            x = depthwise_separable(b, x, channels, kernel_size, stride)
            return depthwise_separable(b, x, channels, kernel_size)
        case "dil_conv":
            return depthwise_separable(b, x, channels, kernel_size, stride, dilation=2)
        case "conv":
            return relu_conv_norm(b, x, channels, (kernel_size, kernel_size), stride=stride)
        case "channel":
            x = squeeze_excitation(b, x, channels, reduction=16)
            if stride == 1:
                return x
            depthwise = ops.Conv(channels, (3, 3), (stride, stride), groups=channels)
            return b.add(b.norm, b.add(depthwise, x))
        case "shuffle_conv":
            return shuffled_convolution(b, x, channels, kernel_size, stride)
        case "conv_7x1" | "conv_3x1":
            length = int(op[-1])
            return relu_conv_norm(b, x, channels, (1, length), (length, 1), stride=stride)
        case _:
            raise ValueError(f"an op must be one of {', '.join(CELL_OPS)}; got {op!r}")


def mixed_op(
    b: Builder, supernet: Supernet, edge: str, reads: Iterable[tuple[str, int, str]], place: Place
) -> str:
    """An edge of a supernet: the weighted sum of its choices.

    Pools are normalised as all others are.

    Args:
      b: takes the nodes.
      supernet: whose edge it is.
      edge: its name.
      reads: of each choice the op, the state that it reads, and the node of that.
      place: where the cell stands.
    """
    added = []
    for op, state, x in reads:
        y = cell_op(b, op, x, place.channels, place.stride(state))
        if "pool" in op:
            y = b.add(b.norm, y)
        elif y == x and supernet.drops_skips:
            y = b.add(ops.DropPath(), y)
        added.append(y)
    return b.add(ops.WeightedSum(edge), *added)


def check_op(op: str, allowed: Sequence[str]) -> None:
    """Raises `ValueError` unless the op is one of a space's."""
    if op not in allowed:
        raise ValueError(
            f"an op must be one of {', '.join(allowed)}; got {op!r}{did_you_mean(op, allowed)}"
        )


def cell_network(
    normal: Cell,
    reduction: Cell,
    channels: int,
    cells: int,
    input_shape: Shape = (32, 32, 3),
    num_classes: int = 10,
    normalize: ops.Normalize | None = None,
    reductions: Collection[int] | None = None,
    increment: int = 0,
) -> Architecture:
    """The network for CIFAR that NASNet and all after it have: a stem, cells, and a dense layer.

    Args:
      normal: the cell that keeps the map.
      reduction: the cell that halves it.
      channels: of each node in the first cells.
      cells: how many there are.
      input_shape: `(height, width, channels)` of one image.
      num_classes: number of logits.
      normalize: how raw pixels are normalised, if the network is to do it.
      reductions: the numbers of the cells that halve the map, from 0; by default those after a
        third and after two thirds.
      increment: how many more channels there are from a reduction on; 0: twice as many.

    >>> import nash_jax as nj
    >>> node = CellNode((Read('sep_conv_3x3', 0), Read('skip_connect', 1)))
    >>> cell = Cell.of([node])
    >>> nj.count_params(cell_network(cell, cell, channels=8, cells=3))
    8210
    """
    return stacked(
        functools.partial(_cell, normal, reduction),
        Builder(),
        Stack(channels, cells, reductions, increment),
        input_shape=input_shape,
        num_classes=num_classes,
        normalize=normalize,
    )


class Place(NamedTuple):
    """Where a cell stands.

    Attributes:
      channels: of each of its nodes.
      reduces: whether it halves the map.
      depth: how far down the network it lies, in (0, 1].
    """

    channels: int
    reduces: bool
    depth: float

    @property
    def kind(self) -> str:
        """The kind of the cell, with which the names of its edges begin."""
        return KINDS[self.reduces]

    def stride(self, state: int) -> int:
        """The stride of what reads a state: 2 behind the inputs of a reduction cell."""
        return 2 if self.reduces and state < 2 else 1


class Stack(NamedTuple):
    """How cells are stacked; see `cell_network`."""

    channels: int
    cells: int
    reductions: Collection[int] | None = None
    increment: int = 0


#: The kinds of cells: in this order they stand in a genotype.
KINDS = ("normal", "reduce")
#: Adds a cell behind its two inputs, and gives the states of its output.
AddCell: TypeAlias = Callable[[Builder, list[str], Place], list[str]]


def stacked(
    add_cell: AddCell,
    b: Builder,
    stack: Stack,
    *,
    input_shape: Shape,
    num_classes: int,
    normalize: ops.Normalize | None,
) -> Architecture:
    """A stem, cells, and a dense layer, whatever the cells are."""
    channels, cells, reductions, increment = stack
    if reductions is None:
        reductions = {cells // 3, 2 * cells // 3}
    x = INPUT if normalize is None else b.add(normalize, INPUT)
    stem = b.add(ops.BatchNorm(), b.add(ops.Conv(3 * channels), x))
    states, reduced = [stem, stem], False
    depths = [(number + 1) / cells for number in range(cells)]
    for number, depth in enumerate(depths):
        reduces = number in reductions
        if reduces:
            channels = channels + increment if increment else 2 * channels
        before, last = states
        before = (
            factorized_reduction(b, before, channels)
            if reduced
            else relu_conv_norm(b, before, channels, (1, 1))
        )
        inputs = [before, relu_conv_norm(b, last, channels, (1, 1))]
        output = add_cell(b, inputs, Place(channels, reduces, depth))
        states, reduced = [last, b.named(f"cell{number}", ops.Concat(), *output)], reduces
    return b.classify(states[-1], num_classes, input_shape)


def _cell(normal: Cell, reduction: Cell, b: Builder, inputs: list[str], place: Place) -> list[str]:
    """Add a cell, and give the states of its output."""
    states, cell = list(inputs), reduction if place.reduces else normal
    for node in cell.nodes:
        read = []
        for op, state in node.reads:
            x = cell_op(b, op, states[state], place.channels, place.stride(state))
            passes_on = x == states[state] or op == "none"
            read.append(x if passes_on else b.add(ops.DropPath(place.depth), x))
        if node.join == "concat":  # as wide as all other states
            joined = b.add(ops.Concat(), *read)
            states.append(relu_conv_norm(b, joined, place.channels, (1, 1)))
        else:
            states.append(b.add(ops.Add(), *read))
    return [states[state] for state in cell.output]


@dataclasses.dataclass(frozen=True)
class CellSpace(Sharing):
    """A space of a normal and a reduction cell, to inherit from; halves of a genotype are cells.

    Attributes:
      channels: of the final network's first cells.
      cells: of the final network.
      search_channels: of the first cells of a network of the search, which has not more channels
        than the final one.
      search_cells: of a network of the search, likewise.
      op_names: what an edge of a cell may be.
    """

    channels: int = 36
    cells: int = 20
    search_channels: int = 16
    search_cells: int = 8

    op_names: ClassVar[tuple[str, ...]] = ()

    @property
    def increment(self) -> int:
        """How many channels a reduction adds; 0: as many as there are."""
        return 0

    def stack(self, stage: Stage) -> Stack:
        """How cells are stacked."""
        if stage == "final":
            return Stack(self.channels, self.cells, None, self.increment)
        channels = min(self.search_channels, self.channels)
        return Stack(channels, min(self.search_cells, self.cells), None, self.increment)

    def mixed_cell(
        self, supernet: Supernet, b: Builder, inputs: list[str], place: Place
    ) -> list[str]:
        """Add a cell of the supernet, and give the states of its output."""
        raise NotImplementedError

    def cell(self, places: Sequence[int]) -> Cell:
        """The cell of one half of a genotype."""
        raise NotImplementedError

    def cells_of(self, genotype: Genotype) -> tuple[Cell, Cell]:
        """The normal and the reduction cell."""
        half = len(genotype) // 2
        return self.cell(genotype[:half]), self.cell(genotype[half:])

    def canonical(self, genotype: Genotype) -> Hashable:
        """The same for genotypes that differ in the order of nodes or of a node's inputs alone."""
        return tuple(cell.canonical() for cell in self.cells_of(genotype))

    def build_one(self, genotype: Genotype, stage: Stage) -> Architecture:
        """The network of a genotype, without an auxiliary head."""
        self.check(genotype)
        add_cell = functools.partial(_cell, *self.cells_of(genotype))
        return self._stacked(Builder(), self.stack(stage), add_cell)

    def build_supernet(self, supernet: Supernet) -> Architecture:
        """The network of a supernet; normalisations but the first have no scale and bias."""
        stack = self.stack("search")
        stack = stack._replace(cells=supernet.cells or stack.cells)
        add_cell = functools.partial(self.mixed_cell, supernet)
        return self._stacked(Builder(ops.Standardize()), stack, add_cell)

    def _stacked(self, b: Builder, stack: Stack, add_cell: AddCell) -> Architecture:
        return stacked(
            add_cell,
            b,
            stack,
            input_shape=self.input_shape,
            num_classes=self.num_classes,
            normalize=self.normalize,
        )
