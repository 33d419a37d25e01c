"""Strategies, with estimates that are made up by the tests: no training here."""

import collections
import contextlib
import dataclasses
import hashlib
import itertools
import math
import statistics

import jax
import numpy as np
import pytest
from helpers import SHARING, of_supernet

import nash_jax as nj
from nash_jax import search
from nash_jax.architecture import COSTS
from nash_jax.estimation import Estimate, Seconds
from nash_jax.morphisms import Deepen, SkipAdd, Widen, rising_bounds
from nash_jax.search import (
    STRATEGIES,
    AgingEvolutionSettings,
    HillClimbingSettings,
    Keys,
    Proposal,
    RandomSearchSettings,
    SuccessiveHalvingSettings,
    Trial,
    aging_evolution,
    hill_climbing,
    simulate,
    successive_halving,
)
from nash_jax.search.p_darts import SKIP, with_few_skips
from nash_jax.search.stacnas import GROUPS, group_of
from nash_jax.spaces import NB201, Bounded, Darts, Growth, Morphs, Supernet

SPEC = nj.chain((8, 8, 1), 10, (4, 4))
SPACE = Morphs(SPEC, num_edits=3)
KEYS = Keys(*jax.random.split(jax.random.key(3), 4))
SMALL = HillClimbingSettings(num_steps=2, num_neighbours=4, num_morphisms=2)
SETTINGS = {
    "hill_climbing": SMALL,
    "one_network": search.OneNetworkSettings(),
    "random_search": RandomSearchSettings(6),
    "aging_evolution": AgingEvolutionSettings(12, population=4, tournament=2, window=3),
    "successive_halving": SuccessiveHalvingSettings(9),
    "darts": search.DartsSettings(),
    "enas": search.EnasSettings(),
    "manas": search.ManasSettings(),
    "one_shot": search.OneShotSettings(num_samples=5, num_retrained=2),
    "p_darts": search.PDartsSettings(),
    "stacnas": search.StacnasSettings(),
}
CELLS = NB201(channels=2, cells=1, input_shape=(8, 8, 1))
#: What each strategy searches: networks that grow, or those of a supernet.
SPACES = {name: SPACE for name in STRATEGIES} | dict.fromkeys(SHARING, Bounded(CELLS, {}))
OF_DARTS = Bounded(Darts(channels=2, cells=3, input_shape=(8, 8, 1)), {})
SPACES |= dict.fromkeys(("p_darts", "stacnas"), OF_DARTS)
POOL = "max_pool_3x3"


def trial(name, accuracy=0.5, loss=1.0, edits=(), parent=None, failure=""):
    estimate = Estimate(accuracy, loss, Seconds(), failure=failure)
    return Trial(Proposal(name, SPEC, KEYS.init, parent, edits), SPEC, estimate)


def scored(accuracy):
    """An estimate with this accuracy for a proposal."""
    return lambda proposal: Estimate(
        accuracy(proposal), 1.0, Seconds(), **of_supernet(proposal.genotype)
    )


def by_flops(proposal):
    return nj.count_flops(proposal.genotype) / 1e9


def at_random(proposal):
    """The same for the same proposal."""
    said = hashlib.sha256(f"{proposal.name} {proposal.genotype}".encode()).digest()
    return said[0] / 256


def climbed(settings=SMALL, accuracy=by_flops, keys=KEYS, space=SPACE):
    """The trials of a hill climbing, by step."""
    steps = [[] for _ in range(settings.num_steps + 1)]
    for each in simulate(space, hill_climbing(space, settings, keys), scored(accuracy)):
        steps[each.step].append(each)
    return steps


def test_the_last_child_is_the_current_best_and_the_others_have_all_their_edits():
    (model_0,), *steps = climbed()
    assert (model_0.name, model_0.recipe, model_0.spec) == ("model_0", "pretrain", SPEC)
    best = model_0
    for number, children in enumerate(steps, start=1):
        assert [c.name for c in children] == [f"step{number}-child{n}" for n in (1, 2, 3, 4)]
        assert [len(c.edits) for c in children] == [2, 2, 2, 0]
        assert {c.parent for c in children} == {best.name}
        assert children[-1].spec == best.spec
        for each in children:
            spec = best.spec
            for edit in each.edits:
                spec = edit.rewrite(spec)
            assert spec == each.spec
        best = max(children, key=lambda c: nj.count_flops(c.spec))


def test_one_neighbour_is_morphed_and_taken_even_if_it_is_worse():
    one = dataclasses.replace(SMALL, num_neighbours=1)
    _, first, second = climbed(one, lambda proposal: 0.9 - 0.1 * len(proposal.name))
    assert [len(each) for each in (first, second)] == [1, 1]
    assert second[0].parent == first[0].name
    assert len(first[0].edits) == len(second[0].edits) == 2


def test_a_child_depends_on_seed_step_and_number_alone():
    def first_step(number=3, keys=KEYS):
        return climbed(dataclasses.replace(SMALL, num_neighbours=number), keys=keys)[1]

    few, many = first_step(3), first_step(6)
    assert [c.edits for c in few[:2]] == [c.edits for c in many[:2]]
    assert [jax.random.key_data(c.proposal.key).tolist() for c in few[:2]] == [
        jax.random.key_data(c.proposal.key).tolist() for c in many[:2]
    ]
    other = first_step(3, Keys(*jax.random.split(jax.random.key(4), 4)))
    assert [c.edits for c in other[:2]] != [c.edits for c in few[:2]]
    keys = {str(jax.random.key_data(c.proposal.key)) for c in many}
    assert len(keys) == 6


def test_the_edits_of_a_seed_stay_what_they_are():
    """Another result means that the same seed proposes other networks than it did."""
    steps = climbed(accuracy=at_random)
    said = repr([(c.name, c.edits) for step in steps for c in step])
    assert hashlib.sha256(said.encode()).hexdigest()[:16] == "17c4ad936d5f7f70"


def test_selection_breaks_ties_by_loss_then_by_order_and_never_takes_a_diverged_one():
    assert search.select([trial("a", 0.5, 2.0), trial("b", 0.6, 9.0)]).name == "b"
    assert search.select([trial("a", 0.5, 2.0), trial("b", 0.5, 1.0)]).name == "b"
    assert search.select([trial("a", 0.5, 1.0), trial("b", 0.5, 1.0)]).name == "a"
    assert search.select([trial("a", 0.5, math.nan), trial("b", 0.5, 99.0)]).name == "b"
    ranked = search.ranked([trial("a", 0.5), trial("b", 0.7), trial("c", 0.5), trial("d", 0.6)])
    assert [each.name for each in ranked] == ["b", "d", "a", "c"]


def test_trials_that_failed_are_passed_over():
    worse = trial("b", 0.1, 9.0)
    assert search.select([trial("a", 1.0, failure="x"), worse, trial("c", failure="y")]) is worse
    with pytest.raises(search.AllFailedError, match="all of a, c failed") as caught:
        search.select([trial("a", failure="x"), trial("c", failure="y")])
    assert [each.name for each in caught.value.trials] == ["a", "c"]


def test_bounds_hold_for_every_child():
    settings, flops = HillClimbingSettings(), nj.count_flops(SPEC)
    bounds = rising_bounds(flops, 3 * flops, settings.num_steps * settings.num_morphisms)
    for step, children in enumerate(climbed(settings, space=Morphs(SPEC, bounds))[1:], start=1):
        most = flops * (1 + 2 * step / settings.num_steps)
        assert all(nj.count_flops(c.spec) <= most for c in children)
        assert all(c.edits for c in children[:-1])


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "one_network"])
@pytest.mark.parametrize("cost", ["params", "flops", "bytes", "activation_bytes"])
def test_every_bound_holds_for_every_proposal_of_every_strategy(name, cost):
    limits = {"flops": 2 * nj.count_flops(SPEC), cost: 2 * COSTS[cost](SPEC)}
    settings = SETTINGS[name]
    bounds = rising_bounds(0, 1, settings.num_edits(3))
    space = Morphs(SPEC, bounds, 3, cost=Growth.towards(limits, SPEC))
    if name in SHARING:
        inner = SPACES[name].space
        limits = {cost: COSTS[cost](inner.build(inner.start, "final"))}
        space = Bounded(inner, limits)
    accuracy = at_random if name in SHARING else by_flops
    trials = list(simulate(space, STRATEGIES[name](space, settings, KEYS), scored(accuracy)))
    made = [trial for trial in trials if not isinstance(trial.genotype, Supernet)]
    assert all(COSTS[cost](trial.spec) <= most for trial in made for cost, most in limits.items())
    assert len({trial.spec for trial in made}) > len(made) / 3


def test_a_bound_that_a_network_has_reached_lets_everything_be_that_costs_no_more():
    growth = Growth.towards({"params": nj.count_params(SPEC)}, SPEC)
    assert growth(SPEC) == 0
    assert growth(Widen("conv1", 5).rewrite(SPEC)) == math.inf
    space = Morphs(SPEC, (1.0,), cost=growth)
    assert space.mutate(SPEC, KEYS.search, 1)[1] in {
        (SkipAdd(source, target),) for source in SPEC.shapes for target in SPEC.shapes
    } | {()}


def test_the_metric_decides_what_is_best():
    def scored_trial(name, accuracy, balanced, loss, metric):
        estimate = Estimate(accuracy, loss, Seconds(), balanced_accuracy=balanced)
        return dataclasses.replace(trial(name), estimate=estimate, metric=metric)

    for metric, best in (("accuracy", "a"), ("balanced_accuracy", "b"), ("loss", "c")):
        trials = [
            scored_trial("a", 0.9, 0.4, 0.5, metric),
            scored_trial("b", 0.8, 0.6, 0.6, metric),
            scored_trial("c", 0.7, 0.5, 0.1, metric),
        ]
        assert search.select(trials).name == best
    with pytest.raises(ValueError, match="balanced_accuracy was not measured; take metric"):
        search.select([scored_trial("a", 0.9, None, 0.5, "balanced_accuracy")])


def test_a_random_search_returns_its_samples_the_best_first():
    strategy = search.random_search(SPACE, RandomSearchSettings(5), KEYS)
    ask = next(strategy)
    asked = ask.proposals
    assert [p.name for p in asked] == [f"sample{n}" for n in range(1, 6)]
    assert {(p.recipe, p.parent, p.edits) for p in asked} == {("scratch", None, ())}
    assert len({p.genotype for p in asked}) == 5
    trials = [
        Trial(p, p.genotype, Estimate(a, 1.0, Seconds(), failure="" if a else "x"))
        for p, a in zip(asked, (0.0, 0.9, 0.1, 0.95, 0.2))
    ]
    incumbents = []
    for number, each in enumerate(trials[:-1]):
        assert search.num_due(ask, 5 - number) == 1
        ask = strategy.send([each])
        assert ask.proposals == ()
        incumbents.append(ask.incumbent)
    with pytest.raises(StopIteration) as end:
        strategy.send(trials[-1:])
    assert incumbents == [None, "sample2", "sample2", "sample4"]
    assert [t.name for t in end.value.value] == ["sample4", "sample2", "sample5", "sample3"]


def evolved(settings, accuracy=at_random, failing=lambda name: False, space=SPACE):
    """What an aging evolution asked for, and its trials in the order in which it was told."""
    strategy, asks, told, out = aging_evolution(space, settings, KEYS), [], [], []
    ask = next(strategy)
    with contextlib.suppress(StopIteration):
        while True:
            asks.append(ask)
            out += ask.proposals
            due, out = out[: search.num_due(ask, len(out))], out[search.num_due(ask, len(out)) :]
            told += [
                Trial(
                    each,
                    each.genotype,
                    Estimate(
                        accuracy(each), 1.0, Seconds(), failure="x" if failing(each.name) else ""
                    ),
                )
                for each in due
            ]
            ask = strategy.send(told[-len(due) :])
    return asks, told


def test_the_oldest_of_a_population_dies_and_each_child_is_one_edit_from_its_parent():
    settings = AgingEvolutionSettings(12, population=4, tournament=2, window=1)
    asks, told = evolved(settings)
    asked = [proposal for ask in asks for proposal in ask.proposals]
    assert asked == [trial.proposal for trial in told]  # one after the other
    assert [len(ask.proposals) for ask in asks] == [1] * 12
    assert [p.recipe for p in asked] == ["scratch"] * 4 + ["brief"] * 8
    names = [p.name for p in asked]
    for number, (ask, proposal) in enumerate(zip(asks, asked)):
        living = names[max(0, number - 4) : number]
        best = [search.select(told[:number]).name] if number else []
        assert ask.incumbent == (best[0] if best else None)
        assert ask.alive is None
        assert set(ask.dropped) == set(names[max(0, number - 5) : number]) - set(living)
        if number >= 4:
            assert proposal.parent in living
            parent = told[names.index(proposal.parent)].genotype
            (edit,) = proposal.edits
            assert edit.rewrite(parent) == proposal.genotype


def test_so_many_are_out_and_a_child_is_proposed_for_each_that_is_told():
    asks, _ = evolved(AgingEvolutionSettings(12, population=4, tournament=2, window=3))
    assert [len(ask.proposals) for ask in asks] == [3, *[1] * 9, 0]
    assert {ask.leave for ask in asks} == {2}


def test_what_failed_does_not_live():
    settings = AgingEvolutionSettings(12, population=4, tournament=2, window=1)
    asks, _ = evolved(settings, failing=lambda name: name in ("sample2", "child5"))
    asked = [proposal for ask in asks for proposal in ask.proposals]
    assert not {"sample2", "child5"} & {each.parent for each in asked}
    assert not any({"sample2", "child5"} & set(ask.dropped) for ask in asks)
    with pytest.raises(search.AllFailedError, match="all of sample1, .*, sample4 failed"):
        evolved(settings, failing=lambda name: True)


class Bits:
    """Thirty bits, one of which is flipped by a mutation: OneMax."""

    start = (0,) * 30
    bounds = ()

    def sample(self, key):
        return tuple(_numbers(key).integers(2, size=30).tolist())

    def mutate(self, genotype, key, num=1, done=None):
        place = int(_numbers(key).integers(30))
        return (*genotype[:place], 1 - genotype[place], *genotype[place + 1 :]), ()

    def build(self, genotype, stage):
        return genotype


def _numbers(key):
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


def test_where_estimates_are_noisy_it_is_better_that_the_oldest_dies():
    """If the worst dies, a network that was lucky once lives for ever (Real et al. 2019)."""

    def noisy(proposal):
        return sum(proposal.genotype) + 4 * _numbers(proposal.key).normal()

    def living(dies):
        settings = AgingEvolutionSettings(400, population=20, tournament=5, dies=dies, window=1)
        _, told = evolved(settings, noisy, space=Bits())
        return statistics.mean(sum(trial.genotype) for trial in told[-20:])

    assert living("oldest") > living("worst") + 1


def test_rungs_train_the_best_for_what_they_lack():
    settings = SuccessiveHalvingSettings(num_samples=9, first_epochs=2)
    assert [tuple(rung) for rung in settings.rungs] == [(9, 2, 2), (3, 6, 4), (1, 18, 12)]
    made = list(simulate(SPACE, successive_halving(SPACE, settings, KEYS), scored(at_random)))
    rungs = [[t for t in made if t.step == step] for step in range(3)]
    assert [len(rung) for rung in rungs] == [9, 3, 1]
    for before, after, (_, _, more) in zip(rungs, rungs[1:], settings.rungs[1:]):
        best = search.ranked(before)[: len(after)]
        assert [t.parent for t in after] == [t.name for t in best]
        assert [t.genotype for t in after] == [t.genotype for t in best]
        assert {(t.recipe, t.proposal.budget, t.edits) for t in after} == {("further", more, ())}
    spent = sum(each.proposal.budget for each in made)
    assert spent == 9 * 2 + 3 * 4 + 1 * 12
    assert len({str(jax.random.key_data(each.proposal.key)) for each in made}) == 13


def test_rungs_may_train_anew():
    settings = SuccessiveHalvingSettings(num_samples=5, eta=2, anew=True)
    made = list(simulate(SPACE, successive_halving(SPACE, settings, KEYS), scored(at_random)))
    assert [(t.recipe, t.proposal.budget, t.parent) for t in made] == [
        *[("scratch", 1, None)] * 5, *[("scratch", 2, None)] * 2, ("scratch", 4, None)
    ]  # fmt: skip


def test_one_rung_is_a_random_search():
    settings = SuccessiveHalvingSettings(num_samples=2)
    made = list(simulate(SPACE, successive_halving(SPACE, settings, KEYS), scored(at_random)))
    drawn = search.random_search(SPACE, RandomSearchSettings(2), KEYS)
    assert [t.genotype for t in made] == [p.genotype for p in next(drawn).proposals]


# Strategies of shared weights.


def test_p_darts_leaves_the_strongest_choices_to_deeper_supernets():
    estimate = scored(at_random)
    space = SPACES["p_darts"]
    *stages, derived = simulate(space, search.p_darts(space, SETTINGS["p_darts"], KEYS), estimate)
    assert [trial.genotype.cells for trial in stages] == [5, 11, 17]
    sizes = [{len(choices) for _, choices in trial.genotype.edges} for trial in stages]
    assert sizes == [{8}, {5}, {3}]
    for before, after in itertools.pairwise(stages):
        for edge, choices in after.genotype.edges:
            weights = dict(zip(before.genotype.choices[edge], before.estimate.edges[edge][-1]))
            assert set(choices) == set(sorted(weights, key=weights.get)[-len(choices) :])
    left = stages[-1].genotype.choices
    assert all(op in left[edge] for edge, op in space.sharing.chosen(derived.genotype).items())


@pytest.mark.parametrize("most", [0, 2, 8])
def test_the_weakest_skips_of_the_normal_cell_are_taken_out(most):
    space = SPACES["p_darts"]
    whole, rng = space.whole(), np.random.default_rng(0)
    weights = {edge: rng.dirichlet(np.ones(8)) for edge, _ in whole.edges}
    for edge in weights:
        weights[edge][3] += 1  # skips
    few = space.sharing.chosen(with_few_skips(space, weights, whole, most))
    many = space.sharing.chosen(space.derive(weights))
    skips = {edge for edge, op in few.items() if edge.startswith("normal") and op == SKIP}
    assert len(skips) == min(most, 8)
    assert [op for edge, op in few.items() if edge.startswith("reduce")] == 8 * [SKIP]
    assert list(many.values()) == 16 * [SKIP]


def test_stacnas_chooses_groups_and_then_within_them_on_the_same_edges():
    space = SPACES["stacnas"]
    first, second, derived = simulate(
        space, search.stacnas(space, SETTINGS["stacnas"], KEYS), scored(at_random)
    )
    assert {choices for _, choices in first.genotype.edges} == {
        ("none", "max_pool_3x3", SKIP, "sep_conv_3x3", "dil_conv_3x3")
    }
    weights = {edge: history[-1] for edge, history in first.estimate.edges.items()}
    chosen = space.sharing.chosen(space.derive(weights, first.genotype))
    for edge, choices in second.genotype.edges:
        group = group_of(chosen[edge]) if edge in chosen else ()
        assert set(choices) == {"none", *group}
    assert space.sharing.chosen(derived.genotype).keys() == chosen.keys()
    assert sorted(op for group in GROUPS for op in group) == sorted(space.sharing.op_names)


@pytest.mark.parametrize(("strategy", "op"), [("darts", "sep_conv_3x3"), ("stacnas", POOL)])
def test_ops_that_are_alike_share_their_weight_in_one_stage_and_not_in_two(strategy, op):
    """Both pools are worth 4, each half of it where both are there; a convolution is worth 3."""
    space, worth = OF_DARTS, {POOL: 4.0, "avg_pool_3x3": 4.0, "sep_conv_3x3": 3.0}

    def estimate(proposal):
        weights = {}
        for edge, choices in getattr(proposal.genotype, "edges", ()):
            pools = sum(choice.endswith("pool_3x3") for choice in choices)
            worths = [worth.get(choice, 1.0) for choice in choices]
            shares = np.array(worths) / [pools if "pool" in choice else 1 for choice in choices]
            weights[edge] = (tuple((shares / shares.sum()).tolist()),)
        return Estimate(0.5, 1.0, Seconds(), edges=weights)

    made = STRATEGIES[strategy](space, SETTINGS[strategy], KEYS)
    *_, derived = simulate(space, made, estimate)
    assert set(space.sharing.chosen(derived.genotype).values()) == {op}


# The contract of all strategies: more of it is in test_engine.


def proposals_of(name, accuracy, failing=lambda proposal: False):
    """What a strategy asks for, as it can be compared."""

    def estimate(proposal):
        failure, made_up = "x" if failing(proposal) else "", of_supernet(proposal.genotype)
        return Estimate(accuracy(proposal), 1.0, Seconds(), failure=failure, **made_up)

    space = SPACES[name]
    trials = list(simulate(space, STRATEGIES[name](space, SETTINGS[name], KEYS), estimate))
    return [
        (*t.proposal._replace(key=jax.random.key_data(t.proposal.key).tolist()), t.step)
        for t in trials
    ]


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_a_strategy_depends_on_its_keys_and_on_what_it_is_told_alone(name):
    assert proposals_of(name, at_random) == proposals_of(name, at_random)
    asked = proposals_of(name, at_random)
    assert len({proposal[0] for proposal in asked}) == len(asked)
    counts = collections.Counter((p[5], p[6]) for p in asked)
    assert {(each.recipe, each.budget): each.number for each in SETTINGS[name].plan} == counts
    assert all(SETTINGS[name].phase(proposal[-1]) for proposal in asked)
    at_once = [sum(p[-1] == step for p in asked) for step in {p[-1] for p in asked}]
    if name not in SHARING:  # those are trained or judged one after the other
        assert SETTINGS[name].num_at_once == max(at_once)


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "one_network"])
def test_a_strategy_survives_trials_that_fail(name):
    def failing(proposal):
        return proposal.name.endswith(("child1", "child5", "sample2"))

    failed = proposals_of(name, at_random, failing)
    assert len(failed) == len(proposals_of(name, at_random))
    assert not any((p[3] or "").endswith(("child1", "child5", "sample2")) for p in failed)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (HillClimbingSettings, {"num_steps": -1}, "num_steps must be >= 0; got -1"),
        (HillClimbingSettings, {"num_neighbours": 0}, "num_neighbours must be >= 1; got 0"),
        (HillClimbingSettings, {"num_morphisms": 0}, "num_morphisms must be >= 1; got 0"),
        (RandomSearchSettings, {"num_samples": 0}, "num_samples must be >= 1; got 0"),
        (AgingEvolutionSettings, {"population": 0}, "population must be >= 1; got 0"),
        (AgingEvolutionSettings, {"population": 5}, "must be at most population, 5; got 25"),
        (AgingEvolutionSettings, {"dies": "all"}, "dies must be one of oldest, worst; got 'all'"),
        (SuccessiveHalvingSettings, {"eta": 1}, "eta must be >= 2; got 1"),
        (SuccessiveHalvingSettings, {"first_epochs": 0}, "first_epochs must be >= 1; got 0"),
    ],
)
def test_bad_settings_are_one_clear_error(kind, changes, message):
    with pytest.raises(ValueError, match=message):
        kind(**changes)


def test_lineage_names_the_edits_between_two_trials():
    root = trial("model_0")

    def child(name, parent, *edits):
        return trial(name, edits=edits, parent=parent)

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
    with pytest.raises(ValueError, match="there is no trial 'x'; there are d, model_0"):
        search.lineage(family, "d", "x")
    orphan = trial("other")
    with pytest.raises(ValueError, match="'d' and 'other' have no common ancestor"):
        search.lineage([*family, orphan], "d", "other")
