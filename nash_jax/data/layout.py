"""Which folders hold which classes of which part of a data set."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

from nash_jax.data.images import is_image
from nash_jax.data.parts import part_of, train_and_test
from nash_jax.text import listed, printable

#: The folder of each class, by the class's name.
Classes = dict[str, pathlib.Path]

#: Folders of other programs, which come along with archives and network drives.
_NOT_DATA = ("__MACOSX", "@eaDir", "$RECYCLE.BIN")


def is_data(path: pathlib.Path) -> bool:
    """Whether a file or folder is not hidden, and not another program's."""
    return not path.name.startswith(".") and path.name not in _NOT_DATA


def parts_in(folder: pathlib.Path, what: str, note: Callable[[str], None]) -> list[Classes]:
    """The classes of the training and of the test set, or of all images if these are not split.

    A class may be called `train`, too: a part has a folder for each class, a class has images.

    Args:
      folder: holds the images.
      what: the data set, for errors.
      note: is told what is left out.

    Raises:
      ValueError: if the parts do not agree, or classes may be parts.
      OSError: if a folder cannot be read.
    """
    folder = _unpacked(folder)
    there = _folders(folder)
    try:
        pair = train_and_test(there)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None
    if pair and (parts := _split(there[pair[0]], there[pair[1]], what, note)):
        if others := [f"{printable(name)}/" for name in there if name not in pair]:
            note(f"{what}: only {_both(pair)} are read, not {listed(others)}")
        return parts
    if parts := _split_by_class(there, what, note):
        return parts
    alone = [each for name, each in there.items() if part_of(name) and _holds_classes(each)]
    if alone and not pair:
        raise ValueError(
            f"{what} must have both train/ and test/, or neither; got {printable(alone[0].name)}/ "
            f"alone; add the other, or give folder:{printable(alone[0])}; if it is a class, put an "
            "image into the folder itself"
        )
    _check_no_splits(there, what)
    _say_what_lies_beside(folder, what, note)
    return [there]


def _split(
    train: pathlib.Path, test: pathlib.Path, what: str, note: Callable[[str], None]
) -> list[Classes]:
    """The classes of two parts, if that is what these folders are, and not classes themselves."""
    parts = [_folders(_unpacked(each)) for each in (train, test)]
    both = _both((train.name, test.name))
    if not set(parts[0]) & set(parts[1]):
        beside = [_images_in(each) for each in (train, test)]
        if all(beside):
            return []
        for place, other in ((0, 1), (1, 0)):
            if beside[place] and parts[other]:
                name, second = (printable((train, test)[each].name) for each in (place, other))
                raise ValueError(
                    f"{what}: {both} must both have a folder for each class; got images in {name}/ "
                    f"itself; put them into such folders, or give "
                    f"folder:{printable((train, test)[other])} alone; if {name} and {second} are "
                    f"classes, put an image into {second}/ itself"
                )
    lacks = {
        name: sorted(set(a) - set(b))
        for name, a, b in ((test.name, *parts), (train.name, *reversed(parts)))
    }
    if any(lacks.values()):
        raise ValueError(
            f"{what}: {both} must have the same classes; "
            + " and ".join(
                f"{printable(name)}/ lacks {listed([printable(each) for each in odd])}"
                for name, odd in lacks.items()
                if odd
            )
            + "; add their images or remove them"
        )
    for each in (train, test):
        _say_what_lies_beside(_unpacked(each), what, note)
    return parts


def _split_by_class(there: Classes, what: str, note: Callable[[str], None]) -> list[Classes]:
    """The parts of `CLASS/train` and `CLASS/test`, if every class has both."""
    if len(there) < 2 or any(_images_in(each) for each in there.values()):
        return []
    below = {name: _folders(each) for name, each in there.items()}
    try:
        pairs = {name: train_and_test(folders) for name, folders in below.items()}
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None
    if None in pairs.values():
        return []
    others = sorted({
        f"{printable(each)}/" for name, pair in pairs.items() for each in below[name]
        if pair and each not in pair
    })  # fmt: skip
    if others:
        note(
            f"{what}: of every class only the training and the test set are read, not "
            f"{listed(others)}"
        )
    return [
        {name: below[name][pair[part]] for name, pair in pairs.items() if pair} for part in (0, 1)
    ]


def _check_no_splits(there: Classes, what: str) -> None:
    """Raises `ValueError` if the folders may be parts, of other names, rather than classes."""
    below = [tuple(_folders(each)) for each in there.values()]
    if len(there) < 2 or len(set(below)) > 1 or len(below[0]) < 2:
        return
    if any(_images_in(each) for each in there.values()):
        return
    names = [printable(name) for name in there]
    raise ValueError(
        f"{what}: classes must not all have the same folders; {listed(names)} all have "
        f"{listed([printable(name) for name in below[0]])}, and may be training and test set; "
        "rename two of them to train/ and test/, or give one of them as folder:; if they are "
        f"classes, move an image of each up, say into {names[0]}/ itself"
    )


def _say_what_lies_beside(root: pathlib.Path, what: str, note: Callable[[str], None]) -> None:
    if beside := _images_in(root):
        note(
            f"{what}: images beside the folders of the classes are left out ({len(beside)}): "
            f"{listed([printable(path) for path in beside])}"
        )


def _unpacked(root: pathlib.Path) -> pathlib.Path:
    """The folder that has the content: archives often hold a folder of their own name."""
    while len(below := _folders(root)) == 1 and root.name in below and not _images_in(root):
        root = below[root.name]
    return root


def _holds_classes(root: pathlib.Path) -> bool:
    return len(_folders(_unpacked(root))) > 1 and not _images_in(root)


def _both(names: tuple[str, str]) -> str:
    return " and ".join(f"{printable(name)}/" for name in names)


def _folders(root: pathlib.Path) -> Classes:
    return {path.name: path for path in sorted(root.iterdir()) if path.is_dir() and is_data(path)}


def _images_in(root: pathlib.Path) -> list[pathlib.Path]:
    """The images of a folder, without those of the folders below."""
    return sorted(
        path
        for path in root.iterdir()
        if is_image(path.name) and is_data(path) and not path.is_dir()
    )
