"""SGDR (Loshchilov & Hutter 2017): the optimiser and the annealed learning rate.

Every training of Algorithm 1 restarts the rate at `lr_start` and anneals it to `lr_end`. With a
warm-up, the rate rises to `lr_start` before (Goyal et al. 2017, "Accurate, Large Minibatch SGD").
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from nash_jax.jax_settings import usual_promotion
from nash_jax.training.settings import TrainingSettings

#: Rates are computed so many at a time, because for another number of them XLA would compile every
#: operation of the schedule anew: 0.6 seconds on a CPU for each training of another length.
_BLOCK = 1024


@usual_promotion
def learning_rates(
    settings: TrainingSettings, num_updates: int, progress: float = 0.0
) -> np.ndarray:
    """The learning rate of each update, `[num_updates]`: a warm-up, then one cosine.

    Args:
      settings: how it is trained.
      num_updates: that are to come, at least 1.
      progress: the part of the training that lies behind, in [0, 1).

    >>> [round(float(rate), 4) for rate in learning_rates(TrainingSettings(), 4)]
    [0.05, 0.0427, 0.025, 0.0073]
    >>> [round(float(rate), 4) for rate in learning_rates(TrainingSettings(), 2, progress=0.5)]
    [0.025, 0.0073]
    >>> [round(float(rate), 4) for rate in learning_rates(TrainingSettings(warmup=0.5), 4)]
    [0.0, 0.025, 0.05, 0.025]
    """
    start, end, in_all = settings.lr_start, settings.lr_end, num_updates / (1 - progress)
    if settings.warmup:
        rising = settings.warmup * in_all
        schedule = optax.warmup_cosine_decay_schedule(0.0, start, rising, in_all, end)
    else:
        schedule = optax.cosine_decay_schedule(start, in_all, alpha=end / start)
    behind, block = in_all * progress, jnp.arange(_BLOCK)
    blocks = [schedule(behind + (first + block)) for first in range(0, num_updates, _BLOCK)]
    return np.concatenate(blocks)[:num_updates].astype(np.float32)


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


def learning_rate(settings: TrainingSettings, progress: float) -> float:
    """The learning rate after a part of a training, for people to look at.

    Args:
      settings: how it is trained.
      progress: the part of its updates that are done, in [0, 1].

    >>> [round(learning_rate(TrainingSettings(), quarters / 4), 4) for quarters in range(4)]
    [0.05, 0.0427, 0.025, 0.0073]
    """
    if progress < settings.warmup:
        return settings.lr_start * progress / settings.warmup
    progress = (progress - settings.warmup) / (1 - settings.warmup)
    cosine = (1 + math.cos(math.pi * progress)) / 2
    return settings.lr_end + (settings.lr_start - settings.lr_end) * cosine


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
