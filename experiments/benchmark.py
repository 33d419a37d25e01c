"""Methods beside random networks of their spaces, all trained alike (Yang et al. 2020, section 3).

python -m experiments.benchmark --methods=darts,enas --datasets=digits --seeds=3

The same as the command `nash benchmark`.
"""

from __future__ import annotations

from nash_jax.benchmark.command import main

if __name__ == "__main__":
    main("experiments.benchmark")
