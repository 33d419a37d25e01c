"""Where the weights of skips by addition (lambda of eq. 6) go, with and without decay on them.

  python -m benchmarks.lambdas --dataset=npz:cifar10.npz

Pretrains a small chain, gives it skips by addition, and trains it on at the paper's rate, once as
the search does (lambdas are not decayed) and once with lambdas decayed as kernels are.
"""

from __future__ import annotations

import functools
import statistics
from typing import Any

import jax
import numpy as np
import optax
from absl import app, flags, logging

import nash_jax as nj
from benchmarks.machine import machine
from nash_jax import morphisms, ops
from nash_jax.architecture import Architecture
from nash_jax.data import Examples, channel_statistics, load_dataset, stratified_split, subset
from nash_jax.launching import compile_faster
from nash_jax.training import TrainingSettings, augment, evaluate, fit, learning_rates
from nash_jax.training.epochs import mean_colour

DATASET = flags.DEFINE_string("dataset", "digits", "the images")
IMAGES = flags.DEFINE_integer("images", 5000, "training and validation images")
EPOCHS = flags.DEFINE_integer("epochs", 4, "of pretraining, and of training on")
SEEDS = flags.DEFINE_integer("seeds", 3, "pretrained chains")
SKIPS = (("pool1", "conv2"), ("pool2", "conv3"), ("conv2", "relu2"))
SETTINGS = TrainingSettings()


@functools.partial(jax.jit, static_argnames=("spec", "decayed"))
def step(
    spec: Architecture, state: Any, images: Any, labels: Any, rate: Any, key: Any, decayed: bool
) -> Any:
    """One update of SGD with Nesterov momentum."""
    variables, momentum = state

    def loss_of(params: Any) -> Any:
        cropped = augment(images, key, SETTINGS, mean_colour(spec))
        logits, new = nj.apply(spec, {**variables, "params": params}, cropped, train=True, key=key)
        return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), new

    gradients, new = jax.grad(loss_of, has_aux=True)(variables["params"])
    steps, momentum = optimizer(decayed).update(gradients, momentum, variables["params"])
    params = jax.tree.map(lambda p, s: p - rate * s, variables["params"], steps)
    return {**new, "params": params}, momentum


def optimizer(decayed: bool) -> optax.GradientTransformation:
    """As `training.direction`; lambdas are decayed too, if `decayed`."""
    names = ("kernel", "lambda") if decayed else ("kernel",)

    def mask(params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key in names, params)

    return optax.chain(
        optax.add_decayed_weights(SETTINGS.weight_decay, mask=mask),
        optax.trace(SETTINGS.momentum, nesterov=True),
    )


def trained(spec: Architecture, variables: Any, train: Examples, seed: int, decayed: bool) -> Any:
    """The variables after `--epochs`."""
    per_epoch = len(train) // SETTINGS.batch_size
    rng, rates = np.random.default_rng(seed), learning_rates(SETTINGS, EPOCHS.value * per_epoch)
    state = variables, optimizer(decayed).init(variables["params"])
    for number, rate in enumerate(rates):
        if number % per_epoch == 0:
            order = rng.permutation(len(train))
        index = order[number % per_epoch * SETTINGS.batch_size :][: SETTINGS.batch_size]
        key = jax.random.fold_in(jax.random.key(seed), number)
        batch = train.images[index], train.labels[index]
        state = step(spec, state, *batch, rate, key, decayed=decayed)
    return state[0]


def main(argv: list[str]) -> None:
    del argv
    compile_faster()
    logging.set_verbosity(logging.WARNING)
    dataset = load_dataset(DATASET.value)
    examples = subset(dataset.train, IMAGES.value, seed=0)
    train, valid = stratified_split(examples, 0.2, seed=0)
    normalize = ops.Normalize(*channel_statistics(train.images))
    chain = nj.chain(dataset.image_shape, dataset.num_classes, (16, 32, 64), normalize)
    found: dict[bool, list[float]] = {False: [], True: []}
    lambdas: dict[bool, list[float]] = {False: [], True: []}
    for seed in range(SEEDS.value):
        init_key, key, grow_key = jax.random.split(jax.random.key(seed), 3)
        parent = fit(chain, nj.init(chain, init_key), train, key, EPOCHS.value, SETTINGS)
        skips = morphisms.Sequence(tuple(morphisms.SkipAdd(*skip) for skip in SKIPS))
        spec, variables = skips(chain, parent.variables, grow_key)
        for decayed in (False, True):
            after = trained(spec, variables, train, seed, decayed)
            found[decayed].append(evaluate(spec, after, valid).accuracy)
            lambdas[decayed] += [
                float(arrays["lambda"]) for arrays in after["params"].values() if "lambda" in arrays
            ]
    print(f"{machine()}; {dataset.name}, {len(train):,} training images, ", end="")
    print(f"{EPOCHS.value} epochs at rate {SETTINGS.lr_start}, {SEEDS.value} seeds\n")
    print("| lambdas are | mean lambda | smallest | largest | validation accuracy |")
    print("|---|---|---|---|---|")
    for decayed, values in lambdas.items():
        name, accuracy = "decayed" if decayed else "not decayed", statistics.mean(found[decayed])
        print(
            f"| {name} | {statistics.mean(values):.3f} | {min(values):.3f} | {max(values):.3f} "
            f"| {100 * accuracy:.2f}% |"
        )


if __name__ == "__main__":
    app.run(main)
