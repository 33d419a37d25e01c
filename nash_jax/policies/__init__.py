"""What draws the paths of a supernet, and learns which are good."""

from nash_jax.policies.bandits import Exp3, LeastSquares
from nash_jax.policies.controller import Controller, ControllerSettings, Written
from nash_jax.policies.policy import Judge, Judged, Policy, Uniform

__all__ = [
    "Controller",
    "ControllerSettings",
    "Exp3",
    "Judge",
    "Judged",
    "LeastSquares",
    "Policy",
    "Uniform",
    "Written",
]
