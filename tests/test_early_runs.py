"""Runs that version 0.1.0 wrote at commit 603c823, in tests/early, are read as they were meant."""

import json
import pathlib
import shutil

import numpy as np
import pytest
import safetensors.numpy
from helpers import Silent, run

import nash_jax as nj
from nash_jax import cli, data, runs
from nash_jax.record.workdir import background_of, read_config

EARLY = pathlib.Path(__file__).parent / "early"
NAMES = ["search", "alone"]


@pytest.fixture(params=NAMES)
def workdir(request, tmp_path):
    return shutil.copytree(EARLY / request.param, tmp_path / request.param)


def test_its_networks_give_the_same_logits(workdir):
    spec, variables = nj.load(workdir)
    images = data.load_dataset("digits").test.images[:3]
    logits = np.load(workdir / "logits.npy")
    np.testing.assert_allclose(nj.apply(spec, variables, images), logits, rtol=1e-5, atol=1e-5)


def test_it_is_shown_reported_and_exported(workdir, tmp_path, capsys):
    cli.main(["show", str(workdir)])
    accuracy = json.loads((workdir / "result.json").read_text())["test_accuracy"]
    assert f"{accuracy:.2%}" in capsys.readouterr().out
    cli.main(["report", str(workdir), f"--out={tmp_path / 'report.html'}"])
    assert f"{accuracy:.2%}" in (tmp_path / "report.html").read_text()
    cli.main(["compare", str(workdir)])
    cli.main(["card", str(workdir)])
    assert f"{accuracy:.2%}" in capsys.readouterr().out
    cli.main(["export", str(workdir), "--format=weights", f"--out={tmp_path / 'out'}"])
    weights = safetensors.numpy.load_file(tmp_path / "out" / "weights.safetensors")
    _, variables = nj.load(workdir)
    np.testing.assert_array_equal(
        weights["params/dense/kernel"], variables["params"]["dense"]["kernel"]
    )
    assert background_of(workdir) is None


@pytest.mark.parametrize("lost", ["", "config.json"])
def test_its_networks_would_be_others_now_and_so_it_does_not_go_on(lost, tmp_path):
    """The chain's flattened map has had a constant length since."""
    workdir = shutil.copytree(EARLY / "alone", tmp_path / "alone")
    config = runs.config_of(read_config(workdir))
    if lost:
        (workdir / lost).unlink()
    with pytest.raises(runs.StoppedError, match="model_0 was made in another way than is proposed"):
        run(config, workdir, Silent(), provenance=runs.provenance())
    for path in (EARLY / "alone" / "networks").iterdir():
        assert (workdir / "networks" / path.name).read_bytes() == path.read_bytes()
    name = "ledger.jsonl"
    assert (workdir / name).read_bytes() == (EARLY / "alone" / name).read_bytes()


def test_other_settings_are_refused_with_all_that_may_be_the_reason(tmp_path):
    workdir = shutil.copytree(EARLY / "alone", tmp_path / "alone")
    config = runs.config_of(read_config(workdir)).replace(epochs_final=2)
    with pytest.raises(ValueError, match="epochs_final was 1, is 2; .* or go on with the version"):
        run(config, workdir, Silent())


def test_a_damaged_config_is_no_reason_to_lose_the_networks(tmp_path, capsys):
    workdir = shutil.copytree(EARLY / "alone", tmp_path / "alone")
    (workdir / "config.json").write_text("{")
    cli.main(["export", str(workdir), "--format=weights", f"--out={tmp_path / 'out'}"])
    assert (
        "config.json is damaged: it is not JSON; classes have no names" in capsys.readouterr().err
    )
    assert (tmp_path / "out" / "weights.safetensors").exists()
