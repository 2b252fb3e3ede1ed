"""Events: one for each transition, none for repetition, each safe to write twice."""

from datetime import timedelta

import msgspec
import pytest
from runs_made import NOON, bad_login, error, finished, login_spec, passed, probe, refused, skipped_login

from smtpprobe.model import AuthFacts, EgressFinding
from smtpprobe.resource import Status
from smtpprobe.spec import Problem
from smtpprobe.status import fold, invalid, refold, running
from smtpprobe.vocabulary import ConditionStatus, EgressReason, Reason, Stage
from smtpprobe_operator import events

SPEC = login_spec(envelope={"from": "noreply@shop.example.com", "to": ["postmaster@other.example"]})
ME = probe(SPEC)


def at(minutes):
    return NOON + timedelta(minutes=minutes)


def step(before: Status, result, generation: int = 1) -> Status:
    end = finished(SPEC, result, f"slot:{int(result.finished_at.timestamp())}", generation=generation)
    return fold(before, SPEC, generation=generation, finished=end, now=result.finished_at)


def told(*results) -> list[list[str]]:
    """Return the reasons of the events that each result of a story makes."""
    status, story = Status(), []
    for result in results:
        after = step(status, result)
        story.append([draft.reason for draft in events.drafts(status, after, ME)])
        status = after
    return story


NOT_AUTHORIZED = EgressFinding(status=ConditionStatus.FALSE, reason=EgressReason.SERVER_NAMED_IP)


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([passed(SPEC, at(0)), passed(SPEC, at(30))], [[], []]),
        (
            [bad_login(SPEC, at(0)), bad_login(SPEC, at(30), salt="5b"), skipped_login(SPEC, at(60))],
            [["ProbeFailed", "AuthenticationRejected"], ["LoginPaused"], []],
        ),
        ([bad_login(SPEC, at(0)), passed(SPEC, at(30))], [["ProbeFailed", "AuthenticationRejected"], ["ProbeRecovered"]]),
        (
            [refused(SPEC, Reason.DNS_FAILURE, Stage.DNS, at(0)), refused(SPEC, Reason.RELAY_DENIED, Stage.RCPT, at(30))],
            [["ProbeFailed"], ["ProbeFailed"]],
        ),
        (
            [error(Reason.POD_LOST, at(n)) for n in range(3)] + [error(Reason.UNSCHEDULABLE, at(3)), passed(SPEC, at(4))],
            [["ProbeError"], [], [], ["ProbeError"], ["ProbeResumed"]],
        ),
        (
            [bad_login(SPEC, at(0)), error(Reason.POD_LOST, at(30)), skipped_login(SPEC, at(60))],
            [["ProbeFailed", "AuthenticationRejected"], ["ProbeError"], ["ProbeResumed"]],
        ),
        (
            [passed(SPEC, at(0)), error(Reason.POD_LOST, at(30)), refused(SPEC, Reason.RELAY_DENIED, Stage.RCPT, at(60))],
            [[], ["ProbeError"], ["ProbeFailed"]],
        ),
        (
            [refused(SPEC, Reason.RELAY_DENIED, Stage.RCPT, at(n), egress=NOT_AUTHORIZED) for n in (0, 30)],
            [["ProbeFailed", "EgressNotAuthorized"], []],
        ),
        (
            [passed(SPEC, at(0), ip="203.0.113.7"), passed(SPEC, at(30), ip="203.0.113.8"), passed(SPEC, at(60), ip="203.0.113.7")],
            [[], ["EgressIPChanged"], []],
        ),
    ],
)  # fmt: skip
def test_a_story_tells_each_transition_once(results, expected):
    """Failure, another reason, recovery, Errors, refusals, pause, egress: an event when it begins, none while it lasts."""
    assert told(*results) == expected


def test_a_host_that_is_named_again_repeats_no_old_refusal():
    """A refused twice, B, then A again without a login: its failure is told, not its old refusals once more."""
    other = login_spec(host="b.example.net")
    status = step(step(Status(), bad_login(SPEC, at(0))), bad_login(SPEC, at(30), salt="5b"))
    status = fold(
        status, other, generation=2, finished=finished(other, passed(other, at(40)), generation=2), now=at(40)
    )
    after = step(status, skipped_login(SPEC, at(50)), generation=3)
    assert after.auth.paused
    assert [draft.reason for draft in events.drafts(status, after, ME)] == ["ProbeFailed"]


def test_a_lost_login_is_told_by_its_error_alone():
    """Pods that are killed one after the other make one ProbeError, though the second pauses the logins."""
    lost = [
        msgspec.structs.replace(
            error(Reason.OUT_OF_MEMORY, at(n)), auth=AuthFacts(sent=True, refused=True, salt=f"{n}")
        )
        for n in (0, 30)
    ]
    assert told(*lost) == [["ProbeError"], []]


def test_a_new_spec_that_fails_in_the_same_way_is_told():
    """The failure of a changed spec is news, although the reason is that of the old one."""
    failed = step(Status(), refused(SPEC, Reason.RELAY_DENIED, Stage.RCPT, at(0)))
    other = login_spec(host="mail.example.net", envelope={"from": "", "to": ["a@other.example"]})
    before = running(failed, other, generation=2, now=at(1))
    end = finished(other, refused(other, Reason.RELAY_DENIED, Stage.RCPT, at(2)), generation=2)
    after = fold(before, other, generation=2, finished=end, now=at(2))
    assert [draft.reason for draft in events.drafts(before, after, ME)] == ["ProbeFailed"]


def test_what_is_no_run_tells_nothing_but_an_invalid_spec():
    """Running, suspension and its end are no news; a spec that cannot be used is, once."""
    failed = step(Status(), bad_login(SPEC, at(0)))
    assert events.drafts(failed, running(failed, SPEC, generation=2, now=at(1)), ME) == ()
    off = refold(failed, msgspec.structs.replace(SPEC, suspend=True), generation=2, now=at(1))
    assert events.drafts(failed, off, ME) == ()
    assert events.drafts(off, refold(off, SPEC, generation=3, now=at(2)), ME) == ()
    bad = invalid(failed, generation=2, problems=(Problem("spec.host", "write a host name"),), now=at(1))
    assert [draft.reason for draft in events.drafts(failed, bad, ME)] == ["SpecInvalid"]
    assert events.drafts(bad, msgspec.structs.replace(bad, observed_generation=3), ME) == ()


def test_the_same_event_has_the_same_name():
    """A fold that is done again after a kill finds its event by name; other text, probe or reason has another."""
    before = step(Status(), passed(SPEC, at(0)))
    after = step(before, bad_login(SPEC, at(30)))
    first, again = events.drafts(before, after, ME), events.drafts(before, after, ME)
    assert first == again
    other = events.drafts(before, after, probe(SPEC, uid="another"))
    names = {draft.name for draft in (*first, *other)}
    assert len(names) == len(first) + len(other)


def test_notes_fit_and_say_who_must_act():
    """A note is one line of at most 900 bytes, also of text that is no ASCII, and a failure names the owner."""
    result = msgspec.structs.replace(bad_login(SPEC, at(0)), message="잘못된 비밀번호\n" * 200)
    drafts = events.drafts(Status(), step(Status(), result), ME)
    assert all(len(draft.note.encode()) <= 900 and "\n" not in draft.note for draft in drafts)
    assert drafts[0].note.startswith("BadCredentials at stage auth 535 (app developer must act): ")


def test_the_body_is_an_event_of_events_k8s_io():
    """Type, reason, action, note, microtime and the object are where the API server wants them."""
    long_name = probe(SPEC, name="a" * 253)
    draft = events.drafts(Status(), step(Status(), bad_login(SPEC, at(0))), long_name)[0]
    body = events.body(draft, long_name, now=NOON, instance="operator-1")
    assert body["eventTime"] == "2026-11-22T12:00:00.000000Z"
    assert body["regarding"]["uid"] == long_name.uid
    assert len(body["metadata"]["name"]) <= 253
    assert (body["type"], body["reason"], body["action"]) == ("Warning", "ProbeFailed", "Run")


def test_a_repeated_event_counts_up_from_two():
    """The first repeat makes a series of two (the API server wants at least two), each later one adds one."""
    patch = events.repeated({}, NOON)
    assert patch == {"series": {"count": 2, "lastObservedTime": "2026-11-22T12:00:00.000000Z"}}
    assert events.repeated(patch, NOON)["series"]["count"] == 3


def test_a_failure_ends_with_the_advice_and_keeps_its_name():
    """ProbeFailed says what to do, in whole sentences that fit; the same failure at another time is the same event."""
    result = refused(SPEC, Reason.RELAY_DENIED, Stage.RCPT, at(0))
    status = step(Status(), result)
    (draft,) = events.drafts(Status(), status, ME)
    assert status.advice is not None
    assert "RelayDenied at stage rcpt 550 (mail admin must act): " in draft.note
    assert draft.note.endswith(status.advice.text)
    later = step(Status(), refused(SPEC, Reason.RELAY_DENIED, Stage.RCPT, at(30)))
    (again,) = events.drafts(Status(), later, ME)
    assert later.advice != status.advice
    assert again.name == draft.name


@pytest.mark.parametrize("reason", [Reason.BAD_CREDENTIALS, Reason.EGRESS_IP_NOT_AUTHORIZED, Reason.RELAY_DENIED])
def test_events_speak_the_language_of_the_spec(reason):
    """With language ko owner and advice are Korean, and the note still fits."""
    korean = login_spec(
        envelope={"from": "noreply@shop.example.com", "to": ["postmaster@other.example"]}, language="ko"
    )
    result = refused(korean, reason, Stage.RCPT, at(0))
    status = fold(Status(), korean, generation=1, finished=finished(korean, result), now=at(0))
    (draft,) = events.drafts(Status(), status, probe(korean))
    assert ", rcpt 단계 550 (조치할 사람: " in draft.note
    assert len(draft.note.encode()) <= events.MOST_CHARS
    assert status.advice is not None
    assert status.advice.text.partition(". ")[0] in draft.note
    assert draft.note.endswith((".", str(reason)))


def test_recovery_pause_and_address_speak_it_too():
    """Korean sentences for what is no failure of a session."""
    korean = login_spec(
        envelope={"from": "noreply@shop.example.com", "to": ["postmaster@other.example"]}, language="ko"
    )
    status, notes = Status(), {}
    story = [
        bad_login(korean, at(0)), bad_login(korean, at(30), salt="5b"),
        passed(korean, at(60), ip="203.0.113.7"), passed(korean, at(90), ip="203.0.113.8"),
    ]  # fmt: skip
    for result in story:
        end = finished(korean, result, f"slot:{int(result.finished_at.timestamp())}")
        after = fold(status, korean, generation=1, finished=end, now=result.finished_at)
        notes |= {draft.reason: draft.note for draft in events.drafts(status, after, probe(korean))}
        status = after
    assert "더 보내지 않습니다" in notes["LoginPaused"]
    assert "smtpprobe.dev/run-now" in notes["LoginPaused"]
    assert notes["ProbeRecovered"].startswith("다시 통과했습니다: ")
    assert notes["EgressIPChanged"] == "서버가 본 주소가 바뀌었습니다: 203.0.113.7 → 203.0.113.8"
