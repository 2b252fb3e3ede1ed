"""Mode auto against servers on the six real ports of one address: what is found, chosen and counted at the servers."""

import asyncio
import contextlib
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from certificates import pki
from manyports import Ports, ports

from smtpprobe.credentials import Credentials
from smtpprobe.discovery import PORTS, resolved
from smtpprobe.model import Envelope, ProbeRequest, ProbeResult, TlsOptions
from smtpprobe.probing import probe
from smtpprobe.vocabulary import Depth, Mode, Outcome

DATA: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("discovery.yaml").read_text("utf-8"))
HOSTS: dict[str, dict[str, Any]] = DATA["hosts"]
KNOWN = {
    *("ports", "login", "envelope", "timeout", "seen", "allow", "use", "reason", "reasons", "stage", "found"),
    *("logins", "notes", "connections"),
}
CREDENTIALS = Credentials("sender@shop.example.com", "correct-horse-9")


def scripts(entry: dict[str, Any]) -> dict[int, tuple[str, str]]:
    does = {port: DATA["does"][what] if isinstance(what, str) else what for port, what in entry["ports"].items()}
    return {port: (what["mode"], what["script"]) for port, what in does.items()}


def request(host: str, **fields: Any) -> ProbeRequest:
    plain = {
        "host": host,
        "mode": Mode.AUTO,
        "depth": Depth.TLS,
        "helo_name": "probe.example.com",
        "tls": TlsOptions(ca_file=pki().ca_file, server_name="localhost"),
        "timeout_seconds": 15.0,
    }
    return ProbeRequest(**plain | fields)


def ask(entry: dict[str, Any], there: Ports, port: int = 0) -> ProbeResult:
    login = CREDENTIALS if entry.get("login") else None
    envelope = Envelope(mail_from="a@b.example", rcpt_to=("c@d.example",)) if entry.get("envelope") else None
    depth = Depth.ENVELOPE if envelope else Depth.AUTH if login else Depth.TLS
    asked = request(
        there.host,
        port=port,
        depth=depth,
        envelope=envelope,
        timeout_seconds=float(entry.get("timeout", 15)),
        allow_plaintext_auth=entry.get("allow", False),
        tls_seen=tuple(entry.get("seen", ())),
    )
    return asyncio.run(probe(asked, login))


def said(result: ProbeResult) -> dict[int, str]:
    assert result.discovery is not None
    return {found.port: " ".join(filter(None, (found.mode or "-", found.reason))) for found in result.discovery.ports}


@pytest.mark.parametrize("name", HOSTS)
def test_host(name: str) -> None:
    """The host of this entry is found as it is, its best port used, and no connection or login made beyond the bounds."""
    entry = HOSTS[name]
    assert set(entry) <= KNOWN
    with ports(scripts(entry)) as there:
        began = time.monotonic()
        result = ask(entry, there)
        elapsed = time.monotonic() - began
        story = (result.message, result.verdict, said(result))
        if "use" in entry:
            assert result.outcome is Outcome.PASSED, story
            used = resolved(request(there.host), result)
            assert f"{used.port} {used.mode}" == entry["use"], story
        else:
            assert result.outcome is Outcome.FAILED, story
            assert result.verdict is not None
            assert result.verdict.reason in entry.get("reasons", [entry["reason"]]), story
            assert result.stage == entry["stage"], story
        for port, words in entry.get("found", {}).items():
            assert said(result)[port] == words, story
        assert set(said(result)) == set(PORTS), story
        assert set(entry.get("notes", ())) <= set(result.notes), result.notes
        assert there.logins == entry.get("logins", int("use" in entry and bool(entry.get("login")))), story
        assert there.counts.most <= 2
        if name == "one-good-among-the-hostile":  # where both stay open for seconds
            assert there.counts.most == 2
        # Each port at most twice, and the session on the best one.
        assert all(count <= 2 + ("use" in entry) for count in there.connections().values()), there.connections()
        for port, count in entry.get("connections", {}).items():
            assert there.connections()[port] == count
        assert elapsed <= entry.get("timeout", 15) + 10
        assert len(result.message) <= 200


@pytest.mark.parametrize(
    ("port", "does", "login", "expected", "connections"),
    [
        (587, "submission", True, "starttls", 1),
        (465, "submissions", True, "smtps", 1),
        (25, "relay", False, "plain", 1),
        (8025, "relay", False, "plain", 1),
        (8465, "submissions", True, "smtps", 2),
        (465, "submission", True, "starttls", 2),
        (465, "relay", False, "plain", 2),
        (587, "plain-login", True, "plain TlsNotOffered", 1),
        (587, "expired", True, "starttls CertificateExpired", 1),
        (587, "silent", True, "- BannerTimeout", 3),
        (25, "silent", False, "- BannerTimeout", 1),
    ],
)
def test_the_mode_of_one_port(port: int, does: str, login: bool, expected: str, connections: int) -> None:
    """With a port only its mode is open: the look is the session itself, and one more only where the first was wrong."""
    entry = {"ports": {port: does}, "login": login, "timeout": 8}
    with ports(scripts(entry)) as there:
        result = ask(entry, there, port)
        assert said(result) == {port: expected}, result.message
        assert (result.outcome is Outcome.PASSED) is (" " not in expected)
        assert there.logins == int(login and result.outcome is Outcome.PASSED)
        assert there.connections()[port] == connections
        assert there.counts.most == 1


def test_a_login_that_is_refused_is_not_tried_elsewhere() -> None:
    """The best port refuses the login: that is the verdict, and no other port sees it."""
    refusing = "@hello AUTH PLAIN\n< AUTH\n> 535 5.7.8 no"
    with ports({465: ("smtps", refusing), 587: ("starttls", refusing), 25: ("starttls", refusing)}) as there:
        result = ask({"login": True}, there)
        assert result.verdict is not None
        assert result.verdict.reason == "BadCredentials"
        assert result.auth.refused
        assert there.logins == 1
        assert there.servers[465].logins == 1


def test_what_is_found_is_said_in_full() -> None:
    """Of each port: keywords before and after TLS, mechanisms, and the certificate with its names, issuer and end."""
    entry = HOSTS["all-six-looked-at"]
    with ports(scripts(entry)) as there:
        result = ask(entry, there)
    assert result.discovery is not None
    found = {one.port: one for one in result.discovery.ports}
    assert found[587].features.before_tls == ("STARTTLS",)
    assert "AUTH PLAIN LOGIN" in (found[587].features.after_tls or ())
    assert found[465].features.before_tls is None
    tls = found[465].tls
    assert tls is not None
    assert (tls.verified, tls.protocol) == (True, "TLSv1.3")
    assert "localhost" in tls.chain[0].sans
    assert "trustme" in tls.chain[0].issuer
    assert result.discovery.why.startswith("TLS from the first byte with a verified certificate, login by PLAIN LOGIN")
    # What was asked for needed no session beyond the look.
    assert there.connections()[465] == 1


def test_a_name_that_does_not_resolve_is_asked_once() -> None:
    """Without an address there is one verdict, DnsFailure, and no port is looked at six times."""
    result = asyncio.run(probe(request("no-such-host.invalid"), None))
    assert (result.outcome, result.stage) == (Outcome.FAILED, "dns")
    assert result.verdict is not None
    assert result.verdict.reason in {"DnsFailure", "DnsTimeout"}
    assert result.discovery is not None
    assert result.discovery.port is None
    assert len(result.discovery.ports) == 1


def test_a_filtered_port_is_told_from_a_closed_one() -> None:
    """Where nothing answers a SYN the port is ConnectTimeout, a closed one ConnectRefused, and the others are used."""
    with contextlib.ExitStack() as stack:
        there = stack.enter_context(ports(scripts({"ports": {587: "submission"}})))
        listener = stack.enter_context(socket.create_server((there.host, 465), backlog=0))
        for _ in range(4):  # a full queue drops SYNs, as a firewall does
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        result = ask({"login": True}, there)
        assert said(result) | {465: "- ConnectTimeout", 2525: "- ConnectRefused", 587: "starttls"} == said(result)
        assert (result.outcome, there.logins) == (Outcome.PASSED, 1), result.message


def test_told_to_stop_it_stops() -> None:
    """SIGTERM in the middle of looking ends everything at once: Error, and no login."""

    async def stopped(host: str) -> ProbeResult:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.5, stop.set)
        return await probe(request(host, depth=Depth.AUTH, timeout_seconds=60.0), CREDENTIALS, stop=stop)

    with ports(scripts({"ports": {465: "tls-silent", 587: "silent"}})) as there:
        began = time.monotonic()
        result = asyncio.run(stopped(there.host))
        assert (result.outcome, there.logins) == (Outcome.ERROR, 0)
        assert time.monotonic() - began < 15
