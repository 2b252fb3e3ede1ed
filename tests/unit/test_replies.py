"""The reply reader: strict, bounded, and blind to how the bytes were cut."""

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings, strategies as st

from smtpprobe.replies import (
    MAX_LINE_BYTES,
    MAX_LINES,
    MAX_REPLY_BYTES,
    MAX_SESSION_BYTES,
    Malformed,
    NeedMore,
    RawReply,
    ReplyReader,
    mechanisms,
    offered,
    parse_ehlo,
)
from smtpprobe.vocabulary import Note, Reason

Event = RawReply | Malformed


def read(*chunks: bytes) -> tuple[list[Event], NeedMore | None]:
    """Return all events of a stream, and the last state where it is unfinished."""
    reader, events = ReplyReader(), list[Event]()
    got = reader.next()
    for chunk in chunks:
        reader.feed(chunk)
        while not isinstance(got := reader.next(), NeedMore):
            events.append(got)
            if isinstance(got, Malformed):
                return events, None
    return events, got


def one(raw: bytes) -> Event:
    events, _ = read(raw)
    assert len(events) == 1
    return events[0]


def test_one_line() -> None:
    """A line with code, space and text is a whole reply."""
    assert one(b"250 ok\r\n") == RawReply(250, (b"ok",))


def test_several_lines() -> None:
    """Lines with a hyphen go on until the one with a space."""
    assert one(b"250-mx\r\n250-SIZE 1\r\n250 HELP\r\n") == RawReply(250, (b"mx", b"SIZE 1", b"HELP"))


@pytest.mark.parametrize("raw", [b"220\r\n", b"220 \r\n"])
def test_bare_code(raw: bytes) -> None:
    """A code without text is a reply (RFC 5321 §4.2: clients must take it)."""
    assert one(raw) == RawReply(220, (b"",))


def test_empty_continuation() -> None:
    """A continuation line may have no text."""
    assert one(b"250-\r\n250 x\r\n") == RawReply(250, (b"", b"x"))


@pytest.mark.parametrize(
    "code", [b"199", b"120", b"600", b"999", b"260", b"299", b"000", b"2x0", b"22", b"+22", b"-20", b"2_0", b" 220"]
)
def test_what_is_no_code(code: bytes) -> None:
    """Only 2 to 5, then 0 to 5, then a digit is a code; nothing that int() would take besides."""
    bad = one(code + b" mx\r\n")
    assert isinstance(bad, Malformed)
    assert bad.reason is Reason.MALFORMED_REPLY


@pytest.mark.parametrize(
    "raw", [b"2204 mx\r\n", b"220\tmx\r\n", b"220mx\r\n", b"\r\n", b"\xb2\xb2\xb0 mx\r\n", b"220_x\r\n"]
)
def test_what_is_no_line(raw: bytes) -> None:
    """After the code comes a space, a hyphen or the end."""
    assert isinstance(one(raw), Malformed)


@pytest.mark.parametrize("raw", [b"220-mx\r\n554 no\r\n", b"554-no\r\n220 mx\r\n", b"250-a\r\n251-b\r\n250 c\r\n"])
def test_different_codes(raw: bytes) -> None:
    """Lines with different codes are no reply, whichever comes last."""
    bad = one(raw)
    assert isinstance(bad, Malformed)
    assert bad.reason is Reason.MALFORMED_REPLY
    assert Note.CODE_MISMATCH in bad.notes


def test_bare_lf_is_noted() -> None:
    """A line that ends with LF alone is read, and noted once for the reply."""
    assert one(b"250-a\n250 b\r\n") == RawReply(250, (b"a", b"b"), frozenset({Note.BARE_LF}))


def test_notes_belong_to_their_reply() -> None:
    """The note of one reply does not stick to the next."""
    events, _ = read(b"250 a\n250 b\r\n")
    assert [event.notes for event in events] == [frozenset({Note.BARE_LF}), frozenset()]


@pytest.mark.parametrize("size, noted", [(512, False), (513, True)])
def test_long_lines_are_noted(size: int, noted: bool) -> None:
    """A line of more than 512 octets, CRLF included, is read and noted."""
    reply = one(b"250 " + b"x" * (size - 6) + b"\r\n")
    assert isinstance(reply, RawReply)
    assert (Note.LINE_TOO_LONG in reply.notes) is noted


@pytest.mark.parametrize("end", [b"", b"\r\n", b"\n"])
def test_line_bound(end: bytes) -> None:
    """A line of more than 8 KiB ends the reading, with or without its end."""
    bad = one(b"250 " + b"x" * MAX_LINE_BYTES + end)
    assert isinstance(bad, Malformed)
    assert bad.reason is Reason.REPLY_TOO_LONG


def test_line_at_the_bound() -> None:
    """A line of just 8 KiB is read."""
    assert isinstance(one(b"250 " + b"x" * (MAX_LINE_BYTES - 4) + b"\r\n"), RawReply)


@pytest.mark.parametrize("count, fits", [(MAX_LINES, True), (MAX_LINES + 1, False)])
def test_line_count(count: int, fits: bool) -> None:
    """A reply has at most 100 lines."""
    got = one(b"250-x\r\n" * (count - 1) + b"250 x\r\n")
    assert isinstance(got, RawReply) is fits
    assert fits or got == Malformed(Reason.REPLY_TOO_LONG, "a reply of more than 100 lines", b"250 x")


def test_reply_bound() -> None:
    """A reply has at most 32 KiB."""
    line = b"250-" + b"x" * 994 + b"\r\n"
    bad = one(line * (MAX_REPLY_BYTES // len(line) + 1))
    assert isinstance(bad, Malformed)
    assert bad.reason is Reason.REPLY_TOO_LONG


def test_session_bound() -> None:
    """A session has at most 256 KiB, however well-formed its replies are."""
    reply = b"250 " + b"x" * 4090 + b"\r\n"
    events, _ = read(*[reply] * 100)
    assert len(events) == MAX_SESSION_BYTES // len(reply) + 1
    assert events[-1].reason is Reason.REPLY_TOO_LONG  # type: ignore[union-attr]


def test_session_bound_holds_over_tls() -> None:
    """What was read in plaintext counts after STARTTLS too."""
    reader = ReplyReader(MAX_SESSION_BYTES - 5)
    reader.feed(b"220 mx\r\n")
    assert isinstance(reader.next(), Malformed)


def test_nothing_after_malformed() -> None:
    """After a malformed reply no other one is believed."""
    reader = ReplyReader()
    reader.feed(b"junk\r\n250 ok\r\n")
    first = reader.next()
    reader.feed(b"250 ok\r\n")
    assert isinstance(first, Malformed)
    assert reader.next() == first


def test_tls_record_needs_no_line_end() -> None:
    """A TLS record is known by its first two bytes."""
    assert isinstance(one(b"\x15\x03"), Malformed)


def test_begun() -> None:
    """An unfinished reply is told from silence."""
    assert read(b"")[1] == NeedMore(begun=False)
    assert read(b"250-a\r\n")[1] == NeedMore(begun=True)
    assert read(b"25")[1] == NeedMore(begun=True)


@pytest.mark.parametrize(
    "raw, hopeless",
    [
        (b"", False),
        (b"2", False),
        (b"220-x", False),
        (b"220\r", False),
        (b"HTTP", True),
        (b"2x", True),
        (b"220x", True),
        (b"\xff\xfd", True),
    ],
)
def test_hopeless(raw: bytes, hopeless: bool) -> None:
    """A begun line that cannot become a reply line is known before it ends."""
    reader = ReplyReader()
    reader.feed(raw)
    assert reader.hopeless is hopeless


def cuts(raw: bytes, at: list[int]) -> Iterator[bytes]:
    places = sorted({0, len(raw), *(place % (len(raw) + 1) for place in at)})
    for begin, end in itertools.pairwise(places):
        yield raw[begin:end]


WIRE = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.from_regex(rb"[2-5][0-5][0-9][ -][a-zA-Z0-9 \x00-\xff]{0,30}\r?\n", fullmatch=True),
        st.sampled_from(
            [
                b"220-a\r\n",
                b"220 b\r\n",
                b"250\r\n",
                b"\n",
                b"\r",
                b"554 no\n",
                b"x" * 9000,
                b"250-" + b"y" * 600 + b"\r\n",
            ]
        ),
    ),
    max_size=30,
).map(b"".join)


@settings(max_examples=400, deadline=None)
@given(WIRE, st.lists(st.integers(min_value=0, max_value=10**6), max_size=20))
@example(b"250 x\r\n250 y\r\n", [6, 7])
@example(b"250-" + b"y" * 8200 + b"\r\n", [8194])
def test_cutting_changes_nothing(raw: bytes, at: list[int]) -> None:
    """However a stream is cut into segments, the same replies come out of it, and nothing raises."""
    assert read(*cuts(raw, at)) == read(raw) == read(*(raw[i : i + 1] for i in range(len(raw))))


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=1, max_size=50), st.integers(min_value=1, max_value=2000))
def test_memory_is_bounded(chunk: bytes, times: int) -> None:
    """The reader never holds more than its bounds, whatever it is fed and however rarely it is asked."""
    reader = ReplyReader()
    for _ in range(times):
        reader.feed(chunk * 500)
    assert len(reader.pending) <= MAX_SESSION_BYTES + MAX_LINE_BYTES
    for _ in range(times * 3):
        if isinstance(reader.next(), NeedMore | Malformed):
            break
    assert len(reader.pending) <= MAX_LINE_BYTES + 2


def ehlo(*lines: bytes) -> tuple[str, ...]:
    return parse_ehlo(RawReply(250, (b"mx", *lines))).keywords


def test_keywords() -> None:
    """Keywords are upper case; parameters stay as they are; empty and repeated lines are passed over."""
    assert ehlo(b"size 100", b"  Pipelining", b"\tauth\tPLAIN  login", b"", b"SIZE 100") == (
        "SIZE 100",
        "PIPELINING",
        "AUTH PLAIN login",
    )


def test_mechanisms() -> None:
    """All AUTH lines count, the old form with an equals sign too, each mechanism once and in upper case."""
    assert mechanisms(ehlo(b"AUTH=LOGIN PLAIN", b"auth plain CRAM-MD5", b"AUTHENTICATE X")) == (
        "LOGIN",
        "PLAIN",
        "CRAM-MD5",
    )


def test_offered() -> None:
    """A keyword is offered only as the first word of a line."""
    keywords = ehlo(b"X STARTTLS", b"STARTTLSX", b"AUTH=PLAIN")
    assert not offered(keywords, "STARTTLS")
    assert offered(keywords, "AUTH")


@settings(deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=10))
def test_keywords_are_printable(lines: list[bytes]) -> None:
    """Whatever a server announces, the keywords hold printable ASCII only, and nothing raises."""
    keywords = ehlo(*lines)
    assert all(0x20 <= ord(char) < 0x7F for keyword in keywords for char in keyword)
    mechanisms(keywords)
