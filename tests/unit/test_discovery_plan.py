"""Mode auto as decisions: how long a port may take, when it is asked again, what is chosen and why."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from smtpprobe import discovery
from smtpprobe.model import (
    Certificate,
    Discovery,
    Envelope,
    Features,
    PortFinding,
    ProbeRequest,
    ProbeResult,
    TlsFacts,
    Verdict,
)
from smtpprobe.vocabulary import Depth, Mode, Outcome, Reason, Stage

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
LEAF = Certificate(
    subject="CN=mx", issuer="CN=ca", not_before=NOW, not_after=NOW + timedelta(days=9), sans=("mx.example.com",)
)
TLS = TlsFacts(protocol="TLSv1.3", verified=True, chain=(LEAF,))
AUTH = "AUTH PLAIN LOGIN"


def request(**fields: Any) -> ProbeRequest:
    return ProbeRequest(**{"host": "mx.example.com", "mode": Mode.AUTO, "depth": Depth.TLS, **fields})


RELAY = request(depth=Depth.ENVELOPE, envelope=Envelope(mail_from="a@b.example", rcpt_to=("c@d.example",)))


def smtps(port: int, *keywords: str, **fields: Any) -> PortFinding:
    return PortFinding(
        **{"port": port, "mode": Mode.SMTPS, "features": Features(after_tls=keywords), "tls": TLS, **fields}
    )


def starttls(port: int, *keywords: str, **fields: Any) -> PortFinding:
    offer = Features(before_tls=("STARTTLS",), after_tls=keywords)
    return PortFinding(**{"port": port, "mode": Mode.STARTTLS, "features": offer, "tls": TLS, **fields})


def plain(port: int, *keywords: str) -> PortFinding:
    return PortFinding(port=port, mode=Mode.PLAIN, features=Features(before_tls=keywords))


def shut(port: int, reason: Reason = Reason.CONNECT_REFUSED, stage: Stage = Stage.CONNECT) -> PortFinding:
    return PortFinding(port=port, reason=reason, stage=stage)


BAD = starttls(587, reason=Reason.CERTIFICATE_EXPIRED, stage=Stage.TLS)


@pytest.mark.parametrize(
    ("findings", "asked", "login", "port"),
    [
        ((starttls(587, AUTH), smtps(465, AUTH)), request(), True, 465),
        ((starttls(587, AUTH), smtps(465)), request(), True, 587),
        ((starttls(587, AUTH), smtps(465)), request(), False, 465),
        ((starttls(25, AUTH), starttls(2525, AUTH)), request(), True, 2525),
        ((starttls(2587, AUTH), smtps(2465, AUTH)), request(), True, 2465),
        ((plain(25), starttls(587, AUTH)), request(), False, 587),
        ((plain(25), plain(2525)), request(), False, 2525),
        ((plain(25), starttls(587, AUTH)), RELAY, False, 25),
        ((starttls(25), plain(2525)), RELAY, False, 25),
        ((starttls(25, AUTH), starttls(587)), RELAY, False, 587),
        ((starttls(25, AUTH), plain(587, AUTH)), RELAY, False, 25),
        ((plain(25), BAD), RELAY, False, 25),
        ((plain(25), starttls(587)), RELAY, True, 587),
        ((starttls(4711, AUTH), shut(587)), request(), True, 4711),
    ],
)
def test_the_best_port_is_chosen(
    findings: tuple[PortFinding, ...], asked: ProbeRequest, login: bool, port: int
) -> None:
    """Verified TLS, a login on offer, TLS from the first byte; a relay by address is a port that asks for no login."""
    for order in itertools.permutations(findings):
        choice = discovery.choose(order, asked, login=login)
        assert (choice.usable, choice.finding.port) == (True, port), choice.why


@pytest.mark.parametrize(
    ("findings", "asked", "login", "port", "reason"),
    [
        ((plain(25), BAD), request(), False, 587, Reason.CERTIFICATE_EXPIRED),
        ((plain(25, AUTH), shut(587)), request(), True, 587, Reason.CONNECT_REFUSED),
        ((shut(25), shut(465), shut(587)), request(), False, 465, Reason.CONNECT_REFUSED),
        ((shut(25, Reason.CONNECT_TIMEOUT), shut(587, Reason.BANNER_TIMEOUT, Stage.GREETING)), request(), False, 587, Reason.BANNER_TIMEOUT),
        ((BAD, shut(2525, Reason.TLS_NOT_OFFERED, Stage.STARTTLS)), request(), True, 587, Reason.CERTIFICATE_EXPIRED),
    ],
)  # fmt: skip
def test_where_none_can_be_used_the_one_that_came_farthest_speaks(
    findings: tuple[PortFinding, ...], asked: ProbeRequest, login: bool, port: int, reason: Reason
) -> None:
    """Never plain with a login, nor round a certificate; the verdict is that of the port whose session came farthest."""
    for order in itertools.permutations(findings):
        choice = discovery.choose(order, asked, login=login)
        assert (choice.usable, choice.finding.port, choice.finding.reason) == (False, port, reason)
        assert all(f"{found.port} " in choice.why for found in findings)


found = st.builds(
    PortFinding,
    port=st.sampled_from(discovery.PORTS),
    mode=st.none() | st.sampled_from([Mode.PLAIN, Mode.STARTTLS, Mode.SMTPS]),
    reason=st.none() | st.sampled_from(Reason),
    stage=st.none() | st.sampled_from(Stage),
    features=st.builds(
        Features,
        before_tls=st.none() | st.just(("STARTTLS", AUTH)) | st.just(()),
        after_tls=st.none() | st.just((AUTH,)) | st.just(()),
    ),
    tls=st.none() | st.just(TLS),
)


@given(st.lists(found, min_size=1, max_size=6, unique_by=lambda one: one.port), st.booleans(), st.booleans())
@settings(max_examples=300, deadline=None)
def test_whatever_is_found_the_choice_keeps_the_rules(findings: list[PortFinding], login: bool, relay: bool) -> None:
    """The choice is one of the findings; a usable one did not fail, is never plain with a login, and never plain where a
    port that fails offers TLS, but for a relay by address."""
    choice = discovery.choose(findings, RELAY if relay else request(), login=login)
    assert choice.finding in findings
    if choice.usable:
        assert choice.finding.reason is None
        if choice.finding.mode is Mode.PLAIN:
            assert not login
            assert relay or not any(one.mode in {Mode.STARTTLS, Mode.SMTPS} for one in findings)
    told = discovery.concluded(findings, choice)
    assert [one.port for one in told.ports] == sorted(one.port for one in findings)
    assert told.port in {None, choice.finding.port}


def test_the_reason_of_the_choice_names_what_counted() -> None:
    """The sentence says how TLS comes in, that the certificate is verified, which logins are offered, and RFC 8314."""
    both = discovery.choose((starttls(587, AUTH), smtps(465, AUTH)), request(), login=True)
    assert both.why == (
        "TLS from the first byte with a verified certificate, login by PLAIN LOGIN; nothing on the way can take it "
        "away, as it can take away STARTTLS (RFC 8314)"
    )
    one = discovery.choose((starttls(587, AUTH),), request(), login=True)
    assert one.why == "STARTTLS with a verified certificate, login by PLAIN LOGIN"
    relay = discovery.choose((plain(25), starttls(587, AUTH)), RELAY, login=False)
    assert relay.why == "without TLS, no login asked for"


@pytest.mark.parametrize(
    ("port", "first", "stage", "verdict", "spoke", "expected"),
    [
        (587, Mode.STARTTLS, Stage.GREETING, "transport:greeting-silent", False, Mode.SMTPS),
        (25, Mode.STARTTLS, Stage.GREETING, "transport:greeting-silent", False, None),
        (587, Mode.STARTTLS, Stage.GREETING, "transport:greeting-unfinished", False, None),
        (587, Mode.STARTTLS, Stage.GREETING, "transport:tls-record-in-greeting", False, Mode.SMTPS),
        (587, Mode.STARTTLS, Stage.STARTTLS, "transport:starttls-absent", False, None),
        (465, Mode.SMTPS, Stage.TLS, "transport:plaintext-on-tls-port", False, Mode.STARTTLS),
        (465, Mode.SMTPS, Stage.TLS, "transport:plaintext-on-tls-port", True, None),
        (465, Mode.SMTPS, Stage.GREETING, "transport:plaintext-on-tls-port", False, None),
    ],
)
def test_when_a_port_is_asked_again(
    port: int, first: Mode, stage: Stage, verdict: str, *, spoke: bool, expected: Mode | None
) -> None:
    """A ClientHello follows silence, never on 25; a plaintext greeting follows where TLS got none of TLS."""
    found = Verdict(reason=Reason.WRONG_TLS_MODE, rule=verdict)
    assert discovery.second_look(port, first, stage, found, spoke=spoke) is expected
    assert discovery.second_look(port, first, stage, None, spoke=spoke) is None


@pytest.mark.parametrize(
    ("fields", "login", "hidden", "takes"),
    [
        ({}, False, False, True),
        ({}, True, False, False),
        ({}, False, True, False),
        ({"tls_required": True}, False, False, False),
        ({"tls_seen": (587,)}, False, False, False),
        ({"tls_seen": (25,)}, False, False, True),
    ],
)
def test_when_plain_is_taken(fields: dict[str, Any], login: bool, hidden: bool, takes: bool) -> None:
    """Plain only without a login, where TLS was never on offer on that port and nothing seems to hide it."""
    asked = request(port=587, **fields)
    assert discovery.takes_plain(asked, Features(before_tls=("SIZE 1",)), login=login, hidden=hidden) is takes
    assert not discovery.takes_plain(asked, Features(before_tls=("STARTTLS",)), login=login, hidden=hidden)


@pytest.mark.parametrize("total", [5.0, 20.0, 60.0, 120.0, 600.0])
def test_six_ports_fit_into_the_time(total: float) -> None:
    """Three rounds of ports that take all they may leave a fifth of the run; a look ends within its share."""
    left, ports = discovery.looking_seconds(total), 6
    while ports:
        share = discovery.share(left, ports)
        bounds = discovery.look_limits(share)
        assert bounds.total <= max(share, 1.0)
        assert bounds.connect_all + bounds.greeting <= bounds.total
        assert bounds.greeting_latest + bounds.tls <= bounds.total + 0.01
        left, ports = left - share, ports - 2
    assert abs(left) < 0.01
    assert discovery.looking_seconds(total) == pytest.approx(0.8 * total)
    assert discovery.share(40, 1) == 40
    assert discovery.share(-1, 4) == 0


def test_the_ports_are_those_of_mail() -> None:
    """Each usual port is looked at once, begins in the mode that its number stands for, and is in every order."""
    assert sorted(discovery.PORTS) == [25, 465, 587, 2465, 2525, 2587]
    assert [port for port in discovery.PORTS if discovery.first_look(port) is Mode.SMTPS] == [465, 2465]
    for asked, login in ((request(), True), (request(), False), (RELAY, False)):
        assert discovery.choose([starttls(port) for port in discovery.PORTS], asked, login=login).usable


def test_the_request_is_resolved_from_what_was_found() -> None:
    """Reports name the port and mode that were used; a request that leaves nothing open stays as it is."""
    result = ProbeResult(outcome=Outcome.PASSED, started_at=NOW, finished_at=NOW)
    found = Discovery(port=587, mode=Mode.STARTTLS)
    used = discovery.resolved(
        request(), ProbeResult(outcome=Outcome.PASSED, started_at=NOW, finished_at=NOW, discovery=found)
    )
    assert (used.port, used.mode) == (587, Mode.STARTTLS)
    assert discovery.resolved(request(), result) == request()
    fixed = request(port=25, mode=Mode.PLAIN)
    assert discovery.resolved(fixed, result) is fixed
