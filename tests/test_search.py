"""Algorithm 1 as a pure step, with estimates made up by the tests: no training here."""

import dataclasses
import math

import jax
import pytest

import nash_jax as nj
from nash_jax import search
from nash_jax.estimation import Estimate, Seconds
from nash_jax.morphisms import Deepen, Widen, rising_bounds
from nash_jax.search import Candidate, HillClimbingSettings, SearchState

SPEC = nj.chain((8, 8, 1), 10, (4, 4))


def candidate(name, accuracy=0.5, loss=1.0, spec=SPEC, edits=(), parent=None):
    return Candidate(name, parent, edits, spec, {}, Estimate(accuracy, loss, Seconds()))


def state(step=0, seed=0):
    return SearchState(step, candidate("model_0"), jax.random.key(seed))


def by_flops(best, proposals):
    """An estimate that prefers large networks."""
    return [
        candidate(p.name, nj.count_flops(p.spec) / 1e9, 1.0, p.spec, p.edits, best.name)
        for p in proposals
    ]


def test_the_last_child_is_the_current_best_and_the_others_have_all_their_edits():
    proposals = search.propose(state(), HillClimbingSettings(num_neighbours=4, num_morphisms=3))
    assert [p.name for p in proposals] == [f"step1-child{n}" for n in (1, 2, 3, 4)]
    assert [len(p.edits) for p in proposals] == [3, 3, 3, 0]
    assert proposals[-1].spec == SPEC
    for proposal in proposals:
        spec = SPEC
        for edit in proposal.edits:
            spec = edit.rewrite(spec)
        assert spec == proposal.spec


def test_one_neighbour_is_morphed_and_taken_even_if_it_is_worse():
    settings = HillClimbingSettings(num_neighbours=1, num_morphisms=2)

    def worse(best, proposals):
        return [candidate(p.name, 0.0, spec=p.spec, edits=p.edits) for p in proposals]

    after, children = search.hill_climbing_step(state(), settings, worse)
    assert len(children) == 1
    assert after.best is children[0]
    assert len(after.best.edits) == 2


def test_a_step_moves_to_the_best_child_and_changes_no_state():
    before = state()
    settings = HillClimbingSettings(num_neighbours=5, num_morphisms=2)
    after, children = search.hill_climbing_step(before, settings, by_flops)
    assert before.step == 0
    assert after.step == 1
    assert after.best is max(children, key=lambda child: nj.count_flops(child.spec))
    _again, same = search.hill_climbing_step(before, settings, by_flops)
    assert [c.edits for c in same] == [c.edits for c in children]


def test_a_child_depends_on_seed_step_and_number_alone():
    few, many = (HillClimbingSettings(num_neighbours=n) for n in (3, 6))
    first, second = search.propose(state(), few)[:2], search.propose(state(), many)[:2]
    assert [p.edits for p in first] == [p.edits for p in second]
    assert [jax.random.key_data(p.key).tolist() for p in first] == [
        jax.random.key_data(p.key).tolist() for p in second
    ]
    for other in (state(step=1), state(seed=1)):
        assert [p.edits for p in search.propose(other, few)[:2]] != [p.edits for p in first]
    keys = {str(jax.random.key_data(p.key)) for p in search.propose(state(), many)}
    assert len(keys) == 6


def test_selection_breaks_ties_by_loss_then_by_order_and_never_takes_a_diverged_one():
    assert search.select([candidate("a", 0.5, 2.0), candidate("b", 0.6, 9.0)]).name == "b"
    assert search.select([candidate("a", 0.5, 2.0), candidate("b", 0.5, 1.0)]).name == "b"
    assert search.select([candidate("a", 0.5, 1.0), candidate("b", 0.5, 1.0)]).name == "a"
    assert search.select([candidate("a", 0.5, math.nan), candidate("b", 0.5, 99.0)]).name == "b"


def test_children_that_failed_are_passed_over():
    def failed(name, **changes):
        child = candidate(name, 1.0, 0.0)
        estimate = dataclasses.replace(child.estimate, failure="too large", **changes)
        return dataclasses.replace(child, estimate=estimate)

    worse = candidate("b", 0.1, 9.0)
    assert search.select([failed("a"), worse, failed("c")]) is worse
    with pytest.raises(ValueError, match="all children failed"):
        search.select([failed("a")])


def test_limits_hold_for_every_child():
    settings, flops = HillClimbingSettings(), nj.count_flops(SPEC)
    bounds = rising_bounds(flops, 3 * flops, settings.num_steps * settings.num_morphisms)
    for step in range(settings.num_steps):
        proposals = search.propose(state(step), settings, bounds)
        most = flops * (1 + 2 * (step + 1) / settings.num_steps)
        assert all(nj.count_flops(p.spec) <= most for p in proposals)
        assert all(p.edits for p in proposals[:-1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_steps": -1}, "num_steps must be >= 0; got -1"),
        ({"num_neighbours": 0}, "num_neighbours must be >= 1; got 0"),
        ({"num_morphisms": 0}, "num_morphisms must be >= 1; got 0"),
    ],
)
def test_bad_settings_are_one_clear_error(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(HillClimbingSettings(), **changes)


def test_lineage_names_the_edits_between_two_candidates():
    root = candidate("model_0")

    def child(name, parent, *edits):
        return candidate(name, edits=edits, parent=parent)

    one, two, three = Deepen("relu1"), Widen("conv1", 9), Widen("conv1", 12)
    family = [
        child("d", "b", three),
        root,
        child("b", "model_0", one),
        child("c", "model_0", two),
        child("e", "d"),
    ]
    assert search.lineage(family, "model_0", "e") == ("model_0", (), (one, three))
    assert search.lineage(family, "d", "c") == ("model_0", (one, three), (two,))
    assert search.lineage(family, "d", "d") == ("d", (), ())
    with pytest.raises(ValueError, match="there is no candidate 'x'; there are d, model_0"):
        search.lineage(family, "d", "x")
    orphan = candidate("other")
    with pytest.raises(ValueError, match="'d' and 'other' have no common ancestor"):
        search.lineage([*family, orphan], "d", "other")
