"""The ledger: lines of JSON, only ever added to, each with its checksum."""

from __future__ import annotations

import itertools
import pathlib
from typing import NamedTuple

from nash_jax.record.files import (
    DamagedError,
    checked,
    parse_json,
    read_inside,
    sync,
    write_atomically,
    writing,
)
from nash_jax.record.lines import (
    DECISION,
    EXTENSION,
    LENGTH,
    Line,
    Lines,
    check_line,
    in_order,
    text_of,
)

LEDGER_FILE = "ledger.jsonl"


def append_line(workdir: pathlib.Path, line: Line) -> bytes:
    """Add a line, so that it is on the disk.

    Returns:
      Its text.

    Raises:
      WriteError: if it cannot be written; the ledger is as it was.
    """
    path = workdir / LEDGER_FILE
    text = text_of(line)
    data = text + b"\n"
    with writing(path), path.open("ab", buffering=0) as ledger:
        size = ledger.tell()
        try:
            if ledger.write(data) != len(data):
                raise OSError("the disk took only a part of a line")
            sync(ledger.fileno())
        except OSError:
            ledger.truncate(size)
            raise
    return text


class Ledger(NamedTuple):
    """The good lines of a ledger.

    Attributes:
      trials: by name; of several with one name the last counts.
      decisions: by step, what the strategy said when it asked (`incumbent`, and `dropped` if it
        dropped any) or ended (`returned`); with what it had been told of (`arrived`), where that is
        not decided by the order of the proposals.
      timings: what was decided by time, in the order in which it was: how many epochs a training
        that went on was to have in all (LENGTH), and more minutes for the run (EXTENSION).
      damages: what is wrong with the other lines.
    """

    trials: Lines[str]
    decisions: Lines[int]
    timings: list[Line]
    damages: list[str]


def parse_ledger(data: bytes, what: str) -> Ledger:
    """The lines of a ledger."""
    lines, decisions = Lines[str](), Lines[int]()
    timings: list[Line] = []
    damages = []
    for number, text in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            line = checked(parse_json(text, f"line {number} of {what}"), f"line {number} of {what}")
            check_line(line, f"line {number} of {what}")
        except DamagedError as error:
            damages.append(str(error))
            continue
        if line["kind"] == DECISION:
            decisions.put(line["step"], text)
            continue
        if line["kind"] in (LENGTH, EXTENSION):
            timings.append(line)
            continue
        lines.put(line["name"], text)
    if not data.endswith(b"\n") and data:
        damages.append(f"the last line of {what} is torn: it was being written")
    return Ledger(lines, decisions, timings, damages)


def read_ledger(workdir: pathlib.Path) -> list[Line]:
    """A run's trials, as dictionaries, in the order in which they were proposed.

    Raises:
      ValueError: if there is no ledger, or it cannot be read.
    """
    return in_order(ledger_in(workdir).trials.values())


def ledger_in(workdir: pathlib.Path) -> Ledger:
    """The ledger of a run's folder.

    Raises:
      ValueError: if there is none, or it cannot be read.
    """
    return parse_ledger(read_inside(workdir, LEDGER_FILE), LEDGER_FILE)


def repair_ledger(workdir: pathlib.Path) -> Ledger:
    """Read the ledger, and leave only whole lines in it, as if the others had never been written.

    A ledger with lines that are damaged, not torn, is kept beside, as `ledger.jsonl.damaged`
    (`.damaged2` and so on, where that is there).

    Returns:
      The good lines, and what was wrong with the others.
    """
    path = workdir / LEDGER_FILE
    if not path.exists():
        return Ledger(Lines(), Lines(), [], [])
    data = read_inside(workdir, LEDGER_FILE)
    ledger = parse_ledger(data, str(path))
    if ledger.damages:
        whole = data[: data.rfind(b"\n") + 1]
        if parse_ledger(whole, str(path)).damages:
            beside = (path.with_name(f"{LEDGER_FILE}.damaged{n}") for n in ("", *range(2, 1000)))
            write_atomically(next(each for each in beside if not each.exists()), data)
        lines = itertools.chain(ledger.trials.values(), ledger.decisions.values(), ledger.timings)
        write_atomically(path, b"".join(text_of(line) + b"\n" for line in lines))
    return ledger
