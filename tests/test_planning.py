"""Searches with a limited time: the plan, the final training that keeps to it, and more time."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from helpers import TINY, Silent
from test_engine import MadeUp

import nash_jax as nj
from nash_jax import runs
from nash_jax.architecture import count_flops
from nash_jax.data import Examples
from nash_jax.estimation import Estimate, Outcome, Seconds
from nash_jax.record import Memory
from nash_jax.record.ledger import append_line, ledger_in, repair_ledger
from nash_jax.runs import planning
from nash_jax.runs import run as run_module
from nash_jax.runs.deadline import Deadline
from nash_jax.runs.places import Place
from nash_jax.runs.planning import Pace, plan
from nash_jax.runs.trials import Trials
from nash_jax.training import Cosine, Resizing, TrainingSettings


@pytest.fixture
def images():
    """100 training images of 16x16 in two classes."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (140, 16, 16, 3), np.uint8), np.arange(140) % 2
    return nj.data.make_dataset("noise", x[:100], y[:100], x[100:], y[100:])


def planned(monkeypatch, dataset, update_seconds, minutes=1.0, lost=None, **given):
    """The plan on a machine that takes so long for an update of the first network."""
    monkeypatch.setattr(planning, "lost_in_the_mirror", lambda *_: lost)
    monkeypatch.setattr(planning, "measure", lambda spec, *_: Pace(1.0, update_seconds, spec))
    return plan(dataset, minutes=minutes, workers=2, batch_size=10, **given)


def test_the_sizes_follow_from_the_pace_of_the_machine(monkeypatch, images):
    found = planned(monkeypatch, images, update_seconds=0.02)
    config = found.config
    # 16x16, 8x8 and 4x4 pixels; 60 s have 3,000 updates, which is enough, but at width 16, where
    # they take half as long again, not.
    assert config.space.widths == (12, 24, 48)
    model_0 = nj.vgg((16, 16, 3), 2, (12, 24, 48))
    assert config.bounds.max_flops == round(1.5 * count_flops(model_0))
    # An epoch of 80 images has 8 updates, 0.16 s: 5% of a minute are 19 epochs. A child takes 2 s
    # to compile, and 4 epochs at 1.5 times as long: 2.96 s; with half of 19 epochs, 10% of a
    # minute would not have two such rounds of two workers.
    assert config.recipes.epochs_pretrain == 19
    assert config.recipes.epochs_neighbours == 4
    assert (config.strategy.num_steps, config.strategy.num_neighbours) == (2, 2)
    assert "an update takes 20 ms" in found.text
    assert "2 steps of 2 children" in found.text


def test_an_accelerator_is_measured_by_all_updates_of_a_program(monkeypatch):
    def fit(spec, variables, examples, *_):
        programs = -(-len(examples) // 10 // 16)
        return SimpleNamespace(compile_seconds=1.0, train_seconds=programs * 16 * 0.001)

    monkeypatch.setattr(planning, "fit", fit)
    monkeypatch.setattr(planning, "MEASURED_SECONDS", 0.0)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    examples = Examples(np.zeros((50, 4, 4, 1), np.uint8), np.zeros(50, np.int32))
    narrow, spec, wide = (nj.chain((4, 4, 1), 2, (width,)) for width in (1, 2, 4))
    pace = planning.measure(spec, examples, TrainingSettings(batch_size=10))
    assert pace.update_seconds == pytest.approx(0.001)
    assert pace.of(narrow) == pace.update_seconds < pace.of(wide)
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert pace.of(narrow) < pace.update_seconds


def test_room_is_that_of_the_devices():
    gpus = [SimpleNamespace(platform="gpu")] * 2
    config = runs.Config().replace(num_neighbours=3)
    place = Place("auto", gpus, workers=16, per_device=2)
    assert place.room(config) == 4
    assert place.at_once(config) == 3
    assert Place("auto", jax.devices(), workers=16).room(config) == 16


def test_a_slow_machine_gets_a_smaller_search_and_too_little_time_is_one_line(monkeypatch, images):
    config = planned(monkeypatch, images, update_seconds=0.3).config
    assert config.space.widths == (8, 16, 32)
    assert config.strategy.num_steps >= 1
    assert config.recipes.epochs_neighbours >= 1
    with pytest.raises(ValueError, match=r"minutes must be at least [\d.]+ for 100 images") as told:
        planned(monkeypatch, images, update_seconds=10.0)
    needed = float(str(told.value).split("at least ")[1].split(" ")[0])
    planned(monkeypatch, images, update_seconds=10.0, minutes=needed)  # the remedy is right


def test_two_children_are_made_in_this_process_by_all_cores(monkeypatch, images):
    small = planned(monkeypatch, images, update_seconds=1.0, in_process=True)
    assert small.in_process
    assert small.config.threads_per_child == 2  # as many as the two workers had
    assert not planned(monkeypatch, images, 1.0).in_process
    many = planned(monkeypatch, images, 1.0, in_process=True, num_neighbours=40, num_steps=9)
    assert not many.in_process  # workers are worth their start
    other = {"strategy": "random_search", "in_process": True}
    assert not planned(monkeypatch, images, 1.0, **other).in_process
    # Where an epoch takes long, the two are made side by side, although workers have to start.
    assert not planned(monkeypatch, images, 4.0, 10.0, in_process=True).in_process
    given = planned(monkeypatch, images, 1.0, in_process=True, threads_per_child=1)
    assert not given.in_process


def test_the_rate_falls_with_the_batch_but_not_that_of_a_recipe(monkeypatch, images):
    training = planned(monkeypatch, images, 0.02).config.recipes.training
    assert (training.batch_size, training.lr_start, training.warmup) == (10, 0.1 * 10 / 64, 0.15)
    paper = planned(monkeypatch, images, 0.02, recipe="paper").config.recipes.training
    assert (paper.lr_start, paper.warmup) == (0.05, 0.0)


def test_a_final_training_begins_with_smaller_images_where_they_are_large(monkeypatch, images):
    def share(dataset, **given):
        recipes = planned(monkeypatch, dataset, 0.02, **given).config.recipes
        if not given.get("progressive_resizing"):
            assert recipes.smaller_search == bool(recipes.progressive_resizing)
        return recipes.progressive_resizing

    large = np.zeros((40, 32, 32, 3), np.uint8), np.arange(40) % 2
    large = nj.data.make_dataset("large", *large, *large)
    assert (share(images), share(large)) == (0.0, 0.75)
    assert share(large, progressive_resizing=0.25) == 0.25
    assert share(large, recipe="modern") == 0.0
    assert share(large, model_0="chain") == 0.0  # its dense layer reads a map of one size
    with pytest.raises(ValueError, match="progressive_resizing needs .* ends in a global mean"):
        planned(monkeypatch, large, 0.02, model_0="chain", progressive_resizing=0.5)


def test_images_that_are_seen_often_are_augmented_more(monkeypatch, images):
    def augmented(dataset, minutes, **given):
        recipes = planned(monkeypatch, dataset, 0.5, minutes, **given).config.recipes
        if dataset is large and not given:
            many = recipes.training.auto_augment
            assert recipes.progressive_resizing == (0.75 if many else 0.5)
        return recipes.training.auto_augment

    large = np.zeros((40, 32, 32, 3), np.uint8), np.arange(40) % 2
    large = nj.data.make_dataset("large", *large, *large)
    # An update takes 0.5 s of 20x20 pixels at width 12, 0.7 s of 32x32 at width 8, and an epoch
    # has 4: 21 epochs fit into a minute, and more than 50 into ten.
    assert not augmented(large, 1.0)
    assert augmented(large, 10.0)
    assert not augmented(large, 10.0, auto_augment=False)
    assert not augmented(large, 10.0, recipe="modern")
    assert not augmented(images, 10.0)  # of 16x16 pixels


def test_what_is_given_stays(monkeypatch, images):
    given = {"widths": (4, 8), "num_steps": 7, "flip_test": False, "max_flops": 0}
    config = planned(monkeypatch, images, 0.02, **given).config
    values = config.values()
    assert {name: values[name] for name in given} == given
    other = planned(monkeypatch, images, 0.02, strategy="one_network").config
    assert other.recipes.epochs_pretrain == 0  # nothing is searched
    resnet = planned(monkeypatch, images, 0.02, model_0="resnet-8").config
    assert resnet.space.model_0 == "resnet-8"


def test_the_first_network_keeps_the_bounds_that_are_given(monkeypatch, images):
    first = nj.vgg((16, 16, 3), 2, (8, 16, 32))
    bounds = {"max_flops": count_flops(first), "max_params": 10**9}
    for strategy in ("hill_climbing", "one_network"):
        config = planned(monkeypatch, images, 0.02, strategy=strategy, **bounds).config
        assert config.space.widths == (8, 16, 32)  # without: (12, 24, 48)
        assert config.values()["max_flops"] == count_flops(first)
    none = planned(monkeypatch, images, 0.02, max_flops=1000).config  # the run itself refuses it
    assert none.space.widths == (8, 16, 32)


def test_a_strategy_that_asks_for_all_at_once_asks_for_as_many_as_fit(monkeypatch, images):
    for strategy in ("random_search", "successive_halving"):
        config = planned(monkeypatch, images, 0.02, strategy=strategy).config
        # As many as the children of hill climbing would be, of as many epochs.
        assert (config.strategy.num_samples, config.recipes.epochs_neighbours) == (4, 4)
        given = planned(monkeypatch, images, 0.02, strategy=strategy, num_samples=9).config
        assert given.strategy.num_samples == 9
    aging = planned(monkeypatch, images, 0.02, strategy="aging_evolution").config
    assert aging.strategy.num_samples == 20_000  # one after the other, until the time is over


def test_what_is_over_of_the_time_counts(monkeypatch, images):
    usual = planned(monkeypatch, images, 0.02)
    assert planned(monkeypatch, images, 0.02, spent=8.0) == usual
    late = planned(monkeypatch, images, 0.02, spent=38.0).config
    assert late.space.widths == (8, 16, 32)
    with pytest.raises(ValueError, match=r"minutes must be at least [\d.]+ for 100 images") as told:
        planned(monkeypatch, images, 0.02, spent=100.0)
    needed = float(str(told.value).split("at least ")[1].split(" ")[0])
    planned(monkeypatch, images, 0.02, needed, spent=100.0)


def test_a_batch_is_of_few_images_where_there_are_few(images):
    assert planning.for_images(images)["batch_size"] == 8
    many = nj.data.make_dataset(
        "many", *(2 * [np.zeros((2000, 8, 8, 1), np.uint8), np.arange(2000) % 2])
    )
    sizes = [planning.for_images(many, most)["batch_size"] for most in (0, 200, 50, 15, 4, 2)]
    assert sizes == [64, 16, 8, 4, 2, 1]


def test_a_machine_is_measured_by_training_on_it(images):
    spec = nj.chain((16, 16, 3), 2, (4,))
    pace = planning.measure(spec, images.train, TINY.replace(batch_size=16).recipes.training)
    assert pace.update_seconds > 0
    assert pace.compile_seconds > 0
    assert pace.of(spec) == pace.update_seconds
    wider = nj.chain((16, 16, 3), 2, (8,))
    more = (count_flops(wider) / count_flops(spec)) ** 0.75
    assert pace.of(wider) == pytest.approx(more * pace.update_seconds)


def test_signs_that_are_others_in_a_mirror_are_not_flipped(monkeypatch, images):
    labels = np.arange(140) % 4
    x = np.random.default_rng(0).integers(0, 100, (140, 8, 8, 1), np.uint8)
    x[labels == 0, :, :4] += 100  # bright on the left
    x[labels == 1, :, 4:] += 100  # bright on the right
    x[labels == 2, :4] += 100
    x[labels == 3, 4:] += 100
    spec = nj.chain((8, 8, 1), 4, (8,))
    settings = TINY.replace(batch_size=20).recipes.training

    def lost(labels):
        parts = (nj.data.Examples(x[part], labels[part]) for part in (slice(100), slice(100, 140)))
        return planning.lost_in_the_mirror(spec, *parts, settings, updates=40)

    assert lost(labels) in (0, 1)
    assert lost(labels // 2) is None  # left or right against above or below
    assert not planned(monkeypatch, images, 0.02, lost=1).config.recipes.training.flip
    assert "no flips: images of class 1 become" in planned(monkeypatch, images, 0.02, lost=1).text
    assert planned(monkeypatch, images, 0.02).config.recipes.training.flip
    assert planned(monkeypatch, images, 0.02, lost=1, flip=True).config.recipes.training.flip


def test_what_is_measured_is_the_program_that_looks_into_the_mirror(monkeypatch, images):
    seen = []

    def measure(spec, train, settings):
        seen.append(settings)
        return Pace(1.0, 0.02, spec)

    def lost(spec, train, valid, settings, updates):
        seen.append(settings)

    monkeypatch.setattr(planning, "measure", measure)
    monkeypatch.setattr(planning, "lost_in_the_mirror", lost)
    assert plan(images, minutes=1.0, batch_size=10).config.recipes.training.flip
    assert plan(images, minutes=1.0, batch_size=10, flip=True).config.recipes.training.flip
    first, second, given = seen
    assert first == second == dataclasses.replace(given, flip=False)
    assert given.flip


class Clocked(MadeUp):
    """Its final training takes `seconds(epoch)` for each epoch, by a clock of its own.

    Trials of the search take `search` seconds each.
    """

    def __init__(self, seconds, stop_at=None, search=2.0):
        super().__init__()
        self.seconds, self.stop_at, self.now = seconds, stop_at, 0.0
        self.search = search

    def done(self):
        while self.jobs:
            job = self.jobs[0]
            if job.recipe.judged_on != "test":
                self.now += self.search
                for name, outcome in super().done():
                    took = dataclasses.replace(outcome.estimate, seconds=Seconds(train=self.search))
                    yield name, outcome._replace(estimate=took)
                continue
            lengths, cosine, done = self.lengths(job.name), Cosine(job.recipe.epochs), 0
            resizing = Resizing.of(job.spec, job.recipe.progressive_resizing)
            while done < cosine.epochs:
                self.now += self.seconds(done + 1) * resizing.work(cosine, done)
                done += 1
                if done == self.stop_at:
                    raise KeyboardInterrupt
                if done < cosine.epochs:
                    known = lengths.known.get(done)
                    epochs = lengths.decide(done, cosine) if known is None else known
                    if epochs != cosine.epochs:
                        cosine = cosine.lasting(epochs, done)
            self.jobs.clear()
            self.made.append(job.name)
            estimate = Estimate(0.5, 1.0, Seconds(train=1.0), train_losses=(0.5,) * done)
            yield job.name, Outcome(estimate, {"params": {}, "batch_stats": {}})


def run_by(clocked, record, monkeypatch, more_minutes=0.0, **settings):
    def executors(run, tell, at_once, devices, lengths):
        del run, tell, at_once, devices
        clocked.lengths = lengths
        return clocked, clocked

    monkeypatch.setattr(run_module, "_executors", executors)
    monkeypatch.setattr(Trials, "elapsed", lambda self: clocked.now)
    config = TINY.replace(strategy="one_network", minutes=2.0, **settings)
    with runs.open_run(config, dataset=nj.data.load_dataset("digits")) as opened:
        opened = dataclasses.replace(opened, record=record)
        return runs.execute(opened, Silent(), more_minutes=more_minutes)


@pytest.mark.parametrize("resizing", [{}, {"model_0": "vgg", "progressive_resizing": 0.5}])
@pytest.mark.parametrize(
    "seconds",
    [
        lambda epoch: 2.5,  # as was expected
        lambda epoch: 5.0,
        lambda epoch: 1.0,
        lambda epoch: 2.5 if epoch < 20 else 7.0,  # another program begins
    ],
)
def test_a_final_training_ends_with_the_time_however_fast_the_machine_is(
    seconds, resizing, monkeypatch
):
    clocked, record = Clocked(seconds), Memory()
    run_by(clocked, record, monkeypatch, **resizing)
    assert 0.9 * 120 <= clocked.now <= 1.1 * 120
    decided = [(line["done"], line["epochs"]) for line in record.timings]
    trained = len(record.lines["final"]["train_losses"])
    assert not decided or decided[-1][1] == trained
    again = Clocked(seconds)
    run_by(again, record, monkeypatch, **resizing)
    assert again.made == []
    stopped, other = Memory(), Clocked(seconds, stop_at=10)
    assert not run_by(other, stopped, monkeypatch, **resizing).finished
    before = list(stopped.timings)
    resumed = Clocked(seconds)
    run_by(resumed, stopped, monkeypatch, **resizing)  # its epochs are made again, all of them
    assert 0.85 * 120 <= resumed.now <= 1.1 * 120
    assert stopped.timings[: len(before)] == before  # what was decided is kept


def test_more_time_makes_a_training_longer_that_nothing_is_known_of(monkeypatch):
    record = Memory()
    settings = {"epochs_pretrain": 0, "epochs_final": 2}
    run_by(Clocked(lambda epoch: 1.0), record, monkeypatch, **settings)
    assert len(record.lines["final"]["train_losses"]) == 2  # no decision came in between
    clocked = Clocked(lambda epoch: 1.0)
    clocked.now = 120.0
    run_by(clocked, record, monkeypatch, **settings, more_minutes=10.0)
    assert 0.95 * 720 <= clocked.now <= 1.05 * 720


def test_a_final_network_that_is_lost_is_made_again_as_long_as_it_was(monkeypatch):
    record = Memory()
    run_by(Clocked(lambda epoch: 1.0), record, monkeypatch)
    length = len(record.lines["final"]["train_losses"])
    assert length > 9
    record.release(["final"])
    slower = Clocked(lambda epoch: 9.0)
    slower.now = 120.0
    again = run_by(slower, record, monkeypatch)
    assert len(again.best.estimate.train_losses) == length
    assert slower.now == 120.0 + 9.0 * length


def test_lengths_of_a_training_that_more_time_ended_are_forgotten():
    record = Memory()
    deadline = Deadline(1.0, record, "x", num_train=8, num_valid=1, num_test=1)

    def known():
        return deadline.lengths("final", 0.0, lambda: 0.0, lambda *_: None, Resizing()).known

    deadline.extend(1.0)
    record.add_timing({"kind": "length", "name": "final", "done": 3, "epochs": 9})
    assert known() == {3: 9}
    deadline.extend(1.0)
    first, _, second = record.timings
    assert first == second
    assert known() == {}


@pytest.mark.parametrize("least", [0.05, 0.4])
def test_the_length_of_a_final_training_changes_when_its_pace_is_known(least, monkeypatch):
    clocked, record = Clocked(lambda epoch: least * (1 + 0.75 * (epoch % 3 == 0))), Memory()
    run_by(clocked, record, monkeypatch)
    assert 0.95 * 120 <= clocked.now <= 1.05 * 120
    assert len(record.timings) <= 4  # far too few epochs were planned


def test_decisions_by_time_survive_the_repair_of_a_ledger(tmp_path):
    lines = [
        {"kind": "length", "name": "final", "done": 3, "epochs": 9, "config": "x"},
        {"kind": "extension", "minutes": 10.0, "elapsed": 60.0, "config": "x"},
    ]
    for line in lines:
        append_line(tmp_path, line)
    for wrong in (
        {"kind": "length", "name": "final", "done": 9, "epochs": 9, "config": "x"},
        {"kind": "extension", "minutes": -1, "elapsed": 60.0, "config": "x"},
    ):
        append_line(tmp_path, wrong)
    assert len(repair_ledger(tmp_path).damages) == 2
    kept = [
        {key: x for key, x in line.items() if key != "checksum"}
        for line in ledger_in(tmp_path).timings
    ]
    assert [{**line, **wanted} for line, wanted in zip(kept, lines)] == kept
    assert len(kept) == 2
