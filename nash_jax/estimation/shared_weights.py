"""Shared weights: a supernet is trained once, and its parts are judged with its weights.

Whatever is judged, the statistics of its normalisations are taken anew: the supernet's are those of
all parts mixed.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from nash_jax.architecture import Architecture, EdgeWeights, Variables, init
from nash_jax.data import Examples, stratified_split
from nash_jax.estimation.estimate import Estimate, Seconds
from nash_jax.estimation.job import Job, Network, Outcome, Part, Recipe, Tools
from nash_jax.policies import (
    Controller,
    ControllerSettings,
    Exp3,
    LeastSquares,
    Uniform,
    Written,
)
from nash_jax.training import DivergedError, Evaluation, learning_rate
from nash_jax.training.bilevel import EdgeSettings
from nash_jax.training.parts import Rule, evaluate_path
from nash_jax.training.supernet import fit_supernet, supernet_shapes

#: Parts whose mean is the estimate of a supernet of drawn paths.
NUM_JUDGED = 4
#: Genotypes that a controller writes in the end (ENAS, section 2.4).
NUM_CANDIDATES = 10


def train_supernet(job: Job, train: Examples, valid: Examples, tools: Tools) -> Outcome:
    """Train a supernet, and judge the part that its edges favour.

    A share of the training images is the rule's that decides the edges' weights. Where genotypes
    are drawn, no edge is favoured, and the estimate is the mean of a few of them.

    Args:
      job: its `part` has the space and the supernet.
      train: images to train on.
      valid: images to judge on; nothing is trained on them.
      tools: what it is done with.
    """
    start, recipe = time.perf_counter(), job.recipe
    assert job.part is not None
    init_key, train_key, judge_key, draw_key, drawn_key = jax.random.split(job.random_key, 5)
    variables = init(job.spec, init_key)
    rule, parts = _rule(recipe, job.part), (train, train)
    if rule.share:
        seed = int(jax.random.bits(draw_key))
        parts = stratified_split(train, rule.share, seed, "the training images of a supernet")

    def on_epoch(epoch: int, loss: float) -> None:
        rate = learning_rate(recipe.training, (epoch - 1) / recipe.epochs)
        tools.on_epoch(job.name, epoch, loss, rate)

    shapes = functools.partial(supernet_shapes, job.spec, recipe.training, rule, recipe.epochs)
    with tools.unfinished(job.name, shapes) as there:
        fitted = fit_supernet(
            job.spec,
            variables,
            *parts,
            train_key,
            recipe.epochs,
            recipe.training,
            rule,
            on_epoch=on_epoch,
            max_bytes=tools.max_bytes,
            resume=there.snapshot,
            checkpoint=there.checkpoint,
        )
    fit, trained = fitted.fit, time.perf_counter()
    if fitted.diverged:
        tools.note(f"{job.name}: {fitted.diverged}; it goes on with what it was before that")
    weights = {edge: history[-1] for edge, history in fitted.history.items()}
    candidates: list[Any] = []
    if isinstance(rule, Written):
        candidates = _within_bounds(job.part, rule, fitted.rule)
        if len(candidates) == 1:
            tools.note(
                f"{job.name}: all that its controller writes is one network: it has stopped "
                "searching, or nothing else keeps the bounds"
            )
    elif isinstance(rule, Uniform):
        keys = jax.random.split(drawn_key, NUM_JUDGED)
        candidates = [job.part.space.sample(key) for key in keys]
    else:
        candidates = [job.part.space.derive(weights, job.part.supernet)]
        _check_collapse(job, candidates[0], tools.note)
    judged = []
    for genotype in candidates[:NUM_JUDGED]:
        path = job.part.space.one_hot(genotype, job.part.supernet)
        judged.append(_judged(job, job.spec, fit.variables, path, (train, valid), judge_key))
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
        candidates=tuple(candidates),
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
    path = job.part.space.one_hot(job.part.genotype, job.part.supernet)
    judged = _judged(job, parent.spec, parent.variables, path, (train, valid), job.random_key)
    compiling = judged.compile_seconds
    evaluating = time.perf_counter() - start - compiling - judged.wait_seconds
    seconds = Seconds(compile=compiling, evaluate=evaluating, wait=judged.wait_seconds)
    return Outcome(_mean([judged], seconds), None)


def _rule(recipe: Recipe, part: Part) -> Rule:
    """What decides the weights of the edges."""
    space, choices = part.space, {edge: len(names) for edge, names in part.supernet.edges}

    def one_hot(genotype: Any) -> EdgeWeights:
        found: EdgeWeights = space.one_hot(genotype, part.supernet)
        return found

    def draw(seed: int, number: int) -> EdgeWeights:
        # Bounds are those of proposals: paths beyond them train the same weights.
        return one_hot(space.sharing.sample(jax.random.fold_in(jax.random.key(seed), number)))

    match recipe.rule:
        case EdgeSettings():
            return recipe.rule
        case ControllerSettings():
            return Written(Controller(space.sharing.sizes), recipe.rule, one_hot)
        case "drawn":
            return Uniform(draw)
        case "exp3":
            return Exp3(choices)
        case "least_squares":
            return LeastSquares(choices)
        case _:
            raise ValueError(
                "the rule of a supernet must be EdgeSettings, ControllerSettings, drawn, exp3 or "
                f"least_squares; got {recipe.rule!r}"
            )


def _within_bounds(part: Part, rule: Written, state: Any) -> list[Any]:
    """Different genotypes that a controller writes, and whose networks keep the bounds."""
    written = dict.fromkeys(rule.genotypes(state, 2**32 - 2, NUM_CANDIDATES))
    kept = [genotype for genotype in written if part.space.keeps(genotype)]
    return kept or [part.space.start]


def _check_collapse(job: Job, genotype: Any, note: Callable[[str], None]) -> None:
    """Say so, if most edges of the network that is favoured carry nothing or pass all on.

    Known of gradient methods (Zela et al. 2020): edges without weights are learnt faster.
    """
    assert job.part is not None
    chosen = job.part.space.sharing.chosen(genotype).values()
    ops = [op for op, _, _ in (choice.partition("~") for choice in chosen) if op != "used"]
    plain = [op for op in ops if op in ("none", "skip_connect")]
    if 2 * len(plain) > len(ops):
        note(
            f"{job.name}: the derived network has {len(plain)} of {len(ops)} edges without "
            "weights (skip_connect, none): the search may have collapsed"
        )


def _judged(
    job: Job,
    spec: Architecture,
    variables: Variables,
    path: EdgeWeights,
    data: tuple[Examples, Examples],
    key: jax.Array,
) -> Evaluation:
    """A part of a supernet."""
    found = evaluate_path(spec, variables, path, *data, key, job.recipe.training)
    if not math.isfinite(found.loss):
        raise DivergedError(f"diverged: the loss of a part was {found.loss}")
    return found


def _mean(judged: Sequence[Evaluation], seconds: Seconds) -> Estimate:
    """The mean of some evaluations."""
    return Estimate(
        float(np.mean([each.accuracy for each in judged])),
        float(np.mean([each.loss for each in judged])),
        seconds,
        balanced_accuracy=float(np.mean([each.balanced_accuracy for each in judged])),
    )
