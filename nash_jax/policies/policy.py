"""Which path of a supernet each update trains: what a policy is, and the one that never learns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import numpy as np

from nash_jax.architecture import EdgeWeights


class Judged(NamedTuple):
    """How good a path is on a batch of images that the weights do not learn on."""

    accuracy: float
    loss: float


#: Judges a path with the shared weights, on another batch each time.
Judge: TypeAlias = Callable[[EdgeWeights], Judged]


class Policy(Protocol):
    """Draws paths and learns from how good they are. Its state is a pytree of NumPy's arrays."""

    @property
    def share(self) -> float:
        """The share of the training images that paths are judged on, and weights not trained."""

    def start(self, key: jax.Array) -> Any:
        """The state before the first update."""

    def draw(self, state: Any, number: int) -> EdgeWeights:
        """The path of an update, by its number in the training."""

    def after_update(
        self, state: Any, number: int, path: EdgeWeights, judge: Judge, progress: float
    ) -> Any:
        """The state after an update.

        Args:
          state: before it; not changed.
          number: of the update.
          path: that it trained.
          judge: judges paths.
          progress: the part of the training that lies behind, in (0, 1].
        """

    def after_epoch(self, state: Any, epoch: int, judge: Judge) -> Any:
        """The state after an epoch, the first of which is 0."""

    def favoured(self, state: Any) -> EdgeWeights:
        """By edge, how probable each choice is."""


def generator(seed: Any, number: int) -> np.random.Generator:
    """A generator of its own for each update."""
    return np.random.default_rng((int(seed), number))


def seed_of(key: jax.Array) -> np.ndarray:
    """A whole number that a state can have."""
    return np.asarray(jax.random.bits(key))


class Uniform:
    """Draws genotypes from their space, and learns nothing.

    Args:
      draw: draws the path of an update, by its number and a seed.
    """

    share = 0.0

    def __init__(self, draw: Callable[[int, int], EdgeWeights]) -> None:
        self._draw = draw

    def start(self, key: jax.Array) -> Any:
        return {"seed": seed_of(key)}

    def draw(self, state: Any, number: int) -> EdgeWeights:
        return self._draw(int(state["seed"]), number)

    def after_update(
        self, state: Any, number: int, path: EdgeWeights, judge: Judge, progress: float
    ) -> Any:
        return state

    def after_epoch(self, state: Any, epoch: int, judge: Judge) -> Any:
        return state

    def favoured(self, state: Any) -> EdgeWeights:
        path = self.draw(state, 0)
        return {edge: np.full(len(w), 1 / len(w), np.float32) for edge, w in path.items()}
