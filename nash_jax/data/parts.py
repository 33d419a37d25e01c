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


def part_of(name: str) -> tuple[str, str] | None:
    """The part that a name speaks of, and the rest of the name; None if it speaks of none.

    >>> part_of('Training'), part_of('seg_train'), part_of('testSet'), part_of('trainer')
    (('train', ''), ('train', 'seg'), ('test', 'set'), None)
    """
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]
    found = [(word, part) for word in words for part, known in _WORDS.items() if word in known]
    if len(found) != 1:
        return None
    ((word, part),) = found
    return part, " ".join(each for each in words if each != word)


def train_and_test(names: Iterable[str]) -> tuple[str, str] | None:
    """The names of a training set and of a test set that differ in the word for the part alone.

    Without a test set, a validation set is taken for it.

    Args:
      names: of folders, say.

    Raises:
      ValueError: if a part has several names.

    >>> train_and_test(['cat', 'Train', 'TEST', 'val'])
    ('Train', 'TEST')
    >>> train_and_test(['train', 'dog'])
    """
    groups: dict[str, dict[str, list[str]]] = collections.defaultdict(dict)
    for name in sorted(names):
        if found := part_of(name):
            part, rest = found
            groups[rest].setdefault(part, []).append(name)
    for _, parts in sorted(groups.items()):
        train, test = parts.get("train", []), parts.get("test") or parts.get("validation", [])
        if not train or not test:
            continue
        for several in (train, test):
            if len(several) > 1:
                raise ValueError(
                    f"there must be one set of each kind; got {' and '.join(several)}; keep one, "
                    "and rename or move the others"
                )
        return train[0], test[0]
    return None
