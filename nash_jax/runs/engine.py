"""The engine of a run: it works with any strategy, and trains what a strategy found to the end.

A run is replayed, not restored: a trial that the record has is taken from it instead of being
trained, and the rest follows from the seed as it did the first time, or from what the record says
arrived when. So a run that was stopped anywhere goes on to the same result; by arrival, as far as
the workers do not decide it.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import jax

from nash_jax.architecture import count_flops, exceeded
from nash_jax.record.lines import DECISION, check_name
from nash_jax.reporting.events import Chosen, Note, Phase, Tell
from nash_jax.runs.config import flag_of
from nash_jax.runs.deadline import BASELINE, FINAL
from nash_jax.runs.problem import searches
from nash_jax.runs.stopped import StoppedError
from nash_jax.runs.trials import Asked, Run, Trials
from nash_jax.search import (
    AFTER,
    STRATEGIES,
    AllFailedError,
    Ask,
    Proposal,
    Strategy,
    Trial,
    epochs_in_all,
    num_due,
    within,
)
from nash_jax.spaces import Supernet
from nash_jax.training import Lengths, Resizing


class Engine:
    """Asks a strategy for trials, tells it of them, and records what it decides.

    Attributes:
      trials: those of the run.
    """

    def __init__(self, run: Run, tell: Tell, trials: Trials) -> None:
        self._run, self._record, self._tell = run, run.record, tell
        self.trials = trials
        self._space = trials.space
        self._deadline = run.deadline
        self._final_ending, self._final_resizing = 0.0, Resizing()

    def search(self) -> Trial:
        """What the strategy returns first.

        Raises:
          StoppedError: if it cannot go on.
        """
        config = self._run.config
        named = config.values()["strategy"]
        if searches(config) and not self._record.lines:
            self.trials.start()  # while the first network is trained
        while True:
            strategy = STRATEGIES[named](self._space, config.strategy, self.trials.keys)
            if config.minutes:
                strategy = within(strategy, self._deadline.periods, self._work)
            try:
                returned = self._drive(strategy)
                if not returned:
                    raise ValueError(f"strategy {named} must return a trial; got none")
                return returned[0]
            except AllFailedError as error:
                names = {trial.name for trial in error.trials}
                self.trials.wait_for_all()
                if not names <= self.trials.replayed:
                    raise _stopped(error.trials) from None
                self.trials.forget(names)  # the run stopped at these trials: try them again
                self.trials.begin()

    def _drive(self, strategy: Strategy) -> Sequence[Trial]:
        """Run a strategy to its end."""
        waiting = collections.OrderedDict[str, None]()
        self._phase = ""
        arrivals = self.trials.arrivals
        ask, step, arrived = next(strategy), 0, list[str]()
        while True:
            self._ask(ask, step, waiting, arrived)
            step += 1
            num, arrived = num_due(ask, len(waiting)), []
            if arrivals is not None and num < len(waiting):
                due = arrived = arrivals.due(num, step, waiting, self.trials.wait_for_one)
            else:
                due = list(itertools.islice(waiting, num))
            for name in due:
                del waiting[name]
            trials = self.trials.wait_for(due)
            try:
                ask = strategy.send(trials)
            except StopIteration as end:
                returned: Sequence[Trial] = end.value
                break
        self.trials.wait_for_all()
        self._decide(step, None, [trial.name for trial in returned], {}, arrived)
        return returned

    def _ask(
        self,
        ask: Ask,
        step: int,
        waiting: collections.OrderedDict[str, None],
        arrived: list[str],
    ) -> None:
        """Take proposals that are in the record from there, and have the others made."""
        phase = self._run.config.strategy.phase(step)
        if phase != self._phase:
            self._phase = phase
            self._tell(Phase(phase))
        if ask.incumbent is not None or ask.dropped or arrived:
            self._decide(step, ask.incumbent, [], ask.dropped, arrived)
        new = []
        for index, proposal in enumerate(ask.proposals):
            self._check(proposal)
            asked = self.trials.ask(proposal, step, index)
            self._check_bound(asked)
            if not self.trials.recall(asked):
                new.append(asked)
            waiting[proposal.name] = None
        briefly = [a for a in new if a.proposal.recipe == "brief" and a.proposal.parent]
        if briefly and all(
            a.proposal.genotype == self.trials.proposed(str(a.proposal.parent)).proposal.genotype
            for a in briefly
        ):
            parents = ", ".join(sorted({str(a.proposal.parent) for a in briefly}))
            text = f"no edit keeps the bounds; its children are {parents} trained on"
            self._tell(Note(f"step {step}: {text}"))
        for asked in new:
            self.trials.submit(asked)
        self.trials.let_go(ask)

    def _check(self, proposal: Proposal) -> None:
        """Raises `ValueError` if a strategy asks for something that is not allowed."""
        check_name(proposal.name)
        if self.trials.was_asked(proposal.name):
            raise ValueError(f"a strategy must ask once for each name; got {proposal.name!r} again")
        if proposal.name in AFTER:
            raise ValueError(
                f"a trial may not have the name of one after the search; got {proposal.name!r}"
            )
        recipes = [name for name in self.trials.recipes if name not in AFTER]
        if proposal.recipe not in recipes:
            raise ValueError(
                f"recipe must be one of {', '.join(recipes)}; got {proposal.recipe!r} of "
                f"{proposal.name}"
            )
        parent = proposal.parent
        trials = self.trials
        if parent is not None and (not trials.was_told(parent) or trials.known[parent].failed):
            raise ValueError(
                f"the parent of {proposal.name} must be a trial that is done; got {parent!r}"
            )

    def _check_bound(self, asked: Asked) -> None:
        """Raises `ValueError` if a network exceeds a bound; only model_0 and supernets may."""
        proposal, limits = asked.proposal, self._run.problem.limits
        if not limits or proposal.recipe == "pretrain" or isinstance(proposal.genotype, Supernet):
            return
        if over := exceeded(asked.spec, limits):
            name, cost = over
            raise ValueError(
                f"{flag_of(name)} must be kept by every proposal, {limits[name]:.0f}; got {cost} "
                f"of {proposal.name}"
            )

    def _decide(
        self,
        step: int,
        incumbent: str | None,
        returned: list[str],
        dropped: Mapping[str, str],
        arrived: list[str],
    ) -> None:
        """Record what the strategy decided, where it is new.

        Raises:
          ValueError: if it names a trial that it was not told of.
        """
        for name in (incumbent, *returned, *dropped):
            if name is not None and not self.trials.was_told(name):
                raise ValueError(
                    f"a strategy must choose among trials that it was told of; got {name!r}"
                )
        before = self.trials.incumbent
        for name in (incumbent, *returned[:1]):
            if name is not None:
                self.trials.choose(name)
        line = {"kind": DECISION, "step": step, "incumbent": incumbent, "returned": returned}
        line |= {"dropped": dict(dropped)} if dropped else {}
        line |= {"arrived": arrived} if arrived else {}
        line["config"] = self._run.fingerprint
        known = self._record.decisions.get(step)
        best = self.trials.incumbent
        differs = known is not None and (
            (known["incumbent"], known["returned"]) != (incumbent, returned)
        )
        said = known is not None and (known["incumbent"] or known["returned"])
        # With more time, a search that had ended goes on.
        if differs and said and not self._deadline.extensions:
            self._tell(
                Note(f"step {step}: {best} is chosen, where another was; it is recorded anew")
            )
        elif known is not None and not differs:
            there = known.get("dropped", {}), known.get("arrived", [])
            if there != (dropped, arrived):  # an early version did not say what was dropped
                self._record.decide(line)
            return
        chosen = returned or incumbent != before
        if known is not None or chosen or dropped or arrived:
            self._record.decide(line)
        if best is not None and (known is not None or chosen):
            self._tell(Chosen(self.trials.known[best]))

    def incumbent(self) -> Trial | None:
        """The best so far, with its weights; None if there is none yet."""
        name = self.trials.incumbent
        return None if name is None else self.trials.with_variables(name)

    def train_baseline(self, best: Trial) -> None:
        """Train model_0 for as many epochs as the best network has been trained, to compare."""
        self._tell(Phase("baseline"))
        key = jax.random.fold_in(self.trials.keys.pretrain, 1)
        epochs = epochs_in_all(best, self.trials.known, self.trials.recipes)
        start = self._space.start
        proposal = Proposal(BASELINE, start, key, recipe=BASELINE, budget=epochs)
        asked = self.trials.ask(proposal, best.step, 0)
        known = self._record.lines.get(BASELINE, {})
        there = known.get("step"), len(known.get("train_losses", ()))
        if self._deadline.is_outdated(BASELINE) and there != (best.step, epochs):
            self.trials.forget([BASELINE])
        if "failure" in known or not self.trials.recall(asked):
            self.trials.make(asked)

    def _work(self, proposal: Proposal) -> float:
        """What its training costs: FLOPs of an image, times epochs."""
        spec = self._space.build(proposal.genotype, "search")
        return count_flops(spec) * self.trials.recipe_of(proposal, spec).epochs

    def lengths(self, name: str) -> Lengths | None:
        """What keeps the final training to the time of the run; None for all others."""
        if name != FINAL or not self._run.config.minutes:
            return None

        def changed(epochs: int, before: int) -> None:
            self._tell(Note(f"{name}: {epochs} epochs fit into the time, instead of {before}"))

        return self._deadline.lengths(
            name, self._final_ending, self.trials.elapsed, changed, self._final_resizing
        )

    def train_to_the_end(self, best: Trial) -> Trial:
        """Algorithm 1, line 24, and the one look at the test set.

        The best network is trained on the training and the validation set, then tested.

        Raises:
          StoppedError: if it cannot be trained.
        """
        for name in list(self.trials.incumbents):
            if name in self.trials.replayed:
                self.trials.variables(name)  # weights that are kept must be complete
        self._tell(Phase("final training"))
        self._record.keep_only({*self.trials.incumbents, FINAL})
        epochs = None
        if self._run.config.minutes:
            spec = self._space.build(best.genotype, "final")
            trials = [*map(self.trials.as_told, self.trials.known.values())]
            self._final_ending = self._deadline.ending(best, trials)
            share = self.trials.recipes[FINAL].progressive_resizing
            self._final_resizing = Resizing.of(spec, share)
            if best.estimate.train_losses:
                epochs = self._deadline.final_epochs(best, trials, self._final_resizing)
            elif self._deadline.extensions:
                epochs = self._deadline.final_epochs_as_planned(self.trials.recipes[FINAL].epochs)
        key = self.trials.keys.final
        proposal = Proposal(FINAL, best.genotype, key, best.name, recipe=FINAL, budget=epochs)
        asked = self.trials.ask(proposal, best.step, 1, "final")
        if self._deadline.is_outdated(FINAL):
            self.trials.forget([FINAL])
        if self.trials.recall(asked):
            variables = self._record.variables(FINAL, asked.spec)
            if variables is not None:
                return dataclasses.replace(self.trials.known[FINAL], variables=variables)
        trial = self.trials.make_final(asked)
        if trial.variables is None:
            raise _stopped([trial])
        return trial


def _stopped(failed: Sequence[Trial]) -> StoppedError:
    """Why a run cannot go on, and what can be done."""
    failures = [trial.estimate.failure for trial in failed]
    certain = all(failure.startswith(("diverged", "too large")) for failure in failures)
    resume = "" if certain else "resume if the machine was at fault, else "
    who = (
        f"{failed[0].name} is"
        if len(failed) == 1
        else f"all trials of step {failed[0].step} failed;"
    )
    remedy = "lower lr_start, raise max_memory or take smaller widths"
    if isinstance(failed[0].genotype, Supernet):
        remedy = "lower supernet_lr_start, raise max_memory or take fewer channels or cells"
    return StoppedError(
        f"{who} {failures[0]}; {resume}{remedy}, in a new workdir",
        resumable=not certain,
    )
