"""Folders of images, CIFAR's files and TensorFlow Datasets, and every way they can be wrong."""

import contextlib
import importlib.util
import os
import pathlib
import shutil
import sys
import time
import types

import numpy as np
import PIL.Image
import pytest
from helpers import image, write_folder

from nash_jax import data
from nash_jax.data import image_sets
from nash_jax.data import tfds as tfds_module

CIFAR = pathlib.Path(__file__).parents[2] / "shared" / "data" / "cifar10"


@pytest.fixture
def folder(tmp_path):
    """Three training and two test images of each of two classes."""
    root = tmp_path / "set"
    write_folder(root / "train")
    write_folder(root / "test", count=2, first=1000)
    return root


def load(root, **options):
    notes = []
    loaded = data.load_dataset(f"folder:{root}", note=notes.append, **options)
    return loaded, notes


def message(root, **options):
    with pytest.raises(ValueError, match="dataset folder:") as caught:
        load(root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Folders.


def test_a_folder_is_read_as_it_is(folder):
    (folder / "train" / "cat" / "notes.txt").write_text("no image")
    (folder / "train" / ".hidden").mkdir()
    loaded, notes = load(folder)
    expected = [image(n) for n in (0, 1, 2, 100, 101, 102)]
    np.testing.assert_array_equal(loaded.train.images, expected)
    np.testing.assert_array_equal(loaded.train.labels, [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(loaded.test.labels, [0, 0, 1, 1])
    assert loaded.class_names == ("cat", "dog")
    (note,) = notes
    assert "files that do not end like images are left out (1): " in note
    assert note.endswith("train/cat/notes.txt")


def test_what_is_hidden_is_left_out_and_links_are_followed_once(folder):
    cat = folder / "train" / "cat"
    PIL.Image.fromarray(image(50)).save(cat / "._0.png")
    (cat / ".checkpoints").mkdir()
    PIL.Image.fromarray(image(51)).save(cat / ".checkpoints" / "0.png")
    more = folder.parent / "more"
    more.mkdir()
    PIL.Image.fromarray(image(52)).save(more / "9.png")
    (cat / "linked").symlink_to(more)
    (cat / "linked again").symlink_to(more)
    (more / "round").symlink_to(cat)
    loaded, notes = load(folder)
    assert notes == []
    expected = [image(n) for n in (0, 1, 2, 52, 100, 101, 102)]
    np.testing.assert_array_equal(loaded.train.images, expected)


def test_a_link_to_nothing_is_an_image_that_cannot_be_read(folder):
    (folder / "train" / "cat" / "gone.png").symlink_to(folder / "nowhere.png")
    text = message(folder)
    assert "1 of 11 images cannot be read, first " in text
    assert "gone.png: No such file or directory" in text


def test_a_folder_that_may_not_be_read_is_one_clear_error(folder, monkeypatch):
    def walk(path, onerror, followlinks):
        onerror(PermissionError(13, "Permission denied", path))
        return []

    monkeypatch.setattr("os.walk", walk)
    text = message(folder)
    assert f"cannot be read: {folder / 'train' / 'cat'}: Permission denied; make it" in text


def test_without_a_test_folder_a_fifth_of_each_class_is_held_out(tmp_path):
    write_folder(tmp_path / "set", count=10)
    loaded, notes = load(tmp_path / "set")
    assert np.bincount(loaded.train.labels).tolist() == [8, 8]
    assert np.bincount(loaded.test.labels).tolist() == [2, 2]
    assert "has no test/: 20% of its images are the test set" in notes[0]
    again, _ = load(tmp_path / "set")
    assert again.fingerprint() == loaded.fingerprint()


def write_tracks(root):
    """Five tracks of two frames for each class; the classes number their tracks alike."""
    for number, name in enumerate(("stop", "yield")):
        for track in range(5):
            (root / name / f"track{track}").mkdir(parents=True)
            for frame in range(2):
                pixels = image(100 * number + 10 * track + frame)
                path = root / name / f"track{track}" / f"{track:03}_{frame:03}.png"
                PIL.Image.fromarray(pixels).save(path)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ("folder", 5),
        (r"/(\d+)_\d+[.]png", 5),
        (r"^.*/\d+_", 10),
        (r"^(\w+)/.*?(\d)_", 10),
        (r"_(\d+)", 2),
    ],
)
def test_groups_of_a_folder_are_what_paths_share(tmp_path, groups, expected):
    write_tracks(tmp_path / "set")
    loaded, notes = load(tmp_path / "set", groups=groups)
    both = {*loaded.train.groups}, {*loaded.test.groups}
    assert len(both[0] | both[1]) == expected
    assert not both[0] & both[1]  # a fifth is held out, of whole groups
    assert f"makes {expected} groups of {20 // expected} to {20 // expected} images" in " ".join(
        notes
    )


def test_groups_that_cannot_be_are_one_clear_error(tmp_path):
    write_folder(tmp_path / "set", count=10)
    assert "'folder' gives none to cat/0.png; put the images of each group into a folder" in (
        message(tmp_path / "set", groups="folder")
    )
    assert "'dog' gives none to cat/0.png; let it match" in message(tmp_path / "set", groups="dog")
    with pytest.raises(
        ValueError, match="groups must be folder or a regular expression; got '[(]'"
    ):
        load(tmp_path / "set", groups="(")
    with pytest.raises(ValueError, match="groups is for folder:; got folder with dataset 'digits'"):
        data.load_dataset("digits", groups="folder")
    assert "cat has 1 group, and none can be" in message(tmp_path / "set", groups=r"^\w+")


def test_images_of_any_size_and_kind_are_resized_and_made_alike(folder):
    cat = folder / "train" / "cat"
    PIL.Image.fromarray(image(5, (40, 20), 1)).save(cat / "grey.jpg")
    PIL.Image.fromarray(image(6, (9, 9), 4)).save(cat / "clear.PNG")
    PIL.Image.fromarray(image(7, (9, 9), 3)).quantize(8).save(cat / "few.gif")
    deep = image(8, (8, 8), 1).astype(np.uint16) * 257
    deep[0, :2] = 0, 65535
    PIL.Image.fromarray(deep).save(cat / "deep.png")
    loaded, _ = load(folder, image_size=8)
    assert loaded.image_shape == (8, 8, 3)
    assert len(loaded.train) == 10
    places = sorted(["0.png", "1.png", "2.png", "grey.jpg", "clear.PNG", "few.gif", "deep.png"])
    found = loaded.train.images[places.index("deep.png")]
    np.testing.assert_array_equal(found, np.repeat((deep // 257)[..., None], 3, axis=2))


def test_images_of_several_sizes_need_one(folder):
    PIL.Image.fromarray(image(5, (7, 9))).save(folder / "test" / "dog" / "9.png")
    text = message(folder)
    assert "0.png is 6x6 and " in text
    assert "dog/9.png is 9x7 pixels; give --image_size=32" in text


def test_corrupt_images_stop_or_are_skipped(folder):
    whole = (folder / "train" / "cat" / "1.png").read_bytes()
    (folder / "train" / "cat" / "1.png").write_bytes(whole[: len(whole) // 2])
    (folder / "test" / "dog" / "1.png").write_text("no image")
    text = message(folder)
    assert "2 of 10 images cannot be read, first " in text
    assert "train/cat/1.png: " in text
    assert "--corrupt_images=skip" in text
    loaded, notes = load(folder, corrupt_images="skip")
    np.testing.assert_array_equal(loaded.train.images[:2], [image(0), image(2)])
    np.testing.assert_array_equal(loaded.test.labels, [0, 0, 1])
    assert "2 of 10 images cannot be read and are skipped: " in notes[0]
    for path in folder.rglob("*.png"):
        path.write_bytes(b"")
    assert "there must be an image that can be read" in message(folder, corrupt_images="skip")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_every_cut_and_flipped_byte_of_a_file_is_said_or_harmless(folder, kind):
    path = folder / "train" / "cat" / f"1.{kind}"
    exif = PIL.Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"  # the orientation, and a text
    PIL.Image.fromarray(image(1)).save(path, exif=exif)
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        for damaged in (whole[:place], whole[:place] + b"\xa5" + whole[place + 1 :]):
            path.write_bytes(damaged)
            with contextlib.suppress(ValueError):
                load(folder)
                continue
            assert f"train/cat/1.{kind}" in message(folder)


def test_more_pixels_than_memory_are_refused_before_they_are_read(folder):
    text = message(folder, image_size=10_000_000)
    assert "image_size must be such that all images fit into memory; 10 images of 10000000x" in text
    name, labels = folder / "x.npz", np.arange(8) % 2
    images = np.zeros((8, 4, 4), np.uint8)
    np.savez(name, x_train=images, y_train=labels, x_test=images, y_test=labels)
    with pytest.raises(ValueError, match="images fit into memory; 16 images of 10000000x10000000"):
        data.load_dataset(f"npz:{name}", image_size=10_000_000)


def test_reading_stops_at_the_first_other_size(folder, monkeypatch):
    PIL.Image.fromarray(image(7, (6, 9))).save(folder / "train" / "cat" / "0.png")
    read, decode = [], image_sets.decode

    def slowly(*args):
        read.append(args)
        time.sleep(0.05)
        return decode(*args)

    monkeypatch.setattr(image_sets, "num_cores", lambda: 1)
    monkeypatch.setattr(image_sets, "decode", slowly)
    text = message(folder)
    assert "images must be of one size; " in text
    assert "cat/0.png is " in text
    assert len(read) < 10
    monkeypatch.setattr(image_sets, "memory_bytes", lambda: 100)
    assert "images fit into memory; 10 images of " in message(folder)


@pytest.mark.parametrize("source", ["folder", "cifar", "npz"])
@pytest.mark.parametrize("place", ["~no-such-user/x", 300 * "x"])
def test_places_that_cannot_be_are_one_clear_error(source, place):
    with pytest.raises(ValueError, match=rf"^dataset {source}") as caught:
        data.load_dataset(f"{source}:{place}")
    assert "\n" not in str(caught.value)


# CIFAR's binary files.


def write_cifar(root, names, labels):
    """Files of five records each; the images by file."""
    root.mkdir()
    arrays = {}
    for number, name in enumerate(names):
        images = np.stack([image(10 * number + k, (32, 32)) for k in range(5)])
        heads = np.stack([np.arange(5) % (2 + k) for k in range(labels)], axis=1)
        planes = images.transpose(0, 3, 1, 2).reshape(5, -1)
        records = np.concatenate([heads.astype(np.uint8), planes], axis=1)
        (root / name).write_bytes(records.tobytes())
        arrays[name] = images
    return arrays


def test_cifar_10_is_read_as_it_is(tmp_path):
    names = [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]
    arrays = write_cifar(tmp_path / "ten", names, 1)
    (tmp_path / "ten" / "batches.meta.txt").write_text("cat\ndog\n\n")
    loaded = data.load_dataset(f"cifar:{tmp_path / 'ten'}")
    np.testing.assert_array_equal(loaded.test.images, arrays["test_batch.bin"])
    np.testing.assert_array_equal(loaded.train.images[5:10], arrays["data_batch_2.bin"])
    np.testing.assert_array_equal(loaded.test.labels, [0, 1, 0, 1, 0])
    assert loaded.class_names == ("cat", "dog")


def test_cifar_100_has_two_labels(tmp_path):
    write_cifar(tmp_path / "hundred", ["train.bin", "test.bin"], 2)
    source = f"cifar:{tmp_path / 'hundred'}"
    assert data.load_dataset(source).train.labels.tolist() == [0, 1, 2, 0, 1]
    assert data.load_dataset(source, label="coarse_label").train.labels.tolist() == [0, 1, 0, 1, 0]
    with pytest.raises(ValueError, match="has the labels coarse_label, label; got 'fine'"):
        data.load_dataset(source, label="fine")


def test_cifar_files_that_are_missing_or_cut_are_named(tmp_path):
    write_cifar(tmp_path / "ten", [f"data_batch_{n}.bin" for n in range(1, 6)], 1)
    source = f"cifar:{tmp_path / 'ten'}"
    with pytest.raises(ValueError, match="test_batch.bin cannot be read: No such file"):
        data.load_dataset(source)
    (tmp_path / "ten" / "test_batch.bin").write_bytes(bytes(3074))
    with pytest.raises(ValueError, match="must have records of 3073 bytes; got 3074 bytes"):
        data.load_dataset(source)


# TensorFlow Datasets. Their import says that some of what it imports is deprecated.


@pytest.fixture(scope="module")
def tfds():
    return pytest.importorskip("tensorflow_datasets")


@pytest.fixture(scope="module")
def prepared(tfds, tmp_path_factory):
    """A folder with a set of two labels and two configurations, prepared as array_record."""
    root = tmp_path_factory.mktemp("tfds")

    def png(number, size):
        path = root / "image.png"
        PIL.Image.fromarray(image(number, size)).save(path)
        return path.read_bytes()

    class TwoLabels(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.2.0")
        BUILDER_CONFIGS = tuple(tfds.core.BuilderConfig(name=name) for name in ("even", "uneven"))

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(names=["a", "b", "c"]),
                "coarse_label": tfds.features.ClassLabel(num_classes=2),
                "year": tfds.features.Scalar(np.int64),  # of many digits
                "title": tfds.features.Text(),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(12), "test": self._generate_examples(6)}

        def _generate_examples(self, count):
            for n in range(count):
                size = (6, 6) if self.builder_config.name == "even" or n else (5, 7)
                labels = {"label": n % 3, "coarse_label": n % 2}
                year = 2**40 + n % 2
                png_file = png(100 * count + n, size)
                yield n, {"image": png_file, **labels, "year": year, "title": "x"}

    for name in ("even", "uneven"):
        TwoLabels(
            data_dir=str(root), config=name, file_format="array_record"
        ).download_and_prepare()
    return root


def load_tfds(source, root, **options):
    return data.load_dataset(f"tfds:{source}", data_dir=root, **options)


def test_a_prepared_set_is_read_without_tensorflow(prepared):
    loaded = load_tfds("two_labels/even", prepared)
    assert (len(loaded.train), len(loaded.test), loaded.image_shape) == (12, 6, (6, 6, 3))
    assert loaded.class_names == ("a", "b", "c")
    expected = {image(1200 + n, (6, 6)).tobytes(): n % 3 for n in range(12)}
    found = zip(loaded.train.images, loaded.train.labels.tolist())
    assert {x.tobytes(): label for x, label in found} == expected
    for name in ("two_labels/even:1.2.0", "two_labels/even/1.2.0"):
        assert load_tfds(name, prepared).fingerprint() == loaded.fingerprint()
    assert "tensorflow" not in sys.modules


def test_a_label_can_be_chosen(prepared):
    loaded = load_tfds("two_labels/even", prepared, label="coarse_label")
    assert loaded.num_classes == 2
    with pytest.raises(
        ValueError, match="coarse_label or label or year; got 'title', where title is Text"
    ):
        load_tfds("two_labels/even", prepared, label="title")
    with pytest.raises(ValueError, match="coarse_label or label or year; got 'fine'"):
        load_tfds("two_labels/even", prepared, label="fine")


def test_a_whole_number_is_the_label_only_if_that_is_said(prepared, monkeypatch):
    monkeypatch.setattr(tfds_module, "_is_class_label", lambda tfds, kind: False)
    with pytest.raises(ValueError, match="has no class label; give --label=year, if the values"):
        load_tfds("two_labels/even", prepared)


def test_a_place_of_the_name_of_the_set_is_a_place(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="is not prepared in .*two_labels/two_labels/even; give"):
        load_tfds("two_labels/even", tmp_path / "two_labels")


def test_a_place_inside_the_set_is_one_clear_error(prepared):
    for inside in ("two_labels", "two_labels/even", "two_labels/even/1.2.0"):
        with pytest.raises(ValueError, match=f"data_dir must be .* give --data_dir={prepared}$"):
            load_tfds("two_labels/even", prepared / inside)


def test_a_whole_number_can_be_the_label(prepared):
    loaded = load_tfds("two_labels/even", prepared, label="year")
    assert loaded.class_names == (str(2**40), str(2**40 + 1))
    expected = {image(1200 + n, (6, 6)).tobytes(): n % 2 for n in range(12)}
    found = zip(loaded.train.images, loaded.train.labels.tolist())
    assert {x.tobytes(): label for x, label in found} == expected


def test_sizes_that_differ_are_said_and_can_be_made_alike(prepared):
    with pytest.raises(ValueError, match="images must be of one size; .* give --image_size=32"):
        load_tfds("two_labels/uneven", prepared)
    assert load_tfds("two_labels/uneven", prepared, image_size=8).image_shape == (8, 8, 3)


def test_a_split_without_labels_is_left_out(prepared, monkeypatch):
    """The test split is read as if it had none; then the set is like one without a test split."""
    read = tfds_module._read

    def without(tfds, builder, split, *args):
        files, labels = read(tfds, builder, split, *args)
        return files, np.full_like(labels, -1) if split == "test" else labels

    monkeypatch.setattr(tfds_module, "_read", without)
    notes = []
    loaded = load_tfds("two_labels/even", prepared, note=notes.append)
    assert len(loaded.train) + len(loaded.test) == 12
    assert "the split test has images without labels, and is left out" in notes[0]
    assert "has no test split" in notes[1]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("none", "is not prepared in .*none; give --data_dir .* tfds build none --file_format"),
        ("two_labels", "there are even, uneven; take tfds:two_labels/even, say"),
        ("two_labels:1.2.0", "there are even, uneven; take tfds:two_labels/even:1.2.0, say"),
        ("two_labels/even:9.9.9", "is not prepared in .*even .there are 1.2.0.; give"),
        ("../etc", "must be followed by NAME"),
        ("x:1", "must be followed by NAME"),
        ("none", "tfds build none --file_format=array_record --data_dir=.*tfds"),
    ],
)
def test_a_set_that_is_not_there_is_one_clear_error(prepared, source, text, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=text) as caught:
        load_tfds(source, prepared)
    assert "\n" not in str(caught.value)


def test_a_home_that_is_not_there_is_a_place_without_sets(tfds, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match="is not prepared in ~no-such-user/x/none; give --data_dir"
    ):
        load_tfds("none", "~no-such-user/x")


def test_a_half_prepared_set_is_one_clear_error(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    whole = prepared / "two_labels" / "even" / "1.2.0"
    unfinished = tmp_path / "one" / "two_labels" / "even" / "incomplete.X_1.2.0"
    shutil.copytree(whole, unfinished)
    with pytest.raises(ValueError, match="is not prepared in .*there are incomplete.X_1.2.0"):
        load_tfds("two_labels/even", tmp_path / "one")
    (tmp_path / "three" / "two_labels" / "even" / "1.2.0").mkdir(parents=True)
    with pytest.raises(ValueError, match="half prepared: .*1.2.0 has no dataset_info.json; delete"):
        load_tfds("two_labels/even", tmp_path / "three")
    part = tmp_path / "two" / "two_labels" / "even" / "1.2.0"
    shutil.copytree(whole, part)
    (record,) = part.glob("*test.array_record*")
    content = record.read_bytes()
    for damaged in (content[:100], b"", bytes(len(content))):
        record.write_bytes(damaged)
        with pytest.raises(ValueError, match="cannot be read from .*; delete this folder and"):
            load_tfds("two_labels/even", tmp_path / "two")
    record.unlink()
    with pytest.raises(ValueError, match="cannot be read from .* is missing; delete this folder"):
        load_tfds("two_labels/even", tmp_path / "two")


def test_a_set_is_prepared_where_tensorflow_is_installed(tfds, prepared, tmp_path, monkeypatch):
    """The download is another package's: here it is a copy."""
    asked = []

    def builder(name, data_dir, file_format):
        asked.append((name, file_format))
        folder = pathlib.Path(data_dir) / "two_labels" / "even" / "1.2.0"
        whole = prepared / "two_labels" / "even" / "1.2.0"
        return types.SimpleNamespace(
            data_dir=str(folder), download_and_prepare=lambda: shutil.copytree(whole, folder)
        )

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(tfds, "builder", builder)
    notes = []
    loaded = load_tfds("two_labels/even", tmp_path, note=notes.append)
    assert len(loaded.train) == 12
    assert asked == [("two_labels/even", "array_record")]
    assert "it is downloaded and prepared now" in notes[0]

    def fails(name, data_dir, file_format):
        raise OSError("no\nnetwork")

    monkeypatch.setattr(tfds, "builder", fails)
    with pytest.raises(ValueError, match="and cannot be: no network"):
        load_tfds("other", tmp_path)


# Findings about a data set.


def dataset(train_labels, test_labels, first_test=1000):
    def images(n, first):
        return np.stack([image(first + k) for k in range(n)])

    arrays = images(len(train_labels), 0), np.array(train_labels)
    tests = images(len(test_labels), first_test), np.array(test_labels)
    return data.make_dataset("set", *arrays, *tests, ("cat", "dog"))


def test_a_sound_set_has_no_findings():
    assert data.findings(dataset([0, 1, 0, 1], [0, 1])) == []


def test_imbalance_is_told_of():
    (said,) = data.findings(dataset([0, 1, 0, 0], [0, 1]))
    assert "dog has 1 training images, cat has 3; always saying cat would be right for 75%" in said


def test_duplicates_are_told_of():
    (said,) = data.findings(dataset([0, 1, 0, 1], [0, 0], first_test=0))
    assert said.startswith("set: 2 of 2 test images are also training images, 1 of them with anoth")


def test_frames_of_one_video_on_both_sides_are_told_of():
    rng = np.random.default_rng(0)
    scenes = rng.integers(0, 256, (10, 16, 16, 3)).repeat(2, 1).repeat(2, 2)
    frames = np.clip(scenes.repeat(4, 0) + rng.integers(-9, 10, (40, 32, 32, 3)), 0, 255)
    frames, labels = frames.astype(np.uint8), np.arange(40) // 20
    numbers = np.arange(40)
    train = data.Examples(frames[numbers % 4 > 0], labels[numbers % 4 > 0])
    others = data.Examples(frames[numbers % 4 == 0], labels[numbers % 4 == 0])
    (said,) = data.shared("set", train, others, "validation")
    assert said.startswith("set: of 10 validation images, 10 are nearly the same as a training im")
    assert (
        data.shared("set", train.take(np.arange(15)), others.take(np.arange(5, 10)), "test") == []
    )


# The real CIFAR-10, in all its forms.


@pytest.mark.slow
@pytest.mark.skipif(not CIFAR.exists(), reason="CIFAR-10 is not there")
def test_the_real_cifar_10_is_the_same_from_every_source(tfds, tmp_path):
    tool = CIFAR.parents[1] / "tools" / "cifar10.py"
    spec = importlib.util.spec_from_file_location("cifar10", tool)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    x_train, y_train, x_test, y_test = module.load()
    known = data.make_dataset("known", x_train, y_train, x_test, y_test)
    few = slice(0, 2000), slice(0, 500)
    module.write_tfds(*(tmp_path, x_train[few[0]], y_train[few[0]], x_test[few[1]], y_test[few[1]]))
    loaded = load_tfds("cifar10:3.0.2", tmp_path)
    assert loaded.class_names[:2] == ("airplane", "automobile")
    expected = {x.tobytes(): y for x, y in zip(x_train[few[0]], y_train)}
    found = zip(loaded.train.images, loaded.train.labels)
    assert {x.tobytes(): y for x, y in found} == expected
    for number in range(5):
        part = slice(10_000 * number, 10_000 * (number + 1))
        path = tmp_path / f"data_batch_{number + 1}.bin"
        path.write_bytes(module.to_bin(x_train[part], y_train[part]))
    (tmp_path / "test_batch.bin").write_bytes(module.to_bin(x_test, y_test))
    assert data.load_dataset(f"cifar:{tmp_path}").fingerprint() == known.fingerprint()
    assert data.findings(known) == []


def test_the_number_of_threads_does_not_matter(folder, monkeypatch):
    first, _ = load(folder)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert load(folder)[0].fingerprint() == first.fingerprint()
