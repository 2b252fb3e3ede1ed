"""Events on transitions, never on repetition: what changed, for whoever reads ``kubectl describe``. Pure.

======================  =======  ==================================================================================
reason                  type     when
======================  =======  ==================================================================================
ProbeFailed             Warning  a session was refused after one that passed, for another reason, or for a new spec
ProbeRecovered          Normal   a session passed after refused ones
ProbeError              Warning  a run could not take place, for a reason that the run before did not have
ProbeResumed            Normal   a run took place again
AuthenticationRejected  Warning  a login was refused, for the first time in a row or for another reason
LoginPaused             Warning  logins stop until the Secret changes or somebody asks for a run
EgressNotAuthorized     Warning  EgressAuthorized became False
EgressIPChanged         Normal   the server saw an address that no session of this probe had shown
SpecInvalid             Warning  the spec cannot be used
======================  =======  ==================================================================================
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from smtpprobe.refusals import of_target
from smtpprobe.resource import GROUP, VERSION, Condition, Status
from smtpprobe.vocabulary import ConditionStatus, ConditionType, Outcome, Reason
from smtpprobe_operator.registry import Probe

MOST_CHARS = 900
CONTROLLER = "smtpprobe.dev/operator"
NORMAL, WARNING = "Normal", "Warning"


class EventDraft(NamedTuple):
    """One event of events.k8s.io/v1; ``name`` is the same for the same text, so that repeats meet their first."""

    name: str
    type: str
    reason: str
    action: str
    note: str


def drafts(before: Status, after: Status, probe: Probe) -> tuple[EventDraft, ...]:
    """Return the events that the step from ``before`` to ``after`` deserves, mostly none."""
    found = (*_outcome(before, after), *_login(before, after), *_egress(before, after), *_spec(before, after))
    return tuple(_draft(probe, *event) for event in found)


def body(draft: EventDraft, probe: Probe, *, now: datetime, instance: str) -> dict[str, Any]:
    """Return the event to POST; 409 means that it happened before: patch it with ``repeated``."""
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": draft.name, "namespace": probe.namespace},
        "eventTime": _micro(now),
        "reportingController": CONTROLLER,
        "reportingInstance": instance[:128],
        "action": draft.action,
        "reason": draft.reason,
        "type": draft.type,
        "note": draft.note,
        "regarding": {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "SmtpProbe",
            "namespace": probe.namespace,
            "name": probe.name,
            "uid": probe.uid,
        },
    }


def repeated(existing: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Return the merge patch that counts one more: ``series.count`` and ``series.lastObservedTime``."""
    series = existing.get("series") or {}
    return {"series": {"count": max(1, int(series.get("count") or 1)) + 1, "lastObservedTime": _micro(now)}}


_Event = tuple[str, str, str, str]


def _outcome(before: Status, after: Status) -> tuple[_Event, ...]:
    last, previous = after.last_run, before.last_run
    if last is None or last == previous:
        return ()
    was_error = previous is not None and previous.outcome is Outcome.ERROR
    if last.outcome is Outcome.ERROR:
        if was_error and previous and (previous.reason, previous.spec_digest) == (last.reason, last.spec_digest):
            return ()
        return ((WARNING, "ProbeError", "Run", f"{last.reason}: {last.message or ''}"),)
    found: list[_Event] = []
    old, new = _answer(before), _answer(after)
    text = _text(after, ConditionType.READY) or (after.locations[0].reason or "" if after.locations else "")
    if last.outcome is Outcome.FAILED and (old is None or old != new or _spec_changed(before, after)):
        code = f" {after.reply_code}" if after.reply_code else ""
        stage = f" at stage {after.failed_stage}{code}" if after.failed_stage else ""
        owner = f" ({after.advice.owner} must act)" if after.advice else ""
        found.append((WARNING, "ProbeFailed", "Run", f"{new}{stage}{owner}: {text}"))
    if last.outcome is Outcome.PASSED and before.consecutive_failures:
        found.append((NORMAL, "ProbeRecovered", "Run", f"passed again: {text}"))
    elif was_error and (old is None or old == new):
        found.append((NORMAL, "ProbeResumed", "Run", f"sessions take place again: {text}"))
    return tuple(found)


def _login(before: Status, after: Status) -> tuple[_Event, ...]:
    new = after.auth
    old = of_target(before.auth, new.target) if new.target else before.auth
    found: list[_Event] = []
    if new.refused and new.fingerprint is None:
        return ()  # a pod was lost and perhaps a login with it: ProbeError tells it
    if new.refused and new.last_attempt != old.last_attempt and (not old.refused or old.reason != new.reason):
        found.append((WARNING, "AuthenticationRejected", "Login", f"{new.reason}: {new.message or ''}"))
    if new.paused and not old.paused:
        text = (
            f"no more logins after {new.refused} refused ({new.reason}): change the Secret, or allow one login with "
            "kubectl annotate smtpprobe NAME smtpprobe.dev/run-now=$(date +%s) --overwrite"
        )
        found.append((WARNING, "LoginPaused", "Login", text))
    return tuple(found)


def _egress(before: Status, after: Status) -> tuple[_Event, ...]:
    found: list[_Event] = []
    old, new = _condition(before, ConditionType.EGRESS_AUTHORIZED), _condition(after, ConditionType.EGRESS_AUTHORIZED)
    if new and new.status is ConditionStatus.FALSE and (old is None or old.status is not ConditionStatus.FALSE):
        found.append((WARNING, "EgressNotAuthorized", "Run", f"{new.reason}: {new.message}"))
    known = {seen.ip for seen in before.egress.addresses}
    fresh = [seen.ip for seen in after.egress.addresses if seen.ip not in known]
    if known and fresh:
        newest = before.egress.addresses[0].ip
        found.append((NORMAL, "EgressIPChanged", "Run", f"the server saw {', '.join(fresh)}; before it saw {newest}"))
    return tuple(found)


def _spec(before: Status, after: Status) -> tuple[_Event, ...]:
    old, new = _condition(before, ConditionType.ACCEPTED), _condition(after, ConditionType.ACCEPTED)
    invalid = new is not None and new.reason == Reason.SPEC_INVALID and after.last_run == before.last_run
    if new and invalid and (old is None or (old.reason, old.message) != (new.reason, new.message)):
        return ((WARNING, "SpecInvalid", "Validate", new.message),)
    return ()


def _answer(status: Status) -> str | None:
    """Return the reason of the last answer, ``Passed`` where it has none; None before the first."""
    if not status.locations:
        return None
    return status.locations[0].reason or str(Outcome.PASSED)


def _spec_changed(before: Status, after: Status) -> bool:
    return bool(before.locations) and before.locations[0].spec_digest != after.locations[0].spec_digest


def _condition(status: Status, kind: ConditionType) -> Condition | None:
    return next((known for known in status.conditions if known.type is kind), None)


def _text(status: Status, kind: ConditionType) -> str:
    known = _condition(status, kind)
    return known.message if known else ""


def _draft(probe: Probe, kind: str, reason: str, action: str, note: str) -> EventDraft:
    note = " ".join(note.split())
    note = note if len(note.encode()) <= MOST_CHARS else note.encode()[: MOST_CHARS - 3].decode(errors="ignore") + "..."
    mark = hashlib.sha256(f"{probe.uid}\n{reason}\n{note}".encode()).hexdigest()[:16]
    return EventDraft(f"{probe.name[:200].rstrip('.-')}.{mark}", kind, reason, action, note)


def _micro(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
