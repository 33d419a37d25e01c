"""How the next candidate is chosen."""

from nash_jax.search.hill_climbing import (
    Candidate,
    HillClimbingSettings,
    Proposal,
    SearchState,
    hill_climbing_step,
    propose,
    select,
)

__all__ = [
    "Candidate",
    "HillClimbingSettings",
    "Proposal",
    "SearchState",
    "hill_climbing_step",
    "propose",
    "select",
]
