"""Neural architecture search by hill climbing on one data set (NASH, Algorithm 1).

python -m experiments.nash --preset=digits
python -m experiments.nash --dataset=npz:cifar10.npz --workdir=runs/cifar10

The same as the command `nash search`.
"""

from __future__ import annotations

from absl import app, flags

from nash_jax import launching, search_flags

search_flags.define_flags()
flags.adopt_module_key_flags(search_flags)  # so that --help shows them

if __name__ == "__main__":
    app.run(launching.search, search_flags.arguments(), flags_parser=search_flags.parse)
