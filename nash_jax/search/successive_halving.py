"""Successive halving: the best of many are trained on (Jamieson and Talwalkar 2016)."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax

from nash_jax.checks import check_least
from nash_jax.search.strategy import Ask, Keys, Planned, Proposal, Strategy, Trial, ranked
from nash_jax.spaces import Space


class Rung(NamedTuple):
    """A round of successive halving.

    Attributes:
      number: how many networks are in it.
      epochs: how many epochs each network has been trained for at the end of the round.
      more: how many of these epochs belong to this round alone.
    """

    number: int
    epochs: int
    more: int


@dataclasses.dataclass(frozen=True)
class SuccessiveHalvingSettings:
    """The sizes of successive halving; the default eta is 3, as in Hyperband (Li et al. 2018).

    Attributes:
      num_samples: networks that are tried (n).
      eta: one of so many networks goes on to the next rung, for so many times the epochs.
      first_epochs: epochs of every network in the first rung (r).
      anew: train the networks of a later rung from new weights, for all epochs, instead of from the
        weights that they have.
    """

    num_samples: int = 27
    eta: int = 3
    first_epochs: int = 1
    anew: bool = False

    def __post_init__(self) -> None:
        check_least(self, num_samples=1, eta=2, first_epochs=1)

    @property
    def rungs(self) -> list[Rung]:
        """Its rounds, until one network is left.

        >>> [tuple(rung) for rung in SuccessiveHalvingSettings(num_samples=10).rungs]
        [(10, 1, 1), (3, 3, 2), (1, 9, 6)]
        """
        number, epochs = self.num_samples, self.first_epochs
        found = [Rung(number, epochs, epochs)]
        while (number := number // self.eta) >= 1:
            before, epochs = epochs, epochs * self.eta
            found.append(Rung(number, epochs, epochs if self.anew else epochs - before))
        return found

    @property
    def plan(self) -> list[Planned]:
        """What it asks for."""
        first, *others = self.rungs
        recipe = "scratch" if self.anew else "further"
        return [
            Planned("scratch", first.number, first.more),
            *(Planned(recipe, rung.number, rung.more) for rung in others),
        ]

    def num_edits(self, sampled: int) -> int:
        """Over how many edits the size of networks may grow: those of a random network."""
        return sampled

    @property
    def num_at_once(self) -> int:
        """How many trials can be made side by side."""
        return self.num_samples

    def phase(self, step: int) -> str:
        """What a round of it is, for people."""
        rung = self.rungs[min(step, len(self.rungs) - 1)]
        return f"rung {step + 1} of {len(self.rungs)}: {rung.number} networks, {rung.epochs} epochs"


def successive_halving(space: Space, settings: SuccessiveHalvingSettings, keys: Keys) -> Strategy:
    """Random networks in rungs: the best of every `eta` go on, for `eta` times the epochs.

    A network that goes on is trained only for the epochs that it lacks, with a cosine over these
    epochs: a warm restart.

    Args:
      space: what is searched.
      settings: the sizes.
      keys: of the run.
    """
    draw_key, train_key = jax.random.split(keys.search)
    first, *others = settings.rungs
    draws = jax.random.split(draw_key, first.number)
    trainings = jax.random.split(train_key, first.number)
    asked = [
        Proposal(f"rung1-sample{n + 1}", space.sample(draws[n]), trainings[n], recipe="scratch")
        for n in range(first.number)
    ]
    asked = [proposal._replace(budget=first.more) for proposal in asked]
    best = ranked((yield Ask(asked)))
    everything = list(best)
    for number, rung in enumerate(others, start=2):
        promoted = best[: rung.number]
        asked = [_on(trial, number, rung, settings.anew) for trial in promoted]
        alive = {trial.name for trial in promoted}
        dropped = {
            trial.name: f"place {place} of {len(best)} in rung {number - 1}, {rung.number} went on"
            for place, trial in enumerate(best, start=1)
            if place > rung.number
        }
        ask = Ask(asked, incumbent=best[0].name, alive=alive, dropped=dropped)
        best = ranked((yield ask))
        everything = [*best, *everything]
    return everything


def _on(trial: Trial, number: int, rung: Rung, anew: bool) -> Proposal:
    """The proposal of a network of one rung for the next rung."""
    proposal = trial.proposal
    key = jax.random.fold_in(proposal.key, number)
    name = f"rung{number}-{proposal.name.partition('-')[2]}"
    return Proposal(
        name,
        trial.genotype,
        key,
        parent=None if anew else trial.name,
        recipe="scratch" if anew else "further",
        budget=rung.more,
    )
