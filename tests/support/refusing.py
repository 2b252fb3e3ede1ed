"""Sessions with the servers of ``tests/smtp/refusals.toml``."""

import asyncio
import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cluster_facts
import refusals

from smtpprobe.credentials import Credentials
from smtpprobe.model import Envelope, ProbeRequest, ProbeResult, TlsOptions
from smtpprobe.probing import probe
from smtpprobe.vocabulary import Depth, Mechanism, Mode

ASK = {"mode", "depth", "user", "password", "mechanism", "plaintextAuth", "helo", "from", "to", "minTls"}
ASK |= {"before", "timeout"}


def servers() -> cluster_facts.Refusals:
    """Where they are."""
    known = cluster_facts.load().refusals
    assert known is not None, "launch with --refusals"
    return known


@contextlib.contextmanager
def talking(*, alone: bool = False) -> Iterator[None]:
    """Hold off those who must be alone with the servers, or be alone."""
    with (Path(cluster_facts.load().state) / "refusals-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


def asked(case: refusals.Case) -> tuple[ProbeRequest, Credentials | None]:
    """What the case asks for."""
    facts, ask = servers(), case.entry["ask"]
    assert set(ask) <= ASK, case.name
    user = ask.get("user")
    login = Credentials(user, ask.get("password", facts.users.get(user, ""))) if user else None
    request = ProbeRequest(
        host=facts.hosts[case.server],
        port=facts.ports[case.name],
        mode=Mode(ask.get("mode", "plain")),
        depth=Depth(ask.get("depth", "envelope")),
        mechanism=Mechanism(ask.get("mechanism", "auto")),
        allow_plaintext_auth=ask.get("plaintextAuth", False),
        helo_name=ask.get("helo", "shop.corp.test"),
        tls=TlsOptions(ca_file=cluster_facts.load().ca_file, min_version=ask.get("minTls", "1.2")),
        timeout_seconds=ask.get("timeout", 30),
        envelope=_envelope(ask),
    )
    return request, login


def _envelope(ask: dict[str, Any]) -> Envelope:
    return Envelope(
        mail_from=ask.get("from", "sender@corp.test"), rcpt_to=tuple(ask.get("to", ["postmaster@corp.test"]))
    )


def play(case: refusals.Case) -> ProbeResult:
    """The session that the case asks for, after those that must come before it."""
    request, login = asked(case)
    for _ in range(case.entry["ask"].get("before", 0)):
        asyncio.run(probe(request, login))
    return asyncio.run(probe(request, login))
