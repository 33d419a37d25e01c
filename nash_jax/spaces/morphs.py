"""The space of morphs: all networks that edits make of one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

import jax

from nash_jax.architecture import COSTS, Architecture, count_flops
from nash_jax.morphisms import KERNEL_SIZES, WIDENING_FACTORS, Edit, sample_edits
from nash_jax.spaces.space import Stage


@dataclasses.dataclass(frozen=True)
class Morphs:
    """Networks grown out of a first one by deepening, widening and skips (NASH, section 3).

    A genotype is the network itself.

    Attributes:
      start: the first network.
      bounds: the most that a network may cost after each edit since the first network, as
        `morphisms.rising_bounds` makes them; the last holds for all further edits; empty: no bound.
      num_edits: edits of a network that is drawn at random.
      kernel_sizes: sizes of the convolutions that deepening inserts, all equally likely.
      widening_factors: factors by which convolutions are widened, all equally likely.
      cost: which cost the bounds limit: FLOPs per image, or `Growth`.

    >>> import nash_jax as nj
    >>> space = Morphs(nj.chain((8, 8, 1), 10, widths=(4,)))
    >>> grown, edits = space.mutate(space.start, jax.random.key(0), num=2)
    >>> len(edits), nj.count_params(grown) > nj.count_params(space.start)
    (2, True)
    """

    start: Architecture
    bounds: tuple[float, ...] = ()
    num_edits: int = 25
    kernel_sizes: tuple[int, ...] = KERNEL_SIZES
    widening_factors: tuple[int, ...] = WIDENING_FACTORS
    cost: Callable[[Architecture], float] = count_flops

    def __post_init__(self) -> None:
        check_sizes(self.kernel_sizes, self.widening_factors)

    def sample(self, key: jax.Array) -> Architecture:
        """The first network with `num_edits` random edits."""
        return self.mutate(self.start, key, self.num_edits, done=0)[0]

    def mutate(
        self, genotype: Architecture, key: jax.Array, num: int = 1, done: int | None = None
    ) -> tuple[Architecture, tuple[Edit, ...]]:
        """A network with `num` random edits, and the edits: see `morphisms.sample_edits`."""
        bounds = () if done is None else self.bounds[done : done + num]
        if self.bounds:
            bounds += self.bounds[-1:] * (num - len(bounds))
        edits, grown = sample_edits(
            genotype,
            key,
            num,
            kernel_sizes=self.kernel_sizes,
            widening_factors=self.widening_factors,
            cost=self.cost,
            bounds=bounds,
        )
        return grown, edits

    def build(self, genotype: Architecture, stage: Stage) -> Architecture:
        """The network itself."""
        del stage
        return genotype


@dataclasses.dataclass(frozen=True)
class Growth:
    """The cost of a network on a scale from 0, the first network, to 1, the bound.

    If there are several costs, the one that is nearest to its bound counts.

    Attributes:
      spans: for each cost, its name in `architecture.COSTS`, its value for the first network, and
        the bound.
    """

    spans: tuple[tuple[str, float, float], ...]

    @classmethod
    def towards(cls, limits: Mapping[str, float], first: Architecture) -> Growth:
        """From a first network to some limits, by name."""
        return cls(tuple((name, COSTS[name](first), most) for name, most in limits.items()))

    def __call__(self, spec: Architecture) -> float:
        return max(self._share(COSTS[name](spec), least, most) for name, least, most in self.spans)

    def _share(self, cost: float, least: float, most: float) -> float:
        if cost > most:
            return math.inf
        return (cost - least) / (most - least) if most > least else 0.0


def check_sizes(kernel_sizes: tuple[int, ...], widening_factors: tuple[int, ...]) -> None:
    """Raises `ValueError` unless these are what `Morphs` takes."""
    for name, values, least in (
        ("kernel_sizes", kernel_sizes, 1),
        ("widening_factors", widening_factors, 2),
    ):
        if not values or min(values) < least:
            raise ValueError(f"{name} must be whole numbers >= {least}; got {list(values)}")
