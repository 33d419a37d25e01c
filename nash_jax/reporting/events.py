"""What happens in a run, as values: listeners are functions that take one event.

>>> def tell(event: Event) -> None:
...     match event:
...         case Phase(text):
...             print(text, 'begins')
>>> tell(Phase('step 1 of 5'))
step 1 of 5 begins
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from nash_jax.search import Trial


class Begun(NamedTuple):
    """The run begins, or goes on.

    Attributes:
      total_epochs: of training in all.
      known: the trials that are in the record already, by name: how many epochs each has.
      limits: the most that each cost of `architecture.COSTS` may be, of those with a bound.
    """

    total_epochs: int
    known: Mapping[str, int]
    limits: Mapping[str, float] = MappingProxyType({})


class Load(NamedTuple):
    """How much of a cluster is used now.

    Attributes:
      nodes: machines that have workers.
      workers: that could begin a trial, or make one.
      waiting: trials that no worker has begun.
    """

    nodes: int
    workers: int
    waiting: int


class Phase(NamedTuple):
    """What follows: 'pretraining', 'step 1 of 5', 'final training'."""

    text: str


class Epoch(NamedTuple):
    """An epoch of a trial's training is done.

    Attributes:
      name: of the trial.
      number: of the epoch, from 1.
      loss: its mean training loss, in nats.
      learning_rate: that it began with.
    """

    name: str
    number: int
    loss: float
    learning_rate: float


class Done(NamedTuple):
    """A trial is done."""

    trial: Trial


class Chosen(NamedTuple):
    """The strategy takes a trial for the best so far."""

    trial: Trial


class Note(NamedTuple):
    """Something happened that people should know of."""

    text: str


Event: TypeAlias = Begun | Load | Phase | Epoch | Done | Chosen | Note

#: A function that is called with each event, from any thread.
Tell: TypeAlias = Callable[[Event], None]


def quiet(event: Event) -> None:
    """Takes events, and does nothing."""
    del event


def several(*tells: Tell) -> Tell:
    """One function that tells several others, in their order."""

    def tell(event: Event) -> None:
        for each in tells:
            each(event)

    return tell
