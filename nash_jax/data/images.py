"""One image file as an array, read by Pillow."""

from __future__ import annotations

import functools
import io
import os
import pathlib
import stat
import struct
from typing import NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageFile
import PIL.ImageOps

from nash_jax.text import one_line

#: The formats that are read, each known by its first bytes. Pillow knows more: documents, films and
#: arrays, and formats without such first bytes, for which it mistakes damaged files.
FORMATS = (
    *("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "QOI", "SGI"),
    *("TIFF", "WEBP"),
)
#: What is seen through transparent pixels.
BACKGROUND = "white"


class ImageError(ValueError):
    """A file is no image that can be read; the message says why."""


class Pixels(NamedTuple):
    """A decoded image.

    Attributes:
      values: `[height, width, channels]`: uint8, with 1 channel if the image is grey, else 3. If
        the file has more than 8 bits per pixel: float32 with 1 channel, with the values of the
        file, and NaN where the image is transparent.
      full_range: the least and the largest value that the format can hold; None if it has no
        such range.
      truncated: whether the file has 16 bits per colour, of which Pillow gives the upper 8.
    """

    values: np.ndarray
    full_range: tuple[float, float] | None = (0, 255)
    truncated: bool = False


def read_image(
    file: str | os.PathLike[str] | bytes,
    size: tuple[int, int] | None,
    pixel_range: tuple[float, float] | None = None,
    background: str | None = BACKGROUND,
) -> np.ndarray:
    """An image as uint8 `[height, width, channels]`, with 1 channel if it is grey, else 3.

    It is turned as its EXIF orientation says, and stands on white where it is transparent.

    Args:
      file: a path, or a file's content.
      size: `(height, width)` to resize to, whatever its proportions; None: as it is.
      pixel_range: of a grey image of more than 8 bits per pixel, the values that become 0 and 255;
        by default the least and the largest that 16 bits can hold. `Dataset.pixel_range` is that
        of a data set.
      background: what shows through transparent pixels; None: whatever colour they hide.

    Raises:
      ImageError: if it cannot be read, or its values have no range and none is given.
    """
    pixels = decode(file, size, background)
    if pixels.values.dtype == np.uint8:
        return pixels.values
    given = pixel_range or pixels.full_range
    if given is None:
        raise ImageError("its pixels have no fixed range; save it with 8 or 16 bits per pixel")
    return scaled(pixels.values, given)


def scaled(values: np.ndarray, pixel_range: tuple[float, float]) -> np.ndarray:
    """Values as uint8: the range becomes 0 to 255; values outside are clipped; NaN becomes 255."""
    least, most = pixel_range
    parts = (values.astype(np.float64) - least) / max(most - least, np.finfo(np.float64).tiny)
    return np.rint(255 * np.clip(np.nan_to_num(parts, nan=1), 0, 1)).astype(np.uint8)


def decode(
    file: str | os.PathLike[str] | bytes,
    size: tuple[int, int] | None,
    background: str | None = BACKGROUND,
) -> Pixels:
    """An image with the values that its file has.

    Args:
      file, size, background: as in `read_image`.

    Raises:
      ImageError: if it cannot be read.
    """
    try:
        if not isinstance(file, bytes) and not stat.S_ISREG(os.stat(file).st_mode):
            raise ImageError("it is no regular file")  # a pipe may never end
        source = io.BytesIO(file) if isinstance(file, bytes) else file
        with PIL.Image.open(source, formats=_formats()) as opened:
            truncated, unsigned = _has_deep_colours(opened), _is_unsigned(opened)
            pixels = _pixels(_turned(opened), size, background, unsigned)
            return pixels._replace(truncated=truncated)
    except ImageError:
        raise
    except Exception as error:  # decoders raise all kinds of errors for damaged files
        raise ImageError(reason(error)) from error


def with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """An image in grey (1 channel, ITU-R 601-2 luma) or in colours (3 channels)."""
    if image.shape[2] == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, axis=2)
    return np.array(PIL.Image.fromarray(image).convert("L"))[..., None]


def resized(images: np.ndarray, edge: int) -> np.ndarray:
    """Images as squares, whatever their proportions: smaller ones by means over what is covered.

    Args:
      images: uint8 `[n, height, width, channels]`, 1 or 3 channels.
      edge: of the square.

    Returns:
      uint8 `[n, edge, edge, channels]`.

    >>> resized(np.full((1, 4, 6, 3), 7, np.uint8), 2).tolist()[0][0]
    [[7, 7, 7], [7, 7, 7]]
    """
    n, height, width, channels = images.shape
    if (height, width) == (edge, edge):
        return images
    found = np.empty((n, edge, edge, channels), np.uint8)
    for image, into in zip(images, found):
        pixels = PIL.Image.fromarray(image if channels == 3 else image[..., 0])
        small = np.asarray(pixels.resize((edge, edge), PIL.Image.Resampling.BILINEAR))
        into[:] = small.reshape(edge, edge, channels)
    return found


def is_image(name: str) -> bool:
    """Whether a file's name ends like those of the formats that are read."""
    return PIL.Image.registered_extensions().get(pathlib.PurePath(name).suffix.lower()) in FORMATS


def reason(error: BaseException) -> str:
    """Why a file cannot be read, on one line."""
    if isinstance(error, PIL.UnidentifiedImageError):
        return "it is no image of a known format"  # Pillow's text names an object in memory
    return getattr(error, "strerror", None) or one_line(error)


@functools.cache
def _formats() -> list[str]:
    """Those that this Pillow was built with."""
    PIL.Image.init()
    return [name for name in FORMATS if name in PIL.Image.OPEN]


def _turned(image: PIL.Image.Image) -> PIL.Image.Image:
    try:
        return PIL.ImageOps.exif_transpose(image)
    except (struct.error, TypeError) as error:
        raise ImageError(f"its EXIF data are damaged: {one_line(error)}") from error


def _has_deep_colours(image: PIL.ImageFile.ImageFile) -> bool:
    """Whether an image in colours, or with transparency, has 16 bits per channel in its file."""
    return image.mode in ("RGB", "RGBA", "LA") and any(";16" in str(t.args) for t in image.tile)


def _is_unsigned(image: PIL.ImageFile.ImageFile) -> bool:
    """Whether a TIFF file has unsigned whole numbers of 32 bits, which Pillow reads as signed."""
    tags = getattr(image, "tag_v2", {})
    return image.mode == "I" and tags.get(258) == (32,) and tags.get(339, (1,)) == (1,)


def _pixels(
    image: PIL.Image.Image, size: tuple[int, int] | None, background: str | None, unsigned: bool
) -> Pixels:
    deep, sixteen = image.mode in ("I", "F"), image.mode.startswith("I;16")
    if deep or sixteen:
        array = np.asarray(image)
        values = (array.view(np.uint32) if unsigned else array).astype(np.float32)
        if not np.isfinite(values).all():
            raise ImageError("its pixels must be finite numbers; got infinite ones, or none")
        if sixteen and isinstance(key := image.info.get("transparency"), int):
            values[values == key] = np.nan
        image = PIL.Image.fromarray(values)
    elif image.has_transparency_data and background is not None:
        image = _on_background(image, background)
    elif image.mode == "P" and background is not None:
        image = _grey_if_it_is(image.convert("RGB"))
    elif image.mode in ("1", "LA", "La"):
        image = image.convert("L")
    elif image.mode not in ("L", "RGB"):
        # By way of RGBA, because Pillow warns of transparent palettes on the straight way.
        image = image.convert("RGBA").convert("RGB") if image.mode == "P" else image.convert("RGB")
    if size is not None and image.size != size[::-1]:
        image = image.resize(size[::-1], PIL.Image.Resampling.BILINEAR)
    values = np.array(image)
    values = values if values.ndim == 3 else values[..., None]
    return Pixels(values, None if deep else (0, 2**16 - 1) if sixteen else (0, 255))


def _on_background(image: PIL.Image.Image, background: str) -> PIL.Image.Image:
    """The image as it looks on a background: colours of transparent pixels do not count."""
    mode = image.mode
    if mode in ("La", "RGBa"):  # colours multiplied by their opacity
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[mode])
    image = image.convert("RGBA")
    seen = PIL.Image.new("RGBA", image.size, background)
    seen.alpha_composite(image)
    seen = seen.convert("RGB")
    if mode in ("1", "L", "LA", "La"):
        return seen.convert("L")
    return _grey_if_it_is(seen) if mode in ("P", "PA") else seen


def _grey_if_it_is(image: PIL.Image.Image) -> PIL.Image.Image:
    """With one channel if all three are equal: a palette does not say whether it is of greys."""
    red, green, blue = np.moveaxis(np.asarray(image), 2, 0)
    return image.getchannel(0) if (red == green).all() and (red == blue).all() else image
