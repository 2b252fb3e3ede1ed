"""Fold what happened into a status: pure and whole, nothing of an old verdict beside a new one.

A status is built from a few remembered facts (last answer, last run, login pause, history) and the spec of now; its
conditions follow from them alone, so that a suspension, its end or another schedule shows what a run would show.

====================  ==============================  ==============  ============  ==============================
state                 Ready                           Reconciling     Stalled       mail and egress conditions
====================  ==============================  ==============  ============  ==============================
answer: Passed        True/Succeeded                  False           False         of this answer (``conditions``)
answer: Failed        False/verdict                   False           False         of this answer
Error, user's matter  False/its reason                False           True/reason   of the last answer (note)
other Error           Unknown/its reason              True until the  False         of the last answer (note)
                                                      first answer
running, new spec     Unknown/Running                 True/Running    False         Unknown/Running
suspended             Unknown/Suspended               False           False         of the last answer (note)
spec invalid          False/SpecInvalid               False           True          Unknown/NotReached
====================  ==============================  ==============  ============  ==============================

Note: where no answer is for this spec, these are Unknown/Pending. *Answer* is a run with outcome Passed or Failed for
this very spec (``run_digest``). The user's matter are SpecInvalid, SecretNotFound, SecretKeyMissing, HostNotAllowed.
An Error keeps everything that the last answer said (lastRunTime is the answer's), counts as no failure, and is the
newest line of the history. Advice is that of the present reason.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from smtpprobe.advice import MAX_CHARS, cut
from smtpprobe.conditions import Verdict, Verdicts, accepted, judge, timed, unanswered
from smtpprobe.counsel import advice_for
from smtpprobe.evidence import failing, location_of, outages_after, result_of
from smtpprobe.found import after_run as found_after, as_found
from smtpprobe.issuers import remember
from smtpprobe.memory import experiments_after
from smtpprobe.model import ProbeResult
from smtpprobe.refusals import after_run
from smtpprobe.resource import Advice, AuthPause, Condition, EgressStatus, LastRun, Spec, Status
from smtpprobe.runs import (
    Finished,
    addresses_after,
    anew,
    flapped,
    history_entry,
    is_known,
    last_run_after,
    needs_run,
    run_digest,
)
from smtpprobe.spec import Problem
from smtpprobe.trim import limit
from smtpprobe.vocabulary import ConditionStatus, ConditionType, EgressVerdict, Outcome, Reason, StateReason

__all__ = [
    "Finished",
    "count_login",
    "fold",
    "invalid",
    "limit",
    "needs_run",
    "refold",
    "run_digest",
    "running",
    "suspended",
]

DEFAULT_LOCATION = "default"
KEPT = 10
USERS_MATTER = frozenset(
    {Reason.SPEC_INVALID, Reason.SECRET_NOT_FOUND, Reason.SECRET_KEY_MISSING, Reason.HOST_NOT_ALLOWED}
)
_VERDICTS = {ConditionStatus.TRUE: EgressVerdict.AUTHORIZED, ConditionStatus.FALSE: EgressVerdict.NOT_AUTHORIZED}


def fold(
    status: Status,
    spec: Spec,
    *,
    generation: int,
    finished: Finished,
    now: datetime,
    next_run: datetime | None = None,
    helo: str | None = None,
    shared: Sequence[AuthPause] = (),
) -> Status:
    """Return the status after a finished run.

    A known run returns ``status`` itself; a superseded one (another spec digest) only counts a refused login, and so
    does one that was given up before its pod reported.
    ``shared`` are the ``status.auth`` of the siblings (same namespace, Secret and host): a run that skipped AUTH for a
    sibling's refusal remembers it. ``next_run`` may be None: ``schedule.stamp`` sets it from the folded status.
    """
    run, result = finished.run, finished.result
    digest = run_digest(spec)
    if is_known(status, run, result, now=now):
        late = _uncounted(status, finished, digest, now)
        return count_login(status, spec, result, now=now, shared=shared) if late else status
    if run.spec_digest not in ("", digest):
        return count_login(status, spec, result, now=now, shared=shared)
    at = min(result.finished_at, now).replace(microsecond=0)
    status = anew(status, digest, at)
    last = last_run_after(status, finished, digest, at, now)
    if result.outcome is not Outcome.ERROR:
        status, result = _answered(status, finished, digest, at, now)
    discovery, tls_seen = found_after(status, spec, result, generation=generation, at=at)
    handled = run.trigger.removeprefix("now:") if run.trigger.startswith("now:") else status.last_handled_run_now
    core = Status(
        observed_generation=generation,
        last_run_time=status.last_run_time,
        next_run_time=next_run,
        consecutive_failures=status.consecutive_failures,
        last_run=last,
        last_handled_run_now=handled,
        auth=after_run(status.auth, spec, result, at=at, shared=shared),
        discovery=discovery,
        tls_seen=tls_seen,
        egress=status.egress,
        certificates=status.certificates,
        experiments=experiments_after(status.experiments, result, digest, at),
        locations=status.locations,
        history=(history_entry(finished, at), *status.history)[:KEPT],
        outages=status.outages,
    )
    return _concluded(core, spec, generation=generation, now=now, before=status.conditions, helo=helo)


def _answered(
    status: Status, finished: Finished, digest: str, at: datetime, now: datetime
) -> tuple[Status, ProbeResult]:
    """Take in what a session said, and what earlier ones make of it; an Error leaves all of this as it was."""
    addresses = status.egress.addresses
    result = flapped(addresses, finished.result, finished.node)
    certificates, result = remember(status.certificates, result, finished.node, at)
    location = location_of(
        msgspec.structs.replace(result, finished_at=min(result.finished_at, now)),
        name=DEFAULT_LOCATION,
        node=finished.node,
        zone=finished.zone,
        pod=finished.pod,
        spec_digest=digest,
    )
    failed = result.outcome is Outcome.FAILED
    known = msgspec.structs.replace(
        status,
        last_run_time=at,
        consecutive_failures=status.consecutive_failures + 1 if failed else 0,
        egress=EgressStatus(addresses=addresses_after(addresses, result, finished, at)),
        certificates=certificates,
        locations=(location,),
        outages=outages_after(status.outages, location, result),
    )
    return known, result


def running(status: Status, spec: Spec, *, generation: int, now: datetime) -> Status:
    """Say that the first run of a generation is under way: Ready and the mail conditions Unknown/Running."""
    text = "the first run with this spec is under way"
    verdicts = unanswered(spec, StateReason.RUNNING, text)
    verdicts |= {
        ConditionType.READY: Verdict(ConditionStatus.UNKNOWN, StateReason.RUNNING, text),
        ConditionType.ACCEPTED: accepted(spec),
        ConditionType.RECONCILING: Verdict(ConditionStatus.TRUE, StateReason.RUNNING, text),
        ConditionType.STALLED: _no(),
    }
    core = _without_verdict(anew(status, run_digest(spec), now), generation)
    return limit(
        msgspec.structs.replace(core, conditions=timed(status.conditions, verdicts, generation=generation, now=now))
    )


def invalid(status: Status, *, generation: int, problems: Sequence[Problem], now: datetime) -> Status:
    """Say that the spec cannot be used: Accepted and Ready False/SpecInvalid, Stalled True, no run."""
    text = "; ".join(f"{problem.field}: {problem.message}" for problem in problems) or "the spec cannot be used"
    refused = Verdict(ConditionStatus.FALSE, Reason.SPEC_INVALID, text)
    kept = [known.type for known in status.conditions if known.type not in _ALWAYS]
    verdicts: Verdicts = {
        kind: Verdict(ConditionStatus.UNKNOWN, StateReason.NOT_REACHED, "no session: the spec cannot be used")
        for kind in kept
    }
    verdicts |= {
        ConditionType.READY: refused,
        ConditionType.ACCEPTED: refused,
        ConditionType.RECONCILING: _no(),
        ConditionType.STALLED: refused._replace(status=ConditionStatus.TRUE),
    }
    core = msgspec.structs.replace(
        _without_verdict(status, generation), advice=Advice(owner="app developer", text=cut(text, MAX_CHARS))
    )
    return limit(
        msgspec.structs.replace(core, conditions=timed(status.conditions, verdicts, generation=generation, now=now))
    )


def refold(
    status: Status,
    spec: Spec,
    *,
    generation: int,
    now: datetime,
    next_run: datetime | None = None,
    helo: str | None = None,
) -> Status:
    """Judge the last answer again after a change that needs no run: suspend, schedule, expectedCIDRs, language.

    Covers suspension and its end. A back-off of the interval begins anew, as somebody changed the spec.
    """
    status = anew(status, run_digest(spec), now)
    last = status.last_run
    if last is not None and generation != status.observed_generation:
        last = msgspec.structs.replace(last, equal_failures=min(last.equal_failures, 1))
    core = msgspec.structs.replace(
        _without_verdict(status, generation),
        next_run_time=next_run,
        last_run=last,
        last_run_time=status.last_run_time,
        consecutive_failures=status.consecutive_failures,
    )
    return _concluded(core, spec, generation=generation, now=now, before=status.conditions, helo=helo)


def suspended(status: Status, spec: Spec, *, generation: int, now: datetime) -> Status:
    """``refold`` by its other name, for a spec with ``suspend: true``."""
    return refold(status, spec, generation=generation, now=now)


def count_login(
    status: Status, spec: Spec, result: ProbeResult, *, now: datetime, shared: Sequence[AuthPause] = ()
) -> Status:
    """Count the login of a result that is dropped otherwise (superseded generation, deleted Job)."""
    if not (result.auth.refused or result.auth.succeeded):
        return status
    at = min(result.finished_at, now).replace(microsecond=0)
    return msgspec.structs.replace(status, auth=after_run(status.auth, spec, result, at=at, shared=shared))


def _uncounted(status: Status, finished: Finished, digest: str, now: datetime) -> bool:
    """Whether a known run's login was refused and not counted: it was given up as an Error, or superseded and slow."""
    run, result, ended = finished.run, finished.result, min(finished.result.finished_at, now).replace(microsecond=0)
    counted = (status.auth.last_attempt, status.auth.last_success)
    if not result.auth.refused or result.auth.fingerprint is None or any(at and at >= ended for at in counted):
        return False
    if run.spec_digest not in ("", digest):
        # Ended beside the newest run, so it was never folded: folded ones ended before the next one began.
        last = status.last_run
        return last is not None and last.started_at is not None and result.finished_at >= last.started_at
    mark = (run.trigger, run.generation, run.attempt)
    return any((e.trigger, e.generation, e.attempt) == mark and e.outcome is Outcome.ERROR for e in status.history)


# ------------------------------------------------------------------------------------------------------- conclusions

_ALWAYS = (ConditionType.READY, ConditionType.ACCEPTED, ConditionType.RECONCILING, ConditionType.STALLED)


def _concluded(
    core: Status, spec: Spec, *, generation: int, now: datetime, before: Sequence[Condition], helo: str | None
) -> Status:
    """Draw everything from the remembered facts that follows from them, and cut to size."""
    digest = run_digest(spec)
    location = next((known for known in core.locations if known.spec_digest == digest), None)
    answer = result_of(location) if location else None
    last = core.last_run if core.last_run and core.last_run.spec_digest == digest else None
    error = last if last and last.outcome is Outcome.ERROR else None
    declared, spec = spec, as_found(spec, core.discovery)
    verdicts = judge(spec, answer, core.auth) if answer else unanswered(spec, StateReason.PENDING, _PENDING)
    verdicts |= _overall(spec, verdicts.get(ConditionType.READY), error)
    if verdicts[ConditionType.ACCEPTED].status is ConditionStatus.TRUE:
        verdicts[ConditionType.ACCEPTED] = accepted(declared, core.discovery)
    entry = failing(answer) if answer else None
    authorized = verdicts[ConditionType.EGRESS_AUTHORIZED].status
    passed = int(answer is not None and answer.outcome is Outcome.PASSED)
    return limit(
        msgspec.structs.replace(
            core,
            observed_generation=generation,
            conditions=timed(before, verdicts, generation=generation, now=now),
            summary=f"{passed}/{len(core.locations)}" if answer else None,
            failed_stage=str(answer.stage) if answer and answer.stage else None,
            reply_code=entry.reply.code if entry and entry.reply else None,
            advice=_advice(spec, answer, error, helo),
            egress=EgressStatus(
                verdict=_VERDICTS.get(authorized, EgressVerdict.UNKNOWN), addresses=core.egress.addresses
            ),
        )
    )


_PENDING = "no session has answered for this spec yet"


def _overall(spec: Spec, ready: Verdict | None, error: LastRun | None) -> Verdicts:
    """Return Ready, Accepted, Reconciling, Stalled; ``ready`` is that of the last answer for this spec."""
    answered = ready is not None
    found = {
        ConditionType.READY: ready or Verdict(ConditionStatus.UNKNOWN, StateReason.PENDING, _PENDING),
        ConditionType.ACCEPTED: accepted(spec),
        ConditionType.RECONCILING: _no() if answered else Verdict(ConditionStatus.TRUE, StateReason.PENDING, _PENDING),
        ConditionType.STALLED: _no(),
    }
    if error is not None:
        reason, text = error.reason or Reason.UNKNOWN, error.message or ""
        if reason in USERS_MATTER:
            found[ConditionType.READY] = Verdict(ConditionStatus.FALSE, reason, text)
            found[ConditionType.STALLED] = Verdict(ConditionStatus.TRUE, reason, text)
            found[ConditionType.RECONCILING] = _no()
            if reason == Reason.SPEC_INVALID:
                found[ConditionType.ACCEPTED] = Verdict(ConditionStatus.FALSE, reason, text)
        else:
            found[ConditionType.READY] = Verdict(ConditionStatus.UNKNOWN, reason, text)
            if not answered:
                found[ConditionType.RECONCILING] = Verdict(ConditionStatus.TRUE, reason, text)
    if spec.suspend:
        text = "spec.suspend is true: no runs; the other conditions are those of the last session"
        found[ConditionType.READY] = Verdict(ConditionStatus.UNKNOWN, StateReason.SUSPENDED, text)
        found[ConditionType.RECONCILING] = found[ConditionType.STALLED] = _no()
    return found


def _no() -> Verdict:
    return Verdict(ConditionStatus.FALSE, StateReason.SUCCEEDED, "")


def _without_verdict(status: Status, generation: int) -> Status:
    """Keep what is remembered, leave out everything that a verdict says."""
    return Status(
        observed_generation=generation,
        last_run_time=status.last_run_time,
        consecutive_failures=status.consecutive_failures,
        last_run=status.last_run,
        last_handled_run_now=status.last_handled_run_now,
        auth=status.auth,
        discovery=status.discovery,
        tls_seen=status.tls_seen,
        egress=EgressStatus(addresses=status.egress.addresses),
        certificates=status.certificates,
        experiments=status.experiments,
        locations=status.locations,
        history=status.history,
        outages=status.outages,
    )


def _advice(spec: Spec, answer: ProbeResult | None, error: LastRun | None, helo: str | None) -> Advice | None:
    if error is not None and error.reason in set(Reason):
        return advice_for(spec, Reason(error.reason), None, helo=helo)
    if answer is None or answer.verdict is None:
        return None
    return advice_for(spec, answer.verdict.reason, answer, helo=helo)
