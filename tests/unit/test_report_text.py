"""The diagnosis for people, from a result and, hours later, from a status alone."""

import re
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from smtpprobe import report
from smtpprobe.cli import main
from smtpprobe.evidence import location_of
from smtpprobe.layout import columns
from smtpprobe.model import (
    Alternative,
    AuthFacts,
    Certificate,
    EgressAddress,
    EgressFinding,
    Envelope,
    Experiment,
    ProbeRequest,
    ProbeResult,
    Reply,
    StageResult,
    TlsFacts,
    TranscriptLine,
    Verdict,
)
from smtpprobe.report_words import note_text
from smtpprobe.resource import Advice, Condition, HistoryEntry, LastRun, Outage, SeenCertificate, Spec, Status
from smtpprobe.runs import run_digest
from smtpprobe.summary import message
from smtpprobe.vocabulary import (
    ConditionStatus,
    ConditionType,
    Depth,
    EgressMethod,
    Mechanism,
    Mode,
    Note,
    Outcome,
    Reason,
    Stage,
    StageOutcome,
)

AT = datetime(2026, 11, 22, 14, 3, 22, tzinfo=UTC)
REQUEST = ProbeRequest(
    host="smtp.example.com",
    port=587,
    mode=Mode.STARTTLS,
    depth=Depth.ENVELOPE,
    helo_name="shop.example.com",
    envelope=Envelope(mail_from="noreply@shop.example.com", rcpt_to=("postmaster@example.org",)),
)
LEAF = Certificate(
    subject="CN=smtp.example.com",
    issuer="CN=Example CA",
    not_before=AT,
    not_after=AT + timedelta(days=30, hours=1),
    sans=("smtp.example.com",),
    key="EC 256",
    sha256="ab12",
)
FAILED = ProbeResult(
    outcome=Outcome.FAILED,
    started_at=AT,
    finished_at=AT + timedelta(seconds=2),
    verdict=Verdict(
        reason=Reason.RELAY_DENIED,
        confidence=0.78,
        alternatives=(Alternative(reason=Reason.EGRESS_IP_NOT_AUTHORIZED, confidence=0.13),),
        rule="relay-denied",
    ),
    stage=Stage.RCPT,
    stages=(
        StageResult(stage=Stage.DNS, outcome=StageOutcome.PASSED, elapsed_ms=3, detail="198.51.100.5"),
        StageResult(
            stage=Stage.EHLO, outcome=StageOutcome.PASSED, after_tls=True, reply=Reply(code=250, lines=("mx",))
        ),
        StageResult(
            stage=Stage.RCPT,
            outcome=StageOutcome.FAILED,
            recipient="postmaster@example.org",
            elapsed_ms=33,
            reply=Reply(code=550, enhanced="5.7.1", lines=("unable to relay", r"\xeb\xa6\xb4\xeb\xa0\x88\xec\x9d\xb4")),
        ),
        StageResult(stage=Stage.DATA, outcome=StageOutcome.NOT_REACHED),
    ),
    server_ip="198.51.100.5",
    local_port=40122,
    auth=AuthFacts(mechanism=Mechanism.PLAIN, sent=True, succeeded=True, user_shape="address"),
    tls=TlsFacts(protocol="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384", verified=True, chain=(LEAF,)),
    egress=EgressFinding(
        addresses=(EgressAddress(ip="203.0.113.7", family=4, rank="A1", method=EgressMethod.EHLO_REPLY),)
    ),
    experiments=(Experiment(name="local-recipient", showed="postmaster@example.com was accepted"),),
    notes=(Note.GREETING_SLOW,),
)
PASSED = msgspec.structs.replace(FAILED, outcome=Outcome.PASSED, verdict=None, stage=None, stages=FAILED.stages[:2])


def status(result=FAILED, of=None):
    digest = run_digest(of) if of else "d"
    return Status(
        locations=(location_of(result, name="default", node="node-a", zone="z1", pod="p", spec_digest=digest),),
        conditions=(
            Condition(
                type=ConditionType.READY,
                status=ConditionStatus.FALSE,
                reason="RelayDenied",
                message="rcpt: 550 unable to relay",
                last_transition_time=AT,
                observed_generation=1,
            ),
        ),
        history=(
            HistoryEntry(at=AT, outcome=Outcome.FAILED, reason="RelayDenied", trigger="once", stage="rcpt", code=550),
        ),
    )


def test_a_failed_session_is_told_whole():
    """Verdict, other causes, stages, the reply as on the wire, owner, remedy, proof, TLS, egress, experiments, notes."""
    text = report.text(FAILED, REQUEST, transcript=(TranscriptLine(who="C", at_ms=1, text="EHLO shop"),))
    for part in (
        "RelayDenied (78%) @ rcpt",
        "also possible: EgressIPNotAuthorized (13%)",
        "rcpt           Failed      33 ms",
        "data           NotReached",
        "550-5.7.1 unable to relay\n  550 5.7.1 릴레이",
        "WHO MUST ACT\n  mail admin",
        "permit relay for 203.0.113.7",
        "TLSv1.3, TLS_AES_256_GCM_SHA384, verified",
        "(30 days left)",
        "203.0.113.7  EhloReply (A1)",
        "local-recipient: postmaster@example.com was accepted",
        "GreetingSlow",
        "1 C: EHLO shop",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("lang", "words"), [("en", "Please look up this SMTP session"), ("ko", "SMTP 세션을 서버 로그에서")]
)
def test_the_evidence_lets_a_mail_admin_find_the_session(lang, words):
    """Time in UTC, server with address and port, our address and port, EHLO name, login, envelope, stage and reply."""
    block = report.evidence(FAILED, REQUEST, lang)
    for part in (
        words,
        "2026-11-22 14:03:22 UTC",
        "smtp.example.com [198.51.100.5]:587",
        "203.0.113.7",
        "40122",
        "shop.example.com",
        "PLAIN",
        "MAIL FROM:<noreply@shop.example.com> RCPT TO:<postmaster@example.org>",
        "550-5.7.1 unable to relay",
    ):
        assert part in block


def test_a_passed_session_asks_nobody_for_anything():
    """Nobody must act where the path works, and no admin is bothered."""
    text = report.text(PASSED, REQUEST)
    assert "Passed" in text.splitlines()[0]
    assert "WHO MUST ACT" not in text
    assert "FOR THE MAIL ADMIN" not in text


def test_what_could_not_run_says_why_first():
    """A run without a verdict on the path begins with what was in its way."""
    verdict = Verdict(reason=Reason.SPEC_INVALID, rule="run:cannot")
    told = "the CA of spec.tls.caRef holds no PEM certificate"
    broken = ProbeResult(outcome=Outcome.ERROR, started_at=AT, finished_at=AT, verdict=verdict, message=told)
    assert report.text(broken, REQUEST).splitlines()[:3] == [
        "smtp.example.com:587 starttls  Error  SpecInvalid",
        "",
        told,
    ]


def test_colour_is_only_there_when_asked_for():
    """Without colour there is no escape sequence; with it, the words are the same."""
    plain, bright = report.text(FAILED, REQUEST), report.text(FAILED, REQUEST, colour=True)
    assert "\x1b" not in plain
    assert "\x1b[31mFailed" in bright
    assert re.sub(r"\x1b\[\d+m", "", bright) == plain


def test_a_status_alone_tells_the_same_hours_later():
    """From the status, with the spec for host and port, comes the whole diagnosis with condition and history."""
    spec = Spec(host="smtp.example.com", port=587, mode=Mode.STARTTLS, helo_name="shop.example.com")
    text = report.from_status(status(of=spec), spec)
    for part in (
        "Ready=False RelayDenied",
        "default, node-a, z1",
        "550-5.7.1 unable to relay",
        "mail admin",
        "HISTORY",
    ):
        assert part in text
    assert "smtp.example.com [198.51.100.5]:587" in text


def test_a_status_without_its_spec_is_still_told():
    """Without the spec the host falls out, nothing else does."""
    text = report.from_status(status())
    assert "550-5.7.1 unable to relay" in text
    assert "198.51.100.5" in text
    assert "None" not in text


def test_proof_of_an_earlier_spec_does_not_name_the_host_of_this_one():
    """After the host was changed, the old session is still told, but never as one with the new host."""
    old = Spec(host="smtp.example.com", port=587, mode=Mode.STARTTLS)
    text = report.from_status(status(of=old), msgspec.structs.replace(old, host="other.example.net"))
    assert "550-5.7.1 unable to relay" in text
    assert "other.example.net" not in text


def test_a_status_without_a_run_says_so():
    """Before the first run there is nothing to tell, and the report says that."""
    assert report.from_status(Status()) == "No finished run is in this status yet."
    assert "아직" in report.from_status(Status(), lang="ko")


def test_the_ehlo_name_is_not_made_up():
    """Where the status cannot know the EHLO name, the evidence has none."""
    spec = Spec(host="smtp.example.com", port=587, mode=Mode.STARTTLS)
    text = report.from_status(status(of=spec), spec)
    assert "smtpprobe.invalid" not in text
    assert "EHLO name" not in text


def test_one_line_is_one_line_of_200_characters():
    """The line for kubectl get stays short whatever the server said."""
    long = msgspec.structs.replace(FAILED.stages[2], reply=Reply(code=550, lines=("word " * 100, "and more")))
    line = message(msgspec.structs.replace(FAILED, stages=(long,)), REQUEST)
    assert len(line) <= 200
    assert "\n" not in line


def told(**fields):
    return msgspec.structs.replace(status(), **fields)


@pytest.mark.parametrize("lang", ["en", "ko"])
@pytest.mark.parametrize("width", [60, 80, 100])
def test_no_line_is_wider_than_the_terminal(lang, width):
    """Whatever the server said, on a terminal of 60 to 100 columns no line of the report breaks by itself."""
    long = msgspec.structs.replace(FAILED.stages[2], reply=Reply(code=550, lines=("word " * 60, "x" * 300)))
    result = msgspec.structs.replace(FAILED, stages=(*FAILED.stages[:2], long))
    spoken = (TranscriptLine(who="S", at_ms=1, text="250 " + "y" * 200),)
    for shown in (
        report.text(result, REQUEST, lang=lang, width=width, transcript=spoken, colour=True),
        report.from_status(status(result), lang=lang, width=width),
    ):
        assert max(map(columns, shown.split("\n"))) <= width
    assert "y" * 200 in report.text(result, REQUEST, lang=lang, transcript=spoken)


@pytest.mark.parametrize(
    ("days", "words", "korean"),
    [
        (30, "(30 days left)", "(30일 남음)"),
        (9, "(9 days left: renew it now)", "(9일 남음: 지금 갱신해 주십시오)"),
        (-3, "(ended 3 days ago)", "(3일 전에 만료됨)"),
    ],
)
def test_days_left_are_counted_from_the_day_of_reading(days, words, korean):
    """A certificate that was good when the session ran may have ended since: the reader's clock counts."""
    now = LEAF.not_after - timedelta(days=days, hours=1)
    assert words in report.text(PASSED, REQUEST, now=now)
    assert korean in report.from_status(status(PASSED), lang="ko", now=now)


def test_a_certificate_that_ends_soon_is_told_in_one_line_too():
    """Where less than two weeks are left, the line for kubectl get says it; else it does not."""
    soon = msgspec.structs.replace(LEAF, not_after=FAILED.finished_at + timedelta(days=9, hours=1))
    for leaf, expected in ((soon, True), (LEAF, False)):
        tls = TlsFacts(protocol="TLSv1.3", verified=True, chain=(leaf,))
        line = message(msgspec.structs.replace(PASSED, tls=tls), REQUEST)
        assert ("certificate ends in 9 days (2026-12-01)" in line) is expected


def test_the_issuers_of_a_host_stand_beside_each_other():
    """Where a host showed certificates of two authorities, each is told with nodes and times, and what it may mean."""
    box = SeenCertificate(
        issuer="CN=Corp Proxy CA", error="CertificateInvalid", nodes=("node-b",), first_seen=AT, last_seen=AT, count=2
    )
    public = SeenCertificate(
        issuer="CN=R11,O=Example", verified=True, sha256="ab", nodes=("node-a",), first_seen=AT, last_seen=AT
    )
    text = report.from_status(told(certificates=(box, public)))
    for part in (
        "CERTIFICATES BY ISSUER",
        "may open TLS",
        "CN=Corp Proxy CA: CertificateInvalid, 2 runs",
        "CN=R11,O=Example: verified, 1 runs",
        "on node-b",
    ):
        assert part in text
    assert "CERTIFICATES" not in report.from_status(told(certificates=(public,)))


def test_rows_of_failed_runs_are_told_with_how_they_began():
    """Each outage has its time, its runs and its reason, with the first failing run's own words where they are kept."""
    first = msgspec.to_builtins(msgspec.structs.replace(FAILED, message="rcpt: 550 unable to relay"))
    rows = (
        Outage(since=AT, reason="RelayDenied", runs=4, evidence={"result": first}),
        Outage(since=AT - timedelta(hours=3), until=AT - timedelta(hours=2), reason="DnsTimeout"),
    )
    text = report.from_status(told(outages=rows))
    assert "2026-11-22 14:03:22 UTC ~ still failing, 4 runs: RelayDenied  rcpt: 550 unable to relay" in text
    assert "2026-11-22 11:03:22 UTC ~ 2026-11-22 12:03:22 UTC, 1 runs: DnsTimeout" in text
    assert "계속 실패 중" in report.from_status(told(outages=rows), lang="ko")


def test_what_no_session_says_is_told_first():
    """Where the last run could not take place, its own owner and remedy stand before the older session's."""
    run = LastRun(trigger="once", generation=1, outcome=Outcome.ERROR, reason="SecretNotFound")
    text = report.from_status(told(last_run=run, advice=Advice(owner="app developer", text="Create the Secret.")))
    assert text.index("Create the Secret.") < text.index("550-5.7.1 unable to relay")
    run = msgspec.structs.replace(run, outcome=Outcome.FAILED)
    again = report.from_status(told(last_run=run, advice=Advice(owner="app developer", text="Create the Secret.")))
    assert "Create the Secret." not in again


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_each_note_is_explained(lang):
    """No note stands alone: it has a sentence in each language, in reports and for `smtpprobe explain NOTE`."""
    for note in Note:
        text = note_text(note, lang)
        assert text.startswith(f"{note}: ")
        assert len(text) > len(note) + 8
        assert main(["explain", note, "--lang", lang]) == 0
