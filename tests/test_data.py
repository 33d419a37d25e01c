"""Data: the embedded digits, NumPy files, splits, and every way a file can be wrong."""

import re
import zipfile

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from nash_jax import data


def good_arrays(n=12):
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (n, 6, 5, 3), np.uint8),
        "y_train": np.arange(n) % 3,
        "x_test": rng.integers(0, 256, (4, 6, 5, 3), np.uint8),
        "y_test": np.array([0, 1, 2, 0]),
    }


@pytest.fixture
def npz(tmp_path):
    def write(**changes):
        path = tmp_path / "data.npz"
        arrays = good_arrays() | changes
        np.savez(path, **{name: x for name, x in arrays.items() if x is not None})
        return f"npz:{path}"

    return write


def test_digits_are_the_real_ones_with_a_fixed_stratified_test_set():
    digits = data.load_dataset("digits")
    assert (len(digits.train), len(digits.test)) == (1437, 360)
    assert digits.image_shape == (8, 8, 1)
    assert digits.num_classes == 10
    assert digits.train.images.max() == 255
    assert set(np.bincount(digits.test.labels)) <= {35, 36, 37}
    again = data.load_dataset("digits")
    np.testing.assert_array_equal(digits.test.images, again.test.images)


def test_npz_is_read_as_it_is(npz):
    loaded = data.load_dataset(npz())
    np.testing.assert_array_equal(loaded.train.images, good_arrays()["x_train"])
    np.testing.assert_array_equal(loaded.test.labels, [0, 1, 2, 0])
    assert loaded.num_classes == 3


def test_images_of_any_source_are_resized(npz):
    """A fine checkerboard of two colours becomes grey."""
    arrays = good_arrays()
    n, channels = len(arrays["x_train"]), arrays["x_train"].shape[-1]
    squares = np.indices((8, 8)).sum(axis=0) % 2 * 200
    board = np.broadcast_to(squares[None, :, :, None], (n, 8, 8, channels)).astype(np.uint8)
    test = np.full((len(arrays["x_test"]), 8, 8, channels), 7, np.uint8)
    loaded = data.load_dataset(npz(x_train=board, x_test=test), image_size=2)
    assert loaded.image_shape == (2, 2, channels)
    assert abs(loaded.train.images.astype(int) - 100).max() <= 10
    assert (loaded.test.images == 7).all()
    assert data.load_dataset("digits", image_size=16).image_shape == (16, 16, 1)


@pytest.mark.parametrize(
    "names",
    [
        ("train_images", "train_labels", "test_images", "test_labels"),  # MedMNIST's
        ("X_train", "Y_train", "X_val", "Y_val"),
        ("trainData", "trainTargets", "testData", "testTargets"),
    ],
)
def test_arrays_of_other_names_and_shapes_with_a_clear_meaning_are_read(tmp_path, names):
    x_train, y_train, x_test, y_test = good_arrays().values()
    arrays = x_train[..., 0], y_train[:, None], x_test[..., 0].astype(np.int64), y_test[:, None]
    np.savez(tmp_path / "set.npz", **dict(zip(names, arrays)), extra=x_test)
    notes = []
    loaded = data.load_dataset(f"npz:{tmp_path / 'set.npz'}", note=notes.append)
    np.testing.assert_array_equal(loaded.train.images, x_train[..., :1])
    np.testing.assert_array_equal(loaded.train.labels, y_train)
    np.testing.assert_array_equal(loaded.test.images, x_test[..., :1])
    np.testing.assert_array_equal(loaded.test.labels, y_test)
    assert notes == [f"dataset npz:{tmp_path}/set.npz: only {', '.join(names)} are read, not extra"]


@pytest.mark.parametrize(
    "x",
    [
        np.linspace(0, 1, 4).reshape(1, 2, 2, 1),
        np.array([0, 1000, 2000, 4080], np.uint16).reshape(1, 2, 2, 1),
        np.array([-30000, -5, 0, 30000], np.int16).reshape(1, 2, 2, 1),
        np.array([-128, -5, 0, 127], np.int8).reshape(1, 2, 2, 1),
        np.array([0.0, 3.2, 200.4, 255]).reshape(1, 2, 2, 1),
        np.array([True, False, True, True]).reshape(1, 2, 2, 1),
    ],
)
def test_a_remedy_does_what_it_promises(x):
    with pytest.raises(ValueError, match="must be whole numbers 0 to 255; got .*; take ") as caught:
        data.make_dataset("x", x, [0], x, [0])
    remedy = re.search(r"; take (.*?)(, with|$)", str(caught.value))[1]
    scaled = eval(remedy, {"np": np, "x": x, "least": x.min(), "most": x.max()})
    first, last = scaled.ravel()[[0, -1]]
    assert np.array_equal(np.argsort(scaled.ravel()), np.argsort(x.ravel()))
    assert scaled.astype(np.uint8).tolist() == scaled.tolist()
    if x.dtype.kind in "fiu":
        assert (first, last) == (0, 255)


def test_lists_make_a_data_set_too():
    arrays = good_arrays()
    made = data.make_dataset("set", *(x.tolist() for x in arrays.values()))
    np.testing.assert_array_equal(made.train.images, arrays["x_train"])
    assert made.train.images.dtype == np.uint8
    with pytest.raises(
        ValueError, match="x_train must be an array; .*; resize the images"
    ) as caught:
        data.make_dataset("set", [[[1, 2]], [[1]]], [0, 1], [[[1, 2]]], [0])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None}, "it has no array y_test; it needs x_train"),
        (
            {"x_train": good_arrays()["x_train"].astype(float)},
            r"x_train must be whole numbers 0 to 255; got float64 .* take np.round\(x\).astype",
        ),
        ({"x_train": good_arrays()["x_train"] / 255}, r"take np.round\(255 \* x\).astype"),
        (
            {"x_train": good_arrays()["x_train"] - 90.0},
            r"take np.round\(255 \* \(x.astype",
        ),
        ({"x_train": good_arrays()["x_train"] * np.nan}, "some not finite; leave out"),
        ({"x_train": np.full((12, 6, 5, 3), "a")}, "got <U1; make it real numbers"),
        ({"x_train": np.zeros((12, 6, 5, 3), complex)}, "got complex128; make it real numbers"),
        ({"x_train": good_arrays()["x_train"] > 90}, r"got bool; take 255 \* x"),
        ({"x_train": good_arrays()["x_train"][0, 0]}, r"x_train must have shape .* got \[5, 3\]"),
        ({"x_train": np.zeros((12, 6, 5, 4), np.uint8)}, r"opacity, leave it out, as in x\[..., :"),
        ({"x_train": np.zeros((12, 3, 6, 5), np.uint8)}, r"first: transpose\(0, 2, 3, 1\)"),
        ({"x_train": np.zeros((12, 6, 5, 9), np.uint8)}, "choose or combine channels"),
        ({"x_train": np.zeros((0, 6, 5, 3), np.uint8)}, "x_train must not be empty"),
        ({"x_test": np.zeros((0, 6, 5, 3), np.uint8)}, "x_test must not be empty"),
        ({"y_train": np.arange(12) / 2}, "y_train must be whole numbers; got float64"),
        ({"y_train": np.eye(12, 3)}, r"got \[12, 3\]; if they are one-hot, take y.argmax"),
        (
            {"x_train": None, "X_train": np.zeros(3), "train_images": np.zeros(3)},
            "it must have one array x_train; got X_train and train_images; keep one",
        ),
        ({"y_train": np.arange(11) % 3}, r"one label per image, shape \[12\]; got \[11\]"),
        ({"y_train": np.zeros(12, int)}, "at least two classes; got only 0"),
        ({"y_train": np.arange(12) % 3 * 2}, "label 1 has no image, but label 2 has"),
        ({"y_train": np.arange(12) % 3 * 10**13}, "label 1 has no image"),
        (
            {"y_train": np.arange(12) - 1},
            "y_train must be labels from 0; got -1; number the classes",
        ),
        ({"y_test": np.array([0, 1, 2, 3])}, "y_test must be labels 0 to 2, .* got 0 to 3"),
        (
            {"x_test": np.zeros((4, 5, 5, 3), np.uint8)},
            r"x_test must have images of shape \[6, 5, 3",
        ),
        ({"x_test": np.zeros((4, 5, 5, 3), np.uint8)}, "resize them"),
        (
            {"x_train": np.array([None] * 12)},
            "cannot be used: x_train holds Python objects; make it an array",
        ),
    ],
)
def test_a_bad_array_is_one_clear_error(npz, changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        data.load_dataset(npz(**changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "member", [b"hello", b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': (\n"]
)
def test_a_member_that_is_no_array_is_one_clear_error(npz, tmp_path, member):
    source = npz(x_train=None)
    with zipfile.ZipFile(tmp_path / "data.npz", "a") as file:
        file.writestr("x_train.npy", member)
    with pytest.raises(ValueError, match="cannot be used") as caught:
        data.load_dataset(source)
    assert "\n" not in str(caught.value)


def test_a_path_that_cannot_be_is_one_clear_error():
    with pytest.raises(ValueError, match="cannot be used: .*name too long"):
        data.load_dataset("npz:" + 300 * "x")


@pytest.mark.parametrize(
    "content", [b"", b"not a zip file", b"PK\x03\x04 broken", b"\x93NUMPY\x01\x00"]
)
def test_a_file_that_is_no_npz_is_one_clear_error(tmp_path, content):
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be used"):
        data.load_dataset(f"npz:{path}")


def test_one_array_is_no_npz(tmp_path):
    np.save(tmp_path / "data.npy", np.zeros(3))
    with pytest.raises(ValueError, match="cannot be used: it is no .npz file; write x_train"):
        data.load_dataset(f"npz:{tmp_path / 'data.npy'}")


@pytest.mark.parametrize("source", ["", "digit", "npz:", "npz", "cifar10"])
def test_an_unknown_source_is_one_clear_error(source):
    with pytest.raises(ValueError, match="dataset must be digits, tfds:.* or npz:FILE; got"):
        data.load_dataset(source)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="there is no file .*none.npz"):
        data.load_dataset(f"npz:{tmp_path / 'none.npz'}")


def examples(counts):
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    return data.Examples(np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1), labels)


def test_split_is_stratified_seeded_and_complete():
    first, second = data.stratified_split(examples([10, 20, 2]), 0.2, seed=3)
    np.testing.assert_array_equal(np.bincount(second.labels), [2, 4, 1])
    together = np.sort(np.concatenate([first.images, second.images]).ravel())
    np.testing.assert_array_equal(together, np.arange(32))
    same = data.stratified_split(examples([10, 20, 2]), 0.2, seed=3)[1]
    other = data.stratified_split(examples([10, 20, 2]), 0.2, seed=4)[1]
    np.testing.assert_array_equal(second.images, same.images)
    assert (second.images != other.images).any()


@pytest.mark.parametrize("fraction", [0, 1, -1, 2])
def test_bad_fraction(fraction):
    with pytest.raises(ValueError, match="fraction must be between 0 and 1"):
        data.stratified_split(examples([4, 4]), fraction, 0)


def test_a_class_with_one_image_cannot_be_split():
    with pytest.raises(ValueError, match="class 1 has 1"):
        data.stratified_split(examples([4, 1]), 0.5, 0)


def grouped(groups_of_classes):
    """One example for each group that is listed for each class."""
    labels = [label for label, groups in enumerate(groups_of_classes) for _ in groups]
    groups = np.array([group for groups in groups_of_classes for group in groups])
    images = np.zeros((len(labels), 1, 1, 1), np.uint8)
    return data.Examples(images, np.array(labels, np.int32), groups)


@hypothesis.given(
    st.lists(
        st.lists(st.integers(0, 30), min_size=2, max_size=40),
        min_size=1,
        max_size=5,
    ),
    st.floats(0.05, 0.5),
    st.integers(0, 100),
)
def test_no_group_is_divided_and_every_class_is_on_both_sides(groups, fraction, seed):
    whole = grouped(groups)
    try:
        first, second = data.stratified_split(whole, fraction, seed)
    except ValueError:
        with pytest.raises(ValueError, match="every class needs groups on both sides of a split"):
            data.stratified_split(whole, fraction, seed)
        return
    assert not set(first.groups) & set(second.groups)
    assert len(first) + len(second) == len(whole)
    for part in (first, second):
        assert set(part.labels) == set(whole.labels)
    again = data.stratified_split(whole, fraction, seed)[1]
    np.testing.assert_array_equal(again.groups, second.groups)


def test_groups_are_divided_nearly_in_proportion():
    rng = np.random.default_rng(0)  # 300 patients of 1 to 20 images, most of them of one class
    sizes = rng.integers(1, 21, 300)
    groups = np.repeat(np.arange(300), sizes)
    labels = np.where(rng.random(len(groups)) < 0.9, groups % 3, (groups + 1) % 3).astype(np.int32)
    whole = data.Examples(np.zeros((len(groups), 1, 1, 1), np.uint8), labels, groups)
    _, second = data.stratified_split(whole, 0.2, 0)
    shares = np.bincount(second.labels) / np.bincount(labels)
    assert (abs(shares - 0.2) < 0.02).all()


def test_classes_of_two_groups_each_can_be_split():
    """Folds of groups, each for all classes, would leave some class out."""
    whole = grouped([[2 * label] * 5 + [2 * label + 1] * 5 for label in range(40)])
    _, second = data.stratified_split(whole, 0.2, 0)
    np.testing.assert_array_equal(np.bincount(second.labels), [5] * 40)


@pytest.mark.parametrize("seed", range(5))
def test_three_groups_of_a_class_are_enough_for_a_test_set_and_a_validation_set(seed):
    sizes = (80, 10, 10)
    groups = np.concatenate([np.repeat([3 * c, 3 * c + 1, 3 * c + 2], sizes) for c in (0, 1)])
    labels = np.repeat([0, 1], 100).astype(np.int32)
    test = data.splits.held_out(labels, "set", groups=groups)
    rest = data.Examples(np.zeros((200, 1, 1, 1), np.uint8), labels, groups).take(
        np.flatnonzero(~test)
    )
    train, valid = data.stratified_split(rest, 0.2, seed)
    for part in (train.groups, valid.groups, groups[test]):
        assert {group // 3 for group in part} == {0, 1}


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([0.5] * 12, "must be whole numbers or words; got float; number"),
        ([1] * 11, "one group for each image, shape .12.; got .11."),
        ([*"abcdefghijk", 1], "must be whole numbers or words; got int, str"),
        ([True] * 12, "must be whole numbers or words; got bool"),
    ],
)
def test_groups_that_are_none_are_one_clear_error(groups, message):
    with pytest.raises(ValueError, match=f"set: groups_train {message}|set: .*{message}"):
        data.make_dataset("set", *good_arrays().values(), groups_train=np.array(groups, object))


def test_large_numbers_are_groups_of_their_own():
    train = np.arange(12, dtype=np.uint64) + np.uint64(2**60)
    test = np.arange(4, dtype=np.int64) + 2**60 + 20
    loaded = data.make_dataset("set", *good_arrays().values(), groups_train=train, groups_test=test)
    assert len({*loaded.train.groups, *loaded.test.groups}) == 16


def test_a_class_of_one_group_is_named():
    with pytest.raises(
        ValueError, match="set: .*; dog has 1 group, and none can be set apart; add"
    ):
        data.stratified_split(grouped([[0, 1, 2], [5, 5, 5]]), 0.5, 0, "set", ["cat", "dog"])


def test_a_subset_has_images_of_all_groups():
    whole = grouped([np.arange(30) % 10] * 2)
    assert set(data.subset(whole, 40, 0).groups) == set(range(10))


def test_groups_are_read_from_npz(npz):
    names = np.array([*"abcabcabcabc"])
    loaded = data.load_dataset(npz(groups=names, groups_test=np.array([*"cdee"])))
    assert loaded.train.groups.tolist() == [0, 1, 2] * 4
    assert loaded.test.groups.tolist() == [2, 3, 4, 4]
    (said,) = [text for text in data.findings(loaded) if "groups" in text]
    assert "1 of 4 test images are of groups that training images are of, too" in said
    other = data.load_dataset(npz(groups=names))
    assert other.test.groups is None
    assert other.fingerprint() != data.load_dataset(npz()).fingerprint()


def test_subset_keeps_the_proportions():
    np.testing.assert_array_equal(
        np.bincount(data.subset(examples([40, 20]), 15, 0).labels), [10, 5]
    )
    assert len(data.subset(examples([40, 20]), 100, 0)) == 60


def test_a_named_class_without_images_is_named():
    arrays = good_arrays()
    with pytest.raises(ValueError, match="needs a training image; d, e have none; add"):
        data.make_dataset("x", *arrays.values(), class_names=("a", "b", "c", "d", "e"))


def test_channel_statistics_by_hand():
    images = np.array([0, 10, 4, 4], np.uint8).reshape(1, 2, 1, 2).repeat(3, axis=0)
    mean, std = data.channel_statistics(images)
    assert mean == (2.0, 7.0)
    assert std == (2.0, 3.0)
    assert data.channel_statistics(np.full((2, 2, 2, 1), 9, np.uint8)) == ((9.0,), (1.0,))
