"""What the examples share: the digits, a training loop, and a line that compares two networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits


def digits() -> tuple[jax.Array, jax.Array]:
    """256 images `[256, 8, 8, 1]` in [0, 1], and their labels."""
    data = load_digits()
    images = jnp.asarray(data.images[:256, :, :, None] / 16, jnp.float32)
    return images, jnp.asarray(data.target[:256])


def train(
    apply: Callable[[Any, jax.Array], jax.Array],
    params: Any,
    images: jax.Array,
    labels: jax.Array,
    num_updates: int = 20,
) -> tuple[Any, tuple[float, float]]:
    """A few updates on all images; prints and returns the loss before and after."""
    optimizer = optax.adam(0.01)

    @jax.jit
    def loss(params: Any) -> jax.Array:
        logits = apply(params, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @jax.jit
    def update(params: Any, state: Any) -> tuple[Any, Any]:
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    state, first = optimizer.init(params), float(loss(params))
    for _ in range(num_updates):
        params, state = update(params, state)
    last = float(loss(params))
    print(f"trained for {num_updates} updates: loss {first:.3f} -> {last:.3f}")
    return params, (first, last)


def size(params: Any) -> int:
    """The number of parameters in a tree of arrays."""
    return sum(np.size(x) for x in jax.tree.leaves(params))


def compare(what: str, old_size: int, new_size: int, before: jax.Array, after: jax.Array) -> None:
    """Print what was done, the numbers of parameters, and by how much the outputs differ."""
    difference = float(jnp.abs(after - before).max() / jnp.abs(before).max())
    print(f"{what:<45} {old_size:>7,} -> {new_size:>7,} parameters, difference {difference:.1e}")
