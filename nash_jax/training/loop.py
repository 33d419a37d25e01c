"""The compiled training loop.

An update is compiled once per architecture, whatever the length of the training or the size of the
set. On CPU the loop over updates is Python's, because XLA runs convolutions inside loops 20 to 38
times slower there; elsewhere an epoch, with its shuffling, is one `lax.scan` over images that stay
on the device, and the next epoch is under way before the result of the last is read. Images that
are too many for the device are streamed to the loop over updates.

A population, several weights of one architecture, is trained by the same update under `jax.vmap`.
A training on several devices splits each batch among them: batch normalisation, the loss and the
gradient are means over the whole batch, and XLA adds what the devices have to tell each other.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from nash_jax.architecture import (
    INPUT,
    Architecture,
    Variables,
    apply,
    init,
    numbered,
    ops,
    renamed,
)
from nash_jax.data import Examples
from nash_jax.jax_settings import usual_promotion
from nash_jax.training.augment import augment
from nash_jax.training.compilation import (
    Stopwatch,
    compiled,
    compute_dtype,
    matmul_precision,
)
from nash_jax.training.settings import TrainingSettings
from nash_jax.training.sgdr import direction, learning_rates
from nash_jax.training.streaming import fits_on_device, streamed


class TrainState(NamedTuple):
    """What an update changes."""

    variables: Variables
    optimizer: optax.OptState


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
      state: variables and momentum, as NumPy arrays on the host; nodes go by `numbered`'s names.
      losses: mean training loss of each epoch that is done, `[epochs]`; of a population
        `[epochs, members]`.
    """

    state: TrainState
    losses: np.ndarray


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
      resume: where an earlier training with the same arguments stood, which goes on here as if it
        had never stopped; `variables` are not looked at then.
      checkpoint: called after each epoch but the last with a function that takes a snapshot.

    Returns:
      The trained variables, on the devices, and what the training took.

    Raises:
      ValueError: if there are fewer images than make a batch, or the devices cannot share it.
      TooLargeError: if the training needs more than `max_bytes`; nothing has been trained then.
    """
    if epochs < 0:
        raise ValueError(f"epochs must be >= 0; got {epochs}")
    if epochs == 0:
        return Fit(variables, np.zeros((0, *_members(key))), 0.0, 0.0, 0.0, 0)
    check_batch_size(settings, len(examples))
    check_devices(settings, devices)
    mesh = None if devices is None else Mesh(np.array(devices), ("batch",))
    graph, names = numbered(spec)
    first, known = (0, []) if resume is None else (len(resume.losses), list(resume.losses))
    begin = _start(renamed(variables, names), settings) if resume is None else resume.state
    state = _copied(begin)
    num_batches = len(examples) // settings.batch_size
    rates = learning_rates(settings, epochs * num_batches).reshape(epochs, num_batches)
    make_epoch = _epoch_maker(examples, scan, stream)
    if make_epoch is _scanned:
        examples = Examples(*_placed((examples.images, examples.labels), mesh))
    if mesh is not None:
        state, key = _placed((state, key), mesh)
    watch = Stopwatch()
    compiled_epoch = make_epoch(graph, state, examples, key, settings, mesh)
    compiling = watch.lap()
    if max_bytes is not None and compiled_epoch.required_bytes > max_bytes:
        raise TooLargeError(compiled_epoch.required_bytes, max_bytes)
    losses: list[Any] = known
    for epoch in range(first, epochs):
        state, loss = compiled_epoch.run(state, rates[epoch], _fold_in(key, epoch))
        losses.append(loss)
        if epoch > first:  # the device has its next epoch before this one's is waited for
            _tell(on_epoch, epoch, losses[epoch - 1])
        if checkpoint is not None and epoch + 1 < epochs:
            checkpoint(functools.partial(_snapshot, state, losses))
    if first < epochs:
        _tell(on_epoch, epochs, losses[-1])
    jax.block_until_ready(state)
    back = {new_name: name for name, new_name in names.items()}
    return Fit(
        renamed(state.variables, back),
        np.array([np.asarray(loss) for loss in losses]),
        *((compiling, 0.0) if compiled_epoch.new else (0.0, compiling)),
        watch.lap(),
        compiled_epoch.required_bytes,
    )


@usual_promotion
def precompile(
    spec: Architecture,
    variables: Variables,
    examples: Examples,
    key: jax.Array,
    settings: TrainingSettings,
    scan: bool | None = None,
) -> float:
    """Compile what `fit` will ask for with these arguments; the seconds that it took.

    Of `variables` only shapes and types are used: they may be `jax.ShapeDtypeStruct`.
    """
    graph, names = numbered(spec)
    state = _abstract(renamed(variables, names), settings)
    watch = Stopwatch()
    epoch = _epoch_maker(examples, scan, None)(graph, state, examples, key, settings, None)
    return watch.lap() if epoch.new else 0.0


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


def _start(variables: Variables, settings: TrainingSettings) -> TrainState:
    """The state before the first update: the optimiser begins with zeros."""
    state = _abstract(variables, settings)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state.optimizer)
    return TrainState(variables, zeros)


def _copied(tree: Any) -> Any:
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
    graph, _ = numbered(spec)
    return _abstract(jax.eval_shape(lambda: init(graph, jax.random.key(0))), settings)


def _snapshot(state: TrainState, losses: Sequence[Any]) -> Snapshot:
    return Snapshot(jax.tree.map(np.array, state), np.array([np.asarray(loss) for loss in losses]))


def _members(key: jax.Array) -> tuple[int, ...]:
    """`(members,)` if there is a key for each of a population, and `()` if there is one key."""
    typed = jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)
    return tuple(key.shape if typed else key.shape[:-1])


def _fold_in(key: jax.Array, number: int) -> jax.Array:
    return (jax.vmap(jax.random.fold_in, (0, None)) if _members(key) else jax.random.fold_in)(
        key, number
    )


def _placed(tree: Any, mesh: Mesh | None) -> Any:
    """Arrays on JAX's default device, or whole on every device of a mesh."""
    return jax.device_put(tree, None if mesh is None else NamedSharding(mesh, PartitionSpec()))


def _tell(on_epoch: Callable[[int, np.ndarray], None] | None, epoch: int, loss: Any) -> None:
    loss = np.asarray(loss)
    if on_epoch is not None:
        on_epoch(epoch, loss)


def update(
    spec: Architecture,
    state: TrainState,
    images: jax.Array,
    labels: jax.Array,
    rate: jax.Array,
    key: jax.Array,
    settings: TrainingSettings,
) -> tuple[TrainState, jax.Array]:
    """One step of SGD on one batch.

    Args:
      spec: the architecture.
      state: variables and momentum.
      images: `[batch, height, width, channels]`.
      labels: `[batch]`.
      rate: the learning rate.
      key: decides what dropout drops.
      settings: how to train.

    Returns:
      The new state, and the mean loss on the batch.
    """

    def loss_of(params: Any) -> tuple[jax.Array, Variables]:
        variables = {**state.variables, "params": params}
        dtype = compute_dtype(settings.precision)
        logits, new = apply(spec, variables, images, train=True, key=key, dtype=dtype)
        if settings.label_smoothing:
            targets = jax.nn.one_hot(labels, spec.num_classes)
            targets = optax.smooth_labels(targets, settings.label_smoothing)
            return optax.softmax_cross_entropy(logits, targets).mean(), new
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), new

    params = state.variables["params"]
    with matmul_precision(settings.precision):
        (loss, new), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
    steps, optimizer = direction(settings).update(gradients, state.optimizer, params)
    params = jax.tree.map(lambda p, s: p - (rate * s).astype(p.dtype), params, steps)
    return TrainState({**new, "params": params}, optimizer), loss


def _update_all(
    spec: Architecture,
    state: TrainState,
    images: jax.Array,
    labels: jax.Array,
    rate: jax.Array,
    key: jax.Array,
    settings: TrainingSettings,
) -> tuple[TrainState, jax.Array]:
    """`update`, or that of every member of a population."""

    def one(state: TrainState, images: Any, labels: Any, key: Any) -> tuple[TrainState, Any]:
        return update(spec, state, images, labels, rate, key, settings)

    return (jax.vmap(one) if _members(key) else one)(state, images, labels, key)


_update = jax.jit(_update_all, static_argnames="settings", donate_argnames="state")


def _augment_all(
    images: jax.Array,
    key: jax.Array,
    number: jax.Array,
    fill: jax.Array,
    settings: TrainingSettings,
) -> tuple[jax.Array, jax.Array]:
    """The images of an epoch's batch `number`, augmented, and the key of its dropout.

    Apart from the update, because it is the same program for all architectures.
    """

    def one(images: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        _, batches_key = jax.random.split(key)  # the other half is that of the order
        augment_key, dropout_key = jax.random.split(jax.random.fold_in(batches_key, number))
        return augment(images, augment_key, settings, fill), dropout_key

    return (jax.vmap(one) if _members(key) else one)(images, key)


_augment = jax.jit(_augment_all, static_argnames="settings")


def _fill(spec: Architecture) -> np.ndarray:
    """What stands around cropped images and where they are cut out, `[channels]`: the mean colour.

    The reference code of SGDR normalises first and pads with zeros; here pixels are normalised
    inside the network, so that its mean becomes zero, but for rounding to a whole number.
    """
    means = [
        n.op.mean for n in spec.nodes if isinstance(n.op, ops.Normalize) and n.inputs == (INPUT,)
    ]
    mean = means[0] if means else (0.0,) * spec.input_shape[-1]
    return np.rint(np.clip(mean, 0, 255)).astype(np.uint8)


def _order(key: jax.Array, num_examples: int, num_batches: int, batch_size: int) -> jax.Array:
    """The places of the images of each batch, `[batches, batch]` or `[batches, members, batch]`."""

    def one(key: jax.Array) -> jax.Array:
        order_key, _ = jax.random.split(key)
        order = jax.random.permutation(order_key, num_examples)[: num_batches * batch_size]
        return order.reshape(num_batches, batch_size)

    return jax.vmap(one, out_axes=1)(key) if _members(key) else one(key)


#: Updates in one program where an epoch is scanned. It is the same program for sets of all sizes:
#: the last chunk of an epoch is filled up with updates that leave everything as it is.
CHUNK = 16


@functools.partial(jax.jit, static_argnames="mesh")
def _chosen(
    images: jax.Array, labels: jax.Array, order: jax.Array, mesh: Mesh | None
) -> tuple[jax.Array, jax.Array]:
    """The batches of a chunk, `[chunk, batch, ...]` or `[chunk, members, batch, ...]`."""
    chosen = images[order], labels[order]
    if mesh is not None:
        members = order.shape[1:-1]
        chosen = jax.lax.with_sharding_constraint(chosen, _shared(mesh, (1, *members)))
    return chosen


@functools.partial(jax.jit, static_argnames="settings", donate_argnames="state")
def _chunk(
    spec: Architecture,
    state: TrainState,
    images: jax.Array,
    labels: jax.Array,
    rates: jax.Array,
    numbers: jax.Array,
    key: jax.Array,
    fill: jax.Array,
    settings: TrainingSettings,
) -> tuple[TrainState, jax.Array]:
    """The updates of a chunk, and their losses; those of negative numbers change nothing."""

    def body(state: TrainState, step: tuple[jax.Array, ...]) -> tuple[TrainState, jax.Array]:
        images, labels, rate, number = step
        augmented, dropout_key = _augment_all(images, key, number, fill, settings)
        new, loss = _update_all(spec, state, augmented, labels, rate, dropout_key, settings)
        # Not a conditional: on a GPU that would wait for the host.
        return jax.tree.map(lambda x, old: jnp.where(number >= 0, x, old), new, state), loss

    return jax.lax.scan(body, state, (images, labels, rates, numbers))


def _shared(mesh: Mesh, members: tuple[int, ...]) -> NamedSharding:
    """A batch split among the devices of a mesh."""
    return NamedSharding(mesh, PartitionSpec(*(None for _ in members), "batch"))


class _Epoch(NamedTuple):
    """A compiled epoch.

    Attributes:
      run: `(state, rates, key) -> (state, loss)`.
      required_bytes: of memory on each device.
      new: whether anything was compiled just now.
    """

    run: Callable[[TrainState, np.ndarray, jax.Array], tuple[TrainState, Any]]
    required_bytes: int
    new: bool


def _epoch_maker(
    examples: Examples, scan: bool | None, stream: bool | None
) -> Callable[..., _Epoch]:
    """How an epoch is compiled and run, as `fit` was asked."""
    stream = not fits_on_device(examples) if stream is None else stream
    if stream:
        return functools.partial(_looped, stream=True)
    scan = jax.default_backend() != "cpu" if scan is None else scan
    return _scanned if scan else _looped


def _scanned(
    spec: Architecture,
    state: TrainState,
    examples: Examples,
    key: jax.Array,
    settings: TrainingSettings,
    mesh: Mesh | None,
) -> _Epoch:
    """An epoch as a few runs of one program, over images that stay on the device."""
    images, labels = examples.images, examples.labels
    members, fill = _members(key), _fill(spec)
    sharding = None if mesh is None else _shared(mesh, (1, *members))
    batches = [
        jax.ShapeDtypeStruct(
            (CHUNK, *members, settings.batch_size, *x.shape[1:]), x.dtype, sharding=sharding
        )
        for x in (images, labels)
    ]
    steps = np.zeros(CHUNK, np.float32), np.zeros(CHUNK, np.int32)
    args = state, *batches, *steps, key, fill
    program, new = compiled(_chunk, spec, *args, settings=settings)

    def run(state: TrainState, rates: np.ndarray, key: jax.Array) -> tuple[TrainState, Any]:
        num = len(rates)
        order = _all_batches(key, len(images), num, settings.batch_size)
        losses = []
        for first in range(0, num, CHUNK):
            places = np.arange(first, first + CHUNK)
            numbers = np.where(places < num, places, -1).astype(np.int32)
            chosen = _chosen(images, labels, order[first : first + CHUNK], mesh)
            state, loss = program.call(
                *(spec, state, *chosen, rates[np.minimum(places, num - 1)], numbers, key, fill)
            )
            losses.append(loss)
        return state, jnp.concatenate(losses)[:num].mean(axis=0)

    return _Epoch(run, program.required_bytes + images.nbytes + labels.nbytes, new)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _all_batches(key: jax.Array, num_examples: int, num: int, batch_size: int) -> jax.Array:
    """As `_order`, filled up to whole chunks."""
    order = _order(key, num_examples, num, batch_size)
    return jnp.pad(order, [(0, -num % CHUNK), *((0, 0) for _ in order.shape[1:])])


def _looped(
    spec: Architecture,
    state: TrainState,
    examples: Examples,
    key: jax.Array,
    settings: TrainingSettings,
    mesh: Mesh | None,
    stream: bool = False,
) -> _Epoch:
    """An epoch as Python's loop over the compiled augmentation and update."""
    members = _members(key)

    def batches(order: np.ndarray) -> Iterator[tuple[Any, Any]]:
        chosen = (
            streamed(examples, order)
            if stream
            else ((examples.images[index], examples.labels[index]) for index in order)
        )
        for batch in chosen:
            yield batch if mesh is None else jax.device_put(batch, _shared(mesh, members))

    images, labels = next(batches(np.zeros((1, *members, settings.batch_size), np.int32)))
    number, rate = np.int32(0), np.float32(0)
    fill = _fill(spec)
    augmenting, first = compiled(_augment, images, key, number, fill, settings=settings)
    args = state, images, labels, rate, key
    updating, second = compiled(_update, spec, *args, settings=settings)

    def run(state: TrainState, rates: np.ndarray, key: jax.Array) -> tuple[TrainState, Any]:
        losses = []
        order = np.asarray(_order(key, len(examples), len(rates), settings.batch_size))
        for number, (images, labels) in enumerate(batches(order)):
            images, dropout_key = augmenting.call(images, key, np.int32(number), fill)
            if mesh is not None:
                images = jax.device_put(images, _shared(mesh, members))
                dropout_key = _placed(dropout_key, mesh)
            state, loss = updating.call(spec, state, images, labels, rates[number], dropout_key)
            losses.append(loss)
        return state, np.mean([np.asarray(loss) for loss in losses], axis=0)

    return _Epoch(run, updating.required_bytes, first or second)
