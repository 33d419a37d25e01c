"""Shared weights: a supernet is trained once, and its parts are judged with its weights.

Whatever is judged, the statistics of its normalisations are taken anew: the supernet's are those of
all parts mixed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence

import jax
import numpy as np

from nash_jax.architecture import (
    Architecture,
    EdgeWeights,
    Variables,
    init,
    with_edge_weights,
)
from nash_jax.data import Examples, stratified_split
from nash_jax.estimation.estimate import Estimate, Seconds
from nash_jax.estimation.job import Job, Network, Outcome, Part, Recipe, Tools, Unfinished
from nash_jax.training import DivergedError, Evaluation, evaluate, learning_rate
from nash_jax.training.bilevel import EdgeSettings
from nash_jax.training.supernet import Draw, fit_supernet, recalibrated, supernet_shapes

#: Parts whose mean is the estimate of a supernet of drawn paths.
NUM_JUDGED = 4


def train_supernet(job: Job, train: Examples, valid: Examples, tools: Tools) -> Outcome:
    """Train a supernet, and judge the part that its edges favour.

    Where logits of edges are trained, half of the training images are theirs. Where paths are
    drawn, no edge is favoured, and the estimate is the mean of a few parts that are drawn.

    Args:
      job: its `part` has the space and the supernet.
      train: images to train on.
      valid: images to judge on; nothing is trained on them.
      tools: what it is done with.
    """
    start, recipe = time.perf_counter(), job.recipe
    assert job.part is not None
    assert recipe.edges is not None
    init_key, train_key, judge_key, draw_key, drawn_key = jax.random.split(job.random_key, 5)
    variables = init(job.spec, init_key)
    edges, halves = _edges(recipe, job.part, draw_key), (train, train)
    if isinstance(edges, EdgeSettings):
        seed = int(jax.random.bits(draw_key))
        halves = stratified_split(train, 0.5, seed, "the halves of the training images")

    def on_epoch(epoch: int, loss: float) -> None:
        rate = learning_rate(recipe.training, (epoch - 1) / recipe.epochs)
        tools.on_epoch(job.name, epoch, loss, rate)

    trainings: contextlib.AbstractContextManager[Unfinished] = contextlib.nullcontext(Unfinished())
    if tools.trainings is not None:
        shapes = functools.partial(supernet_shapes, job.spec, recipe.training, edges, recipe.epochs)
        trainings = tools.trainings.of(job.name, shapes, tools.note)
    with trainings as there:
        fitted = fit_supernet(
            job.spec,
            variables,
            *halves,
            train_key,
            recipe.epochs,
            recipe.training,
            edges,
            on_epoch=on_epoch,
            max_bytes=tools.max_bytes,
            resume=there.snapshot,
            checkpoint=there.checkpoint,
        )
    fit, trained = fitted.fit, time.perf_counter()
    parts = _favoured(job.part, edges, {e: h[-1] for e, h in fitted.history.items()}, drawn_key)
    if isinstance(edges, EdgeSettings):
        _check_collapse(job, {e: h[-1] for e, h in fitted.history.items()}, tools.note)
    judged = [
        _judged(
            job.spec,
            with_edge_weights(job.spec, fit.variables, weights),
            recipe,
            (train, valid),
            judge_key,
        )
        for weights in parts
    ]
    seconds = Seconds(
        compile=fit.compile_seconds,
        train=trained - start - fit.compile_seconds - fit.wait_seconds,
        evaluate=time.perf_counter() - trained,
        wait=fit.wait_seconds,
    )
    estimate = dataclasses.replace(
        _mean(judged, seconds),
        required_bytes=fit.required_bytes,
        train_losses=tuple(map(float, fit.losses)),
        edges={e: tuple(map(tuple, h.tolist())) for e, h in fitted.history.items()},
    )
    return Outcome(estimate, fit.variables)


def judge_part(job: Job, parent: Network, train: Examples, valid: Examples) -> Outcome:
    """Judge a network with its share of a supernet's weights, which nothing trains on.

    The supernet computes it with the edge weights of the part, so that all parts share a program.

    Args:
      job: its `part` has the space, the supernet and the genotype.
      parent: the supernet, trained.
      train: images that statistics are taken of.
      valid: images to judge on.
    """
    start = time.perf_counter()
    assert job.part is not None
    weights = job.part.space.one_hot(job.part.genotype, job.part.supernet)
    variables = with_edge_weights(parent.spec, parent.variables, weights)
    judged = _judged(parent.spec, variables, job.recipe, (train, valid), job.random_key)
    compiling = judged.compile_seconds
    evaluating = time.perf_counter() - start - compiling - judged.wait_seconds
    seconds = Seconds(compile=compiling, evaluate=evaluating, wait=judged.wait_seconds)
    return Outcome(_mean([judged], seconds), None)


def _edges(recipe: Recipe, part: Part, key: jax.Array) -> EdgeSettings | Draw:
    """How the logits of edges are trained, or what draws paths."""
    if isinstance(recipe.edges, EdgeSettings):
        return recipe.edges

    def draw(number: int) -> EdgeWeights:
        genotype = part.space.sample(jax.random.fold_in(key, number))
        found: EdgeWeights = part.space.one_hot(genotype, part.supernet)
        return found

    return draw


def _check_collapse(job: Job, weights: EdgeWeights, note: Callable[[str], None]) -> None:
    """Say so, if most edges of the network that is favoured carry nothing or pass all on.

    Known of gradient methods (Zela et al. 2020): edges without weights are learnt faster.
    """
    assert job.part is not None
    space = job.part.space
    chosen = space.sharing.chosen(space.derive(weights, job.part.supernet))
    plain = [choice for choice in chosen.values() if choice in ("none", "skip_connect")]
    if 2 * len(plain) > len(chosen):
        note(
            f"{job.name}: the derived network has {len(plain)} of {len(chosen)} edges without "
            "weights (skip_connect, none): the search may have collapsed"
        )


def _favoured(
    part: Part, edges: EdgeSettings | Draw, weights: EdgeWeights, key: jax.Array
) -> list[EdgeWeights]:
    """The edge weights of the parts that a supernet is judged by."""
    if isinstance(edges, EdgeSettings):
        return [part.space.one_hot(part.space.derive(weights, part.supernet), part.supernet)]
    keys = jax.random.split(key, NUM_JUDGED)
    return [part.space.one_hot(part.space.sample(each), part.supernet) for each in keys]


def _judged(
    spec: Architecture,
    variables: Variables,
    recipe: Recipe,
    data: tuple[Examples, Examples],
    key: jax.Array,
) -> Evaluation:
    """A part of a supernet, by its edge weights in the variables."""
    train, valid = data
    settings = recipe.training
    exact = recalibrated(spec, variables, train, key, settings)
    found = evaluate(spec, exact, valid, **settings.evaluation)
    if not math.isfinite(found.loss):
        raise DivergedError(f"diverged: the loss of a part was {found.loss}")
    return found


def _mean(judged: Sequence[Evaluation], seconds: Seconds) -> Estimate:
    """The mean of some evaluations."""
    accuracy, loss, balanced = (
        float(np.mean(values))
        for values in zip(*((e.accuracy, e.loss, e.balanced_accuracy) for e in judged))
    )
    return Estimate(accuracy, loss, seconds, balanced_accuracy=balanced)
