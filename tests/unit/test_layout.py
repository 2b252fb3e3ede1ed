"""Text on terminals: no line is wider than asked, no letter is lost, colours are never cut."""

import re

from hypothesis import given, strategies as st

from smtpprobe.layout import columns, fit, paragraphs

BARE = re.compile(r"\x1b\[\d*m")
letters = st.text(st.sampled_from("ab .,-한글:éx  "), max_size=200)
coloured = st.lists(st.one_of(letters, st.sampled_from(["\x1b[31m", "\x1b[0m", "\x1b[1m"])), max_size=12).map("".join)


@given(coloured, st.integers(min_value=60, max_value=100))
def test_no_line_is_too_wide_and_nothing_is_lost(text, width):
    """Whatever the text, its lines fit, and it is the same but for blanks and line ends."""
    shown = fit(text, width)
    assert all(columns(line) <= width for line in shown.split("\n"))
    assert re.sub(r"\s", "", shown) == re.sub(r"\s", "", text)
    assert BARE.findall(shown) == BARE.findall(text)


@given(st.lists(letters, max_size=4), st.integers(min_value=60, max_value=100))
def test_paragraphs_fit(texts, width):
    """Prose is cut at blanks, each paragraph begins a line, and an empty one takes none."""
    lines = paragraphs(texts, width)
    assert all(columns(line) <= width for line in lines)
    assert re.sub(r"\s", "", "".join(lines)) == re.sub(r"\s", "", "".join(texts))


def test_the_rest_of_a_row_stands_under_its_second_column():
    """A row of a table goes on where its text began, other lines two columns further in."""
    row = "  reply       " + "550 5.7.1 relaying denied " * 4
    first, *rest = fit(row.rstrip(), 60).split("\n")
    assert len(rest) == 2
    assert all(len(line) - len(line.lstrip()) == first.index("5") == 14 for line in rest)
    assert fit("[0] " + "x" * 70, 60) == "[0]\n  " + "x" * 58 + "\n  " + "x" * 12
    assert fit("short", 60) == "short"


def test_korean_letters_take_two_columns():
    """Sixty columns hold thirty Korean letters."""
    assert columns("가나 ab") == 7
    assert [len(line) for line in fit("가" * 60, 60).split("\n")] == [30, 31, 3]
