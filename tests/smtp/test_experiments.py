"""Follow-ups counted at the server: what they ask, how often, what they decide, and that none is made twice."""

import asyncio
import datetime as dt
import time
from pathlib import Path
from typing import Any

import asking
import msgspec
import pytest
import yaml
from certificates import pki
from hostile import Hostile
from programs import manifest, run as start, write

from smtpprobe.memory import experiments_after, known_for
from smtpprobe.model import Envelope, Experiment, ProbeRequest, ProbeResult, TlsOptions
from smtpprobe.probing import probe
from smtpprobe.vocabulary import Depth, Mode, Outcome, Reason

AT = dt.datetime(2026, 11, 22, 12, 0, tzinfo=dt.UTC)
# An EHLO with STARTTLS, then what the line adds after the 220.
UP_TO_TLS = "> 220 mx.corp.test ESMTP\n< EHLO\n> 250-mx.corp.test\n> 250 STARTTLS\n< STARTTLS\n> 220 go ahead\n"
OWN = "RCPT TO:<postmaster@corp.test>"
RELAY = "@hello\n< MAIL\n> 250 ok\n< RCPT\n> 554 5.7.1 <postmaster@other.example.org>: Relay access denied\n"


def request(port: int, mode: Mode, depth: Depth = Depth.TLS, **changes: object) -> ProbeRequest:
    return asking.request(port, mode, depth, **changes)


def run(made: ProbeRequest) -> ProbeResult:
    return asyncio.run(probe(made, None))


def told(result: ProbeResult) -> list[tuple[str, str, str | None]]:
    return [(one.name, one.answer, one.decided) for one in result.experiments]


def again(made: ProbeRequest, result: ProbeResult) -> ProbeRequest:
    """The request of the next run of this spec: with what the status remembers of the last one."""
    kept = experiments_after((), result, "digest", AT)
    return msgspec.structs.replace(made, known=known_for(kept, "digest"))


# --------------------------------------------------------------------------------------------------------- older TLS


@pytest.mark.parametrize("mode", [Mode.STARTTLS, Mode.SMTPS])
def test_a_server_of_old_versions_is_named(mode: Mode) -> None:
    """A server that ends at TLS 1.1 is asked once more with old versions, sends its chain and hears nothing of SMTP."""
    contexts = pki().contexts | {"good": pki().contexts["old"]}
    with Hostile(["@hello"], mode.value, contexts) as server:
        result = run(request(server.port, mode))
    assert result.verdict is not None
    assert (result.stage, result.verdict.reason, result.verdict.confidence) == ("tls", "TlsProtocolUnsupported", 1.0)
    assert told(result) == [("old-tls", "old", Reason.TLS_PROTOCOL_UNSUPPORTED)]
    assert "TLSv1.1" in result.message
    assert len(server.heard) == 2
    assert [line for line in server.heard[1].lines if not line.startswith(("EHLO", "STARTTLS"))] == []


@pytest.mark.parametrize("mode", [Mode.STARTTLS, Mode.SMTPS])
def test_a_reset_because_of_versions(mode: Mode) -> None:
    """A handshake that is reset and works with TLS 1.1 is TlsProtocolUnsupported, with the reset as what else it may be."""
    before = UP_TO_TLS if mode is Mode.STARTTLS else "@raw\n"
    scripts = [f"{before}read 40\nreset"]
    if mode is Mode.SMTPS:
        scripts.append("@raw\nwait 0.1\nreset")  # no plaintext greeting either
    scripts.append(f"{before}tls old\n@rest")
    with Hostile(scripts, mode.value, pki().contexts) as server:
        result = run(request(server.port, mode))
    assert result.verdict is not None
    assert (result.stage, result.verdict.reason) == ("tls", "TlsProtocolUnsupported"), result.message
    assert [other.reason for other in result.verdict.alternatives] == [Reason.CONNECT_RESET]
    assert result.experiments[-1].decided is Reason.TLS_PROTOCOL_UNSUPPORTED
    assert len(server.heard) == len(scripts) <= 3


@pytest.mark.parametrize("mode", [Mode.STARTTLS, Mode.SMTPS])
def test_a_reset_whatever_is_offered(mode: Mode) -> None:
    """Reset with every version: ConnectReset stays, versions are no alternative any more, and there are two extra
    connections at most."""
    before = UP_TO_TLS if mode is Mode.STARTTLS else "@raw\n"
    with Hostile([f"{before}read 40\nreset"], mode.value, pki().contexts) as server:
        began = time.monotonic()
        result = run(request(server.port, mode))
        elapsed = time.monotonic() - began
    assert result.verdict is not None
    assert (result.stage, result.verdict.reason) == ("tls", "ConnectReset")
    assert result.verdict.alternatives == ()
    assert "is reset as well" in (result.experiments[-1].showed)
    assert len(server.heard) == 1 + len(result.experiments) <= 3
    pause = 2 * 20 / 60
    assert elapsed >= pause * (len(server.heard) - 1)


def test_a_version_that_only_the_request_forbids() -> None:
    """With minVersion 1.3 a server of TLS 1.2 is named as such."""
    contexts = pki().contexts | {"good": pki().contexts["tls12"]}
    with Hostile(["@hello"], "smtps", contexts) as server:
        result = run(request(server.port, Mode.SMTPS, tls=TlsOptions(ca_file=pki().ca_file, min_version="1.3")))
    assert told(result) == [("old-tls", "old", Reason.TLS_PROTOCOL_UNSUPPORTED)]
    assert "TLSv1.2" in result.message


# ------------------------------------------------------------------------------------------------------ certificates


def test_all_that_is_wrong_with_a_certificate_at_once() -> None:
    """Expired and for another name: both are said by one connection, and the experiment says why no other was made."""
    contexts = pki().contexts | {"good": pki().contexts["other-name-expired"]}
    with Hostile(["@hello"], "smtps", contexts) as server:
        result = run(request(server.port, Mode.SMTPS))
    assert len(server.heard) == 1
    assert [one.name for one in result.experiments] == ["certificate"]
    showed = result.experiments[0].showed
    for words in ("expired 20", "not for localhost (for mail.example.net)", "no second connection"):
        assert words in showed
    assert result.tls is not None
    assert {"CertificateExpired", "CertificateHostnameMismatch"} <= set(result.tls.errors)


@pytest.mark.parametrize(
    "kind, words",
    [
        ("untrusted", "not trusted: "),
        ("self-signed", "not trusted: self-signed"),
        ("no-intermediate", "incomplete chain"),
        ("expired", "expired 20"),
        ("future", "not valid before"),
        ("other-name", "not for localhost"),
    ],
)
def test_each_fault_of_a_certificate_has_its_words(kind: str, words: str) -> None:
    """Trust, completeness, dates and names are told apart in the experiment, over STARTTLS too."""
    contexts = pki().contexts | {"good": pki().contexts[kind]}
    with Hostile(["@hello"], "starttls", contexts) as server:
        result = run(request(server.port, Mode.STARTTLS))
    assert words in result.experiments[0].showed
    assert len(server.heard) == 1


@pytest.mark.parametrize(
    "kind, name, words, never",
    [
        ("client-purpose", None, "purpose", "not trusted"),
        ("address-as-name", "127.0.0.1", "an address counts in an iPAddress entry only", "not trusted"),
    ],
)
def test_a_trusted_certificate_is_not_called_untrusted(kind: str, name: str | None, words: str, never: str) -> None:
    """A certificate for clients, or one that names an address as a DNS name, is told as that, its issuer being known."""
    contexts = pki().contexts | {"good": pki().contexts[kind]}
    options = TlsOptions(ca_file=str(Path(pki().ca_file).with_name(f"{kind}-cert.pem")), server_name=name)
    with Hostile(["@hello"], "smtps", contexts) as server:
        result = run(request(server.port, Mode.SMTPS, tls=options))
    text = f"{result.message} {result.experiments[0].showed}"
    assert words in text
    assert never not in text


# ---------------------------------------------------------------------------------------------- the server's own mail


def relay(reply: str) -> str:
    """A server that refuses to relay, and what it says to the question about its own domain."""
    greeting = "> 220 mx.corp.test ESMTP\n< EHLO\n> 250 mx.corp.test\n"
    return greeting + RELAY.removeprefix("@hello\n") + f"< {OWN}\n{reply}\n@rest"


@pytest.mark.parametrize(
    "reply, answer, reason, others",
    [
        ("> 250 2.1.5 Ok", "accepted", "RelayDenied", {"EgressIPNotAuthorized", "AuthRequired"}),
        ("> 550 5.1.1 User unknown", "known", "RelayDenied", {"EgressIPNotAuthorized", "AuthRequired"}),
        ("> 554 5.7.1 Relay access denied", "relay", "RelayDenied", {"EgressIPNotAuthorized", "AuthRequired"}),
        (
            "> 554 5.7.1 <unknown[192.0.2.7]>: Client host rejected: Access denied",
            "address",
            "EgressIPNotAuthorized",
            {"RelayDenied", "AuthRequired"},
        ),
        ("close", "", "RelayDenied", {"EgressIPNotAuthorized", "AuthRequired"}),
        ("> 421 4.3.2 going down", "other", "RelayDenied", {"EgressIPNotAuthorized", "AuthRequired"}),
        (">> 250-mad\\r\\n999 x\\r\\n", "", "RelayDenied", {"EgressIPNotAuthorized", "AuthRequired"}),
    ],
)
def test_relay_control_or_the_address_at_large(reply: str, answer: str, reason: str, others: set[str]) -> None:
    """The server's own domain is asked for on the same connection, once, before RSET and QUIT, and without DATA."""
    with Hostile([relay(reply)], "plain") as server:
        result = run(request(server.port, Mode.PLAIN, Depth.ENVELOPE))
    assert result.verdict is not None
    assert (result.stage, result.verdict.reason) == ("rcpt", reason), result.message
    assert others <= {other.reason for other in result.verdict.alternatives}
    assert [(one.name, one.answer) for one in result.experiments] == [("local-recipient", answer)]
    lines = server.heard[0].lines
    assert [line.split()[0] for line in lines[:4]] == ["EHLO", "MAIL", "RCPT", "RCPT"]
    assert lines.count(OWN) == 1
    assert lines[4:] == (["RSET", "QUIT"] if reply.startswith(("> 5", "> 250 ")) else [])
    assert len(server.heard) == 1


def test_a_new_connection_where_the_first_is_closed() -> None:
    """A server that closes after the refusal is asked on one new connection, without a login, with RSET and QUIT."""
    greeting = "> 220 mx.corp.test ESMTP\n< EHLO\n> 250 mx.corp.test\n"
    first = greeting + "< MAIL\n> 250 ok\n< RCPT\n> 421 4.7.1 Relay access denied, closing\nclose"
    with Hostile([first, f"{greeting}< MAIL\n> 250 ok\n< RCPT\n> 250 ok\n@rest"], "plain") as server:
        result = run(request(server.port, Mode.PLAIN, Depth.ENVELOPE))
    assert result.verdict is not None
    assert told(result) == [("local-recipient", "accepted", Reason.RELAY_DENIED)], (result.message, result.verdict)
    assert [line.split()[0] for line in server.heard[1].lines] == ["EHLO", "MAIL", "RCPT", "RSET", "QUIT"]
    assert server.heard[1].lines[2] == OWN


def test_no_question_without_a_domain_of_its_own() -> None:
    """A server without a name, and one that was asked for its own domain already, are not asked again."""
    with Hostile([RELAY + "@rest"], "plain") as server:
        own = Envelope(mail_from="a@shop.example.com", rcpt_to=("x@example.net",))
        result = run(request(server.port, Mode.PLAIN, Depth.ENVELOPE, envelope=own))
    assert result.experiments == ()
    anonymous = RELAY.removeprefix("@hello\n")
    with Hostile([f"> 220 ready\n< EHLO\n> 250 hello\n{anonymous}@rest"], "plain") as server:
        assert run(request(server.port, Mode.PLAIN, Depth.ENVELOPE)).experiments == ()


# ------------------------------------------------------------------------------------------------------------ memory


def first_and_second(scripts: list[str], mode: Mode, made: dict[str, Any]) -> tuple[ProbeResult, ProbeResult, int, int]:
    with Hostile(scripts, mode.value, pki().contexts) as server:
        asked = request(server.port, mode, **made)
        first = run(asked)
        count = len(server.heard)
        second = run(again(asked, first))
        return first, second, count, len(server.heard) - count


@pytest.mark.parametrize(
    "name, scripts, mode, made, connections",
    [
        ("client-hello", ["hang", "tls\n> 220 mx\n@rest", "hang"], Mode.PLAIN, {"depth": Depth.EHLO}, 2),
        ("plain-greeting", ["@raw\n> 220 mx\n@rest"], Mode.SMTPS, {}, 2),
        ("old-tls", [f"{UP_TO_TLS}tls old"], Mode.STARTTLS, {}, 2),
        ("local-recipient", [relay("> 250 ok"), relay("reset")], Mode.PLAIN, {"depth": Depth.ENVELOPE}, 1),
    ],
)
def test_no_experiment_is_made_twice(
    name: str, scripts: list[str], mode: Mode, made: dict[str, Any], connections: int
) -> None:
    """A second run of the same spec makes one connection, and says and decides the same as the first, with its time."""
    made = {"timeout_seconds": 9, **made} if name == "client-hello" else made
    first, second, before, after = first_and_second(scripts, mode, made)
    assert (before, after) == (connections, 1)
    assert told(second) == told(first)
    assert told(first)[0][0] == name
    assert first.verdict is not None
    assert first.verdict.reason == first.experiments[0].decided
    assert second.verdict == first.verdict
    assert [one.since for one in first.experiments] == [None]
    assert [one.since for one in second.experiments] == [AT]


def test_another_reason_address_or_spec_asks_again() -> None:
    """What was found for another reason, another address or another spec answers nothing."""
    result = ProbeResult(
        outcome=Outcome.FAILED,
        started_at=AT,
        finished_at=AT,
        experiments=(Experiment(name="x", showed="y", answer="z", reason=Reason.CONNECT_RESET, server="192.0.2.1"),),
    )
    kept = experiments_after((), result, "one", AT)
    assert [one.since for one in known_for(kept, "one")] == [AT]
    assert known_for(kept, "two") == ()
    assert experiments_after(kept, msgspec.structs.replace(result, experiments=()), "one", AT) == kept
    assert experiments_after(kept, msgspec.structs.replace(result, experiments=()), "two", AT) == ()
    passed = msgspec.structs.replace(result, outcome=Outcome.PASSED, experiments=())
    assert experiments_after(kept, passed, "one", AT) == ()
    unmade = msgspec.structs.replace(result.experiments[0], answer="")
    assert experiments_after((), msgspec.structs.replace(result, experiments=(unmade,)), "one", AT) == ()
    with Hostile([relay("> 250 ok")], "plain") as server:
        other = Experiment(
            name="local-recipient",
            showed="x",
            answer="address",
            reason=Reason.RELAY_DENIED,
            server="192.0.2.9",
            since=AT,
        )
        made = request(server.port, Mode.PLAIN, Depth.ENVELOPE, known=(other,))
        assert told(run(made)) == [("local-recipient", "accepted", Reason.RELAY_DENIED)]


def test_runs_of_the_local_operator_ask_once(tmp_path: Path) -> None:
    """The server's own domain is asked for in the first run of a spec, in none that follows, and again with a new spec;
    status and later results say since when it is known."""

    def once(asked: str | None = None, **more: Any) -> dict[str, Any]:
        fields = {"envelope": {"from": "noreply@shop.example.com", "to": ["postmaster@other.example.org"]}}
        made = manifest("relay", server.port, **fields, **more)
        if asked:
            made["metadata"]["annotations"] = {"smtpprobe.dev/run-now": asked}
        write(tmp_path / "probe.yaml", made)
        done = start("smtpprobe-operator", "local", str(tmp_path), "--once")
        assert done.returncode == 0, done.stderr
        return dict(yaml.safe_load((tmp_path / "relay.status.yaml").read_text())["status"])

    def questions() -> int:
        return sum(heard.lines.count(OWN) for heard in server.heard)

    with Hostile([relay("> 250 ok")], "plain") as server:
        first = once()
        kept = first["experiments"]
        assert [(one["name"], one["answer"], one["decided"]) for one in kept] == [
            ("local-recipient", "accepted", "RelayDenied")
        ]
        second = once("again")
        assert second["lastHandledRunNow"] == "again"
        assert (len(server.heard), questions()) == (2, 1)
        assert second["experiments"] == kept
        listed = second["locations"][0]["evidence"]["experiments"]
        assert [one["since"] for one in listed] == [kept[0]["since"]]
        assert "since" not in first["locations"][0]["evidence"]["experiments"][0]
        assert second["locations"][0]["evidence"]["verdict"] == first["locations"][0]["evidence"]["verdict"]
        once(timeoutSeconds=30)
        assert (len(server.heard), questions()) == (3, 2)
