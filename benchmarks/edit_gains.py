"""Whether a search could choose its children better: early, by gradients, or by experience.

  python -m benchmarks.edit_gains --dataset=npz:cifar10.npz

A first network, as plans have it, is trained for some epochs. Its children have one random edit
each, or none, and are trained for some epochs more, as the children of plans are. The questions:

  dropping      do accuracies after the first epoch tell those after the last? If so, successive
                halving within a step could drop children early.
  gradients     does the gradient tell? An edit keeps the function, so that what the gradient of
                the loss becomes longer by comes from the edit (where it inserts zeros, as in
                GradMax, Evci et al. 2022: from what it inserts).
  experience    does a kind of edit that gains with one seed gain with another? If so, edits that
                gained should be drawn more often. The kinds are those of `morphisms.sample`.

The first two are rank correlations with the accuracy in the end (Kendall's tau-b), beside that of
the FLOPs. `--images` are trained on, and as many others of the training images judge; test images
are not looked at. Every child is a line of a file and is never made again; `--report` prints what
is there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import optax
from absl import app, flags, logging

import nash_jax as nj
from benchmarks.machine import machine
from benchmarks.networks import as_planned
from benchmarks.rows import add_row, read_rows, set_name
from nash_jax.data import Examples, channel_statistics, load_dataset, stratified_split, subset
from nash_jax.evaluation import kendall_tau
from nash_jax.launching import compile_faster
from nash_jax.runs.planning import GROWTH, RECIPE
from nash_jax.text import mean_and_deviation
from nash_jax.training import Snapshot, TrainingSettings, evaluate, fit, variables_in

DATASET = flags.DEFINE_string("dataset", "digits", "as `nash search` takes it")
IMAGES = flags.DEFINE_integer("images", 6_000, "to train on, and as many others to judge by")
SEEDS = flags.DEFINE_list("seeds", ["0", "1"], "of first networks")
WIDTHS = flags.DEFINE_list("widths", ["16", "32", "64", "128"], "channels of the first network")
PRETRAIN = flags.DEFINE_integer("pretrain", 4, "epochs of the first network", lower_bound=1)
EPOCHS = flags.DEFINE_integer("epochs", 3, "epochs of a child", lower_bound=2)
CHILDREN = flags.DEFINE_integer("children", 16, "of each first network with an edit", lower_bound=2)
UNEDITED = flags.DEFINE_integer("unedited", 4, "children without one: the chance", lower_bound=1)
OUT = flags.DEFINE_string("out", "edit_gains.jsonl", "the file of the results")
REPORT = flags.DEFINE_bool("report", False, "train nothing, and print what is there")

#: Images by which normalisations are calibrated, and by which gradients are compared.
CALIBRATION, COMPARED = 256, 512


def about() -> dict[str, Any]:
    """What all children of a table have in common."""
    sizes = IMAGES, PRETRAIN, EPOCHS
    found: dict[str, Any] = {"dataset": set_name(DATASET.value), "widths": "-".join(WIDTHS.value)}
    return found | {size.name: size.value for size in sizes}


def rows_there() -> list[dict[str, Any]]:
    """The children that are there."""
    return [row for row in read_rows(OUT.value) if about().items() <= row.items()]


@functools.partial(jax.jit, static_argnums=0)
def squared_gradient(spec: nj.Architecture, variables: Any, images: Any, labels: Any) -> jax.Array:
    """The squared length of the gradient of the mean loss, with the statistics of evaluations."""

    def loss_of(params: Any) -> jax.Array:
        logits = nj.apply(spec, {**variables, "params": params}, images)
        return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    return optax.tree.norm(jax.grad(loss_of)(variables["params"]), squared=True)


def child(
    number: int,
    spec: nj.Architecture,
    variables: Any,
    parts: tuple[Examples, Examples],
    key: jax.Array,
    settings: TrainingSettings,
) -> dict[str, Any]:
    """Make a child and train it; the first ones have no edit.

    Returns:
      Its edit, FLOPs, how much longer its gradient is than the parent's (squared, as a part), and
      its accuracies in % after the first and after the last epoch.
    """
    train, judge = parts
    compared = train.images[:COMPARED], train.labels[:COMPARED]
    draw_key, weight_key, key = jax.random.split(jax.random.fold_in(key, number), 3)
    grown, begin, kind, longer = spec, variables, "none", 0.0
    if number >= UNEDITED.value:
        edit = nj.morphisms.sample(spec, draw_key, bound=GROWTH * nj.count_flops(spec))
        grown, begin = edit(spec, variables, weight_key, train.images[:CALIBRATION])
        kind = type(edit).__name__
        before, after = (
            float(squared_gradient(*network, *compared))
            for network in ((spec, variables), (grown, begin))
        )
        longer = after / before - 1
    accuracies: list[float] = []

    def look(variables: Any) -> None:
        found = evaluate(grown, variables, judge, **settings.evaluation).accuracy
        accuracies.append(round(100 * found, 2))

    def after_first_epoch(take: Callable[[], Snapshot]) -> None:
        if not accuracies:
            look(variables_in(grown, take(), settings))

    num = EPOCHS.value
    look(fit(grown, begin, train, key, num, settings, checkpoint=after_first_epoch).variables)
    found = {"kind": kind, "mflops": round(nj.count_flops(grown) / 1e6, 2)}
    accuracy = dict(zip(("first", "last"), accuracies, strict=True))
    return {**found, "longer": round(longer, 4), **accuracy}


def make_children() -> None:
    """Make the children that are not there yet."""
    dataset = load_dataset(DATASET.value)
    examples = subset(dataset.train, 2 * IMAGES.value, 0)
    train, judge = stratified_split(examples, 0.5, 0, dataset.name, dataset.class_names)
    normalize = nj.ops.Normalize(*channel_statistics(train.images))
    widths = tuple(map(int, WIDTHS.value))
    spec = nj.vgg(dataset.image_shape, dataset.num_classes, widths, normalize)
    settings = as_planned(dataset, **RECIPE)
    done = {(row["seed"], row["child"]) for row in rows_there()}
    for seed in map(int, SEEDS.value):
        missing = [n for n in range(UNEDITED.value + CHILDREN.value) if (seed, n) not in done]
        if not missing:
            continue
        init_key, key, child_key = jax.random.split(jax.random.key(seed), 3)
        variables = nj.init(spec, init_key)
        variables = fit(spec, variables, train, key, PRETRAIN.value, settings).variables
        for number in missing:
            found = child(number, spec, variables, (train, judge), child_key, settings)
            add_row(OUT.value, {**about(), "seed": seed, "child": number, **found})


def report() -> None:
    """Print what is there."""
    rows = rows_there()
    seeds = sorted({row["seed"] for row in rows})
    kinds = ["none", *sorted({row["kind"] for row in rows} - {"none"})]
    print(f"{machine()}; {about()}\n\naccuracy in the end, in %\n")
    print("| edit |" + "".join(f" seed {seed} | children |" for seed in seeds))
    print("|---|" + len(seeds) * "---|---|")
    for kind in kinds:
        cells = []
        for seed in seeds:
            found = [r["last"] for r in rows if (r["kind"], r["seed"]) == (kind, seed)]
            cells.append(f" {mean_and_deviation(found)} | {len(found)} |")
        print(f"| {kind} |" + "".join(cells))
    print("\n| tau-b with the accuracy in the end |" + "".join(f" seed {seed} |" for seed in seeds))
    print("|---|" + len(seeds) * "---|")
    for name, what in (("first", "after one epoch"), ("longer", "gradient"), ("mflops", "FLOPs")):
        cells = []
        for seed in seeds:
            edited = [r for r in rows if r["seed"] == seed and r["kind"] != "none"]
            columns = [r[name] for r in edited], [r["last"] for r in edited]
            known = all(len(set(column)) > 1 for column in columns)
            cells.append(f" {kendall_tau(*columns):.2f} |" if known else " |")
        print(f"| {what} |" + "".join(cells))


def main(argv: list[str]) -> None:
    del argv
    logging.set_verbosity(logging.WARNING)
    compile_faster()
    if not REPORT.value:
        make_children()
    report()


if __name__ == "__main__":
    app.run(main)
