"""The weight halves under JAX's transformations, in three types, and on several devices."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from edit_cases import KEY, KINDS, case, error, sites
from helpers import random_images, random_variables
from zoo import ZOO

import nash_jax as nj
from nash_jax import morphisms
from nash_jax.morphisms import Sequence, Widen

NAME = "concats"


def one_case(kind, dtype=jnp.float32):
    """The first case of an edit on one network that all edits apply to."""
    return next(c for n in range(len(sites(NAME, kind))) if (c := case(NAME, kind, n, dtype)))


def assert_close(new, old, dtype=jnp.float32):
    """Equal up to the rounding of a few operations; most arrays are only moved."""
    assert jax.tree.structure(new) == jax.tree.structure(old)
    for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(old)):
        assert a.dtype == b.dtype == dtype
        assert error(a, b) <= 4 * float(jnp.finfo(dtype).eps) if np.any(b) else not np.any(a)


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_and_on_the_host_are_the_same_in_all_types(kind):
    for dtype in (jnp.bfloat16, jnp.float32, jnp.float64):
        with jax.enable_x64(dtype == jnp.float64):
            spec, variables, edit = one_case(kind, dtype)
            changed, new = edit(spec, variables, KEY)
            compiled = jax.jit(lambda v, k, edit=edit, spec=spec: edit.transfer(spec, v, k))
            assert_close(compiled(variables, KEY), new, dtype)
            inside = jax.jit(lambda v, k, edit=edit, spec=spec: edit(spec, v, k))
            assert inside(variables, KEY)[0] == changed
            assert_close(inside(variables, KEY)[1], new, dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_a_compiled_function_may_close_over_what_it_grows(kind):
    spec, variables, edit = one_case(kind)
    assert_close(jax.jit(lambda: edit(spec, variables, KEY)[1])(), edit(spec, variables, KEY)[1])
    fresh = jax.jit(lambda: nj.init(spec, KEY))()
    assert_close(fresh, nj.init(spec, KEY))


@pytest.mark.parametrize("kind", KINDS)
def test_a_population_grows_in_one_call_and_gradients_flow_through(kind):
    spec, variables, edit = one_case(kind)
    _, alone = edit(spec, variables, KEY)
    stacked = jax.tree.map(lambda x: jnp.stack([x, 0.5 * x, x]), variables)
    keys = jax.random.split(jax.random.key(1), 2)
    keys = jnp.stack([KEY, keys[0], keys[1]])
    grown = jax.jit(jax.vmap(lambda v, k: edit.transfer(spec, v, k)))(stacked, keys)
    assert_close(jax.tree.map(lambda x: x[0], grown), alone)

    def total(params):
        new = edit.transfer(spec, {**variables, "params": params}, KEY)
        return sum(jnp.sum(x) for x in jax.tree.leaves(new["params"]))

    gradient = jax.grad(total)(variables["params"])
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))
    if not kind.startswith(("Remove", "Fold")):
        # Every old weight is in the new network: once, or shared among copies.
        expected = 0 if kind == "WidenByCopies" else 1
        assert all((np.asarray(x) >= expected).all() for x in jax.tree.leaves(gradient))


def test_a_calibrated_population():
    spec = ZOO["plain"]()
    edit = Sequence((morphisms.Deepen("relu1"), Widen("conv4", 6)))
    members = [random_variables(spec, seed) for seed in range(2)]
    images = random_images(spec)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *members)
    keys = jax.random.split(KEY, 2)
    grown = jax.vmap(lambda v, k: edit.transfer(spec, v, k, images))(stacked, keys)
    for number, (member, key) in enumerate(zip(members, keys)):
        _, alone = edit(spec, member, key, images)
        jax.tree.map(
            lambda p, a, number=number: np.testing.assert_allclose(
                p[number], a, rtol=1e-4, atol=1e-5
            ),
            grown,
            alone,
        )


def test_nothing_is_compiled_for_a_concrete_network():
    spec = nj.chain((8, 8, 1), 10, (4, 6))
    variables = nj.init(spec, KEY)
    edits = [Widen("conv1", 8), morphisms.Deepen("relu2"), morphisms.SkipConcat("relu1", "relu2")]
    for edit in edits:
        edit(spec, variables, KEY)  # the generator of random numbers is compiled by its size
    other = nj.chain((8, 8, 1), 10, (5, 7))
    variables = nj.init(other, KEY)
    edits[0] = Widen("conv1", 9)
    messages = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: messages.append(name)
    )
    try:
        for edit in edits:
            edit(other, variables, KEY)
    finally:
        jax.monitoring.clear_event_listeners()
    assert not [name for name in messages if "backend_compile" in name]


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
import nash_jax as nj
from nash_jax import morphisms as m, ops

assert len(jax.devices()) == 8
mesh = Mesh(np.array(jax.devices()), ("model",))
key = jax.random.key(0)
spec = nj.chain((8, 8, 1), 8, (16, 32))
whole = nj.init(spec, key)
images = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype(np.float32)

def shard(x):
    axes = [None] * (x.ndim - 1) + ["model"] if x.ndim else []
    return jax.device_put(x, NamedSharding(mesh, P(*axes)))

def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)

edits = (
    *(m.Widen("conv1", 24), m.WidenByCopies("conv2", 64), m.Deepen("relu1")),
    *(m.GrowKernel("conv1", 5), m.SkipConcat("relu1", "relu2")),
    m.Blend("relu1", "relu1", (ops.Conv(16), ops.Gelu())),
    *(m.Bottleneck("conv1", 9), m.FoldBatchNorm("bn1"), m.Widen("conv1", 17)),
)
for edit in edits:
    sharded = jax.tree.map(shard, whole)
    expected_spec, expected = edit(spec, whole, key)
    # No array visits the host, and none is put whole on one device.
    with jax.transfer_guard_device_to_host("disallow"):
        grown, new = edit(spec, sharded, key)
    assert grown == expected_spec
    jax.tree.map(close, new, expected)
    for (path, x), old in zip(jax.tree_util.tree_leaves_with_path(new), jax.tree.leaves(expected)):
        assert len(x.sharding.device_set) == 8, path
        node, name = path[1].key, path[2].key
        was_there = name in sharded[path[0].key].get(node, {})
        if was_there and x.shape[-1] % 8 == 0:
            assert x.addressable_shards[0].data.size * 8 == x.size, (edit, path)
    untouched = set(spec.shapes) - edit.change(spec).touched
    for name in untouched & set(new["params"]):
        assert all(new["params"][name][n] is x for n, x in sharded["params"][name].items())
    compiled = jax.jit(lambda v: edit.transfer(spec, v, key))(sharded)
    jax.tree.map(close, compiled, expected)
    kernel = compiled["params"]["conv2"]["kernel"]
    assert len(kernel.sharding.device_set) == 8
print("sharded edits agree")
"""


@pytest.mark.slow
def test_sharded_arrays_stay_on_their_eight_devices():
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8",
    }
    done = subprocess.run(
        [sys.executable, "-c", SHARDED], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "sharded edits agree" in done.stdout
