"""The paper's four edits as functions.

Each takes an architecture, its variables, which stay as they are, and a key for new weights, and
returns the grown architecture and its variables. Each raises `ValueError` if the edit does not
apply, or the variables do not fit the architecture.
"""

from __future__ import annotations

from typing import Any

import jax

from nash_jax.architecture import Architecture, Variables
from nash_jax.morphisms.branches import SkipAdd, SkipConcat
from nash_jax.morphisms.deepen import Deepen
from nash_jax.morphisms.widen import Widen


def deepen(
    spec: Architecture,
    variables: Variables,
    key: jax.Array,
    *,
    after: str,
    kernel_size: int = 3,
    calibration: Any = None,
) -> tuple[Architecture, Variables]:
    """Insert Conv-BatchNorm-Relu behind a node, all three passing their input on (eqs. 2, 3, 5).

    Args:
      spec, variables, key: as in all edits; the key is not used.
      after: the node, whose output must be a feature map without negative values.
      kernel_size: of the convolution.
      calibration: images `[batch, height, width, channels]` on which training mode is preserved
        too; without them, evaluation mode is.

    >>> import nash_jax as nj
    >>> spec = nj.chain((8, 8, 1), 10, widths=(4,))
    >>> key = jax.random.key(0)
    >>> grown, _ = deepen(spec, nj.init(spec, key), key, after='relu1', kernel_size=5)
    >>> [node.name for node in grown.nodes][:6]
    ['conv1', 'bn1', 'relu1', 'conv2', 'bn2', 'relu2']
    """
    return Deepen(after, kernel_size)(spec, variables, key, calibration)


def widen(
    spec: Architecture, variables: Variables, key: jax.Array, *, node: str, features: int
) -> tuple[Architecture, Variables]:
    """Give a convolution or dense layer more outputs, read with zero weights at first (eq. 4).

    Layers whose widths are tied to it by sums or mixes are widened with it.

    Args:
      spec, variables, key: as in all edits.
      node: the convolution or dense layer.
      features: how many outputs it is to have, more than it has.

    >>> import nash_jax as nj
    >>> spec = nj.chain((8, 8, 1), 10, widths=(4,))
    >>> key = jax.random.key(0)
    >>> _, variables = widen(spec, nj.init(spec, key), key, node='conv1', features=6)
    >>> variables['params']['conv1']['kernel'].shape
    (3, 3, 1, 6)
    """
    return Widen(node, features)(spec, variables, key)


def skip_add(
    spec: Architecture, variables: Variables, key: jax.Array, *, source: str, target: str
) -> tuple[Architecture, Variables]:
    """Mix the output of a node into that of a later one, with weight 0 at first (eq. 6).

    The output `f` of `target` becomes `lambda * f + (1 - lambda) * h` with a learnable lambda of 1,
    where `h` is the output of `source`, max-pooled and projected by a 1x1 convolution where the
    shapes differ.

    Args:
      spec, variables, key: as in all edits.
      source: the node, or 'input', where the skip begins.
      target: the later node where it ends.

    >>> import nash_jax as nj
    >>> spec = nj.chain((8, 8, 1), 10, widths=(4, 6))
    >>> key = jax.random.key(0)
    >>> _, variables = skip_add(spec, nj.init(spec, key), key, source='relu1', target='relu2')
    >>> float(variables['params']['mix3']['lambda'])
    1.0
    """
    return SkipAdd(source, target)(spec, variables, key)


def skip_concat(
    spec: Architecture, variables: Variables, key: jax.Array, *, source: str, target: str
) -> tuple[Architecture, Variables]:
    """Join the output of a node to that of a later one, read with zero weights at first (eq. 4).

    Args:
      spec, variables, key: as in all edits; the key is for new units, where a sum ties the width of
        other layers to the join.
      source: the node, or 'input', where the skip begins; max-pooled where it is larger.
      target: the later node, whose readers read the join instead.

    >>> import nash_jax as nj
    >>> spec = nj.chain((8, 8, 1), 10, widths=(4, 6))
    >>> key = jax.random.key(0)
    >>> grown, _ = skip_concat(spec, nj.init(spec, key), key, source='relu1', target='relu2')
    >>> grown.shapes['concat3']
    (4, 4, 10)
    """
    return SkipConcat(source, target)(spec, variables, key)
