"""When a probe runs: slots, first runs, run-now, retries, back-off, and nothing twice after a restart."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings, strategies as st
from runs_made import NOON, bad_login, error, finished, login_spec, passed, probe, refused, spec

from smtpprobe.status import Finished, fold, refold, running
from smtpprobe.vocabulary import Outcome, Reason, Stage
from smtpprobe_operator import schedule

HALF_HOUR = timedelta(minutes=30)


def ended(of, due, at, result=None):
    """Fold a run that was due into the probe."""
    result = result or passed(of.spec, at)
    end = Finished(run=due.run, result=msgspec.structs.replace(result, started_at=at, finished_at=at))
    status = fold(of.status, of.spec, generation=of.generation, finished=end, now=at)
    after = msgspec.structs.replace(of, status=status)
    return msgspec.structs.replace(after, status=schedule.stamp(after, status, at))


def first(of, at=NOON, result=None):
    due = schedule.due(of, at)
    assert due is not None
    return ended(of, due, at, result)


def test_a_new_probe_runs_at_once_and_once():
    """apply → the first run is due now, with a name that does not depend on when; after it nothing is due."""
    me = probe()
    one, other = schedule.due(me, NOON), schedule.due(me, NOON + timedelta(hours=5))
    assert one is not None
    assert other is not None
    assert one.run == other.run
    assert one.run.trigger == "slot:0"
    assert schedule.due(first(me), NOON + timedelta(seconds=1)) is None


@pytest.mark.parametrize("interval", ["1m", "5m", "30m", "7m", "2h", "24h"])
def test_the_first_slot_after_a_first_run_is_half_to_one_and_a_half_intervals_away(interval):
    """A first run outside the grid is followed neither at once nor after nearly two intervals."""
    for minute in range(0, 60, 7):
        at = NOON + timedelta(minutes=minute)
        me = first(probe(spec(schedule={"interval": interval})), at)
        seconds = schedule.effective_interval(me.spec, me.status, at)
        gap = (schedule.next_run(me, at) - at).total_seconds()
        assert 0.5 * seconds <= gap <= 1.5 * seconds


def test_slots_spread_evenly_over_probes():
    """A thousand probes with one interval fall into all its parts alike."""
    parts = [0] * 10
    for n in range(1000):
        me = first(probe(uid=f"uid-{n}"))
        parts[int(schedule.next_run(me, NOON).timestamp()) % 1800 // 180] += 1
    assert min(parts) > 60
    assert max(parts) < 140


def test_suspended_invalid_deleting_and_active_probes_owe_nothing():
    """suspend, an unusable spec, a deletion under way and an active run each hold back every run, run-now too."""
    me = probe(run_now="now")
    assert schedule.due(me, NOON) is not None
    assert schedule.due(me, NOON, active=True) is None
    for other in (
        probe(spec(suspend=True), run_now="now"),
        msgspec.structs.replace(me, spec=None),
        probe(run_now="now", deleting=True),
    ):
        assert schedule.due(other, NOON) is None
        assert schedule.next_run(other, NOON) is None


def test_once_runs_once_for_each_spec():
    """once: one run, none after it for however long; a new spec runs once more; a new schedule alone does not."""
    me = first(probe(spec(schedule={"once": True})))
    assert me.status.last_run.trigger == "once"
    assert me.status.next_run_time is None
    assert schedule.due(me, NOON + timedelta(days=400)) is None
    other = msgspec.structs.replace(me, spec=spec(schedule={"once": True}, port=25), generation=2)
    assert schedule.due(other, NOON).run.trigger == "once"
    was_interval = first(probe(), NOON)
    changed = msgspec.structs.replace(was_interval, spec=spec(schedule={"once": True}), generation=2)
    assert schedule.due(changed, NOON + timedelta(days=1)) is None


def test_run_now_runs_once_for_each_new_value():
    """Any new value of the annotation makes one run at once; the same value never a second; none while it is absent."""
    me = msgspec.structs.replace(first(probe()), run_now="a")
    due = schedule.due(me, NOON)
    assert due.run.trigger == "now:a"
    me = ended(me, due, NOON)
    assert schedule.due(me, NOON + timedelta(seconds=5)) is None
    assert schedule.due(msgspec.structs.replace(me, run_now=None), NOON) is None
    assert schedule.due(msgspec.structs.replace(me, run_now="b"), NOON).run.trigger == "now:b"


def test_a_long_or_odd_run_now_value_is_carried_as_a_digest():
    """An annotation may hold 256 KiB of anything; the trigger stays short, printable and different for each value."""
    odd = ["x" * 64, "x" * 65, "a\nb", "é", "\ud800"]
    tokens = [schedule.run_now_token(value) for value in odd]
    assert len(set(tokens)) == len(odd)
    assert all(len(token) <= 63 and token.isascii() and token.isprintable() for token in tokens)


def test_run_now_with_a_new_spec_is_one_run():
    """A new spec and a new annotation in one apply make one run, which satisfies both."""
    me = msgspec.structs.replace(first(probe()), spec=spec(port=25), generation=2, run_now="a")
    due = schedule.due(me, NOON)
    assert due.run.trigger == "now:a"
    assert due.run.generation == 2
    assert schedule.due(ended(me, due, NOON), NOON) is None


def test_errors_are_retried_30_s_2_10_30_min_later_with_the_attempt_raised():
    """Each Error raises the attempt and waits longer, at most 30 min; the trigger stays."""
    me, at, waits = probe(spec(schedule={"interval": "24h"})), NOON, []
    due = schedule.due(me, at)
    for attempt in range(6):
        assert (due.run.trigger, due.run.attempt) == ("slot:0", attempt)
        me = ended(me, due, at, error(Reason.POD_LOST))
        following = schedule.next_run(me, at)
        waits.append((following - at).total_seconds())
        assert schedule.due(me, following - timedelta(seconds=1)) is None
        at, due = following, schedule.due(me, following)
    assert waits == [30, 120, 600, 1800, 1800, 1800]


@pytest.mark.parametrize(
    ("reason", "depth", "seconds"),
    [
        (Reason.RESULT_LOST, "message", 900),
        (Reason.DEADLINE_EXCEEDED, "message", 900),
        (Reason.RESULT_LOST, "envelope", 30),
        (Reason.UNSCHEDULABLE, "message", 30),
    ],
)
def test_a_mail_that_may_have_been_sent_is_not_sent_again_at_once(reason, depth, seconds):
    """After a run whose end nobody saw the next mail waits 15 minutes, whatever slot or retry comes before."""
    envelope = {"from": "noreply@shop.example.com", "to": ["postmaster@other.example"]}
    for minute in range(0, 60, 7):
        at = NOON + timedelta(minutes=minute)
        me = first(probe(spec(envelope=envelope, depth=depth)), at, error(reason, at))
        gap = (schedule.next_run(me, at) - at).total_seconds()
        assert gap == 30 if seconds == 30 else 900 <= gap <= 1800


@pytest.mark.parametrize(
    ("reason", "envelope", "seconds"),
    [(Reason.POD_LOST, True, 600), (Reason.POD_LOST, False, 120), (Reason.UNSCHEDULABLE, True, 120)],
)
def test_recipients_are_not_named_three_times_in_ten_minutes_when_pods_are_lost(reason, envelope, seconds):
    """The second run in a row whose end nobody saw is followed after ten minutes: fail2ban may have seen each."""
    given = {"envelope": {"from": "noreply@shop.example.com", "to": ["postmaster@other.example"]}} if envelope else {}
    me = first(probe(spec(schedule={"interval": "24h"}, **given)), result=error(reason))
    again = schedule.next_run(me, NOON)
    assert again == NOON + timedelta(seconds=30)
    me = ended(me, schedule.due(me, again), again, error(reason, again))
    assert schedule.next_run(me, again) == again + timedelta(seconds=seconds)


def test_a_failed_run_is_never_retried():
    """After the server's no the next run is the next slot, with attempt 0."""
    me = first(probe(), result=refused(spec(), Reason.GREETING_REJECTED, Stage.GREETING))
    due = schedule.due(me, schedule.next_run(me, NOON))
    assert due.run.attempt == 0
    assert due.run.trigger.startswith("slot:")
    assert due.since > NOON + timedelta(minutes=14)


def test_a_slot_comes_before_a_longer_retry():
    """A probe with a short interval keeps it through Errors, the attempt goes on rising."""
    me, at = probe(spec(schedule={"interval": "5m"})), NOON
    due = schedule.due(me, at)
    gaps = []
    for _ in range(7):
        me = ended(me, due, at, error(Reason.POD_LOST))
        following = schedule.next_run(me, at)
        gaps.append((following - at).total_seconds())
        at, due = following, schedule.due(me, following)
    assert due.run.attempt == 7
    assert gaps[:2] == [30, 120]
    assert gaps[-3:] == [300, 300, 300]


def test_run_now_breaks_an_error_back_off():
    """A new annotation does not wait for the retry; an Error of its own run is retried as that run."""
    me = first(probe(spec(schedule={"interval": "24h"})), result=error(Reason.POD_LOST))
    me = msgspec.structs.replace(me, run_now="go")
    due = schedule.due(me, NOON)
    assert (due.run.trigger, due.run.attempt) == ("now:go", 0)
    me = ended(me, due, NOON, error(Reason.POD_LOST))
    assert schedule.due(me, NOON) is None
    again = schedule.due(me, NOON + timedelta(seconds=30))
    assert (again.run.trigger, again.run.attempt) == ("now:go", 1)


@pytest.mark.parametrize(
    ("interval", "failures", "seconds"),
    [
        ("5m", 1, 300),
        ("5m", 2, 600),
        ("5m", 4, 2400),
        ("5m", 5, 3600),
        ("5m", 9, 3600),
        ("7m", 9, 3360),
        ("2h", 9, 7200),
    ],
)
def test_equal_failures_double_the_interval_up_to_an_hour(interval, failures, seconds):
    """After two equal failures the interval doubles, never beyond an hour, never below itself."""
    of = spec(schedule={"interval": interval})
    me, at = probe(of), NOON
    for _ in range(failures):
        me = first(me, at, refused(of, Reason.RELAY_DENIED, Stage.GREETING))
        at = schedule.next_run(me, at)
    last = me.status.last_run.finished_at
    assert schedule.effective_interval(of, me.status, at) == seconds
    if failures > 1:
        assert (at - last).total_seconds() == pytest.approx(seconds, abs=1)


def test_success_spec_change_and_run_now_reset_the_doubling():
    """A pass, a changed schedule or run-now bring the interval of the spec back."""
    of = spec(schedule={"interval": "5m"})
    me, at = probe(of), NOON
    for _ in range(3):
        me = first(me, at, refused(of, Reason.RELAY_DENIED, Stage.GREETING))
        at = schedule.next_run(me, at)
    assert schedule.effective_interval(of, me.status, at) == 1200
    asked = msgspec.structs.replace(me, run_now="x")
    asked = first(asked, at, refused(of, Reason.RELAY_DENIED, Stage.GREETING))
    assert schedule.effective_interval(of, asked.status, at) == 300
    assert schedule.effective_interval(of, first(me, at).status, at) == 300
    resumed = refold(me.status, of, generation=2, now=at)
    assert schedule.effective_interval(of, resumed, at) == 300


def test_a_late_slot_is_taken_up_to_half_an_interval_and_then_passed_over():
    """Half an interval late is run; a second more is not, and the slots passed over are counted."""
    me = first(probe())
    slot = schedule.next_run(me, NOON)
    assert schedule.due(me, slot + timedelta(minutes=15)).since == slot
    assert schedule.due(me, slot + timedelta(minutes=15, seconds=1)) is None
    later = schedule.due(me, slot + 4 * HALF_HOUR)
    assert later.since == slot + 4 * HALF_HOUR
    assert later.skipped == 4


def test_a_long_interval_is_late_by_an_hour_at_most():
    """A daily run missed by two hours waits for the next day."""
    me = first(probe(spec(schedule={"interval": "24h"})))
    slot = schedule.next_run(me, NOON)
    assert schedule.due(me, slot + timedelta(hours=1)).since == slot
    assert schedule.due(me, slot + timedelta(hours=2)) is None
    assert schedule.next_run(me, slot + timedelta(hours=2)) == slot + timedelta(days=1)


def test_cron_runs_by_the_clock_of_its_zone():
    """Weekdays at eight in Seoul is 23:00 UTC of the day before; over the weekend nothing is due."""
    of = spec(schedule={"cron": "0 8 * * 1-5", "timeZone": "Asia/Seoul"})
    friday = datetime(2026, 11, 20, 1, 0, tzinfo=UTC)
    me = first(probe(of), friday)
    following = schedule.next_run(me, friday)
    assert following == datetime(2026, 11, 22, 23, 0, tzinfo=UTC)
    assert schedule.due(me, following - timedelta(seconds=1)) is None
    due = schedule.due(me, following + timedelta(minutes=59))
    assert due.run.trigger == f"slot:{int(following.timestamp())}"
    assert schedule.due(me, following + timedelta(minutes=61)) is None


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
def test_cron_runs_once_through_a_change_of_the_clock(zone):
    """A daily run inside the hour that is left out or comes twice happens once that day, in three zones."""
    of = spec(schedule={"cron": "30 2 * * *", "timeZone": zone})
    start = datetime(2027, 3, 1, tzinfo=UTC)
    me, at, runs = first(probe(of), start), start, []
    while at < start + timedelta(days=260):
        at = schedule.next_run(me, at)
        due = schedule.due(me, at)
        runs.append(at)
        me = ended(me, due, at)
    gaps = {(b - a).total_seconds() / 3600 for a, b in pairwise(runs)}
    assert len({run.astimezone(ZoneInfo(zone)).date() for run in runs}) == len(runs)
    assert min(gaps) >= 22.5
    assert max(gaps) <= 25.5


def test_cron_slots_stay_where_they_were_written_after_equal_failures():
    """Five-minute cron runs every five minutes, however often it fails in the same way: only an interval backs off."""
    of = spec(schedule={"cron": "*/5 * * * *"})
    me, at, gaps = probe(of), NOON, []
    for _ in range(7):
        me = first(me, at, refused(of, Reason.RELAY_DENIED, Stage.GREETING))
        following = schedule.next_run(me, at)
        gaps.append((following - at).total_seconds() / 60)
        at = following
    assert gaps == [5] * 7
    assert schedule.effective_interval(of, me.status, at) == 300


def test_a_changed_schedule_is_obeyed_from_the_last_run_on():
    """24 h → 5 min runs within 7.5 min of now; 5 min → 24 h within 36 h: no slot of the old grid holds the new one up."""
    slow, fast = spec(schedule={"interval": "24h"}), spec(schedule={"interval": "5m"})
    me = first(probe(slow))
    now = NOON + timedelta(hours=10)
    quick = msgspec.structs.replace(me, spec=fast, generation=2)
    assert schedule.next_run(quick, now) <= now + timedelta(minutes=5)
    back = msgspec.structs.replace(first(probe(fast)), spec=slow, generation=2)
    assert timedelta(hours=12) <= schedule.next_run(back, NOON) - NOON <= timedelta(hours=36)


def test_a_clock_set_back_neither_stalls_nor_repeats_in_a_row():
    """After a jump of a year into the past, runs go on with the interval, and their results are taken."""
    me = first(probe())
    me = first(me, schedule.next_run(me, NOON))
    at = NOON - timedelta(days=365)
    following = schedule.next_run(me, at)
    assert following - at <= HALF_HOUR
    me = ended(me, schedule.due(me, following), following)
    assert me.status.last_run.slot == int(following.timestamp())
    assert schedule.next_run(me, following) - following == HALF_HOUR


@pytest.mark.parametrize("how", [{"interval": "30m"}, {"cron": "*/30 * * * *"}, {"once": True}])
def test_a_restart_after_hours_repeats_nothing_and_is_not_overdue(how):
    """Hours after the Job and its pod are gone, a restarted operator owes no old run and reports none overdue."""
    for trigger in (None, "now-value"):
        me = first(probe(spec(schedule=how), run_now=trigger))
        down = NOON + timedelta(hours=3, minutes=20, seconds=7)
        due = schedule.due(me, down)
        assert due is None or (due.run.trigger.startswith("slot:") and down - due.since <= timedelta(minutes=15))
        expected = schedule.expected(me, down, opened=down)
        assert (expected is None) is ("once" in how)
        assert expected is None or down <= expected <= down + HALF_HOUR


def test_overdue_grows_where_no_run_ends():
    """What was due stays due in the metric while no answer comes: for a slot, a first run, and through Errors."""
    me = first(probe())
    slot = schedule.next_run(me, NOON)
    assert schedule.expected(me, slot + timedelta(hours=5), opened=NOON) == slot
    waiting = probe(created=NOON)
    assert schedule.expected(waiting, NOON + timedelta(hours=5), opened=NOON - HALF_HOUR) == NOON
    failing = first(probe(), result=error(Reason.IMAGE_PULL_FAILED))
    later = failing
    for n in range(1, 9):
        at = schedule.next_run(later, NOON + timedelta(minutes=n))
        later = ended(later, schedule.due(later, at), at, error(Reason.IMAGE_PULL_FAILED))
    assert schedule.expected(later, NOON + timedelta(hours=5), opened=NOON) == NOON


def test_a_changed_spec_waits_from_its_announcement_on():
    """Weeks after its making a probe with a new spec is overdue since the new spec was seen, not since its making."""
    me = msgspec.structs.replace(first(probe()), spec=spec(port=25), generation=2)
    later = NOON + timedelta(days=20)
    assert schedule.expected(me, later, opened=NOON) == later
    me = msgspec.structs.replace(me, status=running(me.status, me.spec, generation=2, now=later))
    assert schedule.expected(me, later + HALF_HOUR, opened=NOON) == later


def test_a_resumed_probe_is_not_overdue():
    """Days of suspension are no lateness: the end of it starts the expectation anew."""
    me = first(probe())
    later = NOON + timedelta(days=5)
    off = msgspec.structs.replace(me, spec=spec(suspend=True), generation=2)
    assert schedule.refold_due(off)
    off = msgspec.structs.replace(off, status=refold(me.status, off.spec, generation=2, now=later))
    assert schedule.expected(off, later, opened=NOON) is None
    on = msgspec.structs.replace(off, spec=spec(), generation=3)
    assert schedule.refold_due(on)
    status = schedule.stamp(on, refold(off.status, on.spec, generation=3, now=later), later)
    on = msgspec.structs.replace(on, status=status)
    assert not schedule.refold_due(on)
    assert schedule.expected(on, later, opened=NOON) >= later - timedelta(minutes=15)


def test_an_active_run_is_superseded_only_by_what_a_session_depends_on():
    """Another host ends an active run; suspend and another schedule let it finish."""
    me = probe()
    run = schedule.due(me, NOON).run
    for change, dropped in (
        ({"suspend": True}, False),
        ({"schedule": {"interval": "1h"}}, False),
        ({"host": "other.example.com"}, True),
    ):
        assert schedule.superseded(msgspec.structs.replace(me, spec=spec(**change), generation=2), run) is dropped
    assert schedule.superseded(msgspec.structs.replace(me, spec=None), run)


STEPS = st.lists(
    st.tuples(
        st.integers(1, 4000),  # seconds until the operator looks again: it may have been away
        st.sampled_from(["Passed", "Failed", "Error"]),
        st.integers(1, 80),  # seconds that the run takes
        st.sampled_from(["told", "lost answer", "killed"]),
    ),
    min_size=10,
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(
    steps=STEPS,
    how=st.sampled_from([{"interval": "1m"}, {"interval": "7m"}, {"interval": "30m"}, {"cron": "*/10 * * * *"}]),
    uid=st.uuids().map(str),
)
def test_whenever_it_is_killed_each_run_happens_at_most_once_and_none_in_time_is_missed(steps, how, uid):
    """Over restarts at any moment no run name comes twice with an answer, and a slot that is not late is due."""
    me, now, answered = probe(spec(schedule=how), uid=uid), NOON, []
    for wait, outcome, takes, fate in steps:
        following = schedule.next_run(me, now)
        now += timedelta(seconds=wait)
        due = schedule.due(me, now)
        if following <= now and now - following <= timedelta(seconds=25):
            assert due is not None, "a slot that is not late was missed"
        if due is None:
            continue
        # What is asked again after a kill before the result was folded is the same Job: the name collides.
        if fate != "told":
            again = schedule.due(me, now + timedelta(seconds=1))
            assert again is None or again.run == due.run or due.since != again.since
        name = (due.run.trigger, due.run.generation, due.run.attempt)
        assert name not in answered
        answered.append(name)
        now += timedelta(seconds=takes)
        made = {
            "Passed": passed(me.spec, now),
            "Failed": refused(me.spec, Reason.GREETING_REJECTED, Stage.GREETING, now),
            "Error": error(Reason.POD_LOST, now),
        }[outcome]
        me = ended(me, due, now, made)
        if fate == "lost answer":
            known = fold(me.status, me.spec, generation=1, finished=Finished(run=due.run, result=made), now=now)
            assert known is me.status
        assert me.status.last_run.outcome is Outcome(outcome)
        assert schedule.due(me, now) is None or schedule.due(me, now).run != due.run


def test_a_login_spec_of_the_helpers_is_used():
    """A probe with a login follows the same slots as one without."""
    me = first(probe(login_spec()), result=bad_login(login_spec()))
    assert schedule.next_run(me, NOON) == schedule.next_run(first(probe()), NOON)
    assert finished(me.spec, passed(me.spec)).run.trigger == "slot:0"
