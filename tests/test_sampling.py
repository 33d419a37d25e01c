"""Drawing edits as in the paper."""

import collections
import statistics

import jax
import pytest
from edit_cases import KEY, error
from helpers import random_images, random_variables

import nash_jax as nj
from nash_jax import morphisms, runs
from nash_jax.estimation import Estimate, Seconds
from nash_jax.morphisms import Deepen, SkipAdd, Widen
from nash_jax.search import Keys, hill_climbing, simulate

KINDS = ("Deepen", "SkipAdd", "SkipConcat", "Widen")


def test_sampling_is_uniform_among_the_kinds_and_deterministic():
    spec = nj.chain((8, 8, 1), 10, (16, 32, 64))
    keys = jax.random.split(jax.random.key(0), 600)
    edits = [morphisms.sample(spec, key) for key in keys]
    assert edits[:20] == [morphisms.sample(spec, key) for key in keys[:20]]
    counts = {kind: sum(type(e).__name__ == kind for e in edits) for kind in KINDS}
    # Of 600 draws a third is 200, with a standard deviation of 11.5; a sixth is 100, with 9.1.
    assert all(abs(counts[kind] - 200) < 46 for kind in ("Deepen", "Widen")), counts
    assert all(abs(counts[kind] - 100) < 37 for kind in ("SkipAdd", "SkipConcat")), counts
    assert {e.kernel_size for e in edits if isinstance(e, Deepen)} == {3, 5}
    assert {e.after for e in edits if isinstance(e, Deepen)} == {
        "relu1",
        "relu2",
        "relu3",
        "pool1",
        "pool2",
    }
    widened = {(e.node, e.features) for e in edits if isinstance(e, Widen)}
    assert widened == {(f"conv{n}", f * w) for n, w in ((1, 16), (2, 32), (3, 64)) for f in (2, 4)}
    assert {e.source for e in edits if isinstance(e, SkipAdd)} == {
        "relu1",
        "pool1",
        "relu2",
        "pool2",
    }


def test_sampling_respects_limits_and_says_when_nothing_applies():
    spec = nj.chain((8, 8, 1), 10, (4, 4))
    limit = nj.count_flops(spec) + 1
    edits, grown = morphisms.sample_edits(spec, KEY, 3, bounds=(limit, limit, limit))
    assert nj.count_flops(grown) <= limit
    assert all(isinstance(edit, SkipAdd) for edit in edits)
    with pytest.raises(ValueError, match="no edit applies"):
        morphisms.sample(spec, KEY, bound=0)
    assert morphisms.sample_edits(spec, KEY, 3, bounds=(0, 0, 0)) == ((), spec)
    with pytest.raises(ValueError, match="bounds must be one for each of 3 edits, or none; got 2"):
        morphisms.sample_edits(spec, KEY, 3, bounds=(1, 2))
    small = morphisms.sample_edits(spec, KEY, 3, cost=nj.count_params, bounds=3 * (1200,))[1]
    assert nj.count_params(small) <= 1200


def test_a_widening_that_is_too_large_is_made_smaller():
    spec = nj.chain((8, 8, 1), 10, (16, 32))
    most = nj.count_flops(Widen("conv2", 48).rewrite(spec))
    drawn = set()
    for key in jax.random.split(KEY, 200):
        edit = morphisms.sample(spec, key, bound=2 * most - nj.count_flops(spec))
        drawn |= {edit.features} if isinstance(edit, Widen) and edit.node == "conv2" else set()
    # Half of the room reaches to width 48. A draw of 64 becomes 48; a draw of 128 becomes 80,
    # then 56, then 40 (a multiple of 8).
    assert drawn == {40, 48}


@pytest.mark.parametrize("preset", ["paper", "small", "laptop", "digits"])
def test_sampling_stays_uniform_under_the_bound_of_a_preset(preset):
    """In 30 networks, every kind is at least a fifth of each step; none exceeds the bound."""
    config = nj.preset(preset, num_neighbours=1)
    counts = [collections.Counter() for _ in range(config.strategy.num_steps)]
    params = []
    model_0 = nj.chain((8, 8, 1) if preset == "digits" else (32, 32, 3), 10, config.space.widths)
    space = runs.space_of(config, model_0)
    for seed in range(30):
        strategy = hill_climbing(space, config.strategy, Keys(*[jax.random.key(seed)] * 4))
        _, *trials = simulate(space, strategy, lambda _: Estimate(0.0, 0.0, Seconds()))
        for trial in trials:
            most = space.bounds[trial.step * config.strategy.num_morphisms - 1]
            assert nj.count_flops(trial.spec) <= most <= config.bounds.max_flops
            counts[trial.step - 1].update(type(edit).__name__[:4] for edit in trial.edits)
        params.append(nj.count_params(trials[-1].spec) / 1e6)
    for of_step in counts:
        assert of_step.total() == 30 * config.strategy.num_morphisms
        assert min(of_step[kind] for kind in ("Deep", "Wide", "Skip")) >= of_step.total() / 5
    if preset == "paper":  # the paper's random networks have 4.4 million, those it chose 5.7
        assert 4 < statistics.mean(params) < 6


def test_sampling_draws_from_the_given_sizes_and_factors():
    spec = nj.chain((8, 8, 1), 10, (4, 4))
    edits = [morphisms.sample(spec, key, (1, 7), (3,)) for key in jax.random.split(KEY, 60)]
    assert {e.kernel_size for e in edits if isinstance(e, Deepen)} == {1, 7}
    assert {e.features for e in edits if isinstance(e, Widen)} == {12}
    for draw in (morphisms.sample, lambda *a, **k: morphisms.sample_edits(*a, 3, **k)):
        with pytest.raises(ValueError, match=r"widening_factors must be .* >= 2; got \(1,\)"):
            draw(spec, KEY, widening_factors=(1,))
        with pytest.raises(ValueError, match=r"kernel_sizes must be .* >= 1; got \(0,\)"):
            draw(spec, KEY, kernel_sizes=(0,))


def test_apply_random_is_the_paper_s_apply_net_morphs():
    spec = nj.chain((8, 8, 1), 10, (4, 4))
    variables, images = random_variables(spec), random_images(spec)
    grown, new = morphisms.apply_random(spec, variables, jax.random.key(5), num=4)
    assert grown != spec
    assert error(nj.apply(grown, new, images), nj.apply(spec, variables, images)) <= 1e-5
    with pytest.raises(ValueError, match="num must be a whole number >= 0; got -1"):
        morphisms.apply_random(spec, variables, KEY, num=-1)
