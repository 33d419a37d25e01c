"""An optimiser's state carried along with an edit, so that training goes on where it was."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import optax

from nash_jax.architecture import Architecture
from nash_jax.morphisms.change import origins
from nash_jax.morphisms.edits import Edit


def transfer_state(
    edit: Edit,
    spec: Architecture,
    state: optax.OptState,
    params: Any,
    new_params: Any,
    optimizer: optax.GradientTransformation,
) -> optax.OptState:
    """The state of an optimiser after an edit: old entries at their new places.

    Whatever mirrors the parameters (momentum, Adam's moments, averages of updates, slow weights)
    keeps its old entries and gets for new parameters what `optimizer.init` gives them: zeros for
    moments. Everything else (step counts, injected hyperparameters, random keys) stays as it is.
    For an exponential average of the weights themselves, use `edit.transfer` with the key that the
    weights were grown with: the averaged network then keeps its function too.

    Pure, and runs under `jax.jit` with `edit`, `spec` and `optimizer` closed over.

    Args:
      edit: the edit.
      spec: the architecture before it.
      state: the optimiser's state, of parameters `{node: {array: ...}}`.
      params: the parameters before the edit; their shapes matter alone.
      new_params: the parameters after it.
      optimizer: any optax chain whose states mirror the parameters.

    Returns:
      The state for `new_params`.

    Raises:
      ValueError: for a state that neither mirrors the parameters nor is independent of their
        shapes, such as Adafactor's factored moments.

    >>> import nash_jax as nj
    >>> spec, key = nj.chain((8, 8, 1), 10, widths=(4,)), jax.random.key(0)
    >>> variables, edit = nj.init(spec, key), nj.morphisms.Widen('conv1', 6)
    >>> optimizer = optax.sgd(0.1, momentum=0.9)
    >>> state = optimizer.init(variables['params'])
    >>> wider, grown = edit(spec, variables, key)
    >>> state = transfer_state(edit, spec, state, variables['params'], grown['params'], optimizer)
    >>> state[0].trace['conv1']['kernel'].shape
    (3, 3, 1, 6)
    """
    change = edit.change(spec)
    places = origins(change, params)
    fresh, treedef = jax.tree_util.tree_flatten_with_path(optimizer.init(new_params))
    old = dict(jax.tree_util.tree_flatten_with_path(state)[0])
    new = [_carried(p, leaf, old.get(p), params, new_params, places) for p, leaf in fresh]
    return jax.tree.unflatten(treedef, new)


def _carried(
    path: tuple[Any, ...], fresh: Any, old: Any, params: Any, new_params: Any, places: Any
) -> Any:
    """One array of a state. An array at `.../node/name` belongs to the parameter of that name."""
    node, name = ([getattr(key, "key", None) for key in path[-2:]] + [None, None])[:2]
    where = "state" + jax.tree_util.keystr(path)
    if name not in new_params.get(node, {}):
        if old is None or np.shape(old) != np.shape(fresh):
            raise ValueError(
                f"an optimiser's state must mirror the parameters or not depend on them; {where} "
                f"has shape {np.shape(fresh)} after the edit and {np.shape(old)} before; start "
                "this optimiser anew with optimizer.init"
            )
        return old
    if old is None:
        return fresh
    shapes = np.shape(params[node][name]), np.shape(new_params[node][name])
    if (np.shape(old), np.shape(fresh)) != shapes:
        raise ValueError(
            f"an optimiser's state must have the shapes of the parameters; {where} has shape "
            f"{np.shape(old)} for {node}/{name} of shape {shapes[0]}; start this optimiser anew "
            "with optimizer.init"
        )
    if node not in places or name not in places[node]:
        return old
    place = places[node][name]
    moved = old.ravel()[np.maximum(place - 1, 0)]
    return jax.numpy.where(place > 0, moved, fresh)
