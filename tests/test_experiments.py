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
from experiments import (
    baselines,
    ensembles,
    figure2,
    figure3,
    protocols,
    space_columns,
    space_study,
    space_trainings,
    study,
    table1,
    table2,
    table3,
    tables,
)
from nash_jax import cli, data, runs, search_flags, training
from nash_jax.estimation import Estimate, Seconds
from nash_jax.execution import Serial
from nash_jax.search import Proposal, Trial

CACHE = tempfile.TemporaryDirectory()
TINY = (
    *("--preset=digits", "--widths=4,6", "--num_steps=1", "--num_neighbours=2", "--workers=1"),
    *("--num_morphisms=1", "--epochs_pretrain=1", "--epochs_neighbours=1", "--epochs_final=2"),
    *("--progress=quiet", "--repeats=2", "--max_train_examples=400"),
)


@pytest.fixture(autouse=True, scope="module")
def _in_this_process():
    """Dozens of searches: the processes of their workers would take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "nash_jax.runs.places.Processes", lambda images, tools, *_: Serial(images, tools)
        )
        yield


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
    assert [float(row["paper_error_percent"]) for row in rows] == [5.7, 6.5, 6.1, 6.4, 6.1]
    assert [float(row["paper_error_std"]) for row in rows] == [0.35, 0.76, 0.92, 0.70, 0.30]
    assert [row["paper_runs"] for row in rows] == ["10", "30", "10", "30", "10"]
    assert {(row["dataset"], row["recipe"]) for row in rows} == {("digits", "paper")}
    assert all("CPU cores, jax" in row["device"] for row in rows)
    names = ["hill_climbing", "random", "from_scratch", "constant_*", "no_morphism"]
    for row, name in zip(rows, names):
        finished = sorted(folder.glob(f"{name}-seed*/result.json"))
        errors = [100 * (1 - json.loads(f.read_text())["test_accuracy"]) for f in finished]
        assert len(errors) == int(row["n"]) == (6 if name.startswith("constant") else 2)
        assert float(row["error_percent"]) == pytest.approx(np.mean(errors))
        assert float(row["error_std"]) == pytest.approx(np.std(errors, ddof=1))
    page = (folder / "table1.md").read_text()
    assert "# Table 1: n_steps = 1, digits, recipe paper" in page
    assert "fingerprint" in page
    assert "400 training images; recipe paper; seeds from 0 on." in page
    mean, deviation = float(rows[0]["error_percent"]), float(rows[0]["error_std"])
    assert (
        f"| n_neigh = 2 | 5.7 ± 0.35 | 10 | 12.8 | 5.7 | {mean:.2f} ± {deviation:.2f} | 2" in page
    )
    assert (folder / "table1.png").read_bytes().startswith(b"\x89PNG")


def test_the_rows_of_table_1_differ_in_what_they_say(folder):
    def setting(name, key):
        return runs.read_run(folder / name).config.values()[key]

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
    assert [(row["training_of_children"], row["step"], row["n"]) for row in by_step] == [
        *(("SGDR", "0", "2"), ("SGDR", "1", "2")),
        *(("constant rate", "0", "2"), ("constant rate", "1", "6")),  # two seeds, three rates
    ]
    views = [runs.read_run(folder / f"hill_climbing-seed{seed}") for seed in (0, 1)]
    best = [100 * (1 - view.chosen[1].accuracy) for view in views]
    assert float(by_step[1]["validation_error_percent"]) == pytest.approx(np.mean(best))
    assert float(by_step[1]["validation_error_std"]) == pytest.approx(np.std(best, ddof=1))
    points = read_csv(folder / "figure3.csv")
    groups = [row["training_of_children"] for row in points]
    assert [groups.count(name) for name in dict.fromkeys(groups)] == [2, 4, 6]
    assert points[0]["run"] == "hill_climbing-seed0"
    final = views[0].final.accuracy
    assert float(points[0]["test_accuracy_percent"]) == pytest.approx(100 * final)
    assert points[0]["paper_r_squared"] == "0.64"
    for name in ("figure2", "figure3"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_correlation_by_hand():
    points = np.array([[1.0, 2.0, 3.0], [1.0, 3.0, 2.0]])
    assert figure3.correlation(points) == pytest.approx(0.5)
    assert figure3.correlation(-points[::-1] * [[1], [-1]]) == pytest.approx(-0.5)
    assert figure3.correlation(points[:, :2]) is None  # any two points lie on a line
    assert figure3.correlation(np.array([[1.0, 1.0, 1.0], [1.0, 3.0, 2.0]])) is None


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
        assert start["validation_accuracy"] == view.chosen[1].accuracy
        together = training.ensemble([nj.load(trained), nj.load(view.workdir)], test)
        errors.append(100 * (1 - together.accuracy))
    assert rows[3]["every_error_percent"] == " ".join(f"{error:.2f}" for error in errors)
    both = [nj.load(folder / f"long-seed{seed}") for seed in (0, 1)]
    error = 100 * (1 - training.ensemble(both, test).accuracy)
    assert rows[5]["every_error_percent"] == f"{error:.2f}"
    launch(table3, *TINY, f"--workdir={folder}")
    found = read_csv(folder / "table3.csv")
    errors = [row["every_error_percent"] for row in rows]
    assert [row["every_error_percent"] for row in found] == errors[2:]
    assert [row["paper_error_percent"] for row in found] == ["23.4", "20.9", "", "19.6"]


def cost(lines):
    """FLOPs of all trainings, up to a factor that runs of the same data share."""
    return sum(
        line["flops"] * len(line["train_losses"]) * (1 if line["kind"] == "final" else 0.8)
        for line in lines
    )


@pytest.mark.slow
def test_baselines_cost_what_the_searches_cost(folder):
    args = *TINY, f"--workdir={folder}", "--rows=hill_climbing,random_search,wrn-28-10"
    launch(baselines, *args)
    # Some of the rows do not write over the whole table.
    ours, searched, wide = read_csv(folder / "baselines-hill_climbing-random_search-wrn-28-10.csv")
    assert (wide["setting"], wide["n"], wide["error_percent"]) == ("wrn-28-10, 0 epochs", "0", "")
    made = sorted(folder.glob("random_search-seed*"))
    assert (int(ours["n"]), int(searched["n"])) == (2, len(made))
    assert searched["setting"].startswith("best of ")
    for path in made:
        search = runs.read_ledger(folder / path.name.replace("random_search", "hill_climbing"))
        ours = runs.read_ledger(path)
        assert cost(ours) <= 2 * cost(search)  # what they cost on average is a guess
        assert all(len(line["edits"]) <= 1 for line in ours if line["kind"] == "child")


PROTOCOLS = (
    *("--preset=digits", "--space=darts", "--channels=2", "--cells=1", "--genotypes=1"),
    *(
        "--epochs_final=1",
        "--max_train_examples=200",
        "--batch_size=50",
        "--progress=quiet",
        "--repeats=1",
    ),
)


def test_protocols_are_runs_of_the_same_networks(tmp_path):
    launch(protocols, *PROTOCOLS, "--rows=base,C", f"--workdir={tmp_path}")
    base, cut = (runs.read_run(tmp_path / f"{name}-genotype0-seed0") for name in ("base", "C"))
    assert base.final.spec == cut.final.spec
    differing = set(base.config.values().items()) - set(cut.config.values().items())
    assert differing == {("cutout", 0)}
    assert cut.config.values()["cutout"] == 4  # of 8 pixels, as 16 of 32
    rows = read_csv(tmp_path / "protocols-base-C.csv")
    assert [(row["protocol"], row["n"]) for row in rows] == [("base", "1"), ("C", "1")]
    assert [row["paper_accuracy_percent"] for row in rows] == ["94.96", "96.39"]
    found = [float(row["accuracy_percent"]) for row in rows]
    assert found == pytest.approx([100 * base.final.accuracy, 100 * cut.final.accuracy])
    assert (tmp_path / "protocols-base-C.png").read_bytes().startswith(b"\x89PNG")


def test_all_protocols_of_two_kinds_of_networks(tmp_path, monkeypatch):
    asked = {}

    def perform(config, workdir, console, dataset, quiet, since):
        asked[workdir.name] = config.values()
        raise runs.StoppedError("not now")

    monkeypatch.setattr(study.launching, "perform", perform)
    launch(protocols, *PROTOCOLS, "--resnet50=4", "--genotypes=2", f"--workdir={tmp_path}")
    assert len(asked) == 10 * 2 + 8 * 2  # ResNet-50 has no number of channels for 50C
    assert len({asked[f"base-genotype{n}-seed0"]["first"] for n in (0, 1)}) == 2
    most = asked["C+D+A+AA+50C+1500E-genotype1-seed0"]
    assert (most["auto_augment"], most["epochs_final"], most["search_channels"]) == (True, 2, 3)
    deep = asked["D-resnet50-4-seed1"]
    assert (deep["drop_path"], deep["drop_path_by_depth"]) == (0.2, True)
    assert not asked["D-genotype0-seed0"]["drop_path_by_depth"]


def test_the_spread_of_protocols_beside_that_of_networks_by_hand():
    each = {"one": [90.0, 91.0], "other": [92.0]}
    rows = [protocols.Row(name, "darts", each, 1.0, None) for name in ("base", "C")]
    better = {network: [x + 4 for x in found] for network, found in each.items()}
    rows[1] = rows[1]._replace(accuracies=better)
    (line,) = protocols.spreads(rows)
    assert "2 protocols are 4.00 points apart (base to C), with a deviation of 2.83" in line
    assert "of one protocol 2.00 to 2.00 points, with deviations of 1.00 to 1.00" in line
    assert protocols.spreads(rows[:1]) == []
    assert protocols.cells_of(rows[0])[3:7] == ["91.00 ± 1.00", "90.00", "92.00", "3"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--space=nb201"], "space must be one of two cells; got nb201; give --space=darts"),
        (["--recipe=modern"], "recipe must be left out: every row has its own; got modern"),
        (
            ["--batch_size=200", "--rows=C"],
            "protocol C for darts: batch_size must be at most .* in --rows=base,C",
        ),
    ],
)
def test_a_protocol_that_cannot_be_is_one_line(args, message, tmp_path):
    with pytest.raises(SystemExit, match="error: " + message):
        launch(protocols, *PROTOCOLS, f"--workdir={tmp_path / 'new'}", *args)
    assert not list(tmp_path.rglob("ledger.jsonl"))


def test_other_settings_in_the_folder_of_a_study_are_refused(folder):
    with pytest.raises(SystemExit, match="error: the study in .* epochs_final was 2, is 3"):
        launch(table1, *TINY, f"--workdir={folder}", "--epochs_final=3")
    with pytest.raises(SystemExit, match="error: the study in .* recipe was 'paper', is 'modern'"):
        launch(table1, *TINY, f"--workdir={folder}", "--recipe=modern", "--cutout=2")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--rows=all"], "rows must be among hill_climbing, random, .*; got all"),
        (["--repeats=-1"], "repeats must be >= 0; got -1"),
        (["--num_steps=0"], "num_steps must be >= 1 for tables and figures; got 0"),
        (["--workers=-1"], "workers must be >= 0; got -1"),
        ([f"--seed={2**32 - 1}"], r"seed must be below 2\*\*32; got 4294967296"),
        (["--recipe=modern"], "cutout must be smaller than the images, .* take --cutout=2, say"),
        (["--workdir=/dev/null/x"], "workdir /dev/null/x cannot be used: Not a directory"),
    ],
)
def test_a_mistake_is_one_clear_line(args, message, tmp_path):
    with pytest.raises(SystemExit, match="error: " + message):
        launch(table1, *TINY, f"--workdir={tmp_path / 'new'}", *args)
    assert not list(tmp_path.rglob("ledger.jsonl"))


def test_a_figure_has_no_rows(tmp_path):
    with pytest.raises(SystemExit, match="error: rows must be left out, because a figure has none"):
        launch(figure2, *TINY, f"--workdir={tmp_path / 'new'}", "--rows=random")


@pytest.fixture
def fresh(tmp_path):
    """A study without runs."""
    config = nj.preset("digits")
    console = rich.console.Console(quiet=True)
    return study.Study(config, tmp_path, data.load_dataset("digits"), 2, console)


def test_a_run_that_cannot_be_trained_is_said_and_the_others_go_on(fresh, monkeypatch):
    tried = []

    def perform(config, workdir, console, dataset, quiet, since):
        tried.append(workdir.name)
        assert since > 0  # the seconds before are not the run's
        raise runs.StoppedError("all trials of step 1 failed")

    monkeypatch.setattr(study.launching, "perform", perform)
    with flagsaver.flagsaver():
        flags.FLAGS(["x"])
        row = table1.random_networks(fresh)
        assert tables.cells_of(row)[5:] == ["not measured", "0", "", "", "", ""]
        assert not table1.random_networks(fresh).outcomes
        assert tried == ["random-seed0", "random-seed1"]
        assert fresh.about().count("Not finished: random-seed") == 2
        tables.errors_figure([row], "nothing")


def test_cells_by_hand():
    outcomes = [tables.Outcome(5.0, 1e6, 6, 2e10), tables.Outcome(7.0, 3e6, 3, 4e10)]
    row = tables.Row("ours", tables.Paper(5.7, 0.35, 12.8, 5.7, 10), outcomes)
    assert tables.cells_of(row) == [
        *("ours", "5.7 ± 0.35", "10", "12.8", "5.7"),
        *(f"6.00 ± {math.sqrt(2):.2f}", "2", "2.00", "0.075", "0.03", "5.00 7.00"),
    ]


def test_rows_have_as_many_runs_as_the_paper_s_or_as_asked(fresh):
    assert fresh.seeds(30) == range(2)
    assert dataclasses.replace(fresh, repeats=0).seeds(30) == range(30)


def test_a_snapshot_ensemble_without_all_its_members_is_left_out(fresh, monkeypatch):
    view = runs.RunView(pathlib.Path("long-seed0"), fresh.config, {}, [])
    view.__dict__["chosen"] = [trial("brief", step=step) for step in range(4)]
    monkeypatch.setattr(study.Study, "trained", lambda *args: [])  # as if they had diverged
    for fitted in (False, True):
        assert ensembles.snapshot_ensemble(fresh, view, fitted) == []


SPEC = nj.chain((8, 8, 1), 10, (3,))


def trial(recipe, epochs=1, accuracy=0.1, step=0, elapsed=5.0):
    """A trial of `SPEC`, as a record has it."""
    name = "final" if recipe == "final" else f"step{step}-child1"
    proposal = Proposal(name, SPEC, None, None, (), recipe)
    estimate = Estimate(accuracy, 1.0, Seconds(), 0, epochs * (0.0,))
    return Trial(proposal, SPEC, estimate, step, elapsed=elapsed)


def test_the_cost_of_training_by_hand(fresh):
    trials = [trial("brief", 2), trial("final", 3)]
    view = runs.RunView(pathlib.Path("x"), fresh.config, {}, trials)
    images = 1437
    expected = 3 * nj.count_flops(SPEC) * (2 * 0.8 * images + 3 * images)
    assert fresh.training_flops(view) == pytest.approx(expected)
    few = dataclasses.replace(fresh, config=fresh.config.replace(max_train_examples=7))
    assert few.training_flops(view) == pytest.approx(expected / images * 7)


def test_an_ensemble_costs_what_its_members_cost(fresh, monkeypatch):
    networks = {n: (SPEC, nj.init(SPEC, jax.random.key(n))) for n in (0, 1)}
    monkeypatch.setattr(ensembles, "load", lambda workdir: networks[int(workdir.name)])
    views = [
        runs.RunView(pathlib.Path(str(n)), fresh.config, {}, [trial("final")]) for n in networks
    ]
    found = ensembles.together(fresh, views, [0.0, 1.0])
    alone = training.evaluate(*networks[1], fresh.dataset.test)
    assert found.error == pytest.approx(100 * (1 - alone.accuracy))
    assert (found.params, found.seconds) == (2 * nj.count_params(SPEC), 10.0)


# The study of a search space.

SPACE = (
    *("--preset=digits", "--space=darts", "--channels=4", "--cells=3", "--epochs_final=6"),
    *("--genotypes=3", "--repeats=2", "--depths=4", "--others=suboptimal", "--seed=1"),
)


@pytest.fixture
def curves(monkeypatch):
    """Trainings are made up, and counted."""
    made = []

    def learning_curves(spec, keys, train, judge, epochs, settings):
        end = 0.9 - 0.1 * ((len(made) * 7) % 5) + 0.02 * np.arange(len(keys))
        made.append((nj.count_params(spec), jax.random.key_data(keys).tolist()))
        return end[:, None] * np.linspace(0.5, 1, epochs) ** 0.5

    monkeypatch.setattr(space_trainings, "learning_curves", learning_curves)
    return made


def test_a_space_is_studied_by_its_own_trainings_which_are_made_once(curves, tmp_path):
    launch(space_study, *SPACE, f"--workdir={tmp_path}")
    assert len(curves) == 3 * 3  # two seeds each of three genotypes, then deeper, then other ops
    keys = [key for _, several in curves for key in map(tuple, several)]
    assert len(keys) == 3 * 2 + 3 + 3
    assert keys[0] == keys[6]  # a genotype's first seed is the same at another depth
    assert all(deep > flat for (flat, _), (deep, _) in zip(curves[:3], curves[3:6]))
    with np.load(tmp_path / "study.npz") as file:
        shapes = {name: file[name].shape for name in file.files}
    assert shapes == {
        **{"curves": (3, 6), "seeds": (3, 2), "cells3": (3, 6), "cells4": (3, 6)},
        **{"cells3_4": (3, 2), "curves_suboptimal": (3, 6)},
    }
    row = json.loads(min((tmp_path / "trainings").iterdir()).read_text())
    assert (row["space"], row["cells"], row["seeds"]) == ("darts", 3, 2)
    pictures = {path.stem for path in tmp_path.glob("*.png")}
    assert pictures == {"curves", "correlations", "histograms", "cells", "seeds", "depths-3-4"}
    page = (tmp_path / "space_study.md").read_text()
    assert "fingerprint" in page
    assert "| seeds: 2 seeds of 3 | 1.000 | 2.000 | 0.000 | 2.000 | 0.000 |" in page
    more = [word.replace("--genotypes=3", "--genotypes=4") for word in SPACE]
    launch(space_study, *more, f"--workdir={tmp_path}")
    assert len(curves) == 3 * 3 + 3


def test_a_study_of_a_file_by_hand(tmp_path):
    rising = np.array([[10.0, 50.0, 90.0], [20.0, 70.0, 92.0], [15.0, 60.0, 94.0]])
    arrays = {
        "curves": rising,
        "curves_other": rising - 5,
        "cells8_20": [[90.0, 93.0], [91.0, 92.0], [92.0, 91.0], [80.0, 80.0]],
        "names": np.array(["a"]),
    }
    np.savez(tmp_path / "mine.npz", **arrays)
    place = f"--workdir={tmp_path / 'out'}"
    launch(space_study, f"--curves={tmp_path / 'mine.npz'}", place)
    rows = read_csv(tmp_path / "out" / "space_study.csv")
    values = {(r["part"], r["what"], r["where"]): float(r["value"]) for r in rows}
    assert values["last epoch: mean", "accuracy %", "curves: 3"] == 92
    assert values["best epoch: min", "accuracy %", "curves_other: 3"] == 85
    assert values["correlation with the end", "window 1", "1"] == pytest.approx(0.5)
    assert values["correlation with the end", "window 2", "3"] == pytest.approx(
        np.corrcoef([70, 81, 77], [90, 92, 94])[0, 1]
    )
    pair = "8 and 20 cells: 4"
    assert values["order", "Kendall's tau-b", pair] == pytest.approx(0)  # 3 of 6 pairs are turned
    assert values["order", "largest shift", pair] == 2
    assert values["order", "mean difference", pair] == pytest.approx(1.25)
    assert not list(tmp_path.rglob("study.json"))


def test_epochs_are_shown_as_the_paper_shows_them():
    assert space_study.shown_epochs(600) == [10, 50, 100, 200, 300, 400, 500, 600]
    assert space_study.window_for(600) == 20
    assert space_study.shown_epochs(3) == [1, 2, 3]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"seeds": np.ones((3, 2))}, "must have a column curves, .* got seeds"),
        ({"curves": np.ones((2, 5))}, "curves must be percent, .* got .2, 5., 1 to 1"),
        ({"curves": np.full((3, 5), 101)}, "got .3, 5., 101 to 101; correct the column"),
        ({"curves": np.ones(3)}, "got float64 .3."),
    ],
)
def test_columns_that_are_none_are_one_line(arrays, message):
    with pytest.raises(ValueError, match=message):
        space_columns.columns_of(arrays, "file")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--curves=none.npz"], "curves none.npz cannot be read: No such file"),
        (["--preset=digits"], "space must be one of genotypes, .* got morphs"),
        (["--space=nbmacro", "--depths=4"], "depths are for a space with cells; nbmacro has none"),
        ([*SPACE, "--depths=x"], "depths must be whole numbers like 4,8; got x"),
        ([*SPACE, "--smoothing=7"], "smoothing must be at most the 6 epochs; got 7"),
    ],
)
def test_a_mistake_in_a_study_is_one_line(curves, words, message, tmp_path):
    with pytest.raises(SystemExit, match="error: " + message):
        launch(space_study, *words, f"--workdir={tmp_path / 'new'}")


def test_proxies_are_ordinary_runs_of_a_folder(tmp_path, capsys):
    """`nash rank` on networks of the other tests here: nothing is compiled for it."""
    search_flags.define_flags()
    common = [word for word in TINY if "num_" not in word and "repeats" not in word]
    words = ["rank", *common, f"--cache_dir={CACHE.name}", "--num_samples=3", "--num_edits=0"]
    words += ["--proxy=epochs=1", f"--workdir={tmp_path}"]
    for _ in range(2):
        with flagsaver.flagsaver(), pytest.raises(SystemExit) as end:
            cli.main(words)
        assert not end.value.code
    full, fewer = (runs.read_run(tmp_path / name) for name in ("full", "epochs1"))
    assert [len(trial.estimate.train_losses) for trial in full.tried] == [2, 2, 2]
    assert [len(trial.estimate.train_losses) for trial in fewer.tried] == [1, 1, 1]
    with (tmp_path / "values.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    for name, view in (("full", full), ("epochs=1", fewer)):
        found = [float(row[name]) for row in rows]
        assert found == pytest.approx([100 * trial.estimate.accuracy for trial in view.tried])
    assert capsys.readouterr().out.count("| epochs=1 |") == 2
