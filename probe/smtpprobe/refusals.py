"""What a status remembers of logins: the count of refusals that pauses them, and what ends the pause (design §9).

A login counts as refused unless 235 came or the server called it temporary (``AuthFacts.refused``). Reasons that
another try makes worse (``REASONS[...].pause``) pause at once, others after two in a row, counted over all probes of
the namespace with the same Secret and host. A success, or changed credentials, begin anew.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from smtpprobe.model import ProbeResult
from smtpprobe.resource import AuthPause, Spec
from smtpprobe.vocabulary import REASONS, Outcome, Reason, Stage

REFUSALS_THAT_PAUSE = 2
REFUSALS_FOR_GOOD = 3


def login_target(spec: Spec) -> str | None:
    """Name the account that a spec logs in to, ``SECRET@HOST``; None without credentials."""
    if spec.credentials_secret_ref is None:
        return None
    return f"{spec.credentials_secret_ref.name}@{spec.host.lower().rstrip('.')}"


def after_run(
    pause: AuthPause, spec: Spec, result: ProbeResult, *, at: datetime, shared: Sequence[AuthPause] = ()
) -> AuthPause:
    """Return what is remembered after a run that ended ``at``.

    ``shared`` is what the siblings remember: it counts, and a run that skipped AUTH for it remembers it too, so that
    the pause outlives the sibling.
    """
    target = login_target(spec)
    if target is None:
        return AuthPause()
    if pause.target != target:
        pause = AuthPause(target=target)
    auth = result.auth
    if auth.succeeded:
        return AuthPause(target=target, last_success=at)
    if auth.refused:
        return _refused(pause, result, at, shared)
    if auth.paused:
        return _newest((pause, *valid(shared, target))) or pause
    return pause


def valid(records: Iterable[AuthPause], target: str) -> tuple[AuthPause, ...]:
    """Return the refusals of ``target`` that no later success of any of ``records`` has lifted."""
    known = [record for record in records if record.target == target]
    success = max((record.last_success for record in known if record.last_success), default=None)
    refused = [record for record in known if record.refused and record.last_attempt]
    return tuple(r for r in refused if success is None or (r.last_attempt is not None and r.last_attempt > success))


def total(records: Iterable[AuthPause]) -> int:
    """Count refused logins over records that may be copies of each other: one salt is one row of refusals."""
    rows: dict[str | None, AuthPause] = {}
    for record in records:
        known = rows.get(record.salt)
        if known is None or _when(record) > _when(known):
            rows[record.salt] = record
    return sum(record.refused for record in rows.values())


def _refused(pause: AuthPause, result: ProbeResult, at: datetime, shared: Sequence[AuthPause]) -> AuthPause:
    auth, reason, message = result.auth, Reason.UNKNOWN, result.message
    if result.outcome is Outcome.ERROR:
        message = f"AUTH was sent and no answer is known: {message}"
    elif result.verdict is not None and result.stage is Stage.AUTH:
        reason = result.verdict.reason
    changed = pause.salt is not None and pause.salt == auth.salt and pause.fingerprint != auth.fingerprint
    before = AuthPause(target=pause.target) if changed else pause
    # Another salt cannot be compared, so it counts as the same credentials: too careful rather than one login too many.
    record = AuthPause(
        target=pause.target,
        refused=before.refused + 1,
        reason=reason,
        message=message,
        last_attempt=at,
        salt=auth.salt,
        fingerprint=auth.fingerprint,
        last_success=before.last_success,
    )
    others = [] if changed else [other for other in valid(shared, pause.target or "") if other.salt != before.salt]
    paused = REASONS[reason].pause or total((record, *others)) >= REFUSALS_THAT_PAUSE
    since = (before.since or at) if paused else None
    return msgspec.structs.replace(record, paused=paused, since=since)


def _newest(records: Iterable[AuthPause]) -> AuthPause | None:
    return max((record for record in records if record.refused), key=_when, default=None)


def _when(record: AuthPause) -> float:
    return record.last_attempt.timestamp() if record.last_attempt else 0.0
