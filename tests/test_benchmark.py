"""The benchmark: what it runs, that it never chooses by the test set, and its tables."""

import dataclasses
import json
import shutil

import pytest

import nash_jax as nj
from nash_jax import benchmark, evaluation
from nash_jax.benchmark import (
    METHODS,
    Method,
    Plan,
    Trained,
    command,
    markdown,
    method_named,
    read_plan,
)
from nash_jax.benchmark.table import rows_of
from nash_jax.data import Examples, load_dataset
from nash_jax.execution import Serial
from nash_jax.record.files import check_folder_of
from nash_jax.runs import RECIPES, StoppedError, execute, open_run, read_run
from nash_jax.runs.engine import Engine

SEARCH = {
    **{"strategy": "random_search", "num_samples": 1, "num_edits": 1, "widths": (4, 6)},
    "epochs_neighbours": 1,
}
PLAN = Plan(
    methods={"edits": Method(SEARCH)},
    datasets={"digits": {"max_train_examples": 200}},
    settings={"epochs_final": 2, "batch_size": 64},
    seeds=2,
    num_random=2,
)


def perform(config, workdir, dataset, only_search):
    """A run in this process."""
    with open_run(config, workdir, dataset=dataset) as opened:
        return execute(opened, only_search=only_search)


def nothing(*_):
    """Nobody is told, and nothing is made."""
    raise AssertionError("a run was made")


@pytest.fixture(scope="module", autouse=True)
def _in_this_process():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "nash_jax.runs.places.Processes", lambda images, tools, *_: Serial(images, tools)
        )
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the plan was made."""
    path = tmp_path_factory.mktemp("benchmark")
    assert benchmark.make(PLAN, path, perform, lambda text: None) == []
    return path / "digits"


def test_networks_are_searched_or_drawn_and_then_trained_alike(folder):
    names = ["edits-random0", "edits-random1", "edits-seed0", "edits-seed1"]
    networks = {path.stem: nj.from_json(path.read_text()) for path in folder.glob("networks/*")}
    assert sorted(networks) == names
    runs = {path.name: read_run(path) for path in folder.glob("trained-paper/*")}
    assert sorted(runs) == names
    trained_alike = runs["edits-seed0"].config
    for name, run in runs.items():
        assert run.final.spec == networks[name]
        assert len(run.final.estimate.train_losses) == 2
        assert run.config.replace(model_0=trained_alike.space.model_0) == trained_alike
        assert networks[name].nodes[0] == networks["edits-seed0"].nodes[0]  # the same pixels
    for seed in (0, 1):
        search = read_run(folder / "searches" / f"edits-seed{seed}")
        assert (search.config.seed, search.final) == (seed, None)
        assert search.best.spec.nodes[1:] == networks[f"edits-seed{seed}"].nodes[1:]


def test_what_is_there_is_not_made_again_and_other_settings_are_refused(folder):
    assert benchmark.make(PLAN, folder.parent, nothing, nothing) == []
    longer = dataclasses.replace(PLAN, given={"epochs_neighbours": 2})
    with pytest.raises(ValueError, match="epochs_neighbours"):
        benchmark.make(longer, folder.parent, perform, lambda text: None)


def copied(folder, tmp_path):
    """A benchmark of its own, to be damaged."""
    shutil.copytree(folder.parent, tmp_path / "copy")
    return tmp_path / "copy" / "digits"


def test_networks_of_another_space_are_not_used(folder, tmp_path):
    copy = copied(folder, tmp_path)
    drawn = [copy / "networks" / f"edits-random{number}.json" for number in (0, 1)]
    right = drawn[0].read_text()
    drawn[0].write_text(drawn[1].read_text())  # as of a command that failed, with other sizes
    with pytest.raises(ValueError, match="network was .*, is .*; or remove the folder"):
        benchmark.make(PLAN, copy.parent, nothing, nothing)
    workdir = copy / "trained-paper" / "edits-random0"
    shutil.rmtree(workdir)
    made = []
    benchmark.make(PLAN, copy.parent, lambda _, workdir, *__: made.append(workdir), made.append)
    assert made == ["digits: training 3 of 4, paper, edits-random0", workdir]
    assert drawn[0].read_text() == right
    wider = dataclasses.replace(PLAN, given={"widths": (4, 8)})
    for act in (benchmark.make, benchmark.trained_in):
        with pytest.raises(ValueError, match="edits-seed0 goes on with .*; widths was .4, 6., is"):
            act(wider, copy.parent, *([nothing] if act is benchmark.make else []), nothing)
    assert drawn[0].read_text() == right
    shutil.rmtree(copy / "searches")
    with pytest.raises(ValueError, match="must be of the space that is searched; .*random1.json"):
        benchmark.make(wider, copy.parent, nothing, nothing)


def test_what_a_search_found_goes_with_it(folder, tmp_path):
    copy = copied(folder, tmp_path)
    shutil.rmtree(copy / "searches" / "edits-seed0")

    def fails(*_):
        raise StoppedError("diverged")

    assert benchmark.make(PLAN, copy.parent, fails, lambda text: None) == ["digits: diverged"]
    found = [x.number for x in benchmark.trained_in(PLAN, copy.parent, nothing) if not x.drawn]
    assert found == [1]


def test_an_interrupted_search_has_found_nothing(folder, tmp_path, monkeypatch):
    decide = Engine._decide

    def interrupted(engine, *decision):
        decide(engine, *decision)
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "_decide", interrupted)
    workdir = copied(folder, tmp_path) / "searches" / "edits-seed0"
    with pytest.raises(KeyboardInterrupt):
        perform(PLAN.search("edits", "digits", 0), workdir, load_dataset("digits"), True)


def test_all_sets_are_looked_at_before_the_first_is_trained_on(tmp_path):
    plan = dataclasses.replace(PLAN, datasets={**PLAN.datasets, "npz:missing.npz": {}})
    with pytest.raises(ValueError, match=r"missing\.npz"):
        benchmark.make(plan, tmp_path, nothing, nothing)


def test_the_seconds_of_a_run_are_its_own(monkeypatch):
    monkeypatch.setattr(command.launching, "perform", lambda *_, **options: options["since"])
    perform_run = command._perform(None)
    first, second = (perform_run(None, None, None, False) for _ in range(2))
    assert 0 < first < second


def test_rows_are_what_the_runs_say(folder):
    trained = benchmark.trained_in(PLAN, folder.parent, nothing)
    accuracies = {
        path.parent.name: json.loads(path.read_text())["test_accuracy"]
        for path in folder.glob("trained-paper/*/result.json")
    }
    names = [f"edits-{'random' if each.drawn else 'seed'}{each.number}" for each in trained]
    assert {name: each.accuracy for name, each in zip(names, trained)} == accuracies
    (row,) = rows_of(trained)
    found, drawn = ([100 * accuracies[f"edits-{k}{n}"] for n in (0, 1)] for k in ("seed", "random"))
    assert row.improvement == evaluation.relative_improvement(found, drawn)


def test_no_choice_depends_on_the_test_set(tmp_path):
    dataset = load_dataset("digits")
    others = Examples(dataset.test.images[:7][::-1], (dataset.test.labels[:7] + 1) % 10)
    config = PLAN.search("edits", "digits", 0).replace(num_samples=2)
    chosen = []
    for number, test in enumerate((dataset.test, others)):
        workdir = tmp_path / str(number)
        result = perform(config, workdir, dataclasses.replace(dataset, test=test), True)
        chosen.append((result.best.genotype, [t.accuracy for t in result.history]))
        assert not result.finished
        assert {trial.recipe for trial in result.history} == {"scratch"}
        assert not (workdir / "result.json").exists()
    assert chosen[0] == chosen[1]


def test_settings_of_runs():
    plan = Plan(
        methods={
            **{"darts": METHODS["darts"], "manas": METHODS["manas"]},
            "climb": Method({"strategy": "hill_climbing", "space": "darts"}),
        },
        datasets={"digits": {"crop_padding": 0}},
        protocols={"own": None, "modern": RECIPES["modern"]},
        settings={"epochs_final": 100, "widths": (8, 8), "crop_padding": 3},
        given={"channels": 4, "supernet_epochs": 3, "num_neighbours": 5},
    )
    search = plan.search("darts", "digits", 5).values()
    assert {**search, "space": "darts", "channels": 4, "supernet_epochs": 3, "seed": 5} == search
    assert (search["flip"], search["crop_padding"]) == (False, 0)  # the set's win
    assert plan.search("climb", "digits", 0).values()["num_neighbours"] == 5
    own = plan.training("manas", "digits", "own", "x.json").values()
    assert (own["batch_size"], own["drop_path"], own["epochs_final"]) == (128, 0.2, 600)
    alike = [plan.training(m, "digits", "modern", "x.json") for m in plan.methods]
    assert alike[0] == alike[1]
    assert alike[0].values()["epochs_final"] == 100
    elsewhere = dataclasses.replace(plan, given={"space": "nb201", "channels": 4})
    assert elsewhere.search("darts", "digits", 0).values()["space"] == "nb201"


def test_settings_of_all_runs_may_choose_the_space_and_its_sizes():
    plan = dataclasses.replace(
        PLAN,
        methods={"random": Method({"strategy": "random_search"})},
        settings={"space": "nb201", "channels": 8, "cells": 1, "max_flops": 10**7},
        preset={"max_flops": 1000, "widths": (8,), "batch_size": 32},
    )
    search = plan.search("random", "digits", 0).values()
    sizes = [search[name] for name in ("space", "channels", "cells", "max_flops", "batch_size")]
    assert sizes == ["nb201", 8, 1, 10**7, 32]
    default = dataclasses.replace(plan, settings={}).search("random", "digits", 0).values()
    assert (default["space"], default["widths"], default["max_flops"]) == ("morphs", (8,), 1000)


def test_a_plan_of_a_file(tmp_path):
    path = tmp_path / "plan.json"
    described = {
        "methods": {"slow": {"like": "enas", "search": {"controller_lr": 0.01}}, "manas": None},
        "datasets": ["digits"],
        "protocols": {"own": None, "long": {"epochs_final": 300}},
        "settings": {"widths": [4, 6]},
        "seeds": 3,
    }
    path.write_text(json.dumps(described))
    plan = Plan(**read_plan(path))
    assert plan.methods["slow"].search == {**METHODS["enas"].search, "controller_lr": 0.01}
    assert plan.methods["manas"] == METHODS["manas"]
    assert plan.protocols == {"own": None, "long": {"epochs_final": 300}}
    assert plan.settings == {"widths": (4, 6)}
    assert (plan.seeds, plan.num_random, plan.datasets) == (3, 8, {"digits": {}})


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: dataclasses.replace(PLAN, seeds=1), "seeds must be >= 2, because a single one"),
        (lambda: dataclasses.replace(PLAN, methods={}), "methods must be one or more; got none"),
        (lambda: dataclasses.replace(PLAN, given={"epochs": 1}), "there is no setting 'epochs'"),
        (lambda: dataclasses.replace(PLAN, given={"minutes": 5}), "minutes is no setting of a"),
        (
            lambda: dataclasses.replace(PLAN, protocols={"a b": {}, "a-b": {}}),
            "names of protocols must differ in letters and digits; several are 'a-b'",
        ),
        (lambda: dataclasses.replace(PLAN, given={"population": 5}), "method here; got population"),
        (
            lambda: dataclasses.replace(PLAN, datasets={"digits": {"imagesize": 4}}),
            "no setting 'imagesize', which set digits should have; did you mean image_size",
        ),
        (
            lambda: dataclasses.replace(PLAN, protocols={"x": {"image_size": 4}}),
            "image_size is a setting of a set, .* got it for protocol x; give it to the set",
        ),
        (
            lambda: dataclasses.replace(PLAN, settings={"num_edits": "5"}),
            "num_edits of all runs: a setting must be int; got '5'",
        ),
        (lambda: method_named("drats"), "got 'drats'; did you mean darts"),
        (
            lambda: dataclasses.replace(PLAN, protocols={"x": {"num_steps": 3}}).training(
                "edits", "digits", "x", "x.json"
            ),
            "have settings of trainings alone; got 'num_steps'",
        ),
        (
            lambda: dataclasses.replace(
                PLAN, methods={"x": Method({"strategy": "darts", "num_steps": 3})}
            ).search("x", "digits", 0),
            "num_steps is a setting of strategy",
        ),
    ],
)
def test_a_plan_that_is_wrong_is_one_line(act, message):
    with pytest.raises(ValueError, match=message) as caught:
        act()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "a plan must be an object of methods, datasets"),
        ("{", "is no JSON"),
        ('{"settings": [1]}', "settings of a plan must be an object of settings; got"),
        ('{"seed": true}', "seed of a plan must be a whole number; got True"),
        ('{"method": []}', "what a plan says must be one of methods"),
        ('{"methods": {"x": {"settings": {}}}}', "may have search, training and like"),
        ('{"protocols": ["modren"]}', "a protocol must be one of own, .*; did you mean modern"),
    ],
)
def test_a_file_that_is_no_plan_is_one_line(content, message, tmp_path):
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        Plan(**read_plan(tmp_path / "plan.json"))


def trained(method, accuracies, random="a", space="nb201", drawn=False):
    """Networks on one set."""
    return [
        Trained("digits", "paper", method, drawn, n, random, space, accuracy, 1000, 60.0, 5.0)
        for n, accuracy in enumerate(accuracies)
    ]


def test_a_table_has_intervals_and_what_would_tell_apart():
    drawn = trained("a", [0.95, 0.96, 0.97], drawn=True)
    rows = [*trained("a", [0.96, 0.97, 0.98]), *trained("b", [0.95, 0.95, 0.98]), *drawn]
    text = markdown(rows, against="a")
    assert (
        "| a | nb201 | 96.00 ± 1.00 (3) | 97.00 ± 1.00 (3) | +1.04 | -1.33 to +3.42 | 17 |" in text
    )
    assert "| b | nb201 | 96.00 ± 1.00 (3) | 96.00 ± 1.73 (3) | +0.00 |" in text
    assert "very many" in text
    assert "| -1.00 (-3.48 to +1.48) |" in text  # ttest_1samp of -1, -2 and 0
    assert "### RI %, paper\n\n|  | digits |" in text


@pytest.mark.parametrize(
    ("space", "why"), [("darts", "darts and nb201"), ("nb201", "their sizes or trainings differ")]
)
def test_methods_of_other_spaces_share_no_column(space, why):
    rows = [*trained("a", [0.9, 0.8]), *trained("b", [0.9, 0.8], random="b", space=space)]
    with pytest.raises(ValueError, match=f"b and a: {why}; leave against out"):
        markdown(rows, against="a")
    with pytest.raises(ValueError, match="against must be one of a, b; got 'c'"):
        markdown(rows, against="c")


def test_they_are_refused_before_anything_is_made(tmp_path):
    cells = Method({"strategy": "random_search", "space": "nb201", "channels": 4, "cells": 1})
    plan = dataclasses.replace(PLAN, methods=PLAN.methods | {"cells": cells}, against="edits")
    with pytest.raises(ValueError, match="got cells and edits: nb201 and morphs"):
        benchmark.make(plan, tmp_path / "new", nothing, nothing)
    assert not (tmp_path / "new").exists()


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "benchmark.md").write_text("mine")
    message = "workdir must be new, empty or that of a benchmark; got .* with 1 other entries"
    with pytest.raises(ValueError, match=message):
        check_folder_of(tmp_path, "a benchmark", "*/searches")
    (tmp_path / "digits" / "searches").mkdir(parents=True)
    check_folder_of(tmp_path, "a benchmark", "*/searches")
    check_folder_of(tmp_path / "new", "a benchmark")
    with pytest.raises(ValueError, match="workdir .* cannot be used: Not a directory; choose"):
        check_folder_of(tmp_path / "benchmark.md", "a benchmark")
