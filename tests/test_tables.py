"""Searches in tables: reading tables, the clock, what is written, and what is wrong."""

import csv
import dataclasses
import json
import re

import numpy as np
import pytest
from absl.testing import flagsaver

from nash_jax import cli, estimation, runs, search_flags
from nash_jax.estimation import Table
from nash_jax.runs import tables
from nash_jax.spaces import NB201, NBMacro


@pytest.fixture
def made_up(tmp_path):
    """A table of all 15,625 cells: the more 3x3 convolutions the better, and the slower."""
    arch = np.array(list(NB201().all()), np.uint8)
    convolutions = (arch == 3).sum(axis=1)
    path = tmp_path / "made.npz"
    np.savez(
        path,
        arch=arch,
        a_val12=50.0 + convolutions,
        a_val200_r0=70.0 + convolutions,
        a_val200_r1=np.where(convolutions == 0, np.nan, 72.0 + convolutions),
        a_test200=60.0 + convolutions,
        a_sec200=100.0 * (1 + convolutions),
        b_val12=convolutions,
        b_test12=convolutions,
    )
    return path


def test_a_table_has_means_of_runs_and_shares_of_seconds(made_up):
    table = Table.load(made_up, data="a")
    row = table.row("330000")
    assert (table.validation[row], table.test[row]) == (52, 62)
    assert table.seconds[row] == 12 / 200 * 300
    estimate = table.estimate("330000")
    assert (estimate.accuracy, estimate.seconds.total) == (0.52, 18)
    later = Table.load(made_up, data="a", epochs=200)
    assert later.validation[row] == 73  # the mean of 72 and 74
    assert later.validation[later.row("000000")] == 70  # of the one run that there is
    assert later.seconds[row] == 300
    assert not Table.load(made_up, data="b").seconds.any()


def test_a_csv_file_with_runs_that_are_both_seen_and_judged_by(tmp_path):
    path = tmp_path / "chains.csv"
    path.write_text("arch,acc0,acc1,params\n00000000,45,47,1\n00000001,64,,2\n")
    table = Table.load(path)
    assert table.validation.tolist() == table.test.tolist() == [46, 64]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "every line of a table must have as many entries as the first"),
        ("arch,val\n00,1,2\n", "every line of a table must have as many entries as the first"),
        ("genotype,val,test\n00,1,2\n", "must have a column arch; .* has genotype, val, test"),
        ("arch,val\n00,1\n", "must have a column test; table.csv has arch, val"),
        ("arch,val,test\n00,one,2\n", "column val must have numbers"),
        ("arch,val,test\n00,1,2\n00,1,2\n", "every genotype must have one row; got '00' twice"),
        ("arch,a_val,a_test,b_val\n00,1,2,3\n", "table_data must be one of .* a, b; got ''"),
    ],
)
def test_a_table_that_is_none_is_one_line(tmp_path, content, message):
    path = tmp_path / "table.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        Table.load(path)


def test_a_file_that_is_no_table_is_one_line(tmp_path, made_up):
    with pytest.raises(ValueError, match="must be a file that ends with .npz or .csv"):
        Table.load(tmp_path / "table.pkl")
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        Table.load(tmp_path / "table.npz")
    (tmp_path / "broken.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match="is damaged"):
        Table.load(tmp_path / "broken.npz")
    np.savez(tmp_path / "pickled.npz", arch=np.array([object()]))
    with pytest.raises(ValueError, match="is damaged"):  # nothing is unpickled
        Table.load(tmp_path / "pickled.npz")
    with pytest.raises(ValueError, match="table_data must be one of .* a, b; got 'c'"):
        Table.load(made_up, data="c")
    with pytest.raises(ValueError, match="table_epochs must be one of 12, 200 .* got 50"):
        Table.load(made_up, data="a", epochs=50)
    with pytest.raises(ValueError, match="has none for '00000000'.* another space"):
        Table.load(made_up, data="a").estimate(NBMacro().code((0,) * 8))


def config_of(**settings):
    return runs.Config().replace(space="nb201", **settings)


def test_a_trial_that_would_end_after_the_limit_ends_the_search(made_up):
    table = Table.load(made_up, data="a")
    config = config_of(strategy="random_search", num_samples=50)
    found = tables.search_table(NB201(), config, table, seconds=100.0, seed=0)
    unlimited = tables.search_table(NB201(), config, table, seconds=0.0, seed=0)
    assert unlimited.trials == 50
    assert 100 - 12 / 200 * 700 < found.seconds <= 100
    more = dataclasses.replace(table, seconds=found.seconds / found.trials + 0 * table.seconds)
    exactly = tables.search_table(NB201(), config, more, seconds=found.seconds + 1e-9, seed=0)
    assert exactly.trials == found.trials
    with pytest.raises(ValueError, match="seconds must be at least .* got 1"):
        tables.search_table(NB201(), config, table, seconds=1.0, seed=0)


def test_the_best_by_validation_is_tested_whatever_its_test_value(made_up):
    table = Table.load(made_up, data="a")
    table = dataclasses.replace(table, test=-table.validation)
    found = tables.search_table(
        NB201(), config_of(strategy="random_search", num_samples=30), table, 0.0, seed=1
    )
    assert found.test == -found.validation
    assert found.tests == tuple(sorted(found.tests, reverse=True))


def test_a_bound_holds_in_a_table_too(made_up):
    table = Table.load(made_up, data="a")
    config = config_of(strategy="random_search", num_samples=30, max_params=800_000)
    found = tables.search_table(NB201(), config, table, 0.0, seed=1)
    # 73,306 and 28,000 or 243,040 for each convolution: at most two of 3x3 and six of 1x1.
    assert found.genotype.count("3") == 2
    config = config_of(strategy="successive_halving")
    with pytest.raises(ValueError, match="one value for every network; .* successive_halving"):
        tables.search_table(NB201(), config, table, 0.0, seed=1)
    config = config_of(strategy="darts")
    with pytest.raises(ValueError, match="values of networks; .* supernet, darts; take another"):
        tables.search_table(NB201(), config, table, 0.0, seed=1)


def test_a_number_that_is_missing_is_one_line(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("arch,val_r0,val_r1,test\n00,,,2\n01,1,,2\n")
    table = Table.load(path)
    assert table.validation[1] == 1
    with pytest.raises(ValueError, match="must have numbers for every genotype; some of '00'"):
        table.estimate("00")


def test_sizes_follow_from_the_limit_where_none_are_given(made_up):
    table = Table.load(made_up, data="a")
    config = tables.config_for(config_of(strategy="aging_evolution"), {}, table, 600.0)
    assert config.strategy.num_samples == 100  # of the fastest, 6 s each
    assert config.strategy.window == 1
    given = {"num_samples": 7, "window": 2}
    config = config_of(strategy="aging_evolution", **given)
    assert tables.config_for(config, given, table, 600.0) == config
    config = tables.config_for(config_of(strategy="hill_climbing"), {}, table, 600.0)
    assert config.strategy.num_steps * config.strategy.num_neighbours >= 100
    with pytest.raises(ValueError, match="needs a table with a column of seconds"):
        tables.config_for(config, {}, Table.load(made_up, data="b"), 600.0)


@pytest.fixture(autouse=True)
def _flags():
    """Flags are each test's own."""
    search_flags.define_flags()
    with flagsaver.flagsaver():
        yield


def search(*words):
    """`nash search` with these words; what it ends with, if that is an error."""
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as end:
        cli.main(["search", *words])
    return str(end.value.code or "")


def test_the_command_writes_means_regret_and_a_picture(made_up, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common = ["--space=nb201", f"--table={made_up}", "--table_data=a", "--seconds=600"]
    results = {}
    for name, more in (
        ("aging_evolution", ["--strategy.population=10", "--strategy.tournament=3"]),
        ("random_search", []),
    ):
        words = [f"--strategy={name}", "--repeats=20", f"--workdir={name}"]
        assert search(*common, *words, *more) == ""
        assert capsys.readouterr().out.splitlines()[-1].startswith(f"{name}: test accuracy")
        results[name] = json.loads((tmp_path / name / "result.json").read_text())
        with (tmp_path / name / "repeats.csv").open() as lines:
            tests = [float(line["test"]) for line in csv.DictReader(lines)]
        assert results[name]["test"]["mean"] == pytest.approx(np.mean(tests), abs=1e-4)
        assert results[name]["test"]["std"] == pytest.approx(np.std(tests, ddof=1), abs=1e-4)
        regret = np.loadtxt(tmp_path / name / "regret.csv", delimiter=",", skiprows=1)
        assert regret[-1, 1] == pytest.approx(66 - np.mean(tests), abs=1e-4)
        assert (np.diff(regret[:, 1]) <= 1e-9).all()
    assert results["aging_evolution"]["test"]["mean"] > results["random_search"]["test"]["mean"]
    cli.main(["compare", *results, "--png=both.png"])
    assert capsys.readouterr().out.count("20 searches") == 2
    assert (tmp_path / "both.png").read_bytes().startswith(b"\x89PNG")
    again = search(*common, "--strategy=random_search", "--workdir=random_search")
    assert "workdir must be new or empty for a search in a table" in again


def test_searches_in_a_table_are_made_again_from_their_record(made_up, tmp_path):
    settings = {"strategy": "aging_evolution", "population": 4, "tournament": 2, "seed": 3}
    given = config_of(**settings)
    searched = {"data": "a", "seconds": 300.0, "repeats": 3}
    tables.run_in_table(given, settings, tmp_path / "run", str(made_up), **searched)
    again = runs.reproduce(tmp_path / "run")
    assert again.first is None
    assert again.recorded == again.found > 0.6
    moved = made_up.rename(tmp_path / "moved.npz")
    with pytest.raises(ValueError, match="run cannot be reproduced here: .*made.npz .* give where"):
        runs.reproduce(tmp_path / "run", tmp_path / "other")
    assert runs.reproduce(tmp_path / "run", tmp_path / "other", str(moved)).first is None
    np.savez(moved, **{**np.load(moved), "a_sec200": np.full(15_625, 100.0)})
    with pytest.raises(ValueError, match="moved.npz has the fingerprint .*; give where its table"):
        runs.reproduce(tmp_path / "run", tmp_path / "third", str(moved))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seconds=9"], "seconds is for a search in a table; got no --table"),
        (["--repeats=2"], "repeats is for a search in a table; got no --table"),
        (["--table=TABLE", "--table_data=a"], "needs a space of genotypes, .* got morphs"),
        (["--table=TABLE", "--minutes=2"], "minutes is for searches that train; got 2"),
    ],
)
def test_flags_that_need_each_other_are_one_line(made_up, tmp_path, words, message):
    words = [word.replace("TABLE", str(made_up)) for word in words]
    assert re.search(message, search(*words, f"--workdir={tmp_path / 'run'}"))


def test_a_table_is_a_public_name():
    assert estimation.Table is Table
