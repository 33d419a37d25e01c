"""How long one edit takes, on networks of about 10 million parameters and 200 to 2,000 nodes.

  python -m benchmarks.morphisms --repeats=15

A timed call does both halves of an edit: it rewrites and checks the spec, and carries the weights
over. Networks of different sizes and edits alternate, every repeat with a spec that was never used
before, and the table has medians. As in timeit, the garbage collector is off while the clock runs.
`copy` is the time to copy all arrays of the network. The very first call is given apart: it
compiles the generator of random numbers, once per power of two. Prints a table and writes
morphisms.json.
"""

from __future__ import annotations

import gc
import json
import pathlib
import platform
import statistics
import time

import jax
import jax.numpy as jnp
from absl import app, flags

import nash_jax as nj
from nash_jax import morphisms, ops

REPEATS = flags.DEFINE_integer("repeats", 15, "how often each edit is timed")
PARAMS = flags.DEFINE_integer("params", 10_000_000, "parameters of every network, about")
NODES = flags.DEFINE_multi_integer("nodes", [200, 632, 2000], "nodes of the networks")
OUT = flags.DEFINE_string("out", "morphisms.json", "file to write the figures to")


def residual_network(num_nodes: int, num_params: int) -> nj.Architecture:
    """Blocks of Conv-BatchNorm-Relu, with a sum around every second one."""
    blocks = (num_nodes - 3) * 2 // 7
    width = round((num_params / 9 / blocks) ** 0.5)
    nodes = [nj.Node("stem", ops.Conv(width), "input")]
    last = shortcut = "stem"
    for i in range(1, blocks + 1):
        nodes.append(nj.Node(f"bn{i}", ops.BatchNorm(), last))
        nodes.append(nj.Node(f"relu{i}", ops.Relu(), f"bn{i}"))
        nodes.append(nj.Node(f"conv{i}", ops.Conv(width), f"relu{i}"))
        last = f"conv{i}"
        if i % 2 == 0:
            nodes.append(nj.Node(f"add{i}", ops.Add(), (last, shortcut)))
            last = shortcut = f"add{i}"
    nodes.append(nj.Node("pool", ops.GlobalAvgPool(), last))
    nodes.append(nj.Node("dense", ops.Dense(10), "pool"))
    return nj.Architecture((32, 32, 3), tuple(nodes))


def edits(spec: nj.Architecture) -> list[morphisms.Edit]:
    """One edit of each kind in the middle of the network; widening is of a layer without ties."""
    middle = sum(isinstance(node.op, ops.Conv) for node in spec.nodes) // 4 * 2 + 1
    conv, relu, far = f"conv{middle}", f"relu{middle}", f"relu{middle + 3}"
    width = spec.shapes[conv][-1]
    return [
        morphisms.Insert(relu, ops.BatchNorm()),
        morphisms.Deepen(relu),
        morphisms.InsertSeparable(relu),
        morphisms.Duplicate(relu),
        morphisms.Widen(conv, 2 * width),
        morphisms.WidenByCopies(conv, 2 * width),
        morphisms.SkipAdd(relu, far),
        morphisms.SkipConcat(relu, far),
        morphisms.Blend(relu, relu, (ops.Gelu(),)),
        morphisms.Branch(relu, conv, (ops.Conv(width),)),
        morphisms.GrowKernel(conv, (5, 5)),
        morphisms.Bottleneck(conv, width),
        morphisms.FoldBatchNorm(f"bn{middle + 1}"),
    ]


def seconds(edit: morphisms.Edit, text: str, variables: object, key: jax.Array) -> float:
    """The time of one call of an edit, on a spec whose shapes and readers are not computed yet."""
    spec = nj.from_json(text)
    gc.collect()
    gc.disable()
    start = time.perf_counter()
    jax.block_until_ready(edit(spec, variables, key)[1])  # type: ignore[arg-type]
    elapsed = time.perf_counter() - start
    gc.enable()
    return elapsed


def main(_: list[str]) -> None:
    key = jax.random.key(0)
    networks = [residual_network(nodes, PARAMS.value) for nodes in NODES.value]
    texts = [nj.to_json(spec) for spec in networks]
    weights = [nj.init(spec, key) for spec in networks]
    jax.block_until_ready(weights)
    first = seconds(edits(networks[0])[4], texts[0], weights[0], key)
    times: dict[str, list[list[float]]] = {}
    for repeat in range(REPEATS.value + 1):
        for i, spec in enumerate(networks):
            start = time.perf_counter()
            jax.block_until_ready(jax.tree.map(jnp.copy, weights[i]))
            measured: dict[str, float] = {"copy": time.perf_counter() - start}
            for edit in edits(spec):
                measured[type(edit).__name__] = seconds(edit, texts[i], weights[i], key)
            if repeat:  # the first compiles
                for name, value in measured.items():
                    times.setdefault(name, [[] for _ in networks])[i].append(value)
    median = {name: [statistics.median(v) * 1e3 for v in rows] for name, rows in times.items()}
    print(
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, "
        f"jax {jax.__version__}, {jax.devices()[0].device_kind}; medians of {REPEATS.value}, ms; "
        f"first call of all {first * 1e3:.0f} ms"
    )
    sizes = [f"{len(s.nodes):,} nodes" for s in networks]
    print("| edit | " + " | ".join(sizes) + " | growth |")
    print("|---|" + "---|" * (len(sizes) + 1))
    for name, row in median.items():
        figures = " | ".join(f"{value:.1f}" for value in row)
        print(f"| {name} | {figures} | {row[-1] / row[0]:.1f}x |")
    print("parameters: " + ", ".join(f"{nj.count_params(spec):,}" for spec in networks))
    results = {
        "nodes": [len(spec.nodes) for spec in networks],
        "params": [nj.count_params(spec) for spec in networks],
        "first_ms": first * 1e3,
        "median_ms": median,
    }
    pathlib.Path(OUT.value).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    app.run(main)
