"""One target for each reader of hostile bytes: a strategy, and what must hold for whatever it draws."""

import base64
import functools
import ipaddress
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec
import yaml
from hypothesis import strategies as st

from smtpprobe import auth, codec, egress
from smtpprobe.charset import readable
from smtpprobe.classify import SessionFacts, classify
from smtpprobe.credentials import Credentials
from smtpprobe.redact import WITHHELD, WITHHELD_SHORT, Redactor, clip, raw_bytes, sanitize, shorten_local_parts
from smtpprobe.replies import (
    MAX_LINES,
    MAX_REPLY_BYTES,
    Malformed,
    NeedMore,
    RawReply,
    ReplyReader,
    mechanisms,
    parse_ehlo,
)
from smtpprobe.vocabulary import Mechanism, Stage

ROOT = Path(__file__).resolve().parents[1]


class Target(NamedTuple):
    """``check`` takes one drawn value and raises where something does not hold."""

    draw: st.SearchStrategy[Any]
    check: Callable[[Any], None]


@functools.cache
def corpus() -> list[str]:
    """Return the texts of real replies, as seeds for mutation."""
    entries = yaml.safe_load((ROOT / "tests" / "unit" / "data" / "replies.yaml").read_text("utf-8"))
    return [entry["text"] for entry in entries]


def mutated(seeds: list[str]) -> st.SearchStrategy[str]:
    """Draw real texts, whole, cut, joined or with junk put in."""
    junk = st.text(max_size=12) | st.sampled_from(
        ["\r\n", "\t", "  ", "-", "[", "]", "<", ">", "5.7.1", "\\x1b", "\0", "é"]
    )
    piece = st.builds(
        lambda text, a, b: text[a : a + b], st.sampled_from(seeds), st.integers(0, 80), st.integers(0, 400)
    )
    return st.lists(piece | junk, min_size=1, max_size=6).map("".join)


# ------------------------------------------------------------------------------------------------------ reply reader

_line = st.builds(
    lambda code, sep, text, end: code + sep + text + end,
    st.sampled_from([b"220", b"250", b"354", b"421", b"535", b"554", b"2204", b"22", b"99", b"650", b""])
    | st.binary(max_size=4),
    st.sampled_from([b" ", b"-", b"", b"\t"]),
    st.binary(max_size=40) | st.sampled_from([b"x" * 600, b"x" * 9000]),
    st.sampled_from([b"\r\n", b"\n", b"\r", b"\r\r\n", b""]),
)
_stream = st.lists(_line | st.binary(max_size=60), max_size=30).map(b"".join)
_cuts = st.lists(st.integers(1, 64), max_size=40)


def _read(stream: bytes, cuts: list[int]) -> list[RawReply | Malformed]:
    reader, out, at = ReplyReader(), [], 0
    for size in [*cuts, len(stream) + 1]:
        reader.feed(stream[at : at + size])
        at += size
        while not isinstance(got := reader.next(), NeedMore):
            out.append(got)
            if isinstance(got, Malformed):
                return out
    return out


def check_reply_reader(drawn: tuple[bytes, list[int]]) -> None:
    """How bytes are cut changes nothing that is read; every reply is within the bounds and of the grammar."""
    stream, cuts = drawn
    replies = _read(stream, cuts)
    assert replies == _read(stream, [])
    for reply in replies:
        if isinstance(reply, RawReply):
            assert 200 <= reply.code <= 559
            assert 1 <= len(reply.lines) <= MAX_LINES
            assert sum(map(len, reply.lines)) <= MAX_REPLY_BYTES
            assert not any(b"\n" in line for line in reply.lines)


_keyword = st.sampled_from(
    [b"AUTH PLAIN LOGIN", b"AUTH=LOGIN", b"auth\tplain", b"STARTTLS", b" SIZE 1", b"", b"=", b"AUTH="]
)


def check_ehlo_parser(lines: list[bytes]) -> None:
    """Any reply yields printable keywords and mechanisms."""
    ehlo = parse_ehlo(RawReply(250, tuple(lines)))
    assert ehlo.first_line == lines[0]
    for keyword in (*ehlo.keywords, *mechanisms(ehlo.keywords)):
        assert keyword.isascii()
        assert keyword.isprintable()
    auth.choose(Mechanism.AUTO, mechanisms(ehlo.keywords))


# --------------------------------------------------------------------------------------------- sanitizer and redactor


def check_sanitizer(raw: bytes) -> None:
    """Stored text is printable ASCII and lossless; the reader's form holds nothing that misleads."""
    text, _ = sanitize(raw)
    assert all(0x20 <= ord(char) <= 0x7E for char in text)
    assert raw_bytes(text) == raw
    assert raw.startswith(raw_bytes(clip(text, 30).removesuffix("..."))) or len(text) <= 30
    shown = readable(text)
    assert not any(char < " " or "\x7f" <= char < "\xa0" or char in "\u2028\u2029\u202e\u2066\ufeff" for char in shown)
    shorten_local_parts(text)


_password = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=24)
_echo = st.sampled_from(
    [
        lambda word: word,
        lambda word: word.upper(),
        lambda word: base64.b64encode(b"\0user@x.example\0" + word),
        lambda word: base64.b64encode(b"a" + word),
        lambda word: base64.b64encode(b"ab" + word + b"c"),
        lambda word: word.hex().encode(),
        lambda word: quote(word, safe="").encode(),
        lambda word: "".join(f"%{byte:02x}" for byte in word).encode(),
    ]
)
_redacted = st.tuples(
    st.text(max_size=12), _password, _echo, st.binary(max_size=20), st.binary(max_size=20), st.sampled_from(Stage)
)


def check_redactor(drawn: tuple[Any, ...]) -> None:
    """A line with the password in any form is withheld; other lines pass whole."""
    user, password, form, before, after, stage = drawn
    pair = Credentials(user.replace("\0", ""), password)
    line = before + b" " + form(pair.password_bytes) + b" " + after
    kept, echoed = Redactor(pair).text(sanitize(line)[0], stage)
    if len(password) >= 6:
        assert (kept, echoed) == (WITHHELD, True)
    elif stage in (Stage.AUTH, Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT, Stage.QUIT):
        assert kept == WITHHELD_SHORT
    kept, echoed = Redactor(pair).text(sanitize(before + after)[0], stage)
    assert kept in (WITHHELD_SHORT, WITHHELD) or kept == sanitize(before + after)[0]


# ------------------------------------------------------------------------------------------------ readers of meaning


def check_classifier(drawn: tuple[Stage, str, str]) -> None:
    """Any text gets a verdict of the vocabulary, the same each time, in time."""
    stage, text, host = drawn
    facts = SessionFacts(host=host, mail_from="a@b.example", rcpt_to=("c@d.example",))
    began = time.thread_time()
    verdict = classify(stage, text, facts)
    assert time.thread_time() - began < 0.5  # of this thread, whatever else the machine does
    assert verdict == classify(stage, text, facts)
    assert 0 <= verdict.confidence <= 1
    assert verdict.reason not in [other.reason for other in verdict.alternatives]


def check_egress_address(drawn: tuple[str, str, bool]) -> None:
    """An address that is read from a server's words is one, and stands in them."""
    text, helo, public = drawn
    for ip in (egress.from_ehlo(text, helo, public), egress.from_reply(text, helo, public)):
        if ip is not None:
            parsed = ipaddress.ip_address(ip)
            assert str(parsed) == ip
            assert not public or egress.is_public(ip)


def check_auth(drawn: tuple[Mechanism, list[bytes]]) -> None:
    """An exchange ends after four answers at most and sends lines that cannot be anything but base64."""
    mechanism, payloads = drawn
    login = auth.exchange(mechanism, Credentials("user@x.example", "pass\r\nword"))
    lines = [login.first()]
    for payload in [*payloads, *[b""] * 5]:
        line = login.answer(payload)
        if line is None:
            break
        lines.append(line)
    assert login.problem
    assert len(lines) <= 1 + auth.MAX_ANSWERS
    assert not any(set(line) & {0, 10, 13} for line in lines)


def check_codec(raw: bytes) -> None:
    """Bytes are a result that writes and reads the same, or ResultUnreadable."""
    try:
        result = codec.decode_result(raw)
    except codec.ResultUnreadable as problem:
        if not str(problem).isprintable():
            raise
        return
    whole = codec.encode_result(result, None)
    assert codec.decode_result(whole) == result
    if len(whole) < 50_000:
        short = codec.decode_result(codec.encode_result(result))
        assert (short.outcome, short.stage) == (result.outcome, result.stage)


@functools.cache
def _golden() -> list[bytes]:
    return [path.read_bytes() for path in sorted((ROOT / "tests" / "unit" / "golden").glob("result-*.json"))]


def _spliced() -> st.SearchStrategy[bytes]:
    """Draw golden results with a value somewhere in them replaced, or bytes cut out."""
    junk = st.none() | st.booleans() | st.integers() | st.text(max_size=40) | st.lists(st.text(max_size=5), max_size=3)

    def replaced(raw: bytes, at: int, value: Any) -> bytes:
        document = msgspec.json.decode(raw)
        spots = list(_spots(document))
        holder, key = spots[at % len(spots)]
        holder[key] = value
        return codec.ascii_json(document)

    def cut(raw: bytes, at: int, size: int) -> bytes:
        return raw[: at % len(raw)] + raw[at % len(raw) + size :]

    seeds = st.sampled_from(_golden())
    return st.builds(replaced, seeds, st.integers(0, 999), junk) | st.builds(
        cut, seeds, st.integers(0, 9999), st.integers(0, 9)
    )


def _spots(node: Any) -> Any:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(items):
        yield node, key
        yield from _spots(value)


TARGETS: dict[str, Callable[[], Target]] = {
    "reply-reader": lambda: Target(st.tuples(_stream, _cuts), check_reply_reader),
    "ehlo-parser": lambda: Target(
        st.lists(_keyword | st.binary(max_size=60), min_size=1, max_size=20), check_ehlo_parser
    ),
    "sanitizer": lambda: Target(
        st.binary(max_size=300) | st.text(max_size=100).map(lambda t: t.encode("utf-8", "surrogatepass")),
        check_sanitizer,
    ),
    "redactor": lambda: Target(_redacted, check_redactor),
    "classifier": lambda: Target(
        st.tuples(
            st.sampled_from(Stage), mutated(corpus()), st.sampled_from(["", "smtp.gmail.com", "email-smtp.x.example"])
        ),
        check_classifier,
    ),
    "egress-address": lambda: Target(
        st.tuples(mutated(corpus()), st.sampled_from(["", "shop.example.com", "[10.0.0.1]", "."]), st.booleans()),
        check_egress_address,
    ),
    "auth": lambda: Target(
        st.tuples(
            st.sampled_from([m for m in Mechanism if m is not Mechanism.AUTO]),
            st.lists(st.binary(max_size=60) | st.binary(max_size=60).map(base64.b64encode), max_size=6),
        ),
        check_auth,
    ),
    "result-codec": lambda: Target(_spliced() | st.binary(max_size=200), check_codec),
}
