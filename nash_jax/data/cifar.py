"""The official binary files of CIFAR-10 and CIFAR-100 (Krizhevsky 2009)."""

from __future__ import annotations

import pathlib

import numpy as np

from nash_jax.data.dataset import Dataset, make_dataset

_TEN = [f"data_batch_{number}.bin" for number in range(1, 6)], ["test_batch.bin"]
_HUNDRED = ["train.bin"], ["test.bin"]
_NAMES = {"coarse_label": "coarse_label_names.txt", "label": "fine_label_names.txt"}
_PIXELS = 3 * 32 * 32


def read_cifar(folder: pathlib.Path, label: str) -> Dataset:
    """A folder as it comes out of `cifar-10-binary.tar.gz` or `cifar-100-binary.tar.gz`.

    Args:
      folder: with `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`, or with
        `train.bin` and `test.bin`.
      label: of CIFAR-100: 'label' (the 100 classes, by default) or 'coarse_label' (20).

    Raises:
      ValueError: if files are missing or are not whole.
    """
    name = f"cifar:{folder}"
    if (folder / _HUNDRED[0][0]).exists():
        files, labels, column = _HUNDRED, 2, ["coarse_label", "label"]
    else:
        files, labels, column = _TEN, 1, ["label"]
    if (label or "label") not in column:
        raise ValueError(
            f"dataset {name} has the labels {', '.join(column)}; got {label!r}; give one of them"
        )
    place = column.index(label or "label")

    def read(files: list[str]) -> tuple[np.ndarray, np.ndarray]:
        records = np.concatenate([_records(folder / file, labels, name) for file in files])
        images = records[:, labels:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(images), records[:, place].astype(np.int32)

    train, test = map(read, files)
    names = "batches.meta.txt" if labels == 1 else _NAMES[column[place]]
    return make_dataset(name, *train, *test, class_names=_lines(folder / names))


def _lines(path: pathlib.Path) -> tuple[str, ...]:
    """The names of the classes, if their file is there."""
    return tuple(path.read_text(errors="replace").split()) if path.is_file() else ()


def _records(path: pathlib.Path, labels: int, name: str) -> np.ndarray:
    try:
        content = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise ValueError(
            f"dataset {name}: {path} cannot be read: {error.strerror}; give the folder that "
            "cifar-10-binary.tar.gz or cifar-100-binary.tar.gz has"
        ) from None
    size = labels + _PIXELS
    if len(content) == 0 or len(content) % size:
        raise ValueError(
            f"dataset {name}: {path} must have records of {size} bytes; got {len(content)} bytes; "
            "unpack it again"
        )
    return content.reshape(-1, size)
