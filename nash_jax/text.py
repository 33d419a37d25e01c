"""Words for people: names as a terminal can show them, and lists of them."""

from __future__ import annotations

import io
import itertools
import statistics
import sys
import unicodedata
from collections.abc import Iterable, Sequence

#: Kinds of characters: controls, lone surrogates, and ends of lines and paragraphs.
_NOT_SHOWN = ("Cc", "Cs", "Zl", "Zp")


def printable(text: object) -> str:
    r"""A text in which what no terminal shows is escaped: controls, and bytes that are no UTF-8.

    >>> printable('q\udce9.png') == r'q\udce9.png'
    True
    """
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in _NOT_SHOWN else c
        for c in str(text)
    )


def listed(words: Iterable[object], most: int = 5) -> str:
    """The first few of many words, for people."""
    shown = [printable(word) for word in itertools.islice(words, most + 1)]
    return ", ".join(shown[:most]) + (", ..." if len(shown) > most else "")


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, each line with its end.

    >>> print(markdown_table(['a', 'b'], [['1', '2']]), end='')
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def mean_and_deviation(values: Sequence[float]) -> str:
    """The mean, and the sample's standard deviation where there are several; empty without any.

    >>> mean_and_deviation([97.0, 98.0]), mean_and_deviation([97.0])
    ('97.50 ± 0.71', '97.00')
    """
    if not values:
        return ""
    mean = f"{statistics.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.2f}"


def one_line(error: BaseException, most: int = 300) -> str:
    """What an error says, on one line; its kind, if it says nothing."""
    return printable(" ".join(str(error).split()))[:most] or type(error).__name__


def escape_what_cannot_be_shown() -> None:
    """Have this program print what its terminal cannot encode as escapes, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
