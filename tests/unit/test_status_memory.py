"""What a status remembers over runs: counts, history, outages, addresses, what is known already, and its size."""

from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import given, settings, strategies as st
from runs_made import NOON, bad_login, error, finished, login_spec, passed, refused, spec

from smtpprobe.evidence import outage_result, result_of
from smtpprobe.resource import RunRef, Status, decode_status, encode_status
from smtpprobe.runs import is_known
from smtpprobe.status import count_login, fold, limit, needs_run, refold, run_digest, running
from smtpprobe.trim import STATUS_LIMIT, size
from smtpprobe.vocabulary import Outcome, Reason, Stage

GOLDEN = Path(__file__).parent / "golden" / "status"
ENVELOPE = {"from": "noreply@shop.example.com", "to": ["postmaster@other.example"]}
FULL = login_spec(envelope=ENVELOPE)


def walk(of, results, start: Status = Status()) -> Status:  # noqa: B008
    status = start
    for result in results:
        end = finished(of, result, f"slot:{int(result.finished_at.timestamp())}")
        status = fold(status, of, generation=1, finished=end, now=result.finished_at)
    return status


def at(minutes: int):
    return NOON + timedelta(minutes=minutes)


GOLDENS = {
    "passed": lambda: walk(FULL, [passed(FULL, ip="203.0.113.7")]),
    "login-refused": lambda: walk(FULL, [passed(FULL, ip="203.0.113.7"), bad_login(FULL, at(30))]),
    "error-after-answer": lambda: walk(
        FULL, [passed(FULL, ip="203.0.113.7"), error(Reason.IMAGE_PULL_FAILED, at(30), "image x: ErrImagePull")]
    ),
    "relay-recovered": lambda: walk(
        spec(port=25, mode="plain", envelope=ENVELOPE),
        [
            refused(spec(port=25, mode="plain", envelope=ENVELOPE), Reason.RELAY_DENIED, Stage.RCPT, code=554),
            passed(spec(port=25, mode="plain", envelope=ENVELOPE), at(30), ip="203.0.113.7"),
        ],
    ),
}


@pytest.mark.parametrize("name", GOLDENS)
def test_whole_statuses_are_as_reviewed(name, request):
    """Each golden file is a whole status; a change of one is seen in review (UPDATE_GOLDEN=1 writes them)."""
    import os

    text = yaml.safe_dump(encode_status(GOLDENS[name]()), sort_keys=False, allow_unicode=True, width=110)
    file = GOLDEN / f"{name}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


def test_a_status_survives_the_api_server():
    """What is encoded decodes to the same value, so that a fold from the cluster equals one from memory."""
    for make in GOLDENS.values():
        status = make()
        assert decode_status(encode_status(status)) == status


def test_a_location_gives_its_result_back():
    """The report, hours later, reads the very result from the status; only the credentials' fingerprint stays behind."""
    for result in (passed(FULL, ip="203.0.113.7"), bad_login(FULL), refused(FULL, Reason.RELAY_DENIED, Stage.RCPT)):
        status = walk(FULL, [result])
        auth = msgspec.structs.replace(result.auth, salt=None, fingerprint=None)
        assert result_of(status.locations[0]) == msgspec.structs.replace(result, auth=auth)
        assert "beef" not in str(status.locations) + str(status.outages)


def test_errors_are_no_failures():
    """consecutiveFailures counts refused sessions over Errors between them and ends with a passed one."""
    counts = []
    status = Status()
    runs = [bad_login(FULL, at(0)), error(Reason.POD_LOST, at(30)), bad_login(FULL, at(60)), passed(FULL, at(90))]
    for result in runs:
        status = walk(FULL, [result], status)
        counts.append(status.consecutive_failures)
    assert counts == [1, 1, 2, 0]


def test_outage_and_addresses_begin_anew_with_another_spec_and_failures_run_on():
    """What host A refused and saw is not shown for host B; an edit does not silence alerts on failures in a row."""
    other = login_spec(envelope=ENVELOPE, host="other.example.com")
    before = walk(FULL, [passed(FULL, at(0), ip="203.0.113.7"), *(bad_login(FULL, at(30 * n)) for n in (1, 2))])
    assert (before.consecutive_failures, before.outages[0].runs, len(before.egress.addresses)) == (2, 2, 1)
    waiting = running(before, other, generation=2, now=at(70))
    after = walk(other, [refused(other, Reason.RELAY_DENIED, Stage.RCPT, at(90))], before)
    lost = walk(other, [error(Reason.POD_LOST, at(80))], before)
    for status, failures, count in ((waiting, 2, 0), (lost, 2, 0), (after, 3, 1)):
        assert status.consecutive_failures == failures
        assert status.egress.addresses == ()
        assert all(outage.until for outage in status.outages[count:])
    assert walk(other, [refused(other, Reason.RELAY_DENIED, Stage.RCPT, at(90))], waiting).consecutive_failures == 3
    newest, old = after.outages
    assert (newest.reason, newest.runs, newest.until) == ("RelayDenied", 1, None)
    assert (old.reason, old.runs, old.until) == ("BadCredentials", 2, at(90))


def test_history_and_outages_are_bounded_and_newest_first():
    """Ten lines of history; ten outages, of which the last three keep the result of their first failing run."""
    status = Status()
    for index in range(13):
        status = walk(FULL, [refused(FULL, Reason.RELAY_DENIED, Stage.RCPT, at(60 * index))], status)
        status = walk(FULL, [refused(FULL, Reason.GREYLISTED, Stage.RCPT, at(60 * index + 10))], status)
        status = walk(FULL, [passed(FULL, at(60 * index + 20))], status)
    assert len(status.history) == len(status.outages) == 10
    assert [row.evidence is not None for row in status.outages] == [True] * 3 + [False] * 7
    newest = status.outages[0]
    assert (newest.since, newest.until, newest.runs, newest.reason) == (at(720), at(740), 2, "RelayDenied")
    kept = outage_result(newest)
    assert kept is not None
    assert kept.verdict is not None
    assert kept.verdict.reason is Reason.RELAY_DENIED
    assert status.history[0].outcome is Outcome.PASSED


def test_addresses_roll_newest_first():
    """At most eight addresses, the last seen first, each with how often and since when."""
    ips = [f"203.0.113.{n}" for n in range(10)] + ["203.0.113.4"]
    status = walk(FULL, [passed(FULL, at(10 * index), ip=ip) for index, ip in enumerate(ips)])
    assert [seen.ip for seen in status.egress.addresses] == [f"203.0.113.{n}" for n in (4, 9, 8, 7, 6, 5, 3, 2)]
    newest = status.egress.addresses[0]
    assert (newest.count, newest.first_seen, newest.last_seen) == (2, at(40), at(100))


def test_nothing_of_an_old_verdict_survives_a_new_one():
    """After a passed run no key of the refusal is left: stage, code, advice, reason, evidence, pause."""
    status = walk(FULL, [bad_login(FULL, at(0)), bad_login(FULL, at(30), salt="5b"), passed(FULL, at(60))])
    raw = encode_status(msgspec.structs.replace(status, history=(), outages=()))
    assert "BadCredentials" not in str(raw)
    assert not {"failedStage", "replyCode", "advice", "truncated"} & set(raw)
    assert raw["auth"] == {"target": "order-mail-smtp@smtp.example.com", "lastSuccess": "2026-11-22T13:00:00Z"}


def test_the_same_run_twice_is_one_run():
    """A restart lists pods again: a known run, and every older one, changes nothing."""
    first = finished(FULL, passed(FULL, at(0)), "slot:1795348800")
    now_run = finished(FULL, passed(FULL, at(5)), "now:a")
    second = finished(FULL, bad_login(FULL, at(30)), "slot:1795350600")
    status = Status()
    for end in (first, now_run, second):
        status = fold(status, FULL, generation=1, finished=end, now=at(31))
    for end in (first, now_run, second):
        assert is_known(status, end.run, end.result)
        assert fold(status, FULL, generation=1, finished=end, now=at(40)) is status


@pytest.mark.parametrize("trigger", ["slot:0", "once", "now:a"])
def test_an_old_pod_outside_the_slots_is_known_when_the_history_has_forgotten_it(trigger):
    """The first run's pod lives an hour while the history holds ten runs: it never overwrites what came after it."""
    first = finished(FULL, passed(FULL, at(0)), trigger)
    status = fold(Status(), FULL, generation=1, finished=first, now=at(0))
    status = walk(FULL, [bad_login(FULL, at(5 * n)) for n in range(1, 12)], status)
    assert all(entry.trigger != trigger for entry in status.history)
    assert fold(status, FULL, generation=1, finished=first, now=at(60)) is status


def test_a_retry_is_another_run():
    """Attempt 1 of a slot whose attempt 0 ended in Error is new, attempt 0 listed again is not."""
    lost = finished(FULL, error(Reason.POD_LOST, at(0)), "slot:1795348800")
    status = fold(Status(), FULL, generation=1, finished=lost, now=at(0))
    again = finished(FULL, passed(FULL, at(1)), "slot:1795348800", attempt=1)
    assert is_known(status, lost.run, lost.result)
    assert not is_known(status, again.run, again.result)


def test_a_superseded_pod_that_ends_beside_the_next_run_counts_its_login_once():
    """Its word comes after the next run was folded: counted then; a run that was folded in its time is charged to nobody."""
    other = login_spec(host="b.example.net")
    early = finished(FULL, bad_login(FULL, at(0)))
    status = fold(Status(), FULL, generation=1, finished=early, now=at(0))
    next_run = finished(other, refused(other, Reason.CONNECT_TIMEOUT, Stage.CONNECT, at(20), code=None), generation=2)
    status = fold(status, other, generation=2, finished=next_run, now=at(20))
    assert fold(status, other, generation=2, finished=early, now=at(30)) is status
    slow = finished(FULL, bad_login(FULL, at(21), salt="5c"), "slot:9")
    counted = fold(status, other, generation=2, finished=slow, now=at(30))
    assert counted.auth.refused == 1
    assert fold(counted, other, generation=2, finished=slow, now=at(40)) is counted


def test_a_superseded_result_counts_its_login_and_nothing_else():
    """The result for another spec is nobody's verdict, but a refused login of it was a login."""
    old = login_spec(port=465, mode="smtps")
    before = walk(FULL, [passed(FULL, at(0))])
    after = fold(before, FULL, generation=2, finished=finished(old, bad_login(old, at(5))), now=at(5))
    assert after == msgspec.structs.replace(before, auth=after.auth)
    assert after.auth.refused == 1
    assert count_login(before, FULL, bad_login(old, at(5)), now=at(5)).auth == after.auth
    assert count_login(before, FULL, refused(FULL, Reason.DNS_FAILURE, Stage.DNS), now=at(5)) is before


@pytest.mark.parametrize(
    ("change", "run"),
    [
        ({"suspend": True}, False),
        ({"schedule": {"interval": "1h"}}, False),
        ({"egress": {"expectedCIDRs": ["10.0.0.0/8"]}}, False),
        ({"language": "ko"}, False),
        ({"depth": "message"}, True),
        ({"host": "other.example.com"}, True),
        ({"port": 2525}, True),
        ({"timeoutSeconds": 30}, True),
        ({"location": {"nodeSelector": {"zone": "b"}}}, True),
        ({"credentialsSecretRef": {"name": "other"}}, True),
    ],
)
def test_only_what_a_session_depends_on_asks_for_a_run(change, run):
    """suspend, schedule, expectedCIDRs and language leave the digest alone; everything else changes it."""
    status = walk(FULL, [passed(FULL)])
    assert needs_run(login_spec(**{"envelope": ENVELOPE, **change}), status) is run


def test_the_digest_knows_no_order():
    """Two spellings of one node selector are one spec."""
    one = spec(location={"nodeSelector": {"a": "1", "b": "2"}})
    other = spec(location={"nodeSelector": {"b": "2", "a": "1"}})
    assert run_digest(one) == run_digest(other)


def test_equal_failures_count_from_the_last_change():
    """Equal failures add up over Errors; another reason, run-now, success and a changed schedule begin anew."""

    def count(status):
        return status.last_run.equal_failures

    same = [refused(FULL, Reason.RELAY_DENIED, Stage.RCPT, at(10 * n)) for n in range(3)]
    status = walk(FULL, [same[0], same[1], error(Reason.POD_LOST, at(15)), same[2]])
    assert count(status) == 3
    changed = login_spec(envelope=ENVELOPE, schedule={"interval": "5m"})
    assert count(refold(status, changed, generation=2, now=at(31))) == 1
    other = walk(FULL, [refused(FULL, Reason.GREYLISTED, Stage.RCPT, at(40))], status)
    assert count(other) == 1
    asked = finished(FULL, refused(FULL, Reason.RELAY_DENIED, Stage.RCPT, at(40)), "now:x")
    assert count(fold(status, FULL, generation=1, finished=asked, now=at(40))) == 1
    assert count(walk(FULL, [passed(FULL, at(40))], status)) == 0


def test_run_now_is_handled_with_its_value():
    """lastHandledRunNow holds the annotation's value from the run that it made, also where that ended in Error."""
    status = fold(Status(), FULL, generation=1, finished=finished(FULL, passed(FULL), "now:2026-1"), now=NOON)
    assert status.last_handled_run_now == "2026-1"
    assert walk(FULL, [passed(FULL, at(30))], status).last_handled_run_now == "2026-1"
    lost = finished(FULL, error(Reason.POD_LOST, at(40)), "now:2026-2")
    assert fold(status, FULL, generation=1, finished=lost, now=at(40)).last_handled_run_now == "2026-2"


TEXTS = st.text(min_size=0, max_size=30000)


@settings(max_examples=40, deadline=None)
@given(TEXTS, TEXTS, st.integers(1, 60))
def test_no_status_is_larger_than_32_kib(message, line, stages):
    """Whatever server and cluster write, the status stays below 32 KiB, is marked, and keeps schedule and pause."""
    result = bad_login(FULL, at(0))
    entry = result.stages[-1]
    reply = next(s.reply for s in result.stages if s.reply)
    long = msgspec.structs.replace(entry, detail=line, reply=msgspec.structs.replace(reply, lines=(line, line)))
    result = msgspec.structs.replace(result, message=message, stages=result.stages + (long,) * stages)
    status = walk(FULL, [result, passed(FULL, at(5)), msgspec.structs.replace(result, finished_at=at(30))])
    assert size(status) <= STATUS_LIMIT
    assert status.last_run is not None
    assert status.last_run.slot == int(at(30).timestamp())
    assert status.auth.fingerprint == "beef"
    assert status.conditions
    unlimited = len(message.encode()) + stages * 2 * len(line.encode()) > STATUS_LIMIT * 2
    assert status.truncated or not unlimited


def test_a_small_status_is_not_cut():
    """A status below the limit comes back as it is, without the mark."""
    status = walk(FULL, [bad_login(FULL)])
    assert limit(status) is status
    assert not status.truncated
    assert size(status) < 5120


def test_the_digest_in_a_run_without_one_is_not_held_against_it():
    """A caller that makes no Job (``smtpprobe try``) leaves the digest out; its result counts."""
    end = msgspec.structs.replace(finished(FULL, passed(FULL)), run=RunRef(trigger="once", generation=1))
    assert not needs_run(FULL, fold(Status(), FULL, generation=1, finished=end, now=NOON))


@pytest.mark.parametrize(
    ("runs", "noted"),
    [
        ("a1 a2 a1", True),
        ("a1 a1 a2 a2 a1", True),
        ("a1 a2", False),
        ("a1 a2 a2", False),
        ("a1 b2 a1 b2", False),
        ("a1 b2 a3 b2 a1", True),
    ],
)
def test_an_address_that_comes_back_is_a_flap(runs, noted):
    """A node whose address changed and changed back is noted; a new address and another node's are not."""
    status = Status()
    for number, (node, last) in enumerate(runs.split()):
        result = passed(FULL, at(10 * number), ip=f"203.0.113.{last}")
        end = finished(FULL, result, f"slot:{number + 1}", node=f"node-{node}")
        status = fold(status, FULL, generation=1, finished=end, now=result.finished_at)
    (location,) = status.locations
    assert ("EgressFlapped" in ((location.evidence or {}).get("notes") or ())) is noted
