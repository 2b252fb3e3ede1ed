"""Fit text to a terminal: columns as terminals count them, lines cut at blanks, what follows set under its own column.

Pure. Korean letters take two columns, colour sequences none.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Final

WIDTH: Final = 100  # of files and pipes, and the most that is comfortable to read
NARROWEST: Final = 60
_COLOUR: Final = re.compile(r"\x1b\[\d*m")
# A line of two columns: what follows it stands under the second one, which begins behind two blanks or more.
_SECOND_COLUMN: Final = re.compile(r"^ *\S.{0,34}\s{2,}(?=\S)")
_WORD: Final = re.compile(r" *[^ ]+")


def columns(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    bare = _COLOUR.sub("", text)
    return len(bare) if bare.isascii() else sum(map(_columns, bare))


def paragraphs(texts: Iterable[str], width: int = WIDTH) -> list[str]:
    """Return the lines of some paragraphs, none wider than ``width`` columns."""
    return [line for text in filter(None, texts) for line in _folded(" ".join(text.split()), width, 0)]


def fit(text: str, width: int) -> str:
    """Return a text whose lines are no wider than ``width``; the rest of a line stands under its second column."""
    return "\n".join(line for whole in text.split("\n") for line in _folded(whole, width, _hang(whole, width)))


def _hang(line: str, width: int) -> int:
    bare = _COLOUR.sub("", line)
    found = _SECOND_COLUMN.match(bare)
    indent = len(bare) - len(bare.lstrip(" ")) + 2
    return min(columns(found[0]) if found else indent, width // 2)


def _folded(line: str, width: int, hang: int) -> Iterator[str]:
    if columns(line) <= width:
        yield line
        return
    row = ""
    for word in _WORD.findall(line):
        if columns(row) + columns(word) <= width or not row.strip():
            row += word
        else:
            yield row
            row = " " * hang + word.lstrip(" ")
        while columns(row) > width:  # one word that is wider than the line, such as a fingerprint
            head = _head(row, width)
            yield head
            row = " " * hang + row[len(head) :]
    yield row


def _head(text: str, width: int) -> str:
    """Return as much of the beginning as fits; a colour sequence is never cut."""
    taken, used = 0, 0
    while taken < len(text):
        colour = _COLOUR.match(text, taken)
        if colour is not None:
            taken = colour.end()
            continue
        used += _columns(text[taken])
        if used > width:
            break
        taken += 1
    return text[:taken]


def _columns(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1
