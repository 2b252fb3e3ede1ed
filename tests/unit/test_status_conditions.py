"""Conditions: what an answer, an Error, a pause, a suspension and a bad spec make of each of them."""

from datetime import timedelta

import msgspec
import pytest
from runs_made import NOON, bad_login, error, finished, login_spec, passed, refused, skipped_login, spec

from smtpprobe.model import EgressAddress, EgressFinding, Reply
from smtpprobe.resource import Spec, Status
from smtpprobe.spec import Problem
from smtpprobe.status import fold, invalid, needs_run, refold, running
from smtpprobe.vocabulary import ConditionStatus, EgressMethod, EgressReason, Reason, Stage

ENVELOPE = {"from": "noreply@shop.example.com", "to": ["postmaster@other.example"]}
FULL = login_spec(envelope=ENVELOPE)


def words(status: Status) -> dict[str, str]:
    return {str(c.type): f"{c.status}/{c.reason}" for c in status.conditions}


def folded(of: Spec, result, before: Status = Status(), trigger: str = "slot:0", generation: int = 1, **more) -> Status:  # noqa: B008
    end = finished(of, result, trigger, generation=generation, **more)
    return fold(before, of, generation=generation, finished=end, now=result.finished_at + timedelta(seconds=1))


T, NR = "True/Succeeded", "Unknown/NotReached"


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (passed(FULL), {"Ready": T, "Reachable": T, "Secure": T, "Authenticated": T, "EnvelopeAccepted": T}),
        (
            refused(FULL, Reason.DNS_FAILURE, Stage.DNS, code=None),
            {
                "Ready": "False/DnsFailure",
                "Reachable": "False/DnsFailure",
                "Secure": NR,
                "Authenticated": NR,
                "EnvelopeAccepted": NR,
            },
        ),
        (
            refused(FULL, Reason.DNS_TIMEOUT, Stage.DNS, code=None),
            {"Ready": "False/DnsTimeout", "Reachable": "Unknown/DnsTimeout", "Secure": NR},
        ),
        (
            refused(FULL, Reason.HELO_REJECTED, Stage.EHLO, after_tls=False),
            {"Reachable": "False/HeloRejected", "Secure": NR, "Authenticated": NR},
        ),
        (
            refused(FULL, Reason.HELO_REJECTED, Stage.EHLO, after_tls=True),
            {"Reachable": "False/HeloRejected", "Secure": T, "Authenticated": NR},
        ),
        (
            refused(FULL, Reason.TLS_NOT_OFFERED, Stage.STARTTLS, code=None),
            {"Reachable": T, "Secure": "False/TlsNotOffered", "Authenticated": NR},
        ),
        (
            refused(FULL, Reason.CERTIFICATE_EXPIRED, Stage.TLS, code=None),
            {"Reachable": T, "Secure": "False/CertificateExpired", "Authenticated": NR},
        ),
        (
            bad_login(FULL),
            {
                "Ready": "False/BadCredentials",
                "Reachable": T,
                "Secure": T,
                "Authenticated": "False/BadCredentials",
                "EnvelopeAccepted": NR,
            },
        ),
        (
            refused(FULL, Reason.GREYLISTED, Stage.RCPT, code=451),
            {"Ready": "False/Greylisted", "Authenticated": T, "EnvelopeAccepted": "Unknown/Greylisted"},
        ),
        (
            refused(FULL, Reason.SENDER_REJECTED, Stage.MAIL),
            {"Authenticated": T, "EnvelopeAccepted": "False/SenderRejected"},
        ),
        (
            skipped_login(FULL),
            {"Ready": "False/BadCredentials", "Secure": T, "Authenticated": "False/BadCredentials"},
        ),
    ],
)
def test_a_failed_stage_speaks_for_its_condition_and_leaves_the_later_ones_open(result, expected):
    """The failed stage's condition carries the verdict, earlier ones are True, later ones Unknown/NotReached."""
    found = words(folded(FULL, result))
    assert {kind: found[kind] for kind in expected} == expected
    assert found["Accepted"] == T
    assert found["Reconciling"] == found["Stalled"] == "False/Succeeded"


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (
            spec(),
            {"Secure": T, "Authenticated": "Unknown/NotRequested", "EnvelopeAccepted": "Unknown/NotRequested"},
        ),
        (spec(port=25, mode="plain"), {"Reachable": T, "Secure": "Unknown/NotApplicable"}),
        (spec(depth="ehlo"), {"Reachable": T, "Secure": "Unknown/NotRequested"}),
        (spec(depth="greeting"), {"Reachable": T, "Secure": "Unknown/NotRequested"}),
        (spec(port=465, mode="smtps"), {"Reachable": T, "Secure": T}),
        (
            spec(port=25, mode="plain", envelope=ENVELOPE),
            {
                "Authenticated": "Unknown/NotRequested",
                "EnvelopeAccepted": T,
                "EgressAuthorized": "True/RelayAcceptedNoControl",
            },
        ),
        (login_spec(), {"Authenticated": T, "EnvelopeAccepted": "Unknown/NotRequested"}),
    ],
)
def test_what_was_not_asked_is_unknown_although_the_run_passed(of, expected):
    """A stage outside depth and mode leaves its condition Unknown with NotRequested or NotApplicable, Ready is True."""
    found = words(folded(of, passed(of)))
    assert {kind: found[kind] for kind in expected} == expected
    assert found["Ready"] == T


def test_tls_that_fails_before_the_greeting_leaves_reachable_open():
    """In mode smtps the handshake comes first: Secure is False and nobody knows whether it is a mail server."""
    of = spec(port=465, mode="smtps")
    found = words(folded(of, refused(of, Reason.WRONG_TLS_MODE, Stage.TLS, code=None)))
    assert (found["Reachable"], found["Secure"]) == (NR, "False/WrongTlsMode")


def test_a_result_cut_to_its_failing_stage_is_judged_the_same():
    """The termination message may hold the failing stage alone; the conditions come from the plan, not from its list."""
    import msgspec

    whole = bad_login(FULL)
    cut = msgspec.structs.replace(whole, stages=tuple(s for s in whole.stages if s.stage is Stage.AUTH))
    assert words(folded(FULL, cut)) == words(folded(FULL, whole))


@pytest.mark.parametrize(
    ("reason", "ready", "stalled", "reconciling"),
    [
        (Reason.SECRET_NOT_FOUND, "False/SecretNotFound", "True/SecretNotFound", "False/Succeeded"),
        (Reason.SECRET_KEY_MISSING, "False/SecretKeyMissing", "True/SecretKeyMissing", "False/Succeeded"),
        (Reason.HOST_NOT_ALLOWED, "False/HostNotAllowed", "True/HostNotAllowed", "False/Succeeded"),
        (Reason.SPEC_INVALID, "False/SpecInvalid", "True/SpecInvalid", "False/Succeeded"),
        (Reason.IMAGE_PULL_FAILED, "Unknown/ImagePullFailed", "False/Succeeded", "True/ImagePullFailed"),
        (Reason.UNSCHEDULABLE, "Unknown/Unschedulable", "False/Succeeded", "True/Unschedulable"),
        (Reason.ADMISSION_DENIED, "Unknown/AdmissionDenied", "False/Succeeded", "True/AdmissionDenied"),
        (Reason.RESULT_LOST, "Unknown/ResultLost", "False/Succeeded", "True/ResultLost"),
    ],
)
def test_an_error_before_any_answer_says_who_must_act(reason, ready, stalled, reconciling):
    """What only the user can change stalls with Ready False; any other Error leaves Ready Unknown and retries."""
    found = words(folded(FULL, error(reason)))
    assert (found["Ready"], found["Stalled"], found["Reconciling"]) == (ready, stalled, reconciling)
    assert found["Reachable"] == found["Authenticated"] == found["EgressAuthorized"] == "Unknown/Pending"


def test_an_error_keeps_everything_the_last_answer_said():
    """After an Error the mail conditions, locations, egress, counts and lastRunTime are those of the last answer."""
    answered = folded(FULL, passed(FULL, ip="203.0.113.7"))
    later = error(Reason.IMAGE_PULL_FAILED, NOON + timedelta(minutes=30))
    after = folded(FULL, later, answered, "slot:1800000000")
    before_words, after_words = words(answered), words(after)
    assert after_words.pop("Ready") == "Unknown/ImagePullFailed"
    before_words.pop("Ready")
    assert after_words == before_words
    for field in ("locations", "egress", "last_run_time", "consecutive_failures", "summary", "outages"):
        assert getattr(after, field) == getattr(answered, field), field
    assert [entry.reason for entry in after.history] == ["ImagePullFailed", "Succeeded"]
    assert after.advice is not None
    assert after.advice.owner == "cluster admin"


def test_an_error_for_a_new_spec_shows_nothing_of_the_old_answer_in_conditions():
    """An answer to another spec is evidence with a date, never a condition of this generation."""
    answered = folded(FULL, passed(FULL))
    new = login_spec(envelope=ENVELOPE, host="other.example.com")
    after = folded(new, error(Reason.POD_LOST, NOON + timedelta(minutes=1)), answered, generation=2)
    found = words(after)
    assert found["Ready"] == "Unknown/PodLost"
    assert found["Authenticated"] == "Unknown/Pending"
    assert after.summary is None  # the mark of locations that answer an earlier spec, as the CRD says
    assert after.locations == answered.locations
    assert {c.observed_generation for c in after.conditions} == {2}


def test_last_transition_time_moves_only_with_the_status():
    """A new reason or message alone does not move lastTransitionTime; another status does."""
    first = folded(FULL, bad_login(FULL))
    again = refused(FULL, Reason.RELAY_DENIED, Stage.RCPT, NOON + timedelta(minutes=30))
    second = folded(FULL, again, first, "slot:1800000000")
    old = {c.type: c for c in first.conditions}
    for condition in second.conditions:
        same = condition.status is old[condition.type].status
        assert (condition.last_transition_time == old[condition.type].last_transition_time) is same, condition.type
    assert words(second)["Ready"] == "False/RelayDenied"


def test_running_forgets_the_old_verdict_and_promises_none():
    """While the first run of a generation is under way, nothing waits successfully on an old condition."""
    before = folded(FULL, bad_login(FULL))
    status = running(before, FULL, generation=2, now=NOON + timedelta(minutes=1))
    found = words(status)
    assert found["Ready"] == found["Authenticated"] == found["EgressAuthorized"] == "Unknown/Running"
    assert found["Reconciling"] == "True/Running"
    assert status.observed_generation == 2
    assert (status.advice, status.failed_stage, status.reply_code, status.summary) == (None, None, None, None)
    assert status.history == before.history


def test_suspension_and_its_end_show_the_last_answer_again():
    """Suspending makes Ready Unknown/Suspended; resuming shows what the last answer said, without a run."""
    answered = folded(FULL, bad_login(FULL))
    paused = login_spec(envelope=ENVELOPE, suspend=True)
    off = refold(answered, paused, generation=2, now=NOON + timedelta(minutes=5))
    assert words(off)["Ready"] == "Unknown/Suspended"
    assert words(off)["Authenticated"] == "False/BadCredentials"
    on = refold(off, FULL, generation=3, now=NOON + timedelta(minutes=9))
    assert words(on) == words(answered)
    assert on.failed_stage == "auth"
    assert on.reply_code == 535


def test_an_error_survives_suspension():
    """After a suspension the probe that could not run still says why."""
    failed = folded(FULL, error(Reason.SECRET_NOT_FOUND, text="Secret order-mail-smtp is not there"))
    paused = login_spec(envelope=ENVELOPE, suspend=True)
    on = refold(refold(failed, paused, generation=2, now=NOON), FULL, generation=3, now=NOON)
    assert words(on) == words(failed)


def test_an_invalid_spec_stalls():
    """A spec that cannot be used is Accepted False, Ready False and Stalled True, with each sentence."""
    problems = (Problem("spec.host", "write a host name"), Problem("spec.port", "write a port"))
    status = invalid(folded(FULL, passed(FULL)), generation=2, problems=problems, now=NOON)
    found = words(status)
    assert found["Accepted"] == found["Ready"] == "False/SpecInvalid"
    assert found["Stalled"] == "True/SpecInvalid"
    assert found["Authenticated"] == NR
    message = next(c.message for c in status.conditions if c.type == "Accepted")
    assert message == "spec.host: write a host name; spec.port: write a port"


@pytest.mark.parametrize(
    ("ip", "ranges", "expected"),
    [
        ("203.0.113.7", ["203.0.113.0/24"], "True/InExpectedRange"),
        ("203.0.113.7", ["198.51.100.0/24", "2001:db8::/32"], "False/OutsideExpectedRange"),
        (None, ["203.0.113.0/24"], "Unknown/NotObservable"),
        ("203.0.113.7", [], "Unknown/NotRequested"),
    ],
)
def test_expected_ranges_are_judged_without_a_run(ip, ranges, expected):
    """EgressExpected follows a change of expectedCIDRs from the last answer, and the digest asks for no run."""
    from smtpprobe.status import needs_run

    answered = folded(FULL, passed(FULL, ip=ip))
    changed = login_spec(envelope=ENVELOPE, egress={"expectedCIDRs": ranges})
    assert not needs_run(changed, answered)
    assert words(refold(answered, changed, generation=2, now=NOON))["EgressExpected"] == expected


def test_egress_refusal_becomes_the_word_of_the_column():
    """EgressAuthorized False is NotAuthorized in status.egress.verdict, and its message names the address seen."""
    seen = (EgressAddress(ip="203.0.113.8", family=4, rank="A1", method=EgressMethod.EHLO_REPLY),)
    finding = EgressFinding(status=ConditionStatus.FALSE, reason=EgressReason.ANONYMOUS_RELAY_DENIED, addresses=seen)
    of = spec(port=25, mode="plain", envelope=ENVELOPE)
    status = folded(of, refused(of, Reason.RELAY_DENIED, Stage.RCPT, egress=finding))
    assert status.egress.verdict == "NotAuthorized"
    message = next(c.message for c in status.conditions if c.type == "EgressAuthorized")
    assert "203.0.113.8" in message


@pytest.mark.parametrize(
    ("ip", "said"), [(None, "names our host or address, without saying which"), ("203.0.113.7", "names 203.0.113.7")]
)
def test_a_refusal_of_our_host_names_an_address_only_where_one_was_seen(ip, said):
    """ "Your host is not permitted" is no quotation: the message does not pretend that an address stood there."""
    seen = (EgressAddress(ip=ip, family=4, rank="A1", method=EgressMethod.EHLO_REPLY),) if ip else ()
    found = EgressFinding(status=ConditionStatus.FALSE, reason=EgressReason.SERVER_NAMED_IP, addresses=seen)
    status = folded(FULL, refused(FULL, Reason.EGRESS_IP_NOT_AUTHORIZED, Stage.MAIL, egress=found))
    message = next(c.message for c in status.conditions if str(c.type) == "EgressAuthorized")
    assert said in message
    assert "did not say" not in message


def test_an_unusual_port_is_mentioned_and_not_refused():
    """smtps on 587 is accepted with a remark, smtps on 465 without."""
    odd, usual = spec(port=587, mode="smtps"), spec(port=465, mode="smtps")
    texts = [next(c.message for c in folded(of, passed(of)).conditions if c.type == "Accepted") for of in (odd, usual)]
    assert "unusual" in texts[0]
    assert "unusual" not in texts[1]


def test_advice_on_an_invalid_spec_has_the_bound_of_all_advice():
    """However many problems a spec has, the advice is at most 600 characters; the condition names them all."""
    problems = [Problem(f"envelope.to[{n}]", "write an address such as user@example.com") for n in range(40)]
    status = invalid(Status(), generation=1, problems=problems, now=NOON)
    assert status.advice is not None
    assert len(status.advice.text) <= 600
    assert "envelope.to[39]" in next(c.message for c in status.conditions if c.type == "Accepted")


MESSAGE = login_spec(envelope=ENVELOPE, depth="message")


def message_of(status: Status, kind: str) -> str:
    return next(c.message for c in status.conditions if c.type == kind)


def test_depth_message_has_a_condition_of_its_own():
    """MessageAccepted stands only where a message is asked for; it names the mail and the server's words, or its no."""
    assert "MessageAccepted" not in words(folded(FULL, passed(FULL)))
    good = passed(MESSAGE)
    entries = {
        Stage.DATA: {"detail": "Message-ID <smtpprobe.1@shop.example.com>"},
        Stage.DOT: {"reply": Reply(code=250, lines=("Ok 0100018c",))},
    }
    stages = tuple(msgspec.structs.replace(entry, **entries.get(entry.stage, {})) for entry in good.stages)
    status = folded(MESSAGE, msgspec.structs.replace(good, stages=stages))
    assert words(status)["MessageAccepted"] == T
    said = "the server took the test message, Message-ID <smtpprobe.1@shop.example.com>, Ok 0100018c"
    assert message_of(status, "MessageAccepted") == said
    assert words(running(Status(), MESSAGE, generation=1, now=NOON))["MessageAccepted"] == "Unknown/Running"


@pytest.mark.parametrize(
    ("stage", "reason", "envelope", "message"),
    [
        (Stage.DOT, Reason.SANDBOX_RESTRICTED, T, "False/SandboxRestricted"),
        (Stage.DATA, Reason.SERVICE_UNAVAILABLE, T, "Unknown/ServiceUnavailable"),
        (Stage.DOT, Reason.COMMAND_TIMEOUT, T, "Unknown/CommandTimeout"),
        (Stage.RCPT, Reason.RECIPIENT_REJECTED, "False/RecipientRejected", NR),
    ],
)
def test_a_message_that_is_not_taken_says_so_in_its_condition(stage, reason, envelope, message):
    """Refused at data or dot: the envelope stays accepted and MessageAccepted has the reason."""
    finding = EgressFinding(reason=EgressReason.ENVELOPE_ONLY)
    status = folded(MESSAGE, refused(MESSAGE, reason, stage, egress=finding))
    assert (words(status)["EnvelopeAccepted"], words(status)["MessageAccepted"]) == (envelope, message)
    if stage is not Stage.RCPT:
        assert message_of(status, "EgressAuthorized").endswith("refused for a reason that names no address")


@pytest.mark.parametrize(
    ("host", "simulator"), [("email-smtp.eu-west-1.amazonaws.com", True), ("smtp.sendgrid.net", False)]
)
def test_where_only_a_message_proves_more_it_is_recommended(host, simulator):
    """EnvelopeOnly names depth message, and for Amazon SES the simulator's address."""
    of = login_spec(host=host, envelope=ENVELOPE)
    finding = EgressFinding(reason=EgressReason.ENVELOPE_ONLY)
    text = message_of(folded(of, msgspec.structs.replace(passed(of), egress=finding)), "EgressAuthorized")
    assert "depth message sends one marked test mail" in text
    assert ("success@simulator.amazonses.com" in text) is simulator


def test_another_language_needs_no_run():
    """The last answer is folded again: same conditions, advice in Korean."""
    of, korean = login_spec(envelope=ENVELOPE), login_spec(envelope=ENVELOPE, language="ko")
    status = folded(of, refused(of, Reason.RELAY_DENIED, Stage.RCPT))
    again = refold(status, korean, generation=2, now=NOON + timedelta(minutes=1))
    assert words(again) == words(status)
    assert status.advice is not None
    assert again.advice is not None
    assert (status.advice.owner, again.advice.owner) == ("mail admin", "mail admin")
    assert status.advice.text.isascii()
    assert "메일 관리자" in again.advice.text
    assert not needs_run(korean, status)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"host": "email-smtp.eu-west-1.amazonaws.com"}, "this is Amazon SES, region eu-west-1"),
        ({"tls": {"serverName": "email-smtp.us-east-1.amazonaws.com"}}, "this is Amazon SES, region us-east-1"),
        ({}, "the spec can be used"),
    ],
)
def test_amazon_ses_and_its_region_are_recognised(fields, said):
    """Accepted names service and region by the host or the name in the certificate."""
    text = message_of(running(Status(), spec(**fields), generation=1, now=NOON), "Accepted")
    assert text.endswith(said)
