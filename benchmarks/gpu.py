"""Speed on a GPU: training against PyTorch, the chip's peak, populations, whole searches.

  python -m benchmarks.gpu --dataset=npz:cifar10.npz

Prints one table, each line beside its goal, and writes gpu.json after every line. The rows:

- throughput: images per second of training in bfloat16 (augmentation, forward, backward, SGD) with
  batches of 128 and 512, in whole epochs over images that stay on the device. Ours is
  `training.fit`, where an epoch is one program. PyTorch (the `torch` extra) has autocast,
  channels_last and `torch.compile` for the network, with static shapes; augmentation and SGD are
  eager, and nothing waits for the device within a training. Each trains once untimed, which
  compiles; then they take turns. Medians over the rounds; the seconds of compiling, as far as the
  first training was longer than the others, are in the JSON. The networks: the paper's model_0, and
  the two networks that the first 5 and all 25 edits of one random series made of it (the numbers
  of edits in the paper's first step and in its five steps): `benchmarks/specs`, written by
  `sample_edits(model_0, jax.random.key(0), 25)` under the rising bounds of preset paper, up to
  1 GFLOP. Seed 0 is the first that gives 1 to 2 million parameters by 5 edits and 5 to 6 by 25.
- peak: the arithmetic of training the largest of these at the largest batch, as a share of the
  arithmetic that large matrix products of random numbers in bfloat16 reach on this chip; a median
  too. An update counts as three forward passes, of convolutions and dense layers alone.
- idle: how long the GPU computes nothing in a search of Table 1's kind, with fewer steps and epochs
  (--idle_steps, --idle_epochs), so that compiling weighs more than in a whole search. The search
  runs twice: once as it is, for its seconds, and once under the profiler, for the time in which
  kernels ran. One run cannot give both: the profiler slows every launch down.
- vmap: eight trainings of model_0 as one population, against one at a time.
- table1: Table 1, row 1 (pretraining, 5 steps of 8 children, final training) by `experiments.nash`
  in a process of its own, which compiles all anew: minutes, test error, and the share of time
  without a kernel as `nvidia-smi` samples it once a second. --extra takes further flags for it,
  such as --recipe=modern. The other rows keep some of the GPU's memory: on a GPU with little
  memory, run this row alone.

--toy runs everything on the CPU with the digits and tiny sizes, only to see that it works.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# JAX would take most of the GPU's memory at its start, and leave none to PyTorch and the search.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp
from absl import app, flags, logging

import nash_jax as nj
from benchmarks import device_idle
from benchmarks.machine import machine
from benchmarks.training_pace import (
    Networks,
    Pace,
    Sizes,
    matrix_peak,
    networks,
    our_training,
    take_turns,
    torch_lacks,
    torch_training,
)
from nash_jax.data import Examples, load_dataset
from nash_jax.runs import PRESETS, Config, prepare
from nash_jax.training.compilation import Stopwatch


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
      what: the name of what is measured.
      value: the figure; None: there is none.
      goal: what it should reach, if anything.
      at_least: whether the goal is a lower bound.
      form: how figure and goal are written.
      note: how the figure came about, or why there is none.
      details: for the JSON.
    """

    what: str
    value: float | None = None
    goal: float | None = None
    at_least: bool = True
    form: str = "{:.2f}"
    note: str = ""
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def reached(self) -> str:
        if self.value is None:
            return f"not measured: {self.note}"
        if self.goal is None:
            return ""
        good = self.value >= self.goal if self.at_least else self.value <= self.goal
        return "yes" if good else "no"

    def __str__(self) -> str:
        measured = goal = ""
        if self.value is not None:
            measured = self.form.format(self.value) + (f" ({self.note})" if self.note else "")
        if self.goal is not None:
            goal = f"{'>=' if self.at_least else '<='} {self.form.format(self.goal)}"
        return f"| {self.what} | {measured} | {goal} | {self.reached} |"


TOY = Sizes((32,), 1, 1, 2, 128, "float32")
EPOCHS = ("epochs_pretrain", "epochs_neighbours", "epochs_final")
TOY_SEARCH = {
    **{"num_steps": 1, "num_neighbours": 2, "max_train_examples": 200},
    **dict.fromkeys(EPOCHS, 1),
}


def throughput(
    specs: Networks, examples: Examples, sizes: Sizes, device: str, mode: str | None
) -> Iterator[Line]:
    """Images per second of training, ours and PyTorch's."""
    for batch_size, (name, spec) in itertools.product(sizes.batch_sizes, specs.items()):
        what, goal = f"{name}, batch {batch_size}", 1.5 if batch_size <= 128 else 1.1
        lack, runs = torch_lacks(device), [our_training(spec, examples, batch_size, sizes)]
        paces: list[Pace] = []
        if not lack:
            runs.append(torch_training(spec, examples, batch_size, sizes, device, mode))
            try:
                paces = take_turns(runs, sizes.rounds)
            except RuntimeError as error:  # PyTorch's compiler may find no C compiler, for example
                lack = first_line(error)
        ours, *theirs = paces or take_turns(runs[:1], sizes.rounds)
        yield Line(f"{what}: images/s", ours.median, form="{:,.0f}", details=vars(ours))
        for pace in theirs:
            details = vars(pace) | {"mode": mode}
            what_theirs = f"{what}: images/s of PyTorch"
            yield Line(what_theirs, pace.median, form="{:,.0f}", details=details)
        ratio = ours.median / theirs[0].median if theirs else None
        yield Line(f"{what}: ours / PyTorch", ratio, goal, note=lack)


def peak(specs: Networks, examples: Examples, sizes: Sizes) -> Iterator[Line]:
    """The part of the chip's matrix peak that training the largest network reaches."""
    dtype = jnp.bfloat16 if sizes.precision == "bfloat16" else jnp.float32
    most = matrix_peak(sizes.matrix, dtype)
    note = f"{sizes.precision}, {sizes.matrix}x{sizes.matrix}"
    yield Line("matrix products, TFLOP/s", most / 1e12, form="{:.4g}", note=note)
    (name, spec), batch_size = list(specs.items())[-1], sizes.batch_sizes[-1]
    (pace,) = take_turns([our_training(spec, examples, batch_size, sizes)], sizes.rounds)
    part = pace.median * 3 * nj.count_flops(spec) / most
    what = f"{name}, batch {batch_size}: part of the peak"
    yield Line(what, part, 0.3, form="{:.1%}", details=vars(pace))


def population(specs: Networks, examples: Examples, sizes: Sizes) -> Iterator[Line]:
    """Throughput of a population over that of one training."""
    spec, batch_size = specs["model_0"], sizes.batch_sizes[0]
    sides = [our_training(spec, examples, batch_size, sizes, n) for n in (0, sizes.members)]
    alone, together = take_turns(sides, sizes.rounds)
    what = f"vmap of {sizes.members} of model_0, batch {batch_size} / one at a time"
    details = {"alone": vars(alone), "together": vars(together)}
    yield Line(what, together.median / alone.median, 3, details=details)


def idle(config: Config) -> Iterator[Line]:
    """The share of a short search in which the GPU computes nothing."""
    what = (
        f"search of {config.strategy.num_steps} x {config.strategy.num_neighbours} children, "
        f"reduced to {config.recipes.epochs_neighbours} epochs of each: device idle"
    )
    share, details = None, {"config": config.values()}
    try:
        found = device_idle.busy_and_whole(config)
    except ValueError as error:
        note = first_line(error)
    else:
        share = 1 - statistics.mean(found["busy_seconds"]) / found["seconds"]
        note, details = f"of {found['seconds']:.0f} s", details | found
    yield Line(what, share, 0.15, False, "{:.1%}", note, details)


def table1(dataset: str, settings: Sequence[str]) -> Iterator[Line]:
    """Table 1, row 1, by the launcher."""
    with tempfile.TemporaryDirectory() as folder, device_idle.utilisation() as samples:
        workdir = pathlib.Path(folder, "run")
        places = (f"--dataset={dataset}", f"--workdir={workdir}", f"--cache_dir={folder}/cache")
        command = [sys.executable, "-m", "experiments.nash", *places, *settings]
        # It has the GPU's memory to itself, as users' runs have.
        environment = {k: v for k, v in os.environ.items() if "PREALLOCATE" not in k}
        watch = Stopwatch()
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        seconds, shares = watch.lap(), samples()
        if done.returncode:
            last = (done.stderr.strip() or "no message").splitlines()[-1]
            raise RuntimeError(f"experiments.nash ended with: {last}")
        result = json.loads((workdir / "result.json").read_text())
    what, details = "Table 1, row 1", result | {"process_seconds": seconds, "command": command[1:]}
    yield Line(f"{what}: minutes", seconds / 60, 10, False, "{:.1f}", details=details)
    note = f"{result['params']:,} parameters"
    yield Line(f"{what}: test error", 1 - result["test_accuracy"], form="{:.2%}", note=note)
    note = f"{len(shares)} samples" if shares else "nvidia-smi gave no samples"
    unused = 1 - statistics.mean(shares) if shares else None
    yield Line(f"{what}: device idle", unused, 0.15, False, "{:.1%}", note)


def first_line(error: Exception) -> str:
    """An error in one line that breaks no table."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].replace("|", "/")[:200]


def or_why_not(row: str, lines: Iterator[Line]) -> Iterator[Line]:
    """The lines of a row; if it fails (out of memory, say), the last line says why."""
    try:
        yield from lines
    except (RuntimeError, ValueError) as error:
        yield Line(row, note=first_line(error))


ROWS = ("throughput", "peak", "idle", "vmap", "table1")
FLAGS = flags.FLAGS


def define_flags() -> None:
    flags.DEFINE_string("dataset", "npz:cifar10.npz", "CIFAR-10, as npz:FILE")
    flags.DEFINE_list("rows", list(ROWS), "which rows to measure")
    flags.DEFINE_integer("rounds", Sizes.rounds, "how often the sides take turns", lower_bound=1)
    flags.DEFINE_string("torch_mode", "default", "mode of torch.compile; 'eager': none")
    flags.DEFINE_integer("idle_steps", 1, "steps of the search in row idle", lower_bound=1)
    flags.DEFINE_integer("idle_epochs", 5, "epochs of every training there", lower_bound=1)
    flags.DEFINE_multi_string("extra", [], "further flags for the search of row table1")
    flags.DEFINE_bool("toy", False, "tiny sizes on the CPU: only to see that it works")
    flags.DEFINE_string("out", "gpu.json", "file to write the figures to")


def main(_: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # JAX tells of every backend that is not there
    jax.config.update("jax_compilation_cache_dir", None)  # compiling is measured too
    toy, backend = FLAGS.toy, jax.default_backend()
    if unknown := sorted(set(FLAGS.rows) - set(ROWS)):
        sys.exit(f"error: rows must be among {','.join(ROWS)}; got {','.join(unknown)}")
    if backend != ("cpu" if toy else "gpu"):
        remedy = "set JAX_PLATFORMS=cpu" if toy else "install the cuda extra, or give --toy"
        kind = "toy sizes are for CPUs" if toy else "this is a benchmark of GPUs"
        sys.exit(f"error: {kind}; JAX's backend is {backend!r}; {remedy}")
    epochs = dict.fromkeys(EPOCHS, FLAGS.idle_epochs)
    settings = {"dataset": FLAGS.dataset, "precision": "bfloat16", "num_steps": FLAGS.idle_steps}
    searched = ["--preset=paper", "--precision=bfloat16", *FLAGS.extra]
    sizes, mode = Sizes(rounds=FLAGS.rounds), FLAGS.torch_mode
    if toy:
        epochs, settings, sizes, mode = TOY_SEARCH, PRESETS["digits"], TOY, "eager"
        searched = ["--preset=digits", *(f"--{name}={TOY_SEARCH[name]}" for name in TOY_SEARCH)]
    try:
        config = Config().replace(**settings | epochs)
        problem = prepare(config, load_dataset(config.data.dataset))
    except ValueError as error:
        sys.exit(f"error: {error}")
    specs, examples = networks(problem.model_0), problem.train
    if not toy and len(specs) == 1:
        found = f"{problem.model_0.input_shape} and {problem.model_0.num_classes} classes"
        sys.exit(f"error: images must be of (32, 32, 3) and 10 classes; got {found}; give CIFAR-10")
    device = "cpu" if toy else "cuda"
    rows = {
        "throughput": throughput(specs, examples, sizes, device, None if mode == "eager" else mode),
        "peak": peak(specs, examples, sizes),
        "idle": idle(config),
        "vmap": population(specs, examples, sizes),
        "table1": table1(config.data.dataset, searched),
    }
    about = {"device": jax.devices()[0].device_kind, **machine()}
    print(", ".join(f"{name} {about[name]}" for name in ("device", "jax", "torch", "date")))
    if toy:
        print("Toy sizes on a CPU: these figures mean nothing.")
    print("| what | measured | goal | reached? |\n|---|---|---|---|", flush=True)
    lines: list[dict[str, Any]] = []
    results = {**about, "toy": toy, "sizes": dataclasses.asdict(sizes), "lines": lines}
    for row in FLAGS.rows:
        for line in or_why_not(row, rows[row]):
            print(line, flush=True)
            lines.append({"row": row, **dataclasses.asdict(line), "reached": line.reached})
            pathlib.Path(FLAGS.out).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    define_flags()
    app.run(main)
