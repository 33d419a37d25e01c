"""Neural architecture search by hill climbing: Algorithm 1 of the paper, without input and output.

A step is a pure function of an immutable state. How a proposal is grown, trained and validated is
the caller's, as a function: nothing here trains, writes or reads a clock.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax

from nash_jax.architecture import Architecture, Variables
from nash_jax.estimation import Estimate
from nash_jax.morphisms import KERNEL_SIZES, WIDENING_FACTORS, Edit, sample_edits


@dataclasses.dataclass(frozen=True)
class HillClimbingSettings:
    """The sizes of Algorithm 1; the defaults are the paper's.

    Attributes:
      num_steps: hill climbing steps (n_steps).
      num_neighbours: children per step, the current best among them (n_neigh). With 1 there is no
        selection: the one child is morphed and taken, the paper's random networks.
      num_morphisms: edits per child (n_NM).
      kernel_sizes: of the convolutions that deepening inserts, each as likely.
      widening_factors: of the convolutions that are widened, each as likely.
    """

    num_steps: int = 5
    num_neighbours: int = 8
    num_morphisms: int = 5
    kernel_sizes: tuple[int, ...] = KERNEL_SIZES
    widening_factors: tuple[int, ...] = WIDENING_FACTORS

    def __post_init__(self) -> None:
        for name, least in (("num_steps", 0), ("num_neighbours", 1), ("num_morphisms", 1)):
            value = getattr(self, name)
            if value < least:
                raise ValueError(f"{name} must be >= {least}; got {value}")
        for name, least in (("kernel_sizes", 1), ("widening_factors", 2)):
            values = getattr(self, name)
            if not values or min(values) < least:
                raise ValueError(f"{name} must be whole numbers >= {least}; got {list(values)}")


@dataclasses.dataclass(frozen=True, eq=False)
class Candidate:
    """A network that has been trained and validated.

    Attributes:
      name: `step2-child3`, say; unique within a run.
      parent: the name of the candidate that it was made from.
      edits: by which it was made; none if it is its parent trained on.
      spec: its architecture.
      variables: its weights.
      estimate: its scores.
    """

    name: str
    parent: str | None
    edits: tuple[Edit, ...]
    spec: Architecture
    variables: Variables
    estimate: Estimate


@dataclasses.dataclass(frozen=True)
class Proposal:
    """A child before it has weights.

    Attributes:
      name: of the candidate that it will be.
      edits: of the current best that make it.
      spec: the architecture that they make.
      key: for everything that is random in growing and training it.
    """

    name: str
    edits: tuple[Edit, ...]
    spec: Architecture
    key: jax.Array


@dataclasses.dataclass(frozen=True, eq=False)
class SearchState:
    """What a step starts from.

    Attributes:
      step: steps that are done.
      best: the current best.
      key: of the whole search; a step and a child derive theirs from it by number.
    """

    step: int
    best: Candidate
    key: jax.Array


def propose(
    state: SearchState,
    settings: HillClimbingSettings,
    bounds: Sequence[float] = (),
) -> tuple[Proposal, ...]:
    """The children of a step: Algorithm 1, lines 13, 14 and 19.

    Each but the last is the current best with `num_morphisms` random edits (fewer where the bounds
    allow no more); the last is the current best itself. Read to the letter, Algorithm 1 would
    morph nothing with one neighbour; its random networks need the one child to be morphed, so
    there it is.

    Args:
      state: the search so far.
      settings: the sizes.
      bounds: for every edit on the way of the whole search the FLOPs that a network may have after
        it, `[num_steps * num_morphisms]`, as `morphisms.rising_bounds` makes them; or none.
    """
    first = state.step * settings.num_morphisms
    of_step = bounds[first : first + settings.num_morphisms]
    step_key = jax.random.fold_in(state.key, state.step)
    spec = state.best.spec
    morphed = max(settings.num_neighbours - 1, 1)
    proposals = []
    for number in range(1, settings.num_neighbours + 1):
        draw_key, key = jax.random.split(jax.random.fold_in(step_key, number))
        num = settings.num_morphisms if number <= morphed else 0
        edits, grown = sample_edits(
            *(spec, draw_key, num, settings.kernel_sizes, settings.widening_factors),
            bounds=of_step if num else (),
        )
        proposals.append(Proposal(f"step{state.step + 1}-child{number}", edits, grown, key))
    return tuple(proposals)


def select(children: Sequence[Candidate]) -> Candidate:
    """The child of the best validation accuracy: Algorithm 1, line 21.

    Small validation sets make ties: among equals, the smaller validation loss decides, then the
    earlier child. Children that failed are passed over.

    Raises:
      ValueError: if all failed.
    """
    children = [child for child in children if not child.estimate.failure]
    if not children:
        raise ValueError("all children failed; got none to select from")

    def performance(child: Candidate) -> tuple[float, float]:
        loss = child.estimate.loss
        return child.estimate.accuracy, -loss if math.isfinite(loss) else -math.inf

    return max(children, key=performance)  # of equals, max takes the first


def hill_climbing_step(
    state: SearchState,
    settings: HillClimbingSettings,
    estimate: Callable[[Candidate, Sequence[Proposal]], Sequence[Candidate]],
    bounds: Sequence[float] = (),
) -> tuple[SearchState, tuple[Candidate, ...]]:
    """One step: propose the children, have them estimated, move to the best.

    Args:
      state: the search so far.
      settings: the sizes.
      estimate: from the current best and the proposals to the trained and validated children, in
        the same order.
      bounds: as in `propose`.

    Returns:
      The next state, and all children of the step.

    Raises:
      ValueError: if all children failed.
    """
    children = tuple(estimate(state.best, propose(state, settings, bounds)))
    return SearchState(state.step + 1, select(children), state.key), children
