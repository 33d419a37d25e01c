"""When a run of some minutes is to end: what fits into the time, by what its trials took."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable

from nash_jax.record.lines import EXTENSION, LENGTH, Line, extended, is_outdated, times_of
from nash_jax.record.workdir import Record
from nash_jax.search import AFTER, Period, Trial
from nash_jax.training import Cosine, Lengths, Resizing, cost_of_smaller

BASELINE, FINAL = AFTER
#: Of a limited time, the search may take so much; the final training has the rest.
SEARCH_SHARE = 0.6
#: Seconds for the pictures and the other files of a finished run.
PICTURES = 3.0
#: The final training is made longer or shorter if it would differ by more than this part of it,
#: and, while its pace is not known well, twice this part of what is left.
LENGTH_TOLERANCE = 0.03
#: Its length stays as it is until the epochs that count took this part of what is left of the
#: time, or of itself, if that is less.
PACE_SHARE = 0.05


@dataclasses.dataclass(frozen=True, eq=False)
class Deadline:
    """The time of a run, all of it recorded: a replay comes to the same end.

    Attributes:
      minutes: those of the config.
      record: has the decisions by time, and takes new ones.
      fingerprint: of the settings and the data.
      num_train, num_valid, num_test: how many images there are.
      smaller_search: whether trials of the search have smaller images.
      repeats: whether all that is decided by time was decided before, in the run that this one
        repeats: then no clock changes a length.
    """

    minutes: float
    record: Record
    fingerprint: str
    num_train: int
    num_valid: int
    num_test: int
    smaller_search: bool = False
    repeats: bool = False

    @property
    def seconds(self) -> float:
        """That the run has in all."""
        return 60 * (self.minutes + sum(line["minutes"] for line in self.extensions))

    @property
    def extensions(self) -> list[Line]:
        """When the run got more time."""
        return [line for line in self.record.timings if line["kind"] == EXTENSION]

    @property
    def extended(self) -> list[float]:
        """When the run got more time, in its seconds."""
        return extended(self.record.timings)

    @property
    def extended_at(self) -> float:
        """When it did so last; -1 if it did not."""
        return max(self.extended, default=-1.0)

    @property
    def periods(self) -> list[Period]:
        """When the search may ask for trials: at first, and since the run got more time."""
        begins = [0.0, *self.extended]
        minutes = [self.minutes, *(line["minutes"] for line in self.extensions)]
        ends = (60 * SEARCH_SHARE * in_all for in_all in itertools.accumulate(minutes))
        return [*map(Period, begins, ends)]

    def is_outdated(self, name: str) -> bool:
        """Whether a trial was made before the run got more time; False if it was not made."""
        line = self.record.lines.get(name)
        return line is not None and is_outdated(line, self.record.timings)

    def extend(self, minutes: float) -> None:
        """Give the run so many more minutes: its end is to come again.

        Raises:
          ValueError: if it has no limit, or its final training would become shorter.
        """
        if not self.minutes:
            raise ValueError(
                f"only a run with a limit can get more minutes; got +{minutes:g} for one without; "
                "begin another with --minutes"
            )
        lines = self.record.lines
        elapsed = max((times_of(line)["elapsed"] for line in lines.values()), default=0.0)
        if FINAL in lines and not self.is_outdated(FINAL):
            over = max(0.0, elapsed - self.seconds)  # as by a baseline that was trained later
            least = (over + times_of(lines[FINAL])["seconds"]["train"]) / 60
            if minutes < least:
                raise ValueError(
                    f"more minutes must be at least {least:.1f}, because the final training is "
                    f"made anew, and would else be shorter; got +{minutes:g}; give "
                    f"+{math.ceil(least)}"
                )
        for name in AFTER:
            self.record.end_training(name)
        self.record.remove_result()
        self._add({"kind": EXTENSION, "minutes": minutes, "elapsed": elapsed})

    def ending(self, best: Trial, trials: Iterable[Trial]) -> float:
        """Seconds that judging the final network and writing what people look at will take."""
        seconds = best.estimate.seconds
        evaluating = seconds.evaluate * _share_alone(best, trials) * self.num_test / self.num_valid
        evaluating *= self._longer(best)
        return PICTURES + seconds.compile / 2 + evaluating

    def final_epochs(self, best: Trial, trials: Iterable[Trial], resizing: Resizing) -> int:
        """As many epochs as fit into the time that is left, by what trials of the search took.

        It is a first guess: `lengths` corrects it. Those of smaller images take less.
        """
        tried = [trial for trial in trials if trial.recipe not in AFTER]
        now = max(self.extended_at, *(trial.elapsed for trial in tried))
        left = self.seconds - self.ending(best, tried) - now
        more = (self.num_train + self.num_valid) / self.num_train
        epoch = _per_epoch(best) * self._longer(best) * _share_alone(best, tried) * more
        epoch *= resizing.mean_work()
        return max(1, int((left - best.estimate.seconds.compile) / epoch))

    def final_epochs_as_planned(self, planned: int) -> int:
        """The first guess for a run that got more time, where no trial was trained.

        Args:
          planned: epochs for the minutes that the run began with.
        """
        return max(1, round(planned * (self.seconds - self.extended_at) / (60 * self.minutes)))

    def _longer(self, best: Trial) -> float:
        """How many times as long whole images take as those that the best was trained on."""
        return 1 / cost_of_smaller(best.spec) if self.smaller_search else 1.0

    def lengths(
        self,
        name: str,
        ending: float,
        elapsed: Callable[[], float],
        changed: Callable[[int, int], None],
        resizing: Resizing,
    ) -> Lengths:
        """Keeps a training to the time of the run, by changing how long it is.

        An epoch is expected to take as long as those of this process so far, of which the latest
        half counts; one of smaller images, a part of that. Nothing is decided while that half is
        too short to tell. What is decided is recorded before it takes effect.

        Args:
          name: of the trial.
          ending: seconds that come after the training.
          elapsed: seconds of the run until now.
          changed: told how many epochs there are to be, and how many there were to be.
          resizing: which epochs have smaller images.
        """
        timings = self.record.timings
        since = max((n for n, x in enumerate(timings) if x["kind"] == EXTENSION), default=0)
        known = {x["done"]: x["epochs"] for x in timings[since:] if x["kind"] == LENGTH}
        # What is there, and is made again because its weights are lost, is as long as it was.
        made_again = self.repeats or (name in self.record.lines and not self.is_outdated(name))
        ends: list[tuple[float, float]] = []  # the work done, in epochs of whole images, and when
        work, counted, elsewhere = 0.0, 0, 0.0  # elsewhere: in a process that was stopped

        def decide(done: int, cosine: Cosine) -> int:
            nonlocal work, counted, elsewhere
            epochs = cosine.epochs
            if made_again:
                return epochs
            work += sum(resizing.work(cosine, n) for n in range(counted, done))
            counted = done
            if not ends:
                elsewhere = work - resizing.work(cosine, done - 1)
            ends.append((work, elapsed()))
            (before, start), (after, now) = ends[(len(ends) - 1) // 2], ends[-1]
            if after == before:
                return epochs
            epoch = (now - start) / (after - before)
            to_come = epoch * resizing.mean_work(cosine.progress(done))
            left = self.seconds - ending - now - elsewhere * epoch
            if now - start < PACE_SHARE * min(left, (epochs - done) * to_come):
                return epochs
            fits = done + max(1, round(left / to_come))
            tolerance = LENGTH_TOLERANCE * epochs + 2 * LENGTH_TOLERANCE * (epochs - done)
            if abs(fits - epochs) <= tolerance:
                return epochs
            self._add({"kind": LENGTH, "name": name, "done": done, "epochs": fits})
            changed(fits, epochs)
            known[done] = fits
            return fits

        return Lengths(known, decide)

    def _add(self, line: Line) -> None:
        self.record.add_timing({**line, "config": self.fingerprint})


def _share_alone(best: Trial, trials: Iterable[Trial]) -> float:
    """The part of its time that an epoch of the best takes when it has the whole machine.

    The best was trained beside others; how much faster it is alone is seen from the first network,
    if the search trained it again without edits. What is not known counts as 1.
    """
    if best.recipe == "pretrain":
        return 1.0
    trained = (t for t in trials if t.estimate.train_losses and not t.failed)
    tried = [t for t in trained if t.recipe not in AFTER]
    alone = {t.spec: _per_epoch(t) for t in tried if t.recipe == "pretrain"}
    beside = [t for t in tried if t.spec in alone and t.recipe != "pretrain"]
    return min([1.0, *(alone[t.spec] / _per_epoch(t) for t in beside)])


def _per_epoch(trial: Trial) -> float:
    """Seconds that an epoch of its training took."""
    return max(trial.estimate.seconds.train, 1e-3) / max(len(trial.estimate.train_losses), 1)
