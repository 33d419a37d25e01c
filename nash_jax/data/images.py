"""Image files as arrays, read in parallel by Pillow."""

from __future__ import annotations

import concurrent.futures
import io
import os
import pathlib
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageOps

#: What a file that is no image makes Pillow raise; RuntimeError is what its reader of AVIF raises.
UNREADABLE = (OSError, ValueError, SyntaxError, RuntimeError, PIL.Image.DecompressionBombError)


class Images(NamedTuple):
    """Images of one shape.

    Attributes:
      images: uint8 `[n, height, width, channels]`; one channel if all of them are grey, else 3.
      places: of these among those that were asked for, `[n]`: all, if none was skipped.
    """

    images: np.ndarray
    places: np.ndarray


def read_image(file: str | os.PathLike[str] | bytes, size: tuple[int, int] | None) -> np.ndarray:
    """An image as uint8 `[height, width, channels]`, with 1 channel if it is grey, else 3.

    It is turned as its EXIF orientation says. Of 16 bits per pixel the upper 8 are taken.

    Args:
      file: a path, or a file's content.
      size: `(height, width)` to resize to, whatever its proportions; None: as it is.

    Raises:
      One of `UNREADABLE`: if Pillow cannot read it, or its pixels have no fixed range.
    """
    with PIL.Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as opened:
        try:
            image: PIL.Image.Image = PIL.ImageOps.exif_transpose(opened)
        except (struct.error, TypeError) as error:
            raise ValueError(f"its EXIF data are damaged: {error}") from None
        if image.mode.startswith("I;16"):
            image = PIL.Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        elif image.mode in ("I", "F"):
            raise ValueError("its pixels have no fixed range; save it with 8 or 16 bits per pixel")
        elif image.mode in ("1", "LA", "La"):
            image = image.convert("L")
        elif image.mode not in ("L", "RGB"):
            # By way of RGBA, because Pillow warns of transparent palettes on the straight way.
            image = image.convert("RGBA").convert("RGB")
        if size is not None and image.size != size[::-1]:
            image = image.resize(size[::-1], PIL.Image.Resampling.BILINEAR)
        array = np.array(image, np.uint8)
    return array if array.ndim == 3 else array[..., None]


def with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """An image in grey (1 channel, ITU-R 601-2 luma) or in colours (3 channels)."""
    if image.shape[2] == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, axis=2)
    return np.array(PIL.Image.fromarray(image).convert("L"))[..., None]


def read_images(
    files: Sequence[str | os.PathLike[str] | bytes],
    names: Callable[[int], str],
    what: str,
    image_size: int = 0,
    corrupt_images: str = "stop",
    note: Callable[[str], None] = lambda text: None,
) -> Images:
    """Read many images, in as many threads as there are cores.

    Args:
      files: paths or contents.
      names: of a file by its place, for people.
      what: the data set, for errors.
      image_size: edge of the square to resize to; 0: none, and all must be of one size.
      corrupt_images: 'stop' at files that cannot be read, or 'skip' them.
      note: is told what was skipped.

    Raises:
      ValueError: if files cannot be read and are not to be skipped, or sizes differ.
    """
    size = (image_size, image_size) if image_size else None
    if (need := 3 * len(files) * image_size**2) > (memory := _physical_memory()):
        raise ValueError(
            f"{what}: image_size must be such that all images fit into memory; {len(files)} images "
            f"of {image_size}x{image_size} pixels take {need / 2**30:,.0f} GiB, and this machine "
            f"has {memory / 2**30:,.0f} GiB; make it smaller"
        )

    def attempt(file: str | os.PathLike[str] | bytes) -> np.ndarray | str:
        try:
            return read_image(file, size)
        except UNREADABLE as error:
            return reason(error)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(attempt, files))
    bad = {place: why for place, why in enumerate(results) if isinstance(why, str)}
    if bad:
        first = next(iter(bad))
        count = f"{len(bad)} of {len(files)} images cannot be read"
        if corrupt_images == "stop":
            raise ValueError(
                f"{what}: {count}, first {names(first)}: {bad[first]}; mend or remove them, or "
                "give --corrupt_images=skip"
            )
        note(f"{what}: {count} and are skipped: {listed([names(p) for p in bad], most=10)}")
    good = {place: x for place, x in enumerate(results) if not isinstance(x, str)}
    if not good:
        raise ValueError(f"{what}: there must be an image that can be read; got none")
    places = list(good)
    for place, image in good.items():
        if image.shape[:2] != good[places[0]].shape[:2]:
            sizes = " and ".join(
                f"{names(p)} is {good[p].shape[1]}x{good[p].shape[0]}" for p in (places[0], place)
            )
            raise ValueError(
                f"{what}: images must be of one size; {sizes} pixels; give --image_size=32, say, "
                "to resize them"
            )
    channels = max(image.shape[2] for image in good.values())
    stacked = np.empty((len(good), *good[places[0]].shape[:2], channels), np.uint8)
    for row, place in enumerate(places):
        stacked[row] = with_channels(good.pop(place), channels)
    return Images(stacked, np.array(places))


def _physical_memory() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def is_image(name: str) -> bool:
    """Whether a file's name ends like those that Pillow reads."""
    return pathlib.PurePath(name).suffix.lower() in PIL.Image.registered_extensions()


def listed(words: Sequence[str], most: int = 5) -> str:
    """The first few of many words, for people."""
    return ", ".join(words[:most]) + (", ..." if len(words) > most else "")


def reason(error: BaseException) -> str:
    """Why a file cannot be read, on one line."""
    if isinstance(error, PIL.UnidentifiedImageError):
        return "it is no image that Pillow reads"  # Pillow's text names an object in memory
    why = getattr(error, "strerror", None) or " ".join(str(error).split())
    return str(why or type(error).__name__)
