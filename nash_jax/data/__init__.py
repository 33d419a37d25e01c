"""Where images come from."""

from nash_jax.data.dataset import Dataset, Examples, channel_statistics, make_dataset
from nash_jax.data.sources import load_dataset
from nash_jax.data.splits import stratified_split, subset

#: What can be done at an image that cannot be read.
CORRUPT_IMAGES = ("stop", "skip")

__all__ = [
    "CORRUPT_IMAGES",
    "Dataset",
    "Examples",
    "channel_statistics",
    "load_dataset",
    "make_dataset",
    "stratified_split",
    "subset",
]
