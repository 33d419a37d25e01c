"""What pays in a training of some minutes: networks and tricks, by validation images.

  python -m benchmarks.tricks --dataset=npz:cifar10.npz --out=benchmarks/results/tricks.jsonl

Of 10,000 training images 8,000 are trained on and 2,000 validate; or, with `--judged=10000`, all
are trained on and as many others validate (`--images=1600 --judged=10000 --epochs=90`: how it is
with few). The test images are not looked at. All rows take about
as long as 18 epochs of `vgg` with channels 16-32-64-128, two minutes on two cores: the number of
epochs of each network follows from its milliseconds per update on an idle machine (`NETWORKS`).
Every result is a line of the file and is never made again; the table is printed at the end.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import app, flags

import nash_jax as nj
from benchmarks.machine import machine
from benchmarks.networks import plain
from benchmarks.rows import add_row, read_rows, set_name
from nash_jax.architecture import Variables
from nash_jax.data import (
    Dataset,
    Examples,
    channel_statistics,
    load_dataset,
    stratified_split,
    subset,
)
from nash_jax.launching import compile_faster
from nash_jax.runs.presets import with_defaults
from nash_jax.text import mean_and_deviation
from nash_jax.training import (
    Resizing,
    TrainingSettings,
    TrainState,
    augment,
    direction,
    evaluate,
    fit,
    learning_rates,
    update,
)
from nash_jax.training.epochs import mean_colour

DATASET = flags.DEFINE_string("dataset", "digits", "as `nash search` takes it")
IMAGES = flags.DEFINE_integer("images", 10_000, "training images, a fifth of them to validate on")
JUDGED = flags.DEFINE_integer("judged", 0, "other training images to validate on")
SEEDS = flags.DEFINE_list("seeds", ["0", "1"], "of every row")
EPOCHS = flags.DEFINE_integer("epochs", 18, "of the first network; the others in proportion")
ROWS = flags.DEFINE_multi_string("row", [], "names of rows; by default all")
OUT = flags.DEFINE_string("out", "tricks.jsonl", "the file of the results")

Make = Callable[[tuple[int, ...], int, nj.ops.Normalize], nj.Architecture]


def _vgg(*widths: int) -> Make:
    return lambda shape, classes, normalize: nj.vgg(shape, classes, widths, normalize)


def _chain(*widths: int | tuple[int, ...]) -> Make:
    return lambda shape, classes, normalize: nj.chain(shape, classes, widths, normalize)


#: Each network with its milliseconds per update of 64 images of 32x32, two cores of an AMD EPYC.
NETWORKS: dict[str, tuple[Make, float]] = {
    "vgg 16-32-64-128": (_vgg(16, 32, 64, 128), 46),
    "vgg 24-48-96-192": (_vgg(24, 48, 96, 192), 80),
    "vgg 32-64-128-256": (_vgg(32, 64, 128, 256), 140),
    "vgg 8-16-32-64": (_vgg(8, 16, 32, 64), 18),
    "the paper's chain 16-32-64": (_chain(16, 32, 64), 28),
    "the paper's chain 32-64-128": (_chain(32, 64, 128), 75),
    "plain: 5 convolutions": (plain, 50),
    "ResNet-20": (lambda shape, classes, n: nj.resnet(shape, classes, 20, n), 290),
}
BASE = "vgg 16-32-64-128"
NETWORK = flags.DEFINE_enum("network", BASE, [*NETWORKS], "that tricks are tried on")
SETTINGS = TrainingSettings(batch_size=64)
FLOPS = nj.count_flops(nj.vgg((32, 32, 3), 10))
#: Each trick with the settings that it changes.
TRICKS: dict[str, dict[str, Any]] = {
    "rate 0.1": {"lr_start": 0.1},
    "rate 0.025": {"lr_start": 0.025},
    "batches of 128": {"batch_size": 128},
    "batches of 128, rate 0.1": {"batch_size": 128, "lr_start": 0.1},
    "batches of 32": {"batch_size": 32},
    "weight decay 0.001": {"weight_decay": 1e-3},
    "label smoothing 0.1": {"label_smoothing": 0.1},
    "cutout of 8 pixels": {"cutout": 8},
    "crops by 2 pixels": {"crop_padding": 2},
    "no crops": {"crop_padding": 0},
    "gradients clipped to 5": {"clip_norm": 5.0},
    "no flips": {"flip": False},
}
_PLANNED = {"label_smoothing": 0.1, "clip_norm": 5.0}
_WARM = {**_PLANNED, "lr_start": 0.1, "warmup": 0.15}
_AUTO = {**_WARM, "auto_augment": True}
_AUTO_2 = {**_AUTO, "weight_decay": 2e-3}
#: Trainings as plans have them, which look whether a set may be flipped.
PLANNED: dict[str, dict[str, Any]] = {
    "as plans were": _PLANNED,
    "rate 0.1 behind a warm-up": _WARM,
    "the same, rate 0.2": {**_WARM, "lr_start": 0.2},
    "the same, weight decay 0.001": {**_WARM, "weight_decay": 1e-3},
    "the same, weight decay 0.002": {**_WARM, "weight_decay": 2e-3},
    "the same, cutout of 8 pixels": {**_WARM, "cutout": 8},
    "the same, no label smoothing": {**_WARM, "label_smoothing": 0.0},
    "the same, smaller images for a third": _WARM,
    "the same, smaller images for half": _WARM,
    "AutoAugment": _AUTO,
    "AutoAugment, weight decay 0.002": _AUTO_2,
    "AutoAugment, smaller images for half": _AUTO,
    "AutoAugment, smaller images for three quarters": _AUTO,
    "AutoAugment, weight decay 0.002, smaller images for half": _AUTO_2,
    "AutoAugment, weight decay 0.002, smaller images for three quarters": _AUTO_2,
}
TRICKS |= PLANNED
#: Sets that plans do not flip; all other rows are flipped.
UNFLIPPED = ("digits", "fashion_mnist")
#: Shares of the training on smaller images, by row.
RESIZED = {
    row: share
    for row in PLANNED
    for part, share in (("a third", 0.35), ("half", 0.5), ("three quarters", 0.75))
    if row.endswith(f"smaller images for {part}")
}
#: Rows that are trained in two cosines: the share of the epochs of the first.
RESTARTS = {"a warm restart after a third": 1 / 3, "a warm restart after two thirds": 2 / 3}
#: The network whose weights are a moving average of the training's, by the average's decay.
AVERAGES = {"weights averaged with 0.99": 0.99, "weights averaged with 0.999": 0.999}
#: Rows that are edited after a third of the epochs: whether their momentum is carried over.
EDITED = {"2 edits after a third": False, "2 edits after a third, momentum carried": True}
#: Searches of about the same time as the first: the settings of each, all others those of a plan.
#: An update of a child takes half as long again, because it has one core, and a child compiles.
SEARCHES: dict[str, dict[str, Any]] = {
    "no search": {"strategy": "one_network", "epochs_pretrain": 0, "epochs_final": 15},
    "1 step of 2 children": {"num_steps": 1, "num_neighbours": 2, "epochs_final": 11},
    "1 step of 4 children": {"num_steps": 1, "num_neighbours": 4, "epochs_final": 9},
    "2 steps of 2 children": {"num_steps": 2, "num_neighbours": 2, "epochs_final": 9},
    "1 step of 2 children of 5 edits": {
        **{"num_steps": 1, "num_neighbours": 2, "epochs_final": 11},
        **{"num_morphisms": 5, "max_flops": 3 * FLOPS},
    },
}
#: Trained from new weights for as many epochs as the search has for its final training.
ANEW = "1 step of 2 children, the final network anew"


def split() -> tuple[Dataset, Examples, Examples]:
    """The data set, and of its training images those to train on and those to judge by."""
    dataset = load_dataset(DATASET.value)
    examples = subset(dataset.train, IMAGES.value + JUDGED.value, 0)
    if JUDGED.value:
        share = JUDGED.value / (IMAGES.value + JUDGED.value)
        return dataset, *stratified_split(examples, share, 0, dataset.name, dataset.class_names)
    parts = stratified_split(examples, 0.2, 0, dataset.name, dataset.class_names)
    return dataset, *parts


def what(row: str, seed: int) -> dict[str, Any]:
    """What a line of the file is about; sizes where they are not the usual ones."""
    found = {"dataset": set_name(DATASET.value), "row": row, "seed": seed}
    sizes = (
        *(("judged", JUDGED.value, 0), ("images", IMAGES.value, 10_000)),
        *(("first_epochs", EPOCHS.value, 18), ("network", NETWORK.value, BASE)),
    )
    return found | {name: size for name, size, usual in sizes if size != usual}


def searched(row: str, seed: int) -> dict[str, Any]:
    """The accuracy of a search's final network on images that stand for the test images.

    They are the validation images of the other rows, and the search has none of them.
    """
    dataset, train, judge = split()
    dataset = dataclasses.replace(dataset, train=train, test=judge)
    sizes = SEARCHES["1 step of 2 children" if row == ANEW else row]
    common = {"model_0": "vgg", "widths": (16, 32, 64, 128), "batch_size": 64, "seed": seed}
    common |= {"num_morphisms": 2, "max_flops": round(1.5 * FLOPS), "flip_test": True}
    common |= {"epochs_pretrain": 2, "epochs_neighbours": 1}
    config = with_defaults(common, sizes)
    best = nj.run_search(config, dataset, workers=1).best
    accuracy = best.estimate.accuracy
    if row == ANEW:
        init_key, key = jax.random.split(jax.random.key(seed))
        training = config.recipes.training
        anew = nj.init(best.spec, init_key)
        fitted = fit(best.spec, anew, train, key, config.recipes.epochs_final, training)
        accuracy = evaluate(best.spec, fitted.variables, judge, **training.evaluation).accuracy
    found = {"epochs": config.recipes.epochs_final, "mirrored": round(100 * accuracy, 2)}
    return {**what(row, seed), **found}


def judged(
    row: str,
    seed: int,
    spec: nj.Architecture,
    variables: Variables,
    epochs: int,
    valid: Examples,
) -> dict[str, Any]:
    """A row of the file: the accuracy on images, and on images and mirrored images together."""
    accuracies = [
        round(100 * evaluate(spec, variables, valid, flip=flip).accuracy, 2)
        for flip in (False, True)
    ]
    found = {"epochs": epochs, "accuracy": accuracies[0], "mirrored": accuracies[1]}
    return {**what(row, seed), **found}


def measured(row: str, seed: int) -> dict[str, Any]:
    """The validation accuracy of one row, also with the images mirrored."""
    dataset, train, valid = split()
    make, milliseconds = NETWORKS[row if row in NETWORKS else NETWORK.value]
    normalize = nj.ops.Normalize(*channel_statistics(train.images))
    spec = make(dataset.image_shape, dataset.num_classes, normalize)
    changed = TRICKS.get(row, {})
    if row in PLANNED and set_name(DATASET.value) in UNFLIPPED:
        changed = {**changed, "flip": False}
    settings = dataclasses.replace(SETTINGS, **changed)
    epochs = max(1, round(EPOCHS.value * NETWORKS[BASE][1] / milliseconds))
    init_key, key = jax.random.split(jax.random.key(seed))
    share = RESIZED.get(row, 0.0)
    epochs = max(1, round(epochs / Resizing.of(spec, share).mean_work()))
    variables, first = nj.init(spec, init_key), round(RESTARTS.get(row, 0) * epochs)
    for part in (first, epochs - first):
        part_key = jax.random.fold_in(key, part)
        fitted = fit(spec, variables, train, part_key, part, settings, progressive_resizing=share)
        variables = fitted.variables
    return judged(row, seed, spec, variables, epochs, valid)


def _trained(
    spec: nj.Architecture,
    state: TrainState,
    train: Examples,
    key: jax.Array,
    epochs: int,
    settings: TrainingSettings,
    decay: float = 0.0,
) -> tuple[TrainState, Variables]:
    """As `fit`, but begun with a momentum; also gives the moving average of all variables."""
    num_batches, fill = len(train) // settings.batch_size, mean_colour(spec)
    rates = learning_rates(settings, epochs * num_batches)
    step = jax.jit(functools.partial(update, spec, settings=settings))
    augmented = jax.jit(functools.partial(augment, settings=settings, fill=fill))
    average = jax.jit(
        lambda old, new: jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, old, new)
    )
    averaged = state.variables
    for number, rate in enumerate(rates):
        epoch, batch = divmod(number, num_batches)
        if not batch:
            order = np.asarray(jax.random.permutation(jax.random.fold_in(key, epoch), len(train)))
        some = train.take(order[batch * settings.batch_size :][: settings.batch_size])
        image_key, drop_key = jax.random.split(jax.random.fold_in(key, epochs + number))
        state, _ = step(state, augmented(some.images, image_key), some.labels, rate, drop_key)
        if decay:
            averaged = average(averaged, state.variables)
    return state, averaged


def by_hand(row: str, seed: int) -> dict[str, Any]:
    """The validation accuracy of a row that `fit` has not."""
    dataset, train, valid = split()
    normalize = nj.ops.Normalize(*channel_statistics(train.images))
    spec = NETWORKS[BASE][0](dataset.image_shape, dataset.num_classes, normalize)
    init_key, edit_key, key = jax.random.split(jax.random.key(seed), 3)
    optimizer = direction(SETTINGS)
    variables = nj.init(spec, init_key)
    state = TrainState(variables, optimizer.init(variables["params"]))
    epochs = EPOCHS.value
    if row in EDITED:
        epochs = round(EPOCHS.value / 3)
        state, _ = _trained(spec, state, train, key, epochs, SETTINGS)
        epochs = EPOCHS.value - epochs
        for each_key in jax.random.split(edit_key, 2):
            edit = nj.morphisms.sample(spec, each_key, bound=1.5 * FLOPS)
            grown, variables = edit(spec, state.variables, each_key)
            params = state.variables["params"], variables["params"]
            moments = nj.morphisms.transfer_state(edit, spec, state.optimizer, *params, optimizer)
            spec, state = grown, TrainState(variables, moments)
        if not EDITED[row]:
            state = state._replace(optimizer=optimizer.init(state.variables["params"]))
    decay = AVERAGES.get(row, 0.0)
    state, averaged = _trained(
        spec, state, train, jax.random.fold_in(key, 1), epochs, SETTINGS, decay
    )
    return judged(row, seed, spec, averaged if decay else state.variables, EPOCHS.value, valid)


def rows_there() -> list[dict[str, Any]]:
    """The rows of the file that were trained on, and judged by, as many images."""
    names = ("dataset", "row", "seed", "judged", "images", "first_epochs", "network")
    return [
        row
        for row in read_rows(OUT.value)
        if {n: row[n] for n in names if n in row} == what(row["row"], row["seed"])
    ]


def main(argv: list[str]) -> None:
    del argv
    compile_faster()
    name = set_name(DATASET.value)
    done = {(row["row"], row["seed"]) for row in rows_there()}
    makers = dict.fromkeys((*TRICKS, *RESTARTS), measured)
    if NETWORK.value == BASE:
        makers |= dict.fromkeys(NETWORKS, measured)
        makers |= dict.fromkeys((*AVERAGES, *EDITED), by_hand)
        makers |= dict.fromkeys((*SEARCHES, ANEW), searched)
    for seed in map(int, SEEDS.value):
        for row, make in makers.items():
            if (row, seed) not in done and (not ROWS.value or row in ROWS.value):
                add_row(OUT.value, make(row, seed))
    print(f"{machine()}\n\n| {name} | epochs | validation % | also mirrored |\n|---|---|---|---|")
    for row in makers:
        found = [x for x in rows_there() if x["row"] == row]
        if found:
            means = [
                mean_and_deviation([x[key] for x in found if key in x])
                for key in ("accuracy", "mirrored")
            ]
            print(f"| {row} | {found[0]['epochs']} | " + " | ".join(means) + " |")


if __name__ == "__main__":
    app.run(main)
