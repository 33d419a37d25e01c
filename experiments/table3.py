"""Table 3 of the paper: the longer searches and ensembles of table 2, on CIFAR-100.

python -m experiments.table3 --dataset=tfds:cifar100 --label=label
python -m experiments.table3 --dataset=cifar:cifar-100-binary --preset=small
"""

from __future__ import annotations

from experiments import table2
from experiments.study import run, study_from_flags, write_table
from experiments.tables import Paper

SNAPSHOTS = Paper(20.9, None, 48, 73.3, 5)

ROWS = {
    "longer": lambda study: table2.longer(study, Paper(23.4, None, 24, 22.3, 5)),
    "snapshots": lambda study: table2.snapshots(study, SNAPSHOTS),
    "fitted_snapshots": lambda study: table2.fitted_snapshots(study, SNAPSHOTS),
    "across_runs": lambda study: table2.across_runs(study, Paper(19.6, None, 120, 111.5, 5)),
}


def main(argv: list[str]) -> None:
    with study_from_flags(argv, ROWS) as study:
        write_table(study, "table3", "Table 3: the paper's are of CIFAR-100", ROWS)


if __name__ == "__main__":
    run(main)
