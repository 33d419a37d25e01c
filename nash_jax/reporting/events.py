"""What happens in a run, as values: whoever is told of them is a function of one event.

>>> def tell(event: Event) -> None:
...     match event:
...         case Phase(text):
...             print(text, 'begins')
>>> tell(Phase('step 1 of 5'))
step 1 of 5 begins
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from nash_jax.search import Trial


class Begun(NamedTuple):
    """The run begins, or goes on.

    Attributes:
      total_epochs: of training in all.
      known: the trials that the record has already.
      limits: the most that each cost of `architecture.COSTS` may be, of those with a bound.
    """

    total_epochs: int
    known: Sequence[Trial]
    limits: Mapping[str, float] = MappingProxyType({})


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


Event: TypeAlias = Begun | Phase | Epoch | Done | Chosen | Note

#: Is told of events, from any thread.
Tell: TypeAlias = Callable[[Event], None]


def quiet(event: Event) -> None:
    """Is told of events, and does nothing."""
    del event


def several(*tells: Tell) -> Tell:
    """Tells several, in their order."""

    def tell(event: Event) -> None:
        for each in tells:
            each(event)

    return tell
