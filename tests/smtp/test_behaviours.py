"""Every entry of ``behaviours.yaml``, in each of its modes: the exact stage and reason, in time, and no false pass."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from certificates import pki
from hostile import Hostile

from smtpprobe.credentials import Credentials
from smtpprobe.model import Envelope, ProbeRequest, ProbeResult, TlsOptions
from smtpprobe.probing import probe
from smtpprobe.vocabulary import Depth, Mechanism, Mode, Outcome, StageOutcome

ENTRIES: list[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("behaviours.yaml").read_text("utf-8"))
CASES = [
    pytest.param(entry, mode, id=f"{entry['name']}-{mode}")
    for entry in ENTRIES
    for mode in entry.get("modes", ["plain", "starttls", "smtps"])
]
PASSWORD = "correct-horse-9"
KNOWN = {
    *("name", "row", "modes", "script", "then", "tls", "depth", "login", "mechanism", "insecure", "ca", "timeout"),
    *("plaintextAuth", "stage", "reason", "reasons", "notes", "detail", "message", "logins", "lenient", "errors"),
}


def request(entry: dict[str, Any], mode: str, port: int) -> ProbeRequest:
    ca_file = pki().ca_file
    if "ca" in entry:
        ca_file = str(Path(ca_file).with_name(entry["ca"]))
    insecure = entry.get("insecure", False)
    return ProbeRequest(
        host="localhost",
        port=port,
        mode=Mode(mode),
        depth=Depth(entry.get("depth", "envelope")),
        mechanism=Mechanism(entry.get("mechanism", "auto")),
        allow_plaintext_auth=entry.get("plaintextAuth", True),
        helo_name="probe.example.com",
        tls=TlsOptions(ca_file=None if insecure else ca_file, insecure_skip_verify=insecure),
        envelope=Envelope(mail_from="noreply@shop.example.com", rcpt_to=("postmaster@other.example.org",)),
        timeout_seconds=entry.get("timeout", 20),
    )


def play(entry: dict[str, Any], mode: str) -> tuple[ProbeResult, Hostile, float]:
    contexts = dict(pki().contexts)
    script = entry.get("script", "@hello AUTH PLAIN")
    if "tls" in entry:
        contexts["good"] = contexts[entry["tls"]]
    with Hostile([script, *entry.get("then", [])], mode, contexts) as server:
        began = time.monotonic()
        credentials = Credentials("sender@shop.example.com", PASSWORD) if entry.get("login") else None
        result = asyncio.run(probe(request(entry, mode, server.port), credentials, alone=True))
        return result, server, time.monotonic() - began


@pytest.mark.parametrize("entry, mode", CASES)
def test_behaviour(entry: dict[str, Any], mode: str) -> None:
    """The probe says of this server what the entry says."""
    assert set(entry) <= KNOWN
    result, server, elapsed = play(entry, mode)
    story = (result.message, result.verdict, [(s.stage, s.outcome, s.detail) for s in result.stages])
    reason = entry.get("reasons", {}).get(mode, entry.get("reason"))
    if reason is None:
        assert result.outcome is Outcome.PASSED, story
        assert result.verdict is None
    else:
        assert result.outcome is Outcome.FAILED, story
        assert result.verdict is not None
        assert (result.stage, result.verdict.reason if reason != "any" else "any") == (entry["stage"], reason), story
        failed = [s for s in result.stages if s.outcome is StageOutcome.FAILED]
        assert [s.stage for s in failed] == [entry["stage"]], story
        assert entry.get("detail", "") in (failed[0].detail or ""), story
    assert entry.get("message", "") in result.message, story
    assert len(result.message) <= 200
    assert set(entry.get("notes", [])) <= set(result.notes), (result.notes, story)
    if "logins" in entry:
        assert server.logins == entry["logins"]
    if "errors" in entry:
        assert result.tls is not None
        assert list(result.tls.errors) == entry["errors"]
    assert len(server.heard) <= 3
    if not entry.get("lenient"):
        assert not server.errors
    spent = sum(known.elapsed_ms for known in result.stages) / 1000
    assert spent <= entry.get("timeout", 20) + 1, [(known.stage, known.elapsed_ms) for known in result.stages]
    # Beyond the stages there is the fingerprint of a refused login: a second of one core, more on a busy machine.
    assert elapsed <= entry.get("timeout", 20) + 15


def test_no_echo_survives() -> None:
    """A password that the server repeats is nowhere in the result."""
    entry = next(known for known in ENTRIES if known["name"] == "auth-echo")
    result, _, _ = play(entry, "smtps")
    assert PASSWORD not in repr(result)
