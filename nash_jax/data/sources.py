"""Where data sets come from: the embedded digits, and NumPy files."""

from __future__ import annotations

import pathlib

import numpy as np

from nash_jax.data.dataset import Dataset, make_dataset

ARRAYS = ("x_train", "y_train", "x_test", "y_test")


def load_dataset(source: str) -> Dataset:
    """The data set that a `--dataset` flag names.

    Args:
      source: `digits` (scikit-learn's 1,797 real 8x8 digits; a fixed stratified 20% are the test
        set) or `npz:FILE`, a file with the arrays `x_train, y_train, x_test, y_test`.

    Raises:
      ValueError: if there is no such source or file, or its arrays break a rule.

    >>> load_dataset('digits').image_shape
    (8, 8, 1)
    """
    if source == "digits":
        return _digits()
    kind, _, rest = source.partition(":")
    if kind == "npz" and rest:
        return _npz(rest)
    raise ValueError(f"dataset must be 'digits' or 'npz:FILE'; got {source!r}")


def _digits() -> Dataset:
    from sklearn.datasets import load_digits  # takes a second to import
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = np.rint(digits.images[..., None] * (255 / 16)).astype(np.uint8)  # they are 0 to 16
    x_train, x_test, y_train, y_test = train_test_split(
        images, digits.target, test_size=0.2, stratify=digits.target, random_state=0
    )
    return make_dataset("digits", x_train, y_train, x_test, y_test)


def _npz(name: str) -> Dataset:
    try:
        path = pathlib.Path(name).expanduser()
        found = path.is_file()
        arrays = _read_arrays(path) if found else []
    except Exception as error:  # a damaged file makes NumPy and zipfile raise all kinds of errors
        why = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"dataset npz: {name} cannot be used: {why}") from None
    if not found:
        raise ValueError(f"dataset npz: there is no file {name}; give the path of an .npz file")
    return make_dataset(f"npz:{path.name}", *arrays)


def _read_arrays(path: pathlib.Path) -> list[np.ndarray]:
    with path.open("rb") as opened:
        file = np.load(opened, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise ValueError(f"it holds one array; it needs {', '.join(ARRAYS)}")
        missing = [name for name in ARRAYS if name not in file]
        if missing:
            raise ValueError(
                f"it has no array {missing[0]}; it needs {', '.join(ARRAYS)}, and has "
                f"{', '.join(sorted(file)) or 'none'}"
            )
        arrays = [file[name] for name in ARRAYS]
    for name, array in zip(ARRAYS, arrays):
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{name} is not an array; write the file with numpy.savez")
    return arrays
