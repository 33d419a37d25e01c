"""Drawing edits as in the paper."""

import jax
import pytest
from edit_cases import KEY, error
from test_network import random_images, random_variables

import nash_jax as nj
from nash_jax import morphisms
from nash_jax.morphisms import Deepen, SkipAdd, Widen

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
    edits, grown = morphisms.sample_edits(spec, KEY, 3, fits=lambda s: nj.count_flops(s) < limit)
    assert nj.count_flops(grown) < limit
    assert all(isinstance(edit, SkipAdd) for edit in edits)
    with pytest.raises(ValueError, match="no edit applies"):
        morphisms.sample(spec, KEY, fits=lambda _: False)
    assert morphisms.sample_edits(spec, KEY, 3, fits=lambda _: False) == ((), spec)


def test_sampling_draws_from_the_given_sizes_and_factors():
    spec = nj.chain((8, 8, 1), 10, (4, 4))
    edits = [morphisms.sample(spec, key, None, (1, 7), (3,)) for key in jax.random.split(KEY, 60)]
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
