"""Counts of parameters and FLOPs against published and hand-worked numbers."""

import math

import jax
import pytest
from zoo import ZOO

import nash_jax as nj
from nash_jax import Node, ops


def test_wrn_28_10_has_the_published_number_of_parameters():
    assert nj.count_params(nj.wide_resnet((32, 32, 3), 10, 28, 10)) == 36_479_194


def test_resnet_20_with_option_a_has_the_published_number_of_parameters():
    assert nj.count_params(nj.resnet((32, 32, 3), 10, 20)) == 269_722


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
def test_parameter_count_is_that_of_the_arrays(name):
    spec = ZOO[name]()
    params = nj.init(spec, jax.random.key(0))["params"]
    assert nj.count_params(spec) == sum(math.prod(x.shape) for x in jax.tree.leaves(params))
