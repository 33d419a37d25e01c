"""What may be searched: one file per space, or per family of spaces."""

from nash_jax.spaces.blocks import ENASMicro, NASNet, NSGANetMicro
from nash_jax.spaces.bounded import Bounded
from nash_jax.spaces.cells import Cell, CellNode, Read, cell_network
from nash_jax.spaces.choices import CROSSOVERS, Choices, Genotype
from nash_jax.spaces.darts import CNAS, Darts, MacroDarts, SubOptimal
from nash_jax.spaces.morphs import Growth, Morphs, check_sizes
from nash_jax.spaces.nb201 import NB201
from nash_jax.spaces.nbmacro import NBMacro
from nash_jax.spaces.space import Space, Stage
from nash_jax.spaces.supernet import Edge, Sharing, Supernet, subnet

__all__ = [
    "CNAS",
    "CROSSOVERS",
    "Bounded",
    "Cell",
    "CellNode",
    "Choices",
    "Darts",
    "ENASMicro",
    "Edge",
    "Genotype",
    "Growth",
    "MacroDarts",
    "Morphs",
    "NASNet",
    "NB201",
    "NBMacro",
    "NSGANetMicro",
    "Read",
    "Sharing",
    "Space",
    "Stage",
    "SubOptimal",
    "Supernet",
    "cell_network",
    "check_sizes",
    "subnet",
]
