"""Results that others have measured, as tables: what a strategy finds in them costs no training."""

from __future__ import annotations

import csv
import dataclasses
import math
import os
import pathlib
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from nash_jax.checks import did_you_mean
from nash_jax.estimation.estimate import Estimate, Seconds
from nash_jax.text import one_line

#: A column: the data set, what it has, after how many epochs, and the number of the run.
_COLUMN = re.compile(r"(?:(?P<data>\w+?)_)?(?P<what>val|test|sec|acc)(?P<epochs>\d*)(?:_r\d+)?")


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """What is known of the networks of a space, on one data set.

    Attributes:
      name: of the file.
      rows: by a genotype's short code, the number of its row.
      validation: percent of the validation images that are classified right, `[rows]`.
      test: the same of test images, `[rows]`.
      seconds: that a trial takes, `[rows]`; zeros if the table does not say.
      epochs: after which `validation` was measured; 0 if the table does not say.
    """

    name: str
    rows: Mapping[str, int]
    validation: np.ndarray
    test: np.ndarray
    seconds: np.ndarray
    epochs: int = 0

    @classmethod
    def load(cls, path: str | os.PathLike[str], data: str = "", epochs: int = 0) -> Table:
        """Read a table: an npz or csv file, whose columns docs/spaces.md describes.

        Columns are named `DATA_valEPOCHS`, `DATA_testEPOCHS` and `DATA_secEPOCHS`, in percent and
        seconds, with `_rN` behind it where there are several runs, whose mean is taken; `arch` has
        the genotypes. A search sees validation values after the fewest epochs and is charged their
        share of the seconds; the test values are those after the most epochs. `acc`, `acc0`,
        `acc1`, ... are runs that a search sees and that it is judged by.

        Args:
          path: of the file.
          data: whose columns; may be left out if the table has those of one data set.
          epochs: of the validation values; 0: the fewest that there are.

        Raises:
          ValueError: if there is no such file or column; the message says which columns there are.
        """
        path = pathlib.Path(os.path.expanduser(path))
        columns = _columns(path)
        if "arch" not in columns:
            raise _missing(path, "arch", columns)
        codes = [_code(arch) for arch in columns["arch"]]
        rows = {code: row for row, code in enumerate(codes)}
        if len(rows) != len(codes):
            twice = next(code for row, code in enumerate(codes) if rows[code] != row)
            raise ValueError(f"{path}: every genotype must have one row; got {twice!r} twice")
        found = _by_epochs(path, columns, data)
        if epochs and epochs not in found["val"]:
            there = ", ".join(map(str, sorted(found["val"])))
            raise ValueError(f"table_epochs must be one of {there} for {path.name}; got {epochs}")
        epochs = epochs or min(found["val"])
        seconds = np.zeros(len(rows))
        if found["sec"]:
            most = max(found["sec"])
            seconds = found["sec"][most] * (epochs / most if epochs and most else 1)
        return cls(
            path.name,
            rows,
            found["val"][epochs],
            found["test"][max(found["test"])],
            seconds,
            epochs,
        )

    @staticmethod
    def lengths(path: str | os.PathLike[str], data: str = "") -> list[int]:
        """After how many epochs a table has validation values, the fewest first.

        Args:
          path, data: as in `load`.

        Raises:
          ValueError: as `load`.
        """
        path = pathlib.Path(os.path.expanduser(path))
        return sorted(_by_epochs(path, _columns(path), data)["val"])

    def row(self, code: str) -> int:
        """The number of a genotype's row.

        Raises:
          ValueError: if it has none.
        """
        if code not in self.rows:
            example = next(iter(self.rows), "")
            raise ValueError(
                f"{self.name} must have a row for every genotype; it has none for {code!r}; its "
                f"{len(self.rows)} rows are like {example!r}: is it the table of another space?"
            )
        return self.rows[code]

    def estimate(self, code: str) -> Estimate:
        """What a search is told of a genotype: its validation accuracy, and what the trial costs.

        Raises:
          ValueError: if the genotype has no row, or a number is missing there.
        """
        row = self.row(code)
        if not np.isfinite((self.validation[row], self.test[row], self.seconds[row])).all():
            raise ValueError(
                f"{self.name} must have numbers for every genotype; some of {code!r} are missing; "
                "fill them in, or take other --table_epochs"
            )
        seconds = Seconds(train=float(self.seconds[row]))
        return Estimate(float(self.validation[row]) / 100, math.nan, seconds)


def _by_epochs(
    path: pathlib.Path, columns: Mapping[str, np.ndarray], data: str
) -> dict[str, dict[int, np.ndarray]]:
    """The columns of one data set, the mean of all runs: by 'val', 'test', 'sec' and by epochs."""
    parsed = {name: match for name in columns if (match := _COLUMN.fullmatch(name))}
    sets = sorted({match["data"] or "" for match in parsed.values()})
    if data not in sets and (data or len(sets) > 1):
        raise ValueError(
            f"table_data must be one of the data sets of {path.name}, {', '.join(sets) or 'none'}; "
            f"got {data!r}{did_you_mean(data, sets)}"
        )
    data = data or "".join(sets)
    runs: dict[str, dict[int, list[np.ndarray]]] = {"val": {}, "test": {}, "sec": {}}
    for name, match in parsed.items():
        if (match["data"] or "") != data:
            continue
        for what in ("val", "test") if match["what"] == "acc" else (match["what"],):
            epochs = 0 if match["what"] == "acc" else int(match["epochs"] or 0)
            runs[what].setdefault(epochs, []).append(_numbers(path, name, columns[name]))
    for what in ("val", "test"):
        if not runs[what]:
            raise _missing(path, f"{data}_{what}".lstrip("_"), columns)
    return {
        what: {epochs: _mean(np.array(several)) for epochs, several in by_epochs.items()}
        for what, by_epochs in runs.items()
    }


def _mean(runs: np.ndarray) -> np.ndarray:
    """The mean of the runs that there are, `[runs, rows]` to `[rows]`; nan where there is none."""
    there = np.isfinite(runs)
    total = np.where(there, runs, 0).sum(axis=0)
    return np.where(there.any(axis=0), total / np.maximum(there.sum(axis=0), 1), np.nan)


def _columns(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The columns of a file, by name."""
    if path.suffix not in (".npz", ".csv"):
        raise ValueError(f"a table must be a file that ends with .npz or .csv; got {path}")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        with path.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.reader(lines))
    except OSError as error:
        raise ValueError(f"the table {path} cannot be read: {error.strerror}") from None
    except (ValueError, zipfile.BadZipFile, csv.Error) as error:
        raise ValueError(f"the table {path} is damaged: {one_line(error)}") from None
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        raise ValueError(f"{path}: every line of a table must have as many entries as the first")
    return {name: np.array(column) for name, *column in zip(*rows)}


def _numbers(path: pathlib.Path, name: str, column: np.ndarray) -> np.ndarray:
    """A column as numbers; an empty entry is none."""
    try:
        return np.where(column == "", "nan", column).astype(np.float64)
    except ValueError as error:
        raise ValueError(f"{path}: column {name} must have numbers; {error}") from None


def _code(arch: Any) -> str:
    """A genotype's short code: a word, or a row of small whole numbers."""
    return str(arch) if isinstance(arch, str) else "".join(f"{number:x}" for number in arch)


def _missing(path: pathlib.Path, name: str, columns: Mapping[str, Any]) -> ValueError:
    return ValueError(
        f"a table must have a column {name}; {path.name} has {', '.join(columns)}; rename one"
    )
