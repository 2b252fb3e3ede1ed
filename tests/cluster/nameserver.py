"""The name server of the tests: a zone file in JSON, read again when it changes; names it does not hold are NXDOMAIN.

Zone file: {"name.": {"A": ["192.0.2.1"], "AAAA": […], "MX": [[10, "mx."]], "TXT": ["…"], "PTR": ["name."], "CNAME": ["name."]}}
with lower-case absolute names. {"silent": true} on a name: queries for it and below are never answered. {"rcode": "SERVFAIL"}
or REFUSED: that answer. {"delay": 1.5}: seconds before the answer.

Usage: python3 nameserver.py ADDRESS ZONE_FILE QUERY_LOG
"""

from __future__ import annotations

import ipaddress
import json
import socketserver
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28}
RCODES = {"NOERROR": 0, "SERVFAIL": 2, "NXDOMAIN": 3, "REFUSED": 5}
TTL = 5
UDP_LIMIT = 1232

Zone = dict[str, dict[str, Any]]


def encode_name(name: str) -> bytes:
    """A name in wire form, without compression."""
    labels = [label.encode() for label in name.rstrip(".").split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def encode_data(kind: str, value: Any) -> bytes:
    """The data of one record."""
    if kind in {"A", "AAAA"}:
        return ipaddress.ip_address(value).packed
    if kind == "MX":
        return struct.pack("!H", value[0]) + encode_name(value[1])
    if kind == "TXT":
        text = value.encode()
        return b"".join(bytes([len(text[i : i + 255])]) + text[i : i + 255] for i in range(0, max(len(text), 1), 255))
    return encode_name(value)


def parse(query: bytes) -> tuple[str, int, bytes]:
    """Name, type number and the question's own bytes (so that the answer repeats the asker's letter case)."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("latin-1"))
        at += 1 + query[at]
    return ".".join(labels).lower() + ".", struct.unpack("!H", query[at + 1 : at + 3])[0], query[12 : at + 5]


def special(zone: Zone, name: str) -> dict[str, Any]:
    """The entry of this name, or of the nearest name above it that is silent or has an rcode."""
    entry = zone.get(name, {})
    labels = name.split(".")
    for cut in range(1, len(labels) - 1):
        above = zone.get(".".join(labels[cut:]), {})
        if not entry and ("silent" in above or "rcode" in above):
            return above
    return entry


def answer(zone: Zone, query: bytes, limit: int) -> tuple[bytes, float] | None:
    """The reply and the delay before it, or None for silence. Pure."""
    name, number, question = parse(query)
    entry = special(zone, name)
    if entry.get("silent"):
        return None
    records = []
    for kind in ("CNAME", *(kind for kind, known in TYPES.items() if known == number and kind != "CNAME")):
        for value in entry.get(kind, []):
            records.append((name, kind, value))
            target = zone.get(value, {}) if kind == "CNAME" else {}
            wanted = [key for key, known in TYPES.items() if known == number]
            records += [(value, key, item) for key in wanted for item in target.get(key, [])]
    below = any(key.endswith("." + name) for key in zone)
    rcode = RCODES[entry.get("rcode", "NOERROR" if entry or below else "NXDOMAIN")]
    body = b""
    for owner, kind, value in records:
        data = encode_data(kind, value)
        body += encode_name(owner) + struct.pack("!HHIH", TYPES[kind], 1, TTL, len(data)) + data
    # no SOA in negative answers: resolvers then do not cache them, and a test may add the name
    cut = len(question) + len(body) + 12 > limit
    flags = 0x8400 | (struct.unpack("!H", query[2:4])[0] & 0x0100) | 0x0080 | (0x0200 if cut else 0) | rcode
    header = query[:2] + struct.pack("!HHHHH", flags, 1, 0 if cut else len(records), 0, 0)
    return header + question + (b"" if cut else body), float(entry.get("delay", 0))


class Zones:
    """The zone file's present content, and the log of queries."""

    def __init__(self, path: Path, log: Path) -> None:
        self.path, self.lock, self.seen = path, threading.Lock(), (0, 0)
        self.zone: Zone = {}
        self.log = log.open("a", buffering=1)

    def reply(self, query: bytes, client: str, limit: int) -> bytes | None:
        """Answer one query by the zone file as it is now."""
        with self.lock:
            state = self.path.stat()
            if (state.st_mtime_ns, state.st_ino) != self.seen:
                self.zone = json.loads(self.path.read_text())
                self.seen = (state.st_mtime_ns, state.st_ino)
            name, number, _ = parse(query)
            self.log.write(f"{time.time():.3f} {client} {name} {number}\n")
        found = answer(self.zone, query, limit)
        if found and found[1]:
            time.sleep(found[1])
        return found and found[0]


def servers(address: str, zones: Zones) -> list[socketserver.BaseServer]:
    """One server for UDP and one for TCP on port 53."""

    class Udp(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            query, sock = self.request
            reply = zones.reply(query, self.client_address[0], UDP_LIMIT if query[10:12] != b"\0\0" else 512)
            if reply is not None:
                sock.sendto(reply, self.client_address)

    class Tcp(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while len(size := self.rfile.read(2)) == 2:
                reply = zones.reply(self.rfile.read(struct.unpack("!H", size)[0]), self.client_address[0], 65535)
                if reply is not None:
                    self.wfile.write(struct.pack("!H", len(reply)) + reply)

    for kind in (socketserver.ThreadingUDPServer, socketserver.ThreadingTCPServer):
        kind.allow_reuse_address = kind.daemon_threads = True
    return [
        socketserver.ThreadingUDPServer((address, 53), Udp),
        socketserver.ThreadingTCPServer((address, 53), Tcp),
    ]


if __name__ == "__main__":
    running = servers(sys.argv[1], Zones(Path(sys.argv[2]), Path(sys.argv[3])))
    threading.Thread(target=running[0].serve_forever, daemon=True).start()
    running[1].serve_forever()
