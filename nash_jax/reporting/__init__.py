"""A run as people see it: while it goes on, and afterwards."""

from nash_jax.reporting.events import (
    Begun,
    Chosen,
    Done,
    Epoch,
    Event,
    Load,
    Note,
    Phase,
    Tell,
    quiet,
    several,
)
from nash_jax.reporting.progress import Progress, plain
from nash_jax.reporting.tensorboard import TensorBoard
from nash_jax.reporting.view import RunView, read_run

__all__ = [
    "Begun",
    "Chosen",
    "Done",
    "Epoch",
    "Event",
    "Load",
    "Note",
    "Phase",
    "Progress",
    "RunView",
    "Tell",
    "TensorBoard",
    "plain",
    "quiet",
    "read_run",
    "several",
]
