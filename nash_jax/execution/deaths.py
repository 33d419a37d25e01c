"""Workers that die while they do a job: whether the job is to blame.

A worker dies of what its job does, of what others do beside it (memory), or of nothing that the run
knows of. So a job that a worker died of is done again, from then on with nothing beside it.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator

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


class Room:
    """Lets several threads do jobs side by side, or one do a job with nothing beside it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = self._asked = 0

    @contextlib.contextmanager
    def taken(self, alone: bool) -> Iterator[None]:
        """Wait until a job may be done; who is to be alone comes before all others."""
        with self._changed:
            if alone:
                self._asked += 1
                self._changed.wait_for(lambda: not self._inside)
                self._asked -= 1
                self._inside = -1
            else:
                self._changed.wait_for(lambda: self._inside >= 0 and not self._asked)
                self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1 if self._inside > 0 else -1
                self._changed.notify_all()
