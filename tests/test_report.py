"""Looking at runs: the report, the pictures, the comparison. Nothing is trained here."""

import dataclasses
import html
import html.parser
import io
import json
import math
import re
import shutil
import subprocess
import sys

import jax
import pytest
import rich.console

import nash_jax as nj
from nash_jax import cli, runs
from nash_jax.estimation import Estimate, Seconds
from nash_jax.morphisms import Deepen, SkipAdd, Widen
from nash_jax.record.files import with_checksum, write_json
from nash_jax.record.ledger import append_line
from nash_jax.record.lines import EXTENSION, line_of
from nash_jax.reporting import Begun, Done, Load, Progress, charts
from nash_jax.reporting.card import card
from nash_jax.reporting.compare import compare
from nash_jax.reporting.report import edits_by_step, pictures, render, report, tip
from nash_jax.reporting.timing import busy
from nash_jax.reporting.view import changed_nodes, shares_of_time
from nash_jax.runs import read_run
from nash_jax.search import Proposal, Trial

HOSTILE = "diverged </script><img src=x onerror=alert(1)><!-- ]]> ' \" & \u2028 {{ 7*7 }} $x_1$"
CONFIG = runs.Config().replace(
    widths=(4, 6), num_steps=2, num_neighbours=3, num_morphisms=1, seed=7
)
MODEL_0 = nj.chain(input_shape=(8, 8, 1), num_classes=10, widths=CONFIG.space.widths)
STEPS = {
    1: [((Widen("conv1", 8),), 0.9), ((SkipAdd("relu1", "relu2"),), None), ((), 0.85)],
    2: [((Deepen("relu1", 3),), 0.95), ((Widen("conv2", 12),), 0.93), ((), 0.94)],
}


class Ledger:
    """Writes the folder of a run, as if networks had been trained."""

    def __init__(self, workdir, config=CONFIG, data="d1", **about):
        self.workdir, self.elapsed = workdir, 0.0
        workdir.mkdir(parents=True)
        settings = json.loads(json.dumps(config.values()))
        write_json(workdir / "config.json", {**settings, "data": data, **about})

    def add(self, name, kind, step, parent, edits, spec, accuracy, failure=""):
        self.elapsed += 2.0
        estimate = Estimate(
            accuracy or 0.0,
            math.inf if failure else 0.3,
            Seconds(0.5, 1.0, 0.1, 0.2),
            2**20,
            () if failure else (1.5, 0.7),
            failure,
        )
        recipe = {"pretrained": "pretrain", "child": "brief"}.get(kind, kind)
        proposal = Proposal(name, spec, jax.random.key(0), parent, edits, recipe)
        index = int(name.rpartition("child")[2]) - 1 if kind == "child" else 0
        trial = Trial(proposal, spec, estimate, step, index, self.elapsed, 2)
        append_line(self.workdir, line_of(trial, "c"))
        return self

    def decide(self, step, incumbent):
        line = {"kind": "decision", "step": step, "incumbent": incumbent, "returned": []}
        append_line(self.workdir, {**line, "config": "c"})
        return self

    def model_0(self):
        self.add("model_0", "pretrained", 0, None, (), MODEL_0, 0.8)
        return self

    def step(self, step, parent, spec, children, failure=HOSTILE):
        for number, (edits, accuracy) in enumerate(children, start=1):
            grown = spec
            for edit in edits:
                grown = edit.rewrite(grown)
            why = failure if accuracy is None else ""
            self.add(
                f"step{step}-child{number}", "child", step, parent, edits, grown, accuracy, why
            )
        return self

    def whole(self, accuracy=0.97):
        wide = Widen("conv1", 8).rewrite(MODEL_0)
        deep = Deepen("relu1", 3).rewrite(wide)
        self.model_0().step(1, "model_0", MODEL_0, STEPS[1]).step(2, "step1-child1", wide, STEPS[2])
        self.add("final", "final", 2, "step2-child1", (), deep, accuracy)
        return self.workdir


@pytest.fixture
def finished(tmp_path):
    about = {"command": ["python", "-m", "experiments.nash", "--dataset=npz:a b.npz"]}
    return Ledger(tmp_path / "run", **about, versions={"jax": "0.10.2"}, device="cpu").whole()


class Page(html.parser.HTMLParser):
    """The tags, texts and attributes of a page, as a browser takes them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data)

    def values(self, name):
        return [attributes[name] for _, attributes in self.tags if name in attributes]


def page_of(workdir):
    return render(read_run(workdir))


def test_the_report_needs_nothing_else(finished):
    page = Page(page_of(finished))
    assert not {"link", "img", "iframe", "object", "embed", "base", "form"} & {
        tag for tag, _ in page.tags
    }
    assert not page.values("src")
    for name in ("href", "xlink:href"):
        assert all(value.startswith("#") for value in page.values(name))
    assert not re.search(r"https?:|@import|url\((?!#)", page_of(finished))


def test_the_policy_allows_the_script_of_the_page_alone(finished):
    page = Page(page_of(finished))
    (policy,) = [a["content"] for _, a in page.tags if "http-equiv" in a]
    assert policy.startswith("default-src 'none'; ")
    assert re.search(r"script-src 'sha256-[\w+/=]{44}';", policy)
    assert not any(name.startswith("on") for _, a in page.tags for name in a)


def test_every_candidate_is_in_the_charts_the_table_and_the_tips(finished):
    text = page_of(finished)
    names = {line["name"] for line in runs.read_ledger(finished)}
    rows = {a.get("data-candidate") for tag, a in Page(text).tags if tag == "tr"}
    assert rows - {None} == names
    tried = names - {"final"}
    for chart, shown in (("climb", tried), ("lineage", tried), ("curves", names), ("time", names)):
        section = text[text.index(f'id="chart-{chart}"') :]
        section = section[: section.index("</section>")]
        assert set(re.findall(r'data-candidate="([^"]*)"', section)) == shown, chart
    tips = json.loads(re.search(r'id="tips">(.*?)</script>', text, re.DOTALL)[1])
    assert tips.keys() == names
    assert "widen conv1 to 8" in tips["step1-child1"]
    assert "90.00%" in tips["step1-child1"]


def test_the_headline_command_seed_and_versions_are_there(finished):
    words = " ".join(Page(page_of(finished)).texts)
    for text in (
        "97.00%",
        "finished",
        "seed 7",
        "python -m experiments.nash '--dataset=npz:a b.npz'",
    ):
        assert text in words
    for text in ("jax 0.10.2", "fingerprint d1", "num_neighbours"):
        assert text in words


def test_edits_are_counted_by_kind_and_step(finished):
    kinds = {"Deepen": 0, "SkipAdd": 0, "Widen": 0}
    assert edits_by_step(read_run(finished)) == [
        (1, kinds | {"Widen": 1, "SkipAdd": 1}),
        (2, kinds | {"Widen": 1, "Deepen": 1}),
    ]
    assert '<section id="edits">' in render(read_run(finished))


def test_hostile_texts_are_texts(tmp_path):
    config = CONFIG.replace(dataset=f"npz:{HOSTILE}")
    workdir = Ledger(
        tmp_path / "run", config, command=[HOSTILE], versions={HOSTILE: HOSTILE}, python=HOSTILE
    ).whole()
    text = page_of(workdir)
    page = Page(text)
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert text.count("</script>") == 2
    assert "img" not in {tag for tag, _ in page.tags}
    assert "<!--" not in text
    assert HOSTILE in "".join(page.texts)  # the table says it as it is
    tips = json.loads(re.search(r'id="tips">(.*?)</script>', text, re.DOTALL)[1])
    assert HOSTILE in tips["step1-child2"]


def test_ids_are_unique_and_references_lead_somewhere(finished):
    text = page_of(finished)
    ids = Page(text).values("id")
    assert len(ids) == len(set(ids))
    references = re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', text)
    assert {one or other for one, other in references} <= set(ids)


def test_the_same_run_gives_the_same_bytes(finished):
    assert page_of(finished) == page_of(finished)


def test_a_run_before_its_first_network_has_a_report(tmp_path):
    workdir = Ledger(tmp_path / "run").workdir
    assert "no network yet" in page_of(workdir)
    assert "run_search" in page_of(workdir)  # no command is known: the call


@pytest.mark.parametrize(
    ("children", "state", "best"),
    [
        (0, "unfinished, 1 network so far", ["model_0"]),
        (1, "unfinished, 2 networks so far", ["model_0"]),
        (3, "unfinished, 4 networks so far", ["model_0", "step1-child1"]),
    ],
)
def test_a_run_that_goes_on_has_a_report(tmp_path, children, state, best):
    workdir = Ledger(tmp_path / "run").model_0().step(1, "model_0", MODEL_0, STEPS[1][:children])
    if len(best) > 1:
        workdir.decide(2, best[-1])
    with (workdir.workdir / "ledger.jsonl").open("a") as ledger:
        ledger.write('{"name": "step1-ch')  # it is being written
    run = read_run(workdir.workdir)
    assert run.state == state
    assert [trial.name for trial in run.chosen] == best
    assert html.escape(state) in render(run)


def test_a_step_whose_children_all_failed_has_a_report(tmp_path):
    failed = [(edits, None) for edits, _ in STEPS[1]]
    ledger = Ledger(tmp_path / "run").model_0().step(1, "model_0", MODEL_0, failed)
    run = read_run(ledger.workdir)
    assert [trial.name for trial in run.chosen] == ["model_0"]
    assert render(run).count(str(html.escape(HOSTILE.split("'")[0]))) == 3
    assert len(run.failures) == 3


def test_a_ledger_that_lost_a_line_has_a_report(finished):
    path = finished / "ledger.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if '"name": "step1-child1"' not in line))
    assert [trial.name for trial in read_run(finished).chosen] == ["step2-child1"]
    assert "step2-child3" in page_of(finished)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("model_0", {"parent": "final"}),
        ("step1-child1", {"parent": "step1-child1"}),
        ("step1-child1", {"parent": "step2-child1"}),
        ("step1-child1", {"step": -1, "params": 0, "flops": -3, "elapsed": -9.0}),
        ("step1-child1", {"train_losses": [0.0, -1.0, 3e38, None]}),
        ("step1-child1", {"seconds": dict.fromkeys(("compile", "train", "evaluate", "wait"), -1)}),
        (
            "step1-child1",
            {"seconds": dict.fromkeys(("compile", "train", "evaluate", "wait"), 1e308)},
        ),
        ("step1-child1", {"flops": 10**400}),
        ("final", {"parent": None, "test_accuracy": 1e39}),
    ],
)
def test_lines_that_no_run_would_write_have_a_report(finished, name, changes):
    path = finished / "ledger.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for number, line in enumerate(lines):
        if line["name"] == name:
            del line["checksum"]
            lines[number] = with_checksum({**line, **changes})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "step2-child3" in page_of(finished)


def test_what_an_edit_changes_is_marked():
    assert changed_nodes(MODEL_0, MODEL_0) == set()
    assert changed_nodes(MODEL_0, Widen("conv1", 8).rewrite(MODEL_0)) == {"conv1"}
    deep = Deepen("relu1", 3).rewrite(MODEL_0)
    assert changed_nodes(MODEL_0, deep) == set(deep.shapes) - set(MODEL_0.shapes)


def test_nothing_is_as_good_for_less_than_what_is_on_the_pareto_front(finished):
    good = [trial for trial in read_run(finished).tried if not trial.failed]
    front = charts.pareto_front(good, "flops")
    for trial in good:
        beaten = any(
            (other.flops, -other.accuracy) <= (trial.flops, -trial.accuracy)
            and other.flops <= trial.flops
            and other.accuracy >= trial.accuracy
            for other in good
            if other is not trial
        )
        if not beaten:
            assert trial in front
    assert front == sorted(front, key=lambda trial: (trial.flops, trial.accuracy))


def test_a_run_is_shown_to_programs(finished, capsys):
    cli.main(["show", "--json", str(finished)])
    said = json.loads(capsys.readouterr().out)
    assert (said["state"], said["best"]) == ("finished", "final")
    assert said["chosen"] == ["model_0", "step1-child1", "step2-child1"]
    assert said["settings"]["num_neighbours"] == 3
    trials = {trial["name"]: trial for trial in said["trials"]}
    assert len(trials) == 8
    assert trials["step1-child2"]["accuracy"] is None
    assert trials["step1-child2"]["failure"] == HOSTILE
    assert trials["step1-child1"]["edits"] == [{"edit": "Widen", "node": "conv1", "features": 8}]
    assert trials["final"]["judged_on"] == "test"
    assert trials["final"]["accuracy"] == 0.97


def test_the_command_writes_the_file(finished, capsys, tmp_path):
    cli.main(["report", str(finished)])
    assert capsys.readouterr().out == f"{finished / 'report.html'}\n"
    assert (finished / "report.html").read_text() == page_of(finished)
    assert report(read_run(finished), tmp_path / "other.html") == tmp_path / "other.html"
    with pytest.raises(SystemExit, match="error: .*none/x.html cannot be written"):
        cli.main(["report", str(finished), f"--out={tmp_path}/none/x.html"])


@pytest.mark.parametrize("name", ["show", "report"])
def test_a_reader_that_has_enough_is_told_of_no_error(finished, name):
    command = [sys.executable, "-m", "nash_jax.cli", name, str(finished)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.parametrize(("ending", "begins"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_pictures_are_files_of_their_own(finished, tmp_path, ending, begins):
    cli.main(["pictures", str(finished), f"--out={tmp_path}/out", f"--format={ending}"])
    names = ["climb", "lineage", "curves", "cost", "time", "workers"]
    names += [f"network-{name}" for name in ("model_0", "step1-child1", "step2-child1")]
    paths = {f"{name}.{ending}" for name in names}
    assert {path.name for path in (tmp_path / "out").iterdir()} == paths
    assert all((tmp_path / "out" / name).read_bytes().startswith(begins) for name in paths)


def test_pictures_of_another_format_are_refused(finished, tmp_path):
    with pytest.raises(ValueError, match="format must be svg or png; got 'gif'"):
        pictures(read_run(finished), tmp_path, "gif")


def compared(*workdirs):
    console = rich.console.Console(file=io.StringIO(), width=200)
    compare([*map(read_run, workdirs)], console=console)
    return console.file.getvalue()


def row_of(text, title):
    return next(line for line in text.splitlines() if line.strip().startswith(title))


def test_runs_that_differ_in_their_seed_alone_have_a_mean(tmp_path):
    workdirs = [
        Ledger(tmp_path / f"run{seed}", CONFIG.replace(seed=seed)).whole(accuracy)
        for seed, accuracy in ((0, 0.96), (1, 0.98))
    ]
    again = shutil.copytree(workdirs[1], tmp_path / "again")  # the same seed counts once
    text = compared(*workdirs, again)
    assert "97.00%" in text
    assert "1.41" in text
    assert row_of(text, "step 1").split()[2:] == ["90.00%"] * 3
    assert "widths" not in text


def test_settings_are_shown_where_they_differ(tmp_path):
    one = Ledger(tmp_path / "one").whole()
    config = CONFIG.replace(lr_start=0.01)
    other = Ledger(tmp_path / "other", config).model_0().workdir
    text = compared(one, other)
    assert row_of(text, "lr_start").split() == ["lr_start", "0.05", "0.01"]
    assert "momentum" not in text
    assert "mean" not in text
    assert "unfinished, 1 network so far" in text


def test_a_run_on_other_data_is_not_compared(tmp_path):
    one, same, other = (
        Ledger(tmp_path / name, data=data).whole()
        for name, data in (("one", "d1"), ("same", "d1"), ("other", "d2"))
    )
    with pytest.raises(ValueError, match="must be on the same data, .*; got d1 .* and d2 .*other"):
        compared(one, same, other)


def test_home_is_a_place_for_what_commands_write(finished, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    cli.main(["report", str(finished), "--out=~/page.html"])
    assert (tmp_path / "page.html").exists()


def test_a_run_that_got_more_time_is_not_finished_and_did_not_search_before_it(tmp_path):
    run = Ledger(tmp_path / "run").whole()
    view = read_run(run)
    assert view.final is not None
    append_line(run, {"kind": EXTENSION, "minutes": 1.0, "elapsed": view.seconds, "config": "x"})
    more = read_run(run)
    assert more.final is None
    assert more.state == f"unfinished, {len(view.tried)} networks so far"
    assert more.shares == view.shares
    first, *children = view.tried
    late = [dataclasses.replace(trial, elapsed=trial.elapsed + 90.0) for trial in children]
    assert shares_of_time([first, *late], False)["wait"] > view.shares["wait"]
    begun = first.elapsed + 90.0
    assert shares_of_time([first, *late], False, [begun]) == pytest.approx(view.shares)


def test_compare_is_a_command_whose_errors_are_one_line(finished, tmp_path, capsys):
    cli.main(["compare", str(finished), str(finished)])
    assert "97.00%" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="must be a run in .*; it has no config.json; give"):
        cli.main(["compare", str(finished), str(tmp_path)])


def test_the_comparison_is_a_page_that_needs_nothing_else(finished, tmp_path):
    hostile = Ledger(tmp_path / "<img src=x> $x_1$ & y").whole()
    cli.main(["compare", str(finished), str(hostile), f"--html={tmp_path / 'c.html'}"])
    text = (tmp_path / "c.html").read_text()
    assert not {"script", "img", "link"} & {tag for tag, _ in Page(text).tags}
    assert not re.search(r"https?:|@import|url\((?!#)", text)
    assert {"97.00%", str(hostile)} <= set(Page(text).texts)


def test_a_card_of_several_seeds_has_their_mean_and_interval(tmp_path):
    workdirs = [
        Ledger(tmp_path / f"run{seed}", CONFIG.replace(seed=seed)).whole(accuracy)
        for seed, accuracy in ((0, 0.96), (1, 0.98))
    ]
    text = card([*map(read_run, workdirs)])
    assert text.count("# Best-practice card") == 1
    # 97 +- 12.706 sqrt(2) / sqrt(2), Student's t with one degree of freedom
    assert "deviation: 97.00 ± 1.41%; Student's 95% interval of the mean: 84.29 to 109.71%" in text
    assert "which decides all that is random in it: 0, 1." in text
    other = Ledger(tmp_path / "other", CONFIG.replace(seed=2), data="d2").whole()
    both = card([*map(read_run, [*workdirs, other])])
    assert both.count("# Best-practice card") == 2
    assert both.count("Cards of other data sets stand beside this one") == 2


def test_a_card_compares_with_random_networks_and_with_results_without_tricks(tmp_path):
    config = CONFIG.replace(cutout=2)
    drawn = config.replace(strategy="random_search", num_samples=1, num_edits=2)
    runs_given = [
        read_run(Ledger(tmp_path / name, each).whole(accuracy))
        for name, each, accuracy in (
            ("run", config, 0.97),
            ("plain", CONFIG.replace(seed=3), 0.91),
            *((f"drawn{seed}", drawn.replace(seed=seed), 0.94 + 0.02 * seed) for seed in (0, 1)),
        )
    ]
    of_drawn, of_run, _ = card(runs_given).split("\n\n\n")
    assert "Without any trick: test accuracy 91.00% (`" in of_run
    assert "Random networks with the same final training: test accuracy 95.00 ± 1.41% (`" in of_run
    assert "Relative improvement over them: +2.11%." in of_run  # 97 / 95 - 1
    assert "These are random networks themselves" in of_drawn
    alone = card(runs_given[:1])
    assert alone.count("**Absent**: random networks of the space") == 1
    assert alone.count("**Absent**: the result without tricks") == 1


def test_a_card_leaves_to_the_authors_what_no_record_knows(finished):
    text = card([read_run(finished)])
    for words in (
        "which settings were tuned",
        "on which images",
        "what tuning cost",
        "its licence",
    ):
        assert re.search(rf"\*\*To be filled in\*\*: .*{words}", text)
    assert "was begun by `python -m experiments.nash '--dataset=npz:a b.npz'`" in text
    assert "**Absent**: how many images" in text  # that version did not record it


def test_training_is_counted_in_flops(tmp_path):
    images = {"train": 300, "validation": 100, "test": 50}
    workdir = Ledger(tmp_path / "run", CONFIG.replace(batch_size=100), images=images).whole()
    run = read_run(workdir)
    # two epochs of each network that did not fail; forward and backward, 300 or 400 images
    trained = sum(trial.flops for trial in run.tried if not trial.failed)
    search, final = (3 * 2 * x / 1e15 for x in (300 * trained, 400 * run.final.flops))
    row = next(line for line in card([run]).splitlines() if line.startswith("| 7 | 7 | 12 |"))
    assert [cell.strip() for cell in row.split("|")[4:8:2]] == [f"{search:.3g}", f"{final:.3g}"]


def test_a_card_is_a_command_and_hostile_texts_are_texts(tmp_path, capsys):
    config = CONFIG.replace(dataset="npz:a|b`c\n# title")
    about = {"versions": {"x": "<img>"}, "python": "|", "cpu": "*a*", "device": "[x](y)"}
    run = Ledger(tmp_path / "run", config, **about).model_0().workdir
    cli.main(["card", str(run)])
    text = capsys.readouterr().out
    assert text == card([read_run(run)])
    assert "**Absent**: a test accuracy: the run is unfinished, 1 network so far." in text
    assert [line for line in text.splitlines() if line.startswith("# ")] == [text.splitlines()[0]]
    assert r"\<img\>" in text
    assert r"processor \*a\*" in text
    cli.main(["card", str(run), f"--out={tmp_path / 'card.md'}"])
    assert (tmp_path / "card.md").read_text() == text
    (tmp_path / "repeats.csv").touch()
    with pytest.raises(SystemExit, match="a card is of runs that train; .* is a search in a table"):
        cli.main(["card", str(tmp_path)])


@pytest.fixture
def browser():
    """A browser that is installed on this machine."""
    sync_api = pytest.importorskip("playwright.sync_api")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if found is None:
        pytest.skip("no chromium is installed")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_the_report(finished, browser, scheme):
    address = report(read_run(finished)).as_uri()
    page = browser.new_page(viewport={"width": 1200, "height": 900}, color_scheme=scheme)
    said, requests = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(address)
    assert page.locator("#tip").is_hidden()
    run = read_run(finished)
    trial = run.by_name["step1-child2"]
    point = page.locator("#chart-climb [data-candidate=step1-child2]")
    point.hover()
    assert page.locator("#tip").inner_text() == tip(run, trial)
    assert "skip relu1 to relu2" in tip(run, trial)
    assert "lit" in page.locator("tr[data-candidate=step1-child2]").get_attribute("class")
    page.locator("h1").hover()
    assert page.locator("#tip").is_hidden()
    page.locator("#chart-climb [data-candidate=step2-child1]").focus()
    assert "deepen after relu1" in page.locator("#tip").inner_text()
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert said == []
    assert requests == [address]


def test_a_random_search_has_no_lineage(tmp_path):
    ledger = Ledger(tmp_path / "run", CONFIG.replace(strategy="random_search"))
    for number in (1, 2):
        ledger.add(f"sample{number}", "scratch", 0, None, (), MODEL_0, 0.5 + number / 10)
    run = ledger.decide(1, "sample2").workdir
    page = page_of(run)
    assert "The lineage" not in page
    assert "from scratch" in page
    assert [trial.name for trial in read_run(run).chosen] == ["sample2"]


def test_how_busy_the_workers_were_is_counted_by_node():
    """Two trials at a time from second 1 to 3, one from 0 to 5; then none, and one."""

    def trial(place, begun, ended, wait=0.0):
        estimate = Estimate(0.5, 1.0, Seconds(train=ended - begun, wait=wait))
        proposal = Proposal("a", MODEL_0, jax.random.key(0))
        return Trial(proposal, MODEL_0, estimate, elapsed=ended, workers=2, place=place)

    found = busy([trial("a", 0, 5), trial("b", 1, 3, wait=9.0), trial("a", 6, 8)])
    assert found.seconds.tolist() == [0, 1, 3, 5, 6, 8]
    assert {node: counts.tolist() for node, counts in found.by_node.items()} == {
        "a": [1, 1, 1, 0, 1, 0],
        "b": [0, 1, 0, 0, 0, 0],
    }
    assert found.share(2) == (5 + 2 + 2) / 16
    ahead = dataclasses.replace(Seconds(train=1.0), compile=5.0)
    trials = [trial("", 0, 1), trial("", 1, 2)]
    for each in trials:  # compiled before it was trained, beside another
        object.__setattr__(each, "estimate", dataclasses.replace(each.estimate, seconds=ahead))
    assert busy(trials, overlapped=True).share(1) == 1.0
    assert busy([trial("", 0, 0)]).share(2) == 0.0


def test_progress_shows_how_much_of_a_cluster_is_used(finished):
    console = rich.console.Console(file=io.StringIO(), force_terminal=True, width=200)
    with Progress(console) as progress:
        progress(Begun(10, {}))
        progress(Load(2, 8, 5))
        progress(Done(read_run(finished).trials[0]))
        progress._progress.refresh()
        shown = console.file.getvalue()
        progress(Load(0, 0, 0))  # it is let go
    assert re.search(r"left, 2 nodes, 8 workers, 5 trials waiting, [\d,]+ done per hour", shown)
    assert "nodes" not in console.file.getvalue().splitlines()[-1]
