"""NumPy files of images and labels."""

from __future__ import annotations

import os
import pathlib
import zipfile
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from nash_jax.data.dataset import Dataset, make_dataset
from nash_jax.data.parts import part_of
from nash_jax.text import listed, one_line, printable

ARRAYS = ("x_train", "y_train", "x_test", "y_test")

#: Arrays that may be missing; see `make_dataset`.
GROUPS = ("groups_train", "groups_test")

_WORDS = {
    "x": ("x", "image", "images", "img", "imgs", "data", "features", "inputs", "pixels"),
    "y": ("y", "label", "labels", "target", "targets", "class", "classes"),
    "groups": ("group", "groups"),
}


def read_npz(name: str, note: Callable[[str], None]) -> Dataset:
    """A file with the arrays `x_train, y_train, x_test, y_test`, as `numpy.savez` writes it.

    Other usual names are understood, such as `train_images`. Without a test set, a validation
    set takes its place. `groups_train` (or `groups`) and `groups_test` may be there, too.

    Args:
      name: the file's path.
      note: is told which arrays are left out.

    Raises:
      ValueError: if it cannot be read or lacks an array.
    """
    what = f"npz:{printable(name)}"
    path = pathlib.Path(os.path.expanduser(name))
    try:
        found = path.is_file()
        arrays = _read(path, what, note) if found else {}
    except Exception as error:  # a damaged file makes NumPy and zipfile raise all kinds of errors
        raise ValueError(f"dataset {what} cannot be used: {one_line(error)}") from None
    if not found:
        raise ValueError(
            f"dataset npz: there is no file {printable(name)}; give the path of an .npz file"
        )
    return make_dataset(f"npz:{printable(path.name)}", **arrays)


def _read(path: pathlib.Path, what: str, note: Callable[[str], None]) -> dict[str, Any]:
    with path.open("rb") as opened:
        if not zipfile.is_zipfile(opened):
            raise ValueError(f"it is no .npz file; write {', '.join(ARRAYS)} with numpy.savez")
        opened.seek(0)
        file = np.load(opened, allow_pickle=False)
        names = _names(file)
        if others := [printable(each) for each in file if each not in names.values()]:
            note(f"dataset {what}: only {', '.join(names.values())} are read, not {listed(others)}")
        return {wanted: _array(file, name) for wanted, name in names.items()}


def _names(there: Iterable[str]) -> dict[str, str]:
    """The names that stand for `ARRAYS` and, if they are there, for `GROUPS`."""
    there = sorted(there)
    meant: dict[str, list[str]] = {}
    for name in there:
        part, rest = part_of(name) or ("", "")
        for letter, words in _WORDS.items():
            if rest in words:
                meant.setdefault(f"{letter}_{part}", []).append(name)
    only_validation = {"x_validation", "y_validation"} <= meant.keys()
    test = "validation" if only_validation and not {"x_test", "y_test"} & meant.keys() else "test"
    names = {}
    if "groups" in there:
        meant.setdefault("groups_train", []).append("groups")
    for wanted in (*ARRAYS, *GROUPS):
        found = meant.get(wanted.replace("test", test), [])
        if wanted in found:
            found = [wanted]
        if len(found) > 1:
            raise ValueError(
                f"it must have one array {wanted}; got {' and '.join(found)}; keep one"
            )
        if not found and wanted in GROUPS:
            continue
        if not found:
            raise ValueError(
                f"it has no array {wanted}; it needs {', '.join(ARRAYS)}, and has "
                f"{listed(there, most=10) or 'none'}; name its "
                "arrays so"
            )
        names[wanted] = found[0]
    return names


def _array(file: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    try:
        array = file[name]
    except ValueError as error:
        objects = "holds Python objects; make it an array of numbers of one shape"
        why = objects if "Object arrays" in str(error) else f"is damaged: {error}; write it again"
        raise ValueError(f"{name} {why}") from None
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{name} is not an array; write the file with numpy.savez")
    return array
