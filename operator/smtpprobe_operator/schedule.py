"""When a probe runs: from spec, status and clock alone, so that a restart forgets nothing and repeats nothing.

=================  ===================================  ====================================================
run                trigger                              due
=================  ===================================  ====================================================
asked for          ``now:VALUE``                        at once, once for each new value of the annotation
first of a spec    ``slot:0`` (``once`` for that)       at once: no finished run has judged this spec
after an Error     as before, ``attempt`` raised        30 s, 2, 10, then 30 min later, or at the next slot
interval           ``slot:N``                           at N = hash(uid) + n intervals, spread evenly
cron               ``slot:N``                           at N by the clock of the time zone
=================  ===================================  ====================================================

A pod that was lost may have logged in, or sent the message of depth message: the next such run waits 15 minutes;
recipients that it may have named wait ten, from the second such run on.
A slot may be late by half an interval, at most an hour; an older one is passed over. After equal failures in a row an
interval doubles up to an hour (never below itself), until the spec changes, somebody asks for a run, or it passes;
cron slots stay where their owner wrote them.
"""

import hashlib
import math
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from smtpprobe import cron
from smtpprobe.refusals import next_login
from smtpprobe.resource import LastRun, RunRef, Spec, Status
from smtpprobe.spec import DEFAULT_INTERVAL, interval_seconds
from smtpprobe.status import needs_run, run_digest
from smtpprobe.vocabulary import ConditionStatus, ConditionType, Depth, Outcome, Reason
from smtpprobe_operator.registry import Probe

LATEST = timedelta(hours=1)
LONGEST_BACKOFF = 3600
ERROR_BACKOFF = (30, 120, 600, 1800)
MESSAGE_PAUSE = timedelta(minutes=15)
RECIPIENTS_PAUSE = timedelta(minutes=10)
MAY_HAVE_SENT = frozenset(
    {Reason.POD_LOST, Reason.OUT_OF_MEMORY, Reason.DEADLINE_EXCEEDED, Reason.RESULT_UNREADABLE, Reason.RESULT_LOST}
)
CLOCK_SLACK = timedelta(minutes=5)
FIRST = "slot:0"


class Due(NamedTuple):
    """A run to start now. ``since`` is when it became due, ``why`` a word for logs, ``skipped`` slots passed over."""

    run: RunRef
    since: datetime
    why: str
    skipped: int = 0


class _Planned(NamedTuple):
    at: datetime
    trigger: str
    why: str
    attempt: int = 0
    skipped: int = 0


def due(probe: Probe, now: datetime, *, active: bool = False) -> Due | None:
    """Return the run that ``probe`` owes now; None while one is active, its spec is invalid or it is suspended."""
    planned = None if active else _plan(probe, now)
    if planned is None or planned.at > now or probe.spec is None:
        return None
    run = RunRef(
        trigger=planned.trigger,
        generation=probe.generation,
        attempt=planned.attempt,
        spec_digest=run_digest(probe.spec),
    )
    return Due(run, planned.at, planned.why, planned.skipped)


def next_run(probe: Probe, now: datetime) -> datetime | None:
    """Return when the next run is due: ``now`` or earlier where one is due already, None where none will be."""
    planned = _plan(probe, now)
    return planned.at if planned else None


def expected(probe: Probe, now: datetime, *, opened: datetime) -> datetime | None:
    """Return when the next answer was or is due, for ``smtpprobe_next_run_timestamp_seconds``.

    In the past while none comes. ``opened`` is when this operator began to dispatch: nobody blames it for the time
    before, so that a restart raises no alert.
    """
    planned = _plan(probe, now)
    if planned is None or probe.spec is None:
        return None
    status, last = probe.status, probe.status.last_run
    if needs_run(probe.spec, status) or last is None:
        return max(opened, _waiting_since(probe, now))
    if last.outcome is Outcome.ERROR:
        return last.error_since or last.finished_at or planned.at
    if status.next_run_time is None:
        return planned.at
    if status.next_run_time >= opened:
        return status.next_run_time
    first = _plan(probe, opened)
    return max(first.at, opened) if first else None


def effective_interval(spec: Spec, status: Status, now: datetime) -> int | None:
    """Return the seconds between runs as they are now, back-off included; None for ``once``."""
    if spec.schedule.once:
        return None
    last = status.last_run
    if spec.schedule.cron:
        return _cron_gap(spec, _anchor(last, now) or now)
    base = interval_seconds(spec.schedule.interval or DEFAULT_INTERVAL)
    return base * _factor(base, last)


def superseded(probe: Probe, run: RunRef) -> bool:
    """Whether an active run asks what nobody wants to know any more: delete its Job, drop its result."""
    return probe.spec is None or (run.spec_digest != "" and run.spec_digest != run_digest(probe.spec))


def refold_due(probe: Probe) -> bool:
    """Whether the status lags behind a spec change that needs no run: write ``status.refold`` or ``status.invalid``."""
    if probe.status.observed_generation == probe.generation:
        return False
    return probe.spec is None or probe.spec.suspend or not needs_run(probe.spec, probe.status)


def stamp(probe: Probe, status: Status, now: datetime) -> Status:
    """Return ``status`` with the nextRunTime that this probe has with it."""
    planned = _plan(msgspec.structs.replace(probe, status=status), now)
    at = planned.at.replace(microsecond=0) if planned else None
    return msgspec.structs.replace(status, next_run_time=at)


def retry_after_error(attempt: int) -> timedelta:
    """Return 30 s, 2, 10, then always 30 min after the Error of attempt 0, 1, 2, 3 and more."""
    return timedelta(seconds=ERROR_BACKOFF[min(attempt, len(ERROR_BACKOFF) - 1)])


def run_now_token(value: str) -> str:
    """Return the annotation's value as status and Job carry it: itself, or a digest where it is long or odd."""
    if len(value) <= 63 and value.isascii() and value.isprintable():
        return value
    return "sha256-" + hashlib.sha256(value.encode(errors="surrogatepass")).hexdigest()[:16]


def _plan(probe: Probe, now: datetime) -> _Planned | None:
    spec, last = probe.spec, probe.status.last_run
    if spec is None or spec.suspend or probe.deleting:
        return None
    asked = run_now_token(probe.run_now) if probe.run_now else None
    fresh = asked is not None and asked != probe.status.last_handled_run_now
    if last is None or needs_run(spec, probe.status):
        return _Planned(now, f"now:{asked}" if fresh else "once" if spec.schedule.once else FIRST, "new spec")
    if fresh and not (last.outcome is Outcome.ERROR and last.trigger == f"now:{asked}"):
        return _Planned(now, f"now:{asked}", "run-now")
    slot = None if spec.schedule.once else _slot(spec, last, probe.uid, now)
    if last.outcome is not Outcome.ERROR:
        return slot
    retry_at = (last.finished_at or now) + retry_after_error(last.attempt)
    bars = (next_login(probe.status.auth, spec), _next_message(spec, last), _next_recipients(spec, last))
    earliest = max(filter(None, bars), default=None)
    retry_at = max(retry_at, earliest) if earliest else retry_at
    if slot and slot.at < retry_at and (earliest is None or slot.at >= earliest):
        return slot._replace(attempt=last.attempt + 1)
    return _Planned(retry_at, last.trigger, "retry", last.attempt + 1)


def _next_recipients(spec: Spec, last: LastRun) -> datetime | None:
    """Return when recipients may be named again after a second run in a row whose end nobody saw.

    Each may have had two refused (``plan.REFUSED_RECIPIENTS``); fail2ban bars an address for five in ten minutes.
    """
    unseen = spec.envelope is not None and last.reason in MAY_HAVE_SENT and last.attempt > 0
    return last.finished_at + RECIPIENTS_PAUSE if unseen and last.finished_at else None


def _next_message(spec: Spec, last: LastRun) -> datetime | None:
    """Return when another mail may be sent after a run whose end nobody saw: it may have sent one."""
    unseen = spec.depth is Depth.MESSAGE and last.reason in MAY_HAVE_SENT and last.finished_at is not None
    return last.finished_at + MESSAGE_PAUSE if unseen and last.finished_at else None


def _waiting_since(probe: Probe, now: datetime) -> datetime:
    """Return since when the present spec waits for its first answer: its announcement, or the probe's making."""
    status = probe.status
    if status.observed_generation < 1:
        return probe.created
    for condition in status.conditions:
        waits = condition.type is ConditionType.RECONCILING and condition.status is ConditionStatus.TRUE
        if waits and status.observed_generation == probe.generation:
            return condition.last_transition_time
    return now


def _slot(spec: Spec, last: LastRun, uid: str, now: datetime) -> _Planned | None:
    if spec.schedule.cron:
        return _cron_slot(spec, last, now)
    base = interval_seconds(spec.schedule.interval or DEFAULT_INTERVAL)
    step = base * _factor(base, last)
    offset = int.from_bytes(hashlib.sha256(uid.encode()).digest()[:8]) % base
    late = min(base / 2, LATEST.total_seconds())
    newest = now.timestamp() - late
    anchor = _anchor(last, now)
    # Half an interval of slack: the first slot after a run outside the grid is neither at once nor nearly two away.
    earliest = anchor.timestamp() + step - base / 2 if anchor else newest
    wanted = _ceil(earliest, base, offset)
    slot = _ceil(max(earliest, newest), base, offset)
    return _Planned(datetime.fromtimestamp(slot, UTC), f"slot:{slot}", "slot", skipped=(slot - wanted) // step)


def _cron_slot(spec: Spec, last: LastRun, now: datetime) -> _Planned | None:
    anchor = _anchor(last, now) or now - LATEST
    slot = _cron_after(spec, max(anchor, now - LATEST - timedelta(seconds=1)))
    skipped = 0
    while slot and slot <= now:
        following = _cron_after(spec, slot)
        if following is None or following > now:
            late = min((following - slot) / 2, LATEST) if following else LATEST
            if now - slot <= late:
                break
        skipped += 1
        slot = following
    if slot is None:
        return None
    return _Planned(slot, f"slot:{int(slot.timestamp())}", "slot", skipped=skipped)


def _cron_gap(spec: Spec, moment: datetime) -> int | None:
    first = _cron_after(spec, moment)
    second = _cron_after(spec, first) if first else None
    return int((second - first).total_seconds()) if first and second else None


def _cron_after(spec: Spec, moment: datetime) -> datetime | None:
    return cron.after(spec.schedule.cron or "", spec.schedule.time_zone, moment)


def _anchor(last: LastRun | None, now: datetime) -> datetime | None:
    """Return the moment from which the next slot is counted: the last slot, or the start of a run outside the slots."""
    if last is None:
        return None
    anchor = datetime.fromtimestamp(last.slot, UTC) if last.slot else last.started_at
    # A clock that was set back must not stop the probe until it has caught up.
    return anchor if anchor and anchor <= now + CLOCK_SLACK else None


def _factor(base: int, last: LastRun | None) -> int:
    doublings = max(0, last.equal_failures - 1) if last else 0
    return min(1 << min(doublings, 16), max(1, LONGEST_BACKOFF // base))


def _ceil(moment: float, step: int, offset: int) -> int:
    return math.ceil((moment - offset) / step) * step + offset
