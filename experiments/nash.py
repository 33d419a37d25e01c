"""Neural architecture search by hill climbing on one data set (NASH, Algorithm 1).

python -m experiments.nash --preset=digits
python -m experiments.nash --dataset=npz:cifar10.npz --workdir=runs/cifar10
"""

from __future__ import annotations

import shlex

import rich.console
from absl import app, flags

from experiments import launching

launching.define_flags()
flags.adopt_module_key_flags(launching)  # so that --help shows them


def main(argv: list[str]) -> None:
    launching.begin(argv)
    console = rich.console.Console(soft_wrap=True)
    with launching.workdir_from_flags() as workdir, launching.exiting_on_errors(workdir):
        result = launching.perform(launching.config_from_flags(), workdir, console)
    if flags.FLAGS.progress == "quiet":
        return
    if result.shares:
        shares = ", ".join(f"{what} {share:.0%}" for what, share in result.shares.items())
        console.print(f"the workers' time in the search: {shares}", markup=False, highlight=False)
    console.print(
        f"to look at it: nash report {shlex.quote(str(workdir))}", markup=False, highlight=False
    )
    accuracy = f"test accuracy {result.best.estimate.accuracy:.2%}"
    console.print(
        f"{workdir}: {accuracy}, {result.seconds:.0f} s in all", markup=False, highlight=False
    )


if __name__ == "__main__":
    app.run(main, launching.arguments())
