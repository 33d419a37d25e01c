"""A space without the networks that exceed a bound."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from nash_jax.architecture import Architecture, EdgeWeights, exceeded
from nash_jax.morphisms import Edit
from nash_jax.spaces.space import Space, Stage
from nash_jax.spaces.supernet import NO_SUPERNET, Sharing, Supernet

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

    @property
    def sharing(self) -> Sharing:
        """The space, if its networks can share weights.

        Raises:
          ValueError: if they cannot.
        """
        if not isinstance(self.space, Sharing):
            raise ValueError(NO_SUPERNET.format(type(self.space).__name__))
        return self.space

    def whole(self, allowed: Mapping[str, Sequence[str]] | None = None) -> Supernet:
        """The genotype of the supernet, which has no bound: see `Sharing`."""
        return self.sharing.whole(allowed)

    def one_hot(self, genotype: Any, left: Supernet | None = None) -> EdgeWeights:
        """The edge weights of a genotype: see `Sharing`."""
        return self.sharing.one_hot(genotype, left)

    def derive(self, weights: EdgeWeights, left: Supernet | None = None) -> Any:
        """The genotype that edge weights favour.

        If it exceeds a bound: the first of 100 that do not, when choices lose weight by the size of
        their kernels, more and more, with some chance in it.

        Raises:
          ValueError: if all exceed a bound.
        """
        supernet = self.whole() if left is None else left
        derived = self.sharing.derive(weights, left)
        rng = np.random.default_rng(0)
        for number in range(TRIES):
            if self.keeps(derived):
                return derived
            lighter = {}
            for edge, choices in supernet.edges:
                logs = np.log(np.maximum(weights[edge], 1e-30)) + rng.normal(size=len(choices))
                logs = logs - 0.1 * number * np.array([_kernel_size(each) for each in choices])
                lighter[edge] = np.exp(logs - logs.max())
                lighter[edge] /= lighter[edge].sum()
            derived = self.sharing.derive(lighter, left)
        limits = ", ".join(f"{name} {most:g}" for name, most in self.limits.items())
        raise ValueError(
            f"no network near what the edges favour keeps the bounds, {limits}; raise them, or "
            "search fewer channels"
        )

    def _again(
        self, key: jax.Array, draw: Callable[[jax.Array], T], genotype_of: Callable[[T], Any]
    ) -> T | None:
        """The first draw that keeps the limits, with the key itself, then with others."""
        for number in range(TRIES):
            drawn = draw(key if number == 0 else jax.random.fold_in(key, number))
            if self.keeps(genotype_of(drawn)):
                return drawn
        return None

    def keeps(self, genotype: Any) -> bool:
        """Whether a genotype's networks, of the search and the final one, keep all limits."""
        if not self.limits:
            return True
        stages: tuple[Stage, ...] = ("search", "final")
        return all(exceeded(self.build(genotype, s), self.limits) is None for s in stages)


def _kernel_size(choice: str) -> int:
    """The kernel size in the name of a choice, 0 if it has no weights."""
    op = choice.partition("~")[0]
    return int(op[-1]) if "conv" in op or op.startswith("mb") else 0
