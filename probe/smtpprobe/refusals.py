"""What a status remembers of logins: the count of refusals that pauses them, and what ends the pause (design §9).

A login counts as refused unless 235 came or the server called it temporary (``AuthFacts.refused``). Reasons that
another try makes worse (``REASONS[...].pause``) pause at once, others after two in a row, counted over all probes of
the namespace with the same Secret and host. A success, or changed credentials, begin anew.

A pod that was lost may have sent its login, so it counts; nobody knows its fingerprint. While such a login pauses, the
next pod sends none whatever is mounted, and says the fingerprint: from then on a change is noticed again.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import msgspec

from smtpprobe.memory import REFUSALS_THAT_PAUSE, variant_after
from smtpprobe.model import AuthFacts, ProbeResult
from smtpprobe.resource import AuthPause, LoginRecord, Spec
from smtpprobe.runs import run_digest
from smtpprobe.vocabulary import REASONS, Outcome, Reason, Stage

REFUSALS_FOR_GOOD = 3
KEPT_OTHERS = 3
SPACING = timedelta(minutes=15)


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
    accounts = (msgspec.structs.replace(pause, others=()), *(_record_of(other) for other in pause.others))
    others = [record for record in accounts if record.target != target and record.refused][:KEPT_OTHERS]
    now = AuthPause()
    if target:
        now = _after(of_target(pause, target), target, result, at, shared=shared, logins=_logins(spec, result.auth))
        now = msgspec.structs.replace(now, variant=variant_after(now.variant, result.auth, run_digest(spec), at))
    kept = tuple(_forgotten_text(record) for record in others)
    return msgspec.structs.replace(now, others=kept)


def _logins(spec: Spec, auth: AuthFacts) -> int:
    """Count the refused logins of one run: with ``tryUsernameVariants`` two, perhaps, also in a pod that was lost."""
    if auth.second is not None:
        return 1 + auth.second.refused
    return 2 if spec.try_username_variants and auth.fingerprint is None else 1


def of_target(pause: AuthPause, target: str) -> AuthPause:
    """Return what ``pause`` remembers of one account, although the spec may have named another one since."""
    if pause.target == target:
        return msgspec.structs.replace(pause, others=())
    known = next((record for record in pause.others if record.target == target), None)
    return _record_of(known) if known else AuthPause(target=target)


def _record_of(record: LoginRecord) -> AuthPause:
    return AuthPause(**msgspec.structs.asdict(record))


def _forgotten_text(record: AuthPause) -> LoginRecord:
    """Leave out the server's words: what counts is the count."""
    fields = msgspec.structs.asdict(record) | {"message": None}
    del fields["others"]
    return LoginRecord(**fields)


def _after(
    pause: AuthPause, target: str, result: ProbeResult, at: datetime, *, shared: Sequence[AuthPause], logins: int
) -> AuthPause:
    auth = result.auth
    if auth.succeeded:
        return AuthPause(target=target, last_success=at, variant=pause.variant)
    if auth.refused:
        return _refused(pause, result, at, shared=shared, logins=logins)
    if auth.paused:
        known = _newest((pause, *valid(shared, target))) or pause
        learnt = known.refused and known.fingerprint is None and known.salt == auth.salt
        return msgspec.structs.replace(known, fingerprint=auth.fingerprint) if learnt else known
    return pause


def next_login(pause: AuthPause, spec: Spec) -> datetime | None:
    """Return before when no retry may log in, as the last login was lost with its pod; None where nothing waits."""
    target = login_target(spec)
    pause = of_target(pause, target) if target else AuthPause()
    lost = pause.refused and not pause.paused and pause.fingerprint is None
    return pause.last_attempt + SPACING if lost and pause.last_attempt else None


def valid(records: Iterable[AuthPause], target: str) -> tuple[AuthPause, ...]:
    """Return the refusals of ``target`` that no later success of any of ``records`` has lifted."""
    known = [of_target(record, target) for record in records]
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


def _refused(
    pause: AuthPause, result: ProbeResult, at: datetime, *, shared: Sequence[AuthPause], logins: int
) -> AuthPause:
    auth, reason, message = result.auth, Reason.UNKNOWN, result.message
    lost = auth.fingerprint is None
    if lost and pause.salt == auth.salt:
        return pause
    if result.outcome is Outcome.ERROR:
        sent = "a login may have been" if lost else "AUTH was"
        message = f"{sent} sent and no answer is known: {message}"
    elif result.verdict is not None and result.stage is Stage.AUTH:
        reason = result.verdict.reason
    comparable = not lost and pause.fingerprint is not None
    changed = comparable and pause.salt == auth.salt and pause.fingerprint != auth.fingerprint
    before = AuthPause(target=pause.target) if changed else pause
    # Another salt cannot be compared, so it counts as the same credentials: too careful rather than one login too many.
    record = AuthPause(
        target=pause.target,
        refused=before.refused + (0 if lost and before.paused else logins),
        reason=reason,
        message=message,
        last_attempt=at,
        salt=auth.salt,
        fingerprint=auth.fingerprint,
        last_success=before.last_success,
        variant=pause.variant,
    )
    others = [] if changed else [other for other in valid(shared, pause.target or "") if other.salt != before.salt]
    worse = auth.second is not None and auth.second.reason is not None and REASONS[auth.second.reason].pause
    paused = worse or REASONS[reason].pause or total((record, *others)) >= REFUSALS_THAT_PAUSE
    since = (before.since or at) if paused else None
    return msgspec.structs.replace(record, paused=paused, since=since)


def _newest(records: Iterable[AuthPause]) -> AuthPause | None:
    refused = (record for record in records if record.refused)
    return max(refused, key=lambda record: (_when(record), record.fingerprint is not None), default=None)


def _when(record: AuthPause) -> float:
    return record.last_attempt.timestamp() if record.last_attempt else 0.0
