"""Neural architecture search by hill climbing on one data set (NASH, Algorithm 1).

python -m experiments.nash --preset=digits
python -m experiments.nash --dataset=npz:cifar10.npz --workdir=runs/cifar10
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
import platform
import sys
from importlib import metadata
from typing import Any

import jax
import rich.console
from absl import app, flags, logging

from nash_jax.runs import PRESETS, Config, RichReporter, run

FLAGS = flags.FLAGS
flags.DEFINE_enum("preset", "paper", list(PRESETS), "replaces defaults; flags that you give win")
flags.DEFINE_string("workdir", None, "a new or empty folder for the run; default: runs/DATASET-N")
flags.DEFINE_integer(
    "workers",
    0,
    "children trained side by side; 0: 2 on a CPU, 1 elsewhere; the results are the same",
)
DEFINE: dict[type, Any] = {
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    bool: flags.DEFINE_boolean,
    str: flags.DEFINE_string,
    tuple: flags.DEFINE_list,
}
for field in dataclasses.fields(Config):
    default = field.default
    words = [str(item) for item in default] if isinstance(default, tuple) else default
    DEFINE[type(default)](field.name, words, field.metadata["help"])


def config_from_flags() -> Config:
    """The paper's defaults, replaced by the preset's, replaced by the flags that were given."""
    names = [field.name for field in dataclasses.fields(Config)]
    given: dict[str, Any] = {name: FLAGS[name].value for name in names if FLAGS[name].present}
    if "widths" in given:
        if not all(width.strip().isdecimal() for width in given["widths"]):
            raise ValueError(f"widths must be whole numbers like 16,32,64; got {given['widths']}")
        given["widths"] = tuple(map(int, given["widths"]))
    return Config(**PRESETS[FLAGS.preset] | given)


def new_workdir(dataset: str) -> pathlib.Path:
    """The folder that was asked for, or the first of runs/DATASET-1, -2, ... that is not there."""
    names = (pathlib.Path("runs", f"{dataset.split(':')[0]}-{n}") for n in itertools.count(1))
    return (
        pathlib.Path(FLAGS.workdir) if FLAGS.workdir else next(p for p in names if not p.exists())
    )


def provenance() -> dict[str, Any]:
    """What else the last bits of a result depend on."""
    packages = ("nash_jax", "jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint")
    return {
        "command": ["python", "-m", "experiments.nash", *sys.argv[1:]],
        "versions": {name: metadata.version(name) for name in packages},
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
        "num_cpus": os.cpu_count(),
    }


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"flags begin with --; got {argv[1]!r}")
    if not FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # orbax tells every detail of saving
    console = rich.console.Console(soft_wrap=True)
    try:
        config, workdir = config_from_flags(), new_workdir(FLAGS.dataset)
        workers = FLAGS.workers or (min(2, os.cpu_count() or 1) if is_cpu() else 1)
        with RichReporter(console) as reporter:
            result = run(config, workdir, reporter, workers, provenance())
    except ValueError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: the workdir keeps the candidates so far, but cannot be resumed")
    accuracy = f"test accuracy {result.best.estimate.accuracy:.2%}"
    console.print(f"{workdir}: {accuracy}, {result.seconds:.0f} s in all", highlight=False)


def is_cpu() -> bool:
    return jax.default_backend() == "cpu"


if __name__ == "__main__":
    app.run(main)
