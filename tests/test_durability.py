"""What a run survives: stops anywhere, damaged files, dead workers, children that fail."""

import dataclasses
import errno
import json
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time

import chex
import jax
import numpy as np
import pytest
from helpers import TINY, Silent, history, run

import nash_jax as nj
from benchmarks import crashing
from nash_jax import runs
from nash_jax.estimation import Images, Job, Tools, brief, perform
from nash_jax.execution.deaths import MOST
from nash_jax.execution.processes import _send
from nash_jax.record import files
from nash_jax.record.ledger import repair_ledger
from nash_jax.reporting import Epoch

pytestmark = pytest.mark.usefixtures("program_cache")

NAMES = ["model_0", *(f"step{s}-child{c}" for s in (1, 2) for c in (1, 2, 3)), "final"]


class StopError(Exception):
    """The stop that a test asked for."""


class Stopping(Silent):
    """Stops the run when it is told of something, as a signal would."""

    def __init__(self, where):
        super().__init__()
        self.where = where

    def phase(self, what):
        super().phase(what)
        if what == self.where:
            raise StopError

    def epoch(self, name, epoch, loss, learning_rate):
        super().epoch(name, epoch, loss, learning_rate)
        if f"{name} epoch {epoch}" == self.where:
            raise StopError

    def candidate(self, trial):
        super().candidate(trial)
        if trial.name == self.where:
            raise StopError


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run without a stop."""
    workdir = tmp_path_factory.mktemp("durability") / "whole"
    config = TINY.replace(epochs_pretrain=2, epochs_neighbours=2)
    reporter = Silent()
    return workdir, config, run(config, workdir, reporter, workers=2), reporter


def networks(workdir):
    return {path.name: path.read_bytes() for path in (workdir / "networks").iterdir()}


def assert_same(workdir, finished):
    """The run in `workdir` ended as the one without a stop, bit by bit."""
    whole, _, result, _ = finished
    assert history(runs.read_ledger(workdir)) == history(runs.read_ledger(whole))
    assert networks(workdir) == networks(whole)
    assert list((workdir / "trainings").iterdir()) == []
    written = json.loads((workdir / "result.json").read_text())
    assert written["test_accuracy"] == result.best.estimate.accuracy


def test_a_run_that_is_stopped_everywhere_ends_as_one_without_a_stop(finished, tmp_path):
    _, config, result, _ = finished
    epochs = 0
    for where, workers in (
        *(("model_0 epoch 1", 1), ("model_0", 0), ("step1-child2 epoch 1", 2)),
        *(("step 2 of 2", 0), ("step2-child3", 1), ("final epoch 1", 0)),
    ):
        reporter = Stopping(where)
        with pytest.raises(StopError):
            run(config, tmp_path, reporter, workers, checkpoint_seconds=0)
        epochs += reporter.epochs
    last = Silent()
    again = run(config, tmp_path, last)
    assert_same(tmp_path, finished)
    chex.assert_trees_all_equal(again.best.variables, result.best.variables)
    assert set(last.known) == set(NAMES[:-1])
    # At most one epoch of each worker per stop is trained twice.
    assert epochs + last.epochs <= last.total + 2 * 6
    assert last.notes == []


def test_a_finished_run_is_left_as_it_is(finished, tmp_path):
    workdir, config, result, _ = finished
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.name != "lock"}
    reporter = Silent()
    again = run(config, workdir, reporter)
    assert (reporter.epochs, reporter.trials, reporter.notes) == (0, [], [])
    chex.assert_trees_all_equal(again.best.variables, result.best.variables)
    assert history(again.history) == history(result.history)
    folders = {workdir, workdir / "networks", workdir / "trainings"}
    after = {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.name != "lock"}
    assert {p: t for p, t in after.items() if p not in folders} == {
        p: t for p, t in before.items() if p not in folders
    }


def test_the_best_of_every_step_are_kept_or_all(finished, tmp_path):
    workdir, config, _, _ = finished
    ledger = {line["name"]: line for line in runs.read_ledger(workdir)}
    chosen = ledger["final"]["parent"]
    bests = {"model_0", ledger[chosen]["parent"], chosen, "final"}
    assert {name.removesuffix(".safetensors") for name in networks(workdir)} == bests
    for name in bests:
        assert nj.load(workdir, name)[0] == nj.from_json(json.dumps(ledger[name]["spec"]))
    run(config, tmp_path, Silent(), keep_all=True)
    kept = networks(tmp_path)
    assert set(kept) == {f"{name}.safetensors" for name in NAMES}
    assert {name: kept[name] for name in networks(workdir)} == networks(workdir)


def copy(workdir, to):
    """A copy of a run's folder."""
    for path in workdir.rglob("*"):
        if path.is_file():
            target = to / path.relative_to(workdir)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return to


def flip(path, place):
    """Turn one bit over."""
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)


def test_damaged_networks_are_said_and_made_again(finished, tmp_path):
    workdir, config, _, _ = finished
    copy(workdir, tmp_path)
    paths = sorted((tmp_path / "networks").iterdir())
    for path, damage in zip(
        paths,
        (
            lambda path: flip(path, -100),
            lambda path: path.unlink(),
            lambda path: path.write_bytes(path.read_bytes()[:-7]),
            lambda path: flip(path, 30),
        ),
        strict=True,
    ):
        damage(path)
    (tmp_path / "result.json").write_text("{}")
    reporter = Silent()
    run(config, tmp_path, reporter)
    assert_same(tmp_path, finished)
    assert len(reporter.notes) == len(paths)
    for path in paths:
        assert any(str(path) in note and "is made again" in note for note in reporter.notes)
    assert reporter.trials == []


def test_a_torn_or_damaged_ledger_is_repaired(finished, tmp_path):
    workdir, config, _, _ = finished
    copy(workdir, tmp_path)
    ledger = tmp_path / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    # One line is damaged, and the last is torn.
    damaged = [
        line.replace(b"accuracy", b"accurasy") if n == 3 else line for n, line in enumerate(lines)
    ]
    data = b"".join(damaged[:-1]) + lines[-1][:50]
    ledger.write_bytes(data)
    (tmp_path / "result.json").unlink()
    reporter = Silent()
    run(config, tmp_path, reporter)
    assert_same(tmp_path, finished)
    assert [note[:40] for note in reporter.notes[:2]] == [
        f"line 4 of {ledger}"[:40],
        f"the last line of {ledger}"[:40],
    ]
    assert (tmp_path / "ledger.jsonl.damaged").read_bytes() == data
    ledger.write_bytes(data.replace(b"accuracy", b"accurasy"))
    repair_ledger(tmp_path)
    assert (tmp_path / "ledger.jsonl.damaged").read_bytes() == data
    assert (tmp_path / "ledger.jsonl.damaged2").exists()
    assert {trial.name for trial in reporter.trials} == {
        *(json.loads(lines[3])["name"], json.loads(lines[-1])["name"])
    }


def test_what_a_worker_cannot_send_is_said_in_words():
    here, there = multiprocessing.Pipe()
    cannot = ValueError("odd", lambda: 0)
    cannot.add_note("in a worker process:\nline 7")
    for content, text in ((cannot, "line 7"), (lambda: 0, "must be such that it can be pickled")):
        _send(here, "outcome", content)
        kind, error = there.recv()
        assert (kind, type(error)) == ("error", RuntimeError)
        assert text in str(error)
    for each in (here, there):
        each.close()


def test_a_damaged_snapshot_is_said_and_the_training_begins_anew(finished, tmp_path):
    _, config, _, _ = finished
    with pytest.raises(StopError):
        run(config, tmp_path, Stopping("model_0 epoch 1"), checkpoint_seconds=0)
    reporter = Stopping("step 1 of 2")
    flip(tmp_path / "trainings" / "model_0" / "1" / "manifest.ocdbt", -1)
    with pytest.raises(StopError):
        run(config, tmp_path, reporter, checkpoint_seconds=0)
    assert len(reporter.notes) == 1
    assert "model_0 is trained from its beginning" in reporter.notes[0]
    assert reporter.epochs == 2
    assert history(runs.read_ledger(tmp_path)) == history(runs.read_ledger(finished[0]))[:1]


def test_other_settings_or_data_are_refused(finished, tmp_path):
    workdir, config, _, _ = finished
    copy(workdir, tmp_path)
    with pytest.raises(
        ValueError, match="lr_start was 0.05, is 0.1; seed was 0, is 1; give the old"
    ):
        run(config.replace(seed=1, lr_start=0.1), tmp_path, Silent())
    digits = nj.data.load_dataset("digits")
    other = dataclasses.replace(digits, test=digits.test.take(range(300)))
    with pytest.raises(ValueError, match="data was '[0-9a-f]{16}', is '[0-9a-f]{16}'"):
        run(config, tmp_path, Silent(), dataset=other)
    assert networks(tmp_path) == networks(workdir)


def test_a_damaged_config_is_written_anew_if_the_settings_are_those_of_the_ledger(
    finished, tmp_path
):
    workdir, config, _, _ = finished
    copy(workdir, tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"num_steps": 2', '"num_steps": 3'))
    with pytest.raises(ValueError, match="goes on with the settings that it began with"):
        run(config.replace(seed=1), tmp_path, Silent())
    reporter = Silent()
    run(config, tmp_path, reporter)
    assert [note[:11] for note in reporter.notes] == [f"{path}"[:11]]
    assert "is damaged: it does not match its checksum; it is written anew" in reporter.notes[0]
    assert json.loads(path.read_text())["settings"]["strategy"]["num_steps"] == 2
    assert_same(tmp_path, finished)


def test_other_versions_are_noted(tmp_path):
    config = TINY.replace(num_steps=0, epochs_pretrain=0, epochs_final=0)
    run(config, tmp_path, Silent(), provenance={"python": "3.0"})
    reporter = Silent()
    run(config, tmp_path, reporter, provenance={"python": "2.7", "device": "of a new kind"})
    (note,) = reporter.notes
    assert note.startswith("python was '3.0' when the run began, and is '2.7': the result may")


def test_one_process_at_a_time_works_on_a_folder(tmp_path):
    with runs.open_run(TINY, tmp_path):
        message = f"only one process may work on .*; process {os.getpid()} on .* does"
        with pytest.raises(ValueError, match=message), runs.open_run(TINY, tmp_path):
            pass
    with runs.open_run(TINY, tmp_path):
        pass


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_a_folder_that_cannot_be_written_is_one_clear_error(number, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "fsync", refuse)
    with pytest.raises(runs.WriteError, match=f"cannot be written: {os.strerror(number)}; "):
        run(TINY, tmp_path, Silent())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock"]


def test_a_child_that_diverges_is_recorded_and_a_step_without_any_other_stops(tmp_path):
    config = TINY.replace(num_steps=1, epochs_pretrain=0, epochs_neighbours=3, lr_start=1e25)
    with pytest.raises(runs.StoppedError, match="all trials of step 1 failed; diverged: the train"):
        run(config, tmp_path, Silent())
    children = runs.read_ledger(tmp_path)[1:]
    assert len(children) == 3
    for line in children:
        assert line["failure"].startswith("diverged: the training loss was ")
        assert line["validation_accuracy"] is None
    # They are tried again, because the cause may have been removed.
    reporter = Silent()
    with pytest.raises(runs.StoppedError, match="all trials of step 1 failed"):
        run(config, tmp_path, reporter)
    assert len(reporter.trials) == 3
    assert len(runs.read_ledger(tmp_path)) == 4


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (
            jax.errors.JaxRuntimeError("INTERNAL: no\ncode"),
            "not compiled or run by XLA: INTERNAL: no",
        ),
        (
            jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 9 GiB"),
            "out of memory: RESOURCE_EXHAUSTED",
        ),
        (MemoryError("9 GiB"), "out of memory: 9 GiB"),
    ],
)
def test_a_child_that_xla_refuses_is_recorded(error, failure, monkeypatch):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(brief, "train_and_validate", refuse)
    examples = nj.data.load_dataset("digits").test
    spec, images = nj.chain((8, 8, 1), 10, (4,)), Images(examples, examples, examples)
    job = Job("x", spec, np.zeros(2, np.uint32), TINY.recipes.by_name()["scratch"])
    outcome = perform(job, images, None, Tools())
    assert outcome.estimate.failure.startswith(failure)
    assert "\n" not in outcome.estimate.failure
    assert outcome.variables is None


class Killing(Silent):
    """Kills the worker that trains a child, a number of times."""

    def __init__(self, name, times):
        super().__init__()
        self.name, self.times = name, times

    def epoch(self, name, epoch, loss, learning_rate):
        super().epoch(name, epoch, loss, learning_rate)
        if name == self.name and self.times:
            self.times -= 1
            (worker,) = children_of(os.getpid())
            os.kill(worker, signal.SIGKILL)


def children_of(pid):
    """The worker processes of a process."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
            command = (path.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z" and b"spawn_main" in command:
            found.append(int(path.parent.name))
    return found


def test_a_worker_that_dies_is_replaced(finished, tmp_path):
    _, config, _, _ = finished
    reporter = Killing("step1-child1", 1)
    run(config, tmp_path, reporter, workers=1)
    assert_same(tmp_path, finished)
    assert reporter.notes == ["the worker of step1-child1 died (SIGKILL); another tries again"]


def test_an_error_of_whoever_is_told_is_no_death_of_a_worker():
    def tell(event):
        if isinstance(event, Epoch) and event.name == "step1-child1":
            raise BrokenPipeError("nobody listens")

    with pytest.raises(BrokenPipeError, match="nobody listens"):
        nj.run_search(TINY.replace(num_steps=1), tell=tell, workers=1)


def test_a_child_whose_workers_die_is_recorded(tmp_path):
    config = TINY.replace(num_steps=1)
    run(config, tmp_path, Killing("step1-child1", MOST), workers=1)
    lines = {line["name"]: line for line in runs.read_ledger(tmp_path)}
    assert lines["step1-child1"]["failure"] == "its worker died (SIGKILL)"
    assert all("failure" not in line for name, line in lines.items() if name != "step1-child1")


FLAGS = [
    *("--preset=digits", "--widths=4,6", "--num_steps=2", "--num_neighbours=3"),
    *("--num_morphisms=2", "--max_flops=400000", "--epochs_pretrain=2", "--epochs_neighbours=2"),
    *("--epochs_final=2", "--cache_dir=none", "--checkpoint_seconds=0"),
]


def launch(workdir, *more):
    command = [sys.executable, "-m", "experiments.nash", *FLAGS, f"--workdir={workdir}", *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition, process):
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.mark.slow
def test_a_signal_ends_the_run_and_says_how_to_resume(tmp_path):
    process = launch(tmp_path / "run")
    wait_for((tmp_path / "run" / "trainings" / "step1-child1").exists, process)
    workers = children_of(process.pid)
    assert workers
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    last = errors.splitlines()[-1]
    assert last.startswith("stopped by SIGTERM; resume with: python -m experiments.nash ")
    assert last.endswith(f"--workdir={tmp_path / 'run'}")
    assert "Traceback" not in errors
    assert not any(pathlib.Path("/proc", str(pid)).exists() for pid in workers)


@pytest.mark.slow
def test_workers_end_when_the_run_is_killed(tmp_path):
    process = launch(tmp_path / "run")
    wait_for((tmp_path / "run" / "trainings" / "step1-child1").exists, process)
    workers = children_of(process.pid)
    assert workers
    process.kill()
    process.communicate()
    start = time.monotonic()
    while any(pathlib.Path("/proc", str(pid)).exists() for pid in workers):
        assert time.monotonic() - start < 30
        time.sleep(0.02)


@pytest.mark.slow
def test_a_run_that_is_killed_while_it_writes_ends_as_one_that_is_not(tmp_path):
    """A short form of `benchmarks.faults`."""
    sizes = "--num_steps=1", "--num_neighbours=2", "--num_morphisms=1", "--max_train_examples=320"
    short = [*crashing.SETTINGS, *sizes]

    def launched(name, workers, crash_at=""):
        return crashing.finish(crashing.launch(tmp_path / name, workers, crash_at, short))

    assert launched("undisturbed", 2) == 0
    assert launched("killed", 1, "ledger line half written:2") == -signal.SIGKILL
    assert launched("killed", 2) == 0
    assert crashing.content(tmp_path / "killed") == crashing.content(tmp_path / "undisturbed")
