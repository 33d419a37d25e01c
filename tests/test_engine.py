"""The engine, with an executor that trains nothing: replay, order, and what it refuses."""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import re

import jax
import numpy as np
import pytest
from helpers import TINY, Silent, of_supernet, own_tables

import nash_jax as nj
from nash_jax import runs
from nash_jax.architecture.serialization import to_dict
from nash_jax.estimation import ESTIMATORS, Estimate, Outcome, Seconds
from nash_jax.record import Memory
from nash_jax.record.files import read_json, write_json
from nash_jax.record.ledger import ledger_in
from nash_jax.record.lines import in_order, line_of, proposal_checksum, trial_of
from nash_jax.record.workdir import FIRST_NETWORK
from nash_jax.reporting.compare import compare
from nash_jax.reporting.report import comparison, render
from nash_jax.runs import engine as engine_module
from nash_jax.runs import run as run_module
from nash_jax.runs import trials as trials_module
from nash_jax.runs.trials import Trials
from nash_jax.search import STRATEGIES, Ask, Proposal, select


def by_no_order(name):
    return hashlib.sha256(name.encode()).digest()


class MadeUp:
    """Makes outcomes up, in an order that has nothing to do with that of the proposals."""

    def __init__(
        self, stop_after=None, failing=lambda name: False, in_order=False, order=by_no_order
    ):
        self.jobs, self.made, self.there = [], [], set()
        self.submitted, self.in_order, self.order = [], in_order, order
        self.stop_after, self.failing = stop_after, failing

    def start(self):
        pass

    def put(self, name, network):
        assert name not in self.there
        self.there.add(name)

    def release(self, name):
        self.there.discard(name)

    def submit(self, job):
        assert job.parent is None or job.parent in self.there
        self.jobs.append(job)
        self.submitted.append(job)

    def done(self):
        while self.jobs:
            if self.stop_after is not None and len(self.made) >= self.stop_after:
                raise KeyboardInterrupt
            if not self.in_order:  # several workers
                self.jobs.sort(key=lambda job: self.order(job.name))
            job = self.jobs.pop(0 if self.in_order else -1)
            self.made.append(job.name)
            if self.failing(job.name):
                yield job.name, Outcome(Estimate(0.0, 1.0, Seconds(), failure="lost"), None)
            else:
                accuracy = hashlib.sha256(f"{job.name}{job.spec}".encode()).digest()[0] / 256
                variables = {"params": {"x": {"bias": np.full(1, accuracy)}}, "batch_stats": {}}
                losses = (0.5,) * job.recipe.epochs
                seconds = Seconds(train=2.0 * job.recipe.epochs)
                supernet = job.part.supernet if job.part and not job.part.genotype else None
                made_up = of_supernet(supernet)
                estimate = Estimate(accuracy, 1.0, seconds, train_losses=losses, **made_up)
                yield job.name, Outcome(estimate, variables)

    def close(self):
        pass


@pytest.fixture
def engine(monkeypatch):
    """Runs a config on a record with an executor."""
    digits = nj.data.load_dataset("digits")

    def run(
        config, record=None, executor=None, reporter=None, workdir=None, repeated=None, **options
    ):
        executor = executor or MadeUp()
        monkeypatch.setattr(run_module, "_executors", lambda *_: (executor, executor))
        with runs.open_run(config, workdir, dataset=digits) as opened:
            if record is not None:
                opened = dataclasses.replace(opened, record=record, **(repeated or {}))
            return runs.execute(opened, reporter or Silent(), **options)

    return run


CELLS = TINY.replace(space="nb201", channels=2, cells=1)
CONFIGS = {
    "hill_climbing": TINY,
    "one_network": TINY.replace(strategy="one_network"),
    "random_search": TINY.replace(strategy="random_search", num_samples=5),
    "aging_evolution": TINY.replace(
        strategy="aging_evolution", num_samples=7, population=3, tournament=2, window=2, num_edits=2
    ),
    "successive_halving": TINY.replace(strategy="successive_halving", num_samples=5, eta=2),
    "darts": CELLS.replace(strategy="darts", supernet_epochs=2),
    "stacnas": TINY.replace(
        **{"space": "darts", "channels": 2, "cells": 3, "strategy": "stacnas"},
        **{"supernet_epochs": 2, "stage_cells": (3, 3)},
    ),
    "p_darts": TINY.replace(
        **{"space": "darts", "channels": 2, "cells": 3, "strategy": "p_darts"},
        **{"supernet_epochs": 2, "stage_cells": (3, 3), "stage_choices": (8, 2)},
        stage_drops=(0, 40),
    ),
    "enas": CELLS.replace(strategy="enas", supernet_epochs=2, supernet_batch_size=64),
    "manas": CELLS.replace(strategy="manas", supernet_epochs=2),
    "one_shot": CELLS.replace(
        strategy="one_shot", supernet_epochs=2, num_samples=3, num_retrained=2
    ),
}


def content(record):
    lines = [
        {k: v for k, v in line.items() if k not in ("elapsed", "seconds")}
        for line in in_order(record.lines.values())
    ]
    return lines, record.decisions


def test_lines_of_genotypes_are_short_and_long_ones_of_early_versions_are_read(
    engine, tmp_path, monkeypatch
):
    config = CELLS.replace(
        strategy="aging_evolution", num_samples=5, population=3, tournament=2, window=2
    )

    def early_line(trial, *args):
        line = line_of(trial, *args)
        checksum = proposal_checksum(trial.proposal, trial.spec)
        return line | {"spec": to_dict(trial.spec), "proposal": checksum}

    found = {}
    for version in ("now", "early"):
        workdir = tmp_path / version
        with monkeypatch.context() as patch:
            if version == "early":
                patch.setattr(trials_module, "line_of", early_line)
            best = engine(config, workdir=workdir).best
        if version == "early":
            about = read_json(workdir, "config.json")
            del about[FIRST_NETWORK]
            write_json(workdir / "config.json", about)
        view = runs.read_run(workdir)
        trials = [(t.name, t.genotype, t.spec) for t in view.tried]
        lines = list(ledger_in(workdir).trials.values())
        assert [*("spec" in line for line in lines)] == len(trials) * [version == "early"] + [True]
        again = engine(config, workdir=workdir).best
        assert (again.name, again.spec) == (best.name, best.spec)
        assert list(ledger_in(workdir).trials.values()) == lines
        found[version] = trials
    assert found["now"] == found["early"]
    assert len({spec for _, _, spec in found["now"]}) > 1


@pytest.fixture
def extended():
    """With what the examples of docs/extending.md enter into the tables."""
    page = pathlib.Path(__file__).parents[1] / "docs" / "extending.md"
    names = {}
    with own_tables():
        for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
            exec(compile(block, page.name, "exec"), names)
        yield


def test_genotypes_are_recorded_and_networks_of_other_genotypes_begin_anew(engine):
    sizes = {"channels": 4, "cells": 3, "search_channels": 2, "search_cells": 3}
    evolution = {"num_samples": 5, "population": 3, "tournament": 2, "window": 1, "crossover": 0.5}
    config = nj.preset("digits", space="darts", strategy="aging_evolution", **sizes, **evolution)
    executor, record = MadeUp(), Memory()
    result = engine(config, record, executor)
    jobs = {job.name: job for job in executor.submitted}
    assert {name: (job.recipe.weights, job.parent) for name, job in jobs.items()} == {
        name: ("nothing", None)
        for name in ("sample1", "sample2", "sample3", "child4", "child5", "final")
    }
    space = nj.spaces.Darts((8, 8, 1), 10, result.best.spec.nodes[0].op, **sizes)
    for line in record.lines.values():
        space.check(tuple(line["genotype"]))
    assert jobs["final"].spec == space.build(result.best.genotype, "final")
    chosen = trial_of(record.lines[result.best.parent], space.build)
    assert chosen.genotype == result.best.genotype
    assert chosen.spec == space.build(chosen.genotype, "search") != jobs["final"].spec
    again = MadeUp()
    engine(config, record, again)
    assert again.made == []


def test_a_network_that_is_the_final_one_too_is_trained_on(engine):
    config = nj.preset("digits", space="nb201", channels=2, cells=1, strategy="random_search")
    executor = MadeUp()
    engine(config.replace(num_samples=2), Memory(), executor)
    jobs = {job.name: job for job in executor.submitted}
    assert jobs["final"].recipe.weights == "given"
    assert jobs["final"].parent in ("sample1", "sample2")


def test_a_strategy_a_space_an_estimator_and_an_objective_of_ones_own_are_run(
    engine, extended, tmp_path, monkeypatch
):
    own = {"strategy": "best_first", "space": "chains"}
    config = nj.preset("digits", **own, estimator="on_a_quarter", max_costs="convolutions=4")
    config = config.replace(num_children=3, narrowest=4)
    executor = MadeUp()
    engine(config, executor=executor, workdir=tmp_path)
    assert sorted({*executor.made}) == ["child1", "child2", "child3", "final", "model_0"]
    view = runs.read_run(tmp_path)
    assert view.config == config
    assert {job.name: job.recipe.estimator for job in executor.submitted} == {
        "model_0": "training",
        **{f"child{n}": "on_a_quarter" for n in (1, 2, 3)},
        "final": "training",
    }
    assert "left of max_convolutions" in render(view)
    compare([view, view], tmp_path / "compare.html")
    with monkeypatch.context() as without:
        without.delitem(ESTIMATORS, "on_a_quarter")
        with pytest.raises(ValueError, match="is of estimator 'on_a_quarter', which this program"):
            runs.read_run(tmp_path)
    with pytest.raises(
        ValueError, match="max_costs convolutions must be at least what the fi.* has, 3"
    ):
        engine(config.replace(max_costs="convolutions=2"))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, {}) for name in STRATEGIES),
        ("aging_evolution", {"window": 1}),  # each ask leaves none out
        ("aging_evolution", {"window": 4, "population": 4}),  # three
    ],
)
def test_a_run_that_is_stopped_anywhere_has_the_record_of_one_that_is_not(name, settings, engine):
    """Whatever the order in which several workers finish, and with one worker after several."""
    config = CONFIGS[name].replace(**settings)
    whole, executor = Memory(), MadeUp()
    result = engine(config, whole, executor)
    assert len(executor.made) == sum(each.number for each in config.strategy.plan) + 1
    assert result.finished
    assert executor.made[-1] == "final"
    alone = Memory()
    engine(config, alone, MadeUp(in_order=True))
    assert content(alone) == content(whole)
    for stop in range(0, len(executor.made), 1 + bool(settings)):
        record, first, second = Memory(), MadeUp(stop), MadeUp(in_order=stop % 4 < 2)
        try:
            assert not engine(config, record, first).finished
        except KeyboardInterrupt:
            assert not record.decisions  # there was no incumbent
        again = engine(config, record, second)
        assert content(record) == content(whole)
        assert again.best.name == result.best.name
        assert again.best.variables == result.best.variables
        assert len(first.made) + len(second.made) == len(executor.made)


def copied(record):
    copy = Memory()
    copy.lines, copy.decisions = dict(record.lines), dict(record.decisions)
    for name in record.lines:
        if (variables := record.variables(name, None)) is not None:
            copy.save(name, None, variables)
    return copy


def slow(stop_after=None):
    """One of its workers takes long for sample1, and the others go on."""
    return MadeUp(stop_after, order=lambda name: name != "sample1")


def test_by_arrival_nothing_waits_for_a_slow_trial_and_the_record_says_what_came_when(engine):
    settings = {"window": 3, "trial_order": "arrival"}
    config = CONFIGS["aging_evolution"].replace(**settings)
    whole, executor = Memory(), slow()
    result = engine(config, whole, executor)
    assert executor.made[-2:] == ["sample1", "final"]  # all others were proposed before it was done
    arrived = [name for line in whole.decisions.values() for name in line.get("arrived", [])]
    assert arrived == executor.made[: len(arrived)]
    assert len(arrived) == 7 - 2  # the last answers have all that is out

    by_proposal = slow()
    engine(config.replace(trial_order="proposal"), Memory(), by_proposal)
    assert by_proposal.made.index("sample1") == 2
    for stop in range(1, len(executor.made)):
        record = Memory()
        with contextlib.suppress(KeyboardInterrupt):
            engine(config, record, slow(stop))
        known = dict(record.decisions)
        engine(config, record, MadeUp())  # in another order
        assert record.decisions.items() >= known.items()
        kept, nothing = content(record), MadeUp(stop_after=0)
        assert engine(config, record, nothing).finished
        assert content(record) == kept
    for name in list(whole.lines)[:-1]:  # a line that is damaged, of a trial or a decision
        record, again = copied(whole), MadeUp()
        del record.lines[name]
        engine(config, record, again)
        assert again.made == [name]
        assert content(record) == content(whole)
    for step in whole.decisions:
        record = copied(whole)
        del record.decisions[step]
        assert engine(config, record, MadeUp(stop_after=0)).finished
        assert content(record) == content(whole)
    for number in range(len(whole.lines) - 1):  # a trial, and what it was when it arrived
        record, notes = copied(whole), Silent()
        name = list(whole.lines)[number]
        del record.lines[name]
        for step, line in whole.decisions.items():
            if name in line.get("arrived", []):
                del record.decisions[step]
        lost = len(record.decisions) < len(whole.decisions)
        assert engine(config, record, MadeUp(), notes).finished
        assert any("has lost what arrived at step" in note for note in notes.notes) == lost
        kept = content(record)
        assert engine(config, record, MadeUp(stop_after=0)).finished
        assert content(record) == kept
        if number < 3:
            assert kept == content(whole)
    followed, known = Memory(), {"repeats": whole.lines, "decisions": whole.decisions}
    engine(config, followed, MadeUp(), repeated=known)
    assert content(followed)[1] == whole.decisions
    assert result.finished
    whole.decisions[1] = {**whole.decisions[1], "arrived": ["sample9"]}
    with pytest.raises(runs.StoppedError, match="other arrivals at step 1 than trials"):
        engine(config, whole, MadeUp())


def test_a_baseline_is_trained_as_long_as_the_best_was_and_changes_nothing_else(engine):
    whole, plain, executor = Memory(), Memory(), MadeUp()
    config = TINY.replace(epochs_pretrain=3, epochs_neighbours=2)
    result = engine(config, whole, executor, baseline=True)
    assert executor.made[-2:] == ["baseline", "final"]
    way, name = [], result.best.parent
    while name:
        way.append(name)
        name = whole.lines[name]["parent"]
    line = whole.lines["baseline"]
    assert len(line["train_losses"]) == 3 + 2 * (len(way) - 1)
    assert line["spec"] == whole.lines["model_0"]["spec"]
    engine(config, plain)
    later = MadeUp()
    engine(config, plain, later, baseline=True)  # of a run that is finished
    assert later.made == ["baseline"]
    assert content(plain) == content(whole)
    for stop in (len(executor.made) - 2, len(executor.made) - 1):
        record, again = Memory(), MadeUp()
        assert not engine(config, record, MadeUp(stop), baseline=True).finished
        engine(config, record, again, baseline=True)
        assert content(record) == content(whole)
        assert len(again.made) == len(executor.made) - stop


def test_a_baseline_of_weights_that_are_not_inherited_is_trained_as_long_as_the_last(
    engine, tmp_path
):
    config = TINY.replace(epochs_pretrain=3, epochs_neighbours=2, inherit="nothing")
    failing = MadeUp(failing=lambda name: name == "baseline")
    engine(config, executor=failing, workdir=tmp_path, baseline=True)
    view = runs.read_run(tmp_path)
    assert comparison(view)[2][:3] == ("model_0, trained as long", "0", "failed")
    again = MadeUp()
    engine(config, executor=again, workdir=tmp_path, baseline=True)
    assert "baseline" in again.made  # what failed is tried again
    rows = comparison(runs.read_run(tmp_path))
    assert [row[1] for row in rows] == ["epochs in all", "3", "2", "2"]


@pytest.mark.parametrize(
    ("minutes", "trials", "epochs"),
    [
        # model_0 ends at 2 s, a step of three children is expected to take 6 s. The search has
        # 36 s; 46 s are left then, 3 of them for pictures; an epoch on all images takes 5/4 of 2 s.
        (1.0, 7, 17),
        (0.3, 4, 2),  # 10.8 s: one step; 10 s are left
        (0.2, 1, 2),  # 7.2 s: no step
        (0.01, 1, 1),  # at least one epoch
    ],
)
def test_a_run_of_some_minutes_makes_what_fits_and_replays_it(
    minutes, trials, epochs, engine, monkeypatch
):
    def elapsed(self):
        return 2.0 * (1 + len({*self._record.lines} - {"final"}))

    monkeypatch.setattr(Trials, "elapsed", elapsed)
    monkeypatch.setattr(engine_module, "count_flops", lambda spec: 1)
    config = TINY.replace(minutes=minutes)
    whole, executor = Memory(), MadeUp()
    engine(config, whole, executor)
    assert len(executor.made) == trials + 1
    assert executor.submitted[-1].recipe.epochs == epochs
    for stop in range(1, len(executor.made)):
        record = Memory()
        assert not engine(config, record, MadeUp(stop)).finished
        engine(config, record, MadeUp())
        assert content(record) == content(whole)


def test_a_finished_run_gets_more_time_and_replays_it(engine, monkeypatch):
    def elapsed(self):
        return 2.0 * (1 + len({*self._record.lines} - {"final"}))

    monkeypatch.setattr(Trials, "elapsed", elapsed)
    monkeypatch.setattr(engine_module, "count_flops", lambda spec: 1)
    config, record = TINY.replace(minutes=0.3), Memory()
    engine(config, record)
    (first,) = (line for line in record.lines.values() if line["name"] == "final")
    more = MadeUp()
    engine(config, record, more, more_minutes=0.7)
    steps = {f"step2-child{number}" for number in (1, 2, 3)}
    assert more.made[-1] == "final"
    assert steps < {*more.made}
    assert len(record.lines["final"]["train_losses"]) == 17 > len(first["train_losses"])
    assert [line["minutes"] for line in record.timings] == [0.7]
    again = MadeUp()
    engine(config, record, again)
    assert again.made == []
    with pytest.raises(ValueError, match=r"only a run with a limit .* got \+1 for one without"):
        engine(TINY, more_minutes=1.0)
    # The final training took 34 seconds: in half a minute another would be worse.
    with pytest.raises(ValueError, match=r"at least 0\.6, because .*; got \+0\.5; give \+1"):
        engine(config, record, more_minutes=0.5)
    assert len(record.timings) == 1
    engine(config, record, more_minutes=1.0)
    assert len(record.lines["final"]["train_losses"]) > 17


def test_a_search_that_ended_early_gets_no_time_that_is_over(engine, monkeypatch):
    def elapsed(self):  # what came after the search took until 18 s
        there = len(self._record.lines)
        return 2.0 * (1 + there) if there < 4 else 18.0

    monkeypatch.setattr(Trials, "elapsed", elapsed)
    monkeypatch.setattr(engine_module, "count_flops", lambda spec: 1)
    config, record = TINY.replace(minutes=0.3), Memory()
    engine(config, record)
    assert len(record.lines) == 5  # one step of two
    # A step takes 6 s. Of 0.55 minutes the search has 19.8 s: a step would end in time after the
    # 8 s of the trials that are there, but the 18 s are over.
    more = MadeUp()
    engine(config, record, more, more_minutes=0.25)
    assert more.made == ["final"]


def test_a_finished_run_that_gets_more_time_has_a_new_result_and_baseline(engine, tmp_path):
    config = TINY.replace(minutes=0.3, epochs_pretrain=3, epochs_neighbours=2)
    first = engine(config, workdir=tmp_path, baseline=True)
    longer = MadeUp()
    second = engine(config, executor=longer, workdir=tmp_path, more_minutes=10.0)
    assert first.best.parent == "model_0"  # a step is expected to take 12 s or more, of 10.8
    assert second.best.parent != "model_0"
    assert {"baseline", "step1-child1", "step2-child1"} <= {*longer.made}
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["found_by"] == second.best.parent
    assert written["test_accuracy"] == second.best.estimate.accuracy
    before = (tmp_path / "ledger.jsonl").read_bytes()
    again = MadeUp()  # what it made up is no network's weights: those that are kept are made again
    assert engine(config, executor=again, workdir=tmp_path, baseline=True).finished
    assert (tmp_path / "ledger.jsonl").read_bytes() == before
    assert "baseline" not in again.made


def test_a_strategy_within_a_time_waits_for_what_is_out(engine, monkeypatch):
    monkeypatch.setattr(Trials, "elapsed", lambda self: 10.0 * (1 + len(self._record.lines)))
    config = CONFIGS["aging_evolution"].replace(num_samples=50, minutes=1.5)
    executor, record = MadeUp(), Memory()
    engine(config, record, executor)
    assert len(executor.made) == len(record.lines) < 20
    assert executor.made[-1] == "final"


def test_what_a_strategy_drops_is_recorded_with_the_reason(engine):
    def dropped(name):
        record = Memory()
        engine(CONFIGS[name], record)
        decisions = [record.decisions[step] for step in sorted(record.decisions)]
        return record, [(n, w) for d in decisions for n, w in d.get("dropped", {}).items()]

    assert dropped("aging_evolution")[1] == [
        (f"sample{number}", f"the oldest when child{number + 3} came") for number in (1, 2, 3)
    ]
    record, said = dropped("successive_halving")
    rung1 = sorted(
        (line for name, line in record.lines.items() if name.startswith("rung1")),
        key=lambda line: -line["validation_accuracy"],
    )
    assert said[:3] == [
        (line["name"], f"place {place} of 5 in rung 1, 2 went on")
        for place, line in enumerate(rung1[2:], start=3)
    ]
    assert [why for _, why in said[3:]] == ["place 2 of 2 in rung 2, 1 went on"]
    assert dropped("random_search")[1] == []


@pytest.mark.parametrize(
    ("name", "title", "reason"),
    [
        ("aging_evolution", "The population", "dropped: the oldest when child4 came"),
        ("successive_halving", "The rungs", "dropped: place 5 of 5 in rung 1, 2 went on"),
        ("random_search", "The climb", "and --baseline also trains model_0"),
    ],
)
def test_a_report_shows_what_became_of_every_network(name, title, reason, engine, tmp_path):
    """Drawn by the record alone; runs that are stopped have a report too."""
    for stop in (None, 2):
        workdir = tmp_path / str(stop)
        with contextlib.suppress(KeyboardInterrupt):
            engine(CONFIGS[name], executor=MadeUp(stop), workdir=workdir)
        page = render(runs.read_run(workdir))
        assert page.count("<svg") >= (5 if stop is None else 4)
    page = render(runs.read_run(tmp_path / "None"))
    assert f"<h2>{title}</h2>" in page
    assert reason in page


def test_weights_that_are_lost_are_made_again_along_the_ancestry(engine):
    record = Memory()
    engine(TINY, record, MadeUp(stop_after=5))
    record.keep_only(())
    executor = MadeUp()
    result = engine(TINY, record, executor)
    whole = Memory()
    assert engine(TINY, whole).best.variables == result.best.variables
    assert content(record) == content(whole)
    assert len(executor.made) == 8 - 5 + 2  # model_0 and the first step's best again


def test_a_strategy_is_told_of_trials_in_the_order_of_its_proposals(engine, monkeypatch):
    """With `leave`, an answer has the trials that are due, whichever is finished first."""
    told = []

    def window(space, settings, keys):
        trials, number = [], 0
        ask = Ask(
            [Proposal(f"t{n}", space.start, keys.search, recipe="scratch") for n in range(4)], 3
        )
        while len(trials) < 7:
            new = yield ask
            told.append([trial.name for trial in new])
            trials += new
            number = len(trials) + 3
            more = [Proposal(f"t{number}", space.start, keys.search, recipe="scratch")]
            ask = Ask(more if number < 7 else [], 3)
        return [select(trials)]

    monkeypatch.setitem(STRATEGIES, "hill_climbing", window)
    engine(TINY, Memory())
    assert told == [["t0"], ["t1"], ["t2"], ["t3"], ["t4", "t5", "t6"]]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        ([{"name": "a"}, {"name": "a"}], "must ask once for each name; got 'a' again"),
        ([{"name": "a", "parent": "b"}], "the parent of a must be a trial that is done; got 'b'"),
        ([{"name": "a", "recipe": "x"}], "recipe must be one of pretrain, brief, .*; got 'x' of a"),
        ([{"name": "../a"}], "a trial's name must begin with a letter or digit .*; got '../a'"),
    ],
)
def test_what_a_strategy_may_not_ask_for_is_one_line(ask, message, engine, monkeypatch):
    def strategy(space, settings, keys):
        proposals = [
            Proposal(genotype=space.start, key=keys.search, **{"recipe": "scratch", **each})
            for each in ask
        ]
        return (yield Ask(proposals))

    monkeypatch.setitem(STRATEGIES, "hill_climbing", strategy)
    with pytest.raises(ValueError, match=message) as caught:
        engine(TINY, Memory())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("what", ["key", "budget", "recipe"])
def test_a_proposal_that_is_another_than_its_line_stops_the_run(what, engine, monkeypatch):
    record, hill_climbing = Memory(), STRATEGIES["hill_climbing"]
    engine(TINY, record, MadeUp(stop_after=4))
    changed = {"key": jax.random.key(99), "budget": 7.0, "recipe": "scratch"}

    def other(space, settings, keys):
        strategy = hill_climbing(space, settings, keys)
        trials = yield next(strategy)
        ask = strategy.send(trials)
        first, *others = ask.proposals
        yield ask._replace(proposals=[first._replace(**{what: changed[what]}), *others])

    monkeypatch.setitem(STRATEGIES, "hill_climbing", other)
    made_before = set(record.lines)
    with pytest.raises(runs.StoppedError, match="step1-child1 was made in another way than is"):
        engine(TINY, record)
    assert set(record.lines) == made_before


def test_a_search_whose_trials_all_failed_stops_and_tries_them_again(engine):
    record, executor = Memory(), MadeUp(failing=lambda name: name.startswith("step1"))
    with pytest.raises(runs.StoppedError, match="all trials of step 1 failed; lost; resume if"):
        engine(TINY, record, executor)
    again = MadeUp()
    assert engine(TINY, record, again).finished
    assert len(again.made) == 7
    assert not any("failure" in line for line in record.lines.values())


def test_what_is_still_out_is_finished_before_the_final_training(engine, monkeypatch):
    """The record does not depend on what was finished when the strategy returned."""

    def hasty(space, settings, keys):
        recipes = ("pretrain", "pretrain", "scratch", "scratch")
        proposals = [
            Proposal(f"t{n}", space.start, keys.search, recipe=recipe)
            for n, recipe in enumerate(recipes)
        ]
        return (yield Ask(proposals, leave=3))

    monkeypatch.setitem(STRATEGIES, "hill_climbing", hasty)
    record, executor = Memory(), MadeUp()
    result = engine(TINY, record, executor)
    assert set(record.lines) == {"t0", "t1", "t2", "t3", "final"}
    assert executor.made[-1] == "final"
    assert result.best.parent == "t0"
    assert result.best.estimate == trial_of(record.lines["final"], None).estimate


def test_a_strategy_is_told_the_same_when_it_is_replayed(engine, monkeypatch):
    told, hill_climbing = [], STRATEGIES["hill_climbing"]

    def spied(space, settings, keys):
        strategy = hill_climbing(space, settings, keys)
        ask = next(strategy)
        try:
            while True:
                trials = yield ask
                told.append([(t.name, t.elapsed, t.estimate) for t in trials])
                ask = strategy.send(trials)
        except StopIteration as end:
            return end.value

    monkeypatch.setitem(STRATEGIES, "hill_climbing", spied)
    record = Memory()
    engine(TINY, record)
    first = list(told)
    told.clear()
    engine(TINY, record)
    assert told == first


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        ({"incumbent": "b"}, "must choose among trials that it was told of; got 'b'"),
        ({"name": "final"}, "may not have the name of one after the search; got 'final'"),
        ({"dropped": {"b": "why"}}, "must choose among trials that it was told of; got 'b'"),
        ({"recipe": "final"}, "recipe must be one of pretrain, brief, .*; got 'final' of b"),
        ({"parent": "c"}, "the parent of b must be a trial that is done; got 'c'"),
    ],
)
def test_what_is_not_done_cannot_be_chosen(ask, message, engine, monkeypatch):
    def strategy(space, settings, keys):
        names = ("a", "c")
        new = yield Ask(
            [Proposal(name, space.start, keys.search, recipe="scratch") for name in names], 1
        )
        given = {"name": "b", "recipe": "scratch", **ask}
        incumbent, dropped = given.pop("incumbent", None), given.pop("dropped", {})
        proposal = Proposal(genotype=space.start, key=keys.search, **given)
        yield Ask([proposal], 0, incumbent, None, dropped)
        return new

    monkeypatch.setitem(STRATEGIES, "hill_climbing", strategy)
    record = Memory()
    with pytest.raises(ValueError, match=message):
        engine(TINY, record)
    assert record.decisions == {}


def test_a_strategy_that_drops_in_batches_has_a_population(engine, monkeypatch, tmp_path):
    def strategy(space, settings, keys):
        def ask(number, parent, **options):
            genotype, edits = space.mutate(space.start, jax.random.key(number))
            names = [f"{number}-{letter}" for letter in "ab"]
            first = {"parent": parent, "edits": edits} if parent else {"recipe": "scratch"}
            return Ask([Proposal(n, genotype, keys.search, **first) for n in names], **options)

        one = yield ask(1, None)
        two = yield ask(2, one[0].name, dropped={one[1].name: "worse"})
        return [*two, *one]

    monkeypatch.setitem(STRATEGIES, "hill_climbing", strategy)
    engine(TINY, workdir=tmp_path)
    page = render(runs.read_run(tmp_path))
    assert "<h2>The population</h2>" in page
    assert "<h2>The lineage</h2>" in page


def test_no_proposal_may_be_larger_than_the_bound(engine, monkeypatch):
    def strategy(space, settings, keys):
        wide = nj.chain((8, 8, 1), 10, (64, 64))
        yield Ask([Proposal("a", wide, keys.search, recipe="scratch")])

    monkeypatch.setitem(STRATEGIES, "hill_climbing", strategy)
    with pytest.raises(ValueError, match="max_flops must be kept by every proposal, 400000; got "):
        engine(TINY, Memory())


def test_the_best_so_far_of_an_interrupted_random_search_is_given_back(engine):
    config = CONFIGS["random_search"].replace(num_samples=6)
    result = engine(config, Memory(), MadeUp(stop_after=5))
    assert not result.finished
    told = [trial for trial in result.history if trial.name <= result.history[-1].name]
    assert result.best.accuracy <= max(trial.accuracy for trial in told)
    assert result.best.variables is not None


def test_workers_are_one_at_least():
    with pytest.raises(ValueError, match="workers must be >= 1; got -1; take one per core"):
        nj.run_search(TINY, workers=-1)


def test_a_decision_that_is_another_than_recorded_is_said_and_recorded_anew(engine):
    record, whole = Memory(), Memory()
    engine(TINY, whole)
    engine(TINY, record, MadeUp(stop_after=5))
    step = max(record.decisions)
    record.decisions[step] = {**record.decisions[step], "incumbent": "model_0"}
    told = Silent()
    engine(TINY, record, None, told)
    assert [note.split(" is chosen")[0] for note in told.notes] == [
        f"step {step}: {whole.decisions[step]['incumbent']}"
    ]
    assert content(record) == content(whole)


def test_a_report_says_which_node_did_what(engine, tmp_path):
    class OnNodes(MadeUp):
        def done(self):
            for name, outcome in super().done():
                child = "child" in name
                yield name, outcome._replace(place=f"n{name[-1]}" if child else "")

    engine(TINY, executor=OnNodes(), workdir=tmp_path)
    view = runs.read_run(tmp_path)
    assert [(node.name, node.trials, node.failed) for node in view.nodes] == [
        ("n1", 2, 0),
        ("n2", 2, 0),
        ("n3", 2, 0),
    ]
    assert all(node.seconds == 2 * 2.0 * TINY.recipes.epochs_neighbours for node in view.nodes)
    assert "<h2>The nodes</h2>" in render(view)
    record = Memory()
    engine(TINY, record)
    assert content(record)[0] == [
        {key: value for key, value in line.items() if key not in ("elapsed", "seconds", "place")}
        for line in runs.read_ledger(tmp_path)
    ]


@pytest.mark.parametrize("name", ["darts", "p_darts", "enas"])
def test_a_report_shows_the_edges_of_a_supernet_and_the_cells(name, engine, tmp_path):
    engine(CONFIGS[name], workdir=tmp_path)
    view = runs.read_run(tmp_path)
    page = render(view)
    assert "The edges of the supernet" in page
    assert "The cells" in page
    kept = next(trial for trial in view.trials if trial.estimate.edges)
    assert kept.genotype.edges[0].name in page
    weights = {edge: history[-1] for edge, history in kept.estimate.edges.items()}
    assert weights == {e: h[-1] for e, h in of_supernet(kept.genotype)["edges"].items()}
