"""Whole runs: what is written, what may be seen, and that the same config gives the same result."""

import json
import os
import pathlib
import subprocess
import sys
import threading

import chex
import numpy as np
import pytest
from helpers import TINY, Silent, history, run

import nash_jax as nj
from nash_jax import data, runs
from nash_jax.execution.devices import _Room
from nash_jax.record.lines import trial_of
from nash_jax.reporting.describe import describe_trial

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One run with two workers, and its workdir."""
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    reporter = Silent()
    result = run(TINY, workdir, reporter, workers=2, provenance={"command": ["x"]})
    return workdir, result, reporter


def test_the_ledger_has_one_line_per_candidate(finished):
    workdir, _, reporter = finished
    ledger = runs.read_ledger(workdir)
    assert sorted(history(ledger), key=str) == sorted(history(reporter.trials), key=str)
    assert [line["name"] for line in ledger] == [
        "model_0",
        *(f"step{step}-child{child}" for step in (1, 2) for child in (1, 2, 3)),
        "final",
    ]
    by_name = {line["name"]: line for line in ledger}
    for line in ledger[1:]:
        spec = nj.from_json(json.dumps(by_name[line["parent"]]["spec"]))
        for edit in line["edits"]:
            spec = nj.morphisms.edit_from_dict(edit).rewrite(spec)
        assert spec == nj.from_json(json.dumps(line["spec"]))
        assert line["params"] == nj.count_params(spec)
        assert line["flops"] == nj.count_flops(spec) <= 400_000
        assert set(line["seconds"]) == {"compile", "train", "evaluate", "wait"}
        assert line["memory_bytes"] > 0
        mixes = {node.name for node in spec.nodes if isinstance(node.op, nj.ops.Mix)}
        lambdas = line.get("lambdas", {})
        assert set(lambdas) == mixes
        if line["name"] == "final":
            _, variables = nj.load(workdir)
            for node, value in lambdas.items():
                assert value == pytest.approx(float(variables["params"][node]["lambda"]), abs=1e-4)
    children = [line for line in ledger if line["step"] == 1]
    best = max(children, key=lambda c: (c["validation_accuracy"], -c["validation_loss"]))
    assert {line["parent"] for line in ledger if line["step"] == 2 and line["kind"] == "child"} == {
        best["name"]
    }


def test_the_reporter_is_told_every_epoch(finished):
    _, _, reporter = finished
    assert reporter.epochs == reporter.total == 1 + 2 * 3 * 1 + 2
    assert reporter.phases == ["pretraining", "step 1 of 2", "step 2 of 2", "final training"]
    assert "widen" in "".join(map(describe_trial, reporter.trials))


def test_the_workdir_explains_itself(finished):
    workdir, result, _ = finished
    config = json.loads((workdir / "config.json").read_text())
    assert config["version"] == 2
    assert config["settings"]["strategy"] == {
        "num_steps": 2, "num_neighbours": 3, "num_morphisms": 2,
    }  # fmt: skip
    assert config["settings"]["bounds"] == {"max_flops": 400_000}
    assert "run" not in config["settings"]  # the seed is the default
    assert runs.read_run(workdir).config == TINY
    assert config["command"] == ["x"]
    written = json.loads((workdir / "result.json").read_text())
    assert written["test_accuracy"] == result.best.estimate.accuracy
    for picture in ("network.png", "climb.png"):
        assert (workdir / picture).read_bytes().startswith(b"\x89PNG")


def test_load_gives_the_tested_network(finished):
    workdir, result, _ = finished
    spec, variables = nj.load(workdir)
    assert spec == result.best.spec
    chex.assert_trees_all_equal(variables, result.best.variables)
    test = data.load_dataset("digits").test
    logits = np.asarray(nj.apply(spec, variables, test.images))
    accuracy = (logits.argmax(1) == test.labels).mean()
    assert accuracy == result.best.estimate.accuracy


def test_the_same_config_gives_the_same_bits_whatever_the_number_of_workers(finished, tmp_path):
    workdir, result, _ = finished
    other = runs.reproduce(workdir, tmp_path / "again", workers=1)
    assert other.first is None
    chex.assert_trees_all_equal(other.result.best.variables, result.best.variables)
    lines = runs.read_ledger(tmp_path / "again")
    assert history(lines) == history(runs.read_ledger(workdir))


def test_a_child_that_wants_too_much_memory_is_said_and_the_search_goes_on(finished, tmp_path):
    ledger = runs.read_ledger(finished[0])
    needs = {line["name"]: line["memory_bytes"] for line in ledger if line["step"] <= 1}
    limit = (needs["model_0"] + max(needs.values())) // 2
    assert needs["model_0"] < limit < max(needs.values())
    config = TINY.replace(num_steps=1, max_memory=limit / 2**30)
    result = run(config, tmp_path / "limited", Silent())
    children = [line for line in runs.read_ledger(tmp_path / "limited") if line["kind"] == "child"]
    assert [line["memory_bytes"] for line in children] == [needs[c["name"]] for c in children]
    for line in children:
        too_large = line["memory_bytes"] > limit
        assert too_large == ("failure" in line) == (line["validation_accuracy"] is None)
        if too_large:
            assert "GiB of memory to train" in line["failure"]
            assert f"{line['failure']}" in describe_trial(trial_of(line, None))
            assert line["name"] != result.best.parent
    assert result.best.parent.startswith("step1")
    with pytest.raises(runs.StoppedError, match="model_0 is too large: .*raise max_memory"):
        run(TINY.replace(max_memory=1e-6), tmp_path / "none", Silent())


DEVICES = """
import dataclasses, pathlib, sys
import chex, jax, numpy as np
import nash_jax as nj
from nash_jax import data, estimation, runs
from nash_jax.estimation import Images, Job, Network, Tools, perform
from nash_jax.execution import Devices
from nash_jax.search import Keys, hill_climbing, simulate
from tests.helpers import TINY, Silent

devices = jax.local_devices()
assert len(devices) == 4
problem = runs.prepare(TINY, data.load_dataset("digits"))
images = Images(problem.train, problem.valid, problem.valid)
best = Network(problem.model_0, nj.init(problem.model_0, jax.random.key(0)))
space = runs.space_of(TINY, best.spec)
strategy = hill_climbing(space, TINY.strategy, Keys(*jax.random.split(jax.random.key(1), 4)))
estimate = estimation.Estimate(0.5, 1.0, estimation.Seconds())
trials = [t for t in simulate(space, strategy, lambda _: estimate) if t.step == 1]
brief = TINY.recipes.by_name()["brief"]
jobs = [
    Job(t.name, t.spec, np.asarray(jax.random.key_data(t.proposal.key)), brief, "best", t.edits)
    for t in trials
]
alone = {job.name: perform(job, images, best, Tools()) for job in jobs}
spread = Devices(images, Tools(), [*devices[1:3], devices[2]])  # two at a time on the last
spread.put("best", best)
used = set()
for job in jobs:
    spread.submit(job)
made = dict(spread.done())
for name, ours in alone.items():
    theirs = made.pop(name)
    assert theirs.estimate.seconds.compile > 0
    chex.assert_trees_all_equal(jax.device_get(ours.variables), jax.device_get(theirs.variables))
    used |= set.union(*(x.devices() for x in jax.tree.leaves(theirs.variables)))
assert used == set(devices[1:3]) and not made
# A step whose children have the graphs of the last compiles nothing.
compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, *_, **__: compiled.append(name) if "backend_compile" in name else None
)
for job in jobs:
    spread.submit(dataclasses.replace(job, name=f"again-{job.name}"))
assert len(dict(spread.done())) == len(jobs)
assert not compiled, compiled
spread.close()
# Pretraining and final training are shared by all devices.
config = TINY.replace(num_steps=0)
results = []
for some in (devices[:1], devices):
    with runs.open_run(config, pathlib.Path(sys.argv[1], str(len(some)))) as opened:
        results.append(runs.execute(opened, Silent(), devices=some))
for result, num in zip(results, (1, 4)):
    for array in jax.tree.leaves(result.best.variables):
        assert len(array.sharding.device_set) == num
losses = [result.best.estimate.loss for result in results]
np.testing.assert_allclose(*losses, rtol=1e-2)
print("devices agree")
"""


def test_a_device_has_room_for_what_fits_and_for_one_that_does_not():
    room, begun = _Room(max_bytes=10), threading.Event()

    def beside(required):
        with room.taking(required):
            begun.set()

    fits, waits = (threading.Thread(target=beside, args=(number,)) for number in (4, 7))
    with room.taking(6):
        fits.start()
        fits.join()
        assert begun.is_set()
        begun.clear()
        waits.start()
        assert not begun.wait(0.1)
    waits.join()
    assert begun.is_set()
    with room.taking(20):
        pass


@pytest.mark.slow
def test_children_are_spread_over_devices_and_single_trainings_are_shared_by_them(tmp_path):
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4",
    }
    command = [sys.executable, "-c", DEVICES, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "devices agree" in done.stdout


def test_nothing_in_the_search_sees_the_test_set(finished, tmp_path):
    workdir, result, _ = finished
    digits = data.load_dataset("digits")
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "poisoned.npz",
        x_train=digits.train.images,
        y_train=digits.train.labels,
        x_test=rng.integers(0, 256, (50, 8, 8, 1), np.uint8),
        y_test=rng.integers(0, 10, 50, np.int32),
    )
    config = TINY.replace(dataset=f"npz:{tmp_path / 'poisoned.npz'}")
    other = run(config, tmp_path / "poisoned", Silent())
    chex.assert_trees_all_equal(other.best.variables, result.best.variables)
    lines, original = runs.read_ledger(tmp_path / "poisoned"), runs.read_ledger(workdir)
    assert history(lines[:-1]) == history(original[:-1])
    assert lines[-1]["test_accuracy"] != original[-1]["test_accuracy"]


def test_a_seed_decides_the_run(finished):
    problem = runs.prepare(TINY, data.load_dataset("digits"))
    other = runs.prepare(TINY.replace(seed=1), data.load_dataset("digits"))
    assert (problem.valid.images[:9] != other.valid.images[:9]).any()
    assert len(problem.train) + len(problem.valid) == 1437


def test_normalisation_is_that_of_the_training_images():
    problem = runs.prepare(TINY, data.load_dataset("digits"))
    mean, std = problem.train.images.mean(), problem.train.images.std()
    normalize = problem.model_0["normalize"].op
    np.testing.assert_allclose((normalize.mean[0], normalize.std[0]), (mean, std), rtol=1e-6)


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="workdir must be new, empty or that of a run; .* choose"):
        run(TINY, tmp_path, Silent())
    with pytest.raises(ValueError, match="workdir must be a folder"):
        run(TINY, tmp_path / "file", Silent())
    with pytest.raises(ValueError, match=r"workdir .* cannot be used: Not a directory"):
        run(TINY, tmp_path / "file" / "below", Silent())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_load_of_something_else_is_one_clear_error(tmp_path):
    with pytest.raises(ValueError, match="there is no network 'final' in .*; it has no networks"):
        nj.load(tmp_path)
    (tmp_path / "networks").mkdir()
    (tmp_path / "networks" / "final.safetensors").write_text("{")
    with pytest.raises(runs.DamagedError, match="final.safetensors is damaged"):
        nj.load(tmp_path)
    with pytest.raises(ValueError, match="there is no network '../x' in .*; it has final"):
        nj.load(tmp_path, "../x")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "seed must be >= 0; got -1"),
        ({"epochs_neighbours": 0}, "epochs_neighbours must be >= 1; got 0"),
        ({"validation_fraction": 1.0}, "validation_fraction must be between 0 and 1; got 1.0"),
        ({"widths": ()}, "widths must be whole numbers >= 1"),
        ({"num_neighbours": 0}, "num_neighbours must be >= 1"),
        ({"lr_start": 0.0}, "lr_start must be > 0"),
        ({"max_flops": -5}, "max_flops must be >= -1; got -5"),
        ({"max_costs": "depth"}, "max_costs must be NAME=NUMBER; got 'depth'; as in depth=12"),
        ({"max_costs": "dept=1"}, "the name in max_costs must be one of .*; did you mean depth?"),
    ],
)
def test_bad_config_is_one_clear_error(changes, message):
    with pytest.raises(ValueError, match=message):
        TINY.replace(**changes)


def test_settings_are_known_by_their_names_in_whatever_group():
    drawn = TINY.replace(strategy="random_search", num_samples=3, lr_start=0.1)
    assert drawn.strategy == nj.search.RandomSearchSettings(num_samples=3)
    assert drawn.recipes.training == nj.training.TrainingSettings(
        lr_start=0.1, batch_size=64, crop_padding=1, flip=False
    )
    assert drawn.replace(seed=2).strategy == drawn.strategy
    for config in (drawn, TINY, runs.Config()):
        assert runs.config_of(json.loads(json.dumps(runs.settings_of(config).given))) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_step": 1}, "there is no setting 'num_step'; did you mean num_steps[?]"),
        (
            {"num_samples": 1},
            "num_samples is a setting of strategy aging_.*; got it with",
        ),
        (
            {"strategy": "random"},
            "one of aging_evolution, .*; did you mean random_search",
        ),
        (
            {"space": "morph"},
            "space must be one of morphs, .*; got 'morph'; did you mean morphs[?]",
        ),
    ],
)
def test_names_that_are_no_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        TINY.replace(**changes)


def test_a_preset_has_settings_for_the_strategy_that_is_given():
    assert nj.preset("digits", strategy="random_search", num_samples=2).recipes.epochs_final == 30
    assert nj.preset("digits", recipe="modern", cutout=2).recipes.training.cutout == 2


def test_of_two_bounds_for_one_cost_the_nearer_counts():
    bounds = runs.Config().replace(max_flops=200, max_costs="flops=1e3,depth = 9,depth=7").bounds
    assert bounds.limits(nj.chain((8, 8, 1), 10, (4,))) == {"flops": 200, "depth": 7}
