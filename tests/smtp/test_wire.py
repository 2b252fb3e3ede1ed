"""The connection itself: what the kernel is told about it."""

import asyncio
import socket

from hostile import Hostile

from smtpprobe.resolve import Address
from smtpprobe.wire import Limit, Wire, connect


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
