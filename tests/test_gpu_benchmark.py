"""The benchmark for GPUs at toy size on the CPU: its logic, not its figures."""

import importlib.util

import jax.numpy as jnp
import numpy as np
import pytest

import nash_jax as nj
from benchmarks import gpu
from nash_jax.data import Examples

RNG = np.random.default_rng(0)
EXAMPLES = Examples(
    RNG.integers(0, 256, (64, 8, 8, 1), np.uint8), np.arange(64, dtype=np.int32) % 10
)


def test_a_line_says_whether_its_goal_is_reached():
    assert str(gpu.Line("a", 1.6, 1.5)) == "| a | 1.6 | >= 1.5 | reached |  |"
    assert str(gpu.Line("b", 1.4, 1.5)) == "| b | 1.4 | >= 1.5 | not reached |  |"
    assert str(gpu.Line("c", 11.0, 10, False, "x")) == "| c | 11 | <= 10 | not reached | x |"
    assert str(gpu.Line("d", 9.0, 10, False)) == "| d | 9 | <= 10 | reached |  |"
    assert str(gpu.Line("e", 12345.6)) == "| e | 12,346 |  |  |  |"
    assert str(gpu.Line("f", None, 3, note="why")) == "| f |  | >= 3 | not measured | why |"


def test_medians_are_over_rounds_in_turns_without_the_first():
    calls = []
    laps = {"a": iter([100.0, 1.0, 3.0, 2.0]), "b": iter([100.0, 6.0, 4.0, 5.0])}

    def runner(name):
        def run():
            calls.append(name)
            return next(laps[name])

        return run

    assert gpu.medians([runner("a"), runner("b")], 3) == [2.0, 5.0]
    assert calls == ["a", "b"] * 4


def test_the_networks_are_the_paper_s_and_two_larger_ones():
    images = Examples(np.zeros((20, 32, 32, 3), np.uint8), np.arange(20, dtype=np.int32) % 10)
    params = {name: nj.count_params(spec) for name, spec in gpu.networks(images).items()}
    assert params == {"model_0": 535_114, "edits5": 2_059_851, "edits15": 6_710_606}
    assert list(gpu.networks(EXAMPLES)) == ["model_0"]


def test_the_peak_and_the_population_are_measured():
    peak, part = gpu.peak(EXAMPLES, gpu.TOY)
    assert min(peak.value, part.value) > 0
    (line,) = gpu.population(EXAMPLES, gpu.TOY)
    assert line.value > 0
    assert gpu.matrix_peak(64, jnp.bfloat16) > 0


def test_throughput_is_measured_beside_pytorch_where_it_is_there(monkeypatch):
    names = [line.what.split(": ")[1] for line in gpu.throughput(EXAMPLES, gpu.TOY, "cpu")]
    if importlib.util.find_spec("torch"):
        assert names == ["images/s", "images/s of PyTorch", "ours / PyTorch"]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    *_, last = gpu.throughput(EXAMPLES, gpu.TOY, "cpu")
    assert last.verdict == "not measured"
    assert "torch extra is missing" in last.note


def test_a_search_that_cannot_run_is_said():
    (line,) = gpu.search("npz:/nowhere.npz", [])
    assert line.verdict == "not measured"
    assert "nowhere.npz" in line.note


@pytest.mark.parametrize(("text", "shares"), [("", []), ("7\n", [0.07]), ("50\n[N/A]\n9", [0.5])])
def test_samples_of_the_device_s_use(text, shares):
    assert gpu.parse_utilisation(text) == shares
