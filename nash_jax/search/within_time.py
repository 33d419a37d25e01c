"""A time limit around any strategy, by the recorded times of its trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from nash_jax.search.strategy import ALONE, Ask, Proposal, Strategy, Trial, ranked


class Period(NamedTuple):
    """Part of the time of a run, in seconds from its beginning."""

    since: float
    until: float


def within(
    strategy: Strategy, periods: Sequence[Period], work: Callable[[Proposal], float]
) -> Strategy:
    """A strategy that asks for nothing more once the next ask would probably end too late.

    That is where it would end in none of the periods if it was made now, or at the beginning of the
    period. So what was asked for in an earlier period is asked for again in a replay.

    An ask is expected to take as long as its trials, one after the other on each worker. A trial is
    expected to train as fast as the slowest of the answer before, and to be compiled and judged in
    as long as these on average. No clock is read: what trials took is recorded, and a
    replay comes to the same end. The first ask is always made. Trials that are out when the time is
    over are waited for.

    Args:
      strategy: a strategy that has not begun.
      periods: in which it may ask: one, and one more each time that the run got more time.
      work: how long the training of a proposal is, in any unit.

    Returns:
      All trials that the strategy was told of, the best first; or what it returned, if it came to
      its end.

    Raises:
      AllFailedError: as the strategy does, or if all trials failed when the time is over.
    """
    told: list[Trial] = []
    good: list[Trial] = []
    ask, out, now = next(strategy), 0, 0.0
    while True:
        out += len(ask.proposals)
        trials = yield ask
        out -= len(trials)
        told += trials
        good += [trial for trial in trials if not trial.failed]
        now = max([now, *(trial.elapsed for trial in trials)])
        try:
            following = strategy.send(trials)
        except StopIteration as end:
            returned: list[Trial] = list(end.value)
            return returned
        if good and not _fits(now, _expected(following, good, work), periods):
            break
        ask = following
    strategy.close()
    if out:
        told += yield Ask((), 0, ranked(told)[0].name)
    return ranked(told)


def _fits(now: float, seconds: float, periods: Sequence[Period]) -> bool:
    """Whether something that takes so long, and begins now or later, ends within a period."""
    return any(max(now, since) + seconds <= until for since, until in periods)


def _expected(ask: Ask, told: Sequence[Trial], work: Callable[[Proposal], float]) -> float:
    """Seconds from an ask to its answer, by trials that did not fail, of which the latest count."""
    latest = told[-max(1, len(ask.proposals)) :]
    seconds = [trial.estimate.seconds for trial in latest]
    pace = max(each.train / max(1, work(t.proposal)) for each, t in zip(seconds, latest))
    beside = sum(each.compile + each.evaluate for each in seconds) / len(latest)
    trainings = [pace * work(proposal) + beside for proposal in ask.proposals]
    workers = 1 if latest[-1].recipe in ALONE else latest[-1].workers  # several are slower each
    return max(sum(trainings) / workers, max(trainings, default=0.0))
