"""What a space is: which networks may be searched, as genotypes that can be drawn and mutated."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import jax

from nash_jax.architecture import Architecture
from nash_jax.morphisms import Edit

#: A network is built for the search, or for its final training, where it may be larger.
Stage = Literal["search", "final"]


class Space(Protocol):
    """Genotypes: hashable points of a space. All randomness comes from a key."""

    @property
    def start(self) -> Any:
        """The genotype that a search begins with."""

    def sample(self, key: jax.Array) -> Any:
        """A random genotype."""

    def mutate(
        self, genotype: Any, key: jax.Array, num: int = 1, done: int | None = None
    ) -> tuple[Any, tuple[Edit, ...]]:
        """A genotype with `num` random changes, and the edits that make it.

        Args:
          genotype: to change; it stays as it is.
          key: decides the changes.
          num: how many changes; fewer are made if no more are possible.
          done: how many changes led to `genotype`, for networks that are to grow evenly with the
            number of changes; None: a network may be as large as the space allows.

        Returns:
          The new genotype, and the edits that make its network of the old genotype's network; no
          edits, if weights cannot be passed on.
        """

    def build(self, genotype: Any, stage: Stage) -> Architecture:
        """The network of a genotype."""
