"""Advice does not contradict what the session itself has shown."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from smtpprobe.advice import AdviceFacts, advise
from smtpprobe.model import (
    AuthFacts,
    Certificate,
    Experiment,
    Features,
    ProbeRequest,
    ProbeResult,
    StageResult,
    TlsFacts,
    TlsOptions,
    Verdict,
)
from smtpprobe.vocabulary import Depth, Mechanism, Mode, Note, Outcome, Reason, Stage, StageOutcome

AT = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
REQUEST = ProbeRequest(host="mx.example.net", port=587, mode=Mode.STARTTLS, depth=Depth.ENVELOPE, helo_name="a.example")
UP = TlsFacts(protocol="TLSv1.3", cipher="TLS_AES_128_GCM_SHA256", verified=True)


def told(reason: Reason, stage: Stage, request: ProbeRequest = REQUEST, **known: object) -> str:
    result = ProbeResult(
        outcome=Outcome.FAILED,
        started_at=AT,
        finished_at=AT,
        verdict=Verdict(reason=reason, rule="some-rule"),
        stage=stage,
        stages=(StageResult(stage=stage, outcome=StageOutcome.FAILED),),
    )
    return advise(reason, AdviceFacts.of(request, msgspec.structs.replace(result, **known))).text


def certificate(subject: str, days: int) -> Certificate:
    return Certificate(
        subject=subject,
        issuer="CN=Root",
        not_before=AT - timedelta(days=99),
        not_after=AT + timedelta(days=days),
        sans=("other.example",),
        key="EC 256",
        sha256="ab",
    )


@pytest.mark.parametrize(
    ("reason", "stage", "known", "right", "wrong"),
    [
        (Reason.RELAY_DENIED, "rcpt", {"auth": AuthFacts(sent=True, succeeded=True)}, "took the login", "Log in if"),
        (Reason.RELAY_DENIED, "rcpt", {"features": Features(before_tls=("SIZE",))}, "offers no login on", "Log in if"),
        (Reason.RELAY_DENIED, "rcpt", {}, "Log in if", "offers no login on"),
        (
            Reason.RELAY_DENIED,
            "rcpt",
            {"features": Features(before_tls=("AUTH PLAIN",))},
            "Log in if",
            "took the login",
        ),
        (Reason.AUTH_REQUIRED, "mail", {"auth": AuthFacts(sent=True, succeeded=True)}, "took the login", "credentials"),
        (Reason.TLS_REQUIRED, "mail", {"tls": UP}, "this session is encrypted", "Set mode"),
        (Reason.AUTH_NOT_OFFERED, "auth", {"tls": UP}, "with TLS up", "does after TLS"),
        (Reason.BANNER_TIMEOUT, "greeting", {"tls": UP}, "never greeted inside it", "use mode smtps"),
        (
            *(Reason.BANNER_TIMEOUT, "greeting"),
            {"experiments": (Experiment(name="client-hello", showed="", answer="silent"),)},
            *("answers no ClientHello either", "use mode smtps"),
        ),
        (Reason.CONNECT_RESET, "tls", {}, "in the TLS handshake", "before a word of SMTP"),
        (Reason.COMMAND_TIMEOUT, "tls", {}, "MTU", "in time at stage"),
        (Reason.COMMAND_TIMEOUT, "ehlo", {}, "did not answer in time", "MTU"),
        (
            *(Reason.BAD_CREDENTIALS, "auth", {"notes": (Note.CREDENTIAL_HAS_WHITESPACE,)}),
            *("begins or ends with white space", "try the user name"),
        ),
        (
            *(Reason.WRONG_TLS_MODE, "greeting"),
            {"experiments": (Experiment(name="client-hello", showed="", answer="tls-greeting"),)},
            *("This port fits mode smtps", "Use mode smtps for a port"),
        ),
        (
            *(Reason.WRONG_TLS_MODE, "tls"),
            {"experiments": (Experiment(name="plain-greeting", showed="", answer="starttls"),)},
            *("This port fits mode starttls", "Use mode smtps for a port"),
        ),
        (Reason.WRONG_TLS_MODE, "tls", {}, "Use mode smtps for a port", "This port fits"),
    ],
)
def test_what_the_session_knows_changes_the_advice(reason, stage, known, right, wrong):
    """A login that was accepted, TLS that is up, an experiment's answer: the remedy fits them."""
    text = told(reason, Stage(stage), **known)
    assert right in text
    assert wrong not in text


def test_our_own_choice_is_named_as_the_cause():
    """A mechanism or a least TLS version that was asked for here is ours to change."""
    own = msgspec.structs.replace(REQUEST, mechanism=Mechanism.CRAM_MD5)
    assert "--mechanism" in told(Reason.MECHANISM_UNSUPPORTED, Stage.AUTH, own)
    assert "enable PLAIN or LOGIN" in told(Reason.MECHANISM_UNSUPPORTED, Stage.AUTH)
    strict = msgspec.structs.replace(REQUEST, tls=TlsOptions(min_version="1.3"))
    old = (Experiment(name="old-tls", showed="", answer="old"),)
    assert "--min-tls" in told(Reason.TLS_PROTOCOL_UNSUPPORTED, Stage.TLS, strict, experiments=old)
    assert "offer TLS 1.2 or 1.3" in told(Reason.TLS_PROTOCOL_UNSUPPORTED, Stage.TLS, experiments=old)


def test_all_faults_of_a_certificate_are_named():
    """Who mends the first fault of a certificate is told of the others too."""
    errors = (Reason.CERTIFICATE_HOSTNAME_MISMATCH, Reason.CERTIFICATE_EXPIRED)
    tls = TlsFacts(verified=False, chain=(certificate("CN=mx", -3),), errors=errors)
    text = told(Reason.CERTIFICATE_HOSTNAME_MISMATCH, Stage.TLS, tls=tls)
    assert "Also wrong, for the mail admin: CertificateExpired." in text


def test_the_date_that_is_told_is_that_of_the_certificate_that_has_ended():
    """An intermediate that has ended is named with its own date; a root that was not sent gets no date at all."""
    chain = (certificate("CN=mx", 90), certificate("CN=Intermediate", -2))
    text = told(Reason.CERTIFICATE_EXPIRED, Stage.TLS, tls=TlsFacts(verified=False, chain=chain))
    assert "it ended 2026-11-26 12:00:00 UTC: Intermediate" in text
    text = told(Reason.CERTIFICATE_EXPIRED, Stage.TLS, tls=TlsFacts(verified=False, chain=chain[:1]))
    assert "it ended" not in text
