"""Any architecture in PyTorch, trained as nash_jax trains it: the other side of the benchmarks.

Eager mode and the `channels_last` memory format, which is what a PyTorch user starts with: a search
tries many networks, each only once. `TorchNetwork(spec).compile()` compiles a network that is
trained for longer. The same values as `nj.apply`, and the same SGD.
"""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any, TypeAlias, assert_never

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

import nash_jax as nj
from nash_jax import ops
from nash_jax.data import Examples
from nash_jax.training import TrainingSettings, check_batch_size, learning_rates

Pads: TypeAlias = tuple[int, int, int, int]  # left, right, top, bottom: the order of F.pad


class TorchNetwork(nn.Module):
    """Interprets a spec node by node, on images `[batch, channels, height, width]`.

    Attributes:
      spec: the architecture.
      parts: one module per node, in the order of the nodes.
    """

    def __init__(self, spec: nj.Architecture) -> None:
        super().__init__()
        self.spec = spec
        self.parts = nn.ModuleList(_module(spec, node) for node in spec.nodes)
        last_reader = {name: node.name for node in spec.nodes for name in node.inputs}
        self._done = [[n for n, r in last_reader.items() if r == node.name] for node in spec.nodes]
        self._output = spec.output  # a property that `torch.compile` cannot look into
        nn.utils.convert_conv2d_weight_memory_format(self, torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        values = {"input": images}
        for node, part, done in zip(self.spec.nodes, self.parts, self._done):
            values[node.name] = part(*[values[name] for name in node.inputs])
            for name in done:  # as in nn.Sequential, outputs that are not read again are freed
                del values[name]
        return values[self._output]


def _module(spec: nj.Architecture, node: nj.Node) -> nn.Module:
    """The module of one node; normalisations and scalings know whether they read a vector."""
    shape, op = spec.shapes[node.inputs[0]], node.op
    channels, trailing = shape[-1], (1,) * (len(shape) - 1)
    match op:
        case ops.Conv():
            return _conv(op, shape)
        case ops.Dense():
            return nn.Linear(channels, op.features, bias=op.use_bias)
        case ops.BatchNorm():
            # PyTorch's momentum is the weight of the new statistics. Its running variance is the
            # unbiased one, n / (n - 1) times Flax's; in training, both divide by the biased one.
            kind = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
            return kind(channels, eps=op.epsilon, momentum=1 - op.momentum)
        case ops.Standardize():
            kind = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
            return kind(channels, eps=op.epsilon, momentum=1 - op.momentum, affine=False)
        case ops.Affine():
            return Affine(channels, trailing)
        case ops.Relu():
            return nn.ReLU(inplace=_may_overwrite(spec, node.inputs[0]))
        case ops.LeakyRelu():
            return nn.LeakyReLU(op.negative_slope)
        case ops.Elu():
            return nn.ELU()
        case ops.Gelu():
            return nn.GELU()
        case ops.Silu():
            return nn.SiLU()
        case ops.Tanh():
            return nn.Tanh()
        case ops.Sigmoid():
            return nn.Sigmoid()
        case ops.MaxPool() | ops.AvgPool():
            return _pool(op, shape)
        case ops.GlobalAvgPool():
            return GlobalAvgPool()
        case ops.Flatten():
            return Flatten(op.factor(math.prod(shape)))
        case ops.Dropout():
            return nn.Dropout(op.rate)
        case ops.Identity() | ops.DropPath():
            return nn.Identity()
        case ops.Normalize():
            return Normalize(op, trailing)
        case ops.PadChannels():
            return PadChannels(op, trailing)
        case ops.Zero():
            return Zero(op)
        case ops.Shift():
            return Shift(op)
        case ops.Resize():
            return nn.Upsample((op.height, op.width), mode="nearest-exact")
        case ops.Shuffle():
            return nn.ChannelShuffle(op.groups)
        case ops.Gate():
            return Gate()
        case ops.Add():
            return Add()
        case ops.Concat():
            return Concat()
        case ops.Mix():
            return Mix()
        case ops.WeightedSum():
            return WeightedSum(len(node.inputs))
        case _:
            assert_never(op)


def _may_overwrite(spec: nj.Architecture, name: str) -> bool:
    """Whether the one reader of a node may work in place: no gradient needs the node's output."""
    kept = name == "input" or len(spec.readers[name]) > 1
    return not kept and isinstance(spec[name].op, ops.BatchNorm | ops.Conv | ops.Dense | ops.Add)


def _pads(shape: tuple[int, ...], window: ops.Pair, stride: ops.Pair, padding: str) -> Pads:
    """What XLA and TensorFlow pad: with 'SAME', the odd row or column below and to the right."""
    if padding == "VALID":
        return (0, 0, 0, 0)
    (top, bottom), (left, right) = (
        (total // 2, total - total // 2)
        for size, w, s in zip(shape, window, stride)
        for total in [max((-(-size // s) - 1) * s + w - size, 0)]
    )
    return (left, right, top, bottom)


def _even(pads: Pads) -> bool:
    """Whether PyTorch's own `padding`, which costs no copy, can pad like this."""
    left, right, top, bottom = pads
    return left == right and top == bottom


def _conv(op: ops.Conv, shape: tuple[int, ...]) -> nn.Conv2d:
    height, width = ((k - 1) * d + 1 for k, d in zip(op.kernel_size, op.dilation))
    pads = _pads(shape, (height, width), op.stride, op.padding)
    conv = nn.Conv2d if _even(pads) else PaddedConv
    module = conv(
        shape[-1],
        op.features,
        op.kernel_size,
        op.stride,
        (pads[2], pads[0]) if _even(pads) else 0,
        op.dilation,
        op.groups,
        op.use_bias,
    )
    if isinstance(module, PaddedConv):
        module.pads = pads
    return module


def _pool(op: ops.Pool, shape: tuple[int, ...]) -> nn.Module:
    assert op.stride is not None  # set on construction
    pads = _pads(shape, op.window, op.stride, op.padding)
    padding = (pads[2], pads[0]) if _even(pads) else 0
    if isinstance(op, ops.MaxPool):
        pool: nn.Module = nn.MaxPool2d(op.window, op.stride, padding)
        return pool if _even(pads) else nn.Sequential(nn.ConstantPad2d(pads, -torch.inf), pool)
    if _even(pads):
        return nn.AvgPool2d(op.window, op.stride, padding, count_include_pad=False)
    return PaddedAvgPool(op.window, op.stride, pads, shape)


class PaddedConv(nn.Conv2d):
    """A convolution with more padding on one side than on the other."""

    pads: Pads = (0, 0, 0, 0)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(F.pad(input, self.pads))


class PaddedAvgPool(nn.Module):
    """A mean over windows with more padding on one side, left out of the mean."""

    share: Tensor

    def __init__(
        self, window: ops.Pair, stride: ops.Pair, pads: Pads, shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.window, self.stride, self.pads = window, stride, pads
        ones = F.pad(torch.ones(1, 1, shape[0], shape[1]), pads)
        self.register_buffer("share", F.avg_pool2d(ones, window, stride))

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(F.pad(x, self.pads), self.window, self.stride) / self.share


class WeightedSum(nn.Module):
    """The sum of some tensors, each times its weight."""

    weights: Tensor

    def __init__(self, num: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.full((num,), 1 / num))

    def forward(self, *xs: Tensor) -> Tensor:
        total = self.weights[0] * xs[0]
        for weight, x in zip(self.weights[1:], xs[1:]):
            total = total + weight * x
        return total


class GlobalAvgPool(nn.Module):
    """Mean over height and width."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class Flatten(nn.Module):
    """Channels fastest, as in nash_jax: in the memory format `channels_last`, only a view."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x.permute(0, 2, 3, 1).flatten(1)


class Affine(nn.Module):
    """`scale * x + bias` per channel."""

    def __init__(self, channels: int, trailing: tuple[int, ...]) -> None:
        super().__init__()
        self.trailing = trailing
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.view(-1, *self.trailing)
        return torch.addcmul(self.bias.view(-1, *self.trailing), x, weight)


class Normalize(nn.Module):
    """`(x - mean) / std` per channel, with constants."""

    mean: Tensor
    std: Tensor

    def __init__(self, op: ops.Normalize, trailing: tuple[int, ...]) -> None:
        super().__init__()
        for name, values in (("mean", op.mean), ("std", op.std)):
            self.register_buffer(name, torch.tensor(values).view(-1, *trailing))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class PadChannels(nn.Module):
    """Adds channels of zeros before and after the others."""

    def __init__(self, op: ops.PadChannels, trailing: tuple[int, ...]) -> None:
        super().__init__()
        self.pads = [*(0, 0) * len(trailing), op.before, op.after]

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.pads)


class Zero(nn.Module):
    """Zeros; of every `stride` pixels one is left."""

    def __init__(self, op: ops.Zero) -> None:
        super().__init__()
        self.rows, self.columns = op.stride

    def forward(self, x: Tensor) -> Tensor:
        return 0 * x[:, :, :: self.rows, :: self.columns]


class Shift(nn.Module):
    """Moves a map up and to the left."""

    def __init__(self, op: ops.Shift) -> None:
        super().__init__()
        self.rows, self.columns = op.rows, op.columns

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, self.columns, 0, self.rows))[:, :, self.rows :, self.columns :]


class Gate(nn.Module):
    """Every channel of a map times a number."""

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        return x * gate[:, :, None, None]


class Add(nn.Module):
    """Sum of the inputs."""

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            x = x + other
        return x


class Concat(nn.Module):
    """The inputs' channels side by side."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, dim=1)


class Mix(nn.Module):
    """`lambda * f + (1 - lambda) * h`, lambda learnable."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, f: Tensor, h: Tensor) -> Tensor:
        dtype = torch.promote_types(f.dtype, h.dtype)  # under autocast, they may differ
        return torch.lerp(h.to(dtype), f.to(dtype), self.weight.to(dtype))


_TORCH_NAMES = {
    "kernel": "weight",
    "scale": "weight",
    "lambda": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
    "weights": "weights",
}


@torch.no_grad()
def load(module: TorchNetwork, variables: dict[str, Any]) -> None:
    """Copy the variables of nash_jax into a network of the same spec."""
    for node, part in zip(module.spec.nodes, module.parts):
        for collection in variables.values():
            for name, array in collection.get(node.name, {}).items():
                tensor = torch.tensor(np.asarray(array, np.float32))
                if name == "kernel":  # [height, width, in, out] or [in, out]
                    tensor = tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor.T
                getattr(part, _TORCH_NAMES[name]).copy_(tensor)


def optimizer(module: TorchNetwork, settings: TrainingSettings) -> torch.optim.SGD:
    """SGD as in `nash_jax.training.direction`; kernels alone are decayed.

    With momentum m, gradient g and trace t, both compute t = g + m t, then the step g + m t, and
    scale it by the learning rate of the moment.
    """
    kernels = [p.weight for p in module.parts if isinstance(p, nn.Conv2d | nn.Linear)]
    others = [p for p in module.parameters() if all(p is not kernel for kernel in kernels)]
    return torch.optim.SGD(
        [
            {"params": kernels, "weight_decay": settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=settings.lr_start,
        momentum=settings.momentum,
        nesterov=settings.momentum > 0,
        fused=True,
    )


def pixels(images: np.ndarray | Tensor, device: str = "cpu") -> Tensor:
    """Images `[batch, height, width, channels]` as floats for the network.

    `permute` makes a view, and NHWC in memory is what PyTorch calls `channels_last`.
    """
    return torch.as_tensor(images, device=device).permute(0, 3, 1, 2).float()


def update(
    module: TorchNetwork,
    optimizer: torch.optim.Optimizer,
    images: np.ndarray | Tensor,
    labels: np.ndarray | Tensor,
    rate: float,
    device: str = "cpu",
    autocast: torch.dtype | None = None,
) -> Tensor:
    """One step of SGD on one batch.

    Args:
      module: the network, in training mode and on the device.
      optimizer: as `optimizer` makes it.
      images: `[batch, height, width, channels]`, pixels or floats.
      labels: `[batch]`.
      rate: the learning rate.
      device: 'cpu' or 'cuda'.
      autocast: reduced precision, such as `torch.bfloat16`; None for float32.

    Returns:
      The mean loss on the batch, still on the device.
    """
    x = pixels(images, device)
    y = torch.as_tensor(labels, device=device).long()
    with torch.autocast(torch.device(device).type, autocast, enabled=autocast is not None):
        logits = module(x)
    loss = F.cross_entropy(logits.float(), y)
    loss.backward()
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()


def train(
    module: TorchNetwork,
    examples: Examples,
    epochs: int,
    settings: TrainingSettings,
    seed: int = 0,
    device: str = "cpu",
    autocast: torch.dtype | None = None,
) -> float:
    """Train as `nash_jax.training.fit` does: one cosine, a new order in every epoch.

    The images stay on the device. On CUDA, the first updates include the search for the fastest
    convolutions, which is to PyTorch what compiling is to JAX.

    Returns:
      Seconds of the training itself, without the way of the images to the device.
    """
    check_batch_size(settings, len(examples))
    num_batches = len(examples) // settings.batch_size
    rates = learning_rates(settings, epochs * num_batches).tolist()
    _use_fast_kernels(device)
    module.to(device).train()
    sgd = optimizer(module, settings)
    generator = torch.Generator(device).manual_seed(seed)
    pad = settings.crop_padding
    images = F.pad(torch.as_tensor(examples.images, device=device), (0, 0, pad, pad, pad, pad))
    labels = torch.as_tensor(examples.labels, device=device).long()
    _synchronize(device)
    start = time.perf_counter()
    for epoch in range(epochs):
        order = torch.randperm(len(examples), generator=generator, device=device)
        batches = order[: num_batches * settings.batch_size].view(num_batches, -1)
        for number, index in enumerate(batches):
            x = augmented(images, index, settings, generator)
            update(
                module,
                sgd,
                x,
                labels[index],
                rates[epoch * num_batches + number],
                device=device,
                autocast=autocast,
            )
    _synchronize(device)
    return time.perf_counter() - start


def augmented(
    padded: Tensor, index: Tensor, settings: TrainingSettings, generator: torch.Generator
) -> Tensor:
    """A batch of images, cropped, flipped and cut out at random, each in its own way.

    Args:
      padded: all images, `[n, height, width, channels]`, with `crop_padding` black pixels around.
      index: which images make the batch.
      settings: `crop_padding`, `flip` and `cutout`.
      generator: of random numbers, on the device.
    """
    device, pad, batch = padded.device, settings.crop_padding, len(index)
    height, width = padded.shape[1] - 2 * pad, padded.shape[2] - 2 * pad
    rows = torch.arange(height, device=device).expand(batch, -1)
    columns = torch.arange(width, device=device).expand(batch, -1)

    def draw(below: int) -> Tensor:
        return torch.randint(below, (batch, 1), generator=generator, device=device)

    if settings.flip:
        columns = torch.where(draw(2) == 1, columns.flip(1), columns)
    if pad:
        rows, columns = rows + draw(2 * pad + 1), columns + draw(2 * pad + 1)
    # One gather takes the batch, crops and flips; without either, rows of memory are copied whole.
    if settings.flip or pad:
        images = padded[index[:, None, None], rows[:, :, None], columns[:, None, :]]
    else:
        images = padded[index]
    if settings.cutout:
        in_rows = _square(height, draw(height), settings.cutout)
        in_columns = _square(width, draw(width), settings.cutout)
        cut = in_rows[:, :, None] & in_columns[:, None, :]
        images.masked_fill_(cut[..., None], 0)
    return images


def _square(size: int, middle: Tensor, edge: int) -> Tensor:
    """Which rows or columns are in the square, `[batch, size]`."""
    place = torch.arange(size, device=middle.device) - (middle - edge // 2)
    return (place >= 0) & (place < edge)


@dataclasses.dataclass(frozen=True)
class Score:
    """The share of images that are classified right, and the seconds that it took to find out."""

    accuracy: float
    seconds: float


@torch.inference_mode()
def evaluate(
    module: TorchNetwork,
    examples: Examples,
    batch_size: int = 256,
    device: str = "cpu",
    autocast: torch.dtype | None = None,
) -> Score:
    """Accuracy in evaluation mode."""
    module.to(device).eval()
    images = torch.as_tensor(examples.images, device=device)
    labels = torch.as_tensor(examples.labels, device=device)
    _synchronize(device)
    start = time.perf_counter()
    right = torch.zeros((), dtype=torch.int64, device=device)
    with torch.autocast(torch.device(device).type, autocast, enabled=autocast is not None):
        for x, y in zip(images.split(batch_size), labels.split(batch_size)):
            right += (module(pixels(x, device)).argmax(1) == y).sum()
    accuracy = right.item() / len(examples)  # waits for the device
    return Score(accuracy, time.perf_counter() - start)


def _use_fast_kernels(device: str) -> None:
    """On CUDA: try convolution algorithms out, and TF32 in matrix products, as XLA does."""
    if torch.device(device).type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")


def _synchronize(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
