"""Optimiser states carried along: training goes on as if nothing had happened."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from edit_cases import KEY, KINDS, case, error, sites
from helpers import random_images, random_variables
from zoo import ZOO

import nash_jax as nj
from nash_jax import morphisms, ops
from nash_jax.architecture import activations
from nash_jax.morphisms import Bottleneck, Deepen, Insert, Sequence, SkipConcat, Widen
from nash_jax.morphisms.change import origins

OPTIMIZERS = {
    "momentum": optax.chain(
        optax.add_decayed_weights(1e-3), optax.sgd(optax.cosine_decay_schedule(0.05, 9), 0.9, True)
    ),
    "adam": optax.adam(1e-2),
    "masked": optax.chain(
        optax.masked(optax.trace(0.9), lambda p: jax.tree.map(lambda x: x.ndim > 1, p)),
        optax.clip_by_global_norm(1.0),
        optax.inject_hyperparams(optax.adamw)(learning_rate=1e-3),
        optax.ema(0.9),
    ),
    "by kind": optax.multi_transform(
        {"kernel": optax.adam(1e-2), "other": optax.sgd(1e-2, momentum=0.9)},
        lambda params: {
            node: {name: "kernel" if name == "kernel" else "other" for name in arrays}
            for node, arrays in params.items()
        },
    ),
    "accumulated": optax.MultiSteps(optax.rmsprop(1e-2, momentum=0.5), every_k_schedule=2),
}


def step(optimizer, spec, frozen=()):
    """One jitted update; `frozen` normalisations use running statistics."""

    @jax.jit
    def update(variables, state, images, mask):
        def loss(params):
            values, updated = activations(
                spec, {**variables, "params": params}, images, train=True, frozen=frozen, key=KEY
            )
            return jnp.mean(values[spec.output] ** 2), updated["batch_stats"]

        gradient, stats = jax.grad(loss, has_aux=True)(variables["params"])
        gradient = jax.tree.map(jnp.multiply, gradient, mask)
        updates, state = optimizer.update(gradient, state, variables["params"])
        updates = jax.tree.map(jnp.multiply, updates, mask)
        params = optax.apply_updates(variables["params"], updates)
        return {"params": params, "batch_stats": stats}, state

    return update


def ones(params):
    return jax.tree.map(jnp.ones_like, params)


def old_entries(edit, spec, params, new_params):
    """A mask: 1 where an entry was there before the edit."""
    change = edit.change(spec)
    places = origins(change, params)
    return {
        node: {
            name: (places.get(node, {}).get(name, np.zeros(x.shape)) > 0) * jnp.ones_like(x)
            if node in change.touched
            else jnp.ones_like(x)
            for name, x in arrays.items()
        }
        for node, arrays in new_params.items()
    }


EDITS = {
    "widen": Widen("conv2", 9),
    "deepen": Deepen("relu1", 5),
    "skip": morphisms.SkipAdd("relu1", "relu3"),
    "concat": SkipConcat("relu1", "relu2"),
    "kernel": morphisms.GrowKernel("conv2", 5),
    "bottleneck": Bottleneck("conv1", 9),
    "blend": morphisms.Blend("relu2", "relu2", (ops.Conv(4), ops.Gelu())),
    "all": Sequence(
        (
            *(Deepen("relu2"), Widen("conv2", 8)),
            *(SkipConcat("relu1", "relu2"), Insert("relu1", ops.Affine())),
        )
    ),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_training_on_with_new_parameters_frozen_follows_the_run_without_the_edit(
    edit, optimizer, x64
):
    optimizer, spec = OPTIMIZERS[optimizer], ZOO["plain"]()
    variables, images = random_variables(spec, dtype=jnp.float64), random_images(spec, 8)
    state, update = optimizer.init(variables["params"]), step(optimizer, spec)
    for _ in range(3):
        variables, state = update(variables, state, images, ones(variables["params"]))

    grown, new = edit(spec, variables, KEY)
    params, new_params = variables["params"], new["params"]
    new_state = morphisms.transfer_state(edit, spec, state, params, new_params, optimizer)
    mask = old_entries(edit, spec, params, new_params)
    added = {n.name for n in grown.nodes if n.name not in spec.shapes}
    frozen = [n for n in added if isinstance(grown[n].op, ops.BatchNorm)]
    new_update = step(optimizer, grown, frozen)
    for _ in range(4):
        variables, state = update(variables, state, images, ones(variables["params"]))
        new, new_state = new_update(new, new_state, images, mask)
    assert error(nj.apply(grown, new, images), nj.apply(spec, variables, images)) <= 1e-9


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_any_chain_keeps_old_entries_and_starts_new_ones_fresh(optimizer):
    optimizer, spec = OPTIMIZERS[optimizer], ZOO["plain"]()
    variables, images = random_variables(spec), random_images(spec, 8)
    state, update = optimizer.init(variables["params"]), step(optimizer, spec)
    for _ in range(3):
        variables, state = update(variables, state, images, ones(variables["params"]))
    edit = EDITS["all"]
    grown, new = edit(spec, variables, KEY)
    params = variables["params"]
    carried = morphisms.transfer_state(edit, spec, state, params, new["params"], optimizer)
    fresh = optimizer.init(new["params"])
    assert jax.tree.structure(carried) == jax.tree.structure(fresh)
    old = dict(jax.tree_util.tree_leaves_with_path(state))
    places = origins(edit.change(spec), params)
    mirrored = 0
    for (path, leaf), start in zip(
        jax.tree_util.tree_leaves_with_path(carried), jax.tree.leaves(fresh)
    ):
        assert leaf.shape == start.shape
        assert leaf.dtype == start.dtype
        node, name = ([getattr(k, "key", None) for k in path[-2:]] + [None] * 2)[:2]
        if name not in new["params"].get(node, {}):
            np.testing.assert_array_equal(leaf, old[path])  # counts, rates
        elif path not in old:
            np.testing.assert_array_equal(leaf, start)
        elif node in places:
            place = places[node][name]
            np.testing.assert_array_equal(
                leaf, np.where(place > 0, np.ravel(old[path])[place - 1], start)
            )
            mirrored += 1
        else:
            assert leaf is old[path]
    assert mirrored
    # The optimiser accepts the state.
    step(optimizer, grown)(new, carried, images, ones(new["params"]))


@pytest.mark.parametrize("kind", KINDS)
def test_every_edit_carries_the_momentum(kind):
    optimizer = optax.sgd(0.1, momentum=0.9)
    name = "concats"
    assert sites(name, kind)
    spec, variables, edit = case(name, kind, 0)
    momentum = random_variables(spec, seed=3)["params"]
    state = (optax.TraceState(trace=momentum), optax.EmptyState())
    _, new = edit(spec, variables, KEY)
    carried = morphisms.transfer_state(
        edit, spec, state, variables["params"], new["params"], optimizer
    )
    assert jax.tree.map(np.shape, carried[0].trace) == jax.tree.map(np.shape, new["params"])
    if not kind.startswith(("Remove", "Fold")):
        # Every old number is there exactly once, and the rest are zeros.
        old = np.sort(np.concatenate([np.ravel(x) for x in jax.tree.leaves(momentum)]))
        now = np.concatenate([np.ravel(x) for x in jax.tree.leaves(carried[0].trace)])
        np.testing.assert_array_equal(np.sort(now[now != 0]), old[old != 0])


def test_an_average_of_the_weights_grows_with_the_same_key():
    spec = ZOO["plain"]()
    variables, average = random_variables(spec, 0), random_variables(spec, 1)
    images, edit = random_images(spec), EDITS["all"]
    grown, new = edit(spec, variables, KEY)
    _, new_average = edit(spec, average, KEY)
    old_logits = nj.apply(spec, average, images)
    assert error(nj.apply(grown, new_average, images), old_logits) <= 1e-5
    # What is new is the same in both.
    np.testing.assert_array_equal(
        new["params"]["conv2"]["kernel"][..., 4:], new_average["params"]["conv2"]["kernel"][..., 4:]
    )


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (optax.adafactor(1e-2, min_dim_size_to_factor=2), r"v_row.* has shape .* for bn1"),
        (optax.lbfgs(memory_size=2), "must have the shapes of the parameters; state.*memory"),
    ],
)
def test_a_state_that_does_not_mirror_the_parameters_is_refused(optimizer, message):
    spec = ZOO["plain"]()
    params = random_variables(spec)["params"]
    edit = Widen("conv2", 9)
    _, new = edit(spec, random_variables(spec), KEY)
    with pytest.raises(ValueError, match=message):
        morphisms.transfer_state(
            edit, spec, optimizer.init(params), params, new["params"], optimizer
        )


def test_a_state_under_jit():
    spec, optimizer, edit = ZOO["plain"](), OPTIMIZERS["adam"], EDITS["all"]
    variables = random_variables(spec)
    _, new = edit(spec, variables, KEY)
    params, new_params = variables["params"], new["params"]
    state = optimizer.init(params)

    @jax.jit
    def carry(state, params, new_params):
        return morphisms.transfer_state(edit, spec, state, params, new_params, optimizer)

    eager = morphisms.transfer_state(edit, spec, state, params, new_params, optimizer)
    jax.tree.map(np.testing.assert_array_equal, carry(state, params, new_params), eager)
