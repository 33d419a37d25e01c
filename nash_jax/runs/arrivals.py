"""Which trials a strategy is told of next, where that goes by arrival and not by proposal."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping

from nash_jax.record.lines import Line
from nash_jax.record.workdir import Record
from nash_jax.runs.stopped import otherwise


class Arrivals:
    """Trials that have arrived, and what the record says of the order in which they did.

    Every decision has the names that arrived before it, so that a replay follows them. Where a line
    is lost, those are taken that no later decision names; what is then proposed otherwise than it
    was is made again.

    Attributes:
      order_lost: whether the record has lost what arrived at some step.
    """

    def __init__(
        self, record: Record, followed: Mapping[int, Line], note: Callable[[str], None]
    ) -> None:
        """Nothing has arrived.

        Args:
          record: of the run.
          followed: decisions of a run that this one repeats.
          note: is told if the order is lost.
        """
        self._record, self._followed, self._note = record, followed, note
        self._last_step = max(record.decisions, default=0)
        self._num_recorded = len(record.lines)
        numbers = {name: number for number, name in enumerate(record.lines)}
        self._numbers = defaultdict(itertools.count(len(numbers)).__next__, numbers)
        self._arrived: list[tuple[int, str]] = []  # a heap
        self.order_lost = False

    def arrive(self, name: str) -> None:
        """A trial is there; those of the record came in the order of its lines."""
        heapq.heappush(self._arrived, (self._numbers[name], name))

    def due(
        self, num: int, step: int, waiting: Collection[str], wait_for_one: Callable[[], bool]
    ) -> list[str]:
        """The names of the trials that the strategy is told of at a step, in their order.

        Args:
          num: how many.
          step: of the strategy.
          waiting: the names of all that it was not told of.
          wait_for_one: waits until another trial arrives; False if none is out.

        Raises:
          StoppedError: if the record says that something else had arrived.
        """
        known = self._record.decisions.get(step) or self._followed.get(step, {})
        names: list[str] = list(known.get("arrived", []))
        if names and not (len(names) == num and all(name in waiting for name in names)):
            if not self.order_lost:
                raise otherwise(f"the ledger has other arrivals at step {step} than trials out")
            names = []
        later, first_later = set[str](), math.inf
        if not names and step < self._last_step:
            later = self._later_than(step)
            there = (self._numbers[name] for name in later if name in self._record.lines)
            first_later = min(there, default=math.inf)
        passed_over = list[tuple[int, str]]()
        while len(names) < num:
            while not self._arrived:
                if not wait_for_one():  # all that is there was to come later
                    later, first_later = set(), math.inf
                    self._arrived, passed_over = passed_over, []
            number, name = heapq.heappop(self._arrived)
            if name in later or first_later < number < self._num_recorded:
                passed_over.append((number, name))
            elif name in waiting:
                names.append(name)
        for entry in passed_over:
            heapq.heappush(self._arrived, entry)
        return names

    def _later_than(self, step: int) -> set[str]:
        """What arrived later, where the record has lost what arrived at a step."""
        if not self.order_lost:
            lost = f"the ledger has lost what arrived at step {step}"
            self._note(f"{lost}; what follows otherwise is made again")
        self.order_lost = True
        lines = self._record.decisions.items()
        return {name for at, line in lines if at > step for name in line.get("arrived", [])}
