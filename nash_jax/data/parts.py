"""What people call the parts of a data set: for training, for testing, for validation."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable

_WORDS = {
    "train": {"train", "training", "trn", "trainset", "trainingset"},
    "test": {"test", "testing", "tst", "testset", "testingset"},
    "validation": {
        *("val", "valid", "validation", "valset", "validationset"),
        *("eval", "evaluation", "dev", "devset"),
    },
}

#: The words of a name: in capitals, in small letters with one capital before, digits, or others.
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")


def part_of(name: str) -> tuple[str, str] | None:
    """The part that a name speaks of, and the rest of the name; None if it speaks of none.

    >>> part_of('Training'), part_of('seg_train'), part_of('testSet'), part_of('trainer')
    (('train', ''), ('train', 'seg'), ('test', 'set'), None)
    """
    words = [word.lower() for word in _WORD.findall(name)]
    found = [(word, part) for word in words for part, known in _WORDS.items() if word in known]
    if len(found) != 1:
        return None
    ((word, part),) = found
    return part, " ".join(each for each in words if each != word)


def parts_of(names: Iterable[str]) -> tuple[str, list[str]] | None:
    """The name of a training set, and those of what may be its test set, the likeliest first.

    They differ in the word for the part alone; a validation set comes after a test set.

    Args:
      names: of folders, say.

    Raises:
      ValueError: if a part has several names.

    >>> parts_of(['cat', 'Train', 'TEST', 'val'])
    ('Train', ['TEST', 'val'])
    >>> parts_of(['train', 'dog'])
    """
    groups: dict[str, dict[str, list[str]]] = collections.defaultdict(dict)
    for name in sorted(names):
        if found := part_of(name):
            part, rest = found
            groups[rest].setdefault(part, []).append(name)
    for _, parts in sorted(groups.items()):
        others = [parts[part] for part in ("test", "validation") if part in parts]
        if "train" not in parts or not others:
            continue
        for several in (parts["train"], *others):
            if len(several) > 1:
                raise ValueError(
                    f"there must be one set of each kind; got {' and '.join(several)}; keep one, "
                    "and rename or move the others"
                )
        return parts["train"][0], [name for (name,) in others]
    return None
