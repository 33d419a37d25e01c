"""Counts of parameters and FLOPs against published and hand-worked numbers."""

import math

import jax
import pytest
from zoo import ZOO

import nash_jax as nj
from nash_jax import Node, ops
from nash_jax.architecture import count_activation_bytes, count_bytes, depth
from nash_jax.architecture.builders import Builder


def test_wrn_28_10_has_the_published_number_of_parameters():
    assert nj.count_params(nj.wide_resnet((32, 32, 3), 10, 28, 10)) == 36_479_194


def test_resnet_20_with_option_a_has_the_published_number_of_parameters():
    assert nj.count_params(nj.resnet((32, 32, 3), 10, 20)) == 269_722


def test_resnet_50_has_the_published_number_of_parameters_but_for_the_stem_and_the_classes():
    published = 25_557_032 - 7 * 7 * 3 * 64 - 2049 * 1000
    assert nj.count_params(nj.resnet50((32, 32, 3), 10)) == published + 3 * 3 * 3 * 64 + 2049 * 10


def test_flops_of_a_grouped_strided_convolution_by_hand():
    spec = nj.Architecture(
        (8, 8, 4),
        [
            Node("conv", ops.Conv(6, 3, stride=2, groups=2, use_bias=True), "input"),
            Node("pool", ops.GlobalAvgPool(), "conv"),
            Node("dense", ops.Dense(3), "pool"),
        ],
    )
    assert nj.count_flops(spec) == 2 * (4 * 4 * 6 * 3 * 3 * 2 + 6 * 3)
    assert nj.count_params(spec) == 3 * 3 * 2 * 6 + 6 + 6 * 3 + 3


@pytest.mark.parametrize("name", ZOO)
def test_parameters_and_bytes_are_those_of_the_arrays(name):
    spec = ZOO[name]()
    variables = nj.init(spec, jax.random.key(0))
    params = jax.tree.leaves(variables["params"])
    assert nj.count_params(spec) == sum(math.prod(x.shape) for x in params)
    assert count_bytes(spec) == sum(x.nbytes for x in jax.tree.leaves(variables))


def test_tensors_that_are_still_read_count():
    """Two branches: the first waits for the sum while the second is computed."""
    b = Builder()
    first = b.add(ops.Conv(2), "input")  # 8x8x2, read by both branches
    wide = b.add(ops.Conv(6, (1, 1)), first)  # 8x8x6
    narrow = b.add(ops.Conv(2, (1, 1)), wide)  # 8x8x2
    total = b.add(ops.Add(), narrow, first)
    spec = b.classify(total, 3, (8, 8, 1))
    pixels = 8 * 8
    assert count_activation_bytes(spec) == 4 * pixels * (2 + 6 + 2)
    assert depth(spec) == 4
