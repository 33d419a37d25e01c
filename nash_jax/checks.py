"""Checks that the settings of several rooms share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any


def check_least(part: Any, **least: int) -> None:
    """Raises `ValueError` if an attribute is below its least value, or not finite.

    Args:
      part: has the attributes.
      **least: the least value of each, by its name.
    """
    for name, smallest in least.items():
        value = getattr(part, name)
        if not smallest <= value < math.inf:
            finite = " and finite" if isinstance(value, float) else ""
            raise ValueError(f"{name} must be >= {smallest}{finite}; got {value}")


def check_word(name: str, value: Any, words: Sequence[str]) -> None:
    """Raises `ValueError` unless a value is one of some words; the nearest one is named."""
    if value not in words:
        meant = did_you_mean(str(value), words)
        raise ValueError(f"{name} must be one of {', '.join(words)}; got {value!r}{meant}")


def did_you_mean(word: str, words: Sequence[str]) -> str:
    """The end of an error's text: the word that is nearest to another one, if any is near.

    >>> did_you_mean('widht', ['width', 'depth'])
    '; did you mean width?'
    """
    near = get_close_matches(word, words, 1)
    return f"; did you mean {near[0]}?" if near else ""
