"""What a node of a network computes: one frozen dataclass per operation.

An op is data. What it does to shapes is in `shapes`, what it costs in `cost`, how it is run in
`network`. Images are `[batch, height, width, channels]`; per-image shapes leave the batch out, so a
feature map is `(height, width, channels)` and a vector is `(features,)`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar, TypeAlias

Pair: TypeAlias = tuple[int, int]

# Larger sizes are mistakes or hostile input.
LARGEST_SIZE = 2**31 - 1


def _require(op: object, rule: str, holds: bool, field: str) -> None:
    if not holds:
        raise ValueError(f"{type(op).__name__}.{field} must be {rule}; got {getattr(op, field)!r}")


def _is_size(value: Any, least: int = 1) -> bool:
    return type(value) is int and least <= value <= LARGEST_SIZE


def _check_sizes(op: object, *fields: str, least: int = 1) -> None:
    for field in fields:
        value = getattr(op, field)
        rule = f"a whole number >= {least} and <= {LARGEST_SIZE}"
        _require(op, rule, _is_size(value, least), field)


def _check_pairs(op: object, *fields: str) -> None:
    """Store each field as `(height, width)`; one whole number stands for both."""
    for field in fields:
        value = getattr(op, field)
        pair = (value, value) if type(value) is int else value
        pair = tuple(pair) if isinstance(pair, list) else pair
        holds = isinstance(pair, tuple) and len(pair) == 2 and all(map(_is_size, pair))
        _require(op, "a whole number >= 1 or a pair of them", holds, field)
        object.__setattr__(op, field, pair)


def _check_bool(op: object, field: str) -> None:
    _require(op, "True or False", type(getattr(op, field)) is bool, field)


def _check_padding(op: Any) -> None:
    _require(op, "'SAME' or 'VALID'", op.padding in ("SAME", "VALID"), "padding")


def _check_number(op: object, field: str, rule: str, least: float, below: float) -> None:
    value = getattr(op, field)
    holds = type(value) in (int, float) and least <= value < below
    _require(op, rule, holds, field)
    object.__setattr__(op, field, float(value))


class Channelwise:
    """Each channel of the output is made of the same channel of the one input."""


class Elementwise(Channelwise):
    """The output has the shape of the one input."""


class ChannelwiseJoin:
    """Each channel of the output is made of the same channel of every input."""


@dataclasses.dataclass(frozen=True)
class Conv:
    """Convolution. `kernel_size`, `stride` and `dilation` take one number or `(height, width)`.

    `groups` equal to the number of input channels makes it depthwise. No bias by default, because
    batch normalisation follows.
    """

    features: int
    kernel_size: Pair = (3, 3)
    stride: Pair = (1, 1)
    groups: int = 1
    dilation: Pair = (1, 1)
    use_bias: bool = False
    padding: str = "SAME"

    def __post_init__(self) -> None:
        _check_sizes(self, "features", "groups")
        _check_pairs(self, "kernel_size", "stride", "dilation")
        _check_bool(self, "use_bias")
        _check_padding(self)
        rule = f"a multiple of groups={self.groups}"
        _require(self, rule, self.features % self.groups == 0, "features")


@dataclasses.dataclass(frozen=True)
class BatchNorm(Elementwise):
    """Batch normalisation over all axes but the last (Ioffe & Szegedy 2015).

    `momentum` is the weight of the old running statistics in each update.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        _check_number(self, "momentum", "a number in [0, 1)", 0.0, 1.0)
        _check_number(self, "epsilon", "a number in (0, 1)", 1e-30, 1.0)


@dataclasses.dataclass(frozen=True)
class Standardize(Elementwise):
    """Batch normalisation without a scale and a bias to learn.

    Networks of shared weights have it, because a scale would undo the weight of a path.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        _check_number(self, "momentum", "a number in [0, 1)", 0.0, 1.0)
        _check_number(self, "epsilon", "a number in (0, 1)", 1e-30, 1.0)


@dataclasses.dataclass(frozen=True)
class Affine(Elementwise):
    """`scale * x + bias` per channel, both learnable."""


@dataclasses.dataclass(frozen=True)
class Relu(Elementwise):
    """`max(x, 0)`: the idempotent activation."""


@dataclasses.dataclass(frozen=True)
class LeakyRelu(Elementwise):
    """`x` where positive, `negative_slope * x` elsewhere."""

    negative_slope: float = 0.01

    def __post_init__(self) -> None:
        _check_number(self, "negative_slope", "a number in [0, 1)", 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Elu(Elementwise):
    """`x` where positive, `exp(x) - 1` elsewhere."""


@dataclasses.dataclass(frozen=True)
class Gelu(Elementwise):
    """`x * Phi(x)`, the exact form."""


@dataclasses.dataclass(frozen=True)
class Silu(Elementwise):
    """`x * sigmoid(x)`, also called swish."""


@dataclasses.dataclass(frozen=True)
class Tanh(Elementwise):
    """The hyperbolic tangent."""


@dataclasses.dataclass(frozen=True)
class Sigmoid(Elementwise):
    """`1 / (1 + exp(-x))`."""


@dataclasses.dataclass(frozen=True)
class MaxPool(Channelwise):
    """Maximum over windows. `stride` defaults to the window, so that windows do not overlap."""

    window: Pair = (2, 2)
    stride: Pair | None = None
    padding: str = "VALID"

    def __post_init__(self) -> None:
        _check_pool(self)


@dataclasses.dataclass(frozen=True)
class AvgPool(Channelwise):
    """Mean over windows; padding is left out of the mean. `stride` defaults to the window."""

    window: Pair = (2, 2)
    stride: Pair | None = None
    padding: str = "VALID"

    def __post_init__(self) -> None:
        _check_pool(self)


def _check_pool(op: MaxPool | AvgPool) -> None:
    if op.stride is None:
        object.__setattr__(op, "stride", op.window)
    _check_pairs(op, "window", "stride")
    _check_padding(op)


@dataclasses.dataclass(frozen=True)
class GlobalAvgPool(Channelwise):
    """Mean over height and width: `(height, width, channels)` to `(channels,)`."""


@dataclasses.dataclass(frozen=True)
class Flatten:
    """`(height, width, channels)` to `(height * width * channels,)`, channels fastest.

    `scale` multiplies all values. A step of gradient descent on a dense layer behind it then moves
    that layer's outputs `scale**2` times as far; how far also grows with the number of values. With
    a `length`, the values are also multiplied by `length` and divided by the square root of their
    number, so that a step moves the outputs as far as before when the map becomes wider. Edits
    multiply the weights of the dense layer by the inverse.
    """

    scale: float = 1.0
    length: float = 0.0

    def __post_init__(self) -> None:
        _check_number(self, "scale", "a number > 0 and finite", 1e-30, 1e30)
        _check_number(self, "length", "a number >= 0 and finite", 0, 1e30)

    def factor(self, features: int) -> float:
        """The number by which each value is multiplied, if there are `features` values.

        >>> Flatten(length=16).factor(8 * 8 * 256)
        0.125
        """
        return self.scale * (self.length / math.sqrt(features) if self.length else 1.0)


@dataclasses.dataclass(frozen=True)
class Dense:
    """Fully connected layer on a vector."""

    features: int
    use_bias: bool = True

    def __post_init__(self) -> None:
        _check_sizes(self, "features")
        _check_bool(self, "use_bias")


@dataclasses.dataclass(frozen=True)
class Dropout(Elementwise):
    """In training, zeroes each value with probability `rate` and scales the others up."""

    rate: float = 0.5

    def __post_init__(self) -> None:
        _check_number(self, "rate", "a number in [0, 1)", 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class DropPath(Elementwise):
    """In training, drops an image's whole map, and scales the others up (Larsson et al. 2017).

    How often, a training's settings say. `depth` is how far down the network it lies, from 0 to 1.
    """

    depth: float = 1.0

    def __post_init__(self) -> None:
        _check_number(self, "depth", "a number in [0, 1]", 0.0, 1.0 + 1e-9)


@dataclasses.dataclass(frozen=True)
class Identity(Elementwise):
    """Passes its input on."""


@dataclasses.dataclass(frozen=True)
class Normalize:
    """`(x - mean) / std` per channel, with constants: takes raw pixels to the network's range."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for field in ("mean", "std"):
            value = getattr(self, field)
            holds = isinstance(value, tuple | list) and all(
                type(v) in (int, float) and abs(v) < 1e30 for v in value
            )
            _require(self, "a tuple of numbers below 1e30", holds and len(value) > 0, field)
            object.__setattr__(self, field, tuple(map(float, value)))
        rule = "positive numbers, as many as in mean"
        holds = len(self.std) == len(self.mean) and min(self.std) > 0
        _require(self, rule, holds, "std")


@dataclasses.dataclass(frozen=True)
class PadChannels:
    """Adds channels of zeros before and after the others (option A of He et al. 2016)."""

    before: int = 0
    after: int = 0

    def __post_init__(self) -> None:
        _check_sizes(self, "before", "after", least=0)


@dataclasses.dataclass(frozen=True)
class Zero(Channelwise):
    """Zeros: an edge of a cell that carries nothing. Of every `stride` pixels one is left."""

    stride: Pair = (1, 1)

    def __post_init__(self) -> None:
        _check_pairs(self, "stride")


@dataclasses.dataclass(frozen=True)
class Shift(Channelwise):
    """Moves a feature map up and to the left by some pixels; zeros come in.

    With stride 2 behind it, it reads the pixels that stride 2 alone leaves out: half of DARTS's
    factorised reduction.
    """

    rows: int = 1
    columns: int = 1

    def __post_init__(self) -> None:
        _check_sizes(self, "rows", "columns", least=0)


@dataclasses.dataclass(frozen=True)
class Resize(Channelwise):
    """A feature map of another height and width; each pixel is that of the nearest place."""

    height: int
    width: int

    def __post_init__(self) -> None:
        _check_sizes(self, "height", "width")


@dataclasses.dataclass(frozen=True)
class Shuffle:
    """Takes one channel of each of `groups` blocks in turn (Zhang et al. 2018)."""

    groups: int

    def __post_init__(self) -> None:
        _check_sizes(self, "groups")


@dataclasses.dataclass(frozen=True)
class Gate(ChannelwiseJoin):
    """Every channel of a feature map times a number: inputs `(map, vector)` (Hu et al. 2018)."""

    num_inputs: ClassVar[tuple[int, int]] = (2, 2)


@dataclasses.dataclass(frozen=True)
class Add(ChannelwiseJoin):
    """Sum of two or more inputs of one shape."""

    num_inputs: ClassVar[tuple[int, int]] = (2, LARGEST_SIZE)


@dataclasses.dataclass(frozen=True)
class Concat:
    """Inputs side by side along the last axis."""

    num_inputs: ClassVar[tuple[int, int]] = (2, LARGEST_SIZE)


@dataclasses.dataclass(frozen=True)
class Mix(ChannelwiseJoin):
    """`lambda * f + (1 - lambda) * h` for inputs `(f, h)`, lambda learnable (NASH, eq. 6)."""

    num_inputs: ClassVar[tuple[int, int]] = (2, 2)


@dataclasses.dataclass(frozen=True)
class WeightedSum(ChannelwiseJoin):
    """The sum of the inputs, of one shape, each times a number: an edge of a supernet.

    The numbers are in the collection `arch` of the variables, `[inputs]`. They are no parameters:
    a rule makes them, the same for all nodes of one `edge`.
    """

    num_inputs: ClassVar[tuple[int, int]] = (1, LARGEST_SIZE)

    edge: str

    def __post_init__(self) -> None:
        holds = isinstance(self.edge, str) and 0 < len(self.edge) <= 100
        _require(self, "a text of 1 to 100 characters", holds, "edge")


Activation: TypeAlias = Relu | LeakyRelu | Elu | Gelu | Silu | Tanh | Sigmoid
Pool: TypeAlias = MaxPool | AvgPool
Op: TypeAlias = (
    Conv
    | BatchNorm
    | Standardize
    | Affine
    | Activation
    | Pool
    | GlobalAvgPool
    | Flatten
    | Dense
    | Dropout
    | DropPath
    | Identity
    | Normalize
    | PadChannels
    | Zero
    | Shift
    | Resize
    | Shuffle
    | Gate
    | Add
    | Concat
    | Mix
    | WeightedSum
)

#: Every op by its name, the name that JSON uses.
OPS: dict[str, type] = {
    op.__name__: op
    for op in (
        *(
            Conv,
            BatchNorm,
            Standardize,
            Affine,
            Relu,
            LeakyRelu,
            Elu,
            Gelu,
            Silu,
            Tanh,
            Sigmoid,
            MaxPool,
            AvgPool,
        ),
        *(GlobalAvgPool, Flatten, Dense, Dropout, DropPath, Identity, Normalize, PadChannels),
        *(Zero, Shift, Resize, Shuffle, Gate, Add, Concat, Mix, WeightedSum),
    )
}


def num_inputs(op: Op) -> tuple[int, int]:
    """The least and the greatest number of inputs that the op takes."""
    return getattr(op, "num_inputs", (1, 1))


def describe(op: Op) -> str:
    """The op as a reader wants it in a table: `Conv 64, 3x3`; defaults are left out."""
    words = []
    for field in dataclasses.fields(op):
        value = getattr(op, field.name)
        text = "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
        if field.name in ("features", "kernel_size", "window", "rate"):
            words.append(text)
        elif isinstance(op, MaxPool | AvgPool) and field.name == "stride" and value == op.window:
            continue
        elif isinstance(op, Normalize):
            words.append(f"{field.name} " + " ".join(f"{v:.4g}" for v in value))
        elif field.name == "use_bias" and value != field.default:
            words.append("bias" if value else "no bias")
        elif value != field.default:
            text = f"{value:.4g}" if isinstance(value, float) else text
            words.append(f"{field.name} {text}")
    return " ".join([type(op).__name__, ", ".join(words)]).strip()
