"""Deeper: insert Conv-BatchNorm-Relu (NASH, end of section 3; Types I and III: eqs. 2, 3, 5).

The convolution and the normalisation start as identities, and Relu is idempotent: on values that
are not negative, the block passes its input on.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from nash_jax.architecture import Architecture, Node, Variables, activations, ops
from nash_jax.architecture.spec import fresh_names, insert_after
from nash_jax.architecture.weights import param_dtype
from nash_jax.morphisms.edits import both_halves, check_name, check_size
from nash_jax.morphisms.kernels import batch_norm_identity, identity_kernel, rebase_batch_norm
from nash_jax.morphisms.widths import carry


@dataclasses.dataclass(frozen=True)
class Deepen:
    """Insert Conv-BatchNorm-Relu behind the node `after`; all its readers read the block instead.

    The paper gives the new convolution as many channels as the closest preceding convolution. We
    take the channels of the place itself: the same number, but behind a concatenation, where
    the identity needs all of them.

    Preserved: evaluation mode, up to the rounding of one batch normalisation. With a calibration
    batch, training mode too, on that batch.
    """

    after: str
    kernel_size: int = 3

    def __post_init__(self) -> None:
        check_name(self, "after")
        check_size(self, "kernel_size")

    def _names(self, spec: Architecture) -> tuple[str, ...]:
        return fresh_names(spec, "conv", "bn", "relu")

    def grow(self, spec: Architecture) -> Architecture:
        spec.check_name(self.after)
        places = positions(spec)
        if self.after not in places:
            raise ValueError(
                f"cannot deepen after '{self.after}': its output must be a feature map without "
                f"negative values, so that Relu passes it on; choose one of {', '.join(places)}"
            )
        conv, bn, relu = self._names(spec)
        channels, size = spec.shapes[self.after][-1], (self.kernel_size, self.kernel_size)
        block = [
            Node(conv, ops.Conv(channels, size), self.after),
            Node(bn, ops.BatchNorm(), conv),
            Node(relu, ops.Relu(), bn),
        ]
        return Architecture(spec.input_shape, insert_after(spec, self.after, block, by=relu))

    def transfer(
        self, spec: Architecture, variables: Variables, key: jax.Array, calibration: Any = None
    ) -> Variables:
        grown = self.grow(spec)
        conv, bn, _ = self._names(spec)
        carried = carry(spec, grown, {}, variables, key)
        channels, dtype = spec.shapes[self.after][-1], param_dtype(variables)
        op = grown[bn].op
        assert isinstance(op, ops.BatchNorm)
        size = (self.kernel_size, self.kernel_size)
        carried["params"][conv] = {"kernel": identity_kernel(size, channels, dtype)}
        params, stats = batch_norm_identity(channels, op.epsilon, dtype)
        carried["params"][bn], carried["batch_stats"][bn] = params, stats
        if calibration is None:
            return carried
        return calibrate(grown, carried, calibration, [bn], key)

    __call__ = both_halves


def positions(spec: Architecture) -> tuple[str, ...]:
    """The nodes behind which `Deepen` applies: feature maps that are never negative."""
    nonnegative: set[str] = set()
    for node in spec.nodes:
        passes_on = isinstance(
            node.op,
            ops.Relu
            | ops.Sigmoid
            | ops.MaxPool
            | ops.AvgPool
            | ops.Dropout
            | ops.Identity
            | ops.PadChannels
            | ops.Add
            | ops.Concat,
        )
        makes = isinstance(node.op, ops.Relu | ops.Sigmoid)
        if makes or (passes_on and nonnegative.issuperset(node.inputs)):
            nonnegative.add(node.name)
    return tuple(
        node.name
        for node in spec.nodes
        if node.name in nonnegative and len(spec.shapes[node.name]) == 3
    )


def calibrate(
    spec: Architecture, variables: Variables, images: Any, nodes: list[str], key: jax.Array
) -> Variables:
    """Set batch normalisations to the statistics of `images`, keeping the function (eq. 3).

    Evaluation mode is unchanged for every image, and in training mode the nodes compute on this
    batch what they compute in evaluation.

    Args:
      spec: the architecture.
      variables: its variables; not changed.
      images: `[batch, height, width, channels]`.
      nodes: names of batch normalisations.
      key: for dropout, where the network has any.

    Raises:
      ValueError: if a node is no batch normalisation.
    """
    for name in nodes:
        if not isinstance(op := spec[name].op, ops.BatchNorm):
            raise ValueError(
                f"only batch normalisations are calibrated; got '{name}', a {type(op).__name__}"
            )
    values, _ = activations(spec, variables, images, train=True, key=key, frozen=nodes)
    calibrated = {collection: dict(arrays) for collection, arrays in variables.items()}
    for name in nodes:
        op, (source,) = spec[name].op, spec[name].inputs
        assert isinstance(op, ops.BatchNorm)
        axes = tuple(range(values[source].ndim - 1))
        calibrated["params"][name], calibrated["batch_stats"][name] = rebase_batch_norm(
            variables["params"][name],
            variables["batch_stats"][name],
            jnp.mean(values[source], axes),
            jnp.var(values[source], axes),
            op.epsilon,
        )
    return calibrated
