"""Where images come from."""

from nash_jax.data.dataset import Dataset, Examples, channel_statistics, make_dataset
from nash_jax.data.findings import findings
from nash_jax.data.images import UNREADABLE, read_image, reason, with_channels
from nash_jax.data.sources import CORRUPT_IMAGES, load_dataset
from nash_jax.data.splits import stratified_split, subset

__all__ = [
    "CORRUPT_IMAGES",
    "Dataset",
    "Examples",
    "UNREADABLE",
    "channel_statistics",
    "findings",
    "load_dataset",
    "make_dataset",
    "read_image",
    "reason",
    "stratified_split",
    "subset",
    "with_channels",
]
