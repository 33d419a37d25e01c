"""The trials of a run: taken from the record, or made by executors and recorded.

A trial is made by one of two executors, where the weights that it begins with are sent. Weights are
kept as long as a strategy may want them, and are made again if they are lost.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Iterable, Mapping
from typing import cast

import jax

from nash_jax.architecture import Architecture, Variables, init, key_numbers
from nash_jax.data import Examples
from nash_jax.estimation import Estimate, Job, Metric, Network, Outcome, Part, Recipe, Seconds
from nash_jax.execution import Executor
from nash_jax.record.files import uninterrupted
from nash_jax.record.lines import Line, estimate_of, line_of, times_of, trial_of, was_proposed
from nash_jax.record.workdir import Record
from nash_jax.reporting.events import Done, Note, Tell
from nash_jax.runs.arrivals import Arrivals
from nash_jax.runs.config import Config
from nash_jax.runs.deadline import Deadline
from nash_jax.runs.problem import Problem, space_of
from nash_jax.runs.stopped import StoppedError, otherwise
from nash_jax.search import AFTER, Ask, Deferred, Keys, Proposal, Trial, resolved
from nash_jax.spaces import Stage, Supernet

#: The name of the network that a run begins with; no trial has this name.
START = "(start)"


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
class Asked:
    """A proposal, and where it stands in the run."""

    proposal: Proposal
    network: Deferred
    step: int
    index: int

    @functools.cached_property
    def spec(self) -> Architecture:
        """Its architecture."""
        return resolved(self.network)


class Trials:
    """What a strategy asked for, and what came of it.

    Attributes:
      keys: of the run.
      recipes: by name.
      space: what is searched.
      arrivals: what the strategy is told of next, where that goes by arrival.
      known: the trials that are there, by name.
      replayed: the names of those that were taken from the record.
      incumbents: the names of the best, from the first to the current one: their weights stay.
    """

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
        self.keys = Keys(*jax.random.split(jax.random.key(run.config.seed), 4))
        self.recipes = run.config.recipes_by_name()
        self.space = space_of(run.config, run.problem.model_0)
        self._metric = cast(Metric, run.config.metric)
        self._build = functools.lru_cache(maxsize=1024)(self.space.build)
        self._began = time.perf_counter()
        lines = self._record.lines.values()
        # A repetition that goes on for itself has the times that it was told.
        times: Iterable[Line] = lines if run.repeats else map(times_of, lines)
        self._before = spent + max((each["elapsed"] for each in times), default=0.0)
        self._forgotten = set[str]()  # trials of the record that are made again
        self._there: set[tuple[Executor, str]] = set()
        self.begin()

    def start(self) -> None:
        """Have the workers of trials get ready."""
        self._others.start()

    def begin(self) -> None:
        """Forget what a strategy asked for."""
        self._asked: dict[str, Asked] = {}  # what the strategy was not told of
        self.known: dict[str, Trial] = {}
        self.replayed: set[str] = set()
        self._told_times: dict[str, Line] = {}  # where they are those of a run that is repeated
        self._out: dict[str, Executor] = {}
        self.arrivals: Arrivals | None = None
        if self._run.config.trial_order == "arrival":
            followed = self._run.decisions
            self.arrivals = Arrivals(self._record, followed, lambda text: self._tell(Note(text)))
        self._held: set[str] = set()  # what it was told of, whose weights may still be wanted
        self._children = collections.Counter[str]()  # by parent, trials that are out
        for executor, name in self._there:
            executor.release(name)
        self._there.clear()
        self.incumbents: dict[str, None] = {}

    @property
    def incumbent(self) -> str | None:
        """The name of the best so far."""
        return next(reversed(self.incumbents), None)

    def choose(self, name: str) -> None:
        """A trial is the best now."""
        self.incumbents.pop(name, None)
        self.incumbents[name] = None

    def forget(self, names: Iterable[str]) -> None:
        """Have trials of the record made again, when they are asked for."""
        self._forgotten.update(names)

    def elapsed(self) -> float:
        """Seconds of the run, in this process and in those before it."""
        return self._before + time.perf_counter() - self._began

    def history(self) -> tuple[Trial, ...]:
        """Every trial of the record, in the order of the proposals."""
        lines, build = self._record.lines, self._build
        trials = (self.known.get(name) or trial_of(lines[name], build) for name in lines)
        return tuple(sorted(trials, key=_place))

    def ask(self, proposal: Proposal, step: int, index: int, stage: Stage = "search") -> Asked:
        """A proposal that is to be taken from the record, or to be made."""
        proposal = proposal._replace(key=cast(jax.Array, key_numbers(proposal.key)))
        genotype = proposal.genotype
        if isinstance(genotype, tuple) and stage == "search":  # whole numbers: built where needed
            network: Deferred = functools.partial(self._build, genotype, stage)
        else:
            network = self.space.build(genotype, stage)
        asked = self._asked[proposal.name] = Asked(proposal, network, step, index)
        return asked

    def was_asked(self, name: str) -> bool:
        """Whether there is a proposal of this name."""
        return name in self._asked or name in self.known

    def was_told(self, name: str) -> bool:
        """Whether the strategy was told of a trial."""
        return name in self.known and name not in self._asked

    def proposed(self, name: str) -> Asked:
        """A proposal, also if the strategy was told of its trial."""
        if name in self._asked:
            return self._asked[name]
        trial = self.known[name]
        return Asked(trial.proposal, trial.network, trial.step, trial.index)

    def recipe_of(self, proposal: Proposal, spec: Architecture) -> Recipe:
        """How a proposal is trained."""
        recipe = self.recipes[proposal.recipe]
        carried = proposal.edits or recipe.weights in ("by_name", "nothing", "shared")
        parent = None if carried or proposal.parent is None else self.proposed(proposal.parent)
        if parent is not None and parent.spec != spec:  # none of its weights can be passed on
            recipe = dataclasses.replace(recipe, weights="nothing")
        if proposal.budget is None:
            return recipe
        return dataclasses.replace(recipe, epochs=round(proposal.budget))

    def recall(self, asked: Asked) -> bool:
        """Take a trial from the record; False if it is not there, or is to be made again.

        Raises:
          StoppedError: if its line is of another proposal.
        """
        name = asked.proposal.name
        line = self._record.lines.get(name)
        if line is None or name in self._forgotten:
            return False
        if not was_proposed(line, asked.proposal, asked.network):
            if self.arrivals is not None and self.arrivals.order_lost:
                self._forgotten.add(name)
                return False
            raise otherwise(f"the ledger's {name} was made in another way than is proposed now")
        estimate, place = estimate_of(line), line.get("place", "")
        trial = self._trial(asked, estimate, line["elapsed"], line["workers"], place)
        self.known[trial.name] = trial
        self.replayed.add(trial.name)
        if "told" in line:
            self._told_times[trial.name] = line["told"]
        if self.arrivals is not None:
            self.arrivals.arrive(trial.name)
        return True

    def submit(self, asked: Asked) -> None:
        """Have a trial made; if its parent's weights are lost, the parent is made again first."""
        proposal = asked.proposal
        recipe = self.recipe_of(proposal, asked.spec)
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

    def wait_for(self, names: Iterable[str]) -> list[Trial]:
        """Trials that a strategy is told of now, in the order of its proposals."""
        trials = []
        for name in names:
            while name not in self.known:
                self._next(self._out[name])
            trials.append(self.as_told(self.known[name]))
        for trial in trials:
            del self._asked[trial.name]
            self._held.add(trial.name)
        return sorted(trials, key=_place)

    def as_told(self, trial: Trial) -> Trial:
        """A trial with the times by which the run decides: those of the one that it repeats."""
        if (times := self._told_times.get(trial.name)) is None:
            return trial
        return dataclasses.replace(
            trial,
            estimate=dataclasses.replace(trial.estimate, seconds=Seconds(**times["seconds"])),
            elapsed=times["elapsed"],
            workers=times["workers"],
        )

    def wait_for_one(self) -> bool:
        """Finish and record a trial; False if none is out."""
        if not self._out:
            return False
        self._next(next(iter(self._out.values())))
        return True

    def wait_for_all(self) -> None:
        """Finish and record all submitted trials, also those that the strategy is not told of."""
        while self.wait_for_one():
            pass

    def make(self, asked: Asked) -> Trial:
        """Have a trial made now; with its weights."""
        self.submit(asked)
        while True:
            trial = self._next(self._out[asked.proposal.name])
            if trial.name == asked.proposal.name:
                return trial

    def make_final(self, asked: Asked) -> Trial:
        """Have the last trial made, which has the machine for itself; a failure is not recorded."""
        self.submit(asked)
        if self._others is not self._alone:
            self._others.close()
        name, outcome = next(self._alone.done())
        if outcome.variables is None:
            del self._out[name]
            return self._trial(asked, outcome.estimate, self.elapsed(), self._workers)
        return self._finish(asked, outcome)

    def variables(self, name: str) -> Variables:
        """The weights of a trial, which is made again if they are lost.

        Raises:
          StoppedError: if it cannot be made again.
        """
        asked = self.proposed(name)
        variables = self._record.variables(name, asked.spec)
        if variables is not None:
            return variables
        trial = self.make(asked)
        if trial.variables is None:
            raise StoppedError(
                f"{name} could not be made again: {trial.estimate.failure}; resume once there is "
                "what it needs"
            )
        return trial.variables

    def with_variables(self, name: str) -> Trial:
        """A trial that is there, with its weights; raises as `variables`."""
        return dataclasses.replace(self.known[name], variables=self.variables(name))

    def let_go(self, ask: Ask) -> None:
        """Let go of weights that the strategy does not want any more."""
        unwanted = ask.dropped if ask.alive is None else self._held.difference(ask.alive)
        self._held.difference_update(unwanted)
        self._release(unwanted)

    def _trial(
        self, asked: Asked, estimate: Estimate, elapsed: float, workers: int, place: str = ""
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

    def _part(self, proposal: Proposal) -> Part | None:
        """What a job must know of a supernet: of one that is trained, or judged by."""
        if isinstance(proposal.genotype, Supernet):
            return Part(self.space, proposal.genotype)
        if proposal.parent is None or self.recipes[proposal.recipe].weights != "shared":
            return None
        supernet = self.proposed(proposal.parent).proposal.genotype
        return Part(self.space, supernet, proposal.genotype)

    def _network(self, name: str) -> Network:
        """A network that others begin with."""
        if name == START:
            spec, variables = self._run.problem.start.spec, self._run.problem.start.variables
            return Network(spec, init(spec, self.keys.init) if variables is None else variables)
        return Network(self.proposed(name).spec, self.variables(name))

    def _next(self, executor: Executor) -> Trial:
        """Wait for an executor, and record what it has made."""
        name, outcome = next(executor.done())
        return self._finish(self.proposed(name), outcome)

    def _finish(self, asked: Asked, outcome: Outcome) -> Trial:
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
        if self.known.setdefault(name, trial) is trial and self.arrivals is not None:
            self.arrivals.arrive(name)
        if parent := asked.proposal.parent:
            self._children[parent] -= 1
            if not self._children[parent]:
                del self._children[parent]
                self._release([parent])
        return dataclasses.replace(trial, variables=outcome.variables)

    def _release(self, names: Iterable[str]) -> None:
        """Delete weights that are neither held nor those that a trial begins with which is out."""
        gone = [name for name in names if name not in self._held and not self._children[name]]
        for executor, name in itertools.product((self._alone, self._others), gone):
            if (executor, name) in self._there:
                self._there.remove((executor, name))
                executor.release(name)
        self._record.release([name for name in gone if name not in self.incumbents])


def _place(trial: Trial) -> tuple[float, int]:
    """By which trials are in the order of their proposals."""
    return math.inf if trial.recipe in AFTER else trial.step, trial.index
