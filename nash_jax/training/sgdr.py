"""SGDR (Loshchilov & Hutter 2017): the optimiser and the annealed learning rate.

Every training of Algorithm 1 restarts the rate at `lr_start` and anneals it to `lr_end`. With a
warm-up, the rate rises to `lr_start` before (Goyal et al. 2017, "Accurate, Large Minibatch SGD").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
import optax
from numpy.typing import ArrayLike

from nash_jax.training.settings import TrainingSettings


def learning_rate(settings: TrainingSettings, progress: ArrayLike) -> np.ndarray:
    """The learning rate after a part of a training: it rises in the warm-up, and falls by a cosine.

    NumPy computes it: XLA would compile each operation anew for trainings of another length.

    Args:
      settings: how it is trained.
      progress: the part of its updates that are done, in [0, 1], of any shape.

    Returns:
      Of the same shape, in double precision.

    >>> learning_rate(TrainingSettings(), [0.0, 0.25, 0.5, 0.75]).round(4).tolist()
    [0.05, 0.0427, 0.025, 0.0073]
    >>> learning_rate(TrainingSettings(warmup=0.5), [0.0, 0.25, 0.5, 0.75]).round(4).tolist()
    [0.0, 0.025, 0.05, 0.025]
    """
    done, warmup = np.asarray(progress, np.float64), settings.warmup
    falling = (1 + np.cos(np.pi * np.maximum(0.0, done - warmup) / (1 - warmup))) / 2
    after = settings.lr_end + (settings.lr_start - settings.lr_end) * falling
    return np.where(done < warmup, settings.lr_start * done / (warmup or 1.0), after)


def learning_rates(
    settings: TrainingSettings, num_updates: int, progress: float = 0.0
) -> np.ndarray:
    """The learning rate of each update, `[num_updates]`.

    Args:
      settings: how it is trained.
      num_updates: that are to come.
      progress: the part of the training that lies behind, in [0, 1).

    >>> [round(float(rate), 4) for rate in learning_rates(TrainingSettings(), 2, progress=0.5)]
    [0.025, 0.0073]
    """
    done = progress + (1 - progress) * np.arange(num_updates) / num_updates
    return learning_rate(settings, done).astype(np.float32)


class Cosine(NamedTuple):
    """One annealing over some epochs, whose number may change while the training goes on.

    Attributes:
      epochs: of the training, in all.
      since: how many of them were done when their number was changed last.
      behind: the part of the annealing, its warm-up included, that lay behind then.
    """

    epochs: int
    since: int = 0
    behind: float = 0.0

    def progress(self, done: int) -> float:
        """The part of the annealing that lies behind after so many epochs.

        Before `since` it is as if it had been even until then.
        """
        if done < self.since:
            return self.behind * done / self.since
        return self.behind + (1 - self.behind) * (done - self.since) / (self.epochs - self.since)

    def lasting(self, epochs: int, done: int) -> Cosine:
        """What is left after `done` epochs, spread anew: the training has `epochs` in all.

        Raises:
          ValueError: unless there is an epoch left.

        >>> round(Cosine(10).lasting(8, done=5).progress(6), 4)
        0.6667
        """
        if epochs <= done:
            raise ValueError(f"a training must have more than the {done} epochs done; got {epochs}")
        return Cosine(epochs, done, self.progress(done))

    def changed(self, lengths: Mapping[int, int], done: int) -> Cosine:
        """After so many epochs, if it was changed: epochs in all, by how many were done then."""
        cosine = self
        for at in sorted(at for at in lengths if at <= done):
            cosine = cosine.lasting(lengths[at], at)
        return cosine


def direction(settings: TrainingSettings) -> optax.GradientTransformation:
    """What turns gradients into the step that the learning rate scales.

    Gradients are clipped to `clip_norm`, if there is one; then come weight decay and momentum.

    The learning rate stays outside, so that one compiled update serves trainings of any length.
    """
    steps = [
        optax.add_decayed_weights(settings.weight_decay, mask=_kernels),
        optax.trace(settings.momentum, nesterov=settings.nesterov),
    ]
    if settings.clip_norm:
        steps.insert(0, optax.clip_by_global_norm(settings.clip_norm))
    return optax.chain(*steps)


def _kernels(params: optax.Params) -> optax.Params:
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)
