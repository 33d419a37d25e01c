"""Classifying image files by a network of a run."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from nash_jax.architecture import apply
from nash_jax.data import ImageError, read_image, warnings_by_name, with_channels
from nash_jax.record.networks import load
from nash_jax.record.workdir import background_of, read_meaning


class Prediction(NamedTuple):
    """What is seen in one image.

    Attributes:
      path: the image.
      classes: the likeliest, the first first: their names, or numbers where they have none.
      probabilities: theirs.
      error: why the image could not be read; empty if it could.
      warning: what Pillow warns of, though it read the image.
    """

    path: pathlib.Path
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str = ""
    warning: str = ""


def predict(
    workdir: pathlib.Path,
    paths: Sequence[pathlib.Path],
    name: str = "final",
    top: int = 3,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[Prediction]:
    """Classify images, each resized and made grey or coloured as the network needs it.

    Args:
      workdir: the run's folder.
      paths: of image files.
      name: of the trial.
      top: how many classes to tell.
      note: is told if the run's config is damaged.

    Raises:
      ValueError: if there is no such network, or `top` is less than 1.
    """
    if top < 1:
        raise ValueError(f"top must be >= 1; got {top}")
    spec, variables = load(workdir, name)
    names, pixel_range = read_meaning(workdir, note)
    background = background_of(workdir)
    height, width, channels = spec.input_shape
    run = jax.jit(lambda images: jax.nn.softmax(apply(spec, variables, images)))
    for path in paths:
        try:
            with warnings_by_name() as (_, warned):
                image = read_image(path, (height, width), pixel_range, background)
        except ImageError as error:
            yield Prediction(path, error=str(error))
            continue
        image = with_channels(image, channels)
        probabilities = np.asarray(run(image[None]))[0]
        likeliest = np.argsort(-probabilities, kind="stable")[:top]
        named = tuple(names[c] if c < len(names) else str(c) for c in likeliest)
        likely = tuple(float(probabilities[c]) for c in likeliest)
        yield Prediction(path, named, likely, warning="; ".join(warned))
