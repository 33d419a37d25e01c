"""What draws paths: bandits and the controller, on problems small enough to be enumerated."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nash_jax.policies import Controller, ControllerSettings, Exp3, Judged, LeastSquares, Written
from nash_jax.policies.bandits import exp3_credit, zipf
from nash_jax.policies.controller import loss

CHOICES = {"a": 2, "b": 3}
TERMS = {"a": np.array([0.3, 0.9]), "b": np.array([0.5, 0.1, 0.2])}


def additive(path):
    """A loss that is a sum over edges, and an accuracy that falls with it."""
    total = float(sum(path[edge] @ TERMS[edge] for edge in CHOICES))
    return Judged(1 - total, total)


def test_credits_are_unbiased():
    """The mean over all draws, by their probabilities, is the reward of every choice."""
    probabilities, rewards = np.array([0.2, 0.5, 0.3]), np.array([1.0, -2.0, 0.5])
    mean = sum(
        p * exp3_credit(one, probabilities, reward)
        for p, one, reward in zip(probabilities, np.eye(3), rewards)
    )
    np.testing.assert_allclose(mean, rewards)


def learnt(policy, updates, judge=additive, epochs=2):
    state = policy.start(jax.random.key(0))
    for number in range(updates):
        path = policy.draw(state, number)
        assert all(sorted(w) == [0] * (len(w) - 1) + [1] for w in path.values())
        state = policy.after_update(state, number, path, judge, (number + 1) / updates)
        if (number + 1) % (updates // epochs) == 0:
            state = policy.after_epoch(state, number * epochs // updates, judge)
    return state


def test_bandits_come_to_prefer_what_costs_less():
    policy = Exp3(CHOICES, baseline=1.5, hottest=100.0, coolest=10.0)
    state = learnt(policy, 400)
    found = policy.favoured(state)
    assert {edge: int(np.argmax(w)) for edge, w in found.items()} == {"a": 0, "b": 1}
    assert all(w.sum() == pytest.approx(1) and w.min() >= 0.1 / 3 for w in found.values())
    again = policy.draw(state, 7)
    assert all(np.array_equal(again[edge], w) for edge, w in policy.draw(state, 7).items())


def test_least_squares_recover_an_additive_loss():
    """Up to a constant for each edge, which no loss can tell."""
    policy, falling = LeastSquares(CHOICES), iter(np.linspace(2, 0, 60))

    def judge(path):  # the level falls from epoch to epoch
        return Judged(0.0, additive(path).loss + (2 if next(falling) > 1 else 0))

    state = learnt(policy, 60, judge)
    found = np.split(state["losses"], [2])
    for edge, losses in zip(CHOICES, found):
        differences = losses - losses[0]
        np.testing.assert_allclose(differences, TERMS[edge] - TERMS[edge][0], atol=1e-5)
    weights = policy.favoured(state)
    np.testing.assert_allclose(weights["b"], zipf(3)[[2, 0, 1]])
    assert 1 / zipf(8)[0] == pytest.approx(2.717857, abs=1e-6)


CONTROLLER = Controller((2, 3, 2), hidden=4)
GENOTYPES = np.array(list(itertools.product(range(2), range(3), range(2))), np.int32)


def _logs(params):
    return jax.vmap(CONTROLLER.log_prob, (None, 0))(params, GENOTYPES)


def test_a_controller_writes_what_the_places_allow_and_knows_its_entropy():
    params = jax.tree.map(lambda x: 30 * x, CONTROLLER.init(jax.random.key(1)))
    logs, entropies = _logs(params)
    p = np.exp(np.asarray(logs, np.float64))
    assert p.sum() == pytest.approx(1, abs=1e-5)
    assert p.max() > 2 * p.min()
    entropy = -(p * np.log(p)).sum()
    assert (p * np.asarray(entropies)).sum() == pytest.approx(entropy, abs=1e-5)
    keys = jax.random.split(jax.random.key(2), 2_000)
    numbers, sampled, _ = jax.jit(jax.vmap(CONTROLLER.sample, (None, 0)))(params, keys)
    places = [(genotype == GENOTYPES).all(axis=1).argmax() for genotype in np.asarray(numbers)]
    np.testing.assert_allclose(np.bincount(places, minlength=12) / 2_000, p, atol=0.04)
    np.testing.assert_allclose(sampled, np.asarray(logs)[places], atol=1e-4)


def test_the_policy_gradient_is_that_of_the_mean_reward():
    """By enumeration: each genotype counts as often as it is written."""
    params = CONTROLLER.init(jax.random.key(3))
    rewards = jnp.asarray(np.random.default_rng(0).normal(size=12), jnp.float32)
    wanted = jax.grad(lambda params: (jnp.exp(_logs(params)[0]) * rewards).sum())(params)
    often = jnp.exp(_logs(params)[0])
    found = jax.grad(lambda p: 12 * loss(CONTROLLER, p, GENOTYPES, often * (rewards - 0.7), 0.0))
    for x, y in zip(jax.tree.leaves(wanted), jax.tree.leaves(found(params))):
        np.testing.assert_allclose(x, -y, atol=1e-6)


def test_a_controller_learns_what_is_good():
    def one_hot(genotype):
        return {str(place): np.eye(3)[number] for place, number in enumerate(genotype)}

    def judge(path):
        return Judged(float(path["1"][2]), 0.0)

    policy = Written(CONTROLLER, ControllerSettings(lr=0.05, entropy_weight=0.0), one_hot)
    state = policy.start(jax.random.key(0))
    before = policy.favoured(state)["1"][2]
    for epoch in range(2):
        state = policy.after_epoch(state, epoch, judge)
    assert policy.favoured(state)["1"][2] > before + 0.2
    assert policy.genotypes(state, 5, 3) == policy.genotypes(state, 5, 3)
