"""How networks are trained: the defaults are the paper's, which are those of SGDR."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax

from nash_jax.training.compilation import PRECISIONS, Precision


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """SGD with Nesterov momentum and cosine annealing (Loshchilov & Hutter 2017; NASH, section 5).

    Attributes:
      lr_start: learning rate at the start of every training (lambda_start).
      lr_end: learning rate at the end of every training (lambda_end).
      warmup: share of every training in which the learning rate rises evenly from 0 to `lr_start`,
        before it is annealed, in [0, 1); 0: none, as the paper.
      momentum: share of the last step that the next one has.
      nesterov: look ahead by the momentum (Nesterov), as the paper; else heavy ball.
      weight_decay: L2 factor of the kernels; biases, normalisations and lambdas are not decayed.
      batch_size: images per update.
      crop_padding: pixels of the mean colour around an image before it is cropped at random; 0: no
        crops.
      flip: mirror half of the images left to right.
      cutout: edge of the square that gets the mean colour at random, in pixels; 0: none.
      auto_augment: change each image by operations that are drawn from AutoAugment's policy for
        CIFAR-10, behind crops and flips and before cutout.
      label_smoothing: share of the target that is spread over all classes, in [0, 1); the paper: 0.
      clip_norm: largest norm of all gradients together, before weight decay; 0: none, as the paper.
      flip_test: average the logits of an image and its mirror image in every evaluation, where
        `flip` is on.
      drop_path: how often an edge of a cell is dropped at the end of a training, in [0, 1); it is
        dropped more and more often on the way there; networks without DropPath have no such edges.
      drop_path_by_depth: drop edges that lie deeper more often (ScheduledDropPath of NASNet), more
        with each update; else all alike, more with each epoch (DARTS).
      auxiliary_weight: weight of the loss of a second classifier, after two thirds of the cells,
        which is there in training alone; 0: none.
      precision: 'float32', 'tf32' (float32 with products of 10 binary digits, where the device has
        them) or 'bfloat16' (layers in bfloat16; parameters, statistics and loss in float32);
        'auto' becomes float32 where JAX's default device is a CPU, else bfloat16.
    """

    lr_start: float = 0.05
    lr_end: float = 0.0
    warmup: float = 0.0
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    batch_size: int = 128
    crop_padding: int = 4
    flip: bool = True
    cutout: int = 0
    auto_augment: bool = False
    label_smoothing: float = 0.0
    clip_norm: float = 0.0
    flip_test: bool = False
    drop_path: float = 0.0
    drop_path_by_depth: bool = False
    auxiliary_weight: float = 0.0
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        for name, rule, holds in (
            ("lr_start", "> 0 and finite", 0 < self.lr_start < math.inf),
            ("lr_end", ">= 0 and finite", 0 <= self.lr_end < math.inf),
            ("warmup", "in [0, 1)", 0 <= self.warmup < 1),
            ("momentum", "in [0, 1)", 0 <= self.momentum < 1),
            ("weight_decay", ">= 0 and finite", 0 <= self.weight_decay < math.inf),
            ("batch_size", ">= 1", self.batch_size >= 1),
            ("crop_padding", ">= 0", self.crop_padding >= 0),
            ("cutout", ">= 0", self.cutout >= 0),
            ("label_smoothing", "in [0, 1)", 0 <= self.label_smoothing < 1),
            ("drop_path", "in [0, 1)", 0 <= self.drop_path < 1),
            ("auxiliary_weight", ">= 0 and finite", 0 <= self.auxiliary_weight < math.inf),
            ("clip_norm", ">= 0 and finite", 0 <= self.clip_norm < math.inf),
        ):
            if not holds:
                raise ValueError(f"{name} must be {rule}; got {getattr(self, name)}")
        if str(self.precision) == "auto":  # what it means here is what is recorded
            on_cpu = jax.default_backend() == "cpu"
            object.__setattr__(self, "precision", "float32" if on_cpu else "bfloat16")
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"precision must be one of {', '.join(PRECISIONS)}, auto; got {self.precision!r}"
            )

    @property
    def without_augmentation(self) -> TrainingSettings:
        """The same updates on images as they are: trainings that differ in nothing else share it.

        >>> TrainingSettings(cutout=8).without_augmentation.cutout
        0
        """
        return dataclasses.replace(
            self, crop_padding=0, flip=False, cutout=0, auto_augment=False, flip_test=False
        )

    @property
    def evaluation(self) -> dict[str, Any]:
        """How networks that are trained like this are evaluated: arguments of `evaluate`."""
        return {"precision": self.precision, "flip": self.flip and self.flip_test}
