"""Results inside a status: one location's answer in full, outages with their first result, and the way back. Pure."""

from typing import Any

import msgspec

from smtpprobe.model import ProbeResult, Reply, StageResult, TlsFacts
from smtpprobe.resource import LocationStatus, Outage, StageStatus
from smtpprobe.vocabulary import Outcome, Stage, StageOutcome, StateReason

_APART = ("stages", "tls", "outcome")


def reason_of(result: ProbeResult) -> str:
    """Return the verdict's reason, ``Succeeded`` where there is none."""
    return str(result.verdict.reason) if result.verdict else str(StateReason.SUCCEEDED)


def failing(result: ProbeResult) -> StageResult | None:
    """Return the entry that ended the session: its stage's first that failed, or was skipped for a paused login."""
    entries = [entry for entry in result.stages if entry.stage is result.stage]
    for outcome in (StageOutcome.FAILED, StageOutcome.SKIPPED):
        for entry in entries:
            if entry.outcome is outcome:
                return entry
    return None


def location_of(
    result: ProbeResult, *, name: str, node: str | None, zone: str | None, pod: str | None, spec_digest: str
) -> LocationStatus:
    """Put an answer into a location: stages and TLS as fields that ``kubectl explain`` knows, the rest as evidence."""
    raw = _raw(result)
    return LocationStatus(
        name=name,
        outcome=result.outcome,
        finished_at=result.finished_at.replace(microsecond=0),
        node=node,
        zone=zone,
        pod=pod,
        spec_digest=spec_digest,
        reason=str(result.verdict.reason) if result.verdict else None,
        stages=tuple(_stage_status(entry) for entry in result.stages),
        tls=raw.get("tls"),
        evidence={key: value for key, value in raw.items() if key not in _APART},
    )


def result_of(location: LocationStatus) -> ProbeResult | None:
    """Return the result that a location holds, as far as it was not cut; None where it cannot be read."""
    try:
        rest = msgspec.convert(
            {
                "startedAt": location.finished_at,
                "finishedAt": location.finished_at,
                **(location.evidence or {}),
                "outcome": str(location.outcome),
            },
            ProbeResult,
            strict=False,
        )
        tls = msgspec.convert(location.tls, TlsFacts, strict=False) if location.tls else None
        stages = tuple(_stage_result(entry) for entry in location.stages)
    except (msgspec.ValidationError, ValueError):
        return None
    return msgspec.structs.replace(rest, stages=stages, tls=tls)


def outage_result(outage: Outage) -> ProbeResult | None:
    """Return the result of an outage's first failing run, where it is kept."""
    if outage.evidence is None:
        return None
    try:
        return msgspec.convert(outage.evidence.get("result"), ProbeResult, strict=False)
    except msgspec.ValidationError:
        return None


def outages_after(outages: tuple[Outage, ...], location: LocationStatus, result: ProbeResult) -> tuple[Outage, ...]:
    """Begin, continue or end a row of failed runs; ten are kept, the first result of the last three."""
    current = outages[0] if outages and outages[0].until is None else None
    if result.outcome is Outcome.PASSED:
        if current is None:
            return outages
        return (msgspec.structs.replace(current, until=location.finished_at), *outages[1:])
    if current is not None:
        return (msgspec.structs.replace(current, runs=current.runs + 1), *outages[1:])
    where = {"node": location.node, "zone": location.zone, "pod": location.pod}
    evidence = {key: value for key, value in where.items() if value} | {"result": _raw(result)}
    new = Outage(since=location.finished_at, reason=reason_of(result), evidence=evidence)
    rows = (new, *outages)[:10]
    return (*rows[:3], *(msgspec.structs.replace(row, evidence=None) for row in rows[3:]))


def _raw(result: ProbeResult) -> dict[str, Any]:
    """Return the JSON form; refused credentials' fingerprint and discovery have fields of their own in the status."""
    auth = msgspec.structs.replace(result.auth, salt=None, fingerprint=None)
    raw: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(result, auth=auth, discovery=None))
    return raw


def _stage_status(entry: StageResult) -> StageStatus:
    reply = entry.reply
    return StageStatus(
        stage=str(entry.stage),
        outcome=entry.outcome,
        after_tls=entry.after_tls,
        elapsed_ms=entry.elapsed_ms,
        code=reply.code if reply else None,
        enhanced=reply.enhanced if reply else None,
        text="\n".join(reply.lines) if reply and reply.lines else None,
        recipient=entry.recipient,
        detail=entry.detail,
    )


def _stage_result(entry: StageStatus) -> StageResult:
    lines = tuple(entry.text.split("\n")) if entry.text is not None else ()
    return StageResult(
        stage=Stage(entry.stage),
        outcome=entry.outcome,
        after_tls=entry.after_tls,
        elapsed_ms=entry.elapsed_ms,
        reply=None if entry.code is None else Reply(code=entry.code, enhanced=entry.enhanced, lines=lines),
        recipient=entry.recipient,
        detail=entry.detail,
    )
