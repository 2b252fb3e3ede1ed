"""Open TCP to one address, and say why it was not accepted."""

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from typing import NamedTuple, cast

from smtpprobe.resolve import Address
from smtpprobe.vocabulary import Reason
from smtpprobe.wire import Cut, Ended, Limit, Wire


class NotConnected(NamedTuple):
    """Why TCP was not accepted: one of the path reasons, the sentence, the id of the fact."""

    reason: Reason
    detail: str
    rule: str


_ERRNO: dict[int, tuple[Reason, str, str]] = {
    errno.ECONNREFUSED: (Reason.CONNECT_REFUSED, "the port is closed", "transport:connect-refused"),
    errno.ETIMEDOUT: (Reason.CONNECT_TIMEOUT, "no answer to SYN", "transport:connect-timeout"),
}
_PROHIBITED = (Reason.CONNECT_PROHIBITED, "no way to this address from here", "transport:connect-prohibited")


async def connect(
    address: Address, limit: Limit, hello: Callable[[], bytes] | None = None, *, alone: bool = False
) -> Wire | NotConnected:
    """Open TCP to one address; what ``hello`` gives by then goes out as soon as it is accepted.

    ``alone`` where nothing else happens in this process until the connection ends.
    """
    try:
        sock = socket.socket(address.family, socket.SOCK_STREAM)
        # Nagle's algorithm off: the EHLO behind a handshake would wait for an acknowledgement that the server delays,
        # 90 ms on a link of 50.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        return _not_connected(error.errno or 0)
    sock.setblocking(False)
    number: int | None = sock.connect_ex(cast("tuple[str, int]", address.sockaddr))
    wire = Wire(sock, alone=alone)  # while the SYN is on its way
    try:
        if number == errno.EINPROGRESS:
            number = await wire.connected(limit.deadline)
    except asyncio.CancelledError:
        wire.close()
        raise
    if number == 0:
        if hello is not None:
            wire.send(hello())
        return wire
    wire.close()
    if number is None:
        detail = f"no answer to SYN within {limit.words}"
        return NotConnected(Reason.CONNECT_TIMEOUT, detail, "transport:connect-timeout")
    # A RST that answers the SYN is ECONNREFUSED: this one came after TCP was accepted.
    return Wire(None, Ended(Cut.RESET)) if number == errno.ECONNRESET else _not_connected(number)


def _not_connected(number: int) -> NotConnected:
    reason, words, rule = _ERRNO.get(number, _PROHIBITED)
    return NotConnected(reason, f"{words} ({os.strerror(number)})", rule)
