"""The MX question: what is asked, what counts as an answer, and what no name server may do to the prober."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, strategies as st

from smtpprobe.exchangers import Answer, exchangers, name_servers, parse, question

ASK = question("outside.test", 0x1234) or b""


def reply(*records: bytes, flags: int = 0x8180, count: int | None = None) -> bytes:
    """A reply to ``ASK``."""
    number = len(records) if count is None else count
    head = ASK[:2] + flags.to_bytes(2) + b"\0\1" + number.to_bytes(2) + bytes(4)
    return head + ASK[12:] + b"".join(records)


def record(data: bytes, kind: int = 15) -> bytes:
    """A record whose owner is a pointer to the question's name."""
    return b"\xc0\x0c" + kind.to_bytes(2) + b"\0\1" + bytes(4) + len(data).to_bytes(2) + data


MX = record(b"\0\x0a\x02MX\xc0\x0c")
TARGETS = {
    "one": (reply(MX), Answer(("mx.outside.test",), final=True)),
    "an alias before it": (reply(record(b"\xc0\x0c", 5), MX), Answer(("mx.outside.test",), final=True)),
    "no MX": (reply(), Answer((), final=False)),
    "null MX": (reply(record(b"\0\0\0")), Answer((), final=True)),
    "no such name": (reply(flags=0x8183), Answer((), final=True, exists=False)),
    "SERVFAIL": (reply(flags=0x8182), None),
    "cut": (reply(MX, flags=0x8380), None),
    "a query": (reply(MX, flags=0x0100), None),
    "fewer records than said": (reply(MX, count=2), None),
    "more records than anybody has": (reply(*[MX] * 33), None),
    "a pointer to itself": (reply(record(b"\0\x0a\xc0\x2c")), None),
    "another number": (b"\0\0" + reply(MX)[2:], None),
    "another question": (reply(MX).replace(b"outside", b"inside1"), None),
}


@pytest.mark.parametrize("name", TARGETS)
def test_a_reply_says_who_takes_mail_or_nothing(name):
    """MX names are read; what is cut, malformed, too long or somebody else's answer says nothing."""
    heard, expected = TARGETS[name]
    assert parse(ASK, heard) == expected


@given(st.binary(max_size=200), st.integers(min_value=0, max_value=3))
def test_no_datagram_raises(tail, count):
    """Whatever stands behind a repeated question, there is an answer or None."""
    found = parse(ASK, reply(tail, count=count))
    assert found is None or all(isinstance(name, str) for name in found.names)


@pytest.mark.parametrize(
    "domain", ["", "a..b", "[192.0.2.1]", "k\u00f6nig.example", "x" * 64, ".".join(["x" * 63] * 5)]
)
def test_what_is_no_domain_is_not_asked(domain):
    """No datagram leaves for a literal, an empty or overlong label, or bytes outside of host names."""
    assert question(domain, 1) is None


def test_name_servers_are_those_of_resolv_conf(tmp_path):
    """The first three count; without any, the own host is asked."""
    path = tmp_path / "resolv.conf"
    path.write_text("search x\nnameserver 192.0.2.1\nnameserver ::1\n#nameserver 9\nnameserver 3\nnameserver 4\n")
    assert name_servers(path) == (("192.0.2.1", 53), ("::1", 53), ("3", 53))
    assert name_servers(tmp_path / "none") == (("127.0.0.1", 53),)


@contextmanager
def serving(answer: Callable[[bytes], bytes | None]) -> Iterator[tuple[str, int]]:
    """A name server at loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def work() -> None:
            while (query := sock.recvfrom(512))[0] != b"end":
                said = answer(query[0])
                if said is not None:
                    sock.sendto(said, query[1])

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield sock.getsockname()
        finally:
            sock.sendto(b"end", sock.getsockname())
            thread.join(5)


def test_names_and_addresses_come_from_the_name_server():
    """The MX that a server names is returned with its addresses."""
    mx = record(b"\0\x0a\x09localhost\0")
    with serving(lambda query: query[:2] + reply(mx)[2:]) as server:
        found = asyncio.run(exchangers("outside.test", 2, (server,)))
    assert found is not None
    assert found[0] == "localhost"
    assert "127.0.0.1" in found


def test_a_lost_datagram_is_asked_again_and_silence_is_no_answer():
    """The second question is answered where the first was lost; of a server that never speaks nothing is claimed."""
    seen: list[bytes] = []

    def second(query: bytes) -> bytes | None:
        seen.append(query)
        return query[:2] + reply(record(b"\0\0\0"))[2:] if len(seen) > 1 else None

    with serving(second) as server:
        assert asyncio.run(exchangers("outside.test", 2, (server,))) == ()
    with serving(lambda _query: None) as server:
        assert asyncio.run(exchangers("outside.test", 0.2, (server,))) is None


def test_a_domain_that_does_not_exist_proves_nothing():
    """Of a domain that only the server's side may know nothing is claimed, and no second server is asked."""
    seen: list[bytes] = []

    def no_such_name(query: bytes) -> bytes:
        seen.append(query)
        return query[:2] + reply(flags=0x8183)[2:]

    with serving(no_such_name) as server:
        assert asyncio.run(exchangers("outside.test", 2, (server, server))) is None
    assert len(seen) == 1


def test_a_closed_port_is_no_answer():
    """A refused datagram ends the question at once, without an exception."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        closed = sock.getsockname()
    assert asyncio.run(exchangers("outside.test", 2, (closed,))) is None
