"""The compiled training loop.

The next epoch starts before the result of the last one is read. `epochs` compiles and runs epochs.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from nash_jax.architecture import (
    Architecture,
    Variables,
    init,
    numbered,
    renamed,
)
from nash_jax.data import Examples
from nash_jax.jax_settings import usual_promotion
from nash_jax.training.auxiliary import tower_of, with_tower, without_tower
from nash_jax.training.compilation import Stopwatch
from nash_jax.training.epochs import TrainState, epoch_maker, members_of, placed, scanned
from nash_jax.training.resizing import Resizing, smaller
from nash_jax.training.settings import TrainingSettings
from nash_jax.training.sgdr import Cosine, direction, learning_rates


@dataclasses.dataclass(frozen=True)
class Fit:
    """What a training gives.

    Attributes:
      variables: the trained variables.
      losses: mean training loss of each epoch, `[epochs]`; of a population `[epochs, members]`.
      compile_seconds: time to compile the update; 0 if it was compiled before.
      wait_seconds: time spent waiting for another thread to compile it.
      train_seconds: time of the training itself.
      required_bytes: memory that the training takes on each device, as its compiler predicts it.
    """

    variables: Variables
    losses: np.ndarray
    compile_seconds: float
    wait_seconds: float
    train_seconds: float
    required_bytes: int


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """Where a training stands between two epochs: all that it needs to go on.

    Attributes:
      state: a `TrainState`, or a supernet's state; nodes go by `numbered`'s names. In a snapshot
        that `fit` gives, these are the arrays on the devices that it goes on with: copy them before
        they change.
      losses: mean training loss of each epoch that is done, `[epochs]`; of a population
        `[epochs, members]`.
    """

    state: Any
    losses: np.ndarray


class Lengths(NamedTuple):
    """Decides, while a training goes on, how many epochs it has in all.

    Attributes:
      known: what was decided so far: the epochs in all, by how many were done then.
      decide: `(done, cosine) -> epochs`: after each epoch, the last left out, how many there are to
        be in all, at least one more than are done.
    """

    known: Mapping[int, int]
    decide: Callable[[int, Cosine], int]


class TooLargeError(Exception):
    """A training that would take more memory than there is."""

    def __init__(self, required_bytes: int, max_bytes: int) -> None:
        super().__init__(
            f"too large: needs {required_bytes / 2**30:.2f} GiB of memory to train, "
            f"{max_bytes / 2**30:.2f} GiB are allowed"
        )
        self.required_bytes = required_bytes


class DivergedError(Exception):
    """A training after which some loss is no finite number."""


@usual_promotion
def fit(
    spec: Architecture,
    variables: Variables,
    examples: Examples,
    key: jax.Array,
    epochs: int,
    settings: TrainingSettings,
    on_epoch: Callable[[int, np.ndarray], None] | None = None,
    scan: bool | None = None,
    stream: bool | None = None,
    devices: Sequence[jax.Device] | None = None,
    max_bytes: int | None = None,
    resume: Snapshot | None = None,
    checkpoint: Callable[[Callable[[], Snapshot]], None] | None = None,
    lengths: Lengths | None = None,
    progressive_resizing: float = 0.0,
) -> Fit:
    """Train for some epochs with the learning rate annealed once: the paper's SGDRtrain.

    Args:
      spec: the architecture.
      variables: where the training starts; not changed. Of a population, every array has a first
        axis `[members]`.
      examples: the training images and labels, NumPy's or on the device.
      key: decides the order of the images and their augmentation. For a population one key per
        member, `[members]`: a member is trained as it would be alone with its key.
      epochs: passes over the images; 0 gives the variables back. A last batch that is not full is
        left out; the order is new in every epoch.
      settings: how to train.
      on_epoch: called with the number of each epoch that is done, from 1, and its mean loss.
      scan: whether chunks of updates are one `lax.scan` each; by default where that is not slower.
      stream: whether batches come from the host's memory, read ahead by grain, instead of staying
        on the device; by default, where the images are too many for it. There is no scan then.
      devices: where to train; several share each batch. By default JAX's default device.
      max_bytes: the memory that may be taken on each device; by default any.
      resume: a snapshot of an earlier training with the same arguments, which goes on here as if
        it had never stopped; `variables` are not used then.
      checkpoint: called after each epoch but the last with a function that takes a snapshot, whose
        arrays last until `checkpoint` returns.
      lengths: may change the number of epochs while they go on; what is left of the cosine is then
        spread over what is left of them. By default it stays.
      progressive_resizing: share of the training, at its beginning, on images of about 5/8 of their
        edges; the network's weights and maps must fit them: see `smaller`.

    Returns:
      The trained variables, on the devices, and what the training took.

    Raises:
      ValueError: if there are fewer images than make a batch, the devices cannot share it, or the
        network cannot have smaller images.
      TooLargeError: if the training needs more than `max_bytes`; nothing has been trained then.
    """
    if epochs < 0:
        raise ValueError(f"epochs must be >= 0; got {epochs}")
    if epochs == 0:
        return Fit(variables, np.zeros((0, *members_of(key))), 0.0, 0.0, 0.0, 0)
    check_batch_size(settings, len(examples))
    check_devices(settings, devices)
    mesh = None if devices is None else Mesh(np.array(devices), ("batch",))
    trained, variables = with_tower(spec, variables, key, settings)
    graph, names = numbered(trained)
    first, known = (0, []) if resume is None else (len(resume.losses), list(resume.losses))
    begin = starting_state(renamed(variables, names), settings) if resume is None else resume.state
    state = on_device(begin)
    num_batches = len(examples) // settings.batch_size
    cosine = Cosine(epochs).changed({} if lengths is None else lengths.known, first)
    rates = _rates(settings, cosine, num_batches)
    make_epoch = epoch_maker(examples, scan, stream)
    if make_epoch is scanned:
        examples = Examples(*placed((examples.images, examples.labels), mesh))
    if mesh is not None:
        state, key = placed((state, key), mesh)
    watch = Stopwatch()
    whole = make_epoch(graph, state, examples, key, settings, mesh)
    if max_bytes is not None and whole.required_bytes > max_bytes:
        raise TooLargeError(whole.required_bytes, max_bytes)
    resizing, small = Resizing(progressive_resizing), whole
    if resizing.is_small(cosine, first):
        small = make_epoch(_smaller(graph), state, examples, key, settings, mesh)
    compiling = watch.lap()
    losses: list[Any] = known
    while len(losses) < cosine.epochs:
        epoch = len(losses)
        of_epoch = rates[epoch - cosine.since], _progress(settings, cosine, epoch, num_batches)
        run = small.run if resizing.is_small(cosine, epoch) else whole.run
        state, loss = run(state, *of_epoch, _fold_in(key, epoch))
        losses.append(loss)
        if epoch > first:  # the device has its next epoch before this loss is awaited
            _tell(on_epoch, epoch, losses[epoch - 1])
        if epoch + 1 == cosine.epochs:
            _tell(on_epoch, epoch + 1, loss)
            break
        if checkpoint is not None:
            checkpoint(functools.partial(_snapshot, state, losses))
        if lengths is not None:
            jax.block_until_ready(loss)
            in_all = lengths.known.get(epoch + 1)
            if in_all is None:
                in_all = lengths.decide(epoch + 1, cosine)
            if in_all != cosine.epochs:
                cosine = cosine.lasting(in_all, epoch + 1)
                rates = _rates(settings, cosine, num_batches)
    jax.block_until_ready(state)
    return Fit(
        variables_in(spec, _snapshot(state, losses), settings),
        np.array([np.asarray(loss) for loss in losses]),
        *((compiling, 0.0) if whole.new or small.new else (0.0, compiling)),
        watch.lap(),
        whole.required_bytes,
    )


def _smaller(graph: Architecture) -> Architecture:
    """The network for smaller images.

    Raises:
      ValueError: if there is none.
    """
    found = smaller(graph)
    if found is None:
        raise ValueError(
            "progressive_resizing needs a network whose weights and maps fit smaller images, as "
            f"those that end in a global mean; got another, for {graph.input_shape}; take 0"
        )
    return found


def variables_in(spec: Architecture, snapshot: Snapshot, settings: TrainingSettings) -> Variables:
    """The network's variables in a snapshot of its training.

    Args:
      spec: the architecture.
      snapshot: that `fit` gave for it.
      settings: of the training.
    """
    _, names = numbered(tower_of(spec) if settings.auxiliary_weight else spec)
    back = {new_name: name for name, new_name in names.items()}
    return without_tower(spec, renamed(snapshot.state.variables, back))


def _progress(
    settings: TrainingSettings, cosine: Cosine, epoch: int, num_batches: int
) -> np.ndarray:
    """The part of the training that lies behind each update of an epoch, `[batches]`.

    Where paths are dropped alike at all depths, it is that behind the epoch's beginning.
    """
    begin, end = cosine.progress(epoch), cosine.progress(epoch + 1)
    within = np.arange(num_batches) / num_batches if settings.drop_path_by_depth else 0.0
    return np.broadcast_to(begin + (end - begin) * within, num_batches).astype(np.float32)


def _rates(settings: TrainingSettings, cosine: Cosine, num_batches: int) -> np.ndarray:
    """The learning rates of the epochs since the cosine's last change, `[epochs, batches]`."""
    epochs = cosine.epochs - cosine.since
    rates = learning_rates(settings, epochs * num_batches, cosine.behind)
    return rates.reshape(epochs, num_batches)


@usual_promotion
def precompile(
    spec: Architecture,
    variables: Variables,
    examples: Examples,
    key: jax.Array,
    settings: TrainingSettings,
    scan: bool | None = None,
) -> int:
    """Compile what `fit` will need with these arguments, and give the bytes of memory it takes.

    Of `variables` only shapes and types are used: they may be `jax.ShapeDtypeStruct`.
    """
    trained = tower_of(spec) if settings.auxiliary_weight else spec
    variables = jax.eval_shape(lambda v: with_tower(spec, v, key, settings)[1], variables)
    graph, names = numbered(trained)
    state = _abstract(renamed(variables, names), settings)
    epoch = epoch_maker(examples, scan, None)(graph, state, examples, key, settings, None)
    return epoch.required_bytes


def check_batch_size(settings: TrainingSettings, num_examples: int) -> None:
    """Raises `ValueError` unless the images make at least one batch."""
    if settings.batch_size > num_examples:
        raise ValueError(
            f"batch_size must be at most the number of training images, {num_examples}; got "
            f"{settings.batch_size}"
        )


def check_devices(settings: TrainingSettings, devices: Sequence[jax.Device] | None) -> None:
    """Raises `ValueError` unless the devices can share a batch evenly."""
    if devices is not None and (not devices or settings.batch_size % len(devices)):
        raise ValueError(
            f"batch_size must be a multiple of the number of devices, {len(devices)}; got "
            f"{settings.batch_size}"
        )


def starting_state(variables: Variables, settings: TrainingSettings) -> TrainState:
    """The state before the first update: the optimiser begins with zeros."""
    state = _abstract(variables, settings)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state.optimizer)
    return TrainState(variables, zeros)


def on_device(tree: Any) -> Any:
    """A copy on the default device, because updates donate its memory; nothing is compiled."""
    return jax.device_put(jax.tree.map(np.asarray, tree), may_alias=False)


def _abstract(variables: Variables, settings: TrainingSettings) -> TrainState:
    """Shapes and types of the state before the first update."""
    return jax.eval_shape(
        lambda variables: TrainState(variables, direction(settings).init(variables["params"])),
        variables,
    )


@usual_promotion
def state_shapes(spec: Architecture, settings: TrainingSettings) -> TrainState:
    """Shapes and types of a snapshot's state, for one network."""
    graph, _ = numbered(tower_of(spec) if settings.auxiliary_weight else spec)
    return _abstract(jax.eval_shape(lambda: init(graph, jax.random.key(0))), settings)


def _snapshot(state: TrainState, losses: Sequence[Any]) -> Snapshot:
    return Snapshot(state, np.array([np.asarray(loss) for loss in losses]))


def _fold_in(key: jax.Array, number: int) -> jax.Array:
    return (jax.vmap(jax.random.fold_in, (0, None)) if members_of(key) else jax.random.fold_in)(
        key, number
    )


def _tell(on_epoch: Callable[[int, np.ndarray], None] | None, epoch: int, loss: Any) -> None:
    loss = np.asarray(loss)
    if on_epoch is not None:
        on_epoch(epoch, loss)
