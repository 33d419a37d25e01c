"""The examples: each step keeps the outputs, the grown network learns with all that is new."""

from __future__ import annotations

from types import ModuleType

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from examples import digits, grow_cnn_equinox, grow_cnn_nnx, grow_mlp_jax


def mlp():
    images, labels = digits.digits()
    x = images.reshape(len(images), -1)
    network = grow_mlp_jax.init(jax.random.key(0))
    steps = grow_mlp_jax.steps(jax.random.key(1))

    def train_on(network, x, labels):
        return digits.train(grow_mlp_jax.apply, network, x, labels)

    return network, steps, grow_mlp_jax.apply, train_on, jax.tree.leaves, x, labels


def cnn_nnx():
    images, labels = digits.digits()
    rngs = nnx.Rngs(0)
    steps = grow_cnn_nnx.steps(rngs, images)

    def params(network):
        return jax.tree.leaves(nnx.state(network, nnx.Param))

    network = grow_cnn_nnx.Network(rngs)
    return network, steps, grow_cnn_nnx.apply, grow_cnn_nnx.train_on, params, images, labels


def cnn_equinox():
    images, labels = digits.digits()
    network = grow_cnn_equinox.init(jax.random.key(0))
    steps = grow_cnn_equinox.steps(jax.random.key(1))

    def params(network):
        return jax.tree.leaves(eqx.filter(network, eqx.is_array))

    apply, train_on = grow_cnn_equinox.apply, grow_cnn_equinox.train_on
    return network, steps, apply, train_on, params, images, labels


@pytest.mark.parametrize("example", [mlp, cnn_nnx, cnn_equinox])
def test_growth_keeps_the_outputs_and_everything_new_learns(example):
    network, steps, apply, train_on, params, images, labels = example()
    for what, grow in steps.items():
        before, old_size = apply(network, images), digits.size(params(network))
        kept = [np.array(x) for x in params(network)]
        grown = grow(network)
        # The example's network is not changed in place.
        assert all((old == new).all() for old, new in zip(kept, params(network))), what
        assert digits.size(params(grown)) > old_size, what
        difference = jnp.abs(apply(grown, images) - before).max() / jnp.abs(before).max()
        assert difference <= 1e-5, what
        network = grown
    start = [np.array(x) for x in params(network)]
    trained, (first, last) = train_on(network, images, labels)
    assert last < first
    # Adam moves every weight that ever had a gradient: all except those of units that are never
    # active and of pixels that are always black.
    for old, new in zip(start, params(trained), strict=True):
        assert (old != new).mean() > 0.8


@pytest.mark.parametrize("example", [grow_mlp_jax, grow_cnn_nnx, grow_cnn_equinox])
def test_an_example_prints_its_steps(example: ModuleType, capsys):
    example.main()
    lines = capsys.readouterr().out.splitlines()
    assert sum("difference" in line for line in lines) == len(lines) - 2 >= 3


def test_training_mode_is_kept_too_on_the_batch_that_normalised():
    images, _ = digits.digits()
    rngs = nnx.Rngs(0)
    network = grow_cnn_nnx.Network(rngs)
    deeper = grow_cnn_nnx.deepen(network, 1, rngs, images)
    network.train()
    deeper.train()
    before, after = network(images), deeper(images)
    assert jnp.abs(after - before).max() <= 1e-5 * jnp.abs(before).max()
