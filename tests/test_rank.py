"""Proxies beside full trainings: what is trained, what is compared, and what is wrong."""

import csv
import dataclasses
import pathlib
import re

import jax
import numpy as np
import pytest
import scipy.stats
from absl.testing import flagsaver

import nash_jax as nj
from nash_jax import cli, data
from nash_jax.estimation import ESTIMATORS, Estimate, Seconds
from nash_jax.reporting.ranking import write_ranking
from nash_jax.runs import proxies, rank
from nash_jax.search import Proposal, Trial

SMALL = nj.preset("digits", space="nb201", strategy="random_search", num_samples=4, epochs_final=8)
SMALL = SMALL.replace(channels=4, cells=2)
#: What the full training and the proxies find of four networks, and what it takes.
FOUND = {
    "full": ([0.9, 0.8, 0.7, 0.6], 8.0),
    "epochs2": ([0.5, 0.6, 0.4, 0.3], 2.0),
    "images1000-channels2": ([0.2, 0.2, 0.2, 0.2], 4.0),
    "pixels4": ([0.1, 0.2, 0.3, 0.0], 1.0),
}


@pytest.fixture(scope="module")
def made():
    """A ranking of runs that are made up, and the configs and images that they would have had."""
    asked = {}

    def perform(config, folder, dataset):
        asked[folder.name] = config, dataset.image_shape
        accuracies, seconds = FOUND[folder.name]
        space = config.space.made(dataset.image_shape, 10, None)
        trials = []
        for number, accuracy in enumerate(accuracies, start=1):
            genotype = (3,) * (5 - number) + (1,) * (1 + number)
            epochs = config.recipes.epochs_neighbours
            spent = Seconds(compile=9.0, train=seconds - 0.5, evaluate=0.5, wait=7.0)
            estimate = Estimate(accuracy, 1.0, spent, train_losses=(1.0,) * epochs)
            proposal = Proposal(f"sample{number}", genotype, None, recipe="scratch")
            trials.append(Trial(proposal, space.build(genotype, "final"), estimate))
        final = dataclasses.replace(trials[0], proposal=trials[0].proposal._replace(recipe="final"))
        return nj.runs.Result(final, (*trials, final), 1.0, {})

    names = ["epochs=2", "images=1000, channels=2", "pixels=4"]
    return rank.rank(SMALL, names, pathlib.Path("nowhere"), perform), asked


@pytest.fixture
def table(tmp_path):
    """A table of 60 cells: the more 3x3 convolutions the better, and the slower."""
    codes = ["".join(map(str, cell)) for cell in np.random.default_rng(0).integers(0, 5, (60, 6))]
    lines = ["arch,a_val12,a_val200,a_test200,a_sec200"]
    for code in codes:
        n = code.count("3")
        lines.append(f"{code},{50 + n},{70 + n},{60 + n},{100 * (1 + n)}")
    path = tmp_path / "made.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_proxy_is_the_full_training_with_less_of_something(made):
    _, asked = made
    assert [*asked] == [*FOUND]
    values = {name: config.values() for name, (config, _) in asked.items()}
    full = values["full"]
    assert (full["epochs_neighbours"], full["channels"], full["cells"]) == (8, 4, 2)
    assert full["epochs_final"] == 0  # nothing but the comparison is trained

    def changed(name):
        return {key: value for key, value in values[name].items() if value != full[key]}

    assert changed("epochs2") == {"epochs_neighbours": 2}
    assert changed("images1000-channels2") == {"max_train_examples": 1000, "channels": 2}
    assert changed("pixels4") == {"image_size": 4}
    shapes = [shape for _, shape in asked.values()]
    assert shapes == [(8, 8, 1), (8, 8, 1), (8, 8, 1), (4, 4, 1)]


def test_rows_by_hand(made):
    found, _ = made
    rows = {row.name: row for row in found.rows}
    assert [*rows] == ["full", "epochs=2", "images=1000,channels=2", "pixels=4", "params", "flops"]
    epochs = rows["epochs=2"]
    assert epochs.spearman.mean == pytest.approx(0.8)  # 1 - 6 * 2 / (4 * 15)
    assert epochs.tau == pytest.approx(2 / 3)  # one of six pairs is turned
    assert (epochs.overlap, epochs.behind) == (1.0, pytest.approx(10))  # 90 and 80
    assert epochs.cost[:1] + epochs.cost[2:] == (8.0, 36.0, 0)
    assert (epochs.seconds_share, epochs.flops_share) == (0.25, 0.25)
    constant = rows["images=1000,channels=2"]
    assert constant.spearman is None  # all equal: no order
    assert constant.tau is None
    assert 0.1 < constant.flops_share < 0.6
    assert rows["pixels=4"].overlap == 1.0
    assert rows["pixels=4"].behind == pytest.approx(20)
    assert rows["params"].spearman.mean == pytest.approx(1)  # more convolutions were better
    assert rows["params"].cost.seconds == 0
    assert rows["full"].spearman.mean == pytest.approx(1)


def test_a_ranking_is_written_for_people_and_programs(made, tmp_path):
    found, _ = made
    write_ranking(found, tmp_path / "new", "Made up.")
    page = (tmp_path / "new" / "rank.md").read_text()
    assert "# 4 genotypes, against validation accuracy after 8 epochs\n\nMade up." in page
    assert "| epochs=2 | 0.800 | -0.82 to 1.00 | 0.667 | 100% | 10.00 | 8 | 25.0 | 25.0 |" in page
    with (tmp_path / "new" / "rank.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [row["spearman"] for row in rows][2] == ""
    assert float(rows[1]["spearman"]) == pytest.approx(0.8)
    with (tmp_path / "new" / "values.csv").open() as lines:
        first = next(csv.DictReader(lines))
    assert (first["genotype"], float(first["full"]), float(first["epochs=2"])) == ("333311", 90, 50)
    assert (tmp_path / "new" / "rank.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("config", "proxy", "message"),
    [
        (SMALL.replace(num_samples=2), "epochs=2", "num_samples must be at least 3, .*; got 2"),
        (SMALL.replace(epochs_final=0), "epochs=2", "epochs_final must be at least 1"),
        (SMALL.replace(metric="loss"), "epochs=2", "metric is not for a ranking, .*; got loss"),
        (SMALL.replace(minutes=3), "epochs=2", "minutes is not for a ranking, .*; got 3"),
        (SMALL, "epoch=2", "one of epochs, .* got 'epoch'; did you mean epochs?"),
        (SMALL, "epochs=8", "below the full training's 8; got 8; as in epochs=2"),
        (SMALL, "epochs=0", "below the full training's 8; got 0"),
        (SMALL, "epochs", "below the full training's 8; got none"),
        (SMALL, "images=2000", "images in proxy must be .* the full training's 1437; got 2000"),
        (SMALL, "channels=4", "channels in proxy must be .* the full training's 4; got 4"),
        (SMALL, "pixels=8,epochs=2", "pixels in proxy must be .* the full training's 8; got 8"),
        (SMALL, "estimator=trainin", "estimator in proxy must be one of .*; got 'trainin'"),
        (SMALL.replace(space="nbmacro"), "cells=1", "cells in proxy needs a space .* got nbmacro"),
        (SMALL.replace(space="morphs"), "pixels=4", "pixels in proxy needs .* got morphs"),
        (SMALL.replace(space="darts_macro"), "channels=2", "in space darts_macro it is not"),
        (SMALL.replace(max_params=100_000), "channels=2", "got bounds of params; leave them out"),
        (nj.preset("digits"), "epochs=2", "strategy must be random_search .* got hill_climbing"),
    ],
)
def test_what_is_no_proxy_is_one_line_before_anything_is_trained(config, proxy, message, tmp_path):
    def perform(*args):
        raise AssertionError("nothing may be trained")

    with pytest.raises(ValueError, match=message) as caught:
        rank.rank(config, [proxy], tmp_path, perform)
    assert "\n" not in str(caught.value)


def test_another_estimator_is_a_proxy_too(monkeypatch):
    monkeypatch.setitem(ESTIMATORS, "mine", None)
    found = proxies.proxy_of(SMALL, "estimator=mine", data.load_dataset("digits"))
    assert found == SMALL.replace(estimator="mine")


def test_a_network_of_the_full_training_has_its_final_size():
    config = SMALL.replace(space="darts", channels=12, cells=5, search_channels=4)
    space = nj.runs.space_of(proxies.full_training(config), nj.chain((8, 8, 1), 10, (4,)))
    genotype = space.sample(jax.random.key(0))
    assert space.build(genotype, "search") == space.build(genotype, "final")


def test_trainings_of_a_table_are_ranked_against_its_test_values(table):
    config = SMALL.replace(channels=1, cells=1, seed=3)
    found = rank.rank_in_table(config, table, "a", samples=40)
    rows = {row.name: row for row in found.rows}
    assert [*rows] == ["full", "epochs=12", "epochs=200", "params", "flops"]
    assert len({*found.codes}) == 40
    convolutions = np.array([code.count("3") for code in found.codes])
    np.testing.assert_array_equal(found.values["full"], 60 + convolutions)
    np.testing.assert_array_equal(found.values["epochs=12"], 50 + convolutions)
    assert rows["epochs=12"].spearman.mean == pytest.approx(1)
    assert rows["epochs=12"].seconds_share == pytest.approx(12 / 200)
    expected = scipy.stats.spearmanr(found.values["params"], convolutions).statistic
    assert rows["params"].spearman.mean == pytest.approx(expected)
    with pytest.raises(ValueError, match="one of epochs=12, epochs=200 in this table; got cells=1"):
        rank.rank_in_table(config, table, "a", ["cells=1"])
    with pytest.raises(ValueError, match="needs 3 rows of the table at least; got 2"):
        rank.rank_in_table(config, table, "a", samples=2)


def test_the_command_ranks_a_table_and_its_mistakes_are_lines(table, tmp_path, capsys):
    def command(*words):
        with flagsaver.flagsaver(), pytest.raises(SystemExit) as end:
            cli.main(["rank", *words])
        return str(end.value.code or "")

    small = ["--space=nb201", "--channels=1", "--cells=1", "--num_samples=20"]
    words = [*small, f"--table={table}", "--table_data=a", f"--workdir={tmp_path / 'run'}"]
    assert command(*words, "--proxy=epochs=12") == ""
    assert "| epochs=12 | 1.000 | " in capsys.readouterr().out
    assert {"rank.md", "rank.csv", "rank.png", "values.csv"} == {
        path.name for path in (tmp_path / "run").iterdir()
    }
    where = f"--workdir={tmp_path / 'other'}"
    for words, message in (
        ([*small, where], "error: proxy must be given"),
        ([*small, "--proxy=width=3", where], "error: the name in proxy must be one of"),
        ([*small, "--proxy=epochs=3", "--repeats=3", where], "error: repeats is not for a ranking"),
        (["--proxy=epochs=3", "--strategy=darts", where], "error: strategy must be random_search"),
    ):
        assert re.match(message, command(*words)), message
    cli.main(["rank", "--help"])
    assert "--proxy=epochs=3" in capsys.readouterr().out
