"""The spaces of a run: their settings, the network that a search begins with, and the bounds."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from nash_jax import morphisms
from nash_jax.architecture import (
    Architecture,
    Shape,
    Variables,
    chain,
    count_flops,
    from_json,
    ops,
    resnet,
    resnet50,
    to_json,
    vgg,
    wide_resnet,
)
from nash_jax.checks import check_least
from nash_jax.morphisms import KERNEL_SIZES, WIDENING_FACTORS
from nash_jax.morphisms.sampling import Cost
from nash_jax.record.networks import NETWORK_ENDING, load_network
from nash_jax.record.orbax_folders import load_orbax
from nash_jax.search import StrategySettings
from nash_jax.spaces import (
    CNAS,
    NB201,
    Bounded,
    Choices,
    Darts,
    ENASMicro,
    Growth,
    MacroDarts,
    Morphs,
    NASNet,
    NBMacro,
    NSGANetMicro,
    Space,
    SubOptimal,
    check_sizes,
)


class Start(NamedTuple):
    """What a run starts from.

    Attributes:
      spec: the architecture.
      variables: its weights, if it has any.
      checksum: of the files that it comes from; empty if it comes from none.
      name: of the file or folder that it comes from.
    """

    spec: Architecture
    variables: Variables | None = None
    checksum: str = ""
    name: str = ""


class SpaceSettings(Protocol):
    """What a run must know of a space's settings, a frozen dataclass."""

    def start(self, input_shape: Shape, num_classes: int, normalize: ops.Normalize) -> Start:
        """The first network, for images and classes of a data set.

        Args:
          input_shape: `(height, width, channels)` of one image.
          num_classes: number of logits.
          normalize: how raw pixels are normalised. A network of a file has its own.

        Raises:
          ValueError: if there is no such network, or it is one for other data.
        """

    def space(
        self, start: Architecture, limits: Mapping[str, float], strategy: StrategySettings
    ) -> Space:
        """The space of a search; no genotype that it gives exceeds a limit: see `Bounded`.

        Args:
          start: the first network.
          limits: what each cost of `architecture.COSTS` may be, of those that have a bound.
          strategy: the settings of the strategy that searches it.
        """


@dataclasses.dataclass(frozen=True)
class MorphsSettings:
    """The space of morphs: a network to start from, and the edits that make others of it.

    Attributes:
      model_0: the network to start from: chain, vgg, resnet-20, wrn-16-4 or others of these kinds,
        resnet50 (of bottlenecks; resnet50-16: the first have 16 channels, not 64), FILE.json (an
        architecture), FILE.safetensors (with its weights) or a folder (an orbax checkpoint with its
        spec.json).
      widths: channels of the chain's convolutions, or of the stages of vgg.
      kernel_sizes: kernel sizes to deepen with.
      widening_factors: factors to widen by.
      num_edits: edits of a network that is drawn at random.
    """

    model_0: str = "chain"
    widths: tuple[int, ...] = (64, 128, 256)
    kernel_sizes: tuple[int, ...] = KERNEL_SIZES
    widening_factors: tuple[int, ...] = WIDENING_FACTORS
    num_edits: int = 25

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths must be whole numbers >= 1; got {list(self.widths)}")
        check_least(self, num_edits=0)
        check_sizes(self.kernel_sizes, self.widening_factors)

    def start(self, input_shape: Shape, num_classes: int, normalize: ops.Normalize) -> Start:
        """model_0: see `SpaceSettings`."""
        return _start(self.model_0, self.widths, input_shape, num_classes, normalize)

    def space(
        self, start: Architecture, limits: Mapping[str, float], strategy: StrategySettings
    ) -> Morphs:
        """Bounds rise from edit to edit, over all edits that a search makes."""
        num_edits = strategy.num_edits(self.num_edits)
        cost: Cost = count_flops
        bounds: tuple[float, ...] = ()
        if set(limits) == {"flops"}:  # in FLOPs, not shares: seeds keep their edits bit by bit
            bounds = morphisms.rising_bounds(count_flops(start), limits["flops"], num_edits)
        elif limits:
            cost = Growth.towards(limits, start)
            bounds = morphisms.rising_bounds(0, 1, num_edits)
        return Morphs(start, bounds, self.num_edits, self.kernel_sizes, self.widening_factors, cost)


def choices_settings(kind: type[Choices]) -> type[Any]:
    """The settings of a space of small whole numbers: its own fields, and a first genotype.

    Fields that say what the data are are no settings.

    >>> choices_settings(NB201)().first
    ''
    """
    of_data = {field.name for field in dataclasses.fields(Choices)}
    own = [field for field in dataclasses.fields(kind) if field.name not in of_data]

    def made(settings: Any, *data: Any) -> Choices:
        values = {field.name: getattr(settings, field.name) for field in own}
        space = kind(*data, **values)
        first = space.parse(settings.first) if settings.first else ()
        return dataclasses.replace(space, first=first)

    def start(
        settings: Any, input_shape: Shape, num_classes: int, normalize: ops.Normalize
    ) -> Start:
        """The network of the first genotype: see `SpaceSettings`."""
        space = made(settings, input_shape, num_classes, normalize)
        return Start(space.build(space.start, "search"))

    def space(
        settings: Any, start: Architecture, limits: Mapping[str, float], strategy: StrategySettings
    ) -> Bounded:
        """See `SpaceSettings`."""
        del strategy
        op = start.nodes[0].op
        normalize = op if isinstance(op, ops.Normalize) else None
        return Bounded(made(settings, start.input_shape, start.num_classes, normalize), limits)

    docs = [
        inspect.cleandoc(each.__doc__ or "")
        for each in reversed(kind.__mro__)
        if issubclass(each, Choices) and each is not Choices
    ]
    first = "  first: the genotype that a search begins with, in short code; default: the space's."
    doc = "\n\n".join([*docs, f"Attributes:\n{first}\n"])
    found: type[Any] = dataclasses.make_dataclass(
        f"{kind.__name__}Settings",
        [*((field.name, field.type, field.default) for field in own), ("first", "str", "")],
        namespace={"start": start, "space": space, "__doc__": doc, "made": made},
        frozen=True,
    )
    return found


#: The settings of every space.
SPACE_SETTINGS: dict[str, type[Any]] = {
    "morphs": MorphsSettings,
    "cnas": choices_settings(CNAS),
    "darts": choices_settings(Darts),
    "darts_macro": choices_settings(MacroDarts),
    "enas": choices_settings(ENASMicro),
    "nasnet": choices_settings(NASNet),
    "nb201": choices_settings(NB201),
    "nbmacro": choices_settings(NBMacro),
    "nsganet": choices_settings(NSGANetMicro),
    "suboptimal": choices_settings(SubOptimal),
}


def _start(
    name: str, widths: Sequence[int], input_shape: Shape, num_classes: int, normalize: ops.Normalize
) -> Start:
    """The network of a name, or of a file."""
    data = input_shape, num_classes
    if name == "chain":
        return Start(chain(*data, widths, normalize))
    if name == "vgg":
        return Start(vgg(*data, widths, normalize))
    if match := re.fullmatch(r"resnet-(\d+)", name):
        return Start(resnet(*data, int(match[1]), normalize))
    if match := re.fullmatch(r"wrn-(\d+)-(\d+)", name):
        return Start(wide_resnet(*data, int(match[1]), int(match[2]), normalize))
    if match := re.fullmatch(r"resnet50(?:-(\d+))?", name):
        return Start(resnet50(*data, int(match[1] or 64), normalize))
    path = pathlib.Path(os.path.expanduser(name))
    if path.suffix not in (".json", NETWORK_ENDING) and not path.is_dir():
        raise ValueError(
            "model_0 must be chain, vgg, resnet-DEPTH, wrn-DEPTH-FACTOR, resnet50, a file ending "
            f"in .json or {NETWORK_ENDING}, or a folder with an orbax checkpoint; got {name!r}"
        )
    try:
        checksum, spec, variables = _read(path)
    except OSError as error:
        raise ValueError(f"model_0 {name} cannot be read: {error.strerror}") from None
    if (spec.input_shape, spec.num_classes) != data:
        raise ValueError(
            f"model_0 {name} is for images of {list(spec.input_shape)} and {spec.num_classes} "
            f"classes; the data have {list(input_shape)} and {num_classes}; give another network"
        )
    return Start(spec, variables, checksum, path.name)


def checksum_of(path: pathlib.Path) -> str:
    """What a network's file is known by."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _read(path: pathlib.Path) -> tuple[str, Architecture, Variables | None]:
    """A checksum of what is there, the architecture and the weights."""
    if path.is_dir():
        spec, variables = load_orbax(path)
        digest = hashlib.sha256(to_json(spec).encode())  # of what is read: the folder may have more
        for where, x in jax.tree_util.tree_leaves_with_path(variables):
            digest.update(f"{jax.tree_util.keystr(where)} {x.dtype} {x.shape}".encode())
            digest.update(np.asarray(x).tobytes())
        return digest.hexdigest()[:16], spec, variables
    checksum, content = checksum_of(path), path.read_bytes()
    if path.suffix == NETWORK_ENDING:
        return checksum, *load_network(path)
    try:
        return checksum, from_json(content.decode()), None
    except ValueError as error:  # also of what is no UTF-8
        raise ValueError(f"model_0 {path} is no architecture: {error}") from None
