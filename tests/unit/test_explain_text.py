"""explain: reasons, replies, results and batches."""

import json

import msgspec
import pytest
from test_report_text import FAILED, status

from smtpprobe.explain import UnreadableError, explain_batch, explain_object, explain_result, explain_text, stage_of
from smtpprobe.vocabulary import Reason, Stage

KEYS = ["reason", "confidence", "alternatives", "rule", "owner", "advice"]


def batch(*lines, **options):
    return list(explain_batch([line if isinstance(line, str) else json.dumps(line) for line in lines], **options))


def test_a_batch_answers_each_line_in_its_place():
    """One object a line, in order, with the agreed keys; a bad line gives its error there and hurts no other."""
    found = batch(
        {"stage": "rcpt", "text": "554 5.7.1 <a@example.com>: Relay access denied"},
        "not json",
        {"stage": "dns", "text": "gaierror: [Errno -2] Name or service not known"},
        {"stage": "nowhere", "text": "x"},
        {"text": None},
        [1],
        {"stage": "auth", "text": "535 no", "context": 7},
    )
    assert [list(one) for one in found] == [KEYS, ["error"], KEYS, ["error"], ["error"], ["error"], ["error"]]
    assert [found[0]["reason"], found[2]["reason"]] == ["RelayDenied", "DnsFailure"]
    assert found[0]["owner"] == "mail admin"


def test_old_names_of_stages_and_context_are_read():
    """banner, starttls for handshake texts, mail_from, rcpt_to and nulls are accepted."""
    text = "554 Message rejected: Email address is not verified. The following identities failed the check: user@example.net"
    found = batch(
        {"stage": "banner", "text": "421 Too many concurrent SMTP connections", "context": None},
        {"stage": "starttls", "text": "certificate verify failed: certificate has expired (_ssl.c:1006)"},
        {"stage": "dot", "text": text, "context": {"mail_from": "s@example.com", "rcpt_to": "user@example.net"}},
        {"stage": "dot", "text": text, "context": {"mailFrom": None, "rcptTo": ["user@example.net"]}},
        {"stage": None, "text": "550 relay not permitted"},
        {"stage": "rcpt", "code": 550, "text": "relay not permitted"},
    )
    assert [one["reason"] for one in found] == [
        "RateLimited", "CertificateExpired", "SandboxRestricted", "SandboxRestricted", "RelayDenied", "RelayDenied",
    ]  # fmt: skip


def test_a_batch_answers_in_korean():
    """The language is the caller's."""
    (one,) = batch({"stage": "auth", "text": "535 5.7.8 bad password"}, lang="ko")
    assert "비밀번호" in one["advice"]


def test_an_endless_line_is_refused():
    """A line of more than 64 KiB is an error, not work."""
    assert "error" in batch({"stage": "rcpt", "text": "5" * 70_000})[0]
    assert "error" in batch("[" * 60_000)[0]


@pytest.mark.parametrize(
    ("text", "stage"),
    [
        ("535 5.7.8 authentication failed", Stage.AUTH),
        ("dial tcp 203.0.113.1:465: i/o timeout", Stage.CONNECT),
        ("getaddrinfo ENOTFOUND stmp.example.net", Stage.DNS),
        ("504 <probe>: Helo command rejected", Stage.EHLO),
        ("550 5.7.1 unable to relay", Stage.RCPT),
    ],
)
def test_a_pasted_text_names_its_own_stage(text, stage):
    """Without a stage the text's own words choose one."""
    assert stage_of(None, text) is stage


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_can_be_explained(reason):
    """``smtpprobe explain REASON`` says who must act and what to do, in both languages."""
    assert "Who must act" in explain_text(reason.value)
    assert "조치할 사람" in explain_text(reason.value, lang="ko")


def test_a_pasted_reply_is_explained_with_the_address_that_it_quotes():
    """The answer names verdict, confidence, other causes and our address."""
    text = explain_text("554 5.7.1 <unknown[203.0.113.13]>: Client host rejected: Access denied", "rcpt")
    assert text.startswith("EgressIPNotAuthorized (75%) @ rcpt")
    assert "or AuthRequired" in text
    assert "allow 203.0.113.13" in text


def test_a_result_a_status_and_a_smtpprobe_are_explained():
    """JSON of a ProbeResult, of check's output, of a status or of the resource gives the whole diagnosis."""
    result = msgspec.to_builtins(FAILED)
    check = {k: v for k, v in result.items() if k != "verdict"} | {
        "reason": "RelayDenied", "confidence": 0.78, "alternatives": [], "rule": "relay-denied",
        "host": "smtp.example.com", "port": 587, "mode": "starttls", "advice": None, "transcript": [],
    }  # fmt: skip
    raw = msgspec.to_builtins(status())
    probe = {"kind": "SmtpProbe", "spec": {"host": "smtp.example.com", "port": 587, "mode": "starttls"}, "status": raw}
    for value in (result, check, raw, probe):
        text = explain_text(json.dumps(value))
        assert "550-5.7.1 unable to relay" in text
        assert "mail admin" in text
    assert "smtp.example.com:587" in explain_text(json.dumps(check)).splitlines()[0]


@pytest.mark.parametrize("value", [[], {}, {"outcome": "Nonsense"}, {"outcome": "Failed"}])
def test_an_object_that_is_no_result_is_refused_in_a_sentence(value):
    """What cannot be read says what was expected."""
    with pytest.raises(UnreadableError, match=r"result|object"):
        explain_result(value)


def test_one_reply_gives_the_object_of_a_batch_line():
    """explain_object is a batch line without the JSON around it."""
    (line,) = batch({"stage": "mail", "text": "530 5.7.0 Authentication required"})
    assert explain_object("530 5.7.0 Authentication required", "mail") == line
