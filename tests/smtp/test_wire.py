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
