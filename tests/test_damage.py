"""Damaged and hostile workdirs: recovery or one clear line, never a traceback or another result."""

import json
import pathlib
import resource
import subprocess
import sys

import pytest
from helpers import TINY, Silent, history, run
from hypothesis import given, settings
from hypothesis import strategies as st
from test_durability import FLAGS, copy

import nash_jax as nj
from nash_jax import cli, runs
from nash_jax.record.files import with_checksum

pytestmark = pytest.mark.usefixtures("program_cache")
CONFIG = TINY.replace(num_steps=1, num_neighbours=2, max_flops=300_000)
READ_FILES = ("config.json", "ledger.jsonl")
COMMANDS = {
    "show": lambda workdir: ["show", str(workdir)],
    "report": lambda workdir: ["report", str(workdir)],
    "pictures": lambda workdir: ["pictures", str(workdir), f"--out={workdir / 'pictures'}"],
    "compare": lambda workdir: ["compare", str(workdir), f"--html={workdir / 'compare.html'}"],
    "export": lambda workdir: [
        *("export", str(workdir), "--format=weights", f"--out={workdir / 'out'}")
    ],
    "predict": lambda workdir: ["predict", str(workdir), str(workdir / "climb.png")],
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("damage") / "whole"
    return workdir, run(CONFIG, workdir, Silent(), provenance={"command": ["x"], "versions": {}})


def contents(workdir):
    networks = {path.name: path.read_bytes() for path in (workdir / "networks").iterdir()}
    result = json.loads((workdir / "result.json").read_text())
    return networks, history(runs.read_ledger(workdir)), result["test_accuracy"]


DAMAGES = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "first bit": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "middle bit": lambda data: (
        data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 16]) + data[len(data) // 2 + 1 :]
    ),
    "last bit": lambda data: data[:-1] + bytes([data[-1] ^ 2]),
    "longer": lambda data: data + b"x",
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "name",
    [
        *("config.json", "ledger.jsonl", "result.json", "lock", "networks/model_0.safetensors"),
        *("networks/best.safetensors", "networks/final.safetensors"),
    ],
)
def test_a_run_whose_file_is_damaged_recovers_or_says_so(finished, name, damage, tmp_path):
    whole, result = finished
    copy(whole, tmp_path)
    path = tmp_path / name.replace("best", result.history[-1].parent)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    reporter = Silent()
    run(CONFIG, tmp_path, reporter)
    assert contents(tmp_path) == contents(whole)
    # Every loss is noted, unless the file is made from the others; an empty ledger shows no loss.
    silent = name in ("result.json", "lock") or (name, damage) == ("ledger.jsonl", "empty")
    assert bool(reporter.notes) != silent


def ends_well(command, workdir, capsys):
    """A command of `nash` does what it should, or exits with one line."""
    try:
        cli.main(COMMANDS[command](workdir))
    except SystemExit as stop:
        message = str(stop.code)
        assert message.startswith("error: ")
        assert "\n" not in message
    capsys.readouterr()


def fuzz(data):
    """Bytes that are wrong somewhere."""
    return st.one_of(
        st.integers(0, len(data)).map(lambda end: data[:end]),
        st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)).map(
            lambda change: data[: change[0]] + bytes([change[1]]) + data[change[0] + 1 :]
        ),
        st.tuples(st.integers(0, len(data)), st.binary(max_size=9)).map(
            lambda more: data[: more[0]] + more[1] + data[more[0] :]
        ),
        st.binary(max_size=50),
    )


TEXTS = ["", "../../x", "step1-child1", "</script><b>", "x" * 500, "\x00", "[red]"]
JUNK = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(TEXTS),
    ),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=5), x, max_size=3),
    max_leaves=4,
)


READ = [
    *((command, file) for command in ("show", "report", "compare") for file in READ_FILES),
    *(("export", "networks"), ("predict", "networks")),
]


@pytest.mark.parametrize(("command", "name"), READ)
@given(choice=st.data())
def test_a_command_on_damaged_files_does_not_fall_over(
    finished, tmp_path_factory, capsys, command, name, choice
):
    workdir = copy(finished[0], tmp_path_factory.mktemp("fuzz"))
    path = workdir / name
    if path.is_dir():
        path = path / "final.safetensors"
    path.write_bytes(choice.draw(fuzz(path.read_bytes())))
    ends_well(command, workdir, capsys)


@pytest.mark.parametrize("command", ["show", "report", "compare"])
@pytest.mark.parametrize("name", READ_FILES)
@settings(max_examples=8)  # report draws all pictures
@given(choice=st.data())
def test_a_command_on_hostile_files_does_not_fall_over(
    finished, tmp_path_factory, capsys, command, name, choice
):
    """Files with a right checksum and wrong content."""
    workdir = copy(finished[0], tmp_path_factory.mktemp("fuzz"))
    path = workdir / name
    texts = path.read_text().splitlines() if name.endswith("jsonl") else [path.read_text()]
    number = choice.draw(st.integers(0, len(texts) - 1))
    content = json.loads(texts[number])
    del content["checksum"]
    key = choice.draw(st.sampled_from(sorted(content)))
    if choice.draw(st.booleans()):
        content[key] = choice.draw(JUNK)
    else:
        del content[key]
    texts[number] = json.dumps(with_checksum(content))
    path.write_text("\n".join(texts) + "\n")
    ends_well(command, workdir, capsys)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_run_is_one_line(command, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "none", tmp_path, tmp_path / "file"):
        with pytest.raises(SystemExit, match="error: .*"):
            cli.main(COMMANDS[command](path))


def test_links_out_of_the_workdir_are_not_followed(finished, tmp_path):
    workdir = copy(finished[0], tmp_path / "run")
    for name in ("config.json", "ledger.jsonl", "networks/final.safetensors", "networks"):
        (workdir / name).rename(tmp_path / "elsewhere")
        (workdir / name).symlink_to(tmp_path / "elsewhere")
        read = nj.load if name.startswith("networks") else runs.read_run
        with pytest.raises(ValueError, match="must not lead out of its folder"):
            read(workdir)
        (workdir / name).unlink()
        (tmp_path / "elsewhere").rename(workdir / name)
    cli.show(runs.read_run(workdir))


def test_a_folder_whose_name_is_no_text_is_like_any_other(finished, tmp_path, capsys):
    workdir = copy(finished[0], tmp_path / "run\udce9")
    for command in COMMANDS.values():
        cli.main(command(workdir))
    assert r"run\udce9:finished," in "".join(capsys.readouterr().out.split())
    run(CONFIG, workdir, Silent())
    assert contents(workdir) == contents(finished[0])


def test_a_full_disk_is_an_error_and_a_resume_goes_on(finished, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (100, 5000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            with pytest.raises(runs.WriteError, match="cannot be written: File too large; have "):
                run(CONFIG, tmp_path, Silent())
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    run(CONFIG, tmp_path, Silent())
    assert contents(tmp_path) == contents(finished[0])


@pytest.mark.slow
def test_what_cannot_be_written_ends_the_launcher_with_two_lines(tmp_path):
    limited = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); "
    limited += "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    command = [sys.executable, "-c", limited, "-m", "experiments.nash", *FLAGS]
    done = subprocess.run(
        [*command, f"--workdir={tmp_path / 'run'}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    error, resume = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert "cannot be written: File too large; have the limit on the size of files raised" in error
    assert resume.startswith("resume with: python -m experiments.nash")


def test_a_folder_without_permission_is_one_clear_line(finished, tmp_path):
    if pathlib.Path("/proc/self/status").read_text().split("Uid:")[1].split()[0] == "0":
        pytest.skip("root may write everywhere")
    workdir = copy(finished[0], tmp_path / "run")
    (workdir / "networks" / "final.safetensors").unlink()
    (workdir / "networks").chmod(0o500)
    with pytest.raises(runs.WriteError, match="cannot be written: Permission denied; make it"):
        run(CONFIG, workdir, Silent())
    (workdir / "networks").chmod(0o700)
    run(CONFIG, workdir, Silent())
    assert contents(workdir) == contents(finished[0])
