"""Many image files as one array, read in parallel."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from nash_jax.data.dataset import Dataset, make_dataset
from nash_jax.data.images import ImageError, Pixels, decode, scaled, with_channels
from nash_jax.machine import memory_bytes, num_cores
from nash_jax.text import listed, one_line

#: What can be done at an image that cannot be read.
CORRUPT_IMAGES = ("stop", "skip")

#: Images of more than 8 bits whose values, reduced to 8 bits, stay below this are too dark.
_TOO_DARK = 64


class Images(NamedTuple):
    """Images of one shape.

    Attributes:
      images: uint8 `[n, height, width, channels]`; one channel if all of them are grey, else 3.
      places: which of the images that were asked for these are, `[n]`; all, if none was skipped.
      pixel_range: the values that became 0 and 255, of images of more than 8 bits per pixel; None
        if there is none.
    """

    images: np.ndarray
    places: np.ndarray
    pixel_range: tuple[float, float] | None = None


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
      note: is told what was skipped, and how pixels were scaled.

    Raises:
      ValueError: if files cannot be read and are not to be skipped, sizes differ, or they need more
        memory than there is.
    """
    size = (image_size, image_size) if image_size else None
    check_memory(what, len(files), (image_size, image_size))
    with warnings_by_name() as (named, warned):

        def attempt(place: int) -> Pixels | str:
            named.name = names(place)
            try:
                return decode(files[place], size)
            except ImageError as error:
                return str(error)

        with concurrent.futures.ThreadPoolExecutor(num_cores()) as pool:
            results = list[Pixels | str]()
            sizes: dict[tuple[int, ...], int] = {}  # each with the place of the first image
            for place, found in enumerate(pool.map(attempt, range(len(files)))):
                results.append(found)
                if isinstance(found, str) or found.values.shape[:2] in sizes:
                    continue
                sizes[found.values.shape[:2]] = place
                check_memory(what, len(files), found.values.shape)
                if len(sizes) > 1:
                    raise ValueError(
                        f"{what}: images must be of one size; "
                        + " and ".join(f"{names(n)} is {w}x{h}" for (h, w), n in sizes.items())
                        + " pixels; give --image_size=32, say, to resize them"
                    )
    for text, of in warned.items():
        note(f"{what}: Pillow warns of {listed(sorted(of))}: {text}")
    bad = {place: why for place, why in enumerate(results) if isinstance(why, str)}
    if bad:
        first = next(iter(bad))
        count = f"{len(bad)} of {len(files)} images cannot be read"
        if corrupt_images == "stop":
            raise ValueError(
                f"{what}: {count}, first {names(first)}: {bad[first]}; replace or remove them, or "
                "give --corrupt_images=skip"
            )
        note(f"{what}: {count} and are skipped: {listed([names(p) for p in bad], most=10)}")
    good = {place: x for place, x in enumerate(results) if not isinstance(x, str)}
    if not good:
        raise ValueError(
            f"{what}: there must be an image that can be read; got none of {len(files)}; give "
            "another folder, or save the images anew"
        )
    del results  # so that `_stacked` can let go of one after the other
    pixel_range, places = _pixel_range(good, names, what, note), np.array(list(good))
    return Images(_stacked(good, pixel_range), places, pixel_range)


def as_dataset(
    name: str,
    found: Images,
    labels: np.ndarray,
    test: np.ndarray,
    class_names: Sequence[str],
    groups: np.ndarray | None = None,
) -> Dataset:
    """A data set of images that were read.

    Args:
      name: what it is called.
      found: the images.
      labels: theirs, `[n]`.
      test: which are the test set, booleans `[n]`.
      class_names: of all classes.
      groups: of the images, `[n]`, if they have any.
    """
    dataset = make_dataset(
        name=name,
        x_train=found.images[~test],
        y_train=labels[~test],
        x_test=found.images[test],
        y_test=labels[test],
        class_names=class_names,
        groups_train=None if groups is None else groups[~test],
        groups_test=None if groups is None else groups[test],
    )
    return dataclasses.replace(dataset, pixel_range=found.pixel_range)


def _pixel_range(
    images: dict[int, Pixels], names: Callable[[int], str], what: str, note: Callable[[str], None]
) -> tuple[float, float] | None:
    """The values that become 0 and 255: the least and the largest of all images that need it."""
    cut = [place for place, image in images.items() if image.truncated]
    if cut and (most := max(int(images[place].values.max()) for place in cut)) < _TOO_DARK:
        note(
            f"{what}: images of 16 bits per colour ({len(cut)}, first {names(cut[0])}) keep "
            f"their upper 8 bits, which here are 0 to {most} of 255; save them with 8 bits, "
            "brighter"
        )
    deep = [place for place, image in images.items() if image.values.dtype != np.uint8]
    if not deep:
        return None
    largest = {place: float(np.nanmax(images[place].values, initial=-np.inf)) for place in deep}
    least = min(float(np.nanmin(images[place].values, initial=np.inf)) for place in deep)
    brightest = max(deep, key=lambda place: largest[place])
    pixel_range = (least, largest[brightest]) if least < np.inf else (0.0, 0.0)
    note(
        f"{what}: images of more than 8 bits per pixel ({len(deep)} of {len(images)}): their "
        f"values {pixel_range[0]:g} to {pixel_range[1]:g} become 0 to 255, in nash predict too"
    )
    usual = np.median(list(largest.values()))
    if (shown := int(scaled(np.array([usual]), pixel_range)[0])) < _TOO_DARK:
        note(
            f"{what}: half of these images become no brighter than {shown} of 255, because "
            f"{names(brightest)} reaches {pixel_range[1]:g}; leave it out, if these are no real "
            "values"
        )
    return pixel_range


def check_memory(what: str, number: int, shape: Sequence[int]) -> None:
    """Raises `ValueError` if so many images of a shape `[height, width, ...]` need too much.

    Args:
      what: the data set.
      number: of images.
      shape: of each.
    """
    height, width = shape[:2]
    if (need := 3 * number * height * width) > (memory := memory_bytes()):
        raise ValueError(
            f"{what}: image_size must be such that all images fit into memory; {number} images "
            f"of {width}x{height} pixels take {need / 2**30:,.0f} GiB, and this machine "
            f"has {memory / 2**30:,.0f} GiB; give a smaller one"
        )


def _stacked(images: dict[int, Pixels], pixel_range: tuple[float, float] | None) -> np.ndarray:
    """All of them, of one size, as uint8 `[n, height, width, channels]`."""
    places = list(images)
    first = images[places[0]].values.shape[:2]
    channels = max(image.values.shape[2] for image in images.values())
    stacked = np.empty((len(places), *first, channels), np.uint8)
    for row, place in enumerate(places):
        values = images.pop(place).values
        if values.dtype != np.uint8 and pixel_range is not None:
            values = scaled(values, pixel_range)
        stacked[row] = with_channels(values, channels)
    return stacked


@contextlib.contextmanager
def warnings_by_name() -> Iterator[tuple[threading.local, dict[str, list[str]]]]:
    """Collects warnings of several threads, each of which says what it works on.

    Yields:
      An object whose `name` each thread sets to what it works on; and by the text of each warning,
      the names that were set when it came.
    """
    named, warned = threading.local(), dict[str, list[str]]()

    def collect(message: Warning | str, *_: object, **__: object) -> None:
        warned.setdefault(one_line(Warning(message)), []).append(getattr(named, "name", "?"))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = collect
        yield named, warned
