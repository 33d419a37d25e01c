"""Which folders are classes, and which are the training and the test set."""

import pytest
from helpers import image, write_folder

from nash_jax import data
from nash_jax.data.parts import part_of, train_and_test


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


def test_names_of_no_part():
    assert [
        part_of(name) for name in ("trainer", "testament", "latest", "train_test", "7")
    ] == 5 * [None]
    assert train_and_test(["train", "seg_test"]) is None
    assert train_and_test(["test", "val"]) is None


def test_other_parts_are_left_out_and_said(tmp_path):
    for part in ("train", "test", "validation", "extra"):
        write_folder(tmp_path / part)
    _, (note, *_) = load(tmp_path)
    assert note.endswith("only train/ and test/ are read, not extra/, validation/")


def test_two_training_sets_are_one_clear_error(tmp_path):
    for part in ("train", "Training", "test"):
        write_folder(tmp_path / part)
    assert "one set of each kind; got Training and train; keep one" in message(tmp_path)


def test_every_class_may_have_its_own_parts(tmp_path):
    for label, name in enumerate(("cat", "dog")):
        write_folder(tmp_path / name, ("train", "val", "Test"), first=1000 * label)
    loaded, (note, *_) = load(tmp_path)
    assert loaded.class_names == ("cat", "dog")
    expected = [image(first + n).tolist() for first in (0, 1000) for n in range(3)]
    assert loaded.train.images.tolist() == expected
    assert loaded.test.images[0].tolist() == image(200).tolist()
    assert "only the training and the test set are read, not val/" in note


def test_classes_may_be_called_train_and_test(tmp_path):
    write_folder(tmp_path / "vehicles", ("bus", "train"))
    assert sizes(tmp_path / "vehicles") == (("bus", "train"), 4, 2)
    write_folder(tmp_path / "papers", ("test", "train"))
    write_folder(tmp_path / "papers" / "train", ("goods", "people"))
    assert sizes(tmp_path / "papers") == (("test", "train"), 9, 3)
    for part in ("training", "testing"):
        write_folder(tmp_path / "both" / part, ("test", "train"), first=len(part))
    assert sizes(tmp_path / "both") == (("test", "train"), 6, 6)


def test_a_part_without_its_other_is_one_clear_error(tmp_path):
    write_folder(tmp_path / "train")
    (tmp_path / "notes").mkdir()
    text = message(tmp_path)
    assert "must have both train/ and test/, or neither; got train/ alone; add the other" in text
    assert f"or give folder:{tmp_path / 'train'};" in text
    assert sizes(tmp_path / "train") == (("cat", "dog"), 4, 2)


def test_test_images_without_classes_are_one_clear_error(tmp_path):
    write_folder(tmp_path / "train")
    write_folder(tmp_path, ("test",))
    text = message(tmp_path)
    assert "train/ and test/ must both have a folder for each class; got images in test/" in text
    assert f"or give folder:{tmp_path / 'train'} alone" in text


def test_classes_with_the_same_folders_may_be_parts(tmp_path):
    write_folder(tmp_path / "one")
    write_folder(tmp_path / "two", first=1000)
    text = message(tmp_path)
    assert "one, two all have cat, dog, and may be training and test set; rename two" in text
    for name in ("one", "two"):  # as the message says
        (tmp_path / name / "cat" / "0.png").rename(tmp_path / name / "0.png")
    assert sizes(tmp_path)[0] == ("one", "two")


def test_parts_with_other_classes_are_one_clear_error(tmp_path):
    write_folder(tmp_path / "train", ("cat", "dog"))
    write_folder(tmp_path / "test", ("Cat", "Dog"))
    text = message(tmp_path)
    assert "test/ lacks cat, dog and train/ lacks Cat, Dog; add their images" in text


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
    write_folder(tmp_path, ("caf\udce9", "tea\n"))
    loaded, _ = load(tmp_path)
    assert loaded.class_names == (r"caf\udce9", r"tea\n")
    (tmp_path / "caf\udce9" / "0.png").write_bytes(b"")
    assert r"caf\udce9/0.png: " in message(tmp_path)
