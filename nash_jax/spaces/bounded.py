"""A space without the networks that exceed a bound."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax

from nash_jax.architecture import Architecture, exceeded
from nash_jax.morphisms import Edit
from nash_jax.spaces.space import Space, Stage

T = TypeVar("T")

#: How often another genotype is drawn before a draw is given up.
TRIES = 100


@dataclasses.dataclass(frozen=True)
class Bounded:
    """Another space, of which genotypes are drawn again until their networks keep all limits.

    After 100 draws the start is given instead of a random genotype, and a genotype itself instead
    of one that was made of it.

    Attributes:
      space: the space; its start must keep the limits.
      limits: what each cost of `architecture.COSTS` may be, of those that have a bound.
    """

    space: Space
    limits: Mapping[str, float]

    @property
    def start(self) -> Any:
        return self.space.start

    def sample(self, key: jax.Array) -> Any:
        """A random genotype."""
        found = self._again(key, self.space.sample, lambda genotype: genotype)
        return self.start if found is None else found

    def mutate(
        self, genotype: Any, key: jax.Array, num: int = 1, done: int | None = None
    ) -> tuple[Any, tuple[Edit, ...]]:
        """A genotype with `num` random changes: see `Space`."""
        found = self._again(
            key, lambda key: self.space.mutate(genotype, key, num, done), lambda made: made[0]
        )
        return (genotype, ()) if found is None else found

    def crossover(self, a: Any, b: Any, key: jax.Array, kind: str = "uniform") -> Any:
        """A child of two genotypes; `a` where all draws exceed a bound."""
        crossed: Any = self.space  # not all spaces have it
        found = self._again(
            key, lambda key: crossed.crossover(a, b, key, kind), lambda genotype: genotype
        )
        return a if found is None else found

    def build(self, genotype: Any, stage: Stage) -> Architecture:
        """The network of a genotype."""
        return self.space.build(genotype, stage)

    def _again(
        self, key: jax.Array, draw: Callable[[jax.Array], T], genotype_of: Callable[[T], Any]
    ) -> T | None:
        """The first draw that keeps the limits, with the key itself, then with others."""
        for number in range(TRIES):
            drawn = draw(key if number == 0 else jax.random.fold_in(key, number))
            if not self.limits or self._keeps(genotype_of(drawn)):
                return drawn
        return None

    def _keeps(self, genotype: Any) -> bool:
        """Whether a genotype's networks, of the search and the final one, keep all limits."""
        stages: tuple[Stage, ...] = ("search", "final")
        return all(exceeded(self.build(genotype, s), self.limits) is None for s in stages)
