"""A search as a call: in memory, with callbacks, and what it returns."""

import dataclasses

import chex
import numpy as np
import pytest
from helpers import TINY, history
from tensorboardX.proto import event_pb2

import nash_jax as nj
from nash_jax import runs
from nash_jax.reporting import Done, Epoch, TensorBoard, plain, quiet, several
from nash_jax.reporting.report import python_call
from nash_jax.runs import read_run

pytestmark = pytest.mark.usefixtures("program_cache")
CONFIG = TINY.replace(num_steps=1)


@pytest.fixture(scope="module")
def searched():
    events = []
    result = nj.run_search(CONFIG, tell=events.append)
    epochs = [tuple(event) for event in events if isinstance(event, Epoch)]
    return result, epochs, [event.trial for event in events if isinstance(event, Done)]


def test_a_search_in_memory_is_that_of_a_workdir(searched, tmp_path):
    result, epochs, done = searched
    kept = nj.run_search(CONFIG, workdir=tmp_path, executor="serial")
    assert history(kept.history) == history(result.history)
    assert history(runs.read_ledger(tmp_path)) == history(result.history)
    chex.assert_trees_all_equal(kept.best.variables, result.best.variables)
    assert {trial.name for trial in done} == {trial.name for trial in result.history}
    for trial in result.history:
        losses = [loss for name, _, loss, _ in sorted(epochs) if name == trial.name]
        assert tuple(losses) == trial.estimate.train_losses


def test_a_result_shows_itself_and_cannot_be_changed(searched):
    result, _, _ = searched
    assert result.finished
    assert f"test accuracy {result.best.estimate.accuracy:.2%}" in repr(result)
    page = result._repr_html_()
    assert page.count("<svg") == 1
    for trial in result.history:
        assert f"<td>{trial.name}</td>" in page
    assert len(result.plot().axes) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.best = None


def test_an_interrupted_search_returns_what_it_has(searched):
    def stop(event):
        if isinstance(event, Done) and event.trial.name.startswith("step1"):
            raise KeyboardInterrupt

    result = nj.run_search(CONFIG, tell=stop, executor="serial")
    assert not result.finished
    assert result.best.name == "model_0"
    assert len(result.history) == 2
    assert "unfinished" in repr(result)
    assert history(result.history[:1]) == history(searched[0].history[:1])


def test_own_data_and_what_the_report_calls_them(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (120, 6, 6, 1), np.uint8), np.arange(120) % 3
    dataset = nj.data.make_dataset("noise", images[:90], labels[:90], images[90:], labels[90:])
    config = CONFIG.replace(num_steps=0, batch_size=8, widths=(4,))
    result = nj.run_search(config, dataset, workdir=tmp_path)
    assert result.best.spec.shapes[result.best.spec.nodes[-1].name] == (3,)
    assert [trial.name for trial in result.history] == ["model_0", "final"]
    view = read_run(tmp_path)
    assert view.data_name == "noise"
    assert python_call(view).endswith(", dataset)")


def test_several_are_told(tmp_path, capsys):
    lines = []
    tell = several(plain(lines.append), quiet, TensorBoard(tmp_path))
    result = nj.run_search(CONFIG.replace(num_neighbours=2), tell=tell, executor="serial")
    said = [line[20:].split()[0] for line in lines]
    assert said[:3] == ["pretraining", "model_0", "step"]
    assert sorted(said[3:5]) == ["step1-child1", "step1-child2"]
    assert said[5:] == ["final", "final"]
    assert capsys.readouterr().out == ""
    written = {path.name: scalars(path) for path in (tmp_path / "tensorboard").iterdir()}
    for trial in result.history:
        of = written.pop(trial.name)
        losses = [value for tag, _, value in of if tag == "train_loss"]
        np.testing.assert_allclose(losses, trial.estimate.train_losses, rtol=1e-6)
        rates = [value for tag, _, value in of if tag == "learning_rate"]
        np.testing.assert_allclose(rates, [0.05, 0.025][: len(losses)], rtol=1e-6)
    (best,) = [trial for trial in result.history if trial.name == result.best.parent]
    climbs = [(1, best.accuracy), (0, result.history[0].accuracy)]
    climb = [(step, value) for _, step, value in written.pop("climb")]
    np.testing.assert_allclose(sorted(climb), sorted(climbs), rtol=1e-6)
    assert written == {}


def scalars(folder):
    """What TensorBoard would show of a run: `(tag, step, value)` in the order of writing."""
    found = []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            event = event_pb2.Event.FromString(data[12 : 12 + size])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            data = data[16 + size :]
    return found
