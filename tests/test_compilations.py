"""What a search on an accelerator compiles, counted on a CPU that is taken for a GPU."""

import collections
import gc
import logging
import pathlib
import re

import jax
import numpy as np
import pytest

import nash_jax as nj
from nash_jax import runs, training
from nash_jax.architecture import numbered
from nash_jax.data import Examples
from nash_jax.estimation import Images, Tools
from nash_jax.execution import Devices, Serial
from nash_jax.machine import num_mappings
from nash_jax.morphisms import Deepen
from nash_jax.runs import run as run_module
from nash_jax.training import compilation
from tests.helpers import TINY, Silent


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
    class OneDevice(Devices):
        """Takes the CPU for an accelerator, and counts what each step compiles."""

        def __init__(self, images, tools, *_):
            super().__init__(images, tools, jax.devices())
            self.graphs, self.jobs, self.steps = set(), [], []

        def submit(self, job):
            super().submit(job)
            self.jobs.append(job)

        def done(self):
            if len(self.jobs) == TINY.strategy.num_neighbours:  # a whole step; none is done yet
                compilations.new()
                self.steps.append(self.jobs)
                self.jobs = []
            yield from super().done()

    made = []

    def executors(run, reporter, workers, devices, lengths):
        images = Images(run.problem.train, run.problem.valid, run.test)
        made.extend([Serial(images, Tools()), OneDevice(images, Tools())])
        return made

    monkeypatch.setattr(run_module, "_executors", executors)
    names = []

    class Steps(Silent):
        def phase(self, what):
            super().phase(what)
            names.append(compilations.new())

    config = TINY.replace(max_train_examples=320, num_steps=1)
    with runs.open_run(config, tmp_path / "run") as opened:
        runs.execute(opened, Steps())
    _before, _pretraining, *of_steps = names
    known = {numbered(opened.problem.model_0)[0]}
    assert len(of_steps) == len(made[1].steps) == 1
    for jobs, compiled in zip(made[1].steps, of_steps):
        new = {numbered(job.spec)[0] for job in jobs} - known
        known |= new
        assert len(new) == 2  # the third child is the parent
        assert compiled["_chunk"] == compiled["_logits"] == len(new)
        deep = sum(any(isinstance(edit, Deepen) for edit in job.edits) for job in jobs)
        assert compiled["_rebased"] <= deep
    final = compilations.new()  # it has the graph of a child
    assert final["_chunk"] == final["_logits"] == final["_rebased"] == 0


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_a_training_of_another_length_compiles_nothing(backend, compilations, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    spec, key = nj.chain((8, 8, 1), 10, (4,)), jax.random.key(0)
    examples = Examples(np.zeros((40, 8, 8, 1), np.uint8), np.arange(40) % 10)
    settings = training.TrainingSettings(batch_size=10, warmup=0.2)

    def longer(done, cosine):
        return cosine.epochs + (done == 1)

    for epochs in (2, 3, 4):
        lengths = training.Lengths({}, longer)
        fitted = training.fit(
            spec, nj.init(spec, key), examples, key, epochs, settings, lengths=lengths
        )
        assert len(fitted.losses) == epochs + 1
        assert bool(compilations.new()) == (epochs == 2)


def test_xla_knows_the_options_for_gpus():
    program = jax.jit(lambda x: x + 1).lower(jax.ShapeDtypeStruct((), "float32"))
    for num_devices in (1, 2):
        options = training.compiler_options("gpu", num_devices)
        assert options["xla_gpu_exclude_nondeterministic_ops"]
        assert ("xla_gpu_enable_latency_hiding_scheduler" in options) == (num_devices > 1)
        program.compile(compiler_options=options)
    with pytest.raises(jax.errors.JaxRuntimeError, match="No such compile option"):
        program.compile(compiler_options={"xla_gpu_none": 1})


@pytest.mark.skipif(not pathlib.Path("/proc/self/maps").exists(), reason="Linux counts mappings")
def test_programs_are_let_go_before_the_kernel_gives_a_process_no_more_mappings(monkeypatch):
    """Else LLVM ends the process after some hundred networks."""

    def summed(x):
        for _ in range(6):
            x = jax.numpy.sort(jax.numpy.sin(x)).cumsum()
        return x

    function, sizes = jax.jit(summed), range(2, 22)
    for kept in (True, False):
        compilation._programs.clear()
        jax.clear_caches()
        gc.collect()
        before = num_mappings()
        most = 10 * before if kept else 2 * (before + 60)
        monkeypatch.setattr(compilation, "_unfreed", 0)
        monkeypatch.setattr(compilation, "most_mappings", lambda most=most: most)
        made = [
            compilation.compiled(function, jax.ShapeDtypeStruct((size,), "float32"))[1]
            for size in (*sizes, sizes[0])  # the first again
        ]
        assert made == [*len(sizes) * [True], not kept]
        assert (num_mappings() < before + 150) != kept
