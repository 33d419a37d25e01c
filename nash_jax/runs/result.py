"""What a run ends with."""

from __future__ import annotations

import contextlib
import dataclasses
import html
import io
import pathlib
from typing import TYPE_CHECKING

from nash_jax.architecture import count_params
from nash_jax.record.files import read_json, write_json, writing
from nash_jax.record.workdir import RESULT_FILE
from nash_jax.reporting.describe import CELLS, cells_of
from nash_jax.reporting.view import way_to
from nash_jax.search import AFTER, Trial

if TYPE_CHECKING:  # imported only where needed: it takes a second, and workers load this module too
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """What a run ends with.

    Attributes:
      best: the network, trained on training and validation set; its estimate is on the test set.
        If only the search was asked for, or it was interrupted, this is the current best, with
        validation accuracy.
      history: every trial, in the order of the proposals.
      seconds: the run's duration, without the time between a stop and a resume.
      shares: parts of the workers' time in the search: 'compile', 'train', 'evaluate', and 'wait',
        when a worker had nothing to do. Empty if there was no search.
      finished: whether the best was trained to the end and tested.
    """

    best: Trial
    history: tuple[Trial, ...]
    seconds: float
    shares: dict[str, float]
    finished: bool = True

    def plot(self) -> Figure:
        """The climb: validation accuracy of every child, step by step."""
        from nash_jax.reporting.charts import climb

        name = self.best.parent if self.finished else self.best.name
        tried = [trial for trial in self.history if trial.recipe not in AFTER]
        return climb(tried, way_to(name, tried))

    def __repr__(self) -> str:
        split = "test" if self.finished else "validation"
        return (
            f"Result({split} accuracy {self.best.estimate.accuracy:.2%}, "
            f"{count_params(self.best.spec):,} parameters, {len(self.history)} networks in "
            f"{self.seconds:.0f} s{'' if self.finished else ', unfinished'})"
        )

    def _repr_html_(self) -> str:
        """What notebooks show: the climb and a table of all trials."""
        picture = io.StringIO()
        self.plot().savefig(picture, format="svg")
        svg = picture.getvalue()
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells_of(trial)) + "</tr>"
            for trial in self.history
        )
        head = "".join(f"<th>{title}</th>" for title in CELLS)
        return (
            f"<p>{html.escape(repr(self))}</p>{svg[svg.index('<svg') :]}"
            f"<table><tr>{head}</tr>{rows}</table>"
        )


def write_result(workdir: pathlib.Path, result: Result) -> None:
    """Write the pictures and `result.json`, unless they are there."""
    with contextlib.suppress(ValueError):
        read_json(workdir, RESULT_FILE)
        return
    from nash_jax.reporting.pictures import draw_network

    with writing(workdir):
        draw_network(result.best.spec, workdir / "network.png")
        result.plot().savefig(workdir / "climb.png", dpi=130)
    final = result.best
    write_json(
        workdir / RESULT_FILE,
        {
            "test_accuracy": final.estimate.accuracy,
            "found_by": final.parent,
            "params": final.params,
            "flops": final.flops,
            "seconds": round(result.seconds, 3),
            "shares": {name: round(share, 4) for name, share in result.shares.items()},
        },
    )
