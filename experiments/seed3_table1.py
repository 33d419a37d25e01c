"""Table 1 of Yang, Esperança and Carlucci 2020: relative improvement over random networks.

python -m experiments.seed3_table1 --datasets=tfds:cifar10,tfds:cifar100 --workdir=runs/table1
python -m experiments.seed3_table1 --datasets=digits --methods=darts --channels=4 --cells=3 \
    --seeds=3 --supernet_epochs=5 --epochs_final=10 --cutout=2

Their methods that are there, with their settings, 8 searches and 8 random networks each, on the
sets that are given. At full size that is hundreds of days of a GPU: give sizes.
"""

from __future__ import annotations

from collections.abc import Sequence

from nash_jax.benchmark import METHODS
from nash_jax.benchmark.command import main
from nash_jax.benchmark.table import Row
from nash_jax.text import markdown_table

#: Their relative improvements in percent, by set.
SETS = ("CIFAR-10", "CIFAR-100", "SPORT8", "MIT67", "FLOWERS102")
PAPER = {
    "darts": (0.32, 0.23, -0.13, 0.10, 0.25),
    "p_darts": (0.52, 1.20, 0.51, 1.19, 0.20),
    "nsganet": (-0.48, 1.37, 0.43, 2.00, 1.47),
    "enas": (0.01, -3.44, 0.67, 0.13, 0.47),
    "cnas": (0.74, -0.89, -1.06, -0.66, -2.48),
    "manas": (0.18, -0.20, 0.33, 1.48, 0.70),
    "stacnas": (0.43, 2.87, 0.38, 0.05, -0.16),
    "nao": (0.44, -0.01, -2.05, -1.53, -0.13),
}


def papers(rows: Sequence[Row]) -> str:
    """The paper's numbers for the methods of a table."""
    methods = [method for method in PAPER if method in {row.method for row in rows}]
    lines = [[method, *(f"{value:+.2f}" for value in PAPER[method])] for method in methods]
    return "\n### RI %, in the paper\n\n" + markdown_table(["paper", *SETS], lines)


if __name__ == "__main__":
    main("experiments.seed3_table1", about=papers, methods=METHODS, protocols={"own": None})
