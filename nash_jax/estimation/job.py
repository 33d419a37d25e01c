"""One training with everything that determines it, so that any process can do it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from nash_jax.architecture import Architecture, Variables
from nash_jax.data import Examples
from nash_jax.estimation.estimate import Estimate
from nash_jax.morphisms import Edit
from nash_jax.policies import ControllerSettings
from nash_jax.spaces import Supernet
from nash_jax.training import (
    Lengths,
    Resizing,
    SizeError,
    Snapshot,
    TrainingSettings,
    cost_of_smaller,
    for_smaller,
    smaller,
    smaller_examples,
)
from nash_jax.training.bilevel import EdgeSettings

#: Where the weights of a child come from.
INHERIT = ("morphism", "by_name", "nothing")
Weights = Literal["given", "morphism", "by_name", "nothing", "shared"]


EdgeRule: TypeAlias = EdgeSettings | ControllerSettings | Literal["drawn", "exp3", "least_squares"]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a proposal is trained and what it is judged on.

    Attributes:
      epochs: of training.
      training: the settings of the training.
      weights: the weights it begins with. 'given': the parent's, or those that the run begins with,
        unchanged; 'morphism': the parent's, carried through the edits; 'by_name': the parent's for
        layers that are the same, the others drawn anew; 'nothing': all drawn anew; 'shared': its
        share of those of the parent, a supernet, and nothing is trained.
      judged_on: the validation images; or the test images, after training on all others.
      alone: whether it has the whole machine for itself.
      estimator: what says how good the network is: a name in `ESTIMATORS`.
      rule: of a supernet: what decides the weights of its edges: how their logits are trained; how
        a controller learns to write genotypes; a bandit for each edge, 'exp3' or 'least_squares';
        or 'drawn': each update trains a genotype that is drawn.
      progressive_resizing: share of the training on smaller images: see `fit`; none where the
        network's weights do not fit them.
      smaller: whether it is trained and judged on smaller images: see `on_smaller_images`.
    """

    epochs: int
    training: TrainingSettings
    weights: Weights = "morphism"
    judged_on: Literal["validation", "test"] = "validation"
    alone: bool = False
    estimator: str = "training"
    rule: EdgeRule | None = None
    progressive_resizing: float = 0.0
    smaller: bool = False

    def mean_work(self, spec: Architecture) -> float:
        """Of an epoch of a network, in epochs of whole images, on average."""
        if self.smaller:
            return cost_of_smaller(spec)
        return Resizing.of(spec, self.progressive_resizing).mean_work()


class Network(NamedTuple):
    """An architecture and its weights."""

    spec: Architecture
    variables: Variables


class Part(NamedTuple):
    """A supernet, or a part of one.

    Attributes:
      space: of the genotypes; it draws, derives and has edge weights.
      supernet: the genotype of the supernet.
      genotype: which part; None: the supernet.
    """

    space: Any
    supernet: Supernet
    genotype: Any = None


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """A training to be done; it can be sent to another process.

    Attributes:
      name: of the trial.
      spec: the network.
      key: a random key, as numbers.
      recipe: how it is trained.
      parent: the name of the network that it begins with; None: there is none.
      edits: the edits that make `spec` of the parent.
      part: of a supernet, or of a network that is judged by the weights of one.
    """

    name: str
    spec: Architecture
    key: np.ndarray
    recipe: Recipe
    parent: str | None = None
    edits: tuple[Edit, ...] = ()
    part: Part | None = None

    @property
    def random_key(self) -> jax.Array:
        return jax.random.wrap_key_data(jnp.asarray(self.key))


class Outcome(NamedTuple):
    """What a job gives.

    Attributes:
      estimate: scores.
      variables: the trained weights, if it did not fail.
      place: the node of a cluster on which it was done.
    """

    estimate: Estimate
    variables: Variables | None
    place: str = ""


class Images(NamedTuple):
    """The images of a run.

    Attributes:
      train: to train on.
      valid: to choose by.
      test: to judge the final network by; others never see them.
    """

    train: Examples
    valid: Examples
    test: Examples

    def of(self, recipe: Recipe) -> tuple[Examples, Examples]:
        """What a recipe trains on, and what it is judged on."""
        if recipe.judged_on == "test":
            return self.train.join(self.valid), self.test
        return self.train, self.valid


def on_smaller_images(
    job: Job, images: Images, parent: Network | None
) -> tuple[Job, Images, Network | None]:
    """A job whose recipe has smaller images: the same weights, in networks for smaller images.

    Other jobs stay as they are.

    Raises:
      SizeError: if the network's weights or maps do not fit smaller images.
    """
    if not job.recipe.smaller:
        return job, images, parent
    spec, before = smaller(job.spec), job.spec if parent is None else parent.spec
    parent_spec = smaller(before)
    if spec is None or parent_spec is None or spec.input_shape != parent_spec.input_shape:
        raise SizeError("its weights or maps do not fit smaller images")
    if parent is not None:
        parent = parent._replace(spec=parent_spec)
    size = spec.input_shape[:2]
    train, valid = (smaller_examples(each, size) for each in (images.train, images.valid))
    training = for_smaller(job.recipe.training)
    recipe = dataclasses.replace(job.recipe, training=training, smaller=False)
    images = images._replace(train=train, valid=valid)
    return dataclasses.replace(job, spec=spec, recipe=recipe), images, parent


class Unfinished(NamedTuple):
    """A training that may have been stopped.

    Attributes:
      snapshot: the state in which it was stopped, if it was.
      checkpoint: for `fit`: writes where the training stands, if that is to be kept.
    """

    snapshot: Snapshot | None = None
    checkpoint: Callable[[Callable[[], Snapshot]], None] | None = None


class Trainings(Protocol):
    """Where trainings write how far they have come."""

    def of(
        self,
        name: str,
        shapes: Callable[[], Any],
        note: Callable[[str], None],
    ) -> contextlib.AbstractContextManager[Unfinished]:
        """What was kept of a trial's training, whose state has some shapes.

        `note` is told if it is damaged.

        The training is to end within the context.
        """


@dataclasses.dataclass(frozen=True)
class Tools:
    """What a job is done with; it does not change the outcome, except rounding on several devices.

    Attributes:
      on_epoch: is told the trial's name, the number of each epoch that is done, its mean loss and
        the learning rate that it began with.
      note: is told what people should know of.
      trainings: where unfinished trainings are, and are written.
      max_bytes: bytes of memory; a network that needs more is not trained and counts as failed.
      devices: that share each batch; by default JAX's default device alone.
      on_load: is told how many nodes of a cluster have workers, how many workers there are, and how
        many jobs wait for one.
      lengths: for a trial's name, what may change how many epochs it has while they go on.
    """

    on_epoch: Callable[[str, int, float, float], None] = lambda name, epoch, loss, rate: None
    note: Callable[[str], None] = lambda text: None
    trainings: Trainings | None = None
    max_bytes: int | None = None
    devices: Sequence[jax.Device] | None = None
    on_load: Callable[[int, int, int], None] = lambda nodes, workers, waiting: None
    lengths: Callable[[str], Lengths | None] = lambda name: None

    def unfinished(
        self, name: str, shapes: Callable[[], Any]
    ) -> contextlib.AbstractContextManager[Unfinished]:
        """What was kept of a trial's training: see `Trainings`; nothing, if nothing is kept."""
        if self.trainings is None:
            return contextlib.nullcontext(Unfinished())
        return self.trainings.of(name, shapes, self.note)
