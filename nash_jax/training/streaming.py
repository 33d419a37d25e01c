"""Batches of sets that are too large for a device, from the host's memory, read ahead by grain."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from nash_jax.data import Examples
from nash_jax.training.compilation import default_device

#: The part of a device's memory that the images of a set may take; networks need the rest.
SHARE_FOR_IMAGES = 0.5


def fits_on_device(examples: Examples, device: jax.Device | None = None) -> bool:
    """Whether a set can stay in a device's memory, beside the networks that are trained on it.

    Args:
      examples: NumPy's, or already on the device.
      device: by default JAX's default device. A device that does not know its memory has enough.
    """
    if isinstance(examples.images, jax.Array):
        return True
    limit = ((device or default_device()).memory_stats() or {}).get("bytes_limit")
    return limit is None or examples.images.nbytes <= SHARE_FOR_IMAGES * limit


def check_streaming() -> None:
    """Raises `ValueError` if grain, which reads what does not fit on a device, is not installed."""
    if importlib.util.find_spec("grain") is None:
        raise ValueError(
            "these images are too many for the device's memory, and streaming them needs grain; "
            "pip install 'nash_jax[streaming]', or take fewer with max_train_examples"
        )


def streamed(examples: Examples, order: np.ndarray) -> Iterable[tuple[Any, Any]]:
    """The batches of an epoch, in their order, each with its labels.

    Args:
      examples: NumPy's.
      order: the places of the images of each batch, `[batches, ...]`.

    Raises:
      ValueError: if grain is not installed.
    """
    check_streaming()
    import grain  # of use for large sets only

    dataset = grain.MapDataset.source(_Batches(examples, order))
    ahead = grain.ReadOptions(num_threads=8, prefetch_buffer_size=16)
    batches: Iterable[tuple[Any, Any]] = dataset.to_iter_dataset(ahead)
    return batches


@dataclasses.dataclass(frozen=True)
class _Batches:
    """What grain reads from, in several threads."""

    examples: Examples
    order: np.ndarray

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        batch = self.order[number]
        return self.examples.images[batch], self.examples.labels[batch]
