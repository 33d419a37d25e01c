"""Where images come from."""

from nash_jax.data.dataset import Dataset, Examples, channel_statistics, make_dataset
from nash_jax.data.findings import findings, shared
from nash_jax.data.image_sets import CORRUPT_IMAGES, warnings_by_name
from nash_jax.data.images import BACKGROUND, ImageError, read_image, with_channels
from nash_jax.data.sources import load_dataset
from nash_jax.data.splits import stratified_split, subset

__all__ = [
    "BACKGROUND",
    "CORRUPT_IMAGES",
    "Dataset",
    "Examples",
    "ImageError",
    "channel_statistics",
    "findings",
    "load_dataset",
    "make_dataset",
    "read_image",
    "shared",
    "stratified_split",
    "subset",
    "warnings_by_name",
    "with_channels",
]
