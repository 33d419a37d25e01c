"""The benchmark for GPUs at toy size on the CPU: its logic, not its figures."""

import importlib.util
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nash_jax as nj
from benchmarks import device_idle, gpu, training_pace
from nash_jax import ops
from nash_jax.data import Examples
from nash_jax.runs import Config

RNG = np.random.default_rng(0)
EXAMPLES = Examples(
    RNG.integers(0, 256, (64, 8, 8, 1), np.uint8), np.arange(64, dtype=np.int32) % 10
)
SPECS = {"model_0": nj.chain((8, 8, 1), 10, (4, 8))}
NORMALIZE = ops.Normalize((125.3, 123.0, 113.9), (63.0, 62.1, 66.7))

# A second of kernels, then 2 s on two streams that share a second; copies from the host apart.
PROFILE = """
planes {
  name: "/device:GPU:0"
  event_metadata { key: 1 value { id: 1 name: "fusion" } }
  event_metadata { key: 2 value { id: 2 name: "MemcpyH2D" } }
  lines {
    name: "Stream #7(Compute)"
    events { metadata_id: 1 offset_ps: 0 duration_ps: 1000000000000 }
    events { metadata_id: 1 offset_ps: 2000000000000 duration_ps: 1500000000000 }
  }
  lines {
    name: "Stream #8(Compute,MemcpyH2D)"
    events { metadata_id: 1 offset_ps: 2500000000000 duration_ps: 1500000000000 }
    events { metadata_id: 2 offset_ps: 9000000000000 duration_ps: 1000000000000 }
  }
  lines {
    name: "XLA Modules"
    events { metadata_id: 1 offset_ps: 0 duration_ps: 9000000000000 }
  }
}
planes { name: "/device:GPU:1" }
planes { name: "/host:CPU" lines { name: "python" } }
"""


@pytest.mark.parametrize(
    ("intervals", "seconds"),
    [
        ([], 0),
        ([(1e9, 3e9)], 2),
        ([(5e9, 6e9), (0, 2e9), (1e9, 3e9)], 4),  # unsorted, one gap
        ([(0, 9e9), (1e9, 2e9), (3e9, 10e9)], 10),  # one inside another
        ([(0, 1e9), (1e9, 2e9), (1e9, 2e9)], 2),  # touching, and twice the same
    ],
)
def test_the_union_of_intervals(intervals, seconds):
    assert device_idle.union_seconds(intervals) == seconds


def test_kernels_are_those_on_the_streams_of_gpus():
    data = jax.profiler.ProfileData
    profile = data.from_serialized_xspace(data.text_proto_to_serialized_xspace(PROFILE))
    first, second = device_idle.kernel_intervals(profile)
    assert (len(first), second) == (3, [])
    assert device_idle.union_seconds(first) == 3


def test_a_line_says_whether_its_goal_is_reached():
    line = gpu.Line
    assert str(line("a", 1.6, 1.5)) == "| a | 1.60 | >= 1.50 | yes |"
    assert str(line("b", 1.5, 1.5, note="x")) == "| b | 1.50 (x) | >= 1.50 | yes |"
    assert str(line("c", 1.4, 1.5)) == "| c | 1.40 | >= 1.50 | no |"
    assert str(line("d", 11.0, 10, False, "{:.0f}")) == "| d | 11 | <= 10 | no |"
    assert str(line("e", 0.15, 0.15, False, "{:.1%}")) == "| e | 15.0% | <= 15.0% | yes |"
    assert str(line("f", 12345.6, form="{:,.0f}")) == "| f | 12,346 |  |  |"
    assert str(line("g", None, 3, note="why")) == "| g |  | >= 3.00 | not measured: why |"


def test_a_row_that_fails_ends_with_a_line_that_says_why():
    def row():
        yield gpu.Line("first", 1.0)
        raise RuntimeError("out of memory | of 5\nand more")

    first, last = gpu.or_why_not("row", row())
    assert first.value == 1
    assert str(last) == "| row |  |  | not measured: out of memory / of 5 |"


def test_sides_take_turns_after_one_that_does_not_count(monkeypatch):
    calls = []
    seconds = iter([10.0, 1.0, 1.0, 2.0, 3.0, 2.0, 2.0, 2.0])
    monkeypatch.setattr(training_pace, "_lap", lambda run: (run(), next(seconds)))
    rates = {"a": iter([100.0, 1.0, 3.0, 2.0]), "b": iter([100.0, 6.0, 4.0, 5.0])}

    def runner(name):
        def run():
            calls.append(name)
            return next(rates[name])

        return run

    a, b = training_pace.take_turns([runner("a"), runner("b")], 3)
    assert (a.median, b.median) == (2, 5)
    assert a.rates == [1, 3, 2]
    assert calls == ["a", "b"] * 4
    assert (a.compile_seconds, b.compile_seconds) == (10 - 2, 0)


@pytest.mark.parametrize(("edits", "least", "most"), [(5, 1e6, 2e6), (25, 5e6, 6e6)])
def test_the_networks_are_what_the_docstring_says(edits, least, most):
    model_0 = nj.chain((32, 32, 3), 10, (64, 128, 256), NORMALIZE)
    spec = gpu.networks(model_0)[f"model_0 and {edits} edits"]
    assert least <= nj.count_params(spec) <= most
    bounds = nj.morphisms.rising_bounds(nj.count_flops(model_0), 1e9, 25)[:edits]
    _, made = nj.morphisms.sample_edits(model_0, jax.random.key(0), edits, bounds=bounds)
    assert spec == made
    assert list(gpu.networks(SPECS["model_0"])) == ["model_0"]


def test_our_training_gives_images_per_second():
    assert training_pace.our_training(SPECS["model_0"], EXAMPLES, 32, gpu.TOY)() > 0


def test_the_peak_and_the_population_are_measured():
    most, part = gpu.peak(SPECS, EXAMPLES, gpu.TOY)
    assert min(most.value, part.value) > 0
    (line,) = gpu.population(SPECS, EXAMPLES, gpu.TOY)
    assert line.value > 0
    assert training_pace.matrix_peak(64, jnp.bfloat16) > 0


def test_throughput_without_pytorch(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    ours, ratio = gpu.throughput(SPECS, EXAMPLES, gpu.TOY, "cpu", None)
    assert ours.value > 0
    assert ratio.reached == "not measured: PyTorch is not installed; install the torch extra"
    json.dumps(ours.details)


def test_throughput_beside_pytorch(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.nn.Module, "compile", lambda *_, **__: None)
    ours, theirs, ratio = gpu.throughput(SPECS, EXAMPLES, gpu.TOY, "cpu", "default")
    assert ratio.value == ours.value / theirs.value
    assert "PyTorch" in theirs.what

    def no_compiler(*_, **__):
        raise RuntimeError("no C compiler")

    monkeypatch.setattr(training_pace, "torch_training", no_compiler)
    monkeypatch.setattr(gpu, "torch_training", lambda *_: no_compiler)
    ours, ratio = gpu.throughput(SPECS, EXAMPLES, gpu.TOY, "cpu", "default")
    assert ours.value > 0
    assert ratio.reached == "not measured: no C compiler"
    if not torch.cuda.is_available():
        assert "finds no GPU" in training_pace.torch_lacks("cuda")


def test_pytorch_compiles_the_networks_whole():
    """Tracing finds no part that must stay in Python."""
    torch = pytest.importorskip("torch")
    from benchmarks import torch_network

    spec = nj.from_json(nj.to_json(SPECS["model_0"]))  # nothing about it is known yet
    network = torch_network.TorchNetwork(spec).eval()
    images = torch_network.pixels(EXAMPLES.images[:2])
    with torch.inference_mode():
        network.compile(backend="eager", fullgraph=True, dynamic=False)
        compiled = network(images)
        torch.testing.assert_close(compiled, network.forward(images))


def test_idle_is_what_the_kernels_leave_of_the_search(monkeypatch):
    found = {"seconds": 10.0, "busy_seconds": [8.0, 7.0]}
    monkeypatch.setattr(device_idle, "busy_and_whole", lambda _: found)
    (line,) = gpu.idle(Config())
    assert str(line).endswith("5 x 8 children, reduced to 17 epochs of each: device idle "
                              "| 25.0% (of 10 s) | <= 15.0% | no |")  # fmt: skip

    def no_plane(_):
        raise ValueError("no GPU plane in the profile")

    monkeypatch.setattr(device_idle, "busy_and_whole", no_plane)
    (line,) = gpu.idle(Config())
    assert str(line).endswith("|  | <= 15.0% | not measured: no GPU plane in the profile |")


def test_a_search_that_cannot_run_is_said():
    (line,) = gpu.or_why_not("table1", gpu.table1("npz:/nowhere.npz", []))
    assert line.reached.startswith("not measured: experiments.nash ended with: ")
    assert "nowhere.npz" in line.note


@pytest.mark.parametrize(("text", "shares"), [("", []), ("7\n", [0.07]), ("50\n[N/A]\n9", [0.5])])
def test_samples_of_the_device_s_use(text, shares):
    assert device_idle.parse_utilisation(text) == shares


def test_without_a_gpu_it_ends_with_one_line():
    command = [sys.executable, "-m", "benchmarks.gpu"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert done.stderr.startswith("error: this is a benchmark of GPUs; JAX's backend is 'cpu'; ")
    assert done.stderr.count("\n") == 1
