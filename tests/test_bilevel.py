"""Training a supernet: the gradient of its edges, its own updates, and statistics of its parts."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import nash_jax as nj
from nash_jax import ops, policies
from nash_jax.architecture.builders import Builder
from nash_jax.data import Examples
from nash_jax.record.checkpoints import Writer, load_snapshot
from nash_jax.training import TrainingSettings, TrainState, bilevel, direction, parts, supernet

RATE = 0.1
SETTINGS = TrainingSettings(
    batch_size=4, lr_start=RATE, nesterov=False, weight_decay=0.1, clip_norm=0.5, crop_padding=0
)


def mixed_network():
    """Two edges of two choices, one of them a pool and one nothing, with normalisation."""
    b = Builder(ops.Standardize())
    x = b.add(b.norm, b.add(ops.Conv(3), "input"))
    pooled = b.add(b.norm, b.add(ops.MaxPool(3, 1, "SAME"), x))
    conv = b.add(b.norm, b.add(ops.Conv(3, 1), b.add(ops.Relu(), x)))
    y = b.add(ops.WeightedSum("first"), pooled, conv)
    z = b.add(ops.WeightedSum("second"), b.add(ops.Zero(), x), x)
    return b.classify(b.add(ops.Add(), y, z), 3, (3, 3, 2))


SPEC = mixed_network()


def images(seed, num=6):
    pixels = np.random.default_rng(seed).normal(size=(num, 3, 3, 2))
    return pixels, np.arange(num) % 3


def state_in_training(settings):
    """Weights and a momentum that is not zero, in float64."""
    variables = nj.init(SPEC, jax.random.key(0), jnp.float64)
    optimizer = direction(settings).init(variables["params"])
    rng = np.random.default_rng(1)
    optimizer = jax.tree.map(lambda x: jnp.asarray(0.1 * rng.normal(size=x.shape)), optimizer)
    return TrainState(variables, optimizer)


LOGITS = {"first": jnp.array([0.3, -0.2]), "second": jnp.array([0.1, 0.4])}


def validation_loss(logits, params, state, batch):
    variables = nj.architecture.with_edge_weights(
        SPEC, {**state.variables, "params": params}, bilevel.softmax(logits)
    )
    found, _ = nj.apply(SPEC, variables, batch[0], train=True)
    return optax.softmax_cross_entropy_with_integer_labels(found, batch[1]).mean()


@pytest.mark.parametrize("nesterov", [False, True])
def test_gradients_are_those_of_the_unrolled_loss(nesterov, x64):
    """Equations 6 to 8: against numbers, with momentum and weight decay in the step."""
    settings = dataclasses.replace(SETTINGS, nesterov=nesterov)
    state, train, valid = state_in_training(settings), images(2), images(3)
    params = state.variables["params"]
    logits = jax.tree.map(lambda x: x.astype(jnp.float64), LOGITS)

    @jax.jit
    def unrolled(logits, rate):
        gradients = jax.grad(validation_loss, argnums=1)(logits, params, state, train)
        unclipped = direction(dataclasses.replace(settings, clip_norm=0.0))
        steps, _ = unclipped.update(gradients, state.optimizer[1:], params)
        moved = jax.tree.map(lambda p, s: p - rate * s, params, steps)
        return validation_loss(logits, moved, state, valid)

    def numeric(rate):
        found, h = {}, 1e-5
        for edge, values in logits.items():
            found[edge] = []
            for place in range(len(values)):
                ends = (unrolled({**logits, edge: values.at[place].add(d)}, rate) for d in (h, -h))
                found[edge].append((next(ends) - next(ends)) / (2 * h))
        return jax.tree.map(np.asarray, {edge: np.array(x) for edge, x in found.items()})

    @functools.partial(jax.jit, static_argnums=0)
    def gradient(order, epsilon=0.01):
        return bilevel.edge_gradient(
            SPEC, state, logits, train, valid, RATE, jax.random.key(0), settings, order, epsilon
        )

    truth, second = numeric(RATE), gradient("second")
    chex.assert_trees_all_close(second, truth, atol=1e-8)
    chex.assert_trees_all_close(gradient("first"), numeric(0.0), atol=1e-8)
    assert max(np.abs(truth[e] - numeric(0.0)[e]).max() for e in truth) > 1e-3
    errors = [
        max(float(jnp.abs(finite[e] - second[e]).max()) for e in truth)
        for finite in (gradient("finite", epsilon) for epsilon in (1e-3, 1e-4))
    ]
    assert errors[1] < errors[0] / 50 < 1e-4  # of second order in epsilon


def test_a_large_logit_is_the_part_alone(x64):
    """Softmax weights go to zeros and ones."""
    variables = nj.init(SPEC, jax.random.key(0), jnp.float64)
    logits = {"first": jnp.array([60.0, -60.0]), "second": jnp.array([-60.0, 60.0])}
    weights = bilevel.softmax(logits)
    one_hot = {"first": np.array([1.0, 0.0]), "second": np.array([0.0, 1.0])}
    mixed, alone = (
        nj.architecture.with_edge_weights(SPEC, variables, each) for each in (weights, one_hot)
    )
    x = images(4)[0]
    part = nj.spaces.subnet(SPEC, alone)
    np.testing.assert_allclose(nj.apply(SPEC, mixed, x), nj.apply(*part, x), atol=1e-12)


def examples(seed, num=24):
    pixels = np.random.default_rng(seed).integers(0, 256, (num, 3, 3, 2), np.uint8)
    return Examples(pixels, np.arange(num) % 3)


def drawn(seed, number):
    ones = np.eye(2, dtype=np.float32)
    return {"first": ones[(seed + number) % 2], "second": ones[1]}


DRAWN = policies.Uniform(drawn)
WRITTEN = policies.Written(
    policies.Controller((2, 2), hidden=4),
    policies.ControllerSettings(steps=2, samples=2),
    lambda genotype: dict(zip(("first", "second"), np.eye(2, dtype=np.float32)[[*genotype]])),
)


RULES = {
    "edges": bilevel.EdgeSettings("first", lr=0.1),
    "drawn": DRAWN,
    "exp3": policies.Exp3(supernet.edges_of(SPEC)),
    "least squares": policies.LeastSquares(supernet.edges_of(SPEC)),
    "written": WRITTEN,
}


@pytest.mark.parametrize("rule", list(RULES))
def test_a_training_goes_on_where_it_was(rule, tmp_path):
    """A snapshot between two epochs that went through a file, and the same bits at the end."""
    variables, rule = nj.init(SPEC, jax.random.key(0)), RULES[rule]
    args = SPEC, variables, examples(5), examples(6), jax.random.key(1), 3, SETTINGS, rule
    taken = []

    def keep(take):
        if not taken:
            taken.append(take())
            with Writer(tmp_path) as writer:
                writer.write(taken[0])

    whole = supernet.fit_supernet(*args, checkpoint=keep)
    snapshot = load_snapshot(tmp_path, lambda: supernet.supernet_shapes(SPEC, SETTINGS, rule, 3))
    assert len(snapshot.losses) == 1
    again = supernet.fit_supernet(*args, resume=snapshot)
    chex.assert_trees_all_equal(again.fit.variables, whole.fit.variables)
    chex.assert_trees_all_equal(again.history, whole.history)
    assert whole.history["first"].shape == (3, 2)
    np.testing.assert_array_equal(again.fit.losses, whole.fit.losses)


@pytest.mark.parametrize("path", [{"first": [1.0, 0.0], "second": [0.0, 1.0]}, None])
def test_pieces_do_what_the_whole_does(path, x64):
    """Loss, gradients, statistics, and a step with clipping, momentum and decay."""
    state = state_in_training(SETTINGS)
    weights = bilevel.softmax(LOGITS) if path is None else {e: np.array(w) for e, w in path.items()}
    variables = nj.architecture.with_edge_weights(SPEC, state.variables, weights)
    pixels, labels = images(2)

    def loss_of(arrays):
        logits, new = nj.apply(SPEC, {**variables, **arrays}, pixels, train=True)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), new["batch_stats"]

    arrays = {name: variables[name] for name in ("params", "arch")}
    (loss, stats), wanted = jax.value_and_grad(loss_of, has_aux=True)(arrays)
    network, needed = parts.pieces_of(SPEC, state.variables, weights, {})
    found = network.gradients(
        needed,
        jnp.asarray(pixels),
        lambda logits: jax.value_and_grad(
            lambda x: optax.softmax_cross_entropy_with_integer_labels(x, labels).mean()
        )(logits),
    )
    np.testing.assert_allclose(found.loss, loss, rtol=1e-12)
    used = {name: wanted["params"][name] for name in found.params}
    chex.assert_trees_all_close(found.params, used, rtol=1e-9, atol=1e-14)
    others = {name: x for name, x in wanted["params"].items() if name not in used}
    assert not any(np.any(x) for x in jax.tree.leaves(others))
    assert bool(others) == (path is not None)
    chex.assert_trees_all_close(found.stats, {n: stats[n] for n in found.stats}, rtol=1e-12)
    if path is None:
        chex.assert_trees_all_close(found.arch, wanted["arch"], rtol=1e-9, atol=1e-14)
    params, trace = variables["params"], state.optimizer[-1].trace
    stepped = network.step(params, trace, found, RATE, SETTINGS)
    steps, after = direction(SETTINGS).update(wanted["params"], state.optimizer, params)
    moved = jax.tree.map(lambda p, s: p - RATE * s, params, steps)
    for name, arrays in params.items():
        if name in used:
            chex.assert_trees_all_close(stepped[0][name], moved[name], rtol=1e-6)
            chex.assert_trees_all_close(stepped[1][name], after[-1].trace[name], rtol=1e-6)
        else:
            chex.assert_trees_all_equal(stepped[0][name], arrays)


def test_by_pieces_or_not_trainings_and_judgements_are_alike(monkeypatch):
    variables, data = nj.init(SPEC, jax.random.key(0)), (examples(5), examples(6))
    edges, path = bilevel.EdgeSettings("first", lr=0.1), drawn(0, 0)
    found = []
    for pieces in (True, False):
        monkeypatch.setattr(parts, "by_pieces", lambda *_, pieces=pieces: pieces)
        trained = supernet.fit_supernet(
            SPEC, variables, *data, jax.random.key(1), 1, SETTINGS, edges
        )
        judged = parts.evaluate_path(
            SPEC, trained.fit.variables, path, *data, jax.random.key(2), SETTINGS
        )
        found.append((trained.fit.variables, trained.history, judged.accuracy, judged.loss))
    chex.assert_trees_all_close(*found, rtol=2e-3, atol=2e-5)


def test_frozen_edges_stay_and_others_move():
    variables = nj.init(SPEC, jax.random.key(0))
    edges = bilevel.EdgeSettings("first", lr=0.1, frozen_epochs=1)
    args = SPEC, variables, examples(5), examples(6), jax.random.key(1), 2, SETTINGS, edges
    found = supernet.fit_supernet(*args)
    scanned = supernet.fit_supernet(*args, scan=True)  # in chunks, as on accelerators
    chex.assert_trees_all_close(scanned.fit.variables, found.fit.variables, rtol=2e-3, atol=2e-5)
    chex.assert_trees_all_close(scanned.history, found.history, rtol=1e-4)
    np.testing.assert_allclose(scanned.fit.losses, found.fit.losses, rtol=1e-4)
    before, after = found.history["first"]
    np.testing.assert_allclose(before, [0.5, 0.5], atol=2e-3)
    assert np.abs(after - before).max() > 0.02
    weights = found.fit.variables["arch"]
    assert sum(float(arrays["weights"].sum()) for arrays in weights.values()) == pytest.approx(2)


def test_only_drawn_paths_learn():
    variables = nj.init(SPEC, jax.random.key(0))
    found = supernet.fit_supernet(
        SPEC,
        variables,
        examples(5),
        examples(6),
        jax.random.key(1),
        1,
        TrainingSettings(batch_size=8, weight_decay=0.0, crop_padding=0),
        policies.Uniform(lambda *_: {edge: np.array([1.0, 0.0]) for edge in ("first", "second")}),
    )
    (unused,) = (n.name for n in SPEC.nodes if n.op == ops.Conv(3, 1))
    for node, arrays in found.fit.variables["params"].items():
        same = jax.tree.all(jax.tree.map(np.array_equal, arrays, variables["params"][node]))
        assert same == (node == unused), node


def test_statistics_are_those_of_some_batches():
    """Of one batch that has all images: exactly theirs."""
    variables, data = nj.init(SPEC, jax.random.key(0)), examples(5)
    settings = TrainingSettings(batch_size=24)
    found = parts.recalibrated(SPEC, variables, data, jax.random.key(0), settings)
    values, _ = nj.architecture.activations(SPEC, variables, data.images, train=True)
    for node in SPEC.nodes:
        if isinstance(node.op, ops.Standardize):
            (read,) = node.inputs
            stats = found["batch_stats"][node.name]
            wanted = np.asarray(values[read], np.float64)
            np.testing.assert_allclose(stats["mean"], wanted.mean((0, 1, 2)), rtol=1e-3, atol=1e-3)
            np.testing.assert_allclose(stats["var"], wanted.var((0, 1, 2)), rtol=1e-3)


def test_bad_trainings():
    variables = nj.init(SPEC, jax.random.key(0))
    args = SPEC, variables, examples(5), examples(6), jax.random.key(1), 1, SETTINGS
    with pytest.raises(nj.training.TooLargeError, match="needs 0.00 GiB"):
        supernet.fit_supernet(*args, DRAWN, max_bytes=100)
    broken = policies.Uniform(lambda *_: {"first": np.array([np.nan, 0]), "second": np.ones(2)})
    with pytest.raises(nj.training.DivergedError, match="diverged: the training loss was nan"):
        supernet.fit_supernet(*args, broken)
    later = policies.Uniform(
        lambda seed, number: {
            "first": np.array([np.nan if number > 7 else 1.0, 0]),
            "second": np.eye(2)[0],
        }
    )
    found = supernet.fit_supernet(*args[:-2], 3, SETTINGS, later)  # 6 updates an epoch
    assert found.diverged == "diverged: the training loss was nan in epoch 2"
    assert np.isfinite(found.fit.losses).all()
    assert found.history["first"].shape == (1, 2)
    assert jax.tree.all(jax.tree.map(lambda x: np.isfinite(x).all(), found.fit.variables))
    with pytest.raises(ValueError, match="order must be one of first, second, finite; got 'third'"):
        bilevel.EdgeSettings("third")
