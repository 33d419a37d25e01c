"""What a GPU makes of it: training against PyTorch, the chip's peak, populations, a whole search.

  python -m benchmarks.gpu --dataset=npz:cifar10.npz

Prints one table, each line beside its goal, and writes gpu.json after every row. The rows:

- throughput: images per second of training in bfloat16 (augmentation, forward, backward, step of
  SGD), whole epochs over images that stay on the device, with batches of 128 and 512: ours by
  `training.fit`, PyTorch's by `torch.compile` under autocast in channels_last. Both are trained
  once untimed, which compiles; then they take turns. Medians over the rounds. The networks are the
  paper's model_0, and what 5 and 15 random edits (the paper's, from seed 8) made of it:
  `benchmarks/specs`. PyTorch (the `torch` extra) runs in the same process; without it, our images
  per second are given alone.
- peak: the arithmetic of training the larger of these, as a part of what large matrix products in
  bfloat16 reach on this chip. A training step counts as three forward passes.
- vmap: eight trainings of model_0 as one population, against one after the other.
- search: Table 1, row 1, whole (pretraining, 5 steps of 8 children, final training) by
  `experiments.nash` in a process of its own, and how much of it the device was idle, as
  `nvidia-smi` samples it once a second. The paper sets no limit to the size of a child; flags in
  --extra do.

--toy runs all of it on the CPU with the digits and tiny sizes, only to see that it works.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

# JAX would take most of the GPU's memory at its start, and leave PyTorch without.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp
from absl import app, flags

import nash_jax as nj
from benchmarks.machine import machine
from nash_jax import training
from nash_jax.data import Examples, load_dataset
from nash_jax.runs import Config, prepare
from nash_jax.training.compilation import Precision, Stopwatch

SPECS = pathlib.Path(__file__).parent / "specs"


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
      what: was measured.
      value: the figure, or none.
      goal: what it should reach, or none.
      at_least: whether the goal is reached from below; otherwise the figure should be at most it.
      note: how it came about, or why there is none.
    """

    what: str
    value: float | None = None
    goal: float | None = None
    at_least: bool = True
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        if self.goal is None:
            return ""
        good = self.value >= self.goal if self.at_least else self.value <= self.goal
        return "reached" if good else "not reached"

    def __str__(self) -> str:
        value = (
            "" if self.value is None else f"{self.value:{',.0f' if self.value >= 100 else '.3g'}}"
        )
        bound = ">=" if self.at_least else "<="
        goal = "" if self.goal is None else f"{bound} {self.goal:g}"
        return f"| {self.what} | {value} | {goal} | {self.verdict} | {self.note} |"


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is measured; the defaults are a GPU's."""

    batch_sizes: tuple[int, ...] = (128, 512)
    epochs: int = 2
    rounds: int = 3
    members: int = 8
    matrix: int = 8192
    precision: Precision = "bfloat16"
    torch_mode: str | None = "default"  # of torch.compile; None: eager


TOY = Sizes((32,), 1, 1, 2, 128, "float32", None)


def networks(examples: Examples) -> dict[str, nj.Architecture]:
    """model_0 for these images and, where they are 32x32 in colour, the two larger ones."""
    shape, classes = examples.images.shape[1:], int(examples.labels.max()) + 1
    found = {"model_0": nj.chain(shape, classes, (64, 128, 256))}
    if shape == (32, 32, 3) and classes == 10:
        for name in ("edits5", "edits15"):
            found[name] = nj.from_json((SPECS / f"{name}.json").read_text())
    return found


def our_training(
    spec: nj.Architecture, examples: Examples, batch_size: int, sizes: Sizes, members: int = 0
) -> Callable[[], float]:
    """A training, or one of a population; called, it gives the images per second."""
    settings = training.TrainingSettings(batch_size=batch_size, precision=sizes.precision)
    key = jax.random.key(0)
    variables = nj.init(spec, key)
    if members:
        key = jax.random.split(key, members)
        variables = jax.tree.map(lambda *arrays: jnp.stack(arrays), *([variables] * members))
    examples = Examples(jax.device_put(examples.images), jax.device_put(examples.labels))
    images = len(examples) // batch_size * batch_size * sizes.epochs * max(members, 1)

    def run() -> float:
        fitted = training.fit(spec, variables, examples, key, sizes.epochs, settings)
        return images / fitted.train_seconds

    return run


def torch_training(
    spec: nj.Architecture, examples: Examples, batch_size: int, sizes: Sizes, device: str
) -> Callable[[], float]:
    """As `our_training`, in PyTorch."""
    import torch

    from benchmarks import torch_network

    settings = training.TrainingSettings(batch_size=batch_size)
    network: Any = torch_network.TorchNetwork(spec)
    torch_network.load(network, nj.init(spec, jax.random.key(0)))
    network.to(device)
    if sizes.torch_mode is not None:
        network = torch.compile(network, mode=sizes.torch_mode)
    autocast = torch.bfloat16 if sizes.precision == "bfloat16" else None
    images = len(examples) // batch_size * batch_size * sizes.epochs

    def run() -> float:
        seconds = torch_network.train(
            *(network, examples, sizes.epochs, settings), device=device, autocast=autocast
        )
        return images / seconds

    return run


def medians(runs: list[Callable[[], float]], rounds: int) -> list[float]:
    """The median of each over rounds in which they take turns, after one that does not count."""
    for run in runs:
        run()
    laps = [[run() for run in runs] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*laps)]


def throughput(examples: Examples, sizes: Sizes, device: str) -> Iterator[Line]:
    """Images per second of child training, ours and PyTorch's."""
    for batch_size in sizes.batch_sizes:
        for name, spec in networks(examples).items():
            what = f"{name}, batch {batch_size}: "
            runs = [our_training(spec, examples, batch_size, sizes)]
            if importlib.util.find_spec("torch"):
                runs.append(torch_training(spec, examples, batch_size, sizes, device))
            ours, *theirs = medians(runs, sizes.rounds)
            yield Line(what + "images/s", ours)
            goal = 1.5 if batch_size <= 128 else 1.1
            if theirs:
                yield Line(what + "images/s of PyTorch", theirs[0])
                yield Line(what + "ours / PyTorch", ours / theirs[0], goal)
            else:
                yield Line(what + "ours / PyTorch", None, goal, note="the torch extra is missing")


def matrix_peak(size: int, dtype: Any, products: int = 10) -> float:
    """Floating-point operations per second in square matrix products, the best of five chains."""

    @jax.jit
    def chain(a: jax.Array, b: jax.Array) -> jax.Array:
        for _ in range(products):
            a = (a @ b).astype(dtype)
        return a

    a = jnp.ones((size, size), dtype)
    b = jnp.full((size, size), 1 / size, dtype)
    jax.block_until_ready(chain(a, b))
    laps = []
    for _ in range(5):
        watch = Stopwatch()
        jax.block_until_ready(chain(a, b))
        laps.append(watch.lap())
    return products * 2 * size**3 / min(laps)


def peak(examples: Examples, sizes: Sizes) -> Iterator[Line]:
    """The part of the chip's matrix peak that training the largest network reaches."""
    dtype = jnp.bfloat16 if sizes.precision == "bfloat16" else jnp.float32
    most = matrix_peak(sizes.matrix, dtype)
    yield Line("matrix products, TFLOP/s", most / 1e12, note=f"{sizes.precision}, {sizes.matrix}")
    name, spec = list(networks(examples).items())[-1]
    batch_size = sizes.batch_sizes[-1]
    (images,) = medians([our_training(spec, examples, batch_size, sizes)], sizes.rounds)
    part = images * 3 * nj.count_flops(spec) / most
    yield Line(f"{name}, batch {batch_size}: part of the peak", part, 0.3)


def population(examples: Examples, sizes: Sizes) -> Iterator[Line]:
    """Throughput of a population over that of one training."""
    spec, batch_size = networks(examples)["model_0"], sizes.batch_sizes[0]
    runs = [
        our_training(spec, examples, batch_size, sizes, members) for members in (0, sizes.members)
    ]
    alone, together = medians(runs, sizes.rounds)
    yield Line(f"vmap of {sizes.members} of model_0 / one at a time", together / alone, 3)


@contextlib.contextmanager
def utilisation() -> Iterator[Callable[[], list[float]]]:
    """Samples of the share of a second in which the GPU was at work; none without nvidia-smi."""
    query = ("nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-l1")
    if shutil.which(query[0]) is None:
        yield lambda: []
        return
    with tempfile.TemporaryFile("w+") as lines, subprocess.Popen(query, stdout=lines) as sampler:

        def samples() -> list[float]:
            lines.seek(0)
            return parse_utilisation(lines.read())

        try:
            yield samples
        finally:
            sampler.terminate()


def parse_utilisation(text: str) -> list[float]:
    """The shares in nvidia-smi's lines of per cent; a last line that is not whole is left out.

    >>> parse_utilisation("50\\n100\\n9")
    [0.5, 1.0]
    """
    whole = text[: text.rfind("\n") + 1].split()
    return [int(word) / 100 for word in whole if word.isdecimal()]


def search(dataset: str, extra: list[str]) -> Iterator[Line]:
    """Table 1, row 1: time, error, and how much of it the device was idle."""
    with tempfile.TemporaryDirectory() as folder, utilisation() as samples:
        workdir = pathlib.Path(folder, "run")
        settings = [f"--dataset={dataset}", f"--workdir={workdir}", *extra]
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "experiments.nash", *settings], capture_output=True, text=True
        )
        minutes = (time.perf_counter() - start) / 60
        shares = samples()
        if done.returncode:
            last = (done.stderr.strip() or "no message").splitlines()[-1]
            yield Line("Table 1, row 1", note=f"experiments.nash ended with: {last}")
            return
        result = json.loads((workdir / "result.json").read_text())
    note = f"test error {1 - result['test_accuracy']:.2%}, {result['params']:,} parameters"
    yield Line("Table 1, row 1, whole: minutes", minutes, 10, at_least=False, note=note)
    note = f"{len(shares)} samples" if shares else "nvidia-smi is missing"
    idle = 1 - statistics.mean(shares) if shares else None
    yield Line("of it, device idle", idle, 0.15, at_least=False, note=note)


ROWS: dict[str, Callable[..., Iterator[Line]]] = {
    "throughput": throughput,
    "peak": peak,
    "vmap": population,
    "search": search,
}


def main(_: list[str]) -> None:
    toy, device = FLAGS.toy, "cpu" if FLAGS.toy else "cuda"
    if not toy and jax.default_backend() != "gpu":
        sys.exit(
            f"error: this is a benchmark of GPUs; JAX's backend is {jax.default_backend()!r}; "
            "install the cuda extra, or give --toy"
        )
    unknown = set(FLAGS.rows) - set(ROWS)
    if unknown:
        sys.exit(f"error: rows must be among {','.join(ROWS)}; got {','.join(sorted(unknown))}")
    dataset, sizes = FLAGS.dataset, Sizes(rounds=FLAGS.rounds, torch_mode=FLAGS.torch_mode)
    extra = ["--precision=bfloat16", *FLAGS.extra]
    if toy:
        dataset, sizes = "digits", TOY
        short = ("num_steps=1", "num_neighbours=2", "max_train_examples=200")
        epochs = (f"epochs_{what}=1" for what in ("pretrain", "neighbours", "final"))
        extra = ["--preset=digits", *(f"--{setting}" for setting in (*short, *epochs))]
    try:
        examples = prepare(Config(dataset=dataset), load_dataset(dataset)).train
    except ValueError as error:
        sys.exit(f"error: {error}")
    about = machine() | {"device": jax.devices()[0].device_kind}
    print(", ".join(f"{name} {about[name]}" for name in ("device", "jax", "torch", "date")))
    if toy:
        print("Toy sizes on a CPU: these figures mean nothing.")
    print("| what | measured | goal | | |\n|---|---|---|---|---|")
    arguments = {"throughput": (examples, sizes, device), "search": (dataset, extra)}
    lines: list[dict[str, Any]] = []
    for row in FLAGS.rows:
        for line in ROWS[row](*arguments.get(row, (examples, sizes))):
            print(line, flush=True)
            lines.append(dataclasses.asdict(line) | {"row": row, "verdict": line.verdict})
            results = {**about, "toy": toy, "sizes": dataclasses.asdict(sizes), "lines": lines}
            pathlib.Path(FLAGS.out).write_text(json.dumps(results, indent=1) + "\n")


FLAGS = flags.FLAGS


def define_flags() -> None:
    flags.DEFINE_string("dataset", "npz:cifar10.npz", "CIFAR-10, as a file")
    flags.DEFINE_list("rows", list(ROWS), "which rows to measure")
    flags.DEFINE_integer("rounds", 3, "how often the sides take turns")
    flags.DEFINE_string("torch_mode", "default", "mode of torch.compile")
    flags.DEFINE_multi_string("extra", [], "further flags for the search, such as --max_flops=N")
    flags.DEFINE_bool("toy", False, "tiny sizes on the CPU: only to see that it works")
    flags.DEFINE_string("out", "gpu.json", "file to write the figures to")


if __name__ == "__main__":
    define_flags()
    app.run(main)
