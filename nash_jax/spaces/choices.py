"""What spaces of small whole numbers share: how genotypes are drawn, changed, crossed and written.

A genotype has a number for each place: which of the choices that there are it takes. A space says
how many there are, and what network a genotype is; `docs/extending.md` has one of 30 lines.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Hashable, Iterator, Sequence
from typing import ClassVar, TypeAlias

import jax
import numpy as np

from nash_jax.architecture import Architecture, Shape, ops
from nash_jax.checks import check_word
from nash_jax.morphisms import Edit
from nash_jax.morphisms.sampling import generator
from nash_jax.spaces.space import Stage

Genotype: TypeAlias = tuple[int, ...]

#: How two genotypes are crossed. Points cut the line of groups, or with `ops_` the line of ops.
CROSSOVERS = ("uniform", "one_point", "two_point", "ops_one_point", "ops_two_point")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclasses.dataclass(frozen=True)
class Choices:
    """A space of small whole numbers, to inherit from.

    Attributes:
      input_shape: `(height, width, channels)` of one image.
      num_classes: number of logits.
      normalize: how raw pixels are normalised, if networks are to do it.
      first: the genotype that a search begins with; empty: the space's own.
      sizes: how many choices each place has.
      usual: the genotype that a search begins with, if none is said.
      groups: places that belong together, such as those of a node, in their order; crossover keeps
        them together. Empty: every place is a group.
      op_places: the places of ops, in their order, for crossover that keeps all others; empty: all.
    """

    input_shape: Shape = (32, 32, 3)
    num_classes: int = 10
    normalize: ops.Normalize | None = None
    first: Genotype = ()

    sizes: ClassVar[tuple[int, ...]] = ()
    usual: ClassVar[Genotype] = ()
    groups: ClassVar[tuple[tuple[int, ...], ...]] = ()
    op_places: ClassVar[tuple[int, ...]] = ()

    @property
    def start(self) -> Genotype:
        """The genotype that a search begins with."""
        first = self.first or self.usual or (0,) * len(self.sizes)
        self.check(first)
        return first

    @property
    def size(self) -> int:
        """How many genotypes there are."""
        return math.prod(self.sizes)

    def all(self) -> Iterator[Genotype]:
        """Every genotype, the last place changing fastest."""
        return itertools.product(*map(range, self.sizes))

    def check(self, genotype: Genotype) -> None:
        """Raises `ValueError` unless the genotype is one of this space."""
        name = type(self).__name__
        if not isinstance(genotype, tuple) or len(genotype) != len(self.sizes):
            raise ValueError(
                f"a genotype of {name} must be a tuple of {len(self.sizes)} whole numbers; got "
                f"{genotype!r:.200}"
            )
        for place, (value, size) in enumerate(zip(genotype, self.sizes)):
            if type(value) is not int or not 0 <= value < size:
                raise ValueError(
                    f"place {place} of a genotype of {name} must be a whole number from 0 to "
                    f"{size - 1}; got {value!r} in {genotype!r:.200}"
                )

    def sample(self, key: jax.Array) -> Genotype:
        """A genotype, all equally likely."""
        return tuple(generator(key).integers(self.sizes).tolist())

    def mutate(
        self, genotype: Genotype, key: jax.Array, num: int = 1, done: int | None = None
    ) -> tuple[Genotype, tuple[Edit, ...]]:
        """A genotype with other choices at `num` places, all equally likely, and no edits."""
        del done
        rng = generator(key)
        places = [place for place, size in enumerate(self.sizes) if size > 1]
        new = list(genotype)
        for place in rng.choice(places, min(num, len(places)), replace=False).tolist():
            other = int(rng.integers(self.sizes[place] - 1))
            new[place] = other + (other >= new[place])
        return tuple(new), ()

    def crossover(
        self, a: Genotype, b: Genotype, key: jax.Array, kind: str = "uniform"
    ) -> Genotype:
        """A child whose every place is that of one of two parents.

        Args:
          a: a parent; the child has the beginning of it.
          b: the other.
          key: decides the cuts, or the parent of each group.
          kind: one of `CROSSOVERS`.

        Raises:
          ValueError: for another kind.
        """
        check_word("kind", kind, CROSSOVERS)
        rng, line = generator(key), self._line(kind.startswith("ops_"))
        if kind == "uniform":
            of_b = rng.integers(2, size=len(line)).astype(bool)
        else:
            cuts = 1 if kind.endswith("one_point") else 2
            between = np.arange(1, len(line))  # each part has at least one group, where that can be
            found = np.sort(rng.choice(between, min(cuts, len(between)), replace=False))
            of_b = np.searchsorted(found, np.arange(len(line)), side="right") % 2 == 1
        from_b = {place for group, other in zip(line, of_b) if other for place in group}
        return tuple(b[n] if n in from_b else a[n] for n in range(len(a)))

    def _line(self, ops_only: bool) -> Sequence[tuple[int, ...]]:
        """What a cut may stand between."""
        every = tuple(range(len(self.sizes)))
        if ops_only:
            return [(place,) for place in self.op_places or every]
        return self.groups or [(place,) for place in every]

    def canonical(self, genotype: Genotype) -> Hashable:
        """The same for all genotypes that are the same network but for the order of its parts."""
        return genotype

    def code(self, genotype: Genotype) -> str:
        """A genotype as a short word: a digit or letter for each place."""
        return "".join(_DIGITS[value] for value in genotype)

    def parse(self, code: str) -> Genotype:
        """The genotype of a short word.

        Raises:
          ValueError: if it is none of this space.
        """
        if not set(code) <= set(_DIGITS):
            raise ValueError(
                f"a genotype of {type(self).__name__} must be written in the digits 0 to 9 and a "
                f"to z; got {code!r:.200}"
            )
        genotype = tuple(map(_DIGITS.index, code))
        self.check(genotype)
        return genotype

    def build(self, genotype: Genotype, stage: Stage) -> Architecture:
        """The network of a genotype."""
        raise NotImplementedError
