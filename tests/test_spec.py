"""Specs: validation, shapes, hashing, names, and the table that a network prints as."""

import dataclasses
import pickle

import jax
import pytest
from zoo import ZOO

import nash_jax as nj
from nash_jax import Node, ops
from nash_jax.architecture.spec import fresh_names

HEAD = [Node("flat", ops.Flatten(), "x"), Node("dense", ops.Dense(3), "flat")]


def make(*nodes, shape=(8, 8, 3)):
    return nj.Architecture(shape, nodes)


def test_shapes_of_a_chain():
    spec = nj.chain((32, 32, 3), 10)
    assert spec.shapes["relu1"] == (32, 32, 64)
    assert spec.shapes["pool2"] == (8, 8, 128)
    assert spec.shapes["flatten"] == (8 * 8 * 256,)
    assert spec.num_classes == 10
    assert spec.output == "dense"


@pytest.mark.parametrize(
    ("op", "shape", "expected"),
    [
        (ops.Conv(5, 3, stride=2), (7, 8, 3), (4, 4, 5)),
        (ops.Conv(5, 3, padding="VALID", dilation=2), (7, 8, 3), (3, 4, 5)),
        (ops.MaxPool(2), (7, 8, 3), (3, 4, 3)),
        (ops.AvgPool(3, 2, "SAME"), (7, 8, 3), (4, 4, 3)),
        (ops.GlobalAvgPool(), (7, 8, 3), (3,)),
        (ops.PadChannels(1, 2), (7, 8, 3), (7, 8, 6)),
        (ops.Zero(2), (7, 8, 3), (4, 4, 3)),
        (ops.Shift(1, 2), (7, 8, 3), (7, 8, 3)),
        (ops.Resize(3, 16), (7, 8, 3), (3, 16, 3)),
        (ops.Shuffle(3), (7, 8, 3), (7, 8, 3)),
    ],
)
def test_hand_worked_shapes(op, shape, expected):
    head = HEAD if len(expected) == 3 else [Node("dense", ops.Dense(3), "x")]
    assert make(Node("x", op, "input"), *head, shape=shape).shapes["x"] == expected


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (
            [Node("x", ops.Relu(), "inptu"), *HEAD],
            "'x' reads 'inptu', which does not exist; did you",
        ),
        ([Node("x", ops.Relu(), "input"), Node("x", ops.Relu(), "x"), *HEAD], "'x' stands twice"),
        (
            [
                Node("x", ops.Add(), ("input", "z")),
                Node("y", ops.Relu(), "x"),
                Node("z", ops.Relu(), "y"),
                *HEAD,
            ],
            "the graph has a cycle: x -> y -> z -> x",
        ),
        ([Node("x", ops.Add(), ("input", "x")), *HEAD], "the graph has a cycle: x -> x"),
        (
            [HEAD[0], HEAD[1], Node("x", ops.Relu(), "input")],
            "topological order, but 'flat' comes before its input 'x'; list 'x' first",
        ),
        (
            [
                Node("a", ops.Conv(4), "input"),
                Node("b", ops.Conv(5), "input"),
                Node("x", ops.Add(), ("a", "b")),
                *HEAD,
            ],
            r"'x' \(Add\) cannot read 'a' \(8, 8, 4\), 'b' \(8, 8, 5\): the shapes must be equal",
        ),
        (
            [
                Node("a", ops.MaxPool(2), "input"),
                Node("x", ops.Concat(), ("a", "input")),
                *HEAD,
            ],
            r"'x' \(Concat\) cannot read .*: all but the last axis must agree",
        ),
        (
            [Node("x", ops.Conv(4, groups=2), "input"), *HEAD],
            r"groups=2 must divide .* channels, 3",
        ),
        (
            [Node("x", ops.MaxPool(9), "input"), *HEAD],
            "a window of 9x9 does not fit an image of 8x8",
        ),
        ([Node("x", ops.Dense(4), "input")], "Dense needs a vector"),
        ([Node("x", ops.Normalize((0,), (1,)), "input"), *HEAD], "1 means do not fit 3 channels"),
        (
            [Node("x", ops.Relu(), "input"), *HEAD, Node("y", ops.Relu(), "x")],
            "has one output, but no node reads dense, y",
        ),
        ([Node("x", ops.Relu(), "input")], r"the output must be a vector of logits, but node 'x'"),
        ([], "nodes must be at least one Node"),
        ([Node("input", ops.Relu(), "input")], "'input' is the image's name"),
    ],
)
def test_bad_graph_is_one_clear_error(nodes, message):
    with pytest.raises(ValueError, match=message):
        make(*nodes)


@pytest.mark.parametrize(
    ("make_node", "message"),
    [
        (lambda: Node("1x", ops.Relu(), "input"), "a node's name must be letters"),
        (lambda: Node("a/b", ops.Relu(), "input"), "a node's name must be letters"),
        (lambda: Node("a", "Relu", "input"), "op must be one of nj.ops"),
        (lambda: Node("a", ops.Add(), "input"), "Add takes 2 or more"),
        (lambda: Node("a", ops.Mix(), ("x", "y", "z")), "Mix takes 2 inputs"),
        (lambda: Node("a", ops.Relu(), ()), "Relu takes 1 inputs"),
        (lambda: Node("a", ops.Relu(), 3), "must be names of nodes"),
    ],
)
def test_bad_node_is_one_clear_error(make_node, message):
    with pytest.raises(ValueError, match=message):
        make_node()


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 0), (8, 8, 1.0), "abc", None])
def test_bad_input_shape(shape):
    with pytest.raises(ValueError, match="input_shape must be"):
        make(Node("x", ops.Relu(), "input"), *HEAD, shape=shape)


def test_unknown_node_names_the_nearest():
    with pytest.raises(ValueError, match="there is no node 'cnov2'; the nearest names are conv2"):
        nj.chain((8, 8, 1), 10, (4, 4))["cnov2"]


def test_specs_are_static_leafless_and_equal_by_value():
    spec, other = nj.chain((8, 8, 1), 10, (4, 4)), nj.chain((8, 8, 1), 10, (4, 4))
    assert spec == other
    assert hash(spec) == hash(other)
    assert jax.tree.leaves(spec) == []
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.nodes = ()
    traces = []
    traced = jax.jit(lambda s: traces.append(s) or 0)
    traced(spec)
    traced(other)
    assert len(traces) == 1


def test_a_chain_s_flattened_map_is_as_long_as_one_of_its_pixels():
    assert nj.chain((32, 32, 3), 10)["flatten"].op == ops.Flatten(length=16)
    assert nj.chain((11, 8, 1), 10, (4, 4))["flatten"].op == ops.Flatten(length=2)


def test_chain_refuses_images_too_small_for_its_pooling():
    with pytest.raises(ValueError, match=r"images of 3x3 are too small for 2 poolings by 2"):
        nj.chain((3, 3, 1), 10, (4, 4, 4))
    with pytest.raises(ValueError, match="at least one convolution"):
        nj.chain((8, 8, 1), 10, ())


def test_fresh_names_share_a_number_that_was_never_used():
    assert fresh_names(nj.chain((8, 8, 1), 10, (4, 4)), "conv", "bn") == ("conv3", "bn3")


def test_repr_is_a_table():
    lines = repr(nj.chain((8, 8, 1), 10, (16,))).splitlines()
    assert lines[0].startswith(
        "Architecture: 8x8x1 images, 10 classes, 10,426 parameters, 0.04 MFL"
    )
    assert lines[3].split() == ["conv1", "Conv", "16,", "3x3", "input", "8x8x16", "144"]


@pytest.mark.parametrize("name", ZOO)
def test_zoo_is_valid(name):
    assert ZOO[name]().num_classes == 5


def test_readers_know_shared_inputs():
    spec = nj.wide_resnet((32, 32, 3), 10, 10, 1)
    assert max(map(len, spec.readers.values())) == 2


def test_a_spec_can_be_pickled():
    spec = nj.chain((8, 8, 1), 10, (4, 8))
    assert spec.shapes
    assert pickle.loads(pickle.dumps(spec)) == spec
