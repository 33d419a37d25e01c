"""Training: schedule, optimiser and augmentation by hand, and the contracts of fit and evaluate."""

import dataclasses
import functools
import math
import os
import subprocess
import sys
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import random_variables

import nash_jax as nj
from nash_jax import Node, data, ops, training
from nash_jax.training import TrainingSettings, epochs, loop, streaming
from nash_jax.training.loop import starting_state

PLAIN = TrainingSettings(batch_size=8, crop_padding=0, flip=False)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def digits():
    return data.load_dataset("digits").train.take(np.arange(200))


@pytest.fixture(scope="module")
def spec():
    return nj.chain((8, 8, 1), 10, (4, 8), ops.Normalize((78.0,), (96.0,)))


def test_the_rate_falls_by_one_cosine_from_start_to_end():
    rates = training.learning_rates(dataclasses.replace(PLAIN, lr_start=0.4, lr_end=0.1), 100)
    expected = 0.1 + 0.3 * (1 + np.cos(np.pi * np.arange(100) / 100)) / 2
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


def test_the_rate_rises_before_it_falls_and_lasts_with_the_training():
    settings = dataclasses.replace(PLAIN, lr_start=0.4, lr_end=0.1, warmup=0.2)
    rates = training.learning_rates(settings, 100)
    np.testing.assert_allclose(rates[:20], 0.02 * np.arange(20), atol=1e-6)
    falling = 0.1 + 0.3 * (1 + np.cos(np.pi * np.arange(80) / 80)) / 2
    np.testing.assert_allclose(rates[20:], falling, rtol=1e-5)
    for behind in (0.1, 0.5):  # within the warm-up, and after it
        rest = training.learning_rates(settings, round(100 * (1 - behind)), behind)
        np.testing.assert_allclose(rest, rates[round(100 * behind) :], rtol=1e-4)
    shown = [training.learning_rate(settings, place / 100) for place in range(100)]
    np.testing.assert_allclose(shown, rates, atol=1e-6)


@pytest.mark.parametrize("warmup", [0.0, 0.2])
def test_the_rates_of_a_long_training_are_one_schedule(warmup):
    settings = dataclasses.replace(PLAIN, lr_start=0.4, lr_end=0.1, warmup=warmup)
    whole = optax.cosine_decay_schedule(0.4, 5000, 0.25)
    if warmup:
        whole = optax.warmup_cosine_decay_schedule(0.0, 0.4, 1000, 5000, 0.1)
    np.testing.assert_array_equal(training.learning_rates(settings, 5000), whole(np.arange(5000)))
    rest = training.learning_rates(settings, 2500, progress=0.5)
    np.testing.assert_array_equal(rest, whole(np.arange(2500.0, 5000.0)))


def test_two_updates_of_nesterov_momentum_with_decay_of_kernels_by_hand():
    settings = dataclasses.replace(PLAIN, momentum=0.5, weight_decay=0.1)
    params = {"a": {"kernel": jnp.array(2.0), "bias": jnp.array(2.0)}}
    gradients = jax.tree.map(jnp.ones_like, params)
    optimizer = training.direction(settings)
    state = optimizer.init(params)
    first, state = optimizer.update(gradients, state, params)
    second, state = optimizer.update(gradients, state, params)
    # The kernel's gradient is 1 + 0.1 * 2; the trace is g, then g + 0.5 g; Nesterov looks ahead.
    np.testing.assert_allclose(first["a"]["kernel"], 1.2 + 0.5 * 1.2, rtol=1e-6)
    np.testing.assert_allclose(second["a"]["kernel"], 1.2 + 0.5 * 1.8, rtol=1e-6)
    np.testing.assert_allclose(first["a"]["bias"], 1.5, rtol=1e-6)


def test_one_update_by_hand():
    nodes = [
        Node("flat", ops.Flatten(), "input"),
        Node("dense", ops.Dense(2, use_bias=False), "flat"),
    ]
    tiny = nj.Architecture((1, 1, 1), nodes)
    variables = {"params": {"dense": {"kernel": jnp.zeros((1, 2))}}, "batch_stats": {}}
    settings = dataclasses.replace(PLAIN, batch_size=1, lr_start=0.5, momentum=0.0)
    one = data.Examples(np.full((1, 1, 1, 1), 3, np.uint8), np.array([1], np.int32))
    fitted = training.fit(tiny, variables, one, KEY, 1, settings)
    # Softmax gives 1/2 each; the gradient of the kernel is 3 * (1/2, -1/2).
    np.testing.assert_allclose(fitted.variables["params"]["dense"]["kernel"], [[-0.75, 0.75]])
    np.testing.assert_allclose(fitted.losses, np.log(2), rtol=1e-6)


def test_augmentation_crops_flips_and_cuts_out():
    images = jnp.arange(1, 1 + 64 * 4 * 5, dtype=jnp.int32).reshape(64, 4, 5, 1)
    settings = dataclasses.replace(PLAIN, crop_padding=2, flip=True, cutout=0)
    found = training.augment(images, KEY, settings)
    np.testing.assert_array_equal(found, training.augment(images, KEY, settings))
    padded = np.pad(images, [(0, 0), (2, 2), (2, 2), (0, 0)])
    flips, corners = 0, set()
    for number, image in enumerate(np.asarray(found)):
        crops = {
            (flip, i, j): padded[number, i : i + 4, j : j + 5][:, :: -1 if flip else 1]
            for flip in (False, True)
            for i in range(5)
            for j in range(5)
        }
        matching = [place for place, crop in crops.items() if (crop == image).all()]
        assert matching
        flips += matching[0][0]
        corners.add(matching[0][1:])
    assert 16 < flips < 48
    assert len(corners) > 15


def test_cutout_blackens_a_square_and_nothing_else():
    images = jnp.ones((50, 8, 8, 2))
    found = np.asarray(training.augment(images, KEY, dataclasses.replace(PLAIN, cutout=3)))
    black = (found == 0).all(axis=-1)
    assert ((found == 0).any(axis=-1) == black).all()
    sizes = {(int(b.any(1).sum()), int(b.any(0).sum())) for b in black}
    assert (3, 3) in sizes
    assert all(b.sum() == b.any(1).sum() * b.any(0).sum() for b in black)
    assert max(height for height, _ in sizes) == 3


def test_what_is_padded_and_cut_out_has_the_mean_colour():
    """The colour that the network's normalisation makes zero, as in the reference code of SGDR."""
    images = jnp.full((40, 8, 8, 2), 200, jnp.uint8)
    settings = dataclasses.replace(PLAIN, crop_padding=2, cutout=3)
    fill = np.array([90, 91], np.uint8)
    found = np.asarray(training.augment(images, KEY, settings, fill))
    assert {tuple(pixel) for pixel in found.reshape(-1, 2)} == {(200, 200), (90, 91)}
    nodes = [Node("norm", ops.Normalize((89.6, 300.0), (1.0, 1.0)), "input")]
    nodes += [Node("flat", ops.Flatten(), "norm"), Node("dense", ops.Dense(2), "flat")]
    assert epochs.mean_colour(nj.Architecture((8, 8, 2), nodes)).tolist() == [90, 255]
    assert epochs.mean_colour(nj.chain((8, 8, 2), 2, (3,))).tolist() == [0, 0]


def test_no_augmentation_leaves_the_images_as_they_are():
    images = jnp.arange(32, dtype=jnp.uint8).reshape(2, 4, 4, 1)
    np.testing.assert_array_equal(training.augment(images, KEY, PLAIN), images)


def test_training_learns_and_is_reproducible_and_changes_nothing_given(spec, digits):
    settings = dataclasses.replace(PLAIN, batch_size=32, crop_padding=1, lr_start=0.3)
    variables = nj.init(spec, KEY)
    before = jax.tree.map(np.array, variables)
    epochs = []
    fitted = training.fit(
        spec, variables, digits, KEY, 8, settings, lambda epoch, loss: epochs.append((epoch, loss))
    )
    again = training.fit(spec, variables, digits, KEY, 8, settings)
    chex.assert_trees_all_equal(variables, before)
    chex.assert_trees_all_equal(fitted.variables, again.variables)
    assert epochs == list(enumerate(fitted.losses, 1))
    assert fitted.losses[-1] < 0.6 * fitted.losses[0]
    assert training.evaluate(spec, fitted.variables, digits).accuracy > 0.6
    other = training.fit(spec, variables, digits, jax.random.key(1), 8, settings)
    assert list(other.losses) != list(fitted.losses)


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("members", [None, 2])
def test_a_training_goes_on_from_a_snapshot_bit_by_bit(spec, digits, scan, members):
    settings = dataclasses.replace(PLAIN, batch_size=32, crop_padding=1)
    key = KEY if members is None else jax.random.split(KEY, members)
    variables = (nj.init if members is None else jax.vmap(nj.init, (None, 0)))(spec, key)
    snapshots = []

    def checkpoint(take):
        taken = take()
        on_host = jax.tree.map(np.array, taken.state)
        snapshots.append(dataclasses.replace(taken, state=on_host))

    whole = training.fit(
        *(spec, variables, digits, key, 3, settings), scan=scan, checkpoint=checkpoint
    )
    assert [len(snapshot.losses) for snapshot in snapshots] == [1, 2]
    for snapshot in snapshots:
        told = []
        rest = training.fit(
            *(spec, {}, digits, key, 3, settings, lambda *epoch, told=told: told.append(epoch)),
            scan=scan,
            resume=snapshot,
        )
        chex.assert_trees_all_equal(rest.variables, whole.variables)
        np.testing.assert_array_equal(rest.losses, whole.losses)
        assert [epoch for epoch, _ in told] == list(range(len(snapshot.losses) + 1, 4))


def test_a_training_that_becomes_shorter_spreads_what_is_left_of_the_cosine(spec, digits):
    settings, asked, snapshots = dataclasses.replace(PLAIN, batch_size=32), [], []

    def decide(done, cosine):
        asked.append((done, cosine.epochs))
        return 3 if done == 1 else cosine.epochs

    def checkpoint(take):
        snapshots.append(dataclasses.replace(take(), state=jax.tree.map(np.array, take().state)))

    lengths = training.Lengths({}, decide)
    variables = nj.init(spec, KEY)
    data = (digits, KEY, 5, settings)
    shorter = training.fit(spec, variables, *data, lengths=lengths, checkpoint=checkpoint)
    assert asked == [(1, 5), (2, 3)]
    assert len(shorter.losses) == 3
    # One fifth of the cosine lies behind after the first epoch, three fifths after the second.
    cosine = training.Cosine(5).changed({1: 3}, 2)
    assert [cosine.progress(done) for done in (1, 2, 3)] == pytest.approx([0.2, 0.6, 1.0])
    known = training.Lengths({1: 3}, lambda done, cosine: cosine.epochs)
    for snapshot in snapshots:
        again = training.fit(spec, {}, *data, lengths=known, resume=snapshot)
        chex.assert_trees_all_equal(again.variables, shorter.variables)
    with pytest.raises(ValueError, match="more than the 1 epochs done; got 1"):
        training.fit(spec, variables, *data, lengths=training.Lengths({}, lambda done, _: done))


def test_a_training_begins_with_smaller_images_where_the_weights_fit_them(spec, digits):
    settings = dataclasses.replace(PLAIN, batch_size=50, crop_padding=1)
    assert training.smaller(spec) is None  # it ends in a dense layer on the map
    with pytest.raises(ValueError, match=r"progressive_resizing needs .* got another, for \(8, 8"):
        training.fit(spec, nj.init(spec, KEY), digits, KEY, 2, settings, progressive_resizing=0.5)
    ends_in_mean = nj.vgg((8, 8, 1), 10, (4,), ops.Normalize((78.0,), (96.0,)))
    small = training.smaller(ends_in_mean)
    assert small.input_shape == (5, 5, 1)
    variables, snapshots = nj.init(ends_in_mean, KEY), []

    def checkpoint(take):
        snapshots.append(dataclasses.replace(take(), state=jax.tree.map(np.array, take().state)))

    data = digits, KEY, 4, settings
    resized = {"progressive_resizing": 0.5}
    found = training.fit(ends_in_mean, variables, *data, checkpoint=checkpoint, **resized)
    # By hand: two epochs of one cosine on images that were cropped, then made smaller, ...
    size = (50, 5, 5, 1)
    rates = training.learning_rates(settings, 16)
    optimizer = training.direction(settings)
    state = training.TrainState(variables, optimizer.init(variables["params"]))
    update = jax.jit(functools.partial(training.update, small, settings=settings))
    for number in range(8):
        epoch, batch = divmod(number, 4)
        order_key, batches_key = jax.random.split(jax.random.fold_in(KEY, epoch))
        index = jax.random.permutation(order_key, 200)[50 * batch :][:50]
        augment_key, _ = jax.random.split(jax.random.fold_in(batches_key, batch))
        images = training.augment(digits.images[index], augment_key, settings, 78)
        images = np.rint(jax.image.resize(images.astype(np.float32), size, "linear"))
        labels = digits.labels[index]
        state, _ = update(state, images, labels, rates[number], KEY)
    chex.assert_trees_all_close(
        training.variables_in(ends_in_mean, snapshots[1], settings), state.variables, atol=1e-5
    )
    # ... and two of whole ones, also after a stop.
    for snapshot in snapshots:
        again = training.fit(ends_in_mean, {}, *data, resume=snapshot, **resized)
        chex.assert_trees_all_equal(again.variables, found.variables)
    rest = training.fit(ends_in_mean, {}, *data, resume=snapshots[1])
    chex.assert_trees_all_equal(rest.variables, found.variables)
    scanned = training.fit(ends_in_mean, variables, *data, scan=True, **resized)
    chex.assert_trees_all_close(scanned.variables, found.variables, atol=1e-4)


@pytest.mark.parametrize(
    ("edge", "widths", "expected"),
    [
        (32, (4, 8, 16, 32), 20),
        # Maps of 28, 14, 7 and 3: a skip from 7 to 3 pools windows of 3 by steps of 2, which makes
        # 1 of the 4 that images of 18 have, and 2 of the 5 that those of 20 have.
        (28, (4, 8, 16, 32), 20),
        (28, (4, 8, 16), 18),
        (8, (4,), 5),
    ],
)
def test_smaller_images_fit_all_skips_that_an_edit_can_add(edge, widths, expected):
    spec = nj.vgg((edge, edge, 1), 10, widths)
    small = training.smaller(spec)
    assert small.input_shape == (expected, expected, 1)
    for edit in (nj.morphisms.SkipAdd, nj.morphisms.SkipConcat):
        for site in edit.sites(spec):
            child = training.smaller(site.rewrite(spec))
            assert child.input_shape == small.input_shape


def test_short_trainings_end_with_whole_images():
    resizing = training.Resizing(0.5, 0.25)
    small = [
        [resizing.is_small(training.Cosine(epochs), epoch) for epoch in range(epochs)]
        for epochs in (1, 2, 3)
    ]
    assert small == [[False], [True, False], [True, False, False]]


def test_the_work_that_is_left_counts_smaller_images_less():
    resizing, cosine = training.Resizing(0.5, 0.25), training.Cosine(8)
    assert [resizing.work(cosine, epoch) for epoch in (0, 3, 4, 7)] == [0.25, 0.25, 1.0, 1.0]
    assert resizing.mean_work() == pytest.approx(5 / 8)
    assert resizing.mean_work(0.25) == pytest.approx((2 * 0.25 + 4) / 6)
    assert resizing.mean_work(0.75) == 1
    vgg, chain = nj.vgg((32, 32, 3), 10, (4, 8)), nj.chain((32, 32, 3), 10, (4, 8))
    cost = nj.count_flops(nj.vgg((20, 20, 3), 10, (4, 8))) / nj.count_flops(vgg)
    assert training.Resizing.of(vgg, 0.5) == training.Resizing(0.5, cost)
    assert training.Resizing.of(chain, 0.5) == training.Resizing()


def test_the_scanned_epoch_is_the_looped_one(spec, digits):
    settings = dataclasses.replace(PLAIN, batch_size=32, crop_padding=1, cutout=2, flip=True)
    variables = nj.init(spec, KEY)
    looped = training.fit(spec, variables, digits, KEY, 2, settings, scan=False)
    scanned = training.fit(spec, variables, digits, KEY, 2, settings, scan=True)
    np.testing.assert_allclose(looped.losses, scanned.losses, rtol=1e-4)


@pytest.mark.parametrize("members", [(), (2,)])
def test_a_streamed_training_is_that_on_images_in_memory(spec, digits, members):
    key = jax.random.split(KEY, members) if members else KEY
    variables = jax.vmap(lambda k: nj.init(spec, k))(key) if members else nj.init(spec, KEY)
    settings = dataclasses.replace(PLAIN, batch_size=16, crop_padding=1)
    looped = training.fit(spec, variables, digits, key, 2, settings, scan=False)
    streamed = training.fit(spec, variables, digits, key, 2, settings, stream=True)
    chex.assert_trees_all_equal(streamed.variables, looped.variables)
    np.testing.assert_array_equal(streamed.losses, looped.losses)


def test_images_that_are_too_many_for_the_device_are_streamed(spec, digits, monkeypatch):
    device = types.SimpleNamespace(memory_stats=lambda: {"bytes_limit": 2 * digits.images.nbytes})
    assert training.fits_on_device(digits, device)
    assert not training.fits_on_device(digits.join(digits), device)
    asked = []
    whole = streaming.streamed
    monkeypatch.setattr(epochs, "fits_on_device", lambda examples: False)
    monkeypatch.setattr(epochs, "streamed", lambda *args: asked.append(1) or whole(*args))
    training.fit(spec, nj.init(spec, KEY), digits, KEY, 2, PLAIN)
    assert len(asked) >= 2
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(ValueError, match="too many for the device's memory.*pip install"):
        training.fit(spec, nj.init(spec, KEY), digits, KEY, 1, PLAIN)


def test_the_update_is_compiled_once_whatever_the_length_the_set_and_the_names(spec, digits):
    variables = nj.init(spec, KEY)
    first = training.fit(spec, variables, digits, KEY, 1, PLAIN)
    other = training.fit(spec, variables, digits.take(np.arange(50)), KEY, 3, PLAIN)
    nodes = [
        Node(f"my_{n.name}", n.op, [i if i == "input" else f"my_{i}" for i in n.inputs])
        for n in spec.nodes
    ]
    same = nj.Architecture(spec.input_shape, nodes)
    theirs = {c: {f"my_{n}": a for n, a in nodes.items()} for c, nodes in variables.items()}
    fitted = training.fit(same, theirs, digits, KEY, 1, PLAIN)
    assert other.compile_seconds == fitted.compile_seconds == 0
    assert training.evaluate(spec, variables, digits, batch_size=37).compile_seconds > 0
    some = digits.take(np.arange(7))
    assert training.evaluate(same, theirs, some, batch_size=37).compile_seconds == 0
    with jax.default_matmul_precision("highest"):  # another program
        assert training.evaluate(same, theirs, some, batch_size=37).compile_seconds > 0
    for collection, nodes in first.variables.items():
        for name, arrays in nodes.items():
            chex.assert_trees_all_equal(arrays, fitted.variables[collection][f"my_{name}"])


def test_a_scanned_epoch_is_compiled_once_whatever_the_size_of_the_set(spec, digits):
    variables = nj.init(spec, KEY)
    some = digits.take(np.arange(150))
    assert training.fit(spec, variables, some, KEY, 1, PLAIN, scan=True).compile_seconds > 0
    ours = training.fit(spec, variables, digits, KEY, 2, PLAIN, scan=True)
    assert ours.compile_seconds == 0
    assert ours.required_bytes >= digits.images.nbytes
    assert len(digits) // PLAIN.batch_size % epochs.CHUNK  # the last chunk is not full
    looped = training.fit(spec, variables, digits, KEY, 2, PLAIN, scan=False)
    np.testing.assert_allclose(ours.losses, looped.losses, rtol=1e-4)


def test_a_population_is_trained_as_its_members_alone(spec, digits):
    settings = dataclasses.replace(PLAIN, batch_size=32, crop_padding=1, flip=True)
    keys = jax.random.split(KEY, 2)
    starts = [nj.init(spec, key) for key in keys]
    stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *starts)
    for scan in (False, True):
        fitted = training.fit(spec, stacked, digits, keys, 1, settings, scan=scan)
        evaluations = training.evaluate_population(spec, fitted.variables, digits)
        assert fitted.losses.shape == (1, 2)
        for member, (start, key) in enumerate(zip(starts, keys)):
            alone = training.fit(spec, start, digits, key, 1, settings, scan=scan)
            found = jax.tree.map(lambda x, m=member: x[m], fitted.variables)
            chex.assert_trees_all_close(found, alone.variables, rtol=1e-3, atol=1e-5)
            np.testing.assert_allclose(fitted.losses[:, member], alone.losses, rtol=1e-4)
            accuracy = training.evaluate(spec, found, digits).accuracy
            assert evaluations[member].accuracy == accuracy


def test_learning_curves_of_seeds_are_those_of_each_alone(spec, digits):
    settings = dataclasses.replace(PLAIN, batch_size=32, crop_padding=1, flip=True)
    keys = jax.random.split(KEY, 3)
    arguments = spec, keys, digits, digits, 2, settings
    curves = training.learning_curves(*arguments, together=True)
    assert curves.shape == (3, 2)
    one_by_one = training.learning_curves(*arguments, together=False)
    np.testing.assert_allclose(curves, one_by_one, atol=0.011)  # two images, by rounding
    for key, curve in zip(keys[:1], one_by_one):
        start, own_key = jax.random.split(key)
        seen = []

        def look(take, seen=seen):
            seen.append(jax.device_get(training.variables_in(spec, take(), settings)))

        variables = nj.init(spec, start)
        fitted = training.fit(spec, variables, digits, own_key, 2, settings, checkpoint=look)
        for found, after in zip(curve, (*seen, fitted.variables), strict=True):
            accuracy = training.evaluate(spec, after, digits).accuracy
            assert found == accuracy


def test_an_ensemble_averages_probabilities(spec, digits):
    wide = nj.chain((8, 8, 1), 10, (5,), ops.Normalize((78.0,), (96.0,)))
    members = [(s, random_variables(s, seed)) for seed, s in enumerate((spec, wide, spec))]
    for weights in (None, (1.0, 0.0, 3.0)):
        found = training.ensemble(members, digits, weights)
        probabilities = np.average(
            [jax.nn.softmax(nj.apply(s, v, digits.images)) for s, v in members],
            axis=0,
            weights=weights,
        )
        assert found.accuracy == (probabilities.argmax(1) == digits.labels).mean()
        loss = -np.log(probabilities[np.arange(200), digits.labels]).mean()
        np.testing.assert_allclose(found.loss, loss, rtol=1e-4)


def test_weights_of_an_ensemble_are_the_most_likely_ones():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 200)
    logits = rng.normal(size=(3, 200, 4))
    for member, knowledge in enumerate((2.0, 1.0, 0.0)):
        logits[member, np.arange(200), labels] += knowledge
    log_probabilities = np.asarray(jax.nn.log_softmax(logits))
    weights = training.ensemble_weights(log_probabilities, labels)

    def likelihood(weights):
        right = np.exp(log_probabilities[:, np.arange(200), labels])
        return np.log(weights @ right).sum()

    assert weights.sum() == pytest.approx(1)
    others = rng.dirichlet(np.ones(3), 2000)
    assert likelihood(weights) >= max(map(likelihood, others)) - 1e-6
    assert weights[0] > weights[1] > weights[2]


def test_a_population_of_members_is_predicted_as_each_alone(spec, digits):
    members = [(spec, random_variables(spec, seed)) for seed in range(3)]
    found = training.predict_members(members, digits)
    for (s, v), own in zip(members, found.log_probabilities):
        expected = jax.nn.log_softmax(nj.apply(s, v, digits.images))
        np.testing.assert_allclose(own, expected, rtol=1e-3, atol=1e-4)


def test_smoothed_labels_by_hand(spec, digits):
    settings = dataclasses.replace(PLAIN, label_smoothing=0.2)
    state = starting_state(nj.init(spec, KEY), settings)
    images, labels = digits.images[:8], digits.labels[:8]
    logits, _ = nj.apply(spec, state.variables, images, train=True, key=KEY)
    targets = np.full((8, 10), 0.02) + 0.8 * np.eye(10)[labels]
    expected = -(targets * np.asarray(jax.nn.log_softmax(logits))).sum(axis=1).mean()
    _, loss = training.update(spec, state, images, labels, 0.1, KEY, settings)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_gradients_are_clipped_to_a_norm(spec, digits):
    def moved(clip_norm):
        """How far an update moves the parameters, over the learning rate."""
        settings = dataclasses.replace(PLAIN, momentum=0.0, weight_decay=0.0, clip_norm=clip_norm)
        before = nj.init(spec, KEY)
        batch = digits.images[:8], digits.labels[:8]
        state, _ = training.update(
            spec, starting_state(before, settings), *batch, 0.5, KEY, settings
        )
        steps = jax.tree.map(np.subtract, state.variables["params"], before["params"])
        return math.hypot(*(np.linalg.norm(step) for step in jax.tree.leaves(steps))) / 0.5

    free = moved(0.0)
    assert free > 0.1
    assert moved(0.1) == pytest.approx(0.1, rel=1e-4)
    assert moved(2 * free) == pytest.approx(free, rel=1e-4)


def test_evaluation_of_mirrored_images_averages_logits(spec, digits):
    variables = random_variables(spec)
    found = training.evaluate(spec, variables, digits, flip=True)
    both = digits.images, digits.images[:, :, ::-1]
    logits = sum(np.asarray(nj.apply(spec, variables, images)) for images in both) / 2
    assert found.accuracy == (logits.argmax(1) == digits.labels).mean()
    mirrored = data.Examples(both[1], digits.labels)
    again = training.evaluate(spec, variables, mirrored, flip=True)
    assert again.loss == pytest.approx(found.loss, rel=1e-5)
    on = TrainingSettings(flip=True, flip_test=True)
    assert on.evaluation == {"precision": "float32", "flip": True}
    assert not dataclasses.replace(on, flip=False).evaluation["flip"]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ((1.0,), "each with a weight; got 2 members and 1 weights"),
        ((1.0, -1.0), r"weights must be finite, >= 0 and not all 0; got \[1.0, -1.0\]"),
        ((0.0, 0.0), "not all 0"),
    ],
)
def test_bad_weights_of_an_ensemble_are_one_clear_error(weights, message, spec, digits):
    members = [(spec, nj.init(spec, KEY))] * 2
    with pytest.raises(ValueError, match=message):
        training.ensemble(members, digits, weights)


def test_bfloat16_trains_parameters_and_statistics_in_float32(spec, digits):
    settings = dataclasses.replace(PLAIN, batch_size=32)
    variables = nj.init(spec, KEY)
    fitted = {
        precision: training.fit(
            spec, variables, digits, KEY, 4, dataclasses.replace(settings, precision=precision)
        )
        for precision in ("float32", "tf32", "bfloat16")
    }
    half = fitted["bfloat16"]
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(half.variables))
    assert list(half.losses) != list(fitted["float32"].losses)  # it does compute in bfloat16
    np.testing.assert_allclose(half.losses, fitted["float32"].losses, rtol=0.1)
    np.testing.assert_allclose(fitted["tf32"].losses, fitted["float32"].losses, rtol=1e-2)
    accuracy = training.evaluate(spec, half.variables, digits, precision="bfloat16").accuracy
    assert abs(accuracy - training.evaluate(spec, half.variables, digits).accuracy) < 0.05


def test_what_does_not_fit_into_memory_is_said_before_training(spec, digits):
    variables = nj.init(spec, KEY)
    fitted = training.fit(spec, variables, digits, KEY, 1, PLAIN)
    # At least weights, momentum and images; at most a thousand times as much.
    least = sum(2 * x.nbytes for x in jax.tree.leaves(variables["params"]))
    assert least < fitted.required_bytes < 1000 * least
    exactly = training.fit(spec, variables, digits, KEY, 1, PLAIN, max_bytes=fitted.required_bytes)
    assert exactly.required_bytes == fitted.required_bytes
    with pytest.raises(
        training.TooLargeError, match="GiB of memory to train, 0.00 GiB are allowed"
    ):
        training.fit(spec, variables, digits, KEY, 1, PLAIN, max_bytes=least)


def test_a_training_starts_as_optax_does_from_a_copy(spec):
    variables = nj.init(spec, KEY)
    state = loop.on_device(starting_state(variables, PLAIN))
    chex.assert_trees_all_equal(state.variables, variables)
    chex.assert_trees_all_equal(
        state.optimizer, training.direction(PLAIN).init(variables["params"])
    )
    jax.tree.map(lambda x: x.delete(), state)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(variables))


def test_zero_epochs_give_the_variables_back(spec, digits):
    variables = nj.init(spec, KEY)
    assert training.fit(spec, variables, digits, KEY, 0, PLAIN).variables is variables


def test_evaluation_counts_every_image_once_whatever_the_batch(spec, digits):
    variables = random_variables(spec)
    logits = np.asarray(nj.apply(spec, variables, digits.images), np.float64)
    accuracy = (logits.argmax(1) == digits.labels).mean()
    shifted = logits - logits.max(1, keepdims=True)
    log_probs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    loss = -log_probs[np.arange(200), digits.labels].mean()
    for batch_size in (200, 64, 999):
        found = training.evaluate(spec, variables, digits, batch_size)
        assert found.accuracy == accuracy
        np.testing.assert_allclose(found.loss, loss, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr_start": 0.0}, "lr_start must be > 0 and finite; got 0.0"),
        ({"lr_end": -1.0}, "lr_end must be >= 0 and finite; got -1.0"),
        ({"weight_decay": float("inf")}, "weight_decay must be >= 0 and finite; got inf"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\); got 1.0"),
        ({"weight_decay": -1e-4}, "weight_decay must be >= 0"),
        ({"batch_size": 0}, "batch_size must be >= 1; got 0"),
        ({"crop_padding": -1}, "crop_padding must be >= 0; got -1"),
        ({"cutout": -1}, "cutout must be >= 0; got -1"),
        ({"clip_norm": math.inf}, "clip_norm must be >= 0 and finite; got inf"),
    ],
)
def test_bad_settings_are_one_clear_error(changes, message):
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**changes)


def test_too_few_images_are_one_clear_error(spec, digits):
    variables = nj.init(spec, KEY)
    with pytest.raises(ValueError, match="batch_size must be at most .* images, 200; got 201"):
        training.fit(spec, variables, digits, KEY, 1, TrainingSettings(batch_size=201))
    with pytest.raises(ValueError, match="epochs must be >= 0; got -1"):
        training.fit(spec, variables, digits, KEY, -1, PLAIN)
    with pytest.raises(ValueError, match="at least one example"):
        training.evaluate(spec, variables, digits.take(np.arange(0)))


SHARDED = """
import json, pathlib, tempfile
import jax, numpy as np
import nash_jax as nj
from nash_jax import ops, training
from nash_jax.record.checkpoints import Writer
from nash_jax.data import Examples
from nash_jax.training import TrainingSettings

devices = jax.devices()
assert len(devices) == 8
rng = np.random.default_rng(0)
digits = Examples(rng.integers(0, 256, (96, 8, 8, 1), np.uint8), rng.integers(0, 10, 96, np.int32))
spec = nj.vgg((8, 8, 1), 10, (8,), ops.Normalize((78.0,), (96.0,)))
variables, key = nj.init(spec, jax.random.key(0)), jax.random.key(1)
settings = TrainingSettings(batch_size=32, crop_padding=1)
for scan in (False, True):  # in the loop, an epoch of smaller images, and one of whole ones
    how = {"scan": scan, "progressive_resizing": 0.0 if scan else 0.5}
    alone = training.fit(spec, variables, digits, key, 2, settings, **how)
    shared = training.fit(spec, variables, digits, key, 2, settings, **how, devices=devices)
    np.testing.assert_allclose(shared.losses, alone.losses, rtol=1e-4)
    # The statistics of batch normalisation are those of the whole batch.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        shared.variables, alone.variables,
    )
    for x in jax.tree.leaves(shared.variables):
        assert len(x.sharding.device_set) == 8
    other = training.fit(spec, variables, digits, key, 1, settings, scan=scan, devices=devices[3:4])
    assert all(x.devices() == {devices[3]} for x in jax.tree.leaves(other.variables))
sharding = jax.sharding.NamedSharding(
    jax.sharding.Mesh(np.array(devices), ("batch",)), jax.sharding.PartitionSpec("batch")
)
with tempfile.TemporaryDirectory() as folder, Writer(pathlib.Path(folder)) as writer:
    state = {"x": jax.device_put(np.arange(32.0), sharding)}
    writer.write(training.Snapshot(state, np.zeros(1, np.float32)))
    array = json.loads(pathlib.Path(folder, "1", "_METADATA").read_text())["tree_metadata"]
    (about,) = (each["value_metadata"] for name, each in array.items() if "'x'" in name)
    assert about["write_shape"] == [4]  # each device's part, not the whole
try:
    training.fit(spec, variables, digits, key, 1, settings, devices=devices[:3])
except ValueError as error:
    assert "batch_size must be a multiple of the number of devices, 3; got 32" in str(error)
print("shared trainings agree")
"""


@pytest.mark.slow
def test_a_training_shared_by_eight_devices_is_that_on_one():
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8",
    }
    done = subprocess.run(
        [sys.executable, "-c", SHARDED], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "shared trainings agree" in done.stdout


# Networks of cells: paths that are dropped, and a second classifier.


@pytest.fixture(scope="module")
def cells():
    node = nj.spaces.CellNode((nj.spaces.Read("conv_1x1", 0), nj.spaces.Read("skip_connect", 1)))
    cell = nj.spaces.Cell.of([node])
    return nj.spaces.cell_network(cell, cell, 2, 3, (8, 8, 1), 10, ops.Normalize((78.0,), (96.0,)))


def test_a_path_is_dropped_for_whole_images_and_its_mean_stays():
    nodes = [
        Node("path", ops.DropPath(0.5), "input"),
        Node("flat", ops.Flatten(), "path"),
    ]
    spec = nj.Architecture((2, 2, 3), nodes)
    variables, images = nj.init(spec, KEY), jnp.ones((4000, 2, 2, 3))
    train = {"train": True, "key": KEY}
    out, _ = nj.apply(spec, variables, images, **train, drop_path=lambda depth: depth * 0.5)
    kept = np.asarray(out[:, 0] > 0)
    np.testing.assert_allclose(out, np.where(kept, 4 / 3, 0)[:, None] * np.ones(12), rtol=1e-6)
    assert abs(kept.mean() - 0.75) < 0.03
    untouched, _ = nj.apply(spec, variables, images, train=True)
    np.testing.assert_array_equal(untouched, 1)
    np.testing.assert_array_equal(nj.apply(spec, variables, images), 1)
    with pytest.raises(ValueError, match="needs a key"):
        nj.apply(spec, variables, images, train=True, drop_path=lambda depth: 0.5)


def test_paths_are_dropped_more_and_more_often():
    settings = dataclasses.replace(PLAIN, drop_path=0.4)
    cosine = training.Cosine(5)
    alike = [loop._progress(settings, cosine, epoch, 4) for epoch in range(5)]
    # DARTS: the rate times epoch / epochs, the same in a whole epoch and at all depths.
    np.testing.assert_allclose(alike, np.repeat(np.arange(5) / 5, 4).reshape(5, 4), rtol=1e-6)
    assert math.isclose(epochs._drop_rate(0.6, settings)(0.5), 0.24)
    # ScheduledDropPath: keep = 1 - step / steps * depth * 0.4.
    settings = dataclasses.replace(settings, drop_path_by_depth=True)
    steps = [loop._progress(settings, cosine, epoch, 4) for epoch in range(5)]
    np.testing.assert_allclose(np.ravel(steps), np.arange(20) / 20, rtol=1e-5)
    assert math.isclose(epochs._drop_rate(0.6, settings)(0.5), 0.12)


@pytest.mark.parametrize("scan", [False, True])
def test_a_network_of_cells_trains_with_dropped_paths_and_a_tower(cells, digits, scan):
    tower = 0.0 if scan else 0.4  # a wide convolution, slow in a loop on CPU
    settings = dataclasses.replace(PLAIN, drop_path=0.3, auxiliary_weight=tower, batch_size=50)
    variables = nj.init(cells, KEY)
    snapshots = []

    def checkpoint(take):
        snapshots.append(dataclasses.replace(take(), state=jax.tree.map(np.array, take().state)))

    whole = training.fit(
        cells, variables, digits, KEY, 2, settings, scan=scan, checkpoint=checkpoint
    )
    chex.assert_trees_all_equal_shapes(whole.variables, variables)  # no tower is left
    assert len(whole.losses) == 2
    shapes = training.state_shapes(cells, settings)
    chex.assert_trees_all_equal_shapes(snapshots[0].state, shapes)
    again = training.fit(cells, variables, digits, KEY, 2, settings, scan=scan, resume=snapshots[0])
    chex.assert_trees_all_equal(again.variables, whole.variables)
    assert training.loop.precompile(cells, variables, digits, KEY, settings, scan) > 0


def test_the_tower_of_darts_is_the_published_one():
    genotype = nj.spaces.Darts().start
    spec = nj.spaces.Darts().build(genotype, "final")
    tower = training.tower_of(spec)
    assert nj.count_params(tower) - nj.count_params(spec) == 476_426
    assert tower["auxiliary.relu0"].inputs == ("cell13",)
    assert spec.shapes["cell13"] == (8, 8, 576)
    assert tower.num_classes == 20
    tower = training.tower_of(nj.resnet50((32, 32, 3), 10))
    assert tower["auxiliary.relu0"].inputs == ("stage2",)
    assert tower.shapes["stage2"] == (16, 16, 512)
    with pytest.raises(ValueError, match="auxiliary_weight needs a network of cells"):
        training.tower_of(nj.chain((8, 8, 1), 10))


def test_the_auxiliary_loss_is_that_of_the_second_half_of_the_logits():
    nodes = [Node("flat", ops.Flatten(), "input"), Node("dense", ops.Dense(4), "flat")]
    spec = nj.Architecture((1, 1, 1), nodes)
    params = {"kernel": jnp.zeros((1, 4)), "bias": jnp.log(jnp.array([0.5, 0.5, 0.2, 0.8]))}
    settings = dataclasses.replace(PLAIN, auxiliary_weight=0.4)
    variables = {"params": {"dense": params}, "batch_stats": {}}
    state = loop.starting_state(variables, settings)
    images, labels = jnp.zeros((1, 1, 1, 1)), jnp.array([1])
    _, loss = training.update(spec, state, images, labels, jnp.float32(0.1), KEY, settings)
    assert math.isclose(loss, -math.log(0.5) - 0.4 * math.log(0.8), rel_tol=1e-5)
