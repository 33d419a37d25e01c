"""A network as a table for people."""

from __future__ import annotations

from nash_jax.architecture import ops
from nash_jax.architecture.cost import count_flops, count_params, node_params
from nash_jax.architecture.spec import Architecture


def table(spec: Architecture) -> str:
    """One line per node: name, op, what it reads, output shape, trainable parameters."""
    rows = [("node", "op", "reads", "output", "params")]
    rows.append(("input", "", "", _shape(spec.input_shape), ""))
    for node in spec.nodes:
        params = node_params(spec, node)
        shape = _shape(spec.shapes[node.name])
        reads = ", ".join(node.inputs)
        rows.append(
            (node.name, ops.describe(node.op), reads, shape, f"{params:,}" if params else "")
        )
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        "  ".join(cell.ljust(w) for cell, w in zip(row[:-1], widths))
        + "  "
        + row[-1].rjust(widths[-1])
        for row in rows
    ]
    title = (
        f"Architecture: {_shape(spec.input_shape)} images, {spec.num_classes} classes, "
        f"{count_params(spec):,} parameters, {count_flops(spec) / 1e6:,.2f} MFLOPs per image"
    )
    return "\n".join([title, *(line.rstrip() for line in lines)])


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
