"""Which folders are classes, and which are the training and the test set."""

import shutil

import pytest
from helpers import image, write_folder

from nash_jax import data
from nash_jax.data.parts import part_of, parts_of


def load(root):
    notes = []
    return data.load_dataset(f"folder:{root}", note=notes.append), notes


def message(root):
    with pytest.raises(ValueError, match="^dataset folder:") as caught:
        load(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def sizes(root):
    loaded, _ = load(root)
    return loaded.class_names, len(loaded.train), len(loaded.test)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("Training", "Testing"),
        ("TRAIN", "Test"),
        ("training_set", "test_set"),
        ("trainset", "testset"),
        ("seg_train", "seg_test"),
        ("TrainImages", "TestImages"),
        ("train", "val"),
        ("train-2017", "valid-2017"),
        ("trn", "tst"),
    ],
)
def test_parts_are_known_by_their_usual_names(tmp_path, train, test):
    write_folder(tmp_path / train)
    write_folder(tmp_path / test, count=2, first=1000)
    loaded, notes = load(tmp_path)
    assert loaded.class_names == ("cat", "dog")
    assert loaded.train.images[:3].tolist() == [image(n).tolist() for n in range(3)]
    assert loaded.test.labels.tolist() == [0, 0, 1, 1]
    assert notes == []


@pytest.mark.parametrize("name", ["trainer", "testament", "latest", "train_test", "7"])
def test_names_of_no_part(name):
    assert part_of(name) is None


def test_names_of_parts_differ_in_the_part_alone():
    assert parts_of(["train", "seg_test"]) is None
    assert parts_of(["train_猫", "test_犬"]) is None
    assert parts_of(["test", "val"]) is None
    assert parts_of(["train_猫", "val_猫"]) == ("train_猫", ["val_猫"])


def test_other_parts_are_left_out_and_said(tmp_path):
    for part in ("train", "test", "validation", "extra"):
        write_folder(tmp_path / part)
    _, (note, *_) = load(tmp_path)
    assert note.endswith("only train/ and test/ are read, not extra/, validation/")


def test_two_training_sets_are_one_clear_error(tmp_path):
    for part in ("train", "Training", "test"):
        write_folder(tmp_path / part)
    assert "one set of each kind; got Training and train; keep one" in message(tmp_path)


@pytest.fixture
def by_class(tmp_path):
    for label, name in enumerate(("cat", "dog")):
        write_folder(tmp_path / name, ("train", "val", "Test"), first=1000 * label)
    return tmp_path


def test_every_class_may_have_its_own_parts(by_class):
    loaded, (note, *_) = load(by_class)
    assert loaded.class_names == ("cat", "dog")
    expected = [image(first + n).tolist() for first in (0, 1000) for n in range(3)]
    assert loaded.train.images.tolist() == expected
    assert loaded.test.images[0].tolist() == image(200).tolist()
    assert "of every class only train/ and Test/ are read, not val/" in note


def test_parts_of_some_classes_alone_are_one_clear_error(by_class):
    write_folder(by_class, ("emu",))
    text = "all classes must have train/ and Test/, as cat/ has, and no images beside them; "
    assert text + "emu/ is not so" in message(by_class)
    (by_class / "emu").rename(by_class / "cat" / "Test" / "more")
    (by_class / "dog" / "train" / "0.png").rename(by_class / "dog" / "0.png")
    assert text + "dog/ is not so" in message(by_class)


def test_classes_may_be_called_train_and_test(tmp_path):
    write_folder(tmp_path / "vehicles", ("bus", "train"))
    assert sizes(tmp_path / "vehicles") == (("bus", "train"), 4, 2)
    write_folder(tmp_path / "papers", ("test", "train", "essay"))
    write_folder(tmp_path / "papers" / "train", ("goods", "people"))
    assert sizes(tmp_path / "papers") == (("essay", "test", "train"), 11, 4)
    _, (note, *_) = load(tmp_path / "papers")
    assert "train/ and test/ hold images themselves, and are classes like the other" in note
    for part in ("training", "testing"):
        write_folder(tmp_path / "both" / part, ("test", "train"), first=len(part))
    assert sizes(tmp_path / "both") == (("test", "train"), 6, 6)


@pytest.mark.parametrize("parts", [("train", "test"), ("train", "test", "val"), ("Train", "Val")])
def test_parts_without_classes_are_no_classes(tmp_path, parts):
    write_folder(tmp_path, parts)
    text = message(tmp_path)
    assert "must both have a folder for each class; got images in " in text
    assert text.endswith("itself; put them into such folders")


def test_a_part_without_its_other_is_one_clear_error(tmp_path):
    write_folder(tmp_path / "train")
    (tmp_path / "notes").mkdir()
    text = message(tmp_path)
    assert "must have both train/ and test/, or neither; got train/ alone; add the other" in text
    assert f"or give folder:{tmp_path / 'train'};" in text
    write_folder(tmp_path / "test_photos")
    assert "match, as train/ and test/ do; got test_photos/, train/; " in message(tmp_path)
    shutil.rmtree(tmp_path / "test_photos")
    assert sizes(tmp_path / "train") == (("cat", "dog"), 4, 2)


def test_test_images_without_classes_are_one_clear_error(tmp_path):
    write_folder(tmp_path / "train")
    write_folder(tmp_path, ("test",))
    text = message(tmp_path)
    assert "train/ and test/ must both have a folder for each class; got images in test/" in text
    assert text.endswith(f"or give folder:{tmp_path / 'train'} alone")
    write_folder(tmp_path / "val", count=2)  # as the test set, whose own has no labels
    loaded, (note,) = load(tmp_path)
    assert (len(loaded.train), len(loaded.test)) == (6, 4)
    assert note.endswith("only train/ and val/ are read, not test/")


def test_classes_with_the_same_folders_may_be_parts(tmp_path):
    write_folder(tmp_path / "one")
    write_folder(tmp_path / "two", first=1000)
    loaded, (note, *_) = load(tmp_path)
    assert loaded.class_names == ("one", "two")
    assert "the classes one, two all have the folders cat, dog; if they are training and" in note


def test_parts_with_other_classes_are_one_clear_error(tmp_path):
    write_folder(tmp_path / "train", ("cat", "dog"))
    write_folder(tmp_path / "test", ("Cat", "Dog"))
    text = message(tmp_path)
    assert "test/ lacks cat, dog and train/ lacks Cat, Dog; add their images" in text
    for part, names in (("train", ("caf\u00e9", "x")), ("test", ("cafe\u0301", "x"))):
        write_folder(tmp_path / "accents" / part, names)
    text = message(tmp_path / "accents")
    assert r"test/ lacks 'caf\xe9' and train/ lacks 'cafe\u0301'" in text


def test_what_archives_add_is_no_data(tmp_path):
    write_folder(tmp_path / "pets" / "pets")
    write_folder(tmp_path / "pets" / "__MACOSX" / "pets")
    write_folder(tmp_path / "split" / "train" / "train")
    write_folder(tmp_path / "split" / "test", count=2)
    assert sizes(tmp_path / "pets") == (("cat", "dog"), 4, 2)
    assert sizes(tmp_path / "split") == (("cat", "dog"), 6, 4)


def test_images_beside_the_classes_are_said(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "cat" / "0.png").rename(tmp_path / "stray.png")
    _, (note, *_) = load(tmp_path)
    assert f"beside the folders of the classes are left out (1): {tmp_path}/stray.png" in note


def test_folders_that_are_no_data_set_are_one_clear_error(tmp_path):
    assert f"there is no folder {tmp_path / 'none'}" in message(tmp_path / "none")
    assert "two classes or more; got none" in message(tmp_path)
    write_folder(tmp_path, ("cat",))
    assert "two classes or more; got cat; put the images" in message(tmp_path)
    write_folder(tmp_path / "empty")
    for part in ("train", "test"):
        (tmp_path / "empty" / part).mkdir()
    assert "empty/test has none that can be read; add some or rem" in message(tmp_path / "empty")
    shutil.rmtree(tmp_path / "empty")
    write_folder(tmp_path / "wrapped" / "x-ray")
    remedy = f"got x-ray; give folder:{tmp_path / 'wrapped' / 'x-ray'}, which has several"
    assert message(tmp_path / "wrapped").endswith(remedy)
    for part in ("train", "test"):
        write_folder(tmp_path / "wrapped" / "x-ray" / part)
        shutil.rmtree(tmp_path / "wrapped" / "x-ray" / "cat", ignore_errors=True)
        shutil.rmtree(tmp_path / "wrapped" / "x-ray" / "dog", ignore_errors=True)
    assert message(tmp_path / "wrapped").endswith(remedy)  # not one part of it
    shutil.rmtree(tmp_path / "wrapped")
    (tmp_path / "emu").mkdir()
    assert "emu has none that can be read; add some or remove the folder" in message(tmp_path)


def test_a_class_of_one_image_is_called_by_its_name(tmp_path):
    write_folder(tmp_path)
    write_folder(tmp_path, ("emu",), count=1)
    text = message(tmp_path)
    assert (
        f"dataset folder:{tmp_path}: every class needs two images, because they are split" in text
    )
    assert "; emu has 1; add images, or leave the class out" in text


def test_names_that_no_terminal_shows_are_escaped(tmp_path):
    write_folder(tmp_path, ("caf\udce9", "tea\n", "\u0645\u200c\u0634\xa0x"))
    loaded, _ = load(tmp_path)
    assert loaded.class_names == (r"caf\udce9", r"tea\n", "\u0645\u200c\u0634\xa0x")
    (tmp_path / "caf\udce9" / "0.png").write_bytes(b"")
    assert r"caf\udce9/0.png: " in message(tmp_path)
