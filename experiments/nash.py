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

PRESET = flags.DEFINE_enum(
    "preset", "paper", list(PRESETS), "replaces defaults; flags that you give win"
)
WORKDIR = flags.DEFINE_string("workdir", None, "new folder for the run; default: runs/DATASET-N")
WORKERS = flags.DEFINE_integer(
    "workers", 0, "children trained side by side; 0: 2 on a CPU, 1 elsewhere; same results"
)
DEFINE = {
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    bool: flags.DEFINE_boolean,
    str: flags.DEFINE_string,
    tuple: flags.DEFINE_multi_integer,
}
for field in dataclasses.fields(Config):
    DEFINE[type(field.default)](field.name, field.default, field.metadata["help"])


def config_from_flags() -> Config:
    """The paper's defaults, replaced by the preset's, replaced by the flags that were given."""
    names = [field.name for field in dataclasses.fields(Config)]
    given = {name: flags.FLAGS[name].value for name in names if flags.FLAGS[name].present}
    values: dict[str, Any] = PRESETS[PRESET.value] | given
    return Config(**values | ({"widths": tuple(values["widths"])} if "widths" in values else {}))


def provenance() -> dict[str, Any]:
    """What else the last bits of a result depend on."""
    packages = ("nash_jax", "jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint")
    return {
        "command": ["python", "-m", "experiments.nash", *sys.argv[1:]],
        "versions": {name: metadata.version(name) for name in packages},
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
        "num_cpus": len(os.sched_getaffinity(0)),
    }


def main(_: list[str]) -> None:
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # orbax tells every detail of saving
    console = rich.console.Console(soft_wrap=True)
    try:
        config = config_from_flags()
        numbered = (pathlib.Path(f"runs/{config.dataset.split(':')[0]}-{n}") for n in itertools.count(1))
        workdir = pathlib.Path(WORKDIR.value or next(p for p in numbered if not p.exists()))
        workers = WORKERS.value or (2 if jax.default_backend() == "cpu" else 1)
        with RichReporter(console) as reporter:
            result = run(config, workdir, reporter, workers, provenance())
    except ValueError as error:
        sys.exit(f"error: {error}")
    console.print(
        f"{result.workdir}: test accuracy {result.best.estimate.accuracy:.2%}, "
        f"{result.seconds:.0f} s in all",
        highlight=False,
    )


if __name__ == "__main__":
    app.run(main)
