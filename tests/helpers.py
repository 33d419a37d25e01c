"""Functions that several test files share."""

import contextlib
import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image

import nash_jax as nj
from nash_jax import runs
from nash_jax.architecture import COSTS
from nash_jax.estimation import ESTIMATORS
from nash_jax.morphisms import EDITS
from nash_jax.record.lines import trial_of
from nash_jax.reporting import Begun, Done, Epoch, Load, Note, Phase
from nash_jax.search import STRATEGIES, STRATEGY_SETTINGS
from nash_jax.spaces import Supernet


def image(number, size=(6, 6), channels=3):
    """Pixels at random, the same for the same number."""
    shape = size if channels == 1 else (*size, channels)
    return np.random.default_rng(number).integers(0, 256, shape, np.uint8)


def write_folder(root, classes=("cat", "dog"), count=3, first=0):
    """PNG files in a folder per class; the images, class by class."""
    arrays = []
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(count):
            arrays.append(image(first + 100 * label + number))
            PIL.Image.fromarray(arrays[-1]).save(root / name / f"{number}.png")
    return np.stack(arrays)


@contextlib.contextmanager
def own_tables():
    """What is entered into a table of strategies, spaces and so on is there for a block alone."""
    tables = (STRATEGIES, STRATEGY_SETTINGS, runs.SPACE_SETTINGS, ESTIMATORS, COSTS, EDITS)
    before = [dict(table) for table in tables]
    try:
        yield
    finally:
        for table, entries in zip(tables, before):
            table.clear()
            table.update(entries)


# Networks.


def random_variables(spec, seed=0, dtype=jnp.float32):
    """Variables with every array random, so that nothing is hidden by a zero or a one."""
    return jax.tree.map(lambda x: x, _drawn(spec, seed, dtype))  # new dicts, the same arrays


@functools.cache
def _drawn(spec, seed, dtype):
    rng = np.random.default_rng(seed)
    variables = nj.init(spec, jax.random.key(seed), dtype)

    def draw(path, x):
        noise = rng.normal(size=x.shape)
        positive = path[-1].key in ("var", "scale", "lambda")
        return jnp.asarray(np.abs(noise) + 0.5 if positive else x + 0.3 * noise, dtype)

    return jax.tree_util.tree_map_with_path(draw, variables)


def random_images(spec, batch=6, seed=1, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=(batch, *spec.input_shape)).astype(dtype)


def of_supernet(genotype):
    """What the training of a supernet of NB201 may give: weights of one epoch, and genotypes."""
    if not isinstance(genotype, Supernet):
        return {}
    rng = np.random.default_rng(0)
    edges = {
        name: (tuple(rng.dirichlet(np.ones(len(choices))).tolist()),)
        for name, choices in genotype.edges
    }
    cheap = (0, 1, 4)  # ops of NB201 without weights
    candidates = (tuple(cheap[n // 3**place % 3] for place in range(6)) for n in range(10))
    return {"edges": edges, "candidates": tuple(candidates)}


#: Strategies that need a supernet.
SHARING = ("darts", "enas", "manas", "one_shot", "p_darts", "stacnas")


# Runs.

TINY = runs.Config().replace(
    widths=(4, 6),
    num_steps=2,
    num_neighbours=3,
    num_morphisms=2,
    max_flops=400_000,
    epochs_pretrain=1,
    epochs_neighbours=1,
    epochs_final=2,
    batch_size=64,
    crop_padding=1,
    flip=False,
)


def run(config, workdir, reporter, workers=0, provenance=None, **options):
    """Open a run and execute it; without worker processes its children are trained here."""
    executor = "processes" if workers else "serial"
    with runs.open_run(config, workdir, provenance, reporter.note, **options) as opened:
        return runs.execute(opened, reporter, max(1, workers), executor=executor)


class Silent:
    """Counts what it is told."""

    def __init__(self):
        self.total = self.epochs = 0
        self.trials, self.phases, self.notes, self.known, self.loads = [], [], [], [], []

    def __call__(self, event):
        match event:
            case Begun():
                self.total, self.known = event.total_epochs, event.known
            case Load():
                self.loads.append(event)
            case Phase(text):
                self.phase(text)
            case Epoch():
                self.epoch(*event)
            case Done(trial):
                self.candidate(trial)
            case Note(text):
                self.note(text)

    def phase(self, what):
        self.phases.append(what)

    def epoch(self, name, epoch, loss, learning_rate):
        self.epochs += 1

    def candidate(self, trial):
        self.trials.append(trial)

    def note(self, text):
        self.notes.append(text)


def history(trials):
    """The part of trials, or of ledger lines, that does not depend on the clock and the workers."""
    trials = [trial_of(each, None) if isinstance(each, dict) else each for each in trials]
    return [
        {
            **{key: getattr(t, key) for key in ("name", "parent", "recipe", "step", "index")},
            **{"params": t.params, "flops": t.flops, "spec": json.loads(nj.to_json(t.spec))},
            "edits": [nj.morphisms.edit_to_dict(edit) for edit in t.edits],
            "estimate": str(dataclasses.replace(t.estimate, seconds=None)),
        }
        for t in trials
    ]
