"""Why a run cannot go on."""

from __future__ import annotations


class StoppedError(Exception):
    """A run cannot go on; the message says why. All that was recorded is kept.

    Attributes:
      resumable: whether the same command could go on, once the cause is removed.
    """

    def __init__(self, message: str, resumable: bool = True) -> None:
        super().__init__(message)
        self.resumable = resumable


def otherwise(what: str) -> StoppedError:
    """The record has something that is not proposed now."""
    return StoppedError(f"{what}; take the versions that began the run (config.json has them)")
