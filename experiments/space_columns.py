"""What a study of a search space measures, as columns of an npz file, in percent.

- `curves...`: accuracy after each epoch of random networks of a space, `[n, epochs]`; the first
  such column is the space itself, others are what it is compared with;
- `seeds...`: of the same networks with several seeds, `[n, seeds]`;
- `cellsN`: as `curves`, of networks of N cells;
- `cellsA_B`: of the same networks with A and with B cells, `[n, 2]`.

So are the curves published with Yang et al. 2020 arranged.
"""

from __future__ import annotations

import io
import pathlib
import re
import zipfile
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from nash_jax.record.files import write_atomically
from nash_jax.text import listed, one_line

#: How a column is called, by what it has.
NAMES = {
    "curves": r"curves\w*",
    "seeds": r"seeds\w*",
    "depths": r"cells(\d+)_(\d+)",
    "cells": r"cells(\d+)",
}


class Columns(NamedTuple):
    """The columns of a study, in percent.

    Attributes:
      curves: by set, `[n, epochs]`; the first set is the space itself.
      seeds: by set, `[n, seeds]`.
      depths: by two numbers of cells, `[n, 2]`.
      cells: by number of cells, `[n, epochs]`.
    """

    curves: dict[str, np.ndarray]
    seeds: dict[str, np.ndarray]
    depths: dict[tuple[int, int], np.ndarray]
    cells: dict[int, np.ndarray]


def read(path: pathlib.Path) -> Columns:
    """The columns of a file; others than the known ones do not matter.

    Raises:
      ValueError: if it cannot be read, has no learning curves, or a column breaks a rule.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return columns_of({name: file[name] for name in file.files}, str(path))
    except OSError as error:
        raise ValueError(f"curves {path} cannot be read: {error.strerror or error}") from None
    except (zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"curves {path} is no npz file: {one_line(error)}") from None


def columns_of(arrays: Mapping[str, np.ndarray], what: str) -> Columns:
    """Arrays by their names, checked.

    Raises:
      ValueError: as `read`.

    >>> found = columns_of({"curves2": np.ones((3, 5)), "cells4_8": np.ones((3, 2))}, "file")
    >>> list(found.curves), list(found.depths)
    (['curves2'], [(4, 8)])
    """
    found = Columns({}, {}, {}, {})
    for name, array in arrays.items():
        for kind, pattern in NAMES.items():
            if not (match := re.fullmatch(pattern, name)):
                continue
            values = _checked(array, f"{what}: {name}", two=kind == "depths")
            match kind:
                case "curves":
                    found.curves[name] = values
                case "seeds":
                    found.seeds[name] = values
                case "depths":
                    found.depths[int(match[1]), int(match[2])] = values
                case _:
                    found.cells[int(match[1])] = values
            break
    if not found.curves:
        raise ValueError(
            f"{what} must have a column curves, [networks, epochs]; got {listed(arrays) or 'none'}"
        )
    return found


def write(path: pathlib.Path, columns: Mapping[str, np.ndarray]) -> None:
    """Write columns, so that `read` reads them.

    Raises:
      WriteError: if the file cannot be written.
    """
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **columns)
    write_atomically(path, content.getvalue())


def _checked(array: np.ndarray, what: str, two: bool) -> np.ndarray:
    """Percent `[n, m]`, n >= 3, m >= 2."""
    rule = "must be percent, [networks >= 3, 2 or more]"
    if array.dtype.kind not in "fiu" or array.ndim != 2:
        raise ValueError(f"{what} {rule}; got {array.dtype} {list(array.shape)}")
    values = array.astype(float)
    fits = len(values) >= 3 and (values.shape[1] == 2 if two else values.shape[1] >= 2)
    if not fits or not ((values >= 0) & (values <= 100)).all():
        ends = f"{values.min():g} to {values.max():g}" if values.size else "nothing"
        raise ValueError(f"{what} {rule}; got {list(values.shape)}, {ends}; correct the column")
    return values
