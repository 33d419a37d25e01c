"""An independent interpreter of a spec's JSON form, in NumPy and float64: evaluation mode only.

It shares no code with the package, so that agreement means something.
"""

from __future__ import annotations

import json
import math

import numpy as np


def numpy_apply(text: str, variables, images) -> np.ndarray:
    """The logits of a network given as JSON text, its variables and images."""
    spec = json.loads(text)
    params = {**variables["params"], **variables.get("arch", {})}
    stats = variables["batch_stats"]
    values = {"input": np.asarray(images, np.float64)}
    for node in spec["nodes"]:
        name, inputs = node["name"], [values[i] for i in node["inputs"]]
        p = {k: np.asarray(v, np.float64) for k, v in params.get(name, {}).items()}
        s = {k: np.asarray(v, np.float64) for k, v in stats.get(name, {}).items()}
        values[name] = _OPS[node["op"]](node, p, s, *inputs)
    return values[spec["nodes"][-1]["name"]]


def _pads(size, window, stride, padding):
    if padding == "VALID":
        return 0, 0
    total = max((math.ceil(size / stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def _slices(x, window, stride, padding, dilation=(1, 1), fill=0.0):
    """For each place in the window, the strided view of the padded x that it sees."""
    reach = [(w - 1) * d + 1 for w, d in zip(window, dilation)]
    pads = [_pads(x.shape[a + 1], reach[a], stride[a], padding) for a in (0, 1)]
    x = np.pad(x, [(0, 0), pads[0], pads[1], (0, 0)], constant_values=fill)
    rows, columns = [(x.shape[a + 1] - reach[a]) // stride[a] + 1 for a in (0, 1)]
    for i in range(window[0]):
        for j in range(window[1]):
            top, left = i * dilation[0], j * dilation[1]
            yield (
                (i, j),
                x[
                    :,
                    top : top + (rows - 1) * stride[0] + 1 : stride[0],
                    left : left + (columns - 1) * stride[1] + 1 : stride[1],
                ],
            )


def _conv(node, p, s, x):
    groups, kernel = node["groups"], p["kernel"]
    per_in, per_out = kernel.shape[2], kernel.shape[3] // groups
    total = 0.0
    for (i, j), view in _slices(
        x, node["kernel_size"], node["stride"], node["padding"], node["dilation"]
    ):
        parts = [
            view[..., g * per_in : (g + 1) * per_in]
            @ kernel[i, j, :, g * per_out : (g + 1) * per_out]
            for g in range(groups)
        ]
        total = total + np.concatenate(parts, axis=-1)
    return total + p.get("bias", 0.0)


def _max_pool(node, p, s, x):
    views = _slices(x, node["window"], node["stride"], node["padding"], fill=-np.inf)
    return np.max([view for _, view in views], axis=0)


def _avg_pool(node, p, s, x):
    def total(values):
        return sum(v for _, v in _slices(values, node["window"], node["stride"], node["padding"]))

    return total(x) / total(np.ones_like(x))


def flattened(node, vectors):
    size = node["length"] / math.sqrt(vectors.shape[1]) if node["length"] else 1
    return node["scale"] * size * vectors


def _shift(node, p, s, x):
    out = np.zeros_like(x)
    rows, columns = x.shape[1] - node["rows"], x.shape[2] - node["columns"]
    out[:, :rows, :columns] = x[:, node["rows"] :, node["columns"] :]
    return out


def _resize(node, p, s, x):
    old, new = x.shape[1:3], (node["height"], node["width"])
    rows, columns = ([(2 * i + 1) * m // (2 * n) for i in range(n)] for m, n in zip(old, new))
    return x[:, rows][:, :, columns]


_erf = np.vectorize(math.erf)
_OPS = {
    "Conv": _conv,
    "MaxPool": _max_pool,
    "AvgPool": _avg_pool,
    "Dense": lambda n, p, s, x: x @ p["kernel"] + p.get("bias", 0.0),
    "BatchNorm": lambda n, p, s, x: (
        (x - s["mean"]) / np.sqrt(s["var"] + n["epsilon"]) * p["scale"] + p["bias"]
    ),
    "Standardize": lambda n, p, s, x: (x - s["mean"]) / np.sqrt(s["var"] + n["epsilon"]),
    "Affine": lambda n, p, s, x: x * p["scale"] + p["bias"],
    "Relu": lambda n, p, s, x: np.maximum(x, 0),
    "LeakyRelu": lambda n, p, s, x: np.where(x > 0, x, n["negative_slope"] * x),
    "Elu": lambda n, p, s, x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "Gelu": lambda n, p, s, x: x * (1 + _erf(x / math.sqrt(2))) / 2,
    "Silu": lambda n, p, s, x: x / (1 + np.exp(-x)),
    "Tanh": lambda n, p, s, x: np.tanh(x),
    "Sigmoid": lambda n, p, s, x: 1 / (1 + np.exp(-x)),
    "GlobalAvgPool": lambda n, p, s, x: x.mean(axis=(1, 2)),
    "Flatten": lambda n, p, s, x: flattened(n, x.reshape(len(x), -1)),
    "Dropout": lambda n, p, s, x: x,
    "DropPath": lambda n, p, s, x: x,
    "Identity": lambda n, p, s, x: x,
    "Normalize": lambda n, p, s, x: (x - np.array(n["mean"])) / np.array(n["std"]),
    "PadChannels": lambda n, p, s, x: np.pad(
        x, [(0, 0)] * (x.ndim - 1) + [(n["before"], n["after"])]
    ),
    "Zero": lambda n, p, s, x: 0 * x[:, :: n["stride"][0], :: n["stride"][1]],
    "Shift": _shift,
    "Resize": _resize,
    "Shuffle": lambda n, p, s, x: x[..., np.arange(x.shape[-1]).reshape(n["groups"], -1).T.ravel()],
    "Gate": lambda n, p, s, x, gate: np.einsum("bhwc,bc->bhwc", x, gate),
    "Add": lambda n, p, s, *xs: sum(xs),
    "Concat": lambda n, p, s, *xs: np.concatenate(xs, axis=-1),
    "Mix": lambda n, p, s, f, h: p["lambda"] * f + (1 - p["lambda"]) * h,
    "WeightedSum": lambda n, p, s, *xs: np.einsum("i,i...->...", p["weights"], np.stack(xs)),
}
