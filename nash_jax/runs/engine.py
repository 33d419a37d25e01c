"""The engine of a run: it replays trials from the record, has the others made by executors, and
works with any strategy.

A run is replayed, not restored: a trial that the record has is taken from it instead of being
trained, and the rest follows from the seed as it did the first time, or from what the record says
arrived when. So a run that was stopped anywhere goes on to the same result; by arrival, as far as
the workers do not decide it.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import jax

from nash_jax.architecture import Architecture, Variables, count_flops, exceeded, init, key_numbers
from nash_jax.data import Examples
from nash_jax.estimation import Estimate, Job, Metric, Network, Outcome, Part, Recipe, Seconds
from nash_jax.execution import Executor
from nash_jax.record.files import uninterrupted
from nash_jax.record.ledger import (
    DECISION,
    Line,
    check_name,
    estimate_of,
    line_of,
    times_of,
    trial_of,
    was_proposed,
)
from nash_jax.record.workdir import Record
from nash_jax.reporting.events import Chosen, Done, Note, Phase, Tell
from nash_jax.runs.arrivals import Arrivals
from nash_jax.runs.config import Config, flag_of
from nash_jax.runs.deadline import SEARCH_SHARE, Deadline
from nash_jax.runs.problem import Problem, searches, space_of
from nash_jax.runs.stopped import StoppedError, otherwise
from nash_jax.search import (
    AFTER,
    STRATEGIES,
    AllFailedError,
    Ask,
    Deferred,
    Keys,
    Proposal,
    Strategy,
    Trial,
    epochs_in_all,
    num_due,
    resolved,
    within,
)
from nash_jax.spaces import Supernet
from nash_jax.training import Lengths, Resizing

#: The name of the network that a run begins with; no trial has this name.
START = "(start)"
BASELINE, FINAL = AFTER


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A run that has been checked and can begin, or go on.

    Attributes:
      config: decides the result.
      problem: what the search sees.
      test: what the final network is tested on.
      fingerprint: of the settings and the data.
      record: has what was recorded before, and takes everything new.
      repeats: the trials of the run that this one repeats, by name: what is decided by time follows
        the times recorded there.
      decisions: of that run, by step: trials arrive as they did there.
    """

    config: Config
    problem: Problem
    test: Examples
    fingerprint: str
    record: Record
    repeats: Mapping[str, Line] = dataclasses.field(default_factory=dict)
    decisions: Mapping[int, Line] = dataclasses.field(default_factory=dict)

    @property
    def deadline(self) -> Deadline:
        """When it is to end."""
        return Deadline(
            self.config.minutes,
            self.record,
            self.fingerprint,
            num_train=len(self.problem.train),
            num_valid=len(self.problem.valid),
            num_test=len(self.test),
            smaller_search=self.config.recipes.smaller_search,
            repeats=bool(self.repeats),
        )


@dataclasses.dataclass(frozen=True)
class _Asked:
    """A proposal, and where it stands in the run."""

    proposal: Proposal
    network: Deferred
    step: int
    index: int

    @functools.cached_property
    def spec(self) -> Architecture:
        """Its architecture."""
        return resolved(self.network)


class Engine:
    """Takes trials from the record or has them made, records new ones and tells the strategy."""

    def __init__(
        self,
        run: Run,
        tell: Tell,
        alone: Executor,
        others: Executor,
        workers: int,
        spent: float = 0.0,
    ) -> None:
        self._run, self._record, self._tell = run, run.record, tell
        self._alone, self._others, self._workers = alone, others, workers
        self._keys = Keys(*jax.random.split(jax.random.key(run.config.seed), 4))
        self._recipes = run.config.recipes_by_name()
        self._metric = cast(Metric, run.config.metric)
        self._space = space_of(run.config, run.problem.model_0)
        self._build = functools.lru_cache(maxsize=1024)(self._space.build)
        self._start = time.perf_counter()
        lines = self._record.lines.values()
        self._before = spent + max((line["elapsed"] for line in lines), default=0.0)
        self._forgotten: set[str] = set()  # trials of the record that are made again
        self._deadline = run.deadline
        self._final_ending, self._final_resizing = 0.0, Resizing()
        self._there: set[tuple[Executor, str]] = set()
        self._begin()

    def _begin(self) -> None:
        """Forget what a strategy asked for."""
        self._asked: dict[str, _Asked] = {}  # what the strategy was not told of
        self._trials: dict[str, Trial] = {}
        self._replayed: set[str] = set()
        self._told_times: dict[str, Line] = {}  # where they are those of a run that is repeated
        self._phase = ""
        self._out: dict[str, Executor] = {}
        self._arrivals: Arrivals | None = None
        if self._run.config.trial_order == "arrival":
            followed = self._run.decisions
            self._arrivals = Arrivals(self._record, followed, lambda text: self._tell(Note(text)))
        self._held: set[str] = set()  # what it was told of, whose weights may still be wanted
        self._children = collections.Counter[str]()  # by parent, trials that are out
        for executor, name in self._there:
            executor.release(name)
        self._there.clear()
        self._incumbents: dict[str, None] = {}  # from the first to the current one

    def elapsed(self) -> float:
        """Seconds of the run, in this process and in those before it."""
        return self._before + time.perf_counter() - self._start

    def history(self) -> tuple[Trial, ...]:
        """Every trial of the record, in the order of the proposals."""
        lines, build = self._record.lines, self._build
        trials = (self._trials.get(name) or trial_of(lines[name], build) for name in lines)
        return tuple(sorted(trials, key=_place))

    def search(self) -> Trial:
        """What the strategy returns first.

        Raises:
          StoppedError: if it cannot go on.
        """
        config = self._run.config
        named = config.values()["strategy"]
        if searches(config) and not self._record.lines:
            self._others.start()  # while the first network is trained
        while True:
            strategy = STRATEGIES[named](self._space, config.strategy, self._keys)
            if config.minutes:
                strategy = within(strategy, self._deadline.seconds * SEARCH_SHARE, self._work)
            try:
                returned = self._drive(strategy)
                if not returned:
                    raise ValueError(f"strategy {named} must return a trial; got none")
                return returned[0]
            except AllFailedError as error:
                names = {trial.name for trial in error.trials}
                self._wait_for_all()
                if not names <= self._replayed:
                    raise _stopped(error.trials) from None
                self._forgotten |= names  # the run stopped at these trials: try them again
                self._begin()

    def _drive(self, strategy: Strategy) -> Sequence[Trial]:
        """Run a strategy to its end."""
        waiting = collections.OrderedDict[str, None]()
        ask, step, arrived = next(strategy), 0, list[str]()
        while True:
            self._ask(ask, step, waiting, arrived)
            step += 1
            num, arrived = num_due(ask, len(waiting)), []
            if self._arrivals is not None and num < len(waiting):
                due = arrived = self._arrivals.due(num, step, waiting, self._wait_for_one)
            else:
                due = list(itertools.islice(waiting, num))
            for name in due:
                del waiting[name]
            trials = [self._as_told(self._wait(name)) for name in due]
            trials.sort(key=_place)
            for name in due:
                del self._asked[name]
            self._held.update(due)
            try:
                ask = strategy.send(trials)
            except StopIteration as end:
                returned: Sequence[Trial] = end.value
                break
        self._wait_for_all()
        self._decide(step, None, [trial.name for trial in returned], {}, arrived)
        return returned

    def _wait_for_all(self) -> None:
        """Finish and record all submitted trials, also those that the strategy is not told of."""
        while self._wait_for_one():
            pass

    def _wait_for_one(self) -> bool:
        """Finish and record a trial; False if none is out."""
        if not self._out:
            return False
        self._next(next(iter(self._out.values())))
        return True

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
            proposal = proposal._replace(key=cast(jax.Array, key_numbers(proposal.key)))
            asked = _Asked(proposal, self._network_of(proposal.genotype), step, index)
            self._check_bound(asked)
            self._asked[proposal.name] = asked
            line = self._record.lines.get(proposal.name)
            if line is None or proposal.name in self._forgotten or not self._recall(asked, line):
                new.append(asked)
            waiting[proposal.name] = None
        briefly = [a for a in new if a.proposal.recipe == "brief" and a.proposal.parent]
        if briefly and all(
            a.proposal.genotype == self._proposed(str(a.proposal.parent)).proposal.genotype
            for a in briefly
        ):
            parents = ", ".join(sorted({str(a.proposal.parent) for a in briefly}))
            text = f"no edit keeps the bounds; its children are {parents} trained on"
            self._tell(Note(f"step {step}: {text}"))
        for asked in new:
            self._submit(asked)
        self._let_go(ask)

    def _check(self, proposal: Proposal) -> None:
        """Raises `ValueError` if a strategy asks for something that is not allowed."""
        check_name(proposal.name)
        if proposal.name in self._asked or proposal.name in self._trials:
            raise ValueError(f"a strategy must ask once for each name; got {proposal.name!r} again")
        if proposal.name in AFTER:
            raise ValueError(
                f"a trial may not have the name of one after the search; got {proposal.name!r}"
            )
        recipes = [name for name in self._recipes if name not in AFTER]
        if proposal.recipe not in recipes:
            raise ValueError(
                f"recipe must be one of {', '.join(recipes)}; got {proposal.recipe!r} of "
                f"{proposal.name}"
            )
        parent = proposal.parent
        if parent is not None and (not self._was_told(parent) or self._trials[parent].failed):
            raise ValueError(
                f"the parent of {proposal.name} must be a trial that is done; got {parent!r}"
            )

    def _network_of(self, genotype: Any) -> Deferred:
        """The architecture of a genotype in the search; of small whole numbers, what builds it."""
        if isinstance(genotype, tuple):
            return functools.partial(self._build, genotype, "search")
        return self._space.build(genotype, "search")

    def _check_bound(self, asked: _Asked) -> None:
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

    def _recall(self, asked: _Asked, line: Line) -> bool:
        """Take a trial from the record; False if it is to be made again.

        Raises:
          StoppedError: if its line is of another proposal.
        """
        if not was_proposed(line, asked.proposal, asked.network):
            name = asked.proposal.name
            if self._arrivals is not None and self._arrivals.order_lost:
                self._forgotten.add(name)
                return False
            raise otherwise(f"the ledger's {name} was made in another way than is proposed now")
        estimate, place = estimate_of(line), line.get("place", "")
        trial = self._trial(asked, estimate, line["elapsed"], line["workers"], place)
        self._trials[trial.name] = trial
        self._replayed.add(trial.name)
        if "told" in line:
            self._told_times[trial.name] = line["told"]
        if self._arrivals is not None:
            self._arrivals.arrive(trial.name)
        return True

    def _was_told(self, name: str) -> bool:
        """Whether the strategy was told of a trial."""
        return name in self._trials and name not in self._asked

    def _trial(
        self, asked: _Asked, estimate: Estimate, elapsed: float, workers: int, place: str = ""
    ) -> Trial:
        """A proposal with its outcome."""
        return Trial(
            asked.proposal,
            asked.network,
            estimate,
            asked.step,
            asked.index,
            elapsed,
            workers,
            metric=self._metric,
            place=place,
        )

    def _submit(self, asked: _Asked) -> None:
        """Have a trial made; if its parent's weights are lost, the parent is made again first."""
        proposal = asked.proposal
        recipe = self._recipe(proposal, asked.spec)
        executor = self._alone if recipe.alone else self._others
        source = None if recipe.weights == "nothing" else proposal.parent
        if source is None and recipe.weights == "given":
            source = START
        if source is not None and (executor, source) not in self._there:
            executor.put(source, self._network(source))
            self._there.add((executor, source))
        key = key_numbers(proposal.key)
        self._out[proposal.name] = executor
        if proposal.parent is not None:
            self._children[proposal.parent] += 1
        part = self._part(proposal)
        executor.submit(Job(proposal.name, asked.spec, key, recipe, source, proposal.edits, part))

    def _part(self, proposal: Proposal) -> Part | None:
        """What a job must know of a supernet: of one that is trained, or judged by."""
        if isinstance(proposal.genotype, Supernet):
            return Part(self._space, proposal.genotype)
        if proposal.parent is None or self._recipes[proposal.recipe].weights != "shared":
            return None
        supernet = self._proposed(proposal.parent).proposal.genotype
        return Part(self._space, supernet, proposal.genotype)

    def _recipe(self, proposal: Proposal, spec: Architecture) -> Recipe:
        recipe = self._recipes[proposal.recipe]
        carried = proposal.edits or recipe.weights in ("by_name", "nothing", "shared")
        parent = None if carried or proposal.parent is None else self._proposed(proposal.parent)
        if parent is not None and parent.spec != spec:  # none of its weights can be passed on
            recipe = dataclasses.replace(recipe, weights="nothing")
        if proposal.budget is None:
            return recipe
        return dataclasses.replace(recipe, epochs=round(proposal.budget))

    def _proposed(self, name: str) -> _Asked:
        """A proposal, also if the strategy was told of its trial."""
        if name in self._asked:
            return self._asked[name]
        trial = self._trials[name]
        return _Asked(trial.proposal, trial.network, trial.step, trial.index)

    def _network(self, name: str) -> Network:
        """A network that others begin with."""
        if name == START:
            spec, variables = self._run.problem.start.spec, self._run.problem.start.variables
            return Network(spec, init(spec, self._keys.init) if variables is None else variables)
        return Network(self._proposed(name).spec, self.variables(name))

    def variables(self, name: str) -> Variables:
        """The weights of a trial, which is made again if they are lost.

        Raises:
          StoppedError: if it cannot be made again.
        """
        asked = self._proposed(name)
        variables = self._record.variables(name, asked.spec)
        if variables is not None:
            return variables
        self._submit(asked)
        trial = self._made(name)
        if trial.variables is None:
            raise StoppedError(
                f"{name} could not be made again: {trial.estimate.failure}; resume once there is "
                "what it needs"
            )
        return trial.variables

    def _wait(self, name: str) -> Trial:
        """A trial, as a strategy is told of it."""
        while name not in self._trials:
            self._next(self._out[name])
        return self._trials[name]

    def _as_told(self, trial: Trial) -> Trial:
        """A trial with the times by which the run decides: those of the one that it repeats."""
        if (times := self._told_times.get(trial.name)) is None:
            return trial
        return dataclasses.replace(
            trial,
            estimate=dataclasses.replace(trial.estimate, seconds=Seconds(**times["seconds"])),
            elapsed=times["elapsed"],
            workers=times["workers"],
        )

    def _made(self, name: str) -> Trial:
        """A trial that has been submitted, with its weights."""
        while True:
            trial = self._next(self._out[name])
            if trial.name == name:
                return trial

    def _next(self, executor: Executor) -> Trial:
        """Wait for an executor, and record what it has made."""
        name, outcome = next(executor.done())
        return self._finish(self._proposed(name), outcome)

    def _finish(self, asked: _Asked, outcome: Outcome) -> Trial:
        """Record a trial; if it was made again because its weights were lost, its line stays."""
        name, estimate = asked.proposal.name, outcome.estimate
        del self._out[name]
        # Rounded as in the record: a strategy is told the same when the run is replayed.
        trial = self._trial(
            asked,
            dataclasses.replace(estimate, seconds=estimate.seconds.rounded),
            round(self.elapsed(), 3),
            self._workers,
            outcome.place,
        )
        with uninterrupted():
            if outcome.variables is not None:
                self._record.save(name, asked.spec, outcome.variables)
            line = self._record.lines.get(name)
            if line is None or "failure" in line or name in self._forgotten:
                repeated = self._run.repeats.get(name)
                told = None if repeated is None else times_of(repeated)
                built = dataclasses.replace(trial, network=asked.spec)
                if told is not None:
                    self._told_times[name] = told
                self._record.add(line_of(built, self._run.fingerprint, told))
                self._tell(Done(built))
            else:
                self._record.end_training(name)
                if not trial.failed and estimate_of(line).accuracy != estimate.accuracy:
                    self._tell(
                        Note(
                            f"{name} has another accuracy than the first time, "
                            f"{estimate.accuracy:.4f}: the machine or the versions are others"
                        )
                    )
        if self._trials.setdefault(name, trial) is trial and self._arrivals is not None:
            self._arrivals.arrive(name)
        if parent := asked.proposal.parent:
            self._children[parent] -= 1
            if not self._children[parent]:
                del self._children[parent]
                self._release([parent])
        return dataclasses.replace(trial, variables=outcome.variables)

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
            if name is not None and not self._was_told(name):
                raise ValueError(
                    f"a strategy must choose among trials that it was told of; got {name!r}"
                )
        before = next(reversed(self._incumbents), None)
        for name in (incumbent, *returned[:1]):
            if name is not None:
                self._incumbents.pop(name, None)
                self._incumbents[name] = None
        line = {"kind": DECISION, "step": step, "incumbent": incumbent, "returned": returned}
        line |= {"dropped": dict(dropped)} if dropped else {}
        line |= {"arrived": arrived} if arrived else {}
        line["config"] = self._run.fingerprint
        known = self._record.decisions.get(step)
        best = next(reversed(self._incumbents), None)
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
            self._tell(Chosen(self._trials[best]))

    def _let_go(self, ask: Ask) -> None:
        """Let go of weights that the strategy does not want any more."""
        unwanted = ask.dropped if ask.alive is None else self._held.difference(ask.alive)
        self._held.difference_update(unwanted)
        self._release(unwanted)

    def _release(self, names: Iterable[str]) -> None:
        """Delete weights that are neither held nor those that a trial begins with which is out."""
        gone = [name for name in names if name not in self._held and not self._children[name]]
        for executor, name in itertools.product((self._alone, self._others), gone):
            if (executor, name) in self._there:
                self._there.remove((executor, name))
                executor.release(name)
        self._record.release([name for name in gone if name not in self._incumbents])

    def incumbent(self) -> Trial | None:
        """The best so far, with its weights; None if there is none yet."""
        if not self._incumbents:
            return None
        trial = self._trials[next(reversed(self._incumbents))]
        return dataclasses.replace(trial, variables=self.variables(trial.name))

    def train_baseline(self, best: Trial) -> None:
        """Train model_0 for as many epochs as the best network has been trained, to compare."""
        self._tell(Phase("baseline"))
        key = jax.random.fold_in(self._keys.pretrain, 1)
        epochs = epochs_in_all(best, self._trials, self._recipes)
        start = self._space.start
        proposal = Proposal(BASELINE, start, key, recipe=BASELINE, budget=epochs)
        spec = self._space.build(start, "search")
        asked = self._asked[BASELINE] = _Asked(proposal, spec, best.step, 0)
        line = self._record.lines.get(BASELINE)
        if line is None or "failure" in line or not self._recall(asked, line):
            self._submit(asked)
            self._made(BASELINE)

    def _work(self, proposal: Proposal) -> float:
        """What its training costs: FLOPs of an image, times epochs."""
        spec = self._space.build(proposal.genotype, "search")
        return count_flops(spec) * self._recipe(proposal, spec).epochs

    def lengths(self, name: str) -> Lengths | None:
        """What keeps the final training to the time of the run; None for all others."""
        if name != FINAL or not self._run.config.minutes:
            return None

        def changed(epochs: int, before: int) -> None:
            self._tell(Note(f"{name}: {epochs} epochs fit into the time, instead of {before}"))

        return self._deadline.lengths(
            name, self._final_ending, self.elapsed, changed, self._final_resizing
        )

    def train_to_the_end(self, best: Trial) -> Trial:
        """Algorithm 1, line 24, and the one look at the test set.

        The best network is trained on the training and the validation set, then tested.

        Raises:
          StoppedError: if it cannot be trained.
        """
        for name in list(self._incumbents):
            if name in self._replayed:
                self.variables(name)  # weights that are kept must be complete
        self._tell(Phase("final training"))
        self._record.keep_only({*self._incumbents, FINAL})
        spec = self._space.build(best.genotype, "final")
        epochs = None
        if self._run.config.minutes:
            trials = [*map(self._as_told, self._trials.values())]
            self._final_ending = self._deadline.ending(best, trials)
            share = self._recipes[FINAL].progressive_resizing
            self._final_resizing = Resizing.of(spec, share)
            if best.estimate.train_losses:  # else nothing is known but what was planned
                epochs = self._deadline.final_epochs(best, trials, self._final_resizing)
        proposal = Proposal(
            FINAL, best.genotype, self._keys.final, best.name, recipe=FINAL, budget=epochs
        )
        asked = self._asked[FINAL] = _Asked(proposal, spec, best.step, 1)
        line = self._record.lines.get(FINAL)
        if line is not None and times_of(line)["elapsed"] <= self._deadline.extended_at:
            self._forgotten.add(FINAL)
        elif line is not None and self._recall(asked, line):
            variables = self._record.variables(FINAL, spec)
            if variables is not None:
                return dataclasses.replace(self._trials[FINAL], variables=variables)
        self._submit(asked)
        if self._others is not self._alone:
            self._others.close()  # the final training has the machine for itself
        name, outcome = next(self._alone.done())
        if outcome.variables is None:
            del self._out[name]
            raise _stopped([self._trial(asked, outcome.estimate, self.elapsed(), self._workers)])
        return self._finish(asked, outcome)


def _place(trial: Trial) -> tuple[float, int]:
    """By which trials are in the order of their proposals."""
    return math.inf if trial.recipe in AFTER else trial.step, trial.index


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
