"""The zone that every launch starts with, and the resolv.conf that points to it."""

from __future__ import annotations

import ipaddress
import json
import socket
from pathlib import Path
from typing import Any

import procs
from addresses import API, DNS, HOSTS, LOCAL_DOMAIN, MAIL, NODES, REFUSAL_HOSTS, REFUSALS
from nameserver import encode_name


def zone() -> dict[str, dict[str, Any]]:
    """Names below `test.` (and reverse ones): the mail servers, the nodes, a mail domain, and names with a fault."""
    entries: dict[str, dict[str, Any]] = {
        "test.": {},
        f"{LOCAL_DOMAIN}.": {"MX": [[10, f"mail.{LOCAL_DOMAIN}."]], "TXT": ["v=spf1 mx -all"]},
        f"mail.{LOCAL_DOMAIN}.": {"A": [MAIL["postfix"]]},
        "outside.test.": {"MX": [[10, "mx.outside.test."]]},
        "mx.outside.test.": {"A": ["10.200.0.99"]},
        "silent-dns.test.": {"silent": True},
        "servfail.test.": {"rcode": "SERVFAIL"},
        "no-address.test.": {"TXT": ["a name without an address"]},
        "alias.test.": {"CNAME": [f"{HOSTS['postfix']}."]},
        # the first address refuses, the second is Postfix
        "two-addresses.test.": {"A": [MAIL["odd"], MAIL["postfix"]]},
        # a block list that holds node-b's address
        "bl.test.": {},
        f"{reverse(NODES['node-b'][0])}.bl.test.": {"A": ["127.0.0.2"], "TXT": ["listed by the tests"]},
    }
    # a block list that holds the address from which tests without a node come; that address has no PTR record
    entries["listed.test."] = {}
    entries[f"{reverse(API)}.listed.test."] = {"A": ["127.0.0.2"], "TXT": ["listed by the tests"]}
    entries[f"{LOCAL_DOMAIN}.listed.test."] = {"A": ["127.0.0.2"]}
    hosts = {HOSTS[name]: address for name, address in MAIL.items()}
    hosts |= {REFUSAL_HOSTS[name]: address for name, address in REFUSALS.items()}
    hosts |= {f"{node}.test": address for node, (address, _, _) in NODES.items()}
    for host, address in hosts.items():
        entries[f"{host}."] = {"A": [address]}
        entries[f"{reverse(address)}.in-addr.arpa."] = {"PTR": [f"{host}."]}
    return entries


def reverse(address: str) -> str:
    """An address's labels in reverse order."""
    return ".".join(reversed(str(ipaddress.IPv4Address(address)).split(".")))


def start(programs: procs.Programs, state: Path) -> procs.Program:
    """Start the name server."""
    (state / "zone.json").write_text(json.dumps(zone(), indent=1))
    script = Path(__file__).with_name("nameserver.py")
    argv = ["python3", str(script), DNS, f"{state}/zone.json", f"{state}/log/dns-queries"]
    return programs.start("dns", argv)


def answers(host: str) -> bool:
    """Whether the name server knows this host."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.2)
        sock.connect((DNS, 53))
        try:
            sock.send(b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + encode_name(host) + b"\x00\x01\x00\x01")
            return len(sock.recv(512)) > 12
        except OSError:
            return False
