"""Classifying image files by a network of a run."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
import PIL.Image

from nash_jax.architecture import apply
from nash_jax.runs.checkpoint import load


class Prediction(NamedTuple):
    """What is seen in one image.

    Attributes:
      path: the image.
      classes: the likeliest, the first first.
      probabilities: theirs.
      error: why the image could not be read; empty if it could.
    """

    path: pathlib.Path
    classes: tuple[int, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str = ""


def predict(
    workdir: pathlib.Path, paths: Sequence[pathlib.Path], name: str = "final", top: int = 3
) -> Iterator[Prediction]:
    """Classify images, each resized to what the network takes, in grey or colour as it does.

    Args:
      workdir: the run's folder.
      paths: files that Pillow reads.
      name: of the candidate.
      top: how many classes to tell.

    Raises:
      ValueError: if there is no such network, or `top` is less than 1.
    """
    if top < 1:
        raise ValueError(f"top must be >= 1; got {top}")
    spec, variables = load(workdir, name)
    run = jax.jit(lambda images: jax.nn.softmax(apply(spec, variables, images)))
    for path in paths:
        try:
            image = read_image(path, spec.input_shape)
        except (OSError, ValueError, PIL.Image.DecompressionBombError) as error:
            why = getattr(error, "strerror", None) or " ".join(str(error).split())
            yield Prediction(path, error=why)
            continue
        probabilities = np.asarray(run(image[None]))[0]
        classes = np.argsort(-probabilities, kind="stable")[:top]
        yield Prediction(
            path, tuple(map(int, classes)), tuple(float(probabilities[c]) for c in classes)
        )


def read_image(path: pathlib.Path, shape: Sequence[int]) -> np.ndarray:
    """An image as uint8 `[height, width, channels]`, with 1 or 3 channels.

    Raises:
      OSError, ValueError: if it is none that Pillow reads.
    """
    height, width, channels = shape
    with PIL.Image.open(path) as image:
        converted = image.convert("L" if channels == 1 else "RGB")
        resized = converted.resize((width, height), PIL.Image.Resampling.BILINEAR)
        return np.asarray(resized, np.uint8).reshape(height, width, channels)
