"""Training a supernet and the weights of its edges at once (DARTS; Liu, Simonyan and Yang 2019).

The weights `w` of the ops learn on one half of the images by SGD, the logits `alpha` of the edges
on the other by Adam. Alpha should be best for the weights that it leads to; these are approximated
by one step of SGD, `w' = w - rate * step(w, alpha)` (equations 5 to 8):

- 'first': that step is left out: the gradient of the validation loss at `w` (their xi = 0).
- 'second': the gradient of the validation loss at `w'`, through the step. Momentum and weight decay
  are in the step; both are constants to alpha. Gradients are not clipped in it.
- 'finite': the same, with their difference of two gradients in place of the second derivative.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
import optax

from nash_jax.architecture import Architecture, EdgeWeights, apply, with_edge_weights
from nash_jax.checks import check_least, check_word
from nash_jax.training.compilation import compute_dtype, matmul_precision
from nash_jax.training.epochs import TrainState, mean_loss
from nash_jax.training.settings import TrainingSettings
from nash_jax.training.sgdr import direction

Order = Literal["first", "second", "finite"]
ORDERS: tuple[Order, ...] = get_args(Order)

#: Images and labels.
Batch: TypeAlias = tuple[Any, Any]


@dataclasses.dataclass(frozen=True)
class EdgeSettings:
    """How the logits of edges are trained: by Adam, with DARTS's values.

    Attributes:
      order: 'first', 'second' or 'finite'; see the module.
      lr: learning rate.
      b1: decay of the first moment.
      b2: decay of the second.
      weight_decay: L2 factor, added to the gradient.
      clip_norm: largest norm of the gradient; 0: none.
      frozen_epochs: epochs at the beginning in which they stay as they are.
      share: share of the training images that they learn on, and the weights do not; 0: both learn
        on all (one-level optimisation).
    """

    order: Order = "second"
    lr: float = 3e-4
    b1: float = 0.5
    b2: float = 0.999
    weight_decay: float = 1e-3
    clip_norm: float = 0.0
    frozen_epochs: int = 0
    share: float = 0.5

    def __post_init__(self) -> None:
        check_word("order", self.order, ORDERS)
        check_least(self, lr=0, b1=0, b2=0, weight_decay=0, clip_norm=0, frozen_epochs=0)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Clipping, decay, Adam."""
        steps = [
            optax.add_decayed_weights(self.weight_decay),
            optax.adam(self.lr, b1=self.b1, b2=self.b2),
        ]
        if self.clip_norm:
            steps.insert(0, optax.clip_by_global_norm(self.clip_norm))
        return optax.chain(*steps)


def softmax(logits: EdgeWeights) -> dict[str, jax.Array]:
    """The weights of edges: DARTS's rule."""
    return {edge: jax.nn.softmax(x) for edge, x in logits.items()}


def initial_logits(choices: dict[str, int], key: jax.Array) -> dict[str, jax.Array]:
    """Small normal numbers for each edge, by how many choices it has.

    >>> {edge: x.shape for edge, x in initial_logits({'0_1': 5}, jax.random.key(0)).items()}
    {'0_1': (5,)}
    """
    numbers = 1e-3 * jax.random.normal(key, (sum(choices.values()),))
    found, begin = {}, 0
    for edge, num in choices.items():
        found[edge] = numbers[begin : begin + num]
        begin += num
    return found


def edge_gradient(
    spec: Architecture,
    state: TrainState,
    logits: EdgeWeights,
    train: Batch,
    valid: Batch,
    rate: jax.Array | float,
    key: jax.Array,
    settings: TrainingSettings,
    order: Order = "second",
    epsilon: float = 0.01,
    drop: jax.Array | float = 0.0,
) -> dict[str, jax.Array]:
    """The gradient of the validation loss in the logits.

    Pure. All batches are normalised by their own statistics; running ones are not touched.

    Args:
      spec: the supernet.
      state: its variables, and the momentum of its weights.
      logits: by edge, `[choices]`.
      train: images and labels that the step of the weights would be made on.
      valid: images and labels of the validation loss.
      rate: the learning rate of that step.
      key: for dropout.
      settings: how the weights are trained.
      order: see the module.
      epsilon: of 'finite': how far the weights are moved to either side (their footnote 2).
      drop: the share of `settings.drop_path` with which paths are dropped.
    """
    params = state.variables["params"]
    drop_path = (lambda depth: drop * settings.drop_path) if settings.drop_path else None

    def loss(batch: Batch, params: Any, logits: EdgeWeights) -> jax.Array:
        variables = with_edge_weights(spec, {**state.variables, "params": params}, softmax(logits))
        dtype = compute_dtype(settings.precision)
        images, labels = batch
        with matmul_precision(settings.precision):
            found, _ = apply(
                spec, variables, images, train=True, key=key, dtype=dtype, drop_path=drop_path
            )
            return mean_loss(found, labels, settings)

    def stepped(gradients: Any) -> Any:
        step = direction(dataclasses.replace(settings, clip_norm=0.0))  # has the last two states
        steps, _ = step.update(gradients, state.optimizer[-2:], params)
        return jax.tree.map(lambda p, s: p - rate * s, params, steps)

    if order == "first":
        return dict(jax.grad(loss, argnums=2)(valid, params, logits))
    of_params = jax.grad(loss, argnums=1)
    if order == "second":

        def after(logits: EdgeWeights) -> jax.Array:
            return loss(valid, stepped(of_params(train, params, logits)), logits)

        return dict(jax.grad(after)(logits))
    moved, pull = jax.vjp(stepped, of_params(train, params, logits))
    vector, direct = jax.grad(loss, argnums=(1, 2))(valid, moved, logits)
    (back,) = pull(vector)  # -rate * vector, but for Nesterov's momentum
    size = jnp.sqrt(sum(jnp.vdot(x, x) for x in jax.tree.leaves(back)))
    share = epsilon / jnp.maximum(size, jnp.finfo(size.dtype).tiny)

    def shifted(sign: float) -> Any:
        there = jax.tree.map(lambda p, v: p + sign * share * v, params, back)
        return jax.grad(loss, argnums=2)(train, there, logits)

    return jax.tree.map(
        lambda d, more, less: d + (more - less) / (2 * share), direct, shifted(1.0), shifted(-1.0)
    )
