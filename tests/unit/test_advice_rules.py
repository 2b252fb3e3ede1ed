"""Advice by rule: what Amazon SES wants is said where the rule knows that it is SES."""

import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from smtpprobe import advice as module
from smtpprobe.advice import MAX_CHARS, OWNERS, AdviceFacts, advise
from smtpprobe.classify import SessionFacts
from smtpprobe.explain import explain_object
from smtpprobe.model import ProbeRequest, ProbeResult, TlsOptions, Verdict
from smtpprobe.vocabulary import Depth, Mode, Outcome, Reason

TEXTS = tomllib.loads(Path(module.__file__).with_name("advice_rules.toml").read_text("utf-8"))
FACTS = AdviceFacts(
    host="email-smtp.ap-northeast-2.amazonaws.com",
    port=2587,
    reply="535 Authentication Credentials Invalid " + "x" * 100,
    ses_region="ap-northeast-2",
)


@pytest.mark.parametrize("rule", sorted(TEXTS))
@pytest.mark.parametrize("lang", sorted(OWNERS))
def test_each_rule_has_its_own_advice_that_fits_the_status(rule, lang):
    """Each entry has a text in each language, other than its reason's, whole and under 600 characters."""
    reason = Reason(TEXTS[rule]["reason"])
    for facts in (FACTS, AdviceFacts(), AdviceFacts(ses_region="eu-west-1")):
        text = advise(reason, msgspec.structs.replace(facts, rule=rule), lang).text
        assert text != advise(reason, facts, lang).text
        assert len(text) <= MAX_CHARS
        assert "…" not in text.replace("AKIA…", "").replace("ASIA…", "")
        assert not re.search(r"[{}\[\]|]|None|  ", text)


def test_the_advice_names_the_command_with_the_region_of_the_session():
    """Host or certificate name of SES give the region, and the command stands ready with it."""
    now = datetime(2026, 11, 22, tzinfo=UTC)
    verdict = Verdict(reason=Reason.BAD_CREDENTIALS, rule="ses-iam-secret")
    result = ProbeResult(outcome=Outcome.FAILED, started_at=now, finished_at=now, verdict=verdict)
    request = ProbeRequest(host="127.0.0.1", port=587, mode=Mode.STARTTLS, depth=Depth.AUTH)
    tls = TlsOptions(server_name="email-smtp.eu-central-1.amazonaws.com")
    for made in (
        msgspec.structs.replace(request, host="email-smtp.eu-central-1.amazonaws.com"),
        msgspec.structs.replace(request, tls=tls),
    ):
        text = advise(Reason.BAD_CREDENTIALS, AdviceFacts.of(made, result)).text
        assert "smtpprobe ses-password --region eu-central-1" in text
        assert "no login was sent" in text


def test_a_rule_of_another_reason_changes_no_advice():
    """The text of a rule is used for its own reason alone."""
    told = advise(Reason.ACCOUNT_LOCKED, msgspec.structs.replace(FACTS, rule="ses-iam-secret"))
    assert told == advise(Reason.ACCOUNT_LOCKED, FACTS)


def test_a_refused_token_is_no_wrong_password():
    """After XOAUTH2 the advice speaks of the token, in both languages; a refusal that is no matter of it keeps its own."""
    facts = msgspec.structs.replace(FACTS, mechanism="XOAUTH2", rule="auth-bad-credentials")
    assert "token" in advise(Reason.BAD_CREDENTIALS, facts).text
    assert "토큰" in advise(Reason.BAD_CREDENTIALS, facts, "ko").text
    assert advise(Reason.ACCOUNT_LOCKED, facts) == advise(Reason.ACCOUNT_LOCKED, FACTS)


def test_explain_knows_the_region_of_the_host():
    """A refusal of SES, explained with its host, names the command for that region."""
    facts = SessionFacts(host="email-smtp.eu-west-1.amazonaws.com")
    told = explain_object("535 Authentication Credentials Invalid", "auth", facts)
    assert told["rule"] == "ses-credentials"
    assert "smtpprobe ses-password --region eu-west-1" in told["advice"]


def test_a_weak_certificate_is_no_matter_of_trust():
    """OpenSSL's three errors about weak keys and signatures ask for a new certificate, not for a CA."""
    for number in (66, 67, 68):
        facts = AdviceFacts(host="mx.example.com", rule=f"transport:certificate-{number}")
        assert "too weak" in advise(Reason.CERTIFICATE_INVALID, facts).text
        assert "약합니다" in advise(Reason.CERTIFICATE_INVALID, facts, "ko").text
    untrusted = AdviceFacts(host="mx.example.com", rule="transport:certificate-20")
    assert "spec.tls.caRef" in advise(Reason.CERTIFICATE_INVALID, untrusted).text
