"""Which folders hold which classes of which part of a data set."""

from __future__ import annotations

import pathlib
import unicodedata
from collections.abc import Callable

from nash_jax.data.images import is_image
from nash_jax.data.parts import part_of, parts_of
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

    A class may be called `train`, too, beside others that are not called like a part.

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
        found = parts_of(there)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None
    if found:
        train, tests = found
        if parts := _split(there, train, tests, what, note):
            return parts
    if parts := _split_by_class(there, what, note):
        return parts
    alone = [each for name, each in there.items() if part_of(name) and _holds_classes(each)]
    if len(alone) > 1 and not found:
        raise ValueError(
            f"{what} must have parts of names that match, as train/ and test/ do; got "
            f"{listed(f'{each.name}/' for each in alone)}; rename them"
        )
    if alone and not found:
        raise ValueError(
            f"{what} must have both train/ and test/, or neither; got {printable(alone[0].name)}/ "
            f"alone; add the other, or give folder:{printable(alone[0])}; if it is a class, put an "
            "image into the folder itself"
        )
    _tell_of_likely_parts(there, what, note)
    _say_what_lies_beside(folder, what, note)
    return [there]


def _split(
    there: Classes, train: str, tests: list[str], what: str, note: Callable[[str], None]
) -> list[Classes]:
    """The classes of two parts; empty if the folders are not parts, but classes themselves."""
    below = {name: _folders(_unpacked(there[name])) for name in (train, *tests)}
    shared = [test for test in tests if set(below[train]) & set(below[test])]
    test = shared[0] if shared else tests[0]
    both = f"{printable(train)}/ and {printable(test)}/"
    if not shared:
        flat = [bool(_images_in(there[name])) for name in (train, test)]
        if all(flat) and not all(map(part_of, there)):
            note(
                f"{what}: {both} hold images themselves, and are classes like the other folders; "
                "if they are training and test set, give each a folder for each class"
            )
            return []
        if not any((*flat, below[train], below[test])):
            return []  # no images at all, which the caller reports
        if any(flat):
            name, whole = (train, test) if flat[0] else (test, train)
            alone = "" if all(flat) else f", or give folder:{printable(there[whole])} alone"
            raise ValueError(
                f"{what}: {both} must both have a folder for each class; got images in "
                f"{printable(name)}/ itself; put them into such folders{alone}"
            )
    lacks = {
        name: sorted(set(below[a]) - set(below[b]))
        for name, a, b in ((test, train, test), (train, test, train))
    }
    if any(lacks.values()):
        alike = {*map(_as_seen, lacks[test])} & {*map(_as_seen, lacks[train])}
        show = ascii if alike else printable
        raise ValueError(
            f"{what}: {both} must have the same classes; "
            + " and ".join(
                f"{printable(name)}/ lacks {listed(map(show, odd))}"
                for name, odd in lacks.items()
                if odd
            )
            + "; add their images or remove them"
        )
    for name in (train, test):
        _say_what_lies_beside(_unpacked(there[name]), what, note)
    if others := [f"{name}/" for name in there if name not in (train, test)]:
        note(f"{what}: only {both} are read, not {listed(others)}")
    return [below[train], below[test]]


def _as_seen(name: str) -> str:
    """A name as people see it: accents in one encoding, and no spaces at its ends."""
    return unicodedata.normalize("NFC", name).strip()


def _split_by_class(there: Classes, what: str, note: Callable[[str], None]) -> list[Classes]:
    """The classes of each part, if every class is split into `CLASS/train` and `CLASS/test`."""
    if len(there) < 2:  # it may hold a whole set
        return []
    below = {name: _folders(each) for name, each in there.items()}
    try:
        found = {name: parts_of(folders) for name, folders in below.items()}
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None
    pairs = {name: (parts[0], parts[1][0]) for name, parts in found.items() if parts}
    if not pairs:
        return []
    first = next(iter(pairs))
    both = " and ".join(f"{printable(name)}/" for name in pairs[first])
    if odd := [name for name in there if name not in pairs or _images_in(there[name])]:
        raise ValueError(
            f"{what}: all classes must have {both}, as {printable(first)}/ has, and no images "
            f"beside them; {printable(odd[0])}/ is not so; sort its images, or join all parts"
        )
    rest = sorted({f"{each}/" for name in pairs for each in below[name] if each not in pairs[name]})
    if rest:
        note(f"{what}: of every class only {both} are read, not {listed(rest)}")
    return [{name: below[name][pair[part]] for name, pair in pairs.items()} for part in (0, 1)]


def _tell_of_likely_parts(there: Classes, what: str, note: Callable[[str], None]) -> None:
    """Say so if the folders may be parts, of other names, rather than classes."""
    below = [tuple(_folders(each)) for each in there.values()]
    if len(there) < 2 or len(set(below)) > 1 or len(below[0]) < 2:
        return
    if not any(_images_in(each) for each in there.values()):
        note(
            f"{what}: the classes {listed(there)} all have the folders {listed(below[0])}; if they "
            "are training and test set, rename them to train/ and test/"
        )


def _say_what_lies_beside(root: pathlib.Path, what: str, note: Callable[[str], None]) -> None:
    if beside := _images_in(root):
        note(
            f"{what}: images beside the folders of the classes are left out ({len(beside)}): "
            f"{listed(beside)}"
        )


def _unpacked(root: pathlib.Path) -> pathlib.Path:
    """The folder that has the content: archives often hold a folder of their own name."""
    while len(below := _folders(root)) == 1 and root.name in below and not _images_in(root):
        root = below[root.name]
    return root


def _holds_classes(root: pathlib.Path) -> bool:
    return len(_folders(_unpacked(root))) > 1 and not _images_in(root)


def _folders(root: pathlib.Path) -> Classes:
    return {path.name: path for path in sorted(root.iterdir()) if path.is_dir() and is_data(path)}


def _images_in(root: pathlib.Path) -> list[pathlib.Path]:
    """The images of a folder, without those of the folders below."""
    return sorted(
        path
        for path in root.iterdir()
        if is_image(path.name) and is_data(path) and not path.is_dir()
    )
