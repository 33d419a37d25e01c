"""Supernets: sizes, edges, and that each part is the network of its genotype."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import random_images

import nash_jax as nj
from nash_jax import spaces

DATA = {"input_shape": (4, 4, 3), "num_classes": 3}
SMALL = {
    "darts": spaces.Darts(channels=2, cells=3, **DATA),
    "cnas": spaces.CNAS(channels=4, cells=3, **DATA),
    "enas": spaces.ENASMicro(channels=2, cells=2, **DATA),
    "nsganet": spaces.NSGANetMicro(channels=2, cells=3, **DATA),
    "nb201": spaces.NB201(channels=2, cells=1, **DATA),
    "nbmacro": spaces.NBMacro(channels=2, head=4, **DATA),
}


@pytest.mark.parametrize(
    ("space", "params"),
    [
        (spaces.Darts(channels=16, cells=8), 1_930_618),  # as the official code prints
        (spaces.Darts(), 1_930_618),  # the search is not at the final size
        (spaces.Darts(channels=16, cells=5), 1_275_834),  # the first stage of P-DARTS
    ],
)
def test_parameters_of_published_supernets(space, params):
    assert nj.count_params(space.supernet()) == params


@pytest.mark.parametrize("name", SMALL)
def test_one_hot_weights_derive_their_genotype(name):
    space = SMALL[name]
    for seed in range(20):
        genotype = space.sample(jax.random.key(seed))
        weights = space.one_hot(genotype)
        assert space.derive(weights) == genotype
        assert all(len(weights[name]) == len(choices) for name, choices in space.edges)


@pytest.mark.parametrize("name", SMALL)
def test_code_of_a_supernet(name):
    space = SMALL[name]
    name, choices = space.edges[0]
    part = space.whole({name: choices[-1:]})
    assert space.parse(space.code(part)) == part != space.whole()
    assert nj.from_json(nj.to_json(space.supernet())) == space.supernet()


def test_darts_derives_the_strongest_edges():
    """Section 2.4: two edges for each node, by their largest weight that is not of 'none'."""
    space = SMALL["darts"]
    weights = {name: np.full(8, 0.125) for name, _ in space.edges}
    weights["normal_0_3"] = np.array([0.9, 0.02, 0.02, 0.01, 0.01, 0.01, 0.01, 0.02])
    weights["normal_1_3"] = np.array([0.0, 0.1, 0.1, 0.1, 0.1, 0.4, 0.1, 0.1])
    weights["normal_2_3"] = np.array([0.4, 0.0, 0.0, 0.2, 0.1, 0.1, 0.1, 0.1])
    pair, first, second = space.derive(weights)[3:6]
    assert spaces.darts.PAIRS[1][pair] == (1, 2)
    assert (space.op_names[first], space.op_names[second]) == ("sep_conv_5x5", "skip_connect")


def test_nothing_is_derived_only_where_nothing_else_weighs():
    space = SMALL["nb201"]
    weights = {name: np.array([0.4, 0.1, 0.1, 0.3, 0.1]) for name, _ in space.edges}
    weights["0_1"] = np.array([1.0, 0.0, 0.0, 0.0, 0.0])
    assert space.derive(weights) == (0, 3, 3, 3, 3, 3)


def _left_by(space, genotypes):
    """A supernet with the choices of some genotypes alone."""
    chosen = [space.chosen(genotype) for genotype in genotypes]
    return space.whole(
        {
            name: {each[name] for each in chosen if name in each} or {choices[0]}
            for name, choices in space.edges
        }
    )


def _outcome(spec, variables, images, differentiate):
    def loss_of(params):
        logits, new = nj.apply(
            spec, {**variables, "params": params}, images, train=True, key=jax.random.key(0)
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, np.arange(len(images)) % 3)
        return losses.mean(), (logits, new["batch_stats"])

    params, gradients = variables["params"], {}
    if differentiate:
        (_, (logits, stats)), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
    else:
        _, (logits, stats) = loss_of(params)
    return logits, nj.apply(spec, variables, images), stats, gradients


@pytest.mark.parametrize("name", ["enas", "nb201"])
def test_a_part_is_the_network_of_its_genotype(name, x64):
    """Logits, statistics and gradients, and no gradient for what the genotype has not.

    Gradients on the smaller supernet alone; `benchmarks.supernets --parts` has them on all.
    """
    space = SMALL[name]
    genotypes = [space.sample(jax.random.key(seed)) for seed in (0, 1)]
    left = _left_by(space, genotypes)
    spec = space.build(left, "search")
    variables = nj.init(spec, jax.random.key(2), jnp.float64)
    images = random_images(spec, dtype=np.float64)
    weights = space.one_hot(genotypes[0], left)
    masked = nj.architecture.with_edge_weights(spec, variables, weights)
    run = jax.jit(_outcome, static_argnums=(0, 3))
    whole = run(spec, masked, images, name == "nb201")
    part, own = space.subnet(variables, genotypes[0], left)
    alone = run(part, own, images, name == "nb201")
    chex.assert_trees_all_close(whole[:2], alone[:2], rtol=1e-10, atol=1e-12)
    for of_whole, of_part in zip(whole[2:], alone[2:]):
        for node, arrays in of_whole.items():
            for key, array in arrays.items():
                found = of_part.get(node, {}).get(key)
                if found is None and of_whole is whole[3]:
                    assert not array.any(), (node, key)
                elif found is not None:
                    np.testing.assert_allclose(array, found, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: spaces.NASNet().supernet(), "NASNet has no supernet; take Darts"),
        (lambda: spaces.MacroDarts().supernet(), "MacroDarts has no supernet"),
        (lambda: spaces.NB201().supernet({"0_1": []}), "every edge needs a choice; 0_1 has none"),
        (lambda: spaces.NB201().supernet({"0_4": ["none"]}), "an edge must be one of 0_1, 0_2"),
        (lambda: spaces.NB201().supernet({"0_1": ["nor_conv"]}), "did you mean nor_conv_"),
        (lambda: spaces.NB201().parse("supernet:1-0"), "must have 6 edges"),
        (lambda: spaces.NB201().parse("supernet:3f.1.1.1.1.1-0"), "0_1 has 5 choices; got '3f'"),
        (lambda: spaces.NB201().parse("supernet:1.1.1.1.1.1"), "must end with its number of cells"),
        (lambda: spaces.NB201().parse("supernet:1.1.1.1.1.x-0"), "hexadecimal bits; got 'x'"),
        (
            lambda: spaces.NB201().one_hot(
                (1,) * 6, spaces.NB201().whole({"0_1": ["none", "avg_pool_3x3"]})
            ),
            "edge 0_1 of this supernet may be none, avg_pool_3x3; the genotype 111111 takes 'skip",
        ),
        (
            lambda: spaces.Darts().derive(
                {name: np.ones(1) for name, _ in spaces.Darts().edges},
                spaces.Darts().whole({name: ["none"] for name, _ in spaces.Darts().edges}),
            ),
            "node 2 of the normal cell needs two edges with an op other than none; got 0",
        ),
    ],
)
def test_bad_supernets(act, message):
    with pytest.raises(ValueError, match="(?s)^" + ".*" + message.replace("(", r"\(")):
        act()


def test_weights_that_are_no_part():
    space = SMALL["nb201"]
    spec = space.supernet()
    variables = nj.init(spec, jax.random.key(0))
    with pytest.raises(ValueError, match="edge 0_1 must have a weight of one and else zeros; got"):
        spaces.subnet(spec, variables)
    with pytest.raises(ValueError, match=r"edge 0_1 must have weights of shape \(5,\); got none"):
        nj.architecture.with_edge_weights(spec, variables, {})
