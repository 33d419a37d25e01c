"""Grow a multilayer perceptron in bare JAX: parameters are a dictionary of arrays.

  python -m examples.grow_mlp_jax

Widens a layer by new units and by copies, inserts a layer, blends in another activation. Each
keeps the outputs; then the grown network trains on.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from examples.digits import compare, digits, size, train
from nash_jax import morphisms

Params = dict[str, jax.Array]


def init(key: jax.Array, sizes: tuple[int, ...] = (64, 24, 16, 10)) -> Params:
    params: Params = {}
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes), start=1):
        weight = jax.random.normal(jax.random.fold_in(key, i), (fan_in, fan_out))
        params[f"w{i}"] = weight * np.sqrt(2 / fan_in)
        params[f"b{i}"] = jnp.zeros(fan_out)
    return params


def apply(params: Params, x: jax.Array) -> jax.Array:
    """Dense layers with Relu between; if there is a lambda, it mixes the first Relu with tanh."""
    last = max(int(name[1:]) for name in params if name.startswith("w"))
    for i in range(1, last):
        x = x @ params[f"w{i}"] + params[f"b{i}"]
        f = jax.nn.relu(x)
        mixed = i == 1 and "lambda" in params
        x = morphisms.blend(f, jnp.tanh(x), params["lambda"]) if mixed else f
    return x @ params[f"w{last}"] + params[f"b{last}"]


def widen(params: Params, layer: int, units: int, key: jax.Array) -> Params:
    """More units with random weights, which the next layer reads with zeros (Type II)."""
    kernel = params[f"w{layer}"]
    fan_in, old = kernel.shape
    source = np.concatenate([np.arange(old), np.full(units - old, -1)])
    fresh = jax.random.normal(key, (fan_in, units)) * np.sqrt(2 / fan_in)
    return params | {
        f"w{layer}": morphisms.widen_out(kernel, source, fresh),
        f"b{layer}": morphisms.widen_out(params[f"b{layer}"], source, jnp.zeros(units)),
        f"w{layer + 1}": morphisms.widen_in(params[f"w{layer + 1}"], source),
    }


def widen_by_copies(params: Params, layer: int, units: int) -> Params:
    """More units that copy the old in turn and share their outgoing weights (Net2Wider)."""
    origin = np.arange(units) % params[f"w{layer}"].shape[1]
    return params | {
        f"w{layer}": morphisms.copy_out(params[f"w{layer}"], origin),
        f"b{layer}": morphisms.copy_out(params[f"b{layer}"], origin),
        f"w{layer + 1}": morphisms.split_in(params[f"w{layer + 1}"], origin),
    }


def deepen(params: Params, layer: int) -> Params:
    """A layer behind the Relu of another, at first the identity (Types I and III)."""
    width = params[f"w{layer}"].shape[1]
    # The new layer takes the next number; those behind it move up by one.
    moved = {
        f"{name[0]}{int(name[1:]) + 1}" if name != "lambda" and int(name[1:]) > layer else name: x
        for name, x in params.items()
    }
    return moved | {f"w{layer + 1}": jnp.eye(width), f"b{layer + 1}": jnp.zeros(width)}


def blend_in_tanh(params: Params) -> Params:
    """A learnable weight of Relu against tanh, at first all Relu (Type IV)."""
    return params | {"lambda": jnp.ones(())}


def steps(key: jax.Array) -> dict[str, Callable[[Params], Params]]:
    """What is done to the network, in turn."""
    return {
        "widen layer 1 to 32 units": lambda p: widen(p, 1, 32, key),
        "widen layer 2 to 40, by copies": lambda p: widen_by_copies(p, 2, 40),
        "insert a layer behind layer 2": lambda p: deepen(p, 2),
        "blend in tanh": blend_in_tanh,
    }


def main() -> None:
    images, labels = digits()
    x = images.reshape(len(images), -1)
    params = init(jax.random.key(0))
    before, _ = train(apply, params, x, labels)
    grown = before
    for what, grow in steps(jax.random.key(1)).items():
        old, grown = grown, grow(grown)
        compare(what, size(old), size(grown), apply(old, x), apply(grown, x))
    train(apply, grown, x, labels)


if __name__ == "__main__":
    main()
