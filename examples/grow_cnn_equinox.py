"""Grow a convolutional network in Equinox: networks are immutable trees.

  python -m examples.grow_cnn_equinox

Widens a convolution, inserts a depthwise-separable pair, enlarges a kernel. Each keeps the outputs;
then the grown network trains on. Equinox keeps kernels as `[out, in, height, width]` and runs one
image `[channels, height, width]` at a time, so kernels are transposed on the way in and out.
"""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from examples.digits import compare, digits, size, train
from nash_jax import morphisms


class Network(eqx.Module):
    """Convolutions, Relu after those that `activates` marks, average pooling, a linear layer."""

    convs: tuple[eqx.nn.Conv2d, ...]
    linear: eqx.nn.Linear
    activates: tuple[bool, ...] = eqx.field(static=True)

    def __call__(self, x: jax.Array) -> jax.Array:
        for conv, activates in zip(self.convs, self.activates):
            x = jax.nn.relu(conv(x)) if activates else conv(x)
        return self.linear(x.mean(axis=(1, 2)))


def init(key: jax.Array) -> Network:
    keys = jax.random.split(key, 3)
    convs = (
        eqx.nn.Conv2d(1, 8, 3, padding=1, key=keys[0]),
        eqx.nn.Conv2d(8, 12, 3, padding=1, key=keys[1]),
    )
    return Network(convs, eqx.nn.Linear(12, 10, key=keys[2]), (True, True))


def apply(network: Network, images: jax.Array) -> jax.Array:
    """Logits of images `[batch, height, width, channels]`."""
    return jax.vmap(network)(images.transpose(0, 3, 1, 2))


def arrays_of(conv: eqx.nn.Conv2d) -> tuple[jax.Array, jax.Array]:
    """A layer's kernel `[height, width, in / groups, out]` and bias `[out]`."""
    assert conv.bias is not None
    return conv.weight.transpose(2, 3, 1, 0), conv.bias.ravel()


def conv_of(kernel: jax.Array, bias: jax.Array, groups: int = 1) -> eqx.nn.Conv2d:
    """The layer with this kernel and bias: the inverse of `arrays_of`."""
    height, width, per_group, features = kernel.shape
    layer = eqx.nn.Conv2d(
        *(per_group * groups, features, (height, width)),
        padding=((height - 1) // 2, (width - 1) // 2),
        groups=groups,
        key=jax.random.key(0),  # drawn and replaced
    )
    weights = (kernel.transpose(3, 2, 0, 1), bias[:, None, None])
    return eqx.tree_at(lambda c: (c.weight, c.bias), layer, weights)


def widen(network: Network, index: int, features: int, key: jax.Array) -> Network:
    """More channels in one convolution, which the next reads with zero weights (Type II)."""
    kernel, bias = arrays_of(network.convs[index])
    old = kernel.shape[-1]
    source = np.concatenate([np.arange(old), np.full(features - old, -1)])
    fresh = jax.random.normal(key, (*kernel.shape[:3], features)) / np.sqrt(kernel[..., 0].size)
    wider = conv_of(
        morphisms.widen_out(kernel, source, fresh),
        morphisms.widen_out(bias, source, jnp.zeros(features)),
    )
    read_kernel, read_bias = arrays_of(network.convs[index + 1])
    reader = conv_of(morphisms.widen_in(read_kernel, source), read_bias)
    convs = (*network.convs[:index], wider, reader, *network.convs[index + 2 :])
    return Network(convs, network.linear, network.activates)


def insert_separable(network: Network, index: int) -> Network:
    """A depthwise and a 1x1 convolution behind another, both identities (Type I)."""
    channels = network.convs[index].out_channels
    depthwise = morphisms.identity_kernel((3, 3), channels, jnp.float32, groups=channels)
    pointwise = morphisms.identity_kernel((1, 1), channels, jnp.float32)
    zeros = jnp.zeros(channels)
    pair = (conv_of(depthwise, zeros, groups=channels), conv_of(pointwise, zeros))
    convs = (*network.convs[: index + 1], *pair, *network.convs[index + 1 :])
    marks = network.activates
    # What the pair reads is not negative, so Relu behind it changes nothing (Type III).
    return Network(convs, network.linear, (*marks[: index + 1], False, True, *marks[index + 1 :]))


def grow_kernel(network: Network, index: int, size: int) -> Network:
    """A larger kernel, zero around the old one."""
    kernel, bias = arrays_of(network.convs[index])
    larger = conv_of(morphisms.grow_kernel(kernel, (size, size)), bias)
    return eqx.tree_at(lambda n: n.convs[index], network, larger)


def train_on(
    network: Network, images: jax.Array, labels: jax.Array
) -> tuple[Network, tuple[float, float]]:
    params, static = eqx.partition(network, eqx.is_array)
    params, losses = train(lambda p, x: apply(eqx.combine(p, static), x), params, images, labels)
    return eqx.combine(params, static), losses


def steps(key: jax.Array) -> dict[str, Callable[[Network], Network]]:
    """What is done to the network, in turn."""
    return {
        "widen convolution 1 to 20 channels": lambda n: widen(n, 0, 20, key),
        "insert a separable convolution": lambda n: insert_separable(n, 1),
        "enlarge the kernel of convolution 2 to 5x5": lambda n: grow_kernel(n, 1, 5),
    }


def main() -> None:
    images, labels = digits()
    network, _ = train_on(init(jax.random.key(0)), images, labels)
    for what, grow in steps(jax.random.key(1)).items():
        old, network = network, grow(network)
        old_size, new_size = (size(eqx.filter(n, eqx.is_array)) for n in (old, network))
        compare(what, old_size, new_size, apply(old, images), apply(network, images))
    train_on(network, images, labels)


if __name__ == "__main__":
    main()
