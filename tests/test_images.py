"""One image file as an array: transparency, bits per pixel, orientation, and what is no image."""

import os
import struct
import warnings
import zlib

import numpy as np
import PIL.Image
import pytest
from helpers import image, write_folder

from nash_jax import data
from nash_jax.data.image_sets import read_images
from nash_jax.data.images import FORMATS, is_image

WHITE = 255


def png(pixels, colour_type, *chunks):
    """A PNG file of 16 bits per channel, which Pillow does not write in colours."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    parts = [b"IHDR" + head, *chunks, b"IDAT" + zlib.compress(rows), b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
        for part in parts
    )


def saved(tmp_path, array_or_image, name="image.png", **options):
    made = array_or_image
    if isinstance(made, np.ndarray):
        made = PIL.Image.fromarray(made)
    made.save(tmp_path / name, **options)
    return tmp_path / name


def read(path, **options):
    return data.read_image(path, None, **options)


def test_images_are_turned_as_their_orientation_says(tmp_path):
    upright = image(3, (8, 4))
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    path = saved(tmp_path, np.rot90(upright), exif=exif)
    np.testing.assert_array_equal(read(path), upright)


def half_clear(mode, hidden):
    """Two pixels, the second of which is clear and hides a colour."""
    made = PIL.Image.new("RGBA", (2, 1), (10, 10, 10, 255))
    made.putpixel((1, 0), (*hidden, 0))
    if mode == "P":
        made = PIL.Image.new("P", (2, 1))
        made.putpalette([10, 10, 10, *hidden])
        made.putpixel((1, 0), 1)
        made.info["transparency"] = 1
        return made
    if mode in ("L", "RGB"):  # a colour that counts as clear
        made = made.convert("RGB").convert(mode)
        made.info["transparency"] = made.getpixel((1, 0))
        return made
    return made.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB"])
def test_what_hides_under_transparency_does_not_count(tmp_path, mode):
    seen = [
        read(saved(tmp_path, half_clear(mode, hidden), f"{number}.png"))
        for number, hidden in enumerate([(250, 0, 0), (0, 0, 250)])
    ]
    for each in seen:
        assert (each[0, 0] == 10).all()
        assert (each[0, 1] == WHITE).all()
        assert each.shape[2] == (3 if mode in ("RGBA", "RGB") else 1)


def test_half_transparent_pixels_are_mixed_with_white(tmp_path):
    made = PIL.Image.new("RGBA", (1, 1), (0, 100, 255, 51))  # a fifth of it
    assert read(saved(tmp_path, made)).ravel().tolist() == [204, 224, 255]


def test_transparent_grey_of_sixteen_bits_is_white():
    key = b"tRNS" + struct.pack(">H", 7 * 257)
    assert read(png(np.array([[0, 7 * 257]]), 0, key)).ravel().tolist() == [0, WHITE]


@pytest.mark.parametrize(("name", "channels"), [("grey", 1), ("red", 3)])
@pytest.mark.parametrize("ending", ["gif", "png"])
def test_palettes_of_greys_are_grey(tmp_path, name, channels, ending):
    made = PIL.Image.new("P", (2, 1))
    made.putpalette([0, 0, 0, 90, 90 if name == "grey" else 0, 90 if name == "grey" else 0])
    made.putpixel((1, 0), 1)
    found = read(saved(tmp_path, made, f"image.{ending}"))
    assert found.shape == (1, 2, channels)
    assert found[0, 1, 0] == 90


def test_sixteen_bits_are_read_on_one_scale(tmp_path):
    path = saved(tmp_path, np.array([[0, 128, 129, 65535]], np.uint16))
    assert read(path).ravel().tolist() == [0, 0, 1, 255]
    assert read(path, pixel_range=(0, 129)).ravel().tolist() == [0, 253, 255, 255]
    path = saved(tmp_path, np.array([[0.0, 1.0]], np.float32), "float.tiff")
    with pytest.raises(data.ImageError, match="its pixels have no fixed range; save it with 8 or"):
        read(path)
    path = saved(tmp_path, np.array([[0.0, np.nan]], np.float32), "float.tiff")
    with pytest.raises(data.ImageError, match="its pixels must be finite"):
        read(path, pixel_range=(0, 1))


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (np.uint16, [[0, 100], [255, 4095]], [[0, 6], [16, 255]]),
        (np.int32, [[-1000, 0], [0, 3000]], [[0, 64], [64, 255]]),
        (np.float32, [[0, 0.5], [0.25, 1]], [[0, 128], [64, 255]]),
    ],
)
def test_the_range_of_deep_pixels_is_that_of_the_whole_set(tmp_path, kind, values, expected):
    for number, row in enumerate(values):
        saved(tmp_path, np.array([row], kind), f"{number}.tiff")
    files, notes = sorted(tmp_path.iterdir()), []
    found = read_images(files, lambda n: files[n].name, "set", note=notes.append)
    np.testing.assert_array_equal(found.images[:, 0, :, 0], expected)
    least, most = np.min(values), np.max(values)
    assert found.pixel_range == (least, most)
    assert notes == [
        f"set: images of more than 8 bits per pixel (2 of 2): their values {least:g} to {most:g} "
        "become 0 to 255, in nash predict too"
    ]
    again = read(files[1], pixel_range=found.pixel_range)
    np.testing.assert_array_equal(again[0, :, 0], expected[1])


def test_whole_numbers_of_32_bits_may_have_no_sign(tmp_path):
    values = np.array([[0, 3_000_000_000, 4_000_000_000]], np.uint32)
    entries = [(256, 3, 3), (257, 3, 1), (258, 3, 32), (259, 3, 1), (262, 3, 1), (273, 4, 134)]
    entries += [(277, 3, 1), (278, 3, 1), (279, 4, 12), (339, 3, 1)]
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    tags = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    content = head + tags + struct.pack("<I", 0) + values.tobytes()
    assert len(head + tags) + 4 == 134
    found = read(content, pixel_range=(0, 4_000_000_000))
    assert found.ravel().tolist() == [0, 191, 255]


def test_one_value_that_makes_all_others_dark_is_told_of(tmp_path):
    for number in range(4):
        saved(tmp_path, np.array([[0, 1000 + number]], np.uint16), f"{number}.png")
    saved(tmp_path, np.array([[0, 65535]], np.uint16), "hot.png")
    files, notes = sorted(tmp_path.iterdir()), []
    read_images(files, lambda n: files[n].name, "set", note=notes.append)
    assert notes[1] == (
        "set: half of these images become no brighter than 4 of 255, because hot.png reaches "
        "65535; leave it out, if these are no real values"
    )


def test_early_runs_saw_what_hides_under_transparency(tmp_path):
    path = saved(tmp_path, half_clear("RGBA", (250, 0, 0)))
    assert read(path, background=None)[0, 1].tolist() == [250, 0, 0]
    path = saved(tmp_path, half_clear("LA", (250, 0, 0)))
    assert read(path, background=None).ravel().tolist() == [10, 75]


def test_dark_colours_of_sixteen_bits_are_told_of():
    notes = []
    dark, bright = (png(np.full((1, 1, 3), value), 2) for value in (4095, 40000))
    found = read_images([dark], str, "set", note=notes.append)
    assert found.images.max() == 15
    assert notes == [
        "set: images of 16 bits per colour (1, first 0) keep their upper 8 bits, which here are 0 "
        "to 15 of 255; save them with 8 bits, brighter"
    ]
    read_images([dark, bright], str, "set", note=notes.append)
    assert len(notes) == 1


def spider(path):
    """A header of 256 floats that Pillow's reader of SPIDER takes, and fails over."""
    header = np.zeros(256, ">f4")
    header[[1, 4, 11, 12, 21, 22]] = 1, 1, 1, 1, 1024, 1024
    path.write_bytes(header.tobytes())


def test_only_formats_that_were_asked_for_are_decoded(tmp_path):
    spider(tmp_path / "odd.png")
    with pytest.raises(data.ImageError, match="it is no image of a known format"):
        read(tmp_path / "odd.png")
    assert [
        name for name in ("a.pdf", "a.mpg", "a.h5", "a.eps", "a.txt", "a") if is_image(name)
    ] == []
    assert all(map(is_image, ("a.JPG", "a.jpeg", "a.png", "a.tif", "a.webp", "a.bmp", "a.gif")))
    assert "SPIDER" not in FORMATS


@pytest.mark.parametrize("error", [AttributeError, KeyError, ZeroDivisionError, MemoryError])
def test_whatever_a_decoder_raises_is_that_images_failure(tmp_path, monkeypatch, error):
    write_folder(tmp_path)
    (tmp_path / "cat" / "odd.png").write_bytes(b"odd")
    opened = PIL.Image.open

    def fail(file, *args, **options):
        if str(file).endswith("odd.png"):
            raise error
        return opened(file, *args, **options)

    monkeypatch.setattr(PIL.Image, "open", fail)
    with pytest.raises(ValueError, match=rf"cat/odd.png: {error.__name__}; replace or remove"):
        data.load_dataset(f"folder:{tmp_path}")
    loaded = data.load_dataset(f"folder:{tmp_path}", corrupt_images="skip")
    assert len(loaded.train) + len(loaded.test) == 6


def test_a_pipe_is_no_image(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(data.ImageError, match="it is no regular file"):
        read(tmp_path / "x.png")


def test_warnings_come_with_the_name_of_the_image(tmp_path, monkeypatch):
    paths = [saved(tmp_path, image(n, (9, 9)), f"{n}.png") for n in range(3)]
    saved(tmp_path, image(3, (4, 4)), "0.png")
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 50)
    notes = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_images(paths, lambda n: paths[n].name, "set", image_size=4, note=notes.append)
    (note,) = notes
    assert note.startswith("set: Pillow warns of 1.png, 2.png: Image size (81 pixels) exceeds")
