"""Events on transitions, never on repetition: what changed, for whoever reads ``kubectl describe``. Pure.

Our sentences are in the spec's language; ProbeFailed ends with the advice, as much of it as an event holds.

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
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from smtpprobe.advice import OWNERS, Lang
from smtpprobe.counsel import lang_of
from smtpprobe.refusals import of_target
from smtpprobe.resource import GROUP, VERSION, Condition, Status
from smtpprobe.vocabulary import ConditionStatus, ConditionType, Outcome, Owner, Reason
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
    lang = lang_of(probe.spec) if probe.spec else "en"
    found = (*_outcome(before, after, lang), *_login(before, after, lang), *_egress(before, after, lang))
    return tuple(_draft(probe, event) for event in (*found, *_spec(before, after)))


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


class _Event(NamedTuple):
    type: str
    reason: str
    action: str
    note: str
    advice: str = ""


_ONE_LOGIN = "kubectl annotate smtpprobe NAME smtpprobe.dev/run-now=$(date +%s) --overwrite"
_WORDS: dict[Lang, dict[str, str]] = {
    "en": {
        "stage": " at stage {stage}{code}",
        "owner": " ({owner} must act)",
        "recovered": "passed again: {text}",
        "resumed": "sessions take place again: {text}",
        "paused": "no more logins after {count} refused ({reason}): change the Secret, or allow one login with "
        + _ONE_LOGIN,
        "moved": "the server saw {new}; before it saw {old}",
    },
    "ko": {
        "stage": ", {stage} 단계{code}",
        "owner": " (조치할 사람: {owner})",
        "recovered": "다시 통과했습니다: {text}",
        "resumed": "다시 실행됩니다: {text}",
        "paused": "로그인이 {count}번 거절되어({reason}) 더 보내지 않습니다. Secret을 바꾸거나 로그인 한 번을 "
        "다음 명령으로 허용해 주십시오: " + _ONE_LOGIN,
        "moved": "서버가 본 주소가 바뀌었습니다: {old} → {new}",
    },
}


def _outcome(before: Status, after: Status, lang: Lang) -> tuple[_Event, ...]:
    last, previous = after.last_run, before.last_run
    if last is None or last == previous:
        return ()
    was_error = previous is not None and previous.outcome is Outcome.ERROR
    if last.outcome is Outcome.ERROR:
        if was_error and previous and (previous.reason, previous.spec_digest) == (last.reason, last.spec_digest):
            return ()
        return (_Event(WARNING, "ProbeError", "Run", f"{last.reason}: {last.message or ''}"),)
    found: list[_Event] = []
    words = _WORDS[lang]
    old, new = _answer(before), _answer(after)
    text = _text(after, ConditionType.READY) or (after.locations[0].reason or "" if after.locations else "")
    if last.outcome is Outcome.FAILED and (old is None or old != new or _spec_changed(before, after)):
        code = f" {after.reply_code}" if after.reply_code else ""
        stage = words["stage"].format(stage=after.failed_stage, code=code) if after.failed_stage else ""
        owner = words["owner"].format(owner=OWNERS[lang][Owner(after.advice.owner)]) if after.advice else ""
        advice = after.advice.text if after.advice else ""
        found.append(_Event(WARNING, "ProbeFailed", "Run", f"{new}{stage}{owner}: {text}", advice))
    if last.outcome is Outcome.PASSED and before.consecutive_failures:
        found.append(_Event(NORMAL, "ProbeRecovered", "Run", words["recovered"].format(text=text)))
    elif was_error and (old is None or old == new):
        found.append(_Event(NORMAL, "ProbeResumed", "Run", words["resumed"].format(text=text)))
    return tuple(found)


def _login(before: Status, after: Status, lang: Lang) -> tuple[_Event, ...]:
    new = after.auth
    old = of_target(before.auth, new.target) if new.target else before.auth
    found: list[_Event] = []
    if new.refused and new.fingerprint is None:
        return ()  # a pod was lost and perhaps a login with it: ProbeError tells it
    if new.refused and new.last_attempt != old.last_attempt and (not old.refused or old.reason != new.reason):
        found.append(_Event(WARNING, "AuthenticationRejected", "Login", f"{new.reason}: {new.message or ''}"))
    if new.paused and not old.paused:
        text = _WORDS[lang]["paused"].format(count=new.refused, reason=new.reason)
        found.append(_Event(WARNING, "LoginPaused", "Login", text))
    return tuple(found)


def _egress(before: Status, after: Status, lang: Lang) -> tuple[_Event, ...]:
    found: list[_Event] = []
    old, new = _condition(before, ConditionType.EGRESS_AUTHORIZED), _condition(after, ConditionType.EGRESS_AUTHORIZED)
    if new and new.status is ConditionStatus.FALSE and (old is None or old.status is not ConditionStatus.FALSE):
        found.append(_Event(WARNING, "EgressNotAuthorized", "Run", f"{new.reason}: {new.message}"))
    known = {seen.ip for seen in before.egress.addresses}
    fresh = [seen.ip for seen in after.egress.addresses if seen.ip not in known]
    if known and fresh:
        text = _WORDS[lang]["moved"].format(new=", ".join(fresh), old=before.egress.addresses[0].ip)
        found.append(_Event(NORMAL, "EgressIPChanged", "Run", text))
    return tuple(found)


def _spec(before: Status, after: Status) -> tuple[_Event, ...]:
    old, new = _condition(before, ConditionType.ACCEPTED), _condition(after, ConditionType.ACCEPTED)
    invalid = new is not None and new.reason == Reason.SPEC_INVALID and after.last_run == before.last_run
    if new and invalid and (old is None or (old.reason, old.message) != (new.reason, new.message)):
        return (_Event(WARNING, "SpecInvalid", "Validate", new.message),)
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


def _draft(probe: Probe, event: _Event) -> EventDraft:
    note = " ".join(event.note.split())
    note = note if len(note.encode()) <= MOST_CHARS else note.encode()[: MOST_CHARS - 3].decode(errors="ignore") + "..."
    # Without the advice, which names the time of its run: the same failure again is the same event.
    mark = hashlib.sha256(f"{probe.uid}\n{event.reason}\n{note}".encode()).hexdigest()[:16]
    name = f"{probe.name[:200].rstrip('.-')}.{mark}"
    return EventDraft(name, event.type, event.reason, event.action, _advised(note, event.advice))


def _advised(note: str, advice: str) -> str:
    """Append as many whole sentences of the advice as an event's note holds."""
    told = note.rstrip(". ")
    for sentence in re.split(r"(?<=[.!?])\s+", advice):
        longer = f"{told}{'' if told.endswith(('.', '!', '?')) else '.'} {sentence}"
        if len(longer.encode()) > MOST_CHARS:
            break
        told = longer
    return told if advice else note


def _micro(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
