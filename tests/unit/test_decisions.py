"""What experiments are asked for, and what their answers decide: tables in ``data/decisions.toml``."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from smtpprobe import decisions, faults
from smtpprobe.decisions import Scene, decide, recipient_answer, remembered, wanted, with_form
from smtpprobe.faults import Fault
from smtpprobe.model import Alternative, Experiment, Reply, Verdict
from smtpprobe.vocabulary import Mode, Reason, Stage

CASES: list[dict[str, Any]] = tomllib.loads(Path(__file__).with_name("data").joinpath("decisions.toml").read_text())[
    "case"
]
SILENT = f"transport:{faults.SILENT_GREETING}"


def verdict(reason: str, confidence: float, *others: str, rule: str = "") -> Verdict:
    rest, shares = 1 - confidence, []
    for other in others:
        shares.append(Alternative(reason=Reason(other), confidence=round(rest * 0.6, 3)))
        rest *= 0.4
    return Verdict(reason=Reason(reason), confidence=confidence, alternatives=tuple(shares), rule=rule)


@pytest.mark.parametrize("case", [pytest.param(case, id=case["says"]) for case in CASES])
def test_decision(case: dict[str, Any]) -> None:
    """Each answer makes of the verdict what its case says, and the sentence of the experiment stands in the detail."""
    name, answer = case["asks"]
    found = Fault(verdict(*case["was"]), "as it was", Reply(code=550, lines=("no",)))
    settled, one = decide(found, Experiment(name=name, showed="what it showed", answer=answer))
    now = settled.verdict
    assert [now.reason, now.confidence, *(other.reason for other in now.alternatives)] == case["now"]
    assert sum(other.confidence for other in now.alternatives) <= 1.001 - now.confidence
    assert one.decided == (case["now"][0] if case.get("decided") else None)
    unsaid = name in {"certificate", "plain-greeting"}
    assert unsaid or "what it showed" in settled.detail
    if name in {"local-recipient", "username-variant"}:
        assert settled.reply == found.reply, "the server's own words stay"


TLS, RCPT = Stage.TLS, Stage.RCPT


@pytest.mark.parametrize(
    "found, scene, names",
    [
        (("BannerTimeout", 1.0), Scene(Stage.GREETING, Mode.PLAIN, 587), ["client-hello"]),
        (("BannerTimeout", 1.0), Scene(Stage.GREETING, Mode.STARTTLS, 25), []),
        (("BannerTimeout", 1.0), Scene(Stage.GREETING, Mode.SMTPS, 465), []),
        (("RelayDenied", 0.8), Scene(RCPT, Mode.PLAIN, 25), ["local-recipient"]),
        (("EgressIPNotAuthorized", 0.8), Scene(RCPT, Mode.STARTTLS, 587), ["local-recipient"]),
        (("EgressIPNotAuthorized", 0.8), Scene(Stage.GREETING, Mode.STARTTLS, 587), []),
        (("RecipientRejected", 0.9), Scene(RCPT, Mode.PLAIN, 25), []),
        (("CertificateExpired", 1.0), Scene(TLS, Mode.SMTPS, 465, True, True), ["certificate"]),
        (("WrongTlsMode", 1.0), Scene(TLS, Mode.SMTPS, 465), ["plain-greeting"]),
        (("CommandTimeout", 1.0), Scene(TLS, Mode.SMTPS, 465), ["plain-greeting"]),
        (("CommandTimeout", 1.0), Scene(TLS, Mode.STARTTLS, 587), []),
        (("ConnectReset", 0.7), Scene(TLS, Mode.SMTPS, 465), ["plain-greeting", "old-tls"]),
        (("ConnectReset", 0.7), Scene(TLS, Mode.SMTPS, 465, True), ["old-tls"]),
        (("ConnectReset", 0.7), Scene(TLS, Mode.STARTTLS, 587), ["old-tls"]),
        (("ConnectReset", 0.6), Scene(TLS, Mode.STARTTLS, 587, True, True), []),
        (("ConnectReset", 0.8), Scene(Stage.GREETING, Mode.STARTTLS, 587), []),
        (("TlsProtocolUnsupported", 1.0), Scene(TLS, Mode.STARTTLS, 587, True), ["old-tls"]),
        (("TlsProtocolUnsupported", 1.0), Scene(TLS, Mode.STARTTLS, 587, True, min_tls="1.3"), ["old-tls"]),
        (("TlsProtocolUnsupported", 1.0), Scene(TLS, Mode.STARTTLS, 587, True, min_tls="1.0"), []),
        (("StarttlsInjection", 1.0), Scene(TLS, Mode.STARTTLS, 587), []),
        (("BadCredentials", 0.9), Scene(Stage.AUTH, Mode.STARTTLS, 587), []),
        (("RelayDenied", 0.8), Scene(RCPT, Mode.PLAIN, 25, settling=True), ["address-again", "local-recipient"]),
        (("EgressIPBlocklisted", 0.9), Scene(Stage.GREETING, Mode.STARTTLS, 587, settling=True), ["address-again"]),
        (("ReverseDnsMissing", 0.9), Scene(Stage.MAIL, Mode.STARTTLS, 587, settling=True), ["address-again"]),
        (("GreetingRejected", 0.9), Scene(Stage.GREETING, Mode.STARTTLS, 587, settling=True), []),
        (("RecipientRejected", 0.9), Scene(RCPT, Mode.PLAIN, 25, settling=True), []),
    ],
)
def test_wanted(found: tuple[str, float], scene: Scene, names: list[str]) -> None:
    """Only these faults are asked after, each with its own questions; port 25 gets no ClientHello."""
    rule = SILENT if found[0] == "BannerTimeout" else "test"
    assert list(wanted(Fault(verdict(*found, rule=rule)), scene)) == names


@pytest.mark.parametrize(
    "code, reason, word",
    [
        (250, None, "accepted"),
        (251, None, "accepted"),
        (252, None, "other"),
        (554, Reason.RELAY_DENIED, "relay"),
        (550, Reason.RECIPIENT_REJECTED, "known"),
        (450, Reason.GREYLISTED, "known"),
        (554, Reason.EGRESS_IP_NOT_AUTHORIZED, "address"),
        (554, Reason.EGRESS_IP_BLOCKLISTED, "address"),
        (550, Reason.POLICY_REJECTED, "address"),
        (530, Reason.AUTH_REQUIRED, "other"),
        (451, Reason.SERVICE_UNAVAILABLE, "other"),
        (550, Reason.UNKNOWN, "other"),
    ],
)
def test_answers_about_the_own_domain(code: int, reason: Reason | None, word: str) -> None:
    """Which words say that the server takes mail for its domain, refuses us at large, or say nothing of either."""
    assert recipient_answer(code, None if reason is None else Verdict(reason=reason)) == word


def test_only_the_same_question_is_remembered() -> None:
    """Experiment, reason and server address must be the same; a finding for another is none for this."""
    one = Experiment(name="old-tls", showed="x", answer="old", reason=Reason.CONNECT_RESET, server="192.0.2.1")
    assert remembered((one,), "old-tls", Reason.CONNECT_RESET, "192.0.2.1") is one
    assert remembered((one,), "old-tls", Reason.TLS_PROTOCOL_UNSUPPORTED, "192.0.2.1") is None
    assert remembered((one,), "old-tls", Reason.CONNECT_RESET, "192.0.2.2") is None
    assert remembered((one,), "plain-greeting", Reason.CONNECT_RESET, "192.0.2.1") is None


def test_the_form_of_the_user_name_is_an_alternative() -> None:
    """It is added where the rule does not name it, with no share that the verdict had; a known form weighs as much."""
    plain = verdict("BadCredentials", 0.85, "AuthRequired")
    added = with_form(plain, known=False)
    assert added.confidence == plain.confidence
    assert {other.reason for other in added.alternatives} == {Reason.AUTH_REQUIRED, Reason.USERNAME_FORMAT}
    assert sum(other.confidence for other in added.alternatives) <= 0.151
    listed = verdict("BadCredentials", 0.9, "AppPasswordRequired", "UsernameFormat")
    assert with_form(listed, known=False) == listed
    sure = with_form(listed, known=True)
    assert (sure.reason, sure.alternatives[0].reason) == (Reason.BAD_CREDENTIALS, Reason.USERNAME_FORMAT)
    assert sure.confidence < 0.8
    assert sure.alternatives[0].confidence >= 0.4
    assert with_form(verdict("AccountLocked", 0.9), known=True) == verdict("AccountLocked", 0.9)


def test_each_experiment_decides_by_its_own_table() -> None:
    """Every name that can be wanted has cases in the file."""
    names = {decisions.CLIENT_HELLO, decisions.PLAIN_GREETING, decisions.OLD_TLS, decisions.LOCAL_RECIPIENT}
    names |= {decisions.CERTIFICATE, decisions.USERNAME_VARIANT, decisions.ADDRESS_AGAIN}
    assert names == {case["asks"][0] for case in CASES}
