"""Ops: fields are checked when an op is made, and sizes are normalised."""

import pytest

from nash_jax import ops


def test_one_number_stands_for_height_and_width():
    assert ops.Conv(4, 3) == ops.Conv(4, (3, 3))
    assert ops.MaxPool(3).stride == (3, 3)
    assert ops.AvgPool((2, 3), 1).stride == (1, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: ops.Conv(0),
            r"Conv.features must be a whole number >= 1 and <= 2147483647; got 0",
        ),
        (lambda: ops.Conv(4.0), r"Conv.features .* got 4.0"),
        (lambda: ops.Conv(True), r"Conv.features .* got True"),
        (lambda: ops.Conv(2**31), r"Conv.features"),
        (lambda: ops.Conv(4, (3, 0)), r"Conv.kernel_size .* got \(3, 0\)"),
        (lambda: ops.Conv(4, "3"), r"Conv.kernel_size"),
        (lambda: ops.Conv(4, groups=3), r"Conv.features must be a multiple of groups=3; got 4"),
        (lambda: ops.Conv(4, padding="same"), r"Conv.padding must be 'SAME' or 'VALID'"),
        (lambda: ops.Conv(4, use_bias=1), r"Conv.use_bias must be True or False; got 1"),
        (lambda: ops.BatchNorm(epsilon=0), r"BatchNorm.epsilon"),
        (lambda: ops.BatchNorm(momentum=float("nan")), r"BatchNorm.momentum"),
        (lambda: ops.BatchNorm(momentum=10**400), r"BatchNorm.momentum"),
        (lambda: ops.Flatten(0), r"Flatten.scale must be a number > 0 and finite; got 0"),
        (lambda: ops.Flatten(float("inf")), r"Flatten.scale"),
        (lambda: ops.Dropout(1.0), r"Dropout.rate must be a number in \[0, 1\); got 1.0"),
        (lambda: ops.MaxPool(2, 0), r"MaxPool.stride"),
        (lambda: ops.PadChannels(-1), r"PadChannels.before must be a whole number >= 0 .* got -1"),
        (lambda: ops.Normalize((1.0,), (0.0,)), r"Normalize.std must be positive"),
        (lambda: ops.Normalize((1.0,), (1.0, 1.0)), r"Normalize.std .* as many as in mean"),
        (lambda: ops.Normalize((), ()), r"Normalize.mean"),
    ],
)
def test_bad_field_is_one_clear_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_describe_leaves_defaults_out():
    assert ops.describe(ops.Conv(64, 5)) == "Conv 64, 5x5"
    assert ops.describe(ops.Conv(64, stride=2)) == "Conv 64, 3x3, stride 2x2"
    assert ops.describe(ops.MaxPool(2)) == "MaxPool 2x2"
    assert ops.describe(ops.Flatten()) == "Flatten"
    assert ops.describe(ops.Flatten(1 / 3)) == "Flatten scale 0.3333"
    assert ops.describe(ops.Relu()) == "Relu"
