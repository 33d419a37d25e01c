"""The pace of training on a GPU, ours and PyTorch's, and the peak of its matrix products."""

from __future__ import annotations

import dataclasses
import importlib.util
import pathlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

import nash_jax as nj
from nash_jax import training
from nash_jax.data import Examples
from nash_jax.training.compilation import Precision, Stopwatch

SPECS = pathlib.Path(__file__).parent / "specs"

Networks = Mapping[str, nj.Architecture]
Run = Callable[[], float]  # trains; the images per second


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is measured; the defaults are a GPU's."""

    batch_sizes: tuple[int, ...] = (128, 512)
    epochs: int = 3
    rounds: int = 5
    members: int = 8
    matrix: int = 8192
    precision: Precision = "bfloat16"


def networks(model_0: nj.Architecture) -> Networks:
    """model_0 and, if it reads CIFAR-10, the two that grew out of it."""
    found = {"model_0": model_0}
    if model_0.input_shape == (32, 32, 3) and model_0.num_classes == 10:
        for edits in (5, 25):
            text = (SPECS / f"edits{edits}.json").read_text()
            found[f"model_0 and {edits} edits"] = nj.from_json(text)
    return found


def our_training(
    spec: nj.Architecture, examples: Examples, batch_size: int, sizes: Sizes, members: int = 0
) -> Run:
    """A training from new weights or, with `members`, that of a population."""
    settings = training.TrainingSettings(batch_size=batch_size, precision=sizes.precision)
    key = jax.random.key(0)
    variables = nj.init(spec, key)
    if members:
        key = jax.random.split(key, members)
        variables = jax.tree.map(lambda array: jnp.stack([array] * members), variables)
    examples = Examples(jax.device_put(examples.images), jax.device_put(examples.labels))
    images = len(examples) // batch_size * batch_size * sizes.epochs * max(members, 1)

    def run() -> float:
        fitted = training.fit(spec, variables, examples, key, sizes.epochs, settings)
        return images / fitted.train_seconds

    return run


def torch_training(
    spec: nj.Architecture,
    examples: Examples,
    batch_size: int,
    sizes: Sizes,
    device: str,
    mode: str | None,
) -> Run:
    """As `our_training`, in PyTorch; `mode` is one of `torch.compile`, None is eager mode."""
    import torch

    from benchmarks import torch_network

    settings = training.TrainingSettings(batch_size=batch_size)
    network = torch_network.TorchNetwork(spec)
    torch_network.load(network, nj.init(spec, jax.random.key(0)))
    if mode is not None:
        torch.compiler.reset()  # else PyTorch takes a second batch size for a dynamic shape
        network.compile(mode=mode, dynamic=False)
    autocast = torch.bfloat16 if sizes.precision == "bfloat16" else None
    images = len(examples) // batch_size * batch_size * sizes.epochs

    def run() -> float:
        return images / torch_network.train(
            network, examples, sizes.epochs, settings, device=device, autocast=autocast
        )

    return run


def torch_lacks(device: str) -> str:
    """Why PyTorch cannot be measured; empty if it can."""
    if importlib.util.find_spec("torch") is None:
        return "PyTorch is not installed; install the torch extra"
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        return f"PyTorch {torch.__version__} finds no GPU; install its CUDA version"
    return ""


@dataclasses.dataclass(frozen=True)
class Pace:
    """Images per second in each round, and how much longer the first training took than later."""

    rates: list[float]
    compile_seconds: float

    @property
    def median(self) -> float:
        return statistics.median(self.rates)


def take_turns(runs: Sequence[Run], rounds: int) -> list[Pace]:
    """The paces of trainings that take turns, each after one that is not timed."""
    laps = [[_lap(run) for run in runs] for _ in range(1 + rounds)]
    paces = []
    for (_, first), *others in zip(*laps):
        rates, seconds = zip(*others)
        paces.append(Pace(list(rates), max(0.0, first - statistics.median(seconds))))
    return paces


def _lap(run: Run) -> tuple[float, float]:
    watch = Stopwatch()
    return run(), watch.lap()


def matrix_peak(size: int, dtype: Any, products: int = 10) -> float:
    """Floating-point operations per second in square matrix products: the median of 11 chains."""
    # Random numbers: multiplying ones draws less power, so the chip may run unrealistically fast.
    left, right = jax.random.normal(jax.random.key(0), (2, size, size), dtype)
    right = (right / size**0.5).astype(dtype)  # the products stay as large as they are

    @jax.jit
    def chain(left: jax.Array, right: jax.Array) -> jax.Array:
        for _ in range(products):
            left = left @ right
        return left

    jax.block_until_ready(chain(left, right))
    laps = []
    for _ in range(11):
        watch = Stopwatch()
        jax.block_until_ready(chain(left, right))
        laps.append(watch.lap())
    return products * 2 * size**3 / statistics.median(laps)
