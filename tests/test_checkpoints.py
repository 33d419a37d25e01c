"""Where unfinished trainings stand: what is written is read again, or said to be damaged."""

import dataclasses
import os
import pathlib
import random
import resource
import shutil

import chex
import jax
import numpy as np
import pytest

import nash_jax as nj
from nash_jax import runs, training
from nash_jax.architecture import numbered
from nash_jax.record import checkpoints
from nash_jax.record.checkpoints import Checkpoints, Writer, load_snapshot
from nash_jax.record.files import DamagedError
from nash_jax.training.loop import Snapshot, starting_state, state_shapes

SPEC = nj.chain((8, 8, 1), 10, (4, 6))
SETTINGS = training.TrainingSettings()


def snapshot(epochs, seed=0):
    """Any state of a training of `SPEC`."""
    variables = nj.init(numbered(SPEC)[0], jax.random.key(0))
    rng = np.random.default_rng(seed)
    state = jax.tree.map(
        lambda x: jax.numpy.asarray(rng.normal(size=x.shape), x.dtype),
        starting_state(variables, SETTINGS),
    )
    return Snapshot(state, np.arange(epochs, dtype=np.float32))


def shapes_of_training():
    return state_shapes(SPEC, SETTINGS)


def load(path, spec=SPEC, settings=SETTINGS):
    return load_snapshot(path, lambda: state_shapes(spec, settings))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("trainings") / "model_0"
    with Writer(path) as writer:
        writer.write(snapshot(1, seed=1))
        writer.write(snapshot(2, seed=2))
    return path


def test_the_last_snapshot_is_read_as_it_was_and_alone_is_left(written):
    read, expected = load(written), snapshot(2, seed=2)
    chex.assert_trees_all_equal(read.state, expected.state)
    np.testing.assert_array_equal(read.losses, expected.losses)
    assert jax.tree.structure(read.state) == jax.tree.structure(expected.state)
    assert sorted(path.name for path in written.iterdir()) == ["2", "2.json"]


def test_all_files_are_on_the_disk_before_the_manifest(tmp_path, monkeypatch):
    """The earlier checkpoint is removed then; orbax flushes the arrays alone."""
    flushed = set()

    def sync(descriptor):
        flushed.add(pathlib.Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        return True

    def sync_folder(folder):
        flushed.add(folder)
        return True

    def write_json(path, data):
        there = path.with_suffix("")
        assert {*there.rglob("*"), there, there.parent} <= flushed
        assert data["files"].keys() == {
            file.relative_to(there).as_posix() for file in there.rglob("*") if file.is_file()
        }
        written.append(path)

    written = []
    for function in (sync, sync_folder, write_json):
        monkeypatch.setattr(checkpoints, function.__name__, function)
    with Writer(tmp_path / "model_0") as writer:
        writer.write(snapshot(1))
    assert written == [tmp_path / "model_0" / "1.json"]


def test_every_flipped_bit_is_noticed(written, tmp_path):
    rng = random.Random(0)
    files = sorted(path.relative_to(written) for path in written.rglob("*") if path.is_file())
    path = tmp_path / "model_0"
    shutil.copytree(written, path)
    for number in range(100):
        file = path / (files[number] if number < len(files) else rng.choice(files))
        data = file.read_bytes()
        place, bit = rng.randrange(len(data)), 1 << rng.randrange(8)
        file.write_bytes(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])
        with pytest.raises(DamagedError, match="model_0/2(.json)? is damaged: "):
            load(path)
        file.write_bytes(data)
    assert load(path) is not None


def test_a_file_that_is_missing_or_a_link_is_noticed(written, tmp_path):
    path = tmp_path / "model_0"
    shutil.copytree(written, path)
    (path / "2" / "_METADATA").unlink()
    with pytest.raises(DamagedError, match="does not match its checksums"):
        load(path)
    (path / "2" / "_METADATA").symlink_to(written / "2" / "_METADATA")
    with pytest.raises(DamagedError, match="must not lead out of its folder"):
        load(path)


@pytest.mark.parametrize(
    ("spec", "settings"),
    [
        (nj.chain((8, 8, 1), 10, (4, 7)), SETTINGS),  # orbax would fill or cut the arrays
        (nj.chain((8, 8, 1), 10, (4, 6, 6)), SETTINGS),
        (SPEC, dataclasses.replace(SETTINGS, clip_norm=1.0)),
    ],
)
def test_that_of_another_training_is_not_taken(written, spec, settings):
    with pytest.raises(DamagedError, match="it is not of a training of this network"):
        load(written, spec, settings)


def test_without_a_manifest_it_does_not_count(written, tmp_path):
    """A kill between orbax's last move and ours leaves the earlier one in force."""
    path = tmp_path / "model_0"
    shutil.copytree(written, path)
    shutil.copytree(written / "2", path / "3")
    assert len(load(path).losses) == 2
    with Writer(path) as writer:
        writer.write(snapshot(3))
    assert sorted(each.name for each in path.iterdir()) == ["3", "3.json"]
    (path / "3.json").unlink()
    assert load(path) is None


def test_the_arrays_may_change_as_soon_as_they_are_taken(tmp_path, monkeypatch):
    """On accelerators files are written in the background; updates reuse the memory meanwhile."""
    monkeypatch.setattr(Writer, "_in_background", lambda *_: True)
    update = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)
    first = snapshot(1)
    expected = jax.tree.map(np.array, first.state)
    with Writer(tmp_path / "model_0") as writer:
        writer.write(first)
        jax.block_until_ready(update(first.state))
    chex.assert_trees_all_equal(load(tmp_path / "model_0").state, expected)


# The threads of orbax 0.12 complain of an event loop that the failure has closed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_cannot_be_written_is_one_clear_line(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with (
            pytest.raises(runs.WriteError, match="model_0.* cannot be written: .*; free") as caught,
            Writer(tmp_path / "model_0") as writer,
        ):
            writer.write(snapshot(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value)
    assert load(tmp_path / "model_0") is None
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(runs.WriteError, match="cannot be written: Not a directory"),
        Writer(tmp_path / "file" / "model_0") as writer,
    ):
        writer.write(snapshot(1))


def test_they_come_no_more_often_than_asked(tmp_path):
    def told(text):
        raise AssertionError(text)

    for seconds, expected in ((3600.0, None), (0.0, 2)):
        kept = Checkpoints(tmp_path, seconds)
        with kept.of("model_0", shapes_of_training, told) as there:
            there.checkpoint(lambda: snapshot(1))
            there.checkpoint(lambda: snapshot(2))
        with kept.of("model_0", shapes_of_training, told) as there:
            found = None if there.snapshot is None else len(there.snapshot.losses)
            assert found == expected
    kept.remove("model_0")
    assert list(tmp_path.iterdir()) == []
