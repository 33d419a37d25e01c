"""Proxies beside a full training: how alike they order the same genotypes, and what they cost."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from nash_jax.evaluation.ranks import spearman_interval, top_overlap
from nash_jax.evaluation.statistics import Interval, kendall_tau

#: The name of the full training among proxies.
FULL = "full"


class Cost(NamedTuple):
    """What the trainings of all genotypes took.

    Attributes:
      seconds: of training and evaluating, without compiling.
      flops: of training; 0: not known, or none.
      compile_seconds: programs are shared among trainings that differ in epochs alone.
      failed: how many genotypes could not be trained.
    """

    seconds: float = 0.0
    flops: float = 0.0
    compile_seconds: float = 0.0
    failed: int = 0


class Row(NamedTuple):
    """How a proxy orders what the full training orders, and what it costs.

    Attributes:
      name: of the proxy.
      spearman: rank correlation with the full training, with its 95% interval; None: the proxy has
        no order, because all values are equal.
      tau: Kendall's tau-b, likewise.
      overlap: the share of the best by the full training that are among the best by the proxy.
      behind: how far the genotype that the proxy puts first is behind the best, in points of the
        full training's accuracy.
      cost: of all genotypes.
      seconds_share: its seconds over those of the full training; nan where these are not known.
      flops_share: the same of FLOPs.
    """

    name: str
    spearman: Interval | None
    tau: float | None
    overlap: float
    behind: float
    cost: Cost
    seconds_share: float
    flops_share: float


@dataclasses.dataclass(frozen=True, eq=False)
class Ranking:
    """What proxies say of the same genotypes.

    Attributes:
      truth: what they are compared with, for people.
      codes: of the genotypes, `[n]`.
      values: by proxy, and by `FULL`, what it says of each, `[n]`; accuracies in percent.
      rows: one for each; the full training's own is the first.
      top: how many are the best, in `Row.overlap`.
    """

    truth: str
    codes: Sequence[str]
    values: Mapping[str, np.ndarray]
    rows: Sequence[Row]
    top: int


def ranking(
    truth: str, codes: Sequence[str], values: Mapping[str, np.ndarray], costs: Mapping[str, Cost]
) -> Ranking:
    """Compare what proxies say with what the full training says.

    Args:
      truth: what that is, for people.
      codes: of the genotypes, `[n]`, n >= 3.
      values: by proxy, `[n]`, the larger the better; `FULL`'s are accuracies in percent.
      costs: by proxy.
    """
    full, top = values[FULL], max(3, math.ceil(len(codes) / 10))
    rows = []
    for name, of_proxy in values.items():
        ordered = len(np.unique(of_proxy)) > 1 and len(np.unique(full)) > 1
        rows.append(
            Row(
                name,
                spearman_interval(of_proxy, full) if ordered else None,
                kendall_tau(of_proxy, full) if ordered else None,
                top_overlap(of_proxy, full, top),
                float(full.max() - full[np.argmax(of_proxy)]),
                costs[name],
                _share(costs[name].seconds, costs[FULL].seconds),
                _share(costs[name].flops, costs[FULL].flops),
            )
        )
    return Ranking(truth, codes, values, rows, top)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
