"""Words for people: names as a terminal can show them, and lists of them."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence


def printable(text: object) -> str:
    r"""A text in which everything that no terminal shows is escaped, say a path that is no UTF-8.

    >>> printable('q\udce9.png') == r'q\udce9.png'
    True
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def listed(words: Sequence[str], most: int = 5) -> str:
    """The first few of many words, for people."""
    return ", ".join(words[:most]) + (", ..." if len(words) > most else "")


def one_line(error: BaseException, most: int = 300) -> str:
    """What an error says, on one line; its kind, if it says nothing."""
    return printable(" ".join(str(error).split()))[:most] or type(error).__name__


def escape_what_cannot_be_shown() -> None:
    """Have this program print what its terminal cannot encode as escapes, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
