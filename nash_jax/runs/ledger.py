"""The ledger: one line of JSON per candidate, only ever added to, each with its checksum."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from nash_jax.architecture import Architecture, count_flops, count_params
from nash_jax.architecture.serialization import from_dict, to_dict
from nash_jax.estimation import Estimate, Seconds
from nash_jax.morphisms import edit_from_dict, edit_to_dict
from nash_jax.runs.files import (
    DamagedError,
    checked,
    parse_json,
    read_inside,
    sync,
    with_checksum,
    write_atomically,
    writing,
)
from nash_jax.search import Candidate

LEDGER_FILE = "ledger.jsonl"

Line = dict[str, Any]


def ledger_line(
    candidate: Candidate, kind: str, step: int, elapsed: float, workers: int, config: str
) -> Line:
    """A candidate for the ledger, without its weights.

    Args:
      candidate: the candidate.
      kind: 'pretrained' (model_0), 'child', or 'final' (trained on all training images; its
        accuracy and loss are on the test set, those of the others on the validation set).
      step: of hill climbing, from 1; 0 for model_0.
      elapsed: seconds since the run began, without those between a stop and a resume.
      workers: how many candidates could be trained at a time.
      config: checksum of the run's settings and data.
    """
    estimate, split = candidate.estimate, "test" if kind == "final" else "validation"
    return {
        "name": candidate.name,
        "kind": kind,
        "step": step,
        "parent": candidate.parent,
        "edits": [edit_to_dict(edit) for edit in candidate.edits],
        "params": count_params(candidate.spec),
        "flops": count_flops(candidate.spec),
        f"{split}_accuracy": None if estimate.failure else estimate.accuracy,
        f"{split}_loss": estimate.loss if math.isfinite(estimate.loss) else None,
        "train_losses": list(estimate.train_losses),
        "seconds": {
            name: round(value, 3) for name, value in dataclasses.asdict(estimate.seconds).items()
        },
        "elapsed": round(elapsed, 3),
        "workers": workers,
        "memory_bytes": estimate.required_bytes,
        **({"lambdas": lambdas} if (lambdas := _lambdas(candidate)) else {}),
        **({"failure": estimate.failure} if estimate.failure else {}),
        "config": config,
        "spec": to_dict(candidate.spec),
    }


def _lambdas(candidate: Candidate) -> dict[str, float]:
    """The learned weight of every sum of eq. 6, by node, as it is after the training."""
    params = candidate.variables.get("params", {})
    return {
        node: round(float(arrays["lambda"]), 4)
        for node, arrays in params.items()
        if "lambda" in arrays
    }


def estimate_of(line: Line) -> Estimate:
    """The estimate that a line was made from."""
    split = "test" if line["kind"] == "final" else "validation"
    accuracy, loss = line[f"{split}_accuracy"], line[f"{split}_loss"]
    return Estimate(
        0.0 if accuracy is None else accuracy,
        math.inf if loss is None else loss,
        Seconds(**line["seconds"]),
        line["memory_bytes"],
        tuple(line["train_losses"]),
        line.get("failure", ""),
    )


def spec_of(line: Line) -> Architecture:
    """The architecture of a candidate."""
    return from_dict(line["spec"])


def append_line(workdir: pathlib.Path, line: Line) -> None:
    """Add a line, so that it is on the disk.

    Raises:
      WriteError: if it cannot be written; the ledger is as it was.
    """
    path = workdir / LEDGER_FILE
    data = (json.dumps(with_checksum(line), allow_nan=False) + "\n").encode()
    with writing(path), path.open("ab", buffering=0) as ledger:
        size = ledger.tell()
        try:
            if ledger.write(data) != len(data):
                raise OSError("the disk took only a part of a line")
            sync(ledger.fileno())
        except OSError:
            ledger.truncate(size)
            raise


def parse_ledger(data: bytes, what: str) -> tuple[list[Line], list[str]]:
    """The good lines of a ledger, in their order, and what is wrong with the others.

    Of several lines with one name the last counts.
    """
    lines: dict[str, Line] = {}
    damages = []
    for number, text in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            line = checked(parse_json(text, f"line {number} of {what}"), f"line {number} of {what}")
            _check(line, f"line {number} of {what}")
        except DamagedError as error:
            damages.append(str(error))
            continue
        lines.pop(line["name"], None)
        lines[line["name"]] = line
    if not data.endswith(b"\n") and data:
        damages.append(f"the last line of {what} is torn: it was being written")
    return list(lines.values()), damages


def read_ledger(workdir: pathlib.Path) -> list[Line]:
    """All whole lines of a run's ledger, as dictionaries: model_0, children by step and number.

    Raises:
      ValueError: if there is no ledger, or it cannot be read.
    """
    lines, _ = parse_ledger(read_inside(workdir, LEDGER_FILE), LEDGER_FILE)
    return in_order(lines)


def in_order(lines: Iterable[Line]) -> list[Line]:
    """Lines in the order of the search, whichever child was finished first."""
    return sorted(lines, key=lambda line: _place(line["name"]))


def repair_ledger(workdir: pathlib.Path) -> tuple[list[Line], list[str]]:
    """Read the ledger, and leave only whole lines in it, as if the others had never been written.

    A ledger with lines that are damaged, not torn, is kept beside, as `ledger.jsonl.damaged`.

    Returns:
      The lines in the order in which they were written, and what was wrong.
    """
    path = workdir / LEDGER_FILE
    if not path.exists():
        return [], []
    data = read_inside(workdir, LEDGER_FILE)
    lines, damages = parse_ledger(data, str(path))
    if damages:
        whole = data[: data.rfind(b"\n") + 1]
        if len(parse_ledger(whole, str(path))[1]):
            write_atomically(path.with_name(LEDGER_FILE + ".damaged"), data)
        good = "".join(json.dumps(with_checksum(line), allow_nan=False) + "\n" for line in lines)
        write_atomically(path, good.encode())
    return lines, damages


def shares_of_time(lines: Sequence[Line], overlapped: bool) -> dict[str, float]:
    """What part of the workers' time in the search went where.

    Args:
      lines: of the ledger, in the order in which they were written.
      overlapped: whether children are compiled beside others' training, so that compiling takes
        none of the workers' time.

    Returns:
      Parts of 'compile', 'train', 'evaluate', and 'wait', when a worker had nothing to do; empty if
      there are no children.
    """
    spent, total = Seconds(), 0.0
    for before, line in itertools.pairwise(lines):
        if line["kind"] == "child":
            spent += Seconds(**line["seconds"])
            total += line["workers"] * (line["elapsed"] - before["elapsed"])
    if total <= 0:
        return {}
    busy = dataclasses.replace(spent, wait=0.0, **({"compile": 0.0} if overlapped else {}))
    parts = {name: seconds / total for name, seconds in dataclasses.asdict(busy).items()}
    return {**parts, "wait": 1 - sum(parts.values())}


_NAME = re.compile(r"model_0|step(\d{1,6})-child(\d{1,6})|final")


def _place(name: str) -> tuple[float, int]:
    match = _NAME.fullmatch(name)
    if match and match[1]:
        return int(match[1]), int(match[2])
    return (0, 0) if name == "model_0" else (math.inf, 0)


_KINDS = {"model_0": "pretrained", "final": "final"}
_TYPES: dict[str, Any] = {
    **{"name": str, "kind": str, "step": int, "edits": list, "params": int, "flops": int},
    **{"train_losses": list, "seconds": dict, "elapsed": (int, float), "workers": int},
    **{"memory_bytes": int, "config": str, "spec": dict},
}


#: More than a loss in float32, or anything else that is counted, can be.
_MOST = 1e40


def _check(line: Line, what: str) -> None:
    """Raises `DamagedError` unless this is a line that `ledger_line` can have made."""
    try:
        for name, kind in _TYPES.items():
            if not isinstance(line[name], kind):
                raise ValueError(f"{name} is a {type(line[name]).__name__}")
        name = line["name"]
        if not _NAME.fullmatch(name) or line["kind"] != _KINDS.get(name, "child"):
            raise ValueError(f"{name!r} is no name of a candidate")
        split = "test" if name == "final" else "validation"
        numbers = [line[f"{split}_accuracy"], line[f"{split}_loss"], *line["train_losses"]]
        if not all(x is None or isinstance(x, int | float) for x in numbers):
            raise ValueError("an accuracy or a loss is no number")
        if not isinstance(line.get("failure", ""), str):
            raise ValueError("failure is no text")
        lambdas = line.get("lambdas", {})
        if not all(isinstance(x, int | float) for x in lambdas.values()):
            raise ValueError("a lambda is no number")
        numbers += lambdas.values()
        parent = line["parent"]
        if parent is not None and not (isinstance(parent, str) and _NAME.fullmatch(parent)):
            raise ValueError("parent is no name of a candidate")
        if ("failure" in line) != (numbers[0] is None):
            raise ValueError("a failure has an accuracy, or no failure has none")
        dataclasses.astuple(Seconds(**line["seconds"]))
        if not all(isinstance(x, int | float) for x in line["seconds"].values()):
            raise ValueError("seconds are no numbers")
        numbers += [*line["seconds"].values(), line["elapsed"], line["params"], line["flops"]]
        if any(x is not None and abs(x) > _MOST for x in numbers):
            raise ValueError("a number is larger than any that a run has")
        for edit in line["edits"]:
            edit_from_dict(edit)
        from_dict(line["spec"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedError(f"{what} is damaged: {error}") from None
