"""How two trials of one search are related: the edits between them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from nash_jax.morphisms import Edit


class Related(Protocol):
    """What a trial must tell of its origin, as `Trial` does."""

    @property
    def name(self) -> str: ...
    @property
    def parent(self) -> str | None: ...
    @property
    def edits(self) -> tuple[Edit, ...]: ...


class Lineage(NamedTuple):
    """The nearest common ancestor of two trials, and the edits from it to each of them."""

    ancestor: str
    to_first: tuple[Edit, ...]
    to_second: tuple[Edit, ...]


def lineage(trials: Iterable[Related], first: str, second: str) -> Lineage:
    """The edits between two trials, by way of their nearest common ancestor.

    Args:
      trials: trials of a search, with all ancestors of the two; in any order.
      first: the name of one trial.
      second: the name of the other; if `first` is its ancestor, `to_first` is empty.

    Raises:
      ValueError: if a name is unknown, or the two have no ancestor in common.
    """
    by_name = {trial.name: trial for trial in trials}

    def ancestors(name: str | None) -> list[str]:
        """The trial and its ancestors, the oldest last."""
        line: list[str] = []
        while name is not None:
            if name not in by_name:
                raise ValueError(f"there is no trial {name!r}; there are {', '.join(by_name)}")
            line.append(name)
            name = by_name[name].parent
        return line

    lines = ancestors(first), ancestors(second)
    shared = next((name for name in lines[0] if name in lines[1]), None)
    if shared is None:
        raise ValueError(f"'{first}' and '{second}' have no common ancestor")
    to_first, to_second = (
        tuple(e for name in reversed(line[: line.index(shared)]) for e in by_name[name].edits)
        for line in lines
    )
    return Lineage(shared, to_first, to_second)
