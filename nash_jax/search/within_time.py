"""A time limit around any strategy, by the recorded times of its trials."""

from __future__ import annotations

from nash_jax.search.strategy import Ask, Strategy, Trial, ranked


def within(strategy: Strategy, seconds: float) -> Strategy:
    """A strategy that asks for nothing more once the next ask would probably end too late.

    An ask is expected to take as long as the one before it, times the ratio of their proposals. No
    clock is read: `Trial.elapsed` is recorded, and a replay comes to the same end. The first ask is
    always made. Trials that are out when the time is over are waited for.

    Args:
      strategy: a strategy that has not begun.
      seconds: from the beginning of the run.

    Returns:
      All trials that the strategy was told of, the best first; or what it returned, if it came to
      its end.

    Raises:
      AllFailedError: as the strategy does, or if all trials failed when the time is over.
    """
    told: list[Trial] = []
    ask, out, before = next(strategy), 0, 0.0
    while True:
        out += len(ask.proposals)
        trials = yield ask
        out -= len(trials)
        told += trials
        try:
            following = strategy.send(trials)
        except StopIteration as end:
            returned: list[Trial] = list(end.value)
            return returned
        now = max((trial.elapsed for trial in told), default=0.0)
        took, before = now - before, now
        share = len(following.proposals) / max(1, len(ask.proposals))
        if now + took * share > seconds and any(not trial.failed for trial in told):
            break
        ask = following
    strategy.close()
    if out:
        told += yield Ask((), 0, ranked(told)[0].name)
    return ranked(told)
