"""Every entry of ``refusals.toml``: a real server that is configured to refuse, and what the probe makes of it."""

import asyncio
from typing import Any

import cluster_facts
import pytest
import refusals

from smtpprobe.credentials import Credentials
from smtpprobe.model import Envelope, ProbeRequest, ProbeResult, TlsOptions
from smtpprobe.session import probe
from smtpprobe.vocabulary import REASONS, Depth, Mechanism, Mode, Outcome, StageOutcome

CASES = refusals.cases()
ENTRY = {"name", "server", "config", "service", "acl", "authenticators", "backend", "ask", "expect", "egress", "bans"}
ASK = {
    "mode",
    "depth",
    "user",
    "password",
    "mechanism",
    "plaintextAuth",
    "helo",
    "from",
    "to",
    "minTls",
    "before",
    "timeout",
}


def play(case: refusals.Case) -> ProbeResult:
    """The session that the case asks for."""
    facts = cluster_facts.load()
    assert facts.refusals is not None
    ask: dict[str, Any] = case.entry["ask"]
    user = ask.get("user")
    login = Credentials(user, ask.get("password", facts.refusals.users.get(user, ""))) if user else None
    request = ProbeRequest(
        host=facts.refusals.hosts[case.server],
        port=facts.refusals.ports[case.name],
        mode=Mode(ask.get("mode", "plain")),
        depth=Depth(ask.get("depth", "envelope")),
        mechanism=Mechanism(ask.get("mechanism", "auto")),
        allow_plaintext_auth=ask.get("plaintextAuth", False),
        helo_name=ask.get("helo", "shop.corp.test"),
        tls=TlsOptions(ca_file=facts.ca_file, min_version=ask.get("minTls", "1.2")),
        timeout_seconds=ask.get("timeout", 30),
        envelope=Envelope(
            mail_from=ask.get("from", "sender@corp.test"), rcpt_to=tuple(ask.get("to", ["postmaster@corp.test"]))
        ),
    )
    for _ in range(ask.get("before", 0)):
        asyncio.run(probe(request, login))
    return asyncio.run(probe(request, login))


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_refusal(case: refusals.Case) -> None:
    """Stage, reason, alternatives and owner are those of the entry, and so is what it says of our address."""
    assert set(case.entry) <= ENTRY
    assert set(case.entry["ask"]) <= ASK
    result = play(case)
    story = (result.message, result.verdict, [(s.stage, s.outcome, s.reply, s.detail) for s in result.stages])
    expect = case.entry.get("expect")
    if expect is None:
        assert result.outcome is Outcome.PASSED, story
    else:
        assert result.outcome is Outcome.FAILED, story
        assert result.verdict is not None
        assert (result.stage, result.verdict.reason) == (expect["stage"], expect["reason"]), story
        others = {other.reason for other in result.verdict.alternatives}
        assert set(expect.get("alternatives", [])) <= others, story
        assert REASONS[result.verdict.reason].owner == expect.get("owner", REASONS[result.verdict.reason].owner), story
        failed = {known.stage for known in result.stages if known.outcome is StageOutcome.FAILED}
        assert failed == {result.stage}, story
    if "egress" in case.entry:
        assert f"{result.egress.status} {result.egress.reason}" == case.entry["egress"], story
