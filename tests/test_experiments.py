"""The launchers of tables and figures, on small searches: what they run, share and report."""

import csv
import dataclasses
import json
import math
import pathlib
import tempfile

import jax
import numpy as np
import pytest
import rich.console
from absl import flags
from absl.testing import flagsaver

import nash_jax as nj
from experiments import baselines, ensembles, figure2, figure3, study, table1, table2, table3
from nash_jax import data, runs, training

CACHE = tempfile.TemporaryDirectory()
TINY = (
    *("--preset=digits", "--widths=4,6", "--num_steps=1", "--num_neighbours=2", "--workers=1"),
    *("--num_morphisms=1", "--epochs_pretrain=1", "--epochs_neighbours=1", "--epochs_final=2"),
    *("--progress=quiet", "--repeats=2", "--max_train_examples=400"),
)


def launch(launcher, *args):
    """Run a launcher in this process."""
    with flagsaver.flagsaver():
        flags.FLAGS([launcher.__name__, f"--cache_dir={CACHE.name}", *args])
        launcher.main([launcher.__name__])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a study of two seeds, for which table 1 was made."""
    path = tmp_path_factory.mktemp("study") / "tiny"
    launch(table1, *TINY, f"--workdir={path}")
    return path


def read_csv(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_table_1_has_the_paper_s_rows_beside_what_its_runs_gave(folder):
    rows = read_csv(folder / "table1.csv")
    assert [row["paper: error %"] for row in rows] == [
        *("5.7 ± 0.35", "6.5 ± 0.76", "6.1 ± 0.92", "6.4 ± 0.70", "6.1 ± 0.30")
    ]
    names = ["hill_climbing", "random", "from_scratch", "constant_*", "no_morphism"]
    for row, name in zip(rows, names):
        finished = sorted(folder.glob(f"{name}-seed*/result.json"))
        errors = [100 * (1 - json.loads(f.read_text())["test_accuracy"]) for f in finished]
        assert len(errors) == int(row["n"]) == (6 if name.startswith("constant") else 2)
        mean, deviation = np.mean(errors), np.std(errors, ddof=1)
        assert row["error %"] == f"{mean:.2f} ± {deviation:.2f}"
    page = (folder / "table1.md").read_text()
    assert "fingerprint" in page
    assert "400 training images; recipe paper; seeds 0, 1." in page
    assert all(cell in page for cell in rows[0].values())
    assert (folder / "table1.png").read_bytes().startswith(b"\x89PNG")


def test_the_rows_of_table_1_differ_in_what_they_say(folder):
    def setting(name, key):
        return json.loads((folder / name / "config.json").read_text())[key]

    assert setting("random-seed1", "num_neighbours") == 1
    assert setting("no_morphism-seed0", "inherit") == "by_name"
    rates = [setting(f"constant_{rate}-seed0", "constant_lr") for rate in ("0.01", "0.025", "0.05")]
    assert rates == [0.01, 0.025, 0.05]
    assert setting("hill_climbing-seed0", "constant_lr") == 0
    for seed in (0, 1):
        found, _ = nj.load(folder / f"hill_climbing-seed{seed}")
        again, _ = nj.load(folder / f"from_scratch-seed{seed}")
        assert found == again
        (first, last) = runs.read_ledger(folder / f"from_scratch-seed{seed}")
        assert (first["train_losses"], len(last["train_losses"])) == ([], 1 + 1 + 2)


def test_figures_are_made_of_the_runs_that_are_there(folder):
    before = sorted(path.name for path in folder.glob("*-seed*"))
    launch(figure2, *TINY, f"--workdir={folder}")
    launch(figure3, *TINY, f"--workdir={folder}")
    assert sorted(path.name for path in folder.glob("*-seed*")) == before
    by_step = read_csv(folder / "figure2.csv")
    assert [(row["training of children"], row["step"], row["n"]) for row in by_step] == [
        *(("SGDR", "0", "2"), ("SGDR", "1", "2")),
        *(("constant rate", "0", "6"), ("constant rate", "1", "6")),
    ]
    views = [runs.read_run(folder / f"hill_climbing-seed{seed}") for seed in (0, 1)]
    best = [100 * (1 - view.chosen[1]["validation_accuracy"]) for view in views]
    assert by_step[1]["validation error %"] == f"{np.mean(best):.2f}"
    assert by_step[1]["standard deviation"] == f"{np.std(best, ddof=1):.2f}"
    annealed, constant = read_csv(folder / "figure3.csv")
    assert (annealed["runs"], constant["runs"]) == ("4", "6")
    assert annealed["paper: R^2"] == "0.64"
    for name in ("figure2", "figure3"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_r_squared_by_hand():
    points = np.array([[1.0, 2.0, 3.0], [1.0, 3.0, 2.0]])
    assert figure3.r_squared(points) == pytest.approx(0.25)


@pytest.mark.slow
def test_table_2_averages_the_snapshots_of_each_run_and_all_runs(folder):
    launch(table2, *TINY, f"--workdir={folder}")
    rows = read_csv(folder / "table2.csv")
    assert [row["n"] for row in rows] == ["2", "2", "2", "2", "2", "1"]
    assert rows[2]["setting"] == "n_steps = 2, n_neigh = 2"
    errors = []
    test = data.load_dataset("digits").test
    for seed in (0, 1):
        view = runs.read_run(folder / f"long-seed{seed}")
        trained = folder / f"snapshot1-long-seed{seed}"
        # It goes on from the weights that the search left.
        start = runs.read_ledger(trained)[0]
        assert start["validation_accuracy"] == view.chosen[1]["validation_accuracy"]
        together = training.ensemble([nj.load(trained), nj.load(view.workdir)], test)
        errors.append(100 * (1 - together.accuracy))
    assert rows[3]["every error %"] == " ".join(f"{error:.2f}" for error in errors)
    both = [nj.load(folder / f"long-seed{seed}") for seed in (0, 1)]
    error = 100 * (1 - training.ensemble(both, test).accuracy)
    assert rows[5]["every error %"] == f"{error:.2f}"
    launch(table3, *TINY, f"--workdir={folder}")
    found = read_csv(folder / "table3.csv")
    assert [row["every error %"] for row in found] == [row["every error %"] for row in rows[2:]]
    assert [row["paper: error %"] for row in found] == ["23.4", "20.9", "", "19.6"]


@pytest.mark.slow
def test_baselines_cost_what_the_searches_cost(folder):
    args = *TINY, f"--workdir={folder}", "--rows=hill_climbing,random_search,wrn-28-10"
    launch(baselines, *args)
    ours, searched, wide = read_csv(folder / "baselines.csv")
    assert wide["setting"] == "wrn-28-10, of which one epoch costs more"
    assert wide["error %"] == "not measured"
    assert int(ours["n"]) == int(searched["n"]) == 2
    for line in runs.read_ledger(folder / "random_search-seed0"):
        if line["kind"] == "child":
            assert len(line["edits"]) <= 1


def test_other_settings_in_the_folder_of_a_study_are_refused(folder):
    with pytest.raises(SystemExit, match="error: the run in .* epochs_final was 2, is 3"):
        launch(table1, *TINY, f"--workdir={folder}", "--epochs_final=3")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--rows=all"], "rows must be among hill_climbing, random, .*; got all"),
        (["--repeats=-1"], "repeats must be >= 0; got -1"),
        (["--workdir=/dev/null/x"], "workdir /dev/null/x cannot be used: Not a directory"),
    ],
)
def test_a_mistake_is_one_clear_line(args, message, tmp_path):
    with pytest.raises(SystemExit, match="error: " + message):
        launch(table1, *TINY, f"--workdir={tmp_path / 'new'}", *args)
    assert not list(tmp_path.rglob("ledger.jsonl"))


@pytest.fixture
def fresh(tmp_path):
    """A study without runs."""
    config = runs.Config(**runs.PRESETS["digits"])
    console = rich.console.Console(quiet=True)
    return study.Study(config, tmp_path, data.load_dataset("digits"), [0, 1], console)


def test_a_run_that_cannot_be_trained_is_said_and_the_others_go_on(fresh, monkeypatch):
    tried = []

    def perform(config, workdir, console, dataset, quiet):
        tried.append(workdir.name)
        raise runs.StoppedError("all children of step 1 failed")

    monkeypatch.setattr(study.launching, "perform", perform)
    with flagsaver.flagsaver():
        flags.FLAGS(["x"])
        row = table1.random_networks(fresh)
        assert study.cells_of(row)[4:] == ["not measured", "0", "", "", "", ""]
        assert not table1.random_networks(fresh).outcomes
        assert tried == ["random-seed0", "random-seed1"]
        assert fresh.about().count("Not finished: random-seed") == 2
        study.errors_figure([row], "nothing")


def test_cells_by_hand():
    outcomes = [study.Outcome(5.0, 1e6, 60, 2e12), study.Outcome(7.0, 3e6, 120, 4e12)]
    row = study.Row("ours", study.Paper(5.7, 0.35, 12.8, 5.7), outcomes)
    assert study.cells_of(row) == [
        *("ours", "5.7 ± 0.35", "12.8", "5.7"),
        *(f"6.00 ± {math.sqrt(2):.2f}", "2", "2.00", "1.5", "3.0", "5.00 7.00"),
    ]


def test_the_cost_of_training_by_hand(fresh):
    view = runs.RunView(
        pathlib.Path("x"),
        fresh.config,
        {},
        [
            {"kind": kind, "spec": spec, "train_losses": epochs * [0.0]}
            for kind, spec, epochs in (("child", SPEC, 2), ("final", SPEC, 3))
        ],
    )
    flops = nj.count_flops(nj.chain((8, 8, 1), 10, (3,)))
    images = 1437
    expected = 3 * flops * (2 * 0.8 * images + 3 * images)
    assert fresh.training_flops(view) == pytest.approx(expected)
    few = dataclasses.replace(fresh, config=dataclasses.replace(fresh.config, max_train_examples=7))
    assert few.training_flops(view) == pytest.approx(expected / images * 7)


SPEC = json.loads(nj.to_json(nj.chain((8, 8, 1), 10, (3,))))


def test_an_ensemble_costs_what_its_members_cost(fresh, monkeypatch):
    spec = nj.chain((8, 8, 1), 10, (3,))
    networks = {n: (spec, nj.init(spec, jax.random.key(n))) for n in (0, 1)}
    monkeypatch.setattr(ensembles, "load", lambda workdir: networks[int(workdir.name)])
    line = {
        **{"kind": "final", "name": "final", "parent": "model_0", "step": 0, "spec": SPEC},
        **{"train_losses": [0.0], "test_accuracy": 0.1, "params": 100, "elapsed": 5.0},
    }
    members = [runs.RunView(pathlib.Path(str(n)), fresh.config, {}, [line]) for n in networks]
    found = ensembles.together(fresh, members, [0.0, 1.0])
    alone = training.evaluate(*networks[1], fresh.dataset.test)
    assert found.error == pytest.approx(100 * (1 - alone.accuracy))
    assert (found.params, found.seconds) == (200, 10.0)
