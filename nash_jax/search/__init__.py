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
from nash_jax.search.lineage import Lineage, lineage

__all__ = [
    "Candidate",
    "HillClimbingSettings",
    "Lineage",
    "Proposal",
    "SearchState",
    "hill_climbing_step",
    "lineage",
    "propose",
    "select",
]
