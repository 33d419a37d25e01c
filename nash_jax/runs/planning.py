"""The settings of a search that has some minutes: planned by what the machine and the data take.

A plan is a config like any other: what comes of it is recorded and replayed, and a run that was
stopped goes on with the plan that it has. While the run goes on, it asks for fewer trials where
they take longer than was planned (`search.within`), and makes the final training as long as the
time that is left (`Deadline.lengths`).
"""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from nash_jax.architecture import Architecture, count_flops, exceeded, init, ops
from nash_jax.data import Dataset, Examples, channel_statistics
from nash_jax.estimation import Images, Job, on_smaller_images
from nash_jax.runs.config import Bounds, Config
from nash_jax.runs.presets import RECIPES, check_recipe, with_defaults
from nash_jax.runs.problem import Problem, prepare, searches
from nash_jax.runs.spaces import Start
from nash_jax.training import (
    Resizing,
    TrainingSettings,
    cost_of_smaller,
    fit,
    smaller,
    updates_per_program,
)
from nash_jax.training.evaluate import all_logits

#: What every plan has. How it was chosen: docs/results.md, "What pays".
SETTINGS: dict[str, Any] = {
    "model_0": "vgg",
    "num_morphisms": 2,
    "batch_size": 64,
    "precision": "auto",
}
#: How to train, if nothing is said: modern, without cutout, at a higher rate behind a warm-up.
RECIPE = RECIPES["modern"] | {"cutout": 0, "lr_start": 0.1, "warmup": 0.15}
#: Channels of the first stage, to choose from; every further stage has twice as many.
FIRST_WIDTHS = (8, 12, 16, 24, 32, 48, 64, 96, 128)
#: Those of the network by which a CPU is measured, and an accelerator, and the seconds that it
#: takes. All that is narrower takes an accelerator as long: it waits for what it is to do next.
MEASURED_WIDTH, MEASURED_WIDTH_ELSEWHERE, MEASURED_SECONDS = 12, 64, 0.5
#: A slow machine is not measured any more after so many seconds.
MOST_SECONDS = 5.0
#: Of widths 12, 16, 24 and 32, an update takes 29, 40, 75 and 131 ms on two cores of an AMD EPYC.
PACE_EXPONENT = 0.75
#: The smallest map that a stage of whole images may have, in pixels.
LEAST_MAP = 3
MOST_STAGES = 4
#: A network is as wide as leaves time for so many epochs and so many updates, if it had all time.
LEAST_EPOCHS, LEAST_UPDATES = 22, 2_500
#: Images are smaller in the search, and in this share of the final training, if their edges have
#: at least so many pixels.
SMALLER_SHARE, SMALLER_FROM = 0.5, 24
#: If so many epochs would fit into all of the time, what is learned is limited by the number of
#: images: AutoAugment makes others of them, and they are smaller for a larger share.
MANY_EPOCHS, SMALLER_SHARE_OF_MANY = 50, 0.75
#: How many times the FLOPs of model_0 a network may have.
GROWTH = 1.5
#: Shares of the time for the first network's training and for the steps of the search.
PRETRAIN_SHARE, STEPS_SHARE = 0.05, 0.1
#: Of an epoch that has the whole machine, one of several children side by side takes longer.
BESIDE = 1.5
#: Seconds that the processes of workers take from the machine until they are ready.
WORKERS_START = 6.0
#: Programs that a child compiles, in units of the program of an update.
PROGRAMS = 2.0
#: Seconds until the first update, and after the last.
OVERHEAD = 8.0
#: Of an epoch without the validation images, one of the final training takes longer.
FINAL = 1.25
#: Updates by which a network learns enough to tell whether classes differ by their mirror image,
#: and the most of the time that they may take.
FLIP_UPDATES, FLIP_SHARE = 200, 0.025
#: How many images are looked at. A class is known if at least half of its images are classified
#: right, and at least `FLIP_LEAST` of them; it is lost in the mirror if so large a share of those
#: is taken for other classes there.
FLIP_IMAGES, FLIP_LEAST, FLIP_LOST = 1_000, 5, 0.8
#: No bounds: for the network by which a machine is measured.
UNBOUNDED = Bounds(max_flops=0)
#: The sizes where nothing is searched: the first network is trained in one go.
NO_SEARCH = {"epochs_pretrain": 0}


class Pace(NamedTuple):
    """What a machine takes for a network.

    Attributes:
      compile_seconds: to compile an update.
      update_seconds: for an update, alone.
      spec: the network.
    """

    compile_seconds: float
    update_seconds: float
    spec: Architecture

    def of(self, spec: Architecture) -> float:
        """Seconds that an update of another network takes.

        It grows with the pixels. For one pixel, FLOPs grow with the square of a network's width,
        and part of the time with the width alone. An accelerator is not sooner done with less.
        """
        pixels = math.prod(spec.input_shape[:2]) / math.prod(self.spec.input_shape[:2])
        for_one = count_flops(spec) / count_flops(self.spec) / pixels
        times = pixels * for_one**PACE_EXPONENT
        return self.update_seconds * (times if _on_cpu() else max(1.0, times))


def measure(spec: Architecture, examples: Examples, settings: TrainingSettings) -> Pace:
    """Train a network for a few updates, and see what that takes; its weights are thrown away.

    The first update is not counted: it also makes the pages of its memory. Of several trainings the
    fastest counts: what else the machine does for a moment is no reason for a small network.
    """
    size, num = settings.batch_size, max(4, updates_per_program())
    once, more = (examples.take(np.arange(n * size) % len(examples)) for n in (1, num))
    key = jax.random.key(0)
    variables, seconds = init(spec, key), list[float]()
    first = fit(spec, variables, once, key, 1, settings)
    start = time.monotonic()
    while time.monotonic() < start + (MEASURED_SECONDS if len(seconds) >= 4 else MOST_SECONDS):
        seconds.append(fit(spec, variables, more, key, 1, settings).train_seconds)
    return Pace(first.compile_seconds, min(seconds) / num, spec)


def lost_in_the_mirror(
    spec: Architecture,
    train: Examples,
    valid: Examples,
    settings: TrainingSettings,
    updates: int,
) -> int | None:
    """The class whose mirror images are other classes, or None.

    Signs, letters and digits must not be flipped in training, photographs may. A network is
    trained for some updates, by settings without flips, and then sees the validation images in a
    mirror.
    """
    rng, key = np.random.default_rng(0), jax.random.key(0)
    some = train.take(rng.permutation(len(train))[: updates * settings.batch_size])
    epochs = max(1, round(updates * settings.batch_size / len(some)))
    variables = fit(spec, init(spec, key), some, key, epochs, settings).variables
    valid = valid.take(rng.permutation(len(valid))[:FLIP_IMAGES])
    mirrored = Examples(valid.images[:, :, ::-1], valid.labels)
    found, in_mirror = (
        all_logits(spec, variables, each, None, settings.precision, False, False)[0].argmax(axis=-1)
        for each in (valid, mirrored)
    )
    lost = {}
    for label in range(spec.num_classes):
        of_class = valid.labels == label
        right = of_class & (found == label)
        if right.sum() >= max(FLIP_LEAST, of_class.sum() / 2):
            lost[label] = float(np.mean(in_mirror[right] != label))
    worst = max(lost, key=lost.__getitem__, default=None)
    return worst if worst is not None and lost[worst] >= FLIP_LOST else None


class Plan(NamedTuple):
    """What a search with some minutes is to be.

    Attributes:
      config: its settings.
      text: the plan, for people.
      in_process: whether trials are to be made in this process.
    """

    config: Config
    text: str
    in_process: bool = False


def plan(
    dataset: Dataset,
    /,
    minutes: float,
    workers: int = 1,
    recipe: str = "",
    in_process: bool = False,
    spent: float = 0.0,
    **given: Any,
) -> Plan:
    """Measure the machine, and choose the sizes of a search that ends in about `minutes`.

    Args:
      dataset: the data.
      minutes: of the whole run.
      workers: trials that are made side by side: of accelerators, as many as there are.
      recipe: how to train, one of `RECIPES`; by default `RECIPE`.
      in_process: whether children may be made in this process instead, each by all of the workers'
        cores: so they are in steps of neighbours where that takes less time: workers have to start.
      spent: seconds of the run that are over: more than `OVERHEAD` if its data took long to load.
      **given: settings that stay as they are, as `Config.replace` takes them.

    Raises:
      ValueError: if the time is too short for a search on these data, or as `preset`.
    """
    late = max(0.0, spent - OVERHEAD)
    seconds = 60 * minutes - late
    images = for_images(dataset, given.get("max_train_examples", 0))
    how = RECIPES[recipe] if recipe else _recipe({**images, **given}["batch_size"])
    config = with_defaults(SETTINGS | how | images, {**given, "minutes": minutes})
    if recipe:
        check_recipe(config, recipe)
    problem = prepare(dataclasses.replace(config, bounds=UNBOUNDED), dataset)
    if not recipe:
        of_size = _settings_of_size(config, problem.model_0)
        config = config.replace(**{n: x for n, x in of_size.items() if n not in given})
    measured, (train, valid), training = _as_searched(config, problem)
    unflipped = dataclasses.replace(training, flip=False)
    # As what looks into the mirror is trained, so that both have one program.
    pace = measure(measured, train, training if "flip" in given else unflipped)
    num_images = len(problem.train) + len(problem.valid)
    updates = _updates(num_images, config.recipes.training.batch_size)
    normalize = ops.Normalize(*channel_statistics(problem.train.images))
    unlike = None
    if "flip" not in given:
        num = max(1, min(FLIP_UPDATES, int(FLIP_SHARE * seconds / pace.update_seconds)))
        unlike = lost_in_the_mirror(measured, train, valid, unflipped, num)
        config = config.replace(flip=unlike is None)

    def first_network(config: Config) -> Architecture:
        start = config.space.start(dataset.image_shape, dataset.num_classes, normalize)
        return cast(Start, start).spec

    if "widths" not in given and config.values().get("model_0") == "vgg":
        stages = range(len(config.space.widths))
        configs = [
            config.replace(widths=tuple(width * 2**n for n in stages)) for width in FIRST_WIDTHS
        ]
        firsts = [(each, first_network(each)) for each in configs]
        bounded = [(each, spec) for each, spec in firsts if not exceeded(spec, each.limits(spec))]
        # If even the narrowest exceeds a bound, the run itself says so.
        (config, _), *others = bounded or firsts[:1]
        for wider, spec in others:
            if seconds / pace.of(spec) >= max(LEAST_UPDATES, LEAST_EPOCHS * updates):
                config = wider
    model_0 = first_network(config)
    large = _large(dataset.image_shape)
    if not recipe and large and seconds >= MANY_EPOCHS * updates * pace.of(model_0):
        share = SMALLER_SHARE_OF_MANY if config.recipes.progressive_resizing else 0
        of_many = {"auto_augment": True, "progressive_resizing": share}
        config = config.replace(**{n: x for n, x in of_many.items() if n not in given})
    epoch = pace.of(model_0) * updates * len(problem.train) / num_images
    searching = cost_of_smaller(model_0) * epoch if config.recipes.smaller_search else epoch
    _check_time(minutes, late, pace, searching, epoch, num_images)
    sizes, known = dict[str, Any](NO_SEARCH), config.values()
    if searches(config):
        sizes = _sizes(seconds, pace, searching, workers)
        if known.get("num_samples") == config.strategy.num_at_once:  # it asks for all at once
            sizes["num_samples"] = sizes["num_steps"] * sizes["num_neighbours"]
    resizing = Resizing.of(model_0, config.recipes.progressive_resizing)
    fit_in = (seconds - OVERHEAD) / (FINAL * epoch * resizing.mean_work())
    sizes["epochs_final"] = max(1, int(fit_in))  # the run itself knows better, but not at first
    if "model_0" in known:  # the space of morphs has no other end
        sizes["max_flops"] = round(GROWTH * count_flops(model_0))
    config = config.replace(**{n: x for n, x in sizes.items() if n in known and n not in given})
    in_process &= workers == 1 or "threads_per_child" not in given
    in_process &= _faster_without_workers(config, pace, searching, workers)
    if in_process:
        config = config.replace(threads_per_child=workers * config.threads_per_child)
    text = _text(config, pace, model_0, in_process)
    if unlike is not None:
        name = dataset.class_name(unlike)
        text += f"; no flips: images of class {name} become other classes in a mirror"
    return Plan(config, text, in_process)


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def _large(image_shape: tuple[int, ...]) -> bool:
    return min(image_shape[:2]) >= SMALLER_FROM


def _updates(num_images: int, batch_size: int) -> float:
    """As many updates as take the time of an epoch: those that fill its last program count."""
    num, together = num_images / batch_size, updates_per_program()
    return num if together == 1 else together * math.ceil(num / together)


def _settings_of_size(config: Config, model_0: Architecture) -> dict[str, Any]:
    """The settings that say where images are smaller."""
    recipes, large = config.recipes, _large(model_0.input_shape)
    if not large or smaller(model_0) is None or recipes.training.auxiliary_weight:
        return {}
    searching = config.values()["space"] == "morphs" and recipes.estimator == "training"
    return {"progressive_resizing": SMALLER_SHARE, "smaller_search": searching}


def _as_searched(
    config: Config, problem: Problem
) -> tuple[Architecture, tuple[Examples, Examples], TrainingSettings]:
    """The first network, training and validation images, and the training, as the search has it."""
    job = Job("model_0", problem.model_0, np.zeros(2), config.recipes.by_name()["pretrain"])
    images = Images(problem.train, problem.valid, problem.valid)
    job, images, _ = on_smaller_images(job, images, None)
    return job.spec, (images.train, images.valid), job.recipe.training


def _check_time(
    minutes: float, late: float, pace: Pace, searching: float, epoch: float, num_images: int
) -> None:
    """Raises `ValueError` if not even the smallest search would end in time.

    Args:
      minutes: that there are.
      late: seconds of them that are over already, more than usual.
      pace: of the machine.
      searching: seconds of an epoch of the search.
      epoch: seconds of an epoch of whole images.
      num_images: to train on in the end.
    """
    programs = 2 * PROGRAMS * pace.compile_seconds  # of the first network, and of its children
    least = late + OVERHEAD + programs + (1 + BESIDE) * searching + FINAL * epoch
    if least > 60 * minutes:
        raise ValueError(
            f"minutes must be at least {math.ceil(least / 6) / 10} for {num_images} images on this "
            f"machine; got {minutes:g}; give more, or fewer images with --max_train_examples"
        )


def _sizes(seconds: float, pace: Pace, epoch: float, workers: int) -> dict[str, Any]:
    """The sizes of a search, by the seconds of an epoch of the first network."""
    pretrain = max(1, round(PRETRAIN_SHARE * seconds / epoch))

    def rounds(epochs: int) -> float:
        """How often all workers can make a child."""
        child = PROGRAMS * pace.compile_seconds + epochs * epoch * (BESIDE if workers > 1 else 1)
        return STEPS_SHARE * seconds / child

    brief = max(1, pretrain // 2)
    while brief > 1 and rounds(brief) < 2:
        brief -= 1
    children = max(1, int(rounds(brief))) * workers
    neighbours = max(2, workers if children < 4 * workers else 2 * workers)
    return {
        "num_steps": max(1, children // neighbours),
        "num_neighbours": neighbours,
        "epochs_pretrain": pretrain,
        "epochs_neighbours": brief,
    }


def _faster_without_workers(config: Config, pace: Pace, epoch: float, workers: int) -> bool:
    """Whether children are made sooner one by one, with all cores, than side by side.

    One child of a step has no edits, and so no programs of its own where all are made in a process.
    """
    values = config.values()
    if not {"num_steps", "num_neighbours"} <= values.keys():  # another strategy
        return False
    children, training = values["num_neighbours"], config.recipes.epochs_neighbours * epoch
    compiling = PROGRAMS * pace.compile_seconds
    alone = children * training + (children - 1) * compiling
    beside = math.ceil(children / workers) * (BESIDE * training + compiling)
    return bool(values["num_steps"] * (alone - beside) < WORKERS_START)


def _recipe(batch_size: int) -> dict[str, Any]:
    """How to train: a smaller batch has a rate that is lower in proportion (Goyal et al. 2017)."""
    share = min(1.0, batch_size / SETTINGS["batch_size"])
    return {**RECIPE, "lr_start": share * RECIPE["lr_start"]}


def _text(config: Config, pace: Pace, model_0: Architecture, in_process: bool) -> str:
    """A plan, for people."""
    values = config.values()
    parts = [
        f"plan for {config.minutes:g} minutes: an update takes {1e3 * pace.of(model_0):.0f} ms, "
        f"compiling it {pace.compile_seconds:.1f} s",
        f"the first network has {count_flops(model_0) / 1e6:.1f} MFLOPs and is trained for "
        f"{_of(values['epochs_pretrain'], 'epoch')}",
    ]
    if "num_steps" in values:
        parts.append(
            f"{_of(values['num_steps'], 'step')} of {values['num_neighbours']} children, "
            f"{_of(values['epochs_neighbours'], 'epoch')} each"
            + (", one after the other" if in_process else "")
        )
    if config.data.image_size:
        parts.append(f"images are resized to {config.data.image_size}x{config.data.image_size}")
    share, small = config.recipes.progressive_resizing, smaller(model_0)
    where = ["in the search"] if config.recipes.smaller_search and searches(config) else []
    where += [f"for {share:.0%} of the final training"] if share else []
    if small is not None and where:
        height, width = small.input_shape[:2]
        parts.append(f"images are {height}x{width} {' and '.join(where)}")
    if config.recipes.training.auto_augment:
        parts.append("AutoAugment changes images that are trained on")
    return "; ".join([*parts, "the final training takes what is left"])


def _of(number: int, what: str) -> str:
    """A number of things: '1 epoch', '2 epochs'."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def for_images(dataset: Dataset, most: int = 0) -> dict[str, Any]:
    """Settings that follow from the number and size of images.

    A batch is at most an eighth of the images that are trained on, but for very few.

    Args:
      dataset: the images.
      most: so many of those to search and to train on are used; 0: all.
    """
    num = max(2, min(len(dataset.train), most or len(dataset.train)))
    size = min(dataset.image_shape[:2])
    stages = max(1, min(MOST_STAGES, (size // LEAST_MAP).bit_length()))
    width = MEASURED_WIDTH if _on_cpu() else MEASURED_WIDTH_ELSEWHERE
    settings: dict[str, Any] = {"widths": tuple(width * 2**stage for stage in range(stages))}
    settings["crop_padding"] = min(4, size // 8)
    batch_size = SETTINGS["batch_size"]
    while (batch_size > 8 and 10 * batch_size > num) or 2 * batch_size > num:
        batch_size //= 2
    settings["batch_size"] = batch_size
    return settings
