"""JSON of specs: the round trip is exact, and any bad text is a ValueError."""

import json

import hypothesis
import hypothesis.strategies as st
import pytest
from zoo import ZOO

import nash_jax as nj

TEXT = nj.to_json(ZOO["inception"]())


@pytest.mark.parametrize(
    "spec", [*(make() for make in ZOO.values()), nj.wide_resnet((32, 32, 3), 10, 28, 10)]
)
def test_round_trip_gives_an_equal_spec(spec):
    assert nj.from_json(nj.to_json(spec)) == spec
    assert nj.from_json(nj.to_json(spec, indent=2).encode()) == spec


def edited(**changes):
    return json.dumps(json.loads(TEXT) | changes)


def edited_node(**changes):
    data = json.loads(TEXT)
    data["nodes"][0] |= changes
    return json.dumps(data)


BAD_TEXTS = [
    *("", "null", "[]", "{}", "3", '"x"', b"\xff\xfe\x00", None, 7),
    "[" * 100_000,
    '{"a":' * 100_000,
    "9" * 5000,
    '{"format": "nash_jax.architecture", "format": "nash_jax.architecture"}',
    edited(version=2),
    edited(version="1"),
    edited(version=True),
    edited(format="other"),
    edited(nodes=None),
    edited(nodes=[]),
    edited(nodes=[1]),
    edited(nodes=[{}]),
    edited(input_shape=None),
    edited(input_shape=[8, 8, 10**30]),
    edited(more=1),
    edited_node(op="Exec"),
    edited_node(op=["Conv"]),
    edited_node(op={}),
    edited_node(name=None),
    edited_node(name="../../etc"),
    edited_node(inputs=None),
    edited_node(inputs=[["input"]]),
    edited_node(inputs=[{}]),
    edited_node(features=-1),
    edited_node(features=1e99),
    edited_node(kernel_size=[3, 3, 3]),
    edited_node(kernel_size=[[], []]),
    edited_node(__class__="x"),
    TEXT.replace("1e-05", "NaN"),
    TEXT.replace("1e-05", "1e999"),
]


@pytest.mark.parametrize("number", range(len(BAD_TEXTS)))
def test_bad_text_is_a_value_error(number):
    with pytest.raises(ValueError, match="."):
        nj.from_json(BAD_TEXTS[number])


@hypothesis.settings(max_examples=300)
@hypothesis.given(st.integers(0, len(TEXT) - 1))
def test_truncated_text_is_a_value_error(length):
    with pytest.raises(ValueError, match="."):
        nj.from_json(TEXT[:length])


def test_sizes_that_explode_are_a_value_error():
    nodes = [{"name": "n0", "op": "GlobalAvgPool", "inputs": ["input"]}]
    nodes += [
        {"name": f"n{i + 1}", "op": "Concat", "inputs": [f"n{i}", f"n{i}"]} for i in range(99)
    ]
    with pytest.raises(ValueError, match="sizes must be at most 2147483647"):
        nj.from_json(edited(nodes=nodes))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@hypothesis.settings(max_examples=300)
@hypothesis.given(st.data())
def test_any_field_replaced_by_anything_is_a_spec_or_a_value_error(data):
    document = json.loads(TEXT)
    place = data.draw(st.sampled_from([document, *document["nodes"]]))
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(json_values)
    try:
        spec = nj.from_json(json.dumps(document))
    except ValueError:
        return
    assert nj.from_json(nj.to_json(spec)) == spec
