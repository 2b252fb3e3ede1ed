"""One loopback address with a scripted server on each of several real ports; connections are counted over all of them.

Real ports below 1024 are bound, so tests that use this run as root; each test takes an address of its own.
"""

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from certificates import pki
from hostile import Hostile

_taken = iter(range(1, 250))


def address() -> str:
    """An address of loopback that no other test of this machine uses: by process, then by count."""
    pid = os.getpid()
    return f"127.{1 + pid // 250 % 250}.{1 + pid % 250}.{next(_taken)}"


class Counted(Hostile):
    """A scripted server that has the connections to its address counted as each one comes."""

    def __init__(self, counts: "Counts", *arguments: Any, **named: Any) -> None:
        self._counts = counts
        super().__init__(*arguments, **named)

    def _serve(self, sock: socket.socket, script: list[str], heard: Any) -> None:
        self._counts.look()
        super()._serve(sock, script, heard)


class Counts:
    """Connections to all ports of one address that are open at a time, as the kernel sees the servers' side.

    A connection that the client has closed is none, although a server that hangs has not noticed.
    """

    def __init__(self, host: str) -> None:
        self.most = 0
        self._local = socket.inet_aton(host)[::-1].hex().upper()
        self._lock = threading.Lock()

    def look(self) -> None:
        with self._lock:
            # One reading is no moment: connections come and go during it. What two in a row show was open between them.
            self.most = max(self.most, len(self._open() & self._open()))

    def _open(self) -> set[tuple[str, str]]:
        entries = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return {
            (entry[1], entry[2]) for entry in entries if entry[1].startswith(f"{self._local}:") and entry[3] == "01"
        }


class Ports:
    """What ``ports`` yields: the address and the servers by port."""

    def __init__(self, host: str, servers: Mapping[int, Counted], counts: Counts) -> None:
        self.host = host
        self.servers = servers
        self.counts = counts

    @property
    def logins(self) -> int:
        return sum(server.logins for server in self.servers.values())

    def connections(self) -> dict[int, int]:
        """How many connections each port has taken."""
        return {port: len(server.heard) for port, server in self.servers.items()}


@contextlib.contextmanager
def ports(
    scripts: Mapping[int, tuple[str, str]], contexts: Mapping[str, ssl.SSLContext] | None = None, host: str = ""
) -> Iterator[Ports]:
    """Serve ``port: (mode, script)``; ports that are not named stay closed."""
    host, contexts = host or address(), contexts or pki().contexts
    counts = Counts(host)
    with contextlib.ExitStack() as stack:
        servers = {
            port: stack.enter_context(Counted(counts, script.split("\n---\n"), mode, contexts, host, port))
            for port, (mode, script) in scripts.items()
        }
        yield Ports(host, servers, counts)
