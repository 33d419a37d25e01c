"""Learning curves of several seeds of one architecture, trained in one program."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np

from nash_jax.architecture import Architecture, Variables, init
from nash_jax.data import Examples
from nash_jax.training.evaluate import evaluate_population
from nash_jax.training.loop import Snapshot, fit, variables_in
from nash_jax.training.settings import TrainingSettings


def learning_curves(
    spec: Architecture,
    keys: jax.Array,
    train: Examples,
    judge: Examples,
    epochs: int,
    settings: TrainingSettings,
) -> np.ndarray:
    """How accurate each seed of an architecture is after every epoch; `vmap` trains all at once.

    Args:
      spec: the architecture.
      keys: `[seeds]`; each decides a seed's first weights, the order of its images and their
        augmentation.
      train: images to train on.
      judge: images to measure on.
      epochs: of the training, over which the learning rate is annealed once; at least 1.
      settings: how to train.

    Returns:
      Accuracies in [0, 1], `[seeds, epochs]`.
    """
    starts, trainings = jax.vmap(jax.random.split, out_axes=1)(keys)
    variables = jax.vmap(lambda key: init(spec, key))(starts)
    curves: list[list[float]] = []

    def measure(variables: Variables) -> None:
        found = evaluate_population(spec, variables, judge, **settings.evaluation)
        curves.append([each.accuracy for each in found])

    def after_epoch(take: Callable[[], Snapshot]) -> None:
        measure(variables_in(spec, take(), settings))

    fitted = fit(spec, variables, train, trainings, epochs, settings, checkpoint=after_epoch)
    measure(fitted.variables)
    return np.array(curves).T
