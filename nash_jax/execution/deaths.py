"""Workers that die while they do a job: whether the job is to blame.

A worker dies of what its job does, of what others do beside it (memory), or of nothing that the run
knows of. So a job that a worker died of is done again, from then on with nothing beside it.
"""

from __future__ import annotations

from collections import Counter

#: So many workers that died make a job a failure; nothing was beside the last two of them.
MOST = 3


class Deaths:
    """Counts, for each job, the workers that died of it.

    >>> deaths = Deaths()
    >>> [(deaths.suspects('a'), deaths.blames('a', alone)) for alone in (False, True, True)]
    [(False, False), (True, False), (True, True)]
    """

    def __init__(self) -> None:
        self._all: Counter[str] = Counter()
        self._alone: Counter[str] = Counter()

    def suspects(self, name: str) -> bool:
        """Whether a job is to be done with nothing beside it."""
        return self._all[name] > 0

    def blames(self, name: str, alone: bool) -> bool:
        """Count a worker that died of a job; whether the job has failed now.

        Args:
          name: of the job.
          alone: nothing was done beside it.
        """
        self._all[name] += 1
        self._alone[name] += alone
        return self._all[name] >= MOST and self._alone[name] >= MOST - 1
