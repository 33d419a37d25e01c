"""Results that a benchmark goes on from: lines of JSON in a file, only ever added to."""

from __future__ import annotations

import json
import pathlib
from typing import Any


def set_name(dataset: str) -> str:
    """The name that rows have for a data set, which is given as `nash search` takes it.

    >>> set_name("npz:mnist.npz"), set_name("npz:data/cifar10.npz"), set_name("digits")
    ('mnist', 'cifar10', 'digits')
    """
    return pathlib.Path(dataset.split(":")[-1]).stem


def read_rows(path: str) -> list[dict[str, Any]]:
    """The results that are there; none, if there is no file."""
    file = pathlib.Path(path)
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def add_row(path: str, row: dict[str, Any]) -> None:
    """Add a result, and show it."""
    with open(path, "a") as file:
        file.write(json.dumps(row) + "\n")
    print(row, flush=True)
