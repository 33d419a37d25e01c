"""Neural architecture search by hill climbing on one data set (NASH, Algorithm 1).

python -m experiments.nash --preset=digits
python -m experiments.nash --dataset=npz:cifar10.npz --workdir=runs/cifar10
"""

from __future__ import annotations

import shlex
import sys

import rich.console
from absl import app, flags, logging

from experiments import launching
from nash_jax.runs import StoppedError, WriteError, execute, open_run, provenance, use_cache

launching.define_flags()
flags.adopt_module_key_flags(launching)  # so that --help shows them


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"flags begin with --; got {argv[1]!r}")
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # JAX tells of every backend that is not there
    launching.compile_faster()
    console = rich.console.Console(soft_wrap=True)
    workdir = launching.workdir_from_flags()
    try:
        config = launching.config_from_flags()
        workers, devices = launching.workers_from_flags(config), launching.devices_from_flags()
        cache = launching.cache_from_flags()
        with (
            launching.reporter_from_flags(config, workdir, console) as reporter,
            launching.stopping_on_signals(workdir),
            open_run(
                *(config, workdir, provenance(["python", *sys.orig_argv[1:]]), reporter.note),
                checkpoint_seconds=flags.FLAGS.checkpoint_seconds,
                keep_all=flags.FLAGS.keep == "all",
            ) as opened,
        ):
            launching.warn_of_slow_precision(config)
            if cache is not None:
                use_cache(cache)
            result = execute(opened, reporter, workers, devices)
    except ValueError as error:
        sys.exit(f"error: {error}")
    except (StoppedError, WriteError) as error:
        sys.exit(f"error: {error}\n{launching.resume_command(workdir)}")
    accuracy = f"test accuracy {result.best.estimate.accuracy:.2%}"
    if flags.FLAGS.progress == "quiet":
        return
    if result.shares:
        shares = ", ".join(f"{what} {share:.0%}" for what, share in result.shares.items())
        console.print(f"the workers' time in the search: {shares}", highlight=False)
    console.print(f"to look at it: nash report {shlex.quote(str(workdir))}", highlight=False)
    console.print(f"{workdir}: {accuracy}, {result.seconds:.0f} s in all", highlight=False)


if __name__ == "__main__":
    app.run(main)
