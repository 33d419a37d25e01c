"""Results that a benchmark goes on from: lines of JSON in a file, only ever added to."""

from __future__ import annotations

import json
import pathlib
from typing import Any


def read_rows(path: str) -> list[dict[str, Any]]:
    """The results that are there; none, if there is no file."""
    file = pathlib.Path(path)
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def add_row(path: str, row: dict[str, Any]) -> None:
    """Add a result, and show it."""
    with open(path, "a") as file:
        file.write(json.dumps(row) + "\n")
    print(row, flush=True)
