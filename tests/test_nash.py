"""The launcher: flags, presets, what people see, and every mistake as one clear line."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from helpers import TINY

import experiments.nash  # noqa: F401, defines the flags
from nash_jax import cli, launching, runs, search_flags, training
from nash_jax.machine import num_schedulable
from nash_jax.reporting.card import card
from nash_jax.runs import PRESETS, Config
from nash_jax.runs.config import all_settings


def parse(*args):
    """Parse a command line; the flags are put back by the fixture below."""
    flags.FLAGS(["nash", *args])


@pytest.fixture(autouse=True)
def _flags(monkeypatch, tmp_path_factory):
    """Flags, and the folder for compiled programs, are each test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"])  # launchers add to them
    with flagsaver.flagsaver():
        yield


def config(*args):
    parse(*args)
    return search_flags.config_from_flags()


def error(*args):
    """The message with which the launcher exits."""
    parse(*args)
    with pytest.raises(SystemExit) as caught:
        launching.search(["nash"])
    message = str(caught.value)
    assert message.startswith("error: ")
    assert "\n" not in message
    return message


def test_the_defaults_are_the_paper_s():
    limit = 1_000_000_000  # the paper names no limit
    assert config() == Config().replace(max_flops=limit)
    assert config().recipes.training.precision == "float32"  # auto, on a CPU
    assert config("--max_flops=-1") == Config()
    paper = {
        "num_steps": 5,
        "num_neighbours": 8,
        "num_morphisms": 5,
        "epochs_pretrain": 20,
        "epochs_neighbours": 17,
        "epochs_final": 100,
        "lr_start": 0.05,
        "lr_end": 0.0,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "batch_size": 128,
        "crop_padding": 4,
        "flip": True,
        "cutout": 0,
        "validation_fraction": 0.2,
        "widths": (64, 128, 256),
        "kernel_sizes": (3, 5),
        "widening_factors": (2, 4),
    }
    assert paper.items() <= config().values().items()


def test_flags_win_over_presets_and_presets_over_defaults():
    made = config("--preset=digits", "--num_steps=9", "--widths=4,6", "--flip")
    assert (made.strategy.num_steps, made.space.widths, made.recipes.training.flip) == (
        9,
        (4, 6),
        True,
    )
    assert made.recipes.epochs_final == PRESETS["digits"]["epochs_final"]


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_valid(preset):
    assert isinstance(config(f"--preset={preset}"), Config)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--dataset=mnist", "cifar:DIR or npz:FILE; got 'mnist'"),
        ("--dataset=npz:none.npz", "there is no file none.npz"),
        ("--seed=-1", "seed must be >= 0; got -1"),
        ("--seed=4294967296", "seed must be below 2**32; got 4294967296"),
        ("--num_steps=-1", "num_steps must be >= 0; got -1"),
        ("--num_neighbours=0", "num_neighbours must be >= 1; got 0"),
        ("--epochs_final=-2", "epochs_final must be >= 0; got -2"),
        ("--batch_size=2000", "batch_size must be at most the number of training images, 1150"),
        ("--validation_fraction=0", "validation_fraction must be between 0 and 1; got 0.0"),
        ("--widths=4,x", "widths must be whole numbers like 2,4; got 4,x"),
        ("--widths=4,4,4,4,4", "images of 8x8 are too small for 4 poolings by 2"),
        (
            "--max_flops=1000",
            "max_flops must be at least what the first network has, 318464; got 1000",
        ),
        ("--widening_factors=1,2", "widening_factors must be whole numbers >= 2; got [1, 2]"),
        ("--kernel_sizes=", "kernel_sizes must be whole numbers >= 1; got []"),
        ("--workers=-1", "workers must be >= 0; got -1"),
        ("--devices=7", "devices must be numbers from 0 to 0, of the cpu devices of this machine"),
        ("--devices=x", "devices must be numbers from 0 to 0"),
        ("--dataset=npz:x.npz --label=y", "label is for tfds: and cifar:; got y"),
        ("--corrupt_images=mend", "corrupt_images must be one of stop, skip; got 'mend'"),
        ("--strategy=hillclimbing", "got 'hillclimbing'; did you mean hill_climbing?"),
        (
            "--num_samples=3",
            "num_samples is a setting of strategy aging_evolution, one_shot, random_sea",
        ),
        ("--strategy=darts", "strategy darts needs a space with a supernet; got morphs; take --sp"),
        ("--space=nasnet --strategy=enas", "enas needs a space with a supernet; got nasnet; take"),
        ("--space=nb201 --strategy=p_darts", "p_darts needs DARTS's cells; got nb201; take --spa"),
        (
            "--space=darts --strategy=p_darts --stage_choices=8,1,3",
            "stage_choices must be whole numbers >= 2; got [8, 1, 3]",
        ),
        (
            "--space=nb201 --strategy=darts --supernet_batch_size=2000",
            "supernet_batch_size must be at most the number of images that a supernet's weights an",
        ),
        (
            "--model_0=lenet",
            "model_0 must be chain, vgg, resnet-DEPTH, wrn-DEPTH-FACTOR, resnet50,",
        ),
        ("--model_0=resnet-21 --num_steps=0", "resnet has a depth of 6 n + 2; got 21; take 8"),
        ("--model_0=none.json", "model_0 none.json cannot be read: No such file"),
        ("--inherit=all", "inherit must be one of morphism, by_name, nothing; got 'all'"),
        ("--constant_lr=-1", "constant_lr must be >= 0 and finite; got -1.0"),
        ("--label_smoothing=1", "label_smoothing must be in [0, 1); got 1.0"),
        ("--recipe=modern", "cutout must be smaller than the images, 8 pixels; got 8"),
        ("--recipe=A", "auxiliary_weight needs a network of cells, as those of the spaces darts"),
        ("--recipe=D", "drop_path needs a network with paths that can be dropped, as the cells"),
        ("--recipe=C+D+A+50C", "channels is a setting of space cnas, darts, darts_macro, enas"),
        ("--precision=half", "precision must be one of float32, tf32, bfloat16, auto; got 'half'"),
        ("--max_memory=-1", "max_memory must be >= 0 and finite; got -1.0"),
        ("--max_memory=nan", "max_memory must be >= 0 and finite; got nan"),
        ("--checkpoint_seconds=nan", "checkpoint_seconds must be a number; got nan"),
        ("--precision=tf32", "precision tf32 is for GPUs; got a CPU, which has no such numbers"),
        ("--minutes=+5", "minutes=+5 gives a run more time; "),
        ("--minutes=5 --hours=1", "give minutes or hours, not both; got 5 and 1"),
        ("--threads_per_child=0", "threads_per_child must be >= 1; got 0"),
        ("--cache_dir=/dev/null", "cache_dir /dev/null cannot be used: File exists"),
    ],
)
def test_a_mistake_is_one_clear_line_and_nothing_is_written(flag, message, tmp_path):
    assert message in error("--preset=digits", f"--workdir={tmp_path / 'run'}", *flag.split())
    assert list(tmp_path.iterdir()) == []


def test_a_workdir_among_the_images_is_refused_and_not_made(tmp_path, monkeypatch):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    message = error("--dataset=folder:.", "--minutes=1")
    assert "workdir must not lie in the folder of the images, where it would be a class" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cat", "dog"]


def test_a_cache_that_others_can_write_is_refused(tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(0o777)
    message = error("--preset=digits", f"--workdir={tmp_path / 'run'}", f"--cache_dir={folder}")
    assert f"cache_dir {folder} must be writable by you alone" in message
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_the_cache_is_the_user_s_own_unless_it_is_not_wanted(tmp_path):
    parse(f"--cache_dir={tmp_path / 'deep' / 'cache'}")
    folder = launching.cache_from_flags()
    assert folder.stat().st_mode & 0o777 == 0o700
    parse("--cache_dir=none")
    assert launching.cache_from_flags() is None


def test_more_workers_than_cores_are_warned_of_and_capped(monkeypatch, caplog):
    monkeypatch.setattr(launching, "num_cores", lambda: 4)
    parse("--workers=3", "--threads_per_child=2")
    assert launching.workers_from_flags(search_flags.config_from_flags()) == 2
    assert "workers=3 would need more than the 4 cores of this machine" in caplog.text
    caplog.clear()
    for flag, workers in (("--workers=0", 4), ("--workers=2", 2)):
        parse(flag, "--threads_per_child=1")
        assert launching.workers_from_flags(search_flags.config_from_flags()) == workers
    assert caplog.text == ""


def test_a_precision_that_is_slower_here_is_warned_of(monkeypatch, caplog):
    for ratio, text in ((0.5, ""), (3.24, "a convolution and its gradient take 3.2 times as long")):
        monkeypatch.setattr(launching, "bfloat16_seconds_per_float32", lambda r=ratio: r)
        launching.warn_of_slow_precision(Config().replace(precision="bfloat16"))
        assert text in caplog.text
        assert bool(caplog.text) == bool(text)


def test_the_seconds_of_the_types_are_measured():
    assert 0 < training.bfloat16_seconds_per_float32() < 1000


def test_a_workdir_in_use_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    assert "workdir must be new, empty or that of a run" in error(
        "--preset=digits", f"--workdir={tmp_path}"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "flag",
    [
        *("--preset=big", "--num_steps=x", "--lr_start=x", "--num_step=3"),
        *("--minutes=+0", "--minutes=nan", "--hours=1e9"),
    ],
)
def test_absl_refuses_unknown_flags_and_values(flag):
    with pytest.raises(flags.Error):
        parse(flag)


def test_the_default_workdir_is_the_first_free_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parse("--dataset=npz:some/x.npz")
    (tmp_path / "runs" / "npz-x-1").mkdir(parents=True)
    with launching.workdir_from_flags() as first, launching.workdir_from_flags() as second:
        assert [str(first), str(second)] == ["runs/npz-x-2", "runs/npz-x-3"]
        (second / "ledger.jsonl").write_text("")
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["npz-x-1", "npz-x-3"]
    with launching.workdir_from_flags() as third:
        assert str(third) == "runs/npz-x-2"


def test_a_given_workdir_is_made_by_the_run_alone(tmp_path):
    parse(f"--workdir={tmp_path / 'mine'}")
    with launching.workdir_from_flags() as workdir:
        assert workdir == tmp_path / "mine"
    assert list(tmp_path.iterdir()) == []


def test_h_is_help(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["nash.py", "-h", "--seed=1"])
    assert search_flags.arguments() == ["nash.py", "--help", "--seed=1"]


def test_without_a_home_programs_are_not_kept(monkeypatch, tmp_path, caplog):
    monkeypatch.delenv("XDG_CACHE_HOME")
    parse()

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(pathlib.Path, "home", no_home)
    assert launching.cache_from_flags() is None
    assert "are not kept: Could not determine home directory; give --cache_dir" in caplog.text
    caplog.clear()
    (tmp_path / "home").write_text("no folder")
    monkeypatch.setattr(pathlib.Path, "home", lambda: tmp_path / "home")
    assert launching.cache_from_flags() is None
    assert "are not kept: cache_dir" in caplog.text
    parse(f"--cache_dir={tmp_path / 'home'}")  # what is asked for must be possible
    with pytest.raises(ValueError, match="cache_dir .* cannot be used: File exists"):
        launching.cache_from_flags()


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("digits", "digits"),
        ("tfds:cifar10", "tfds-cifar10"),
        ("tfds:a/b:1.0.0", "tfds-a-b-1.0.0"),
        ("folder:/x/pets/", "folder-pets"),
        ("npz:", "npz"),
    ],
)
def test_the_default_workdir_is_named_after_the_data(dataset, name):
    parse(f"--dataset={dataset}")
    assert launching.data_name() == name


@pytest.mark.parametrize(
    "given", [["--workdir=old"], ["--workdir", "old"], ["-workdir", "old"], []]
)
def test_how_to_resume_names_the_folder_once(given, monkeypatch):
    words = ["python", "-m", "experiments.nash", *given, "--preset=digits"]
    monkeypatch.setattr(sys, "orig_argv", words)
    assert launching.resume_command(pathlib.Path("old")) == (
        "resume with: python -m experiments.nash --preset=digits --workdir=old"
    )


def test_a_run_goes_on_with_the_plan_that_it_has(tmp_path, monkeypatch):
    planned = TINY.replace(minutes=3.0, epochs_pretrain=7)
    with runs.open_run(planned, tmp_path):
        pass
    asked = {}

    def perform(config, workdir, console, **options):
        del workdir, console
        asked.update(options, config=config)
        sys.exit("enough")

    monkeypatch.setattr(launching, "perform", perform)
    for words, more in ((["--minutes=3"], 0.0), (["--hours=0.05"], 0.0), (["--minutes=+2"], 2.0)):
        with flagsaver.flagsaver():
            parse(*words, f"--workdir={tmp_path}", "--batch_size=64")
            with pytest.raises(SystemExit, match="enough"):
                launching.search(["nash"])
        assert asked == {"config": planned, "planned": None, "more_minutes": more}
    for words in (["--minutes=+2"], ["--minutes", "+2"], ["-hours", "+0.1"]):
        monkeypatch.setattr(sys, "orig_argv", ["python", "nash", "search", *words])
        assert launching.resume_command(tmp_path) == (
            f"resume with: nash search --minutes=3 --workdir={tmp_path}"
        )
    monkeypatch.setattr(sys, "orig_argv", ["python", "nash", "search", "--minutes", "3"])
    assert launching.resume_command(tmp_path) == (
        f"resume with: nash search --minutes=3 --workdir={tmp_path}"
    )
    with flagsaver.flagsaver():
        parse("--minutes=3", f"--workdir={tmp_path / 'new'}", "--dataset=folder:x")
        with pytest.raises(SystemExit, match="enough"):
            launching.search(["nash"])
    assert asked["planned"] == {"minutes": 3.0, "dataset": "folder:x", "image_size": 32}


@pytest.mark.parametrize(
    ("words", "threads", "here"),
    [
        ([], "", True),
        (["--workers=1"], "", False),
        (["--executor=processes"], "", False),
        ([], "more", False),
    ],
)
def test_a_plan_decides_where_children_are_made(words, threads, here, tmp_path, monkeypatch):
    cores = num_schedulable()
    monkeypatch.setenv("XLA_FLAGS", training.faster_flags(""))
    monkeypatch.setenv("NPROC", f"{cores + 1 if threads else cores}")
    asked = {}

    def plan(dataset, *, in_process, workers, **given):
        del dataset, given
        asked.update(workers=workers, may=in_process)
        return runs.Plan(TINY.replace(threads_per_child=cores), "planned", in_process)

    def execute(run, tell, workers, *args, executor, **options):
        del run, tell, args, options
        sys.exit(f"{workers} {executor}")

    monkeypatch.setattr(launching, "plan", plan)
    monkeypatch.setattr(launching, "execute", execute)
    with flagsaver.flagsaver():
        parse("--minutes=3", f"--workdir={tmp_path}", "--progress=quiet", *words)
        with pytest.raises(SystemExit, match=r"1 serial" if here else r"auto|processes"):
            launching.search(["nash"])
    assert asked["may"] == here


def test_a_plan_is_made_for_as_many_children_at_once_as_there_are_accelerators(
    tmp_path, monkeypatch
):
    def plan(dataset, *, workers, **given):
        del dataset, given
        sys.exit(f"{workers} at once")

    monkeypatch.setattr(launching, "plan", plan)
    gpus = [SimpleNamespace(platform="gpu")] * 3
    monkeypatch.setattr(launching, "devices_from_flags", lambda: gpus)
    with flagsaver.flagsaver():
        parse("--minutes=3", f"--workdir={tmp_path}", "--progress=quiet")
        with pytest.raises(SystemExit, match="3 at once"):
            launching.search(["nash"])


@pytest.mark.parametrize(
    "given",
    [
        TINY,
        TINY.replace(minutes=3.0, flip_test=True, flip=True, max_costs="depth=9"),
        TINY.replace(space="nb201", strategy="aging_evolution", num_samples=7, max_flops=-1),
    ],
)
def test_the_commands_of_a_card_make_runs_like_it(given, tmp_path):
    with runs.open_run(given, tmp_path):
        pass
    text = card([runs.read_run(tmp_path)])
    found = {}
    for words in re.findall(r"\*\*Absent\*\*: (\w+ \w+).*`nash search ([^`]*)`", text):
        with flagsaver.flagsaver():
            found[words[0]] = config(*shlex.split(words[1]))
    assert found["deviation and"] == given.replace(seed=1)
    assert found["other data"] == given.replace(dataset="DATA")
    assert found["the first"] == given
    edits = {"num_edits": 4} if given.values()["strategy"] == "hill_climbing" else {}
    assert found["random networks"] == given.replace(
        strategy="random_search", num_samples=1, **edits
    )
    tricks = found.get("the result", given)
    assert tricks == given.replace(flip_test=False)


@pytest.mark.slow
def test_the_command_searches_on_a_file_of_colour_images_and_says_what_it_found(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 120)
    images = (80 * labels[:, None, None, None] + rng.integers(0, 40, (120, 6, 7, 3))).astype("u1")
    np.savez(
        tmp_path / "x.npz",
        **{"x_train": images[:90], "y_train": labels[:90]},
        **{"x_test": images[90:], "y_test": labels[90:]},
    )
    command = [
        *(sys.executable, "-m", "experiments.nash", f"--dataset=npz:{tmp_path / 'x.npz'}"),
        *(f"--workdir={tmp_path / 'run'}", "--widths=4,4", "--batch_size=16", "--num_steps=1"),
        *("--num_neighbours=2", "--num_morphisms=1", "--epochs_pretrain=2"),
        *("--epochs_neighbours=2", "--epochs_final=4", "--max_flops=100000"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    lines = done.stdout.splitlines()
    names = [line.split()[0] for line in lines if "parameters" in line]
    assert sorted(names) == ["final", "model_0", "step1-child1", "step1-child2"]
    assert f"test accuracy {result['test_accuracy']:.2%}" in lines[-1]
    assert str(tmp_path / "run") in lines[-1]
    recorded = json.loads((tmp_path / "run" / "config.json").read_text())
    assert recorded["command"] == ["python", *command[1:]]
    assert {"jax", "flax", "nash_jax"} <= set(recorded["versions"])


def test_dotted_flags_are_the_same_flags():
    given = config("--strategy.num_steps=3", "--data.dataset=digits", "--bounds.max_flops=7")
    assert given == config("--num_steps=3", "--dataset=digits", "--max_flops=7")
    assert (given.strategy.num_steps, given.bounds.max_flops) == (3, 7)


def test_the_installed_command_shows_all_flags_by_group(capsys):
    cli.main(["search", "--help"])
    said = capsys.readouterr().out
    groups = [line.split(":")[0] for line in said.splitlines() if line and line[0] != " "]
    assert groups[1:] == [
        *("many settings at once", "data", "space", "strategy", "training", "bounds", "run")
    ]
    for setting in all_settings():
        assert f"  --{setting.name}\n" in said
        assert setting.help.split()[0] in said
    assert "by default: aging_evolution 20000, one_shot" in said
    assert "--workdir" in said
