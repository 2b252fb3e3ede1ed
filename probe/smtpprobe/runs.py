"""What a status remembers of runs: the last, those known, what they add to history and addresses. Pure."""

import hashlib
from datetime import datetime, timedelta
from typing import Any

import msgspec

from smtpprobe.evidence import failing, reason_of
from smtpprobe.model import ProbeResult, Value
from smtpprobe.resource import (
    EgressSpec,
    EgressStatus,
    HistoryEntry,
    LastRun,
    LocationStatus,
    RunRef,
    Schedule,
    SeenAddress,
    Spec,
    Status,
)
from smtpprobe.vocabulary import Language, Note, Outcome

KEPT_ADDRESSES = 8
CLOCK_SKEW = timedelta(minutes=5)


class Finished(Value, frozen=True, kw_only=True):
    """A run that ended, and where it ran. For one that could not run or be read the result has outcome Error."""

    run: RunRef
    result: ProbeResult
    node: str | None = None
    zone: str | None = None
    pod: str | None = None


def run_digest(spec: Spec) -> str:
    """Mark what a session depends on: the spec without suspend, schedule, expectedCIDRs, language (16 hex digits)."""
    relevant = msgspec.structs.replace(
        spec,
        suspend=False,
        schedule=Schedule(),
        egress=msgspec.structs.replace(spec.egress, expected_cidrs=()),
        language=Language.EN,
    )
    if relevant.egress == EgressSpec():
        relevant = msgspec.structs.replace(relevant, egress=EgressSpec())
    return hashlib.sha256(msgspec.json.encode(relevant, order="deterministic")).hexdigest()[:16]


def needs_run(spec: Spec, status: Status) -> bool:
    """Whether no finished run has judged this spec yet (status.lastRun.specDigest)."""
    return status.last_run is None or status.last_run.spec_digest != run_digest(spec)


def anew(status: Status, digest: str, at: datetime) -> Status:
    """Begin outage, addresses, certificates anew where the last answer was for another spec, perhaps of another host.

    ``consecutive_failures`` runs on: it counts how long this SmtpProbe has not passed, and alerts hang on it; a spec
    that is edited while it fails must not silence them.
    """
    if all(known.spec_digest == digest for known in status.locations):
        return status
    end = at.replace(microsecond=0)
    outages = tuple(msgspec.structs.replace(row, until=row.until or max(end, row.since)) for row in status.outages)
    return msgspec.structs.replace(status, egress=EgressStatus(), certificates=(), outages=outages)


def is_known(status: Status, run: RunRef, result: ProbeResult, *, now: datetime | None = None) -> bool:
    """Whether this run was folded before (a restart lists pods again): folding it once more changes nothing.

    With ``now`` a last slot in the future hides no earlier one: the clock was set back since.
    """
    last = status.last_run
    if last is None:
        return False
    if (last.trigger, last.generation) == (run.trigger, run.generation):
        return run.attempt <= last.attempt
    if run.generation < last.generation:
        return True
    slot = slot_of(run.trigger)
    if slot is not None:
        ahead = now is not None and last.slot is not None and last.slot > (now + CLOCK_SKEW).timestamp()
        return last.slot is not None and slot < last.slot and not ahead
    if run.trigger in ("slot:0", "once") and run.spec_digest and run.spec_digest == last.spec_digest:
        return True
    if any((e.trigger, e.generation, e.attempt) == (run.trigger, run.generation, run.attempt) for e in status.history):
        return True
    return last.finished_at is not None and result.finished_at < last.finished_at - CLOCK_SKEW


def slot_of(trigger: str) -> int | None:
    """Return the unix seconds of a scheduled run's slot; None for runs outside the slots."""
    kind, _, number = trigger.partition(":")
    return int(number) if kind == "slot" and number.isdecimal() and int(number) > 0 else None


def last_run_after(status: Status, finished: Finished, digest: str, at: datetime, now: datetime) -> LastRun:
    run, result, last = finished.run, finished.result, status.last_run
    before = last if last and last.spec_digest == digest else None
    error = result.outcome is Outcome.ERROR
    in_row = before is not None and before.outcome is Outcome.ERROR
    return LastRun(
        trigger=run.trigger,
        generation=run.generation,
        slot=slot_of(run.trigger),
        attempt=run.attempt,
        outcome=result.outcome,
        started_at=min(result.started_at, now).replace(microsecond=0),
        finished_at=at,
        spec_digest=digest,
        equal_failures=_equal_failures(status, before, finished, digest),
        error_since=((before.error_since if before and in_row else None) or at) if error else None,
        reason=reason_of(result) if error else None,
        message=result.message if error else None,
    )


def _equal_failures(status: Status, before: LastRun | None, finished: Finished, digest: str) -> int:
    """Count the failures in a row that are alike; an Error between them counts for nothing."""
    result, asked = finished.result, finished.run.trigger.startswith("now:")
    count = before.equal_failures if before and not asked else 0
    if result.outcome is Outcome.ERROR:
        return count
    if result.outcome is Outcome.PASSED:
        return 0
    answer: LocationStatus | None = next((known for known in status.locations if known.spec_digest == digest), None)
    alike = answer is not None and answer.reason == reason_of(result) and _stage(answer) == result.stage
    return count + 1 if alike else 1


def _stage(location: LocationStatus) -> str | None:
    evidence: dict[str, Any] = location.evidence or {}
    stage = evidence.get("stage")
    return stage if isinstance(stage, str) else None


def history_entry(finished: Finished, at: datetime) -> HistoryEntry:
    run, result = finished.run, finished.result
    entry = failing(result)
    return HistoryEntry(
        at=at,
        outcome=result.outcome,
        reason=reason_of(result),
        trigger=run.trigger,
        stage=str(result.stage) if result.stage else None,
        code=entry.reply.code if entry and entry.reply else None,
        ms=max(0, round((result.finished_at - result.started_at).total_seconds() * 1000)),
        generation=run.generation,
        attempt=run.attempt,
    )


def flapped(known: tuple[SeenAddress, ...], result: ProbeResult, node: str | None) -> ProbeResult:
    """Return an answer with the note EgressFlapped where its node's address is one from before the last one again.

    ``known``: before this answer. A changed address alone is no flap, and other nodes may well have others.
    """
    mine = [seen.ip for seen in known if node is not None and seen.node == node]
    now = next((address.ip for address in result.egress.addresses if address.rank.startswith("A")), None)
    if now not in mine[1:]:
        return result
    return msgspec.structs.replace(result, notes=tuple(dict.fromkeys((*result.notes, Note.EGRESS_FLAPPED))))


def addresses_after(
    known: tuple[SeenAddress, ...], result: ProbeResult, finished: Finished, at: datetime
) -> tuple[SeenAddress, ...]:
    """Put the addresses of an answer first; what only our own socket says is no egress address."""
    new: list[SeenAddress] = []
    before = {seen.ip: seen for seen in known}
    for address in result.egress.addresses:
        if not address.rank.startswith("A") or any(seen.ip == address.ip for seen in new):
            continue
        old = before.get(address.ip)
        new.append(
            SeenAddress(
                ip=address.ip,
                family=address.family,
                rank=address.rank,
                method=str(address.method),
                first_seen=old.first_seen if old else at,
                last_seen=at,
                count=old.count + 1 if old else 1,
                node=finished.node,
                zone=finished.zone,
            )
        )
    fresh = {seen.ip for seen in new}
    return (*new, *(seen for seen in known if seen.ip not in fresh))[:KEPT_ADDRESSES]
