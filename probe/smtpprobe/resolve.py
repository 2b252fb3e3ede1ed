"""Names to addresses, as the application would get them: through the system's resolver, with a limit of our own."""

import asyncio
import functools
import socket
import time
from typing import NamedTuple

from smtpprobe.threads import beside
from smtpprobe.vocabulary import Reason

MAX_ADDRESSES = 16
# A resolver that gave up sooner than this was answered (SERVFAIL); later, nobody answered.
_SILENCE = 0.9


class Address(NamedTuple):
    """One address to connect to: the socket family, what ``connect`` takes, and its text."""

    family: socket.AddressFamily
    sockaddr: tuple[object, ...]
    ip: str


class NotResolved(NamedTuple):
    """Why a name has no address: DnsFailure or DnsTimeout, the sentence, the id of the fact."""

    reason: Reason
    detail: str
    rule: str


async def resolve(host: str, port: int, limit: float) -> tuple[Address, ...] | NotResolved:
    """Ask the system's resolver, at most ``limit`` seconds; addresses come in its order, each once, 16 at most."""
    try:
        name = host.encode("ascii") if host.isascii() else host.encode("idna")
    except UnicodeError:
        name = b""
    if not name or len(name) > 253 or b"\0" in name:
        return NotResolved(Reason.DNS_FAILURE, f"{host!r} is no host name", "transport:dns-bad-name")
    began = time.monotonic()
    found: list[type_info] | OSError
    try:
        found = _numeric(name, port) or await asyncio.wait_for(beside(functools.partial(_asked, name, port)), limit)
    except TimeoutError:
        return NotResolved(
            Reason.DNS_TIMEOUT, f"no answer for {host} within {limit:g} s (limit dns)", "transport:dns-timeout"
        )
    if isinstance(found, OSError):
        return _failure(host, found, time.monotonic() - began)
    addresses: dict[str, Address] = {}
    for family, _type, _proto, _canonical, sockaddr in found:
        addresses.setdefault(str(sockaddr[0]), Address(family, sockaddr, str(sockaddr[0])))
    return tuple(addresses.values())[:MAX_ADDRESSES]


def at_port(addresses: tuple[Address, ...], port: int) -> tuple[Address, ...]:
    """Return the same addresses with another port."""
    return tuple(one._replace(sockaddr=(one.sockaddr[0], port, *one.sockaddr[2:])) for one in addresses)


type_info = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[object, ...]]


def _numeric(name: bytes, port: int) -> "list[type_info]":
    """Return what an address stands for, which nobody needs to be asked; nothing where it is a name."""
    try:
        return list(socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
    except OSError:
        return []


def _asked(name: bytes, port: int) -> "list[type_info] | OSError":
    try:
        return list(socket.getaddrinfo(name, port, type=socket.SOCK_STREAM))
    except OSError as error:
        return error


def _failure(host: str, error: OSError, elapsed: float) -> NotResolved:
    code = error.errno
    if code == socket.EAI_AGAIN and elapsed >= _SILENCE:
        detail = f"the name servers did not answer for {host} ({elapsed:.1f} s)"
        return NotResolved(Reason.DNS_TIMEOUT, detail, "transport:dns-no-answer")
    if code in {socket.EAI_NONAME, socket.EAI_NODATA}:
        return NotResolved(Reason.DNS_FAILURE, f"{host} does not exist or has no address", "transport:dns-no-such-name")
    if code == socket.EAI_AGAIN:
        return NotResolved(
            Reason.DNS_FAILURE, f"the name servers could not answer for {host} (SERVFAIL)", "transport:dns-servfail"
        )
    return NotResolved(Reason.DNS_FAILURE, f"{host}: {error.strerror}", "transport:dns-error")
