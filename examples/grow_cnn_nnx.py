"""Grow a convolutional network in Flax NNX: layers are objects, and their arrays are replaced.

  python -m examples.grow_cnn_nnx

Widens a convolution with its normalisation and its reader, inserts Conv-BatchNorm, enlarges a
kernel. Each keeps the outputs; then the grown network trains on. NNX keeps kernels as
`[height, width, in, out]`, as the primitives have them.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from examples.digits import compare, digits, size, train
from nash_jax import morphisms


class Block(nnx.Module):
    """Conv-BatchNorm-Relu."""

    def __init__(self, fan_in: int, features: int, size: int, rngs: nnx.Rngs) -> None:
        self.conv = nnx.Conv(fan_in, features, (size, size), use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(features, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return nnx.relu(self.norm(self.conv(x)))


class Network(nnx.Module):
    """Blocks, global average pooling and a linear layer."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.blocks = nnx.List([Block(1, 8, 3, rngs), Block(8, 12, 3, rngs)])
        self.linear = nnx.Linear(12, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for block in self.blocks:
            x = block(x)
        return self.linear(x.mean(axis=(1, 2)))


def conv_of(kernel: jax.Array, rngs: nnx.Rngs) -> nnx.Conv:
    """The layer with a kernel `[height, width, in, out]`."""
    height, width, fan_in, features = kernel.shape
    conv = nnx.Conv(fan_in, features, (height, width), use_bias=False, rngs=rngs)
    nnx.update(conv, {"kernel": kernel})
    return conv


def widen(network: Network, index: int, features: int, rngs: nnx.Rngs) -> Network:
    """More channels in one block, which the next block reads with zero weights (Type II)."""
    network = nnx.clone(network)
    old, reader = network.blocks[index], network.blocks[index + 1]
    fan_in, channels = old.conv.kernel.shape[2:]
    source = np.concatenate([np.arange(channels), np.full(features - channels, -1)])
    new = Block(fan_in, features, old.conv.kernel_size[0], rngs)

    def widened(kept: jax.Array, fresh: jax.Array) -> jax.Array:
        return morphisms.widen_out(kept, source, fresh)

    # Kernel, scale, bias and statistics alike; the fresh values are those of the new block.
    nnx.update(new, jax.tree.map(widened, nnx.state(old), nnx.state(new)))
    kernel = morphisms.widen_in(reader.conv.kernel[...], source)
    conv = conv_of(kernel, rngs)
    network.blocks[index], reader.conv = new, conv
    return network


def deepen(network: Network, index: int, rngs: nnx.Rngs, batch: jax.Array) -> Network:
    """Insert a block behind another; the new block passes its input on (Types I and III).

    It does so in evaluation on all images, and in training on `batch`, because its normalisation
    is set by the statistics of `batch`.
    """
    network = nnx.clone(network)
    channels = network.blocks[index].norm.num_features
    new = Block(channels, channels, 3, rngs)
    new.conv = conv_of(morphisms.identity_kernel((3, 3), channels, jnp.float32), rngs)
    reference = nnx.clone(network)  # training mode updates running averages, here of a copy
    reference.train()
    x = batch
    for block in list(reference.blocks)[: index + 1]:
        x = block(x)
    epsilon = new.norm.epsilon
    identity = morphisms.batch_norm_identity(channels, epsilon, jnp.float32)
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    params, stats = morphisms.rebase_batch_norm(*identity, mean, var, epsilon)
    nnx.update(new.norm, params | stats)
    blocks = list(network.blocks)
    network.blocks = nnx.List([*blocks[: index + 1], new, *blocks[index + 1 :]])
    return network


def grow_kernel(network: Network, index: int, size: int, rngs: nnx.Rngs) -> Network:
    """A larger kernel, zero around the old one."""
    network = nnx.clone(network)
    kernel = morphisms.grow_kernel(network.blocks[index].conv.kernel[...], (size, size))
    network.blocks[index].conv = conv_of(kernel, rngs)
    return network


def apply(network: Network, images: jax.Array) -> jax.Array:
    """Logits of images `[batch, height, width, channels]`, by running statistics."""
    network = nnx.clone(network)
    network.eval()
    return network(images)


def train_on(
    network: Network, images: jax.Array, labels: jax.Array
) -> tuple[Network, tuple[float, float]]:
    """Train the parameters; running statistics stay as they are, as in fine-tuning."""
    network = nnx.clone(network)
    network.eval()
    graph, params, *rest = nnx.split(network, nnx.Param, ...)
    params, losses = train(lambda p, x: nnx.merge(graph, p, *rest)(x), params, images, labels)
    return nnx.merge(graph, params, *rest), losses


def steps(rngs: nnx.Rngs, images: jax.Array) -> dict[str, Callable[[Network], Network]]:
    """What is done to the network, in turn."""
    return {
        "widen block 1 to 20 channels": lambda n: widen(n, 0, 20, rngs),
        "insert a block behind block 2": lambda n: deepen(n, 1, rngs, images),
        "enlarge the kernel of block 2 to 5x5": lambda n: grow_kernel(n, 1, 5, rngs),
    }


def main() -> None:
    images, labels = digits()
    rngs = nnx.Rngs(0)
    network, _ = train_on(Network(rngs), images, labels)
    for what, grow in steps(rngs, images).items():
        old, network = network, grow(network)
        old_size, new_size = (size(nnx.state(n, nnx.Param)) for n in (old, network))
        compare(what, old_size, new_size, apply(old, images), apply(network, images))
    train_on(network, images, labels)


if __name__ == "__main__":
    main()
