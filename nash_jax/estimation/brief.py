"""Grow a network, train it and judge it (NASH, Algorithm 1, lines 14 to 16 and 21)."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from typing import Any, Protocol

import jax
import numpy as np

from nash_jax import morphisms
from nash_jax.architecture import Architecture, Variables, init
from nash_jax.data import Examples
from nash_jax.estimation.estimate import FAILURES, Estimate, Seconds, failed
from nash_jax.estimation.job import Images, Job, Network, Outcome, Tools, on_smaller_images
from nash_jax.estimation.shared_weights import judge_part, train_supernet
from nash_jax.training import (
    Cosine,
    DivergedError,
    Resizing,
    TooLargeError,
    TrainingSettings,
    cost_of_smaller,
    evaluate,
    fit,
    learning_rate,
    state_shapes,
)


class Estimator(Protocol):
    """Says how good a network is. It must be a function of a module, for other processes."""

    def __call__(self, job: Job, variables: Variables, images: Images, tools: Tools) -> Outcome:
        """The estimate of a network, and the weights that it has then.

        Args:
          job: the network, and how it is asked for.
          variables: its weights, drawn or carried over from its parent.
          images: those of the run; the test images are not there.
          tools: what it is done with. Keeping to `tools.max_bytes`, and snapshots of what takes
            long, are the estimator's own affair.

        Raises:
          Exception: one of `FAILURES`, if the network cannot be estimated.
        """


#: Estimators by name; more may be added. None: training, with all that `perform` does for it.
ESTIMATORS: dict[str, Estimator | None] = {"training": None}


def perform(
    job: Job,
    images: Images,
    parent: Network | None,
    tools: Tools,
    grown: Variables | None = None,
) -> Outcome:
    """Do a job: grow the network, train it, judge it; or have another estimator judge it.

    Args:
      job: what to do.
      images: those of the run.
      parent: the network that `job.parent` names.
      tools: what it is done with.
      grown: the weights from `grow`, if it was called before.

    Returns:
      The outcome; if the network could not be trained, its estimate says why.
    """
    if job.recipe.smaller:
        return _perform_on_smaller_images(job, images, parent, tools, grown)
    start = time.perf_counter()
    recipe = job.recipe
    train, judge = images.of(recipe)
    if recipe.estimator not in ESTIMATORS:
        raise ValueError(
            f"estimator {recipe.estimator} must be known in every process; got none here; enter it "
            "into ESTIMATORS where its file is imported, not below a test of __name__"
        )
    estimator = ESTIMATORS[recipe.estimator]
    if job.part is not None:
        try:
            if job.part.genotype is None:
                return train_supernet(job, train, judge, tools)
            if parent is None:
                raise ValueError(f"{job.name} is judged by the weights of a supernet; got none")
            return judge_part(job, parent, train, judge)
        except FAILURES as error:
            return Outcome(failed(error, time.perf_counter() - start), None)
    if estimator is not None:
        try:
            begin = grow(job, parent, train) if grown is None else grown
            seen = images._replace(test=train.take(np.arange(0)))
            found = estimator(job, begin, seen, tools)
            return found._replace(estimate=_plain(found.estimate, time.perf_counter() - start))
        except FAILURES as error:
            return Outcome(failed(error, time.perf_counter() - start), None)

    lengths = tools.lengths(job.name)
    share = Resizing.of(job.spec, recipe.progressive_resizing).share
    if share != recipe.progressive_resizing:
        tools.note(f"{job.name}: it is trained on whole images alone; it does not fit smaller ones")

    def on_epoch(epoch: int, loss: float) -> None:
        changes = {} if lengths is None else lengths.known
        done = epoch - 1
        progress = Cosine(recipe.epochs).changed(changes, done).progress(done)
        tools.on_epoch(job.name, epoch, loss, learning_rate(recipe.training, progress))

    shapes = functools.partial(state_shapes, job.spec, recipe.training)
    try:
        with tools.unfinished(job.name, shapes) as there:
            variables: Variables = {}
            if there.snapshot is None:
                variables = grow(job, parent, train) if grown is None else grown
                jax.block_until_ready(variables)
            # Nearly all of growing is compiling the forward pass that calibrates normalisation.
            growing = Seconds(compile=time.perf_counter() - start)
            variables, estimate = train_and_validate(
                job.spec,
                variables,
                job.random_key if recipe.weights == "given" else _keys(job)[1],
                train,
                judge,
                recipe.epochs,
                recipe.training,
                on_epoch,
                max_bytes=tools.max_bytes,
                devices=tools.devices,
                resume=there.snapshot,
                checkpoint=there.checkpoint,
                lengths=lengths,
                progressive_resizing=share,
            )
    except FAILURES as error:
        return Outcome(failed(error, time.perf_counter() - start), None)
    return Outcome(dataclasses.replace(estimate, seconds=estimate.seconds + growing), variables)


def _perform_on_smaller_images(
    job: Job,
    images: Images,
    parent: Network | None,
    tools: Tools,
    grown: Variables | None,
) -> Outcome:
    """As `perform`. Memory is that of whole images, which the final training has."""
    start = time.perf_counter()
    cost, limit = cost_of_smaller(job.spec), tools.max_bytes
    try:
        job, images, parent = on_smaller_images(job, images, parent)
    except FAILURES as error:
        return Outcome(failed(error, time.perf_counter() - start), None)
    if limit is not None:
        tools = dataclasses.replace(tools, max_bytes=int(cost * limit))
    outcome = perform(job, images, parent, tools, grown)
    required, failure = int(outcome.estimate.required_bytes / cost), outcome.estimate.failure
    if limit is not None and required > limit:
        failure = str(TooLargeError(required, limit))
    estimate = dataclasses.replace(outcome.estimate, required_bytes=required, failure=failure)
    return outcome._replace(estimate=estimate)


def _plain(estimate: Estimate, seconds: float) -> Estimate:
    """What an estimator of a user's found, as Python's numbers, with the seconds that it took.

    Raises:
      DivergedError: if an accuracy, an objective or a training loss is no finite number.
    """
    if estimate.failure:
        return estimate
    numbers = {"accuracy": estimate.accuracy, **estimate.objectives, **dict(estimate.lambdas)}
    if (balanced := estimate.balanced_accuracy) is not None:
        numbers["balanced_accuracy"] = balanced
    numbers |= {f"train_losses[{n}]": loss for n, loss in enumerate(estimate.train_losses)}
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise DivergedError(f"diverged: the estimator found {name} {value}")
    spent = estimate.seconds if estimate.seconds.total else Seconds(train=seconds)
    return dataclasses.replace(
        estimate,
        accuracy=float(estimate.accuracy),
        loss=math.inf if math.isnan(estimate.loss) else float(estimate.loss),
        balanced_accuracy=None if balanced is None else float(balanced),
        required_bytes=int(estimate.required_bytes),
        lambdas=tuple((node, float(value)) for node, value in estimate.lambdas),
        seconds=spent,
        train_losses=tuple(map(float, estimate.train_losses)),
        objectives={name: float(value) for name, value in estimate.objectives.items()},
    )


def _keys(job: Job) -> Any:
    """The keys of growing, of training, and of the batch that calibrates, `[3]`."""
    return jax.random.split(job.random_key, 3)


def grow(job: Job, parent: Network | None, train: Examples) -> Variables:
    """The weights that a job's training begins with.

    Args:
      job, parent: as in `perform`.
      train: images, some of which calibrate new normalisations.

    Raises:
      ValueError: if the recipe needs a parent and there is none; or if there are no edits, and the
        parent has another architecture than the job.
    """
    if job.recipe.weights == "nothing":
        return init(job.spec, _keys(job)[0])
    if parent is None:
        raise ValueError(f"{job.name} begins with another network's weights; got none")
    if not job.edits:
        if parent.spec != job.spec:
            raise ValueError(
                f"{job.name} has weights of its own or edits of those of {job.parent}; got neither"
            )
        return parent.variables
    grow_key, _, batch_key = _keys(job)
    if job.recipe.weights == "by_name":
        return morphisms.inherit_by_name(parent.spec, parent.variables, job.spec, grow_key)
    size = (job.recipe.training.batch_size,)
    batch = jax.random.choice(batch_key, len(train), size, replace=False)
    images = train.images[jax.device_get(batch)]
    return morphisms.Sequence(job.edits)(parent.spec, parent.variables, grow_key, images)[1]


def train_and_validate(
    spec: Architecture,
    variables: Variables,
    key: jax.Array,
    train: Examples,
    valid: Examples,
    epochs: int,
    settings: TrainingSettings,
    on_epoch: Callable[[int, float], None] | None = None,
    **options: Any,
) -> tuple[Variables, Estimate]:
    """Train on `train` for some epochs and measure on `valid`.

    Args:
      spec, variables, key, epochs, settings: as in `fit`.
      train: images to train on.
      valid: images to measure on.
      on_epoch: called with the number of each epoch that is done, from 1, and its mean loss.
      **options: further arguments of `fit`.

    Returns:
      The trained variables, and the estimate.

    Raises:
      DivergedError: as soon as a loss is not finite.
      TooLargeError: as `fit` does.
    """

    def check(epoch: int, loss: np.ndarray) -> None:
        if not np.isfinite(loss):
            raise DivergedError(f"diverged: the training loss was {loss} in epoch {epoch}")
        if on_epoch is not None:
            on_epoch(epoch, float(loss))

    trained = fit(spec, variables, train, key, epochs, settings, check, **options)
    result = evaluate(spec, trained.variables, valid, **settings.evaluation)
    if not math.isfinite(result.loss):
        raise DivergedError(f"diverged: the loss was {result.loss} after training")
    seconds = Seconds(
        compile=trained.compile_seconds + result.compile_seconds,
        train=trained.train_seconds,
        evaluate=result.evaluate_seconds,
        wait=trained.wait_seconds + result.wait_seconds,
    )
    return trained.variables, Estimate(
        result.accuracy,
        result.loss,
        seconds,
        trained.required_bytes,
        tuple(float(loss) for loss in trained.losses),
        lambdas=_lambdas(trained.variables),
        balanced_accuracy=result.balanced_accuracy,
    )


def _lambdas(variables: Variables) -> tuple[tuple[str, float], ...]:
    """The learned weight of every sum of eq. 6, by node."""
    return tuple(
        (node, round(float(arrays["lambda"]), 4))
        for node, arrays in variables["params"].items()
        if "lambda" in arrays
    )
