"""What a search on an accelerator compiles, counted on a CPU that is taken for a GPU."""

import collections
import contextlib
import dataclasses
import logging
import re

import jax
import pytest

from nash_jax import runs, training
from nash_jax.architecture import numbered
from nash_jax.morphisms import Deepen
from nash_jax.runs import run as run_module
from nash_jax.runs.children import _Devices
from tests.test_runs import TINY, Silent


class Compilations(logging.Handler):
    """The names of the programs that JAX says it has compiled."""

    def __init__(self):
        super().__init__()
        self.names = []

    def emit(self, record):
        if found := re.match(r"Finished XLA compilation of jit\((.*)\) in", record.getMessage()):
            self.names.append(found[1])

    def new(self):
        names, self.names = self.names, []
        return collections.Counter(names)


@pytest.fixture
def compilations(monkeypatch):
    handler, logger = Compilations(), logging.getLogger("jax")
    logger.addHandler(handler)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    jax.config.update("jax_log_compiles", True)  # jax.log_compiles() holds for one thread alone
    yield handler
    jax.config.update("jax_log_compiles", False)
    logger.removeHandler(handler)


def test_a_step_compiles_two_programs_for_each_new_graph_and_calibrations(
    compilations, monkeypatch, tmp_path
):
    graphs, steps = [], []

    @contextlib.contextmanager
    def one_device(config, train, valid, workers, devices, *others):
        crew = _Devices(config, train, valid, devices[:1], *others)
        make = crew.make

        def counted(best, proposals):
            compilations.new()
            yield from make(best, proposals)
            known = {numbered(best.spec)[0], *graphs}
            new = {numbered(p.spec)[0] for p in proposals} - known
            deep = sum(any(isinstance(e, Deepen) for e in p.edits) for p in proposals)
            graphs.extend(new)
            steps.append((len(new), deep, compilations.new()))

        crew.make = counted
        yield crew
        crew.close()

    monkeypatch.setattr(run_module, "hire", one_device)
    config = dataclasses.replace(TINY, max_train_examples=320)
    with runs.open_run(config, tmp_path / "run") as opened:
        runs.execute(opened, Silent())
    assert len(steps) == 2
    for num_new, num_deep, names in steps:
        assert num_new == 2  # the third child is the parent
        assert names["_chunk"] == names["_logits"] == num_new
        assert names["_rebased"] <= num_deep
    assert set(steps[1][2]) <= {"_chunk", "_logits", "_rebased"}
    final = compilations.new()
    assert final["_chunk"] == final["_logits"] == 0  # the final training has the graph of a child
    assert final["_rebased"] == 0


def test_xla_knows_the_options_for_gpus():
    program = jax.jit(lambda x: x + 1).lower(jax.ShapeDtypeStruct((), "float32"))
    for num_devices in (1, 2):
        options = training.compiler_options("gpu", num_devices)
        assert options["xla_gpu_autotune_level"] == 2
        assert ("xla_gpu_enable_latency_hiding_scheduler" in options) == (num_devices > 1)
        program.compile(compiler_options=options)
    with pytest.raises(jax.errors.JaxRuntimeError, match="No such compile option"):
        program.compile(compiler_options={"xla_gpu_none": 1})
