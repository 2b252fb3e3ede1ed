"""Who takes mail for a domain: one DNS question of our own, as the system's resolver has no call for MX records."""

import asyncio
import re
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from smtpprobe.resolve import NotResolved, resolve

# What is given a name server, beside the limit of the run: the answer only widens one condition.
SECONDS = 2.0
MAX_DOMAINS = 4
_RESOLV_CONF = Path("/etc/resolv.conf")
_LABEL = re.compile(rb"[A-Za-z0-9_-]{1,63}")
_MX, _IN, _NXDOMAIN = 15, 1, 3
_MAX_RECORDS = 32
_MAX_NAMES = 8

Server = tuple[str, int]


async def of_recipients(recipients: Iterable[str], limit: float) -> dict[str, tuple[str, ...]]:
    """Ask for the hosts of the recipients' domains, all within ``limit`` seconds; returns those that were told."""
    domains = sorted({to.rpartition("@")[2].lower() for to in recipients if "@" in to})[:MAX_DOMAINS]
    answers = await asyncio.gather(*(exchangers(domain, limit) for domain in domains))
    return {domain: found for domain, found in zip(domains, answers, strict=True) if found is not None}


async def exchangers(domain: str, limit: float, servers: Sequence[Server] = ()) -> tuple[str, ...] | None:
    """Ask, at most ``limit`` seconds, for the names and addresses of the hosts that take mail for a domain.

    Empty where the domain takes no mail (RFC 7505); the domain itself where it has no MX records (RFC 5321 §5.1). None
    where nobody could say, or said too much for one answer, and for a domain that does not exist as far as is seen from
    here: it may well be the server's own, in a zone that only its side knows. ``servers`` are those of resolv.conf.
    """
    query = question(domain, secrets.randbelow(1 << 16))
    if query is None:
        return None
    try:
        async with asyncio.timeout(limit):
            found = await _ask(query, tuple(servers) or name_servers(), limit)
            if found is None or not found.exists or len(found.names) > _MAX_NAMES:
                return None
            names = found.names if found.names or found.final else (domain.lower().rstrip("."),)
            addresses = await asyncio.gather(*(_addresses(name, limit) for name in names))
    except TimeoutError:
        return None
    known = [ips for ips in addresses if ips is not None]
    return (*names, *(ip for ips in known for ip in ips)) if len(known) == len(addresses) else None


async def _addresses(name: str, limit: float) -> tuple[str, ...] | None:
    found = await resolve(name, 25, limit)  # as the server's own address was found
    if isinstance(found, NotResolved):
        return () if found.rule in {"transport:dns-no-such-name", "transport:dns-bad-name"} else None
    return tuple(address.ip for address in found)


# -------------------------------------------------------------------------------------------------- the wire format


class Answer(NamedTuple):
    """MX names in lower case without the last dot; ``final`` where no name means that nobody takes mail."""

    names: tuple[str, ...]
    final: bool
    exists: bool = True


def question(domain: str, number: int) -> bytes | None:
    """Return the datagram that asks for a domain's MX records (RFC 1035 §4), or None for what is no domain."""
    labels = domain.encode("ascii", "replace").removesuffix(b".").split(b".")
    if not all(_LABEL.fullmatch(label) for label in labels) or sum(map(len, labels)) + len(labels) > 254:
        return None
    name = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return number.to_bytes(2) + b"\1\0\0\1\0\0\0\0\0\0" + name + _MX.to_bytes(2) + _IN.to_bytes(2)


def answers(query: bytes, reply: bytes) -> bool:
    """Tell whether a datagram repeats number and question of a query."""
    asked = reply[12 : len(query)]
    return reply[:2] == query[:2] and len(reply) >= len(query) and asked.lower() == query[12:].lower()


def parse(query: bytes, reply: bytes) -> Answer | None:
    """Return what a reply to ``query`` says; None where it is cut, malformed, too long or no answer (SERVFAIL)."""
    if not answers(query, reply) or not reply[2] & 0x80 or reply[2] & 0x02 or reply[4:6] != b"\0\1":
        return None
    code, count = reply[3] & 0x0F, int.from_bytes(reply[6:8])
    if code == _NXDOMAIN:
        return Answer((), final=True, exists=False)
    if code or count > _MAX_RECORDS:
        return None
    names: dict[str, None] = {}
    try:
        at = len(query)
        for _ in range(count):
            _, at = _name(reply, at)
            kind, size = int.from_bytes(reply[at : at + 2]), int.from_bytes(reply[at + 8 : at + 10])
            at += 10
            if at + size > len(reply):
                return None
            if kind == _MX:
                names[_name(reply, at + 2)[0]] = None
            at += size
    except (IndexError, ValueError):
        return None
    return Answer(tuple(name for name in names if name), final=bool(names))


def _name(reply: bytes, at: int) -> tuple[str, int]:
    """Return the name at a place and the place behind it; each pointer must lead back (RFC 1035 §4.1.4)."""
    labels: list[str] = []
    end, lowest = 0, at
    while size := reply[at]:
        if size >= 0xC0:
            end = end or at + 2
            at = (size & 0x3F) << 8 | reply[at + 1]
            if at >= lowest:
                raise ValueError("a pointer that does not lead back")
            lowest = at
            continue
        if size > 63 or len(labels) > 127 or at + 1 + size > len(reply):
            raise ValueError("no label")
        labels.append(reply[at + 1 : at + 1 + size].decode("ascii").lower())
        at += 1 + size
    return ".".join(labels), end or at + 1


# ---------------------------------------------------------------------------------------------------- the question


def name_servers(path: Path = _RESOLV_CONF) -> tuple[Server, ...]:
    """Return the first three name servers of a resolv.conf; the own host's where there is none (resolv.conf(5))."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    words = [line.split() for line in lines]
    found = [(line[1], 53) for line in words if len(line) > 1 and line[0] == "nameserver"]
    return tuple(found[:3]) or (("127.0.0.1", 53),)


async def _ask(query: bytes, servers: tuple[Server, ...], limit: float) -> Answer | None:
    """Ask each server twice, as datagrams get lost; the first that knows ends it."""
    for server in servers * 2:
        heard = await _exchange(query, server, limit / len(servers) / 2)
        found = parse(query, heard) if heard is not None else None
        if found is not None:
            return found
    return None


class _Exchange(asyncio.DatagramProtocol):
    def __init__(self, query: bytes, heard: "asyncio.Future[bytes | None]") -> None:
        self._query, self._heard = query, heard

    def datagram_received(self, data: bytes, _from: object) -> None:
        if answers(self._query, data) and not self._heard.done():
            self._heard.set_result(data)

    def error_received(self, _error: Exception) -> None:
        if not self._heard.done():
            self._heard.set_result(None)


async def _exchange(query: bytes, server: Server, limit: float) -> bytes | None:
    loop = asyncio.get_running_loop()
    heard: asyncio.Future[bytes | None] = loop.create_future()
    try:
        transport, _ = await loop.create_datagram_endpoint(lambda: _Exchange(query, heard), remote_addr=server)
    except (OSError, ValueError):
        return None
    try:
        transport.sendto(query)
        return await asyncio.wait_for(heard, limit)
    except TimeoutError:
        return None
    finally:
        transport.close()
