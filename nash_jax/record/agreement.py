"""What two records say alike, bit by bit: trials, decisions, and files byte for byte."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from nash_jax.record.files import read_inside
from nash_jax.record.ledger import Ledger
from nash_jax.record.lines import LATER, Line, in_order

#: Of a line: seconds and places, and the checksum of settings and data, which is compared first.
_NOT_COMPARED = {"seconds", "elapsed", "workers", "place", "told", "config"}

_MISSING = "there", "missing"


class Difference(NamedTuple):
    """The first thing in which two records differ.

    Attributes:
      of: the trial, the step or the file.
      field: where in it: `train_losses[3]`.
      before: what the first record says; None, if nothing.
      after: what the second one says.
    """

    of: str
    field: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.of}: {self.field} was {self.before!r:.80}, is {self.after!r:.80}"


class Part(NamedTuple):
    """One part of two records.

    Attributes:
      name: what is compared.
      number: how many of them there are, in either record.
      differences: of each that is not the same, the first.
    """

    name: str
    number: int
    differences: tuple[Difference, ...]


def same_trials(before: Ledger, after: Ledger) -> Part:
    """Trials by name, in the order of their proposals: all that is said but seconds and places."""
    first, second = (
        {line["name"]: _compared(line) for line in in_order(ledger.trials.values())}
        for ledger in (before, after)
    )
    for name, line in first.items():
        for field in LATER - line.keys():  # an early version did not write it
            second.get(name, {}).pop(field, None)
    return _part("trials", first, second)


def same_decisions(before: Ledger, after: Ledger) -> Part:
    """What the strategy chose, dropped and returned, by step."""
    first, second = (
        {f"step {step}": _compared(line) for step, line in sorted(ledger.decisions.items())}
        for ledger in (before, after)
    )
    return _part("decisions", first, second)


def same_files(name: str, before: pathlib.Path, after: pathlib.Path, names: Iterable[str]) -> Part:
    """Files of two folders, byte for byte.

    Args:
      name: what they are.
      before, after: the folders.
      names: of files that the first folder has.

    Raises:
      ValueError: if one cannot be read.
    """
    names, differences = list(names), []
    for each in names:
        if not (after / each).exists():
            differences.append(Difference(each, "the file", *_MISSING))
            continue
        old, new = (read_inside(folder, each) for folder in (before, after))
        if old != new:
            unlike = (n for n, (one, other) in enumerate(zip(old, new)) if one != other)
            place = next(unlike, min(len(old), len(new)))
            byte = slice(place, place + 1)
            differences.append(Difference(each, f"byte {place}", old[byte], new[byte]))
    return Part(name, len(names), tuple(differences))


def _compared(line: Line) -> Line:
    return {field: value for field, value in line.items() if field not in _NOT_COMPARED}


def _part(name: str, before: Mapping[str, Line], after: Mapping[str, Line]) -> Part:
    names = dict.fromkeys([*before, *after])
    found: list[Difference | None] = []
    for each in names:
        if each in before and each in after:
            found.append(next(differing(each, before[each], after[each]), None))
        else:
            found.append(Difference(each, "it", *(_MISSING if each in before else _MISSING[::-1])))
    return Part(name, len(names), tuple(filter(None, found)))


def differing(of: str, before: Any, after: Any, field: str = "") -> Iterator[Difference]:
    """Where two values of JSON differ, in the order of the first one.

    >>> [str(each) for each in differing("final", {"loss": [1, 2]}, {"loss": [1, 3]})]
    ['final: loss[1] was 2, is 3']
    """
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys([*before, *after]):
            name = f"{field}.{key}" if field else key
            yield from differing(of, before.get(key), after.get(key), name)
    elif isinstance(before, list) and isinstance(after, list):
        for place, (old, new) in enumerate(zip(before, after)):
            yield from differing(of, old, new, f"{field}[{place}]")
        yield from differing(of, len(before), len(after), f"the length of {field}")
    elif before != after:
        yield Difference(of, field, before, after)
