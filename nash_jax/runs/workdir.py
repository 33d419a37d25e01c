"""The folder of one run: config, ledger, best network, pictures, result.

config.json   settings, versions and machine
ledger.jsonl  one line per candidate: see `ledger_line`
best/         spec.json and weights/ of the best network, trained to the end
network.png   a picture of it
climb.png     the validation accuracy of every child, step by step
result.json   test accuracy and times
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
from typing import Any

from nash_jax.architecture import count_flops, count_params
from nash_jax.architecture.serialization import to_dict
from nash_jax.morphisms import edit_to_dict
from nash_jax.search import Candidate

LEDGER_FILE = "ledger.jsonl"


def create_workdir(path: pathlib.Path) -> None:
    """Make the folder of a new run.

    Raises:
      ValueError: if it exists and is not an empty folder: nothing is ever written over.
    """
    try:
        if path.exists() and not path.is_dir():
            raise ValueError(f"workdir must be a folder; {path} is a file; choose another")
        entries = len(list(path.iterdir())) if path.exists() else 0
        if entries:
            raise ValueError(
                f"workdir must be new or empty; {path} has {entries} entries, and nothing is "
                "written over; choose another"
            )
        path.mkdir(parents=True, exist_ok=path.exists())
    except OSError as error:
        raise ValueError(
            f"workdir {path} cannot be used: {error.strerror}; choose another"
        ) from None


def write_json(path: pathlib.Path, data: Any) -> None:
    """Write a JSON file that is either whole or not there."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n")
    os.replace(temporary, path)


def append_ledger(workdir: pathlib.Path, line: dict[str, Any]) -> None:
    with (workdir / LEDGER_FILE).open("a") as ledger:
        ledger.write(json.dumps(line, allow_nan=False) + "\n")


def read_ledger(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """All lines of a run's ledger, as dictionaries."""
    return [json.loads(line) for line in (workdir / LEDGER_FILE).read_text().splitlines()]


def ledger_line(candidate: Candidate, kind: str, step: int) -> dict[str, Any]:
    """A candidate for the ledger, without its weights.

    Args:
      candidate: the candidate.
      kind: 'pretrained' (model_0), 'child', or 'final' (trained on all training images; its
        accuracy and loss are on the test set, those of the others on the validation set).
      step: of hill climbing, from 1; 0 for model_0.
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
        "seconds": {
            name: round(value, 3) for name, value in dataclasses.asdict(estimate.seconds).items()
        },
        "memory_bytes": estimate.required_bytes,
        **({"failure": estimate.failure} if estimate.failure else {}),
        "spec": to_dict(candidate.spec),
    }
