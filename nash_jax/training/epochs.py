"""An epoch as compiled programs.

An update is compiled once per architecture, whatever the length of the training or the size of the
set. On CPU the loop over updates is Python's, because XLA runs convolutions inside loops 20 to 38
times slower there; elsewhere a chunk of updates is one `lax.scan` over images that stay on the
device. Images that are too many for the device are streamed to the loop over updates.

A population, several weights of one architecture, is trained by the same update under `jax.vmap`.
A training on several devices splits each batch among them: batch normalisation, the loss and the
gradient are means over the whole batch, and XLA adds what the devices have to tell each other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from nash_jax.architecture import INPUT, Architecture, Variables, apply, ops
from nash_jax.architecture.network import DropRate
from nash_jax.data import Examples
from nash_jax.training.augment import augment, resized
from nash_jax.training.compilation import compiled, compute_dtype, matmul_precision
from nash_jax.training.settings import TrainingSettings
from nash_jax.training.sgdr import direction
from nash_jax.training.streaming import fits_on_device, streamed


class TrainState(NamedTuple):
    """What an update changes."""

    variables: Variables
    optimizer: optax.OptState


def members_of(key: jax.Array) -> tuple[int, ...]:
    """`(members,)` if there is a key for each of a population, and `()` if there is one key."""
    typed = jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)
    return tuple(key.shape if typed else key.shape[:-1])


def placed(tree: Any, mesh: Mesh | None) -> Any:
    """Arrays on JAX's default device, or whole on every device of a mesh."""
    return jax.device_put(tree, None if mesh is None else NamedSharding(mesh, PartitionSpec()))


def update(
    spec: Architecture,
    state: TrainState,
    images: jax.Array,
    labels: jax.Array,
    rate: jax.Array,
    key: jax.Array,
    settings: TrainingSettings,
    progress: jax.Array | float = 0.0,
) -> tuple[TrainState, jax.Array]:
    """One update by SGD on one batch; for a population, on a batch and with a key for each member.

    Args:
      spec: the architecture.
      state: variables and momentum.
      images: `[batch, height, width, channels]`, or `[members, batch, ...]`.
      labels: `[batch]`, or `[members, batch]`.
      rate: the learning rate.
      key: decides what dropout drops; or `[members]` keys.
      settings: how to train. With an auxiliary loss, the second half of the logits is that of the
        auxiliary classifier: see `auxiliary.with_tower`.
      progress: the part of the training that lies behind, for `drop_path`.

    Returns:
      The new state, and the mean loss on the batch, `[]` or `[members]`.
    """

    def loss_of(
        params: Any, rest: Variables, images: jax.Array, labels: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, Variables]:
        variables = {**rest, "params": params}
        dtype = compute_dtype(settings.precision)
        drop_path = _drop_rate(progress, settings) if settings.drop_path else None
        logits, new = apply(
            spec, variables, images, train=True, key=key, dtype=dtype, drop_path=drop_path
        )
        if not settings.auxiliary_weight:
            return mean_loss(logits, labels, settings), new
        logits, others = jnp.split(logits, 2, axis=-1)
        auxiliary = settings.auxiliary_weight * mean_loss(others, labels, settings)
        return mean_loss(logits, labels, settings) + auxiliary, new

    def one(
        state: TrainState, images: jax.Array, labels: jax.Array, key: jax.Array
    ) -> tuple[TrainState, jax.Array]:
        params = state.variables["params"]
        with matmul_precision(settings.precision):
            (loss, new), gradients = jax.value_and_grad(loss_of, has_aux=True)(
                params, state.variables, images, labels, key
            )
        steps, optimizer = direction(settings).update(gradients, state.optimizer, params)
        params = jax.tree.map(lambda p, s: p - (rate * s).astype(p.dtype), params, steps)
        return TrainState({**new, "params": params}, optimizer), loss

    return (jax.vmap(one) if members_of(key) else one)(state, images, labels, key)


def mean_loss(logits: jax.Array, labels: jax.Array, settings: TrainingSettings) -> jax.Array:
    """The mean cross-entropy of a batch."""
    if settings.label_smoothing:
        targets = jax.nn.one_hot(labels, logits.shape[-1])
        targets = optax.smooth_labels(targets, settings.label_smoothing)
        return optax.softmax_cross_entropy(logits, targets).mean()
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def _drop_rate(progress: jax.Array | float, settings: TrainingSettings) -> DropRate:
    """How often a path at some depth is dropped, after a part of the training."""
    by_depth = settings.drop_path_by_depth
    return lambda depth: progress * settings.drop_path * (depth if by_depth else 1.0)


_update = jax.jit(update, static_argnames="settings", donate_argnames="state")


@functools.partial(jax.jit, static_argnames="settings", donate_argnames="state")
def _dropping(
    spec: Architecture,
    state: TrainState,
    images: jax.Array,
    labels: jax.Array,
    rate: jax.Array,
    key: jax.Array,
    progress: jax.Array,
    settings: TrainingSettings,
) -> tuple[TrainState, jax.Array]:
    """An update that drops paths; the others' programs have no argument for it."""
    return update(spec, state, images, labels, rate, key, settings, progress)


def _augment_all(
    images: jax.Array,
    key: jax.Array,
    number: jax.Array,
    fill: jax.Array,
    settings: TrainingSettings,
    size: tuple[int, ...] | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The images of an epoch's batch `number`, augmented, and the key of its dropout.

    Apart from the update, because it is the same program for all architectures of images of a size.
    """

    def one(images: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        _, batches_key = jax.random.split(key)  # `order_of` uses the other half
        augment_key, dropout_key = jax.random.split(jax.random.fold_in(batches_key, number))
        augmented = augment(images, augment_key, settings, fill)
        return resized(augmented, size or images.shape[1:3]), dropout_key

    return (jax.vmap(one) if members_of(key) else one)(images, key)


augment_batch = jax.jit(_augment_all, static_argnames=("settings", "size"))


def mean_colour(spec: Architecture) -> np.ndarray:
    """The mean colour, `[channels]`, with which images are padded and cut out.

    The reference code of SGDR normalises first and pads with zeros. Here pixels are normalised
    inside the network, which turns the mean colour into zero, up to its rounding to a whole number.
    """
    means = [
        n.op.mean for n in spec.nodes if isinstance(n.op, ops.Normalize) and n.inputs == (INPUT,)
    ]
    mean = means[0] if means else (0.0,) * spec.input_shape[-1]
    return np.rint(np.clip(mean, 0, 255)).astype(np.uint8)


def order_of(key: jax.Array, num_examples: int, num_batches: int, batch_size: int) -> jax.Array:
    """The places of the images of each batch, `[batches, batch]` or `[batches, members, batch]`."""

    def one(key: jax.Array) -> jax.Array:
        order_key, _ = jax.random.split(key)
        order = jax.random.permutation(order_key, num_examples)[: num_batches * batch_size]
        return order.reshape(num_batches, batch_size)

    return jax.vmap(one, out_axes=1)(key) if members_of(key) else one(key)


#: Updates in one program where an epoch is scanned. It is the same program for sets of all sizes:
#: the last chunk of an epoch is filled up with updates that leave everything as it is.
CHUNK = 16


def updates_per_program() -> int:
    """How many updates `fit` makes by one program here, but of images that are streamed.

    Fewer of them take as long.
    """
    return 1 if jax.default_backend() == "cpu" else CHUNK


@functools.partial(jax.jit, static_argnames="mesh")
def _chosen(
    images: jax.Array, labels: jax.Array, order: jax.Array, number: jax.Array, mesh: Mesh | None
) -> tuple[jax.Array, jax.Array]:
    """The batches of chunk `number`, `[chunk, batch, ...]` or `[chunk, members, batch, ...]`."""
    chosen = images[order[number]], labels[order[number]]
    if mesh is not None:
        members = order.shape[2:-1]
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
    progress: jax.Array,
    key: jax.Array,
    fill: jax.Array,
    settings: TrainingSettings,
) -> tuple[TrainState, jax.Array]:
    """The updates of a chunk, and their losses; those of negative numbers change nothing."""

    def body(state: TrainState, step: tuple[jax.Array, ...]) -> tuple[TrainState, jax.Array]:
        images, labels, rate, number, progress = step
        size = spec.input_shape[:2]
        augmented, dropout_key = _augment_all(images, key, number, fill, settings, size)
        new, loss = update(spec, state, augmented, labels, rate, dropout_key, settings, progress)
        # Not a conditional: on a GPU that would wait for the host.
        return jax.tree.map(lambda x, old: jnp.where(number >= 0, x, old), new, state), loss

    return jax.lax.scan(body, state, (images, labels, rates, numbers, progress))


def _shared(mesh: Mesh, members: tuple[int, ...]) -> NamedSharding:
    """A batch split among the devices of a mesh."""
    return NamedSharding(mesh, PartitionSpec(*(None for _ in members), "batch"))


class Epoch(NamedTuple):
    """A compiled epoch.

    Attributes:
      run: `(state, rates, progress, key) -> (state, loss)`; `rates` and `progress` are those of
        every update, `[batches]`.
      required_bytes: of memory on each device.
      new: whether anything was compiled just now.
    """

    run: Callable[[TrainState, np.ndarray, np.ndarray, jax.Array], tuple[TrainState, Any]]
    required_bytes: int
    new: bool


def epoch_maker(examples: Examples, scan: bool | None, stream: bool | None) -> Callable[..., Epoch]:
    """The function that compiles an epoch, as the arguments of `fit` ask."""
    stream = not fits_on_device(examples) if stream is None else stream
    if stream:
        return functools.partial(_looped, stream=True)
    scan = updates_per_program() > 1 if scan is None else scan
    return scanned if scan else _looped


def scanned(
    spec: Architecture,
    state: TrainState,
    examples: Examples,
    key: jax.Array,
    settings: TrainingSettings,
    mesh: Mesh | None,
) -> Epoch:
    """An epoch as a few runs of one program, over images that stay on the device."""
    images, labels = examples.images, examples.labels
    members, fill = members_of(key), mean_colour(spec)
    sharding = None if mesh is None else _shared(mesh, (1, *members))
    batches = [
        jax.ShapeDtypeStruct(
            (CHUNK, *members, settings.batch_size, *x.shape[1:]), x.dtype, sharding=sharding
        )
        for x in (images, labels)
    ]
    steps = np.zeros(CHUNK, np.float32), np.zeros(CHUNK, np.int32), np.zeros(CHUNK, np.float32)
    args = state, *batches, *steps, key, fill
    program, new = compiled(_chunk, spec, *args, settings=settings)

    def run(
        state: TrainState, rates: np.ndarray, progress: np.ndarray, key: jax.Array
    ) -> tuple[TrainState, Any]:
        num = len(rates)
        order = _all_batches(key, len(images), num, settings.batch_size)
        losses = []
        for chunk in range(len(order)):
            places = CHUNK * chunk + np.arange(CHUNK)
            numbers = np.where(places < num, places, -1).astype(np.int32)
            chosen = _chosen(images, labels, order, np.int32(chunk), mesh)
            of_chunk = [x[np.minimum(places, num - 1)] for x in (rates, progress)]
            steps = of_chunk[0], numbers, of_chunk[1]
            state, loss = program.call(spec, state, *chosen, *steps, key, fill)
            losses.append(loss)
        return state, jnp.concatenate(losses)[:num].mean(axis=0)

    return Epoch(run, program.required_bytes + images.nbytes + labels.nbytes, new)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _all_batches(key: jax.Array, num_examples: int, num: int, batch_size: int) -> jax.Array:
    """As `order_of`, filled up to whole chunks, `[chunks, chunk, ...]`."""
    order = order_of(key, num_examples, num, batch_size)
    whole = jnp.pad(order, [(0, -num % CHUNK), *((0, 0) for _ in order.shape[1:])])
    return whole.reshape(-1, CHUNK, *order.shape[1:])


def _looped(
    spec: Architecture,
    state: TrainState,
    examples: Examples,
    key: jax.Array,
    settings: TrainingSettings,
    mesh: Mesh | None,
    stream: bool = False,
) -> Epoch:
    """An epoch as Python's loop over the compiled augmentation and update."""
    members = members_of(key)

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
    fill = mean_colour(spec)
    size = spec.input_shape[:2]
    static = {} if size == images.shape[-3:-1] else {"size": size}
    batch = images, key, number, fill
    augmenting, first = compiled(augment_batch, *batch, settings=settings, **static)
    if static:
        images, _ = augmenting.call(*batch)
        images = images if mesh is None else jax.device_put(images, _shared(mesh, members))
    args = state, images, labels, rate, key
    dropping = bool(settings.drop_path)
    program = (_dropping, spec, *args, rate) if dropping else (_update, spec, *args)
    updating, second = compiled(*program, settings=settings.without_augmentation)

    def run(
        state: TrainState, rates: np.ndarray, progress: np.ndarray, key: jax.Array
    ) -> tuple[TrainState, Any]:
        losses = []
        order = np.asarray(order_of(key, len(examples), len(rates), settings.batch_size))
        for number, (images, labels) in enumerate(batches(order)):
            images, dropout_key = augmenting.call(images, key, np.int32(number), fill)
            if mesh is not None:
                images = jax.device_put(images, _shared(mesh, members))
                dropout_key = placed(dropout_key, mesh)
            now = (progress[number],) if dropping else ()
            state, loss = updating.call(
                spec, state, images, labels, rates[number], dropout_key, *now
            )
            losses.append(loss)
        return state, np.mean([np.asarray(loss) for loss in losses], axis=0)

    return Epoch(run, updating.required_bytes, first or second)
