"""Spaces of genotypes: published sizes and networks, draws, changes, crossover, short code."""

import dataclasses
import itertools
import pathlib

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from helpers import random_images, random_variables
from numpy_network import numpy_apply

import nash_jax as nj
from nash_jax import morphisms, ops, spaces
from nash_jax.spaces import CROSSOVERS, Cell, CellNode, Choices, Read, cell_network
from nash_jax.spaces.nb201 import NB201

SPACES = {
    kind.__name__: kind()
    for kind in (
        *(spaces.Darts, spaces.SubOptimal, spaces.MacroDarts, spaces.ENASMicro, spaces.NASNet),
        *(spaces.NSGANetMicro, spaces.NB201, spaces.NBMacro, spaces.CNAS),
    )
}
TABLES = pathlib.Path(__file__).parents[2] / "shared/data/nas_tables"
keys = st.integers(0, 2**32 - 1).map(jax.random.key)


def pairs(text):
    """'sep_conv_3x3 1, skip_connect 0': pairs (op, state)."""
    return [(op, int(state)) for op, state in (each.split() for each in text.split(","))]


DARTS_V1 = (
    "sep_conv_3x3 1, sep_conv_3x3 0, skip_connect 0, sep_conv_3x3 1, skip_connect 0, "
    "sep_conv_3x3 1, sep_conv_3x3 0, skip_connect 2",
    "max_pool_3x3 0, max_pool_3x3 1, skip_connect 2, max_pool_3x3 0, max_pool_3x3 0, "
    "skip_connect 2, skip_connect 2, avg_pool_3x3 0",
)
DARTS_V2 = (
    "sep_conv_3x3 0, sep_conv_3x3 1, sep_conv_3x3 0, sep_conv_3x3 1, sep_conv_3x3 1, "
    "skip_connect 0, skip_connect 0, dil_conv_3x3 2",
    "max_pool_3x3 0, max_pool_3x3 1, skip_connect 2, max_pool_3x3 1, max_pool_3x3 0, "
    "skip_connect 2, skip_connect 2, max_pool_3x3 1",
)
P_DARTS = (
    "skip_connect 0, dil_conv_3x3 1, skip_connect 0, sep_conv_3x3 1, sep_conv_3x3 1, "
    "sep_conv_3x3 3, sep_conv_3x3 0, dil_conv_5x5 4",
    "avg_pool_3x3 0, sep_conv_5x5 1, sep_conv_3x3 0, dil_conv_5x5 2, max_pool_3x3 0, "
    "dil_conv_3x3 1, dil_conv_3x3 1, dil_conv_5x5 3",
)
# NASNet-A and AmoebaNet-A, written in DARTS's ops, with the states in the output.
NASNET_A = (
    "sep_conv_5x5 1, sep_conv_3x3 0, sep_conv_5x5 0, sep_conv_3x3 0, avg_pool_3x3 1, "
    "skip_connect 0, avg_pool_3x3 0, avg_pool_3x3 0, sep_conv_3x3 1, skip_connect 1",
    (2, 3, 4, 5, 6),
    "sep_conv_5x5 1, sep_conv_7x7 0, max_pool_3x3 1, sep_conv_7x7 0, avg_pool_3x3 1, "
    "sep_conv_5x5 0, skip_connect 3, avg_pool_3x3 2, sep_conv_3x3 2, max_pool_3x3 1",
    (4, 5, 6),
)
AMOEBANET_A = (
    "avg_pool_3x3 0, max_pool_3x3 1, sep_conv_3x3 0, sep_conv_5x5 2, sep_conv_3x3 0, "
    "avg_pool_3x3 3, sep_conv_3x3 1, skip_connect 1, skip_connect 0, avg_pool_3x3 1",
    (4, 5, 6),
    "avg_pool_3x3 0, sep_conv_3x3 1, max_pool_3x3 0, sep_conv_7x7 2, sep_conv_7x7 0, "
    "avg_pool_3x3 1, max_pool_3x3 0, max_pool_3x3 1, conv_7x1_1x7 0, sep_conv_3x3 5",
    (3, 4, 6),
)


def cell_of(text, output):
    reads = [Read(*each) for each in pairs(text)]
    nodes = [CellNode(two) for two in zip(reads[::2], reads[1::2])]
    return Cell.of(nodes, output)


@pytest.mark.parametrize(
    ("cells", "params"), [(DARTS_V1, 3_169_414), (DARTS_V2, 3_349_342), (P_DARTS, 3_433_798)]
)
def test_published_networks_of_darts_have_as_many_parameters(cells, params):
    genotype = spaces.Darts.genotype(*map(pairs, cells))
    assert nj.count_params(spaces.Darts(channels=36, cells=20).build(genotype, "final")) == params
    of_100 = spaces.Darts(num_classes=100).build(genotype, "final")
    assert nj.count_params(of_100) == params + 51_930


@pytest.mark.parametrize(("cells", "params"), [(NASNET_A, 3_830_950), (AMOEBANET_A, 3_145_078)])
def test_other_published_cells_have_as_many_parameters(cells, params):
    normal, reduction = cell_of(*cells[:2]), cell_of(*cells[2:])
    assert nj.count_params(cell_network(normal, reduction, channels=36, cells=20)) == params


def test_sizes_are_the_published_ones():
    assert {name: space.size for name, space in SPACES.items()} == {
        "Darts": (180 * 7**8) ** 2,
        "SubOptimal": (180 * 7**8) ** 2,
        "MacroDarts": (180 * 7**8) ** 2 * 6 * 3 * 3 * 6,
        "ENASMicro": (5**5 * 720) ** 4,
        "NASNet": (720**2 * (13**2 * 2) ** 5) ** 2,
        "NSGANetMicro": (9**5 * 720) ** 4,
        "NB201": 15_625,
        "NBMacro": 6_561,
        "CNAS": (1 * 3 * 6 * 10 * 15 * 21 * 7**12) ** 2,
    }


def test_cells_of_nas_bench_201_up_to_isomorphism_and_connected():
    everything = list(NB201().all())
    assert len({NB201().canonical(genotype) for genotype in everything}) == 6_466
    assert sum(map(NB201.connected, everything)) == 15_284


def test_networks_of_nas_bench_201_cost_what_was_published():
    space = NB201()
    rng = np.random.default_rng(0)
    drawn = [tuple(rng.integers(5, size=6).tolist()) for _ in range(40)]
    for genotype in [(0,) * 6, *drawn]:
        wanted = 73_306 + 243_040 * genotype.count(3) + 28_000 * genotype.count(2)
        assert nj.count_params(space.build(genotype, "final")) == wanted
    for classes, more in ((100, 5_850), (120, 7_150)):
        network = NB201(num_classes=classes).build((0,) * 6, "final")
        assert nj.count_params(network) == 73_306 + more
    # Published with the dense layer's ten biases (NATS-Bench's records of cells 0, 11 and 284).
    for genotype, millions in (("421211", 15.64737), ("334034", 113.95137), ("111020", 11.71521)):
        flops = nj.count_flops(space.build(space.parse(genotype), "final"))
        assert (flops / 2 + 10) / 1e6 == pytest.approx(millions, abs=1e-9)


@pytest.mark.skipif(not TABLES.exists(), reason="the published table is not here")
def test_every_network_of_nas_bench_macro_costs_what_was_published():
    _, *lines = (TABLES / "nbmacro.csv").read_text().splitlines()
    space = spaces.NBMacro()
    for line in lines[:: len(lines) // 400]:
        code, *_, params, flops = line.split(",")
        network = space.build(space.parse(code), "final")
        assert (nj.count_params(network), nj.count_flops(network) // 2) == (int(params), int(flops))


def test_networks_of_nas_bench_macro_as_counted_by_hand():
    # Stem 9*3*32 + 2*32; change of channels 32*64 + 2*64, 64*128 + 2*128, 128*256 + 2*256; head
    # 256*1280 + 2*1280; dense 1280*10 + 10.
    network = spaces.NBMacro().build((0,) * 8, "final")
    assert nj.count_params(network) == 928 + 2_176 + 8_448 + 33_280 + 330_240 + 12_810


@pytest.mark.parametrize("name", SPACES)
@hypothesis.given(key=keys, num=st.integers(1, 3))
@hypothesis.settings(max_examples=25)
def test_draws_changes_and_code(name, key, num):
    space = SPACES[name]
    genotype = space.sample(key)
    space.check(genotype)
    assert space.parse(space.code(genotype)) == genotype
    assert space.build(genotype, "search").num_classes == space.num_classes
    changed, edits = space.mutate(genotype, key, num)
    space.check(changed)
    assert edits == ()
    assert sum(a != b for a, b in zip(genotype, changed)) == num


@pytest.mark.parametrize("name", SPACES)
@hypothesis.given(key=keys, other=keys, kind=st.sampled_from(CROSSOVERS))
@hypothesis.settings(max_examples=50)
def test_a_child_has_every_place_of_a_parent_and_keeps_nodes_whole(name, key, other, kind):
    space = SPACES[name]
    a, b = space.sample(key), space.sample(other)
    child = space.crossover(a, b, key, kind)
    space.check(child)
    assert all(gene in both for gene, both in zip(child, zip(a, b)))
    assert space.crossover(a, a, key, kind) == a
    if kind.startswith("ops_"):
        kept = set(range(len(a))) - set(space.op_places or range(len(a)))
        assert all(child[place] == a[place] for place in kept)
    else:
        for group in space.groups:
            part = [child[place] for place in group]
            assert part in ([a[n] for n in group], [b[n] for n in group])


class Notation(Choices):
    """The seed's notation of Xu et al. 2021: eight ops, and the states that nodes A to D read."""

    sizes = (9,) * 8 + tuple(state for node in range(4) for state in (node + 1, node + 1))
    groups = tuple((2 * n, 2 * n + 1, 8 + 2 * n, 9 + 2 * n) for n in range(4))
    op_places = tuple(range(8))


def test_crossover_in_the_notation_of_xu_et_al():
    space = Notation()
    second = (1, 2, 0, 5, 3, 7, 4, 6, 0, 0, 0, 1, 2, 1, 2, 0)
    first = (8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 1, 0, 1, 1, 3, 3)
    space.check(first)
    space.check(second)
    assert space.size == 9**8 * 1 * 2**2 * 3**2 * 4**2
    found = {space.crossover(first, second, jax.random.key(n), "one_point") for n in range(40)}
    wanted = set()
    for cut in (1, 2, 3):  # between A and B, B and C, C and D
        of_second = {place for group in space.groups[cut:] for place in group}
        wanted.add(tuple(second[n] if n in of_second else first[n] for n in range(16)))
    assert found == wanted
    ops_only = {
        space.crossover(first, second, jax.random.key(n), "ops_one_point") for n in range(90)
    }
    assert ops_only == {(*first[:cut], *second[cut:8], *first[8:]) for cut in range(1, 8)}


def test_the_order_of_nodes_and_of_what_they_read_does_not_matter():
    def cell(*nodes):
        return Cell.of([CellNode((Read(*a), Read(*b))) for a, b in nodes], range(2, 6))

    first = cell(
        (("skip_connect", 0), ("sep_conv_3x3", 1)),
        (("max_pool_3x3", 0), ("skip_connect", 1)),
        (("sep_conv_3x3", 2), ("skip_connect", 3)),
        (("skip_connect", 0), ("skip_connect", 4)),
    )
    second = cell(  # nodes 2 and 3 change places, and node 4 reads the other way round
        (("max_pool_3x3", 0), ("skip_connect", 1)),
        (("sep_conv_3x3", 1), ("skip_connect", 0)),
        (("skip_connect", 2), ("sep_conv_3x3", 3)),
        (("skip_connect", 0), ("skip_connect", 4)),
    )
    other = cell(*((n.reads[0], n.reads[1]) for n in first.nodes[:3]), (("skip_connect", 0),) * 2)
    assert first.canonical() == second.canonical() != other.canonical()


def test_a_factorised_reduction_reads_every_pixel_once():
    b = nj.architecture.builders.Builder()
    spaces.cells.factorized_reduction(b, "input", 4)
    convolutions = [node for node in b.nodes if isinstance(node.op, ops.Conv)]
    assert [node.op.stride for node in convolutions] == [(2, 2), (2, 2)]
    assert sum(isinstance(node.op, ops.Shift) for node in b.nodes) == 1
    with pytest.raises(ValueError, match="channels must be even .* got 5"):
        spaces.cells.factorized_reduction(b, "input", 5)


#: Small networks, two cells or blocks deep where that can be.
SMALL = {
    "Darts": {"channels": 2, "cells": 2},
    "CNAS": {"channels": 4, "cells": 2},
    "ENASMicro": {"channels": 2, "cells": 2},
    "NASNet": {"channels": 2, "cells": 2},
    "NSGANetMicro": {"channels": 2, "cells": 2, "filter_increment": 2},
    "NB201": {"channels": 2, "cells": 1},
    "NBMacro": {"channels": 2, "head": 4},
}


def test_a_cell_may_leave_out_what_is_before_it():
    """ENAS's last cell reads state 0 alone here, and so nothing reads the cell before it."""
    space = spaces.ENASMicro(channels=2, cells=3)
    only_first = 5 * (0, 2, 0, 2)
    networks = [space.build(half + half, "final") for half in (only_first, 5 * (1, 2, 1, 2))]
    assert nj.count_params(networks[0]) < nj.count_params(networks[1])


@pytest.mark.parametrize("name", SMALL)
def test_networks_are_grown_and_simplified_like_all_others(name):
    space = dataclasses.replace(SPACES[name], input_shape=(8, 8, 3), num_classes=5, **SMALL[name])
    key = jax.random.key(1)
    spec = space.build(space.sample(key), "final")
    assert nj.from_json(nj.to_json(spec)) == spec
    variables, images = random_variables(spec), random_images(spec, 2)
    edits, grown = morphisms.sample_edits(spec, key, 4)
    _, weights = morphisms.Sequence(edits)(spec, variables, key)
    before = numpy_apply(nj.to_json(spec), variables, images)
    after = numpy_apply(nj.to_json(grown), weights, images)
    assert np.abs(after - before).max() <= 1e-4 * np.abs(before).max()
    smaller, left = morphisms.simplify(grown, weights)
    assert nj.count_params(smaller) <= nj.count_params(grown)
    simplified = numpy_apply(nj.to_json(smaller), left, images)
    assert np.abs(simplified - before).max() <= 1e-4 * np.abs(before).max()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NB201().build((3, 0, 3), "final"), "must be a tuple of 6 whole numbers; got"),
        (lambda: NB201().build((3, 0, 3, 1, 0, 5), "final"), "place 5 .* from 0 to 4; got 5"),
        (lambda: NB201().parse("30310!"), "digits 0 to 9 and a to z; got '30310!'"),
        (lambda: NB201.genotype("|nor_conv_3x3~0|"), "must be like |op~0|"),
        (
            lambda: NB201.genotype("|conv~0|+|none~0|none~1|+|none~0|none~1|none~2|"),
            "op must be one of none, .* got 'conv'",
        ),
        (lambda: spaces.Darts.genotype([], []), r"must have 8 pairs \(op, state\); got 0"),
        (
            lambda: spaces.Darts.genotype([("sep_conv_3x3", 0)] * 8, []),
            "node 0 of normal must read two different states from 0 to 1; got 0 and 0",
        ),
        (
            lambda: spaces.Darts.genotype([("sep_conv_3", 0)] * 8, []),
            "op must be one of max_pool_3x3, .* got 'sep_conv_3'",
        ),
        (
            lambda: NB201().crossover((0,) * 6, (1,) * 6, jax.random.key(0), "all"),
            "kind must be one of uniform",
        ),
    ],
)
def test_what_is_wrong_is_one_line(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_where_a_macro_structure_reduces_and_how_wide_it_is():
    space = spaces.MacroDarts(input_shape=(16, 16, 3))
    *cells, _, _, _, _ = space.start
    for num, first, second, width in itertools.product((0, 5), (0, 2), (0, 2), (0, 1)):
        network = space.build((*cells, num, first, second, width), "search")
        assert network.shapes[network.nodes[-3].name] == (4, 4, 4 * 4 * space.WIDTHS[width])


def test_shuffled_channels_are_refused_before_a_search():
    with pytest.raises(ValueError, match="search_channels must be a multiple of 4 .*; take 8"):
        spaces.CNAS(search_channels=6)
