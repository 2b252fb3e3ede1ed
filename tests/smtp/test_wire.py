"""The connection itself: what the kernel is told about it."""

import asyncio
import socket
from time import monotonic

import pytest
from hostile import Hostile

from smtpprobe.resolve import Address
from smtpprobe.tcp import NotConnected, connect
from smtpprobe.vocabulary import Reason
from smtpprobe.wire import Cut, Ended, Limit, Wire


def test_no_line_waits_for_an_acknowledgement() -> None:
    """Nagle's algorithm is off: the EHLO behind a handshake would wait for the delayed acknowledgement of its last bytes."""

    async def option(port: int) -> int:
        limit = Limit(asyncio.get_running_loop().time() + 30, "30 s")
        wire = await connect(Address(socket.AF_INET, ("127.0.0.1", port), "127.0.0.1"), limit)
        assert isinstance(wire, Wire)
        assert wire._sock is not None
        found = wire._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        wire.close()
        return found

    with Hostile(["@hello"], "plain") as server:
        assert asyncio.run(option(server.port)) != 0


def test_what_is_left_for_later_is_done_when_the_next_packet_is_out() -> None:
    """Work that waits is done behind the packet and before the answer is waited for, in its order; close leaves none."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    done: list[bytes] = []

    async def talk() -> None:
        wire = Wire(ours)
        wire.later(lambda: done.append(theirs.recv(100)))
        wire.later(lambda: done.append(bytes([theirs.send(b"250 ok\r\n")])))
        assert done == []
        wire.send(b"QUIT\r\n")
        assert await wire.read(asyncio.get_running_loop().time() + 30) == b"250 ok\r\n"
        wire.later(lambda: done.append(b"closed"))
        wire.close()

    with theirs:
        asyncio.run(talk())
    assert done == [b"QUIT\r\n", b"\x08", b"closed"]


@pytest.mark.parametrize("waits", [["kernel", "loop"], ["loop", "kernel"]], ids=" then ".join)
def test_a_lone_conversation_waits_in_kernel_and_loop(waits: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever waits, replies are read, and the loop has its turns meanwhile: here it is the loop that sends them."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    async def talk() -> list[bytes | Ended]:
        loop = asyncio.get_running_loop()
        wire = Wire(ours, alone=True)
        heard: list[bytes | Ended] = []
        for wait in waits:
            monkeypatch.setattr("smtpprobe.wire._HELD", 30.0 if wait == "kernel" else 0.0)
            loop.call_later(0.02, theirs.send, wait.encode())
            heard.append(await wire.read(loop.time() + 20))
            theirs.send(b"at once")  # when the loop may still have to tell of what has been read
            heard.append(await wire.read(loop.time() + 20))
        wire.close()
        return heard

    with theirs:
        assert asyncio.run(talk()) == [heard for wait in waits for heard in (wait.encode(), b"at once")]


@pytest.mark.parametrize("held", [0.01, 25.0], ids=["loop", "kernel"])
def test_a_lone_conversation_keeps_its_deadline(held: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that says nothing is given up at the deadline, whoever waits for it then."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    monkeypatch.setattr("smtpprobe.wire._HELD", held)

    async def talk() -> bytes | Ended:
        return await Wire(ours, alone=True).read(monotonic() + 0.1)

    with ours, theirs:
        begun = monotonic()
        assert asyncio.run(talk()) == Ended(Cut.TIMEOUT)
        assert monotonic() < begun + 20


@pytest.mark.parametrize("alone", [True, False])
def test_what_begins_a_connection_goes_out_once_it_is_accepted(alone: bool) -> None:
    """A ClientHello that is ready is sent by the connect itself, and is not asked for where no connection came to be."""
    asked: list[str] = []

    async def open_both(port: int, closed: int) -> Wire | NotConnected:
        limit = Limit(asyncio.get_running_loop().time() + 30, "30 s")

        def hello() -> bytes:
            asked.append("hello")
            return b"EHLO too.early\r\n"

        ends = [
            await connect(Address(socket.AF_INET, ("127.0.0.1", at), "127.0.0.1"), limit, hello, alone=alone)
            for at in (closed, port)
        ]
        assert isinstance(ends[1], Wire)
        assert await ends[1].read(limit.deadline) == b"220 heard\r\n"
        ends[1].close()
        return ends[0]

    with socket.socket() as nobody, Hostile(["< EHLO too.early\n> 220 heard\nclose"], "plain") as server:
        nobody.bind(("127.0.0.1", 0))
        refused = asyncio.run(open_both(server.port, nobody.getsockname()[1]))
    assert isinstance(refused, NotConnected)
    assert refused.reason is Reason.CONNECT_REFUSED
    assert asked == ["hello"]
