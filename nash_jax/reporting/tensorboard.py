"""A run as TensorBoard files: a learning curve for every trial, and the climb."""

from __future__ import annotations

import itertools
import os
import pathlib
import threading
from typing import Any, assert_never

from nash_jax.reporting.edges import entropy
from nash_jax.reporting.events import Begun, Chosen, Done, Epoch, Event, Load, Note, Phase
from nash_jax.search import Trial

FOLDER = "tensorboard"


class TensorBoard:
    """Writes to `WORKDIR/tensorboard`, one run of TensorBoard's for each trial.

    train_loss      mean training loss of an epoch, by epoch
    learning_rate   at the beginning of an epoch, by epoch
    accuracy        by step: every trial, and as run `climb` the best so far

    Needs the `tensorboard` extra.
    """

    def __init__(self, workdir: pathlib.Path) -> None:
        try:
            import tensorboardX
        except ImportError:
            raise ValueError(
                "tensorboard needs the package tensorboardX; got none; "
                "pip install 'nash_jax[tensorboard]'"
            ) from None
        self._make, self._folder = tensorboardX.SummaryWriter, workdir / FOLDER
        self._writers: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._numbers = itertools.count()

    def __call__(self, event: Event) -> None:
        match event:
            case Epoch():
                self._epoch(event)
            case Done(trial):
                self._done(trial)
            case Chosen(trial):
                self._choose(trial)
            case Begun() | Load() | Phase() | Note():
                pass
            case _:
                assert_never(event)

    def _epoch(self, epoch: Epoch) -> None:
        with self._lock:
            writer = self._writer(epoch.name)
            writer.add_scalar("train_loss", epoch.loss, epoch.number)
            writer.add_scalar("learning_rate", epoch.learning_rate, epoch.number)

    def _done(self, trial: Trial) -> None:
        with self._lock:
            if trial.accuracy is not None:
                self._writer(trial.name).add_scalar("accuracy", trial.accuracy, trial.step)
            for epoch, value in enumerate(entropy(trial.estimate.edges), start=1):
                self._writer(trial.name).add_scalar("edges_entropy", value, epoch)
            if trial.name in self._writers:
                self._writers.pop(trial.name).close()

    def _choose(self, trial: Trial) -> None:
        with self._lock:
            self._writer("climb").add_scalar("accuracy", trial.accuracy, trial.step)
            self._writers.pop("climb").close()  # a flush does not wait for the writing thread

    def _writer(self, name: str) -> Any:
        if name not in self._writers:
            # Names contain only the second, so that an existing file could be overwritten.
            suffix = f".{os.getpid()}.{next(self._numbers)}"
            self._writers[name] = self._make(
                str(self._folder / name), flush_secs=10, filename_suffix=suffix
            )
        return self._writers[name]
