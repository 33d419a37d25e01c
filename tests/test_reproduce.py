"""A run made again from its record: what agrees, what is decided by time, and what is refused."""

import contextlib
import dataclasses
import json
import pathlib
import shutil

import pytest
from helpers import TINY, Silent
from test_engine import CONFIGS, MadeUp
from test_planning import Clocked

import nash_jax as nj
from nash_jax import cli, launching, runs
from nash_jax.record.agreement import same_decisions, same_files, same_trials
from nash_jax.record.files import write_json
from nash_jax.record.ledger import append_line, ledger_in, parse_ledger
from nash_jax.record.lines import EXTENSION
from nash_jax.runs import run as run_module
from nash_jax.runs.reproduction import reproduce
from nash_jax.runs.trials import Trials

EARLY = pathlib.Path(__file__).parent / "early"


@pytest.fixture
def made(monkeypatch):
    """Makes and reproduces runs with an executor, without training and pictures."""
    digits = nj.data.load_dataset("digits")
    monkeypatch.setattr(run_module, "write_result", lambda *_: None)

    def by(executor, of, *args, more_minutes=0.0, **options):
        def executors(run, tell, at_once, devices, lengths):
            del run, tell, at_once, devices
            executor.lengths = lengths
            return executor, executor

        monkeypatch.setattr(run_module, "_executors", executors)
        with monkeypatch.context() as patch:
            if isinstance(executor, Clocked):
                patch.setattr(Trials, "elapsed", lambda self: executor.now)
            if isinstance(of, pathlib.Path):
                return reproduce(of, *args, dataset=digits, **options)
            with runs.open_run(of, *args, dataset=digits, **options) as opened:
                return runs.execute(opened, Silent(), more_minutes=more_minutes)

    return by


class Luckier(MadeUp):
    """Finds another accuracy for one trial."""

    def __init__(self, name):
        super().__init__()
        self.name = name

    def done(self):
        for name, outcome in super().done():
            if name == self.name:
                estimate = dataclasses.replace(outcome.estimate, accuracy=0.123)
                outcome = outcome._replace(estimate=estimate)
            yield name, outcome


@pytest.mark.parametrize("name", ["aging_evolution", "one_shot"])
def test_a_run_that_is_made_again_is_the_same_and_a_difference_is_named(made, name, tmp_path):
    workdir = tmp_path / "run"
    made(MadeUp(), CONFIGS[name], workdir, keep_all=name == "aging_evolution")
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    again = made(MadeUp(), workdir)
    assert again.workdir == tmp_path / "run-again"
    assert again.first is None
    assert [part.number for part in again.parts] == [
        len(runs.read_ledger(workdir)),
        len(ledger_in(workdir).decisions),
        len(list((workdir / "networks").iterdir())),
    ]
    assert "all is the same, bit by bit" in str(again)
    last = runs.read_ledger(workdir)[-2]["name"]
    other = made(Luckier(last), workdir, tmp_path / "other")
    assert str(other.first).startswith(f"{last}: validation_accuracy was ")
    assert str(other.first).endswith(" is 0.123")
    assert before == {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}


def test_what_was_decided_by_time_is_decided_by_the_time_of_the_record(made, tmp_path):
    config = TINY.replace(minutes=1.0, num_steps=9)
    fast = Clocked(lambda epoch: 1.0 if epoch < 9 else 2.0, search=4.0)
    made(fast, config, tmp_path / "run")
    assert 1 < len(runs.read_ledger(tmp_path / "run")) < 1 + 9 * 3 + 1  # the time has ended it
    assert ledger_in(tmp_path / "run").timings
    made(Clocked(lambda epoch: 7.0, search=11.0), config, tmp_path / "slow")
    assert len(runs.read_ledger(tmp_path / "slow")) < len(runs.read_ledger(tmp_path / "run"))
    with pytest.raises(KeyboardInterrupt):
        made(Clocked(lambda epoch: 7.0, stop_at=3, search=11.0), tmp_path / "run")
    again = made(Clocked(lambda epoch: 7.0, search=11.0), tmp_path / "run")
    assert again.first is None
    own = [trial.elapsed for trial in again.result.history[:-1]]
    assert all(seconds % 11 == 0 for seconds in own)  # its own times are recorded
    assert made(Clocked(lambda epoch: 0.1), again.workdir).first is None


def test_more_minutes_are_reproduced_too(made, tmp_path):
    workdir, config = tmp_path / "run", TINY.replace(minutes=1.0, num_steps=9)
    begun = workdir / "trainings" / "final"
    with pytest.raises(KeyboardInterrupt):
        made(Clocked(lambda epoch: 2.0, search=9.0, stop_at=2), config, workdir)
    begun.mkdir()  # it was to have another length
    with pytest.raises(KeyboardInterrupt):
        made(Clocked(lambda epoch: 2.0, search=9.0, stop_at=2), config, workdir, more_minutes=1.0)
    assert not begun.exists()
    made(Clocked(lambda epoch: 2.0, search=9.0), config, workdir)
    again = made(Clocked(lambda epoch: 0.01, search=0.01), workdir)
    assert again.first is None
    assert made(Clocked(lambda epoch: 9.0), again.workdir).first is None
    # A repetition that goes on for itself has had as much time as the run that it repeated.
    then = ledger_in(workdir).trials["final"]["elapsed"]
    with runs.open_run(config, again.workdir, dataset=nj.data.load_dataset("digits")) as opened:
        trials = Trials(opened, Silent(), None, None, workers=1)
        assert ledger_in(again.workdir).trials["final"]["elapsed"] < then <= trials.elapsed()
    append_line(workdir, {"kind": EXTENSION, "minutes": 1.0, "elapsed": 1e4, "config": "x"})
    with pytest.raises(ValueError, match="finished; .* unfinished, .* so far; go on"):
        reproduce(workdir)


def test_what_is_there_of_a_final_training_that_is_made_anew_is_kept(made, tmp_path):
    workdir, config = tmp_path / "run", TINY.replace(minutes=1.0, num_steps=1)
    made(Clocked(lambda epoch: 2.0), config, workdir)
    with contextlib.suppress(KeyboardInterrupt):
        made(Clocked(lambda epoch: 2.0, stop_at=2), config, workdir, more_minutes=1.0)
    begun = workdir / "trainings" / "final"
    begun.mkdir()
    with runs.open_run(config, workdir, dataset=nj.data.load_dataset("digits")):
        assert begun.exists()
    made(Clocked(lambda epoch: 2.0), config, workdir)
    begun.mkdir()  # as if it had been stopped before it was removed
    with runs.open_run(config, workdir, dataset=nj.data.load_dataset("digits")):
        assert not begun.exists()


@pytest.fixture
def run_and_refused(made, tmp_path):
    """A finished run, and a check that it is refused with a message and nothing is written."""
    made(MadeUp(), TINY.replace(num_steps=1), tmp_path / "run")

    def refused(message, workdir=tmp_path / "run", **options):
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        with pytest.raises(ValueError, match=message) as told:
            reproduce(workdir, **options)
        assert "\n" not in str(told.value)
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before

    return tmp_path / "run", refused


def test_a_folder_that_is_in_use_or_the_run_s_own_is_refused(run_and_refused, tmp_path):
    workdir, refused = run_and_refused
    refused("run-2 is neither; choose another", out=shutil.copytree(workdir, tmp_path / "run-2"))
    refused("out must not lie in .*run, which is only read; got", out=workdir / "again")
    refused("is neither; choose another", out=tmp_path / "run-2" / "config.json")


def test_other_data_are_refused_with_both_fingerprints(run_and_refused, tmp_path):
    _, refused = run_and_refused
    digits = nj.data.load_dataset("digits")
    other = dataclasses.replace(digits, test=digits.train)
    prints = f"have the fingerprint {digits.fingerprint()}; digits has {other.fingerprint()}; give"
    refused(f"run cannot be reproduced here: its data {prints}", dataset=other)
    refused(
        "no file none.npz.*; if its data, of fingerprint .* give --dataset", dataset="npz:none.npz"
    )
    refused("model_0 none.json cannot be read", model_0="none.json")


def test_a_run_that_is_not_finished_or_not_whole_is_refused(run_and_refused):
    workdir, refused = run_and_refused
    whole = (workdir / "ledger.jsonl").read_text()
    (workdir / "ledger.jsonl").write_text(whole.replace('"step": 1', '"step": 2', 1))
    refused("from a whole record; in .*run line . of ledger.jsonl is damaged: .* makes again what")
    *_, final, decision = whole.splitlines(keepends=True)
    assert "final" in final + decision
    (workdir / "ledger.jsonl").write_text("".join(whole.splitlines(keepends=True)[:-1]))
    refused("run is unfinished, 4 networks so far; go on with it by its own command and --workdir")


def test_what_another_version_or_another_program_made_is_refused(run_and_refused, tmp_path):
    workdir, refused = run_and_refused
    early = shutil.copytree(EARLY / "alone", tmp_path / "alone")
    refused(
        "alone cannot be reproduced here: the ledger's model_0 was made in another way than is "
        "proposed now; take the versions that began the run",
        early,
    )
    about = json.loads((workdir / "config.json").read_text())
    del about["checksum"]
    about["settings"]["strategy"]["strategy"] = "best_first"
    write_json(workdir / "config.json", about)
    refused("of strategy 'best_first', which this program does not know; use the program that made")


def test_the_command_says_what_agrees_and_ends_with_1_if_not_all_does(
    run_and_refused, tmp_path, capsys, monkeypatch
):
    workdir, _ = run_and_refused
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(launching, "use_cache", lambda folder: None)

    def said(executor, *words):
        monkeypatch.setattr(run_module, "_executors", lambda *_: (executor, executor))
        cli.main(["reproduce", str(workdir), *words])

    said(MadeUp(), "--workers=1")
    *_, trials, decisions, networks, last = capsys.readouterr().out.splitlines()
    assert [trials.split(), decisions.split(), networks.split()] == [
        ["trials", "5", "5"], ["decisions", "2", "2"], ["networks", "3", "3"]
    ]  # fmt: skip
    assert "test accuracy" in last
    with pytest.raises(SystemExit) as end:
        said(Luckier("final"), f"--out={tmp_path / 'new'}")
    assert end.value.code == 1
    *_, last = capsys.readouterr().out.splitlines()
    assert "test accuracy 12.30%, in the record " in last
    assert "not the same; the first difference: final: test_accuracy was 0." in last


def test_files_are_compared_byte_for_byte(tmp_path):
    for folder, content in (("a", b"12345"), ("b", b"12x45")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.safetensors").write_bytes(content)
        (tmp_path / folder / "y.safetensors").write_bytes(b"1")
    (tmp_path / "a" / "z.safetensors").touch()
    names = ("x.safetensors", "y.safetensors", "z.safetensors")
    part = same_files("networks", tmp_path / "a", tmp_path / "b", names)
    assert part.number == 3
    assert {str(each) for each in part.differences} == {
        "x.safetensors: byte 2 was b'3', is b'x'",
        "z.safetensors: the file was 'there', is 'missing'",
    }


def test_all_of_a_line_is_compared_but_seconds_and_places():
    early = (EARLY / "search" / "ledger.jsonl").read_bytes()
    before, after = parse_ledger(early, "x"), parse_ledger(early, "x")
    name, *_, lost = list(after.trials)[1:]
    line = after.trials[name]
    line.update(elapsed=0.0, seconds={}, workers=9, recipe="brief", index=3, proposal="p")
    after.trials[name] = line
    assert same_trials(before, after).differences == ()
    after.trials[name] = {**line, "train_losses": [*line["train_losses"], 0.5]}
    (found,) = same_trials(before, after).differences
    assert (found.of, found.field) == (line["name"], "the length of train_losses")
    del after.trials[lost]
    assert {each.of for each in same_trials(before, after).differences} == {line["name"], lost}
    after.decisions[1] = {"step": 1, "incumbent": "a", "returned": []}
    assert same_decisions(before, after).number == 1
