"""A bandit for each edge of a supernet (MANAS; Carlucci, Esperança, Singh et al. 2019).

Each edge draws one of its choices for each update, alone; the validation loss of the path tells all
edges how good their choices were. `Exp3` credits each choice by the loss over its probability;
`LeastSquares` (MANAS-LS) explains the losses by a sum over the choices, and draws by their rank.

The paper's rule as printed rewards losses; here a choice is rewarded by a baseline minus the loss
(Yang, Esperança and Carlucci 2020, appendix). Their gamma is not explained; it is taken as the
share of draws that are uniform, which keeps probabilities, by which is divided, above zero.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from nash_jax.architecture import EdgeWeights
from nash_jax.policies.policy import Judge, generator, seed_of


def exp3_credit(path: np.ndarray, probabilities: np.ndarray, reward: float) -> np.ndarray:
    """An unbiased estimate of the rewards of all choices, by that of the one that was drawn.

    >>> exp3_credit(np.array([0.0, 1.0]), np.array([0.75, 0.25]), 0.5).tolist()
    [0.0, 2.0]
    """
    return np.asarray(path * reward / probabilities)


def zipf(num: int) -> np.ndarray:
    """Probabilities of the ranks from the first: inverse to the rank.

    >>> zipf(2).round(3).tolist()
    [0.667, 0.333]
    """
    weights = 1 / np.arange(1, num + 1)
    return np.asarray(weights / weights.sum())


def fitted_losses(gram: np.ndarray, moments: np.ndarray, ridge: float = 1e-6) -> np.ndarray:
    """What each choice adds to the loss, by least squares; sums over an edge are not determined.

    Args:
      gram: the sum of `z z'` over paths, whose choices are ones in `z`, `[choices, choices]`.
      moments: the sum of `z * loss`, `[choices]`.
      ridge: added to the diagonal: of all solutions, about the smallest.
    """
    return np.asarray(np.linalg.solve(gram + ridge * np.eye(len(gram)), moments))


@dataclasses.dataclass(frozen=True)
class Exp3:
    """An edge draws by the rewards that its choices have been credited with.

    Attributes:
      choices: by edge, how many it has.
      baseline: the loss that is worth nothing, in nats.
      gamma: share of draws that are uniform.
      hottest: temperature at the beginning, by which credits are divided.
      coolest: temperature at the end.
      share: see `Policy`.
    """

    choices: Mapping[str, int]
    baseline: float = 5.0
    gamma: float = 0.1
    hottest: float = 1000.0
    coolest: float = 200.0
    share: float = 0.5

    def start(self, key: jax.Array) -> Any:
        credits = {edge: np.zeros(num) for edge, num in self.choices.items()}
        return {"seed": seed_of(key), "credits": credits, "progress": np.zeros(())}

    def favoured(self, state: Any) -> dict[str, np.ndarray]:
        """The probabilities of all choices."""
        progress = float(state["progress"])
        temperature = self.hottest + (self.coolest - self.hottest) * progress
        found = {}
        for edge, credits in state["credits"].items():
            logits = np.asarray(credits) / temperature
            weights = np.exp(logits - logits.max())
            uniform = self.gamma / len(weights)
            found[edge] = (1 - self.gamma) * weights / weights.sum() + uniform
        return found

    def draw(self, state: Any, number: int) -> EdgeWeights:
        return _drawn(self.favoured(state), generator(state["seed"], number))

    def after_update(
        self, state: Any, number: int, path: EdgeWeights, judge: Judge, progress: float
    ) -> Any:
        reward = self.baseline - judge(path).loss
        if not np.isfinite(reward):
            return state
        probabilities = self.favoured(state)
        credits = {
            edge: np.asarray(old) + exp3_credit(path[edge], probabilities[edge], reward)
            for edge, old in state["credits"].items()
        }
        return {**state, "credits": credits, "progress": np.asarray(progress)}

    def after_epoch(self, state: Any, epoch: int, judge: Judge) -> Any:
        return state


@dataclasses.dataclass(frozen=True)
class LeastSquares:
    """An edge draws by the ranks of its choices, in a linear model of the loss.

    The loss falls in training: the means of each epoch are taken off, so that choices do not look
    good because of when they were drawn.

    Attributes:
      choices: by edge, how many it has.
      share: see `Policy`.
    """

    choices: Mapping[str, int]
    share: float = 0.5

    def start(self, key: jax.Array) -> Any:
        num = sum(self.choices.values())
        return {
            "seed": seed_of(key),
            "gram": np.zeros((num, num)),
            "products": np.zeros((num, num)),  # of the epoch, as are the three below
            "moments": np.zeros(num),
            "counts": np.zeros(num),
            "sums": np.zeros(num),
            "level": np.zeros(2),  # how many losses, and their sum
            "losses": np.zeros(num),
            "fitted": np.zeros(()),
        }

    def favoured(self, state: Any) -> dict[str, np.ndarray]:
        """The probabilities of all choices: uniform before the first epoch is over."""
        found, begin = {}, 0
        for edge, num in self.choices.items():
            losses = np.asarray(state["losses"])[begin : begin + num]
            begin += num
            found[edge] = np.full(num, 1 / num)
            if state["fitted"]:
                found[edge][np.argsort(losses, kind="stable")] = zipf(num)
        return found

    def draw(self, state: Any, number: int) -> EdgeWeights:
        return _drawn(self.favoured(state), generator(state["seed"], number))

    def after_update(
        self, state: Any, number: int, path: EdgeWeights, judge: Judge, progress: float
    ) -> Any:
        z = np.concatenate([np.asarray(path[edge], np.float64) for edge in self.choices])
        loss = judge(path).loss
        if not np.isfinite(loss):
            return state
        return {
            **state,
            "products": np.asarray(state["products"]) + np.outer(z, z),
            "counts": np.asarray(state["counts"]) + z,
            "sums": np.asarray(state["sums"]) + z * loss,
            "level": np.asarray(state["level"]) + np.array([1, loss]),
        }

    def after_epoch(self, state: Any, epoch: int, judge: Judge) -> Any:
        num, total = np.asarray(state["level"])
        counts, num = np.asarray(state["counts"]), max(num, 1)
        gram = state["gram"] + np.asarray(state["products"]) - np.outer(counts, counts) / num
        moments = state["moments"] + np.asarray(state["sums"]) - counts * total / num
        return {
            **self.start(jax.random.key(0)),
            "seed": state["seed"],
            "gram": gram,
            "moments": moments,
            "losses": fitted_losses(gram, moments),
            "fitted": np.ones(()),
        }


def _drawn(probabilities: Mapping[str, np.ndarray], rng: np.random.Generator) -> EdgeWeights:
    """For each edge, a one at a choice that is drawn."""
    path = {}
    for edge, weights in probabilities.items():
        path[edge] = np.zeros(len(weights), np.float32)
        path[edge][rng.choice(len(weights), p=weights / weights.sum())] = 1
    return path
