"""A run as TensorBoard files: a learning curve for every candidate, and the climb."""

from __future__ import annotations

import itertools
import os
import pathlib
import threading
from collections.abc import Sequence
from typing import Any

from nash_jax.runs.config import Config
from nash_jax.runs.ledger import Line
from nash_jax.training import learning_rate

FOLDER = "tensorboard"


class TensorBoardReporter:
    """Writes to `WORKDIR/tensorboard`, one run of TensorBoard's for each candidate.

    train_loss      mean training loss of an epoch, by epoch
    learning_rate   at the beginning of an epoch, by epoch
    accuracy        by step: every child, and as run `climb` the best of each step

    Wants the `tensorboard` extra.
    """

    def __init__(self, workdir: pathlib.Path, config: Config) -> None:
        try:
            import tensorboardX
        except ImportError:
            raise ValueError(
                "tensorboard needs the package tensorboardX; got none; "
                "pip install 'nash_jax[tensorboard]'"
            ) from None
        self._make, self._folder = tensorboardX.SummaryWriter, workdir / FOLDER
        self._writers: dict[str, Any] = {}
        self._epochs = {"model_0": config.epochs_pretrain, "final": config.epochs_final}
        self._config, self._lock = config, threading.Lock()
        self._best: dict[int, float] = {}
        self._numbers = itertools.count()

    def start(self, total_epochs: int, known: Sequence[Line]) -> None:
        for line in known:
            self._climb(line)

    def phase(self, what: str) -> None:
        for step, accuracy in self._best.items():
            self._writer("climb").add_scalar("accuracy", accuracy, step)
        self._best = {}
        if "climb" in self._writers:
            self._writers.pop("climb").close()  # to flush is not enough: a thread may not be done

    def epoch(self, name: str, epoch: int, loss: float) -> None:
        epochs = self._epochs.get(name, self._config.epochs_neighbours)
        with self._lock:
            rate = learning_rate(self._config.training, (epoch - 1) / epochs)
            self._writer(name).add_scalar("train_loss", loss, epoch)
            self._writer(name).add_scalar("learning_rate", rate, epoch)

    def candidate(self, line: Line) -> None:
        accuracy = line.get("test_accuracy", line.get("validation_accuracy"))
        with self._lock:
            if accuracy is not None:
                self._writer(line["name"]).add_scalar("accuracy", accuracy, line["step"])
            self._climb(line)
            if line["name"] in self._writers:
                self._writers.pop(line["name"]).close()

    def note(self, text: str) -> None:
        pass

    def _climb(self, line: Line) -> None:
        accuracy, step = line.get("validation_accuracy"), line["step"]
        if accuracy is not None:
            self._best[step] = max(accuracy, self._best.get(step, 0.0))

    def _writer(self, name: str) -> Any:
        if name not in self._writers:
            # Names are by the second, and a file that is there would be written over.
            suffix = f".{os.getpid()}.{next(self._numbers)}"
            self._writers[name] = self._make(
                str(self._folder / name), flush_secs=10, filename_suffix=suffix
            )
        return self._writers[name]
