"""Milliseconds that augmentations take for a batch of 128 images of 32x32 pixels.

  python -m benchmarks.augmentation

Images at random; each row is one program, run 30 times on the default device. `one by one` is how
AutoAugment's operations are computed on CPU, `all operations` how elsewhere: side by side for all
images, and chosen from.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np
from absl import app

from benchmarks.machine import machine
from nash_jax.training import TrainingSettings, augment, autoaugment

PLAIN = TrainingSettings(crop_padding=0, flip=False)
SHAPE = (128, 32, 32, 3)


def milliseconds(change: Callable[[jax.Array, jax.Array], jax.Array]) -> tuple[float, float]:
    """The least and the median of 30 runs."""
    images = jax.device_put(np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8))
    program, times = jax.jit(change), []
    for key in jax.random.split(jax.random.key(0), 31):
        start = time.perf_counter()
        jax.block_until_ready(program(images, key))
        times.append(1000 * (time.perf_counter() - start))
    return min(times[1:]), statistics.median(times[1:])


def main(argv: list[str]) -> None:
    del argv
    fill = np.array([125, 123, 114], np.uint8)
    rows = {
        "crops and flips": TrainingSettings(),
        "and cutout": TrainingSettings(cutout=16),
        "and AutoAugment": TrainingSettings(cutout=16, auto_augment=True),
    }
    changes: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
        name: functools.partial(augment, settings=settings, fill=fill)
        for name, settings in rows.items()
    }
    for name, change in (
        ("AutoAugment alone, one by one", autoaugment.one_by_one),
        ("AutoAugment alone, all operations", autoaugment.changed),
    ):
        changes[name] = functools.partial(autoaugment.auto_augment, fill=fill, change=change)
    print(f"{machine()}\n\n| augmentation | least, ms | median, ms |\n|---|---|---|")
    for name, change in changes.items():
        least, median = milliseconds(change)
        print(f"| {name} | {least:.1f} | {median:.1f} |")


if __name__ == "__main__":
    app.run(main)
