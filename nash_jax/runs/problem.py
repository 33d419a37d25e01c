"""What a run is about: images, the space that is searched, and where the search begins."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping

import numpy as np

from nash_jax.architecture import Architecture, exceeded, ops
from nash_jax.data import (
    Dataset,
    Examples,
    channel_statistics,
    findings,
    load_dataset,
    stratified_split,
    subset,
)
from nash_jax.runs.config import Config, flag_of
from nash_jax.runs.spaces import Start
from nash_jax.spaces import Space
from nash_jax.training import (
    check_batch_size,
    check_streaming,
    check_tower,
    fits_on_device,
    smaller,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """What the search may see: training and validation images, and the network it starts from.

    Attributes:
      train: to train on.
      valid: to choose by.
      start: model_0.
      limits: what each cost of `architecture.COSTS` may be, of those that have a bound.
    """

    train: Examples
    valid: Examples
    start: Start
    limits: Mapping[str, float]

    @property
    def model_0(self) -> Architecture:
        return self.start.spec


def prepare(config: Config, dataset: Dataset) -> Problem:
    """Split the training images and find model_0 for them. The test set is not looked at.

    Raises:
      ValueError: if the images are too few or too small for the config.
    """
    examples = dataset.train
    _check_classes(dataset, examples.labels, "add images, or leave the class out")
    if config.data.max_train_examples:
        examples = subset(examples, config.data.max_train_examples, config.seed)
        _check_classes(dataset, examples.labels, "raise max_train_examples")
    if not fits_on_device(dataset.train):
        check_streaming()
    fraction, names = config.data.validation_fraction, dataset.class_names
    train, valid = stratified_split(examples, fraction, config.seed, dataset.name, names)
    check_batch_size(config.recipes.training, len(train))
    smallest, cutout = min(dataset.image_shape[:2]), config.recipes.training.cutout
    if cutout >= smallest:
        raise ValueError(
            f"cutout must be smaller than the images, {smallest} pixels; got {cutout}; take "
            f"--cutout={smallest // 4}, say"
        )
    normalize = ops.Normalize(*channel_statistics(train.images))
    start = config.space.start(dataset.image_shape, dataset.num_classes, normalize)
    limits = config.limits(start.spec)
    if config.recipes.training.auxiliary_weight:
        check_tower(start.spec)
    _check_smaller_images(config, start.spec)
    if config.recipes.training.drop_path and not any(
        isinstance(node.op, ops.DropPath) for node in start.spec.nodes
    ):
        raise ValueError(
            "drop_path needs a network with paths that can be dropped, as the cells of the spaces "
            "darts, enas, nasnet and nsganet have, or resnet50; got another, of "
            f"{len(start.spec.nodes)} nodes; take drop_path 0"
        )
    for recipe in config.recipes_by_name().values():
        if recipe.rule is not None:
            _check_supernet(config, start.spec)
            share = 0.0 if recipe.rule == "drawn" else getattr(recipe.rule, "share", 0.5)
            parts = [train]
            if share:
                what = f"{dataset.name}, which a supernet splits again"
                parts = [*stratified_split(train, share, 0, what, names)]
            fewest = min(map(len, parts))
            if recipe.training.batch_size > fewest:
                raise ValueError(
                    "supernet_batch_size must be at most the number of images that a supernet's "
                    f"weights and edges learn on, {fewest}; got {recipe.training.batch_size}"
                )
    if searches(config) and (over := exceeded(start.spec, limits)):
        name, least = over
        raise ValueError(
            f"{flag_of(name)} must be at least what the first network has, {least:g}; got "
            f"{limits[name]:g}; raise it, or begin with a smaller network"
        )
    return Problem(train, valid, start, limits)


def _check_smaller_images(config: Config, model_0: Architecture) -> None:
    """Raises `ValueError` if there are to be smaller images, and the weights do not fit them."""
    recipes, share = config.recipes, config.recipes.progressive_resizing
    if not share and not recipes.smaller_search:
        return
    fits = smaller(model_0) is not None and not recipes.training.auxiliary_weight
    if share and not fits:
        raise ValueError(
            "progressive_resizing needs auxiliary_weight 0 and a network that ends in a global "
            "mean, as vgg and resnet-20 do, and whose maps fit smaller images; got another, with "
            f"progressive_resizing {share:g}; take 0"
        )
    trained = recipes.estimator == "training" and config.values()["space"] == "morphs"
    if recipes.smaller_search and not (fits and trained):
        raise ValueError(
            "smaller_search needs the space of morphs, estimator training, auxiliary_weight 0 and "
            "a network that ends in a global mean, as vgg and resnet-20 do, and whose maps fit "
            "smaller images; got another; take --nosmaller_search"
        )


def _check_supernet(config: Config, model_0: Architecture) -> None:
    """Raises `ValueError` unless the space has a supernet."""
    space, values = space_of(config, model_0), config.values()
    if config.minutes:
        raise ValueError(
            f"minutes must be 0 with strategy {values['strategy']}, whose supernet has a length of "
            f"its own; got {config.minutes:g}; take fewer --supernet_epochs"
        )
    inner = getattr(space, "space", space)
    needed = getattr(config.strategy, "SPACES", object)
    if not isinstance(inner, needed):
        raise ValueError(
            f"strategy {values['strategy']} needs DARTS's cells; got {values['space']}; take "
            "--space=darts, suboptimal or cnas"
        )
    if hasattr(inner, "stack") and inner.stack("search").cells < 3:
        raise ValueError(
            "cells and search_cells must be at least 3 for a supernet of normal and reduction "
            f"cells; got {values['cells']} and {values['search_cells']}"
        )
    if not getattr(inner, "edges", ()):
        raise ValueError(
            f"strategy {values['strategy']} needs a space with a supernet; got {values['space']}; "
            "take --space=darts, suboptimal, cnas, enas, nsganet, nb201 or nbmacro"
        )


def _check_classes(dataset: Dataset, labels: np.ndarray, remedy: str) -> None:
    """Raises `ValueError` unless every class can be divided into training and validation images."""
    counts = np.bincount(labels, minlength=dataset.num_classes)
    if counts.min() < 2:
        raise ValueError(
            f"{dataset.name}: every class needs two training images, one of them to validate on; "
            f"{dataset.class_name(int(counts.argmin()))} has {counts.min()}; {remedy}"
        )


def searches(config: Config) -> bool:
    """Whether the strategy plans any trials except those that need the whole machine."""
    recipes = config.recipes_by_name()
    return any(each.number and not recipes[each.recipe].alone for each in config.strategy.plan)


def space_of(config: Config, model_0: Architecture) -> Space:
    """The space of a search."""
    limits = config.limits(model_0)
    space: Space = config.space.space(model_0, limits, config.strategy)
    return space


def dataset_of(
    config: Config,
    note: Callable[[str], None] = lambda text: None,
    data_dir: str | os.PathLike[str] | None = None,
) -> Dataset:
    """The data set that a config names.

    Args:
      config: only its `data` settings matter.
      note: is told what `data.findings` returns, and which images were skipped.
      data_dir: where TensorFlow Datasets are; by default their own place.

    Raises:
      ValueError: if there is no such set, or it breaks a rule.
    """
    dataset = load_dataset(
        config.data.dataset,
        data_dir=None if data_dir is None else pathlib.Path(data_dir),
        label=config.data.label,
        image_size=config.data.image_size,
        corrupt_images=config.data.corrupt_images,
        groups=config.data.groups,
        note=note,
    )
    for finding in findings(dataset):
        note(finding)
    return dataset
