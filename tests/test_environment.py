"""What surrounds a run: the machine, settings of JAX, file systems, terminals, the program."""

import errno
import fcntl
import json
import multiprocessing
import os
import pathlib
import subprocess
import sys
import threading
import types

import jax
import numpy as np
import pytest
from helpers import TINY, history

import nash_jax as nj
from nash_jax import data, jax_settings, machine, morphisms, runs, training
from nash_jax.record import files, ledger
from nash_jax.record.provenance import changes, provenance
from nash_jax.reporting import Note, compare

ROOT = pathlib.Path(__file__).parents[1]
SMALL = TINY.replace(
    num_steps=1, num_neighbours=1, epochs_final=1, max_train_examples=200, widths=(4,)
)


def launch(*command, **environment):
    """Run a Python program from elsewhere; its exit status, and what it says."""
    done = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


# The package.


def test_the_package_is_found_beside_a_clone_of_its_name(tmp_path):
    """As `cd ..; nash_jax/.venv/bin/python` would: the folder there is no package."""
    (tmp_path / "nash_jax").mkdir()
    program = "import nash_jax as nj; print(nj.Config().seed)"
    environment = {name: x for name, x in os.environ.items() if name != "PYTHONPATH"}
    said = subprocess.check_output(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, text=True
    )
    assert said == "0\n"


# The machine.


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Control groups in a folder: what files say, and which group this process is in."""

    def write(membership, contents):
        (tmp_path / "self").write_text(membership)
        for name, text in contents.items():
            path = tmp_path / "groups" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")

    monkeypatch.setattr(machine, "_CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(machine, "_MEMBERSHIP", tmp_path / "self")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)))
    return write


@pytest.mark.parametrize(
    ("membership", "contents", "cores", "memory"),
    [
        ("0::/\n", {"cpu.max": "150000 100000", "memory.max": "1000"}, 2, 1000),
        ("0::/\n", {"cpu.max": "max 100000", "memory.max": "max"}, 64, None),
        (
            "0::/a/b\n",
            {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000", "a/b/memory.max": "7"},
            3,
            7,
        ),
        (
            "4:memory:/x\n1:cpu,cpuacct:/gone\n",
            {
                **{"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"},
                "memory/x/memory.limit_in_bytes": "12345",
            },
            1,
            12345,
        ),
        ("", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64, None),
        ("0::/\n", {"cpu.max": "odd", "memory.max": ""}, 64, None),
    ],
)
def test_the_limits_of_a_container_count(groups, membership, contents, cores, memory):
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    groups(membership, contents)
    assert machine.num_cores() == cores
    assert machine.memory_bytes() == (memory or physical)


def test_a_platform_that_is_not_there_is_one_line(tmp_path):
    for command in (["-m", "experiments.nash"], ["-m", "nash_jax.cli", "predict", ".", "x.png"]):
        status, said, error = launch(*command, JAX_PLATFORMS="cuda")
        assert (status, said) == (1, "")
        assert error.startswith("error: JAX finds no device with JAX_PLATFORMS=cuda: ")
        assert (
            "pip install 'nash_jax[cuda]'; more on this in docs/troubleshooting.md, \"The m"
            in error
        )
        assert error.count("\n") == 1


# JAX's settings.

SEARCH = """
import json, sys
import nash_jax as nj
from nash_jax import runs
from tests.test_environment import SMALL
from tests.helpers import history

if __name__ == "__main__":
    print(json.dumps(history(nj.run_search(SMALL, workers=1).history)))
"""


@pytest.mark.slow
def test_a_result_does_not_depend_on_how_settings_were_made(tmp_path):
    (tmp_path / "search.py").write_text(SEARCH)
    settings = {"JAX_ENABLE_X64": "1", "JAX_DEFAULT_PRNG_IMPL": "rbg"}
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    status, said, error = launch(str(tmp_path / "search.py"), **settings, PYTHONPATH=path)
    assert status == 0, error
    with jax.enable_x64(True), jax.default_prng_impl("rbg"):
        result = nj.run_search(SMALL, workers=1)
    assert json.loads(json.dumps(history(result.history))) == json.loads(said)
    assert not any(trial.failed for trial in result.history)


def test_a_thread_can_hold_the_settings_of_another():
    found = []

    def work(given):
        before = jax_settings.deciding()
        with jax_settings.holding(given):
            found.append((before, jax_settings.deciding()))

    usual = jax_settings.deciding()
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        given = jax_settings.settings()
        thread = threading.Thread(target=work, args=(given,))
        thread.start()
        thread.join()
        ((before, held),) = found
        assert before == usual != held == jax_settings.deciding()
    assert held["jax_enable_x64"] is True
    assert held["jax_default_matmul_precision"] == "highest"


def test_a_caller_may_forbid_itself_any_promotion():
    digits = data.load_dataset("digits")
    examples = data.subset(digits.train, 100, seed=0)
    key, settings = jax.random.key(0), training.TrainingSettings(batch_size=32, crop_padding=1)

    def results():
        spec = nj.chain((8, 8, 1), 10, (4,))
        variables = nj.init(spec, key)
        spec, variables = morphisms.deepen(
            *(spec, variables, key), after="relu1", kernel_size=3, calibration=examples.images
        )
        trained = training.fit(spec, variables, examples, key, 1, settings)
        return training.evaluate(spec, trained.variables, examples).loss

    usual = results()
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        assert results() == usual


# Where a result comes from.


def test_what_decides_bits_is_recorded_and_compared():
    usual = provenance(["x"])
    assert usual["jax_settings"]["jax_enable_x64"] is False
    with jax.enable_x64(True), jax.default_prng_impl("rbg"):
        other = provenance(["y"])
    notes = changes(usual, other)
    assert [note.partition(" was ")[0] for note in notes] == [
        *("jax_default_prng_impl", "jax_enable_x64")
    ]
    assert notes[1] == (
        "jax_enable_x64 was False when the run began, and is True: the result may differ from that "
        "of a run without a stop"
    )
    early = {name: x for name, x in usual.items() if name not in ("jax_settings", "commit")}
    assert changes(early, other) == []
    assert changes(usual, {**usual, "versions": {**usual["versions"], "jax": "0"}}) == [
        f"jax was {jax.__version__!r} when the run began, and is '0': the result may differ from "
        "that of a run without a stop"
    ]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a repository")
def test_the_commit_of_the_code_is_recorded():
    known = subprocess.check_output(["git", "-C", ROOT, "rev-parse", "HEAD"], text=True).strip()
    assert provenance()["commit"].removesuffix("-dirty") == known


@pytest.fixture
def in_two_places(tmp_path):
    """A run of a file of images and a starting network, and both under other names."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60, 6, 6, 1), np.uint8), np.arange(60) % 2
    for name in ("a.npz", "b.npz", "other.npz"):
        np.savez(
            tmp_path / name,
            **{"x_train": images[:40], "y_train": labels[:40]},
            **{"x_test": images[40:] ^ (name == "other.npz"), "y_test": labels[40:]},
        )
    spec = nj.chain((6, 6, 1), 2, (4,))
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(nj.to_json(spec))
    config = runs.Config().replace(
        **{"num_steps": 0, "epochs_pretrain": 0, "epochs_final": 0, "batch_size": 8},
        **{"dataset": f"npz:{tmp_path / 'a.npz'}", "model_0": str(tmp_path / "a.json")},
    )
    moved = {"dataset": f"npz:{tmp_path}/./b.npz", "model_0": str(tmp_path / "b.json")}
    elsewhere = config.replace(**moved)
    nj.run_search(config, workdir=tmp_path / "run")
    return tmp_path, config, elsewhere


def test_data_and_networks_are_known_by_their_content(in_two_places):
    folder, config, elsewhere = in_two_places
    lines = runs.read_ledger(folder / "run")
    again = nj.run_search(elsewhere, workdir=folder / "run")
    assert history(again.history) == history(lines)
    nj.run_search(elsewhere.replace(seed=1), workdir=folder / "second")
    found = compare.groups([runs.read_run(folder / name) for name in ("run", "second")])
    assert [[run.config.seed for run in group] for group in found] == [[0, 1]]
    other = config.replace(dataset=f"npz:{folder / 'other.npz'}")
    with pytest.raises(ValueError, match="goes on with the settings .*; data was '"):
        nj.run_search(other, workdir=folder / "run")


def test_a_run_of_before_names_did_not_count_goes_on(in_two_places):
    """Its lines have a checksum of all settings, including those that name places."""
    folder, config, elsewhere = in_two_places
    recorded = files.read_json(folder / "run", "config.json")
    contents = {name: recorded[name] for name in ("data", "network", "model_0")}
    settings = {**runs.settings_of(config).early, **contents}
    files.write_json(folder / "run" / "config.json", settings)
    early = files.checksum(settings)
    lines = [{**line, "config": early} for line in runs.read_ledger(folder / "run")]
    (folder / "run" / "ledger.jsonl").unlink()
    for line in lines:
        ledger.append_line(folder / "run", line)
    again = nj.run_search(elsewhere, workdir=folder / "run")
    assert history(again.history) == history(lines)


# File systems.


def test_a_file_system_without_locks_or_flushes_is_noted(tmp_path, monkeypatch):
    def no_locks(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    def no_flush(descriptor):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    monkeypatch.setattr(os, "fsync", no_flush)
    notes = []
    config = SMALL.replace(num_steps=0, epochs_pretrain=0, epochs_final=0)

    def tell(event):
        if isinstance(event, Note):
            notes.append(event.text)

    result = nj.run_search(config, tell=tell, workdir=tmp_path / "run")
    assert history(runs.read_ledger(tmp_path / "run")) == history(result.history)
    assert ["has no locks: do not let two" in notes[0], "cannot flush" in notes[1]] == [True, True]


def test_a_disk_that_fails_is_no_file_system_without_flushes(tmp_path, monkeypatch):
    def broken(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(runs.WriteError, match="Input/output error; see whether the disk is sound"):
        files.write_atomically(tmp_path / "file", b"x")
    assert list(tmp_path.iterdir()) == []


# The program that searches.


def test_a_program_without_a_file_is_one_clear_line(monkeypatch):
    program = types.ModuleType("__main__")
    program.__file__ = "<stdin>"  # as of `python - < program.py`
    monkeypatch.setitem(sys.modules, "__main__", program)
    with pytest.raises(ValueError, match="got <stdin>, which is none; put the program into a file"):
        nj.run_search(SMALL)


def test_a_daemonic_process_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    with pytest.raises(ValueError, match="a daemonic process cannot begin, such as a worker of"):
        nj.run_search(SMALL)


def test_without_children_no_processes_are_needed(monkeypatch):
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    nothing = {"epochs_pretrain": 0, "epochs_final": 0}
    nj.run_search(SMALL.replace(strategy="one_network", **nothing))


# Terminals.


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii"])
def test_names_that_cannot_be_shown_are_escaped(tmp_path, encoding):
    folder = tmp_path / "run\udce9"
    (folder / "networks").mkdir(parents=True)
    spec = nj.chain((8, 8, 1), 2, (4,))
    variables = nj.init(spec, jax.random.key(0))
    runs.save_network(folder / "networks" / "final.safetensors", spec, variables)
    names = ["a.png", "q\udce9.png", "caf\u00e9.png"]
    for name in names[:2]:
        (tmp_path / name).write_bytes(image_file())
    status, said, error = launch(
        *("-m", "nash_jax.cli", "predict", str(folder), *(str(tmp_path / name) for name in names)),
        PYTHONIOENCODING=encoding,
    )
    assert status == 1
    assert [line.partition(":")[0] for line in said.splitlines()] == [
        *(f"{tmp_path}/a.png", rf"{tmp_path}/q\udce9.png")
    ]
    shown = "café.png" if encoding == "utf-8:strict" else r"caf\xe9.png"
    assert error == (
        f"error: {tmp_path}/{shown} is no image that can be read: No such file or directory\n"
    )


def image_file():
    import io

    import PIL.Image

    content = io.BytesIO()
    PIL.Image.new("L", (8, 8)).save(content, "PNG")
    return content.getvalue()


# Edits keep the function in programs that are compiled with the launcher's flags.

AS_LAUNCHED = """
import jax, numpy as np
import nash_jax as nj
from nash_jax import morphisms
from nash_jax.morphisms import Deepen, SkipAdd, SkipConcat, Widen

images = np.random.default_rng(0).normal(size=(64, 8, 8, 1)).astype(np.float32)
key = jax.random.key(0)
spec = nj.chain((8, 8, 1), 10, widths=(8, 12))
variables = nj.init(spec, key)


def logits(spec, variables):
    evaluated = jax.jit(lambda v: nj.apply(spec, v, images))(variables)
    trained = jax.jit(lambda v: nj.apply(spec, v, images, train=True, key=key)[0])(variables)
    return np.asarray(evaluated), np.asarray(trained)


before = logits(spec, variables)
for edit in (
    Widen("conv1", 16), Deepen("relu1", 3), SkipAdd("pool1", "relu2"), SkipConcat("pool1", "relu2")
):
    after = logits(*edit(spec, variables, key, images))
    for mode, old, new in zip(("evaluation", "training"), before, after):
        print(type(edit).__name__, mode, abs(new - old).max() / abs(old).max())
"""


def test_the_papers_edits_keep_the_function_with_the_launchers_flags():
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": training.faster_flags("")}
    done = subprocess.run(
        [sys.executable, "-c", AS_LAUNCHED], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = [line.split() for line in done.stdout.splitlines()]
    assert len(found) == 8
    for kind, mode, difference in found:
        assert float(difference) <= 1e-6, (kind, mode)
