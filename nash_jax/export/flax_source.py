"""A network as Flax source that a person could have written, and that needs no nash_jax."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from typing import assert_never

from nash_jax.architecture import Architecture, Shape, count_flops, count_params, ops
from nash_jax.architecture.shapes import nearest
from nash_jax.architecture.spec import INPUT

_HEAD = '''"""A network that nash_jax found, as a Flax module; the weights are in {weights}.

python {source} IMAGES.npy    prints the class of each image, `[n, {shape}]`

It needs flax and numpy. {params:,} parameters, {flops:,.2f} MFLOPs per image.
"""

import pathlib
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

'''
_NAMES = """
#: The classes, in the order of the logits.
CLASS_NAMES = [
{names}]

"""
_AFFINE = '''
class Affine(nn.Module):
    """`scale * x + bias` per channel."""

    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
        return scale * x + bias

'''
_MIX = '''
class Mix(nn.Module):
    """`lambda * f + (1 - lambda) * h` with a learnable lambda."""

    @nn.compact
    def __call__(self, f, h):
        weight = self.param("lambda", nn.initializers.ones, ())
        return weight * f + (1 - weight) * h

'''
_WEIGHTED_SUM = """

class WeightedSum(nn.Module):
    @nn.compact
    def __call__(self, *xs):
        weights = self.variable("arch", "weights", lambda: jnp.full(len(xs), 1 / len(xs))).value
        return sum(weight * x for weight, x in zip(weights, xs))
"""
_CLASS = '''
class Network(nn.Module):
    """Logits `[batch, {classes}]` of images `[batch, {shape}]`, raw pixels from 0 to 255."""

    @nn.compact
    def __call__(self, images, train=False):
'''
_TAIL = '''

def load():
    """The trained variables, for `Network().apply(load(), images)`."""
    variables = {{"params": {{}}, "batch_stats": {{}}}}
    with np.load(pathlib.Path(__file__).with_name("{weights}"), allow_pickle=False) as file:
        for path in file.files:
            *nodes, name = path.split("/")
            place = variables
            for node in nodes:
                place = place.setdefault(node, {{}})
            place[name] = file[path]
    return variables


def main(path):
    sys.stdout.reconfigure(errors="backslashreplace")
    images = np.load(path, allow_pickle=False)
    for number in np.argmax(jax.jit(Network().apply)(load(), images), axis=1):
        print({shown})


if __name__ == "__main__":
    main(sys.argv[1])
'''


def flax_source(
    spec: Architecture, source: str, weights: str, class_names: Sequence[str] = ()
) -> str:
    """Python source of a module `Network` with the same layers, under the same names.

    Args:
      spec: the architecture.
      source: name that the file will have.
      weights: name of the `.npz` file beside it, with entries like `params/conv1/kernel`.
      class_names: of all classes, or none.
    """
    of_image = ", ".join(map(str, spec.input_shape))
    variables = {INPUT: "x"}
    lines = ["x = images.astype(jnp.float32)"]
    for node in spec.nodes:
        variables[node.name] = _identifier(node.name, set(variables.values()))
        inputs = [variables[name] for name in node.inputs]
        before, shape = spec.shapes[node.inputs[0]], spec.shapes[node.name]
        lines.append(
            f"{variables[node.name]} = {_expression(node.op, node.name, inputs, before, shape)}"
        )
    lines.append(f"return {variables[spec.output]}")
    kinds = {type(node.op) for node in spec.nodes}
    names = "".join(f"    {name!r},\n" for name in class_names)
    return (
        _HEAD.format(
            source=source,
            weights=weights,
            shape=of_image,
            params=count_params(spec),
            flops=count_flops(spec) / 1e6,
        )
        + (_NAMES.format(names=names) if names else "")
        + (_AFFINE if ops.Affine in kinds else "")
        + (_MIX if ops.Mix in kinds else "")
        + (_WEIGHTED_SUM if ops.WeightedSum in kinds else "")
        + _CLASS.format(classes=spec.num_classes, shape=of_image)
        + "".join(f"        {line}\n" for line in lines)
        + _TAIL.format(weights=weights, shown="CLASS_NAMES[number]" if names else "number")
    )


def _identifier(name: str, taken: set[str]) -> str:
    """A node's name as a Python variable of its own."""
    word = re.sub(r"\W", "_", name)
    reserved = {"images", "train", "self", "nn", "jnp", "np", "jax", "sys", "pathlib"}
    while keyword.iskeyword(word) or word in taken | reserved:
        word += "_"
    return word


def _expression(op: ops.Op, name: str, inputs: list[str], before: Shape, shape: Shape) -> str:
    """The expression that computes a node, of this shape, from its inputs, one `before`."""
    x, options = inputs[0], dict[str, tuple[object, object]]()
    match op:
        case ops.Conv():
            options = {
                "strides": (op.stride, (1, 1)),
                "feature_group_count": (op.groups, 1),
                "kernel_dilation": (op.dilation, (1, 1)),
                "use_bias": (op.use_bias, True),
                "padding": (op.padding, "SAME"),
                "name": (name, None),
            }
            return f"nn.Conv({op.features}, {op.kernel_size}, {_keywords(options)})({x})"
        case ops.Dense():
            options = {"use_bias": (op.use_bias, True), "name": (name, None)}
            return f"nn.Dense({op.features}, {_keywords(options)})({x})"
        case ops.BatchNorm():
            options = {"momentum": (op.momentum, None), "epsilon": (op.epsilon, None)}
            return f"nn.BatchNorm(not train, {_keywords(options)}, name={name!r})({x})"
        case ops.Dropout():
            return f"nn.Dropout({op.rate}, deterministic=not train, name={name!r})({x})"
        case ops.Standardize():
            options = {"momentum": (op.momentum, None), "epsilon": (op.epsilon, None)}
            options |= {"use_scale": (False, True), "use_bias": (False, True)}
            return f"nn.BatchNorm(not train, {_keywords(options)}, name={name!r})({x})"
        case ops.Affine() | ops.Mix() | ops.WeightedSum():
            return f"{type(op).__name__}(name={name!r})({', '.join(inputs)})"
        case ops.LeakyRelu():
            return f"nn.leaky_relu({x}, {op.negative_slope})"
        case ops.Gelu():
            return f"nn.gelu({x}, approximate=False)"
        case ops.Relu() | ops.Elu() | ops.Silu() | ops.Tanh() | ops.Sigmoid():
            return f"nn.{type(op).__name__.lower()}({x})"
        case ops.MaxPool() | ops.AvgPool():
            options = {"window_shape": (op.window, None), "strides": (op.stride, None)}
            options |= {"padding": (op.padding, "VALID")}
            if isinstance(op, ops.MaxPool):
                return f"nn.max_pool({x}, {_keywords(options)})"
            options |= {"count_include_pad": (False, True)}
            return f"nn.avg_pool({x}, {_keywords(options)})"
        case ops.GlobalAvgPool():
            return f"{x}.mean(axis=(1, 2))"
        case ops.Flatten():
            flat, factor = f"{x}.reshape({x}.shape[0], -1)", op.factor(shape[0])
            return flat if factor == 1 else f"{factor} * {flat}"
        case ops.Identity() | ops.DropPath():  # the latter is of training alone
            return x
        case ops.Normalize():
            mean, std = (f"jnp.float32({list(values)})" for values in (op.mean, op.std))
            return f"({x} - {mean}) / {std}"
        case ops.PadChannels():
            return f"jnp.pad({x}, {((0, 0),) * len(shape) + ((op.before, op.after),)})"
        case ops.Zero():
            return f"jnp.zeros_like({x}[:, :: {op.stride[0]}, :: {op.stride[1]}])"
        case ops.Shift():
            pads = ((0, 0), (0, op.rows), (0, op.columns), (0, 0))
            return f"jnp.pad({x}, {pads})[:, {op.rows} :, {op.columns} :]"
        case ops.Resize():
            rows, columns = (
                f"jnp.array({nearest(old, new).tolist()})" for old, new in zip(before[:2], shape)
            )
            return f"jnp.take(jnp.take({x}, {rows}, axis=1), {columns}, axis=2)"
        case ops.Shuffle():
            blocks = f"{x}.reshape(*{x}.shape[:-1], {op.groups}, -1)"
            return f"{blocks}.swapaxes(-1, -2).reshape({x}.shape)"
        case ops.Gate():
            return f"{x} * {inputs[1]}[:, None, None]"
        case ops.Add():
            return " + ".join(inputs)
        case ops.Concat():
            return f"jnp.concatenate([{', '.join(inputs)}], axis=-1)"
        case _:
            assert_never(op)


def _keywords(options: dict[str, tuple[object, object]]) -> str:
    """Arguments by name, without those that have the default anyway."""
    given = {key: value for key, (value, usual) in options.items() if value != usual}
    return ", ".join(f"{key}={value!r}" for key, value in given.items())
