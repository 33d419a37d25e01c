"""Learning curves of several seeds of one architecture."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from nash_jax.architecture import Architecture, Variables, init
from nash_jax.data import Examples
from nash_jax.training.evaluate import evaluate, evaluate_population
from nash_jax.training.loop import Snapshot, fit, variables_in
from nash_jax.training.settings import TrainingSettings


def learning_curves(
    spec: Architecture,
    keys: jax.Array,
    train: Examples,
    judge: Examples,
    epochs: int,
    settings: TrainingSettings,
    together: bool = False,
) -> np.ndarray:
    """How accurate each seed of an architecture is after every epoch.

    Args:
      spec: the architecture.
      keys: `[seeds]`; each decides a seed's first weights, the order of its images and their
        augmentation.
      train: images to train on.
      judge: images to measure on.
      epochs: of the training, over which the learning rate is annealed once; at least 1.
      settings: how to train.
      together: whether `vmap` trains all at once in one program, instead of one after the other,
        with the same result up to rounding. On CPUs and on a GPU that was slower for all but
        tiny networks: docs/performance.md.

    Returns:
      Accuracies in [0, 1], `[seeds, epochs]`.
    """
    split: Callable[..., Any] = jax.random.split
    draw: Callable[..., Variables] = functools.partial(init, spec)
    if together:
        split, draw = jax.vmap(split, out_axes=1), jax.vmap(draw)

    def curves_of(key: jax.Array) -> np.ndarray:
        """`[epochs]` of one key, `[seeds, epochs]` of all."""
        start, training = split(key)
        curves: list[Any] = []

        def measure(variables: Variables) -> None:
            if together:
                found = evaluate_population(spec, variables, judge, **settings.evaluation)
                curves.append([each.accuracy for each in found])
            else:
                curves.append(evaluate(spec, variables, judge, **settings.evaluation).accuracy)

        def after_epoch(take: Callable[[], Snapshot]) -> None:
            measure(variables_in(spec, take(), settings))

        fitted = fit(spec, draw(start), train, training, epochs, settings, checkpoint=after_epoch)
        measure(fitted.variables)
        return np.array(curves).T

    return curves_of(keys) if together else np.stack([curves_of(key) for key in keys])
