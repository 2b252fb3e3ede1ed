"""Which runs may log in: so that two wrong passwords never become three logins, whoever asks (design §9).

What counts is in ``status.auth`` of all probes of a namespace with one Secret and host (``smtpprobe.refusals``). The
pod compares: credentials that changed since are tried at the next run, whatever is decided here.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from smtpprobe.memory import REFUSALS_THAT_PAUSE, known_for
from smtpprobe.model import ProbeRequest, RefusedLogin, Variants
from smtpprobe.refusals import REFUSALS_FOR_GOOD, SPACING, login_target, of_target, total, valid
from smtpprobe.resource import AuthPause, RunRef
from smtpprobe.runs import run_digest
from smtpprobe.vocabulary import Reason
from smtpprobe_operator.registry import Probe

LOGINS_AT_ONCE = 2


def login_policy(me: Probe, siblings: Sequence[Probe], now: datetime, *, run: RunRef) -> RefusedLogin | None:
    """Return the refused credentials that this run must not try again, or None where it may log in.

    ``siblings`` as ``Registry.siblings``. Not while paused, nor within 15 minutes after a refusal. Run-now allows one
    login.
    """
    target = login_target(me.spec) if me.spec else None
    if target is None or (run.trigger.startswith("now:") and not _used(me, run)):
        return None
    records = _records(me, siblings, target)
    if not records:
        return None
    last = max(records, key=lambda record: (record.last_attempt or now, record.fingerprint is not None))
    paused = any(record.paused for record in records) or total(records) >= REFUSALS_THAT_PAUSE
    at = last.last_attempt or now
    # One lost login is spaced by ``schedule``, so that a pod's eviction is no failed session of its siblings.
    if not last.salt or not (paused or (last.fingerprint and now - at < SPACING)):
        return None
    reason = Reason(last.reason) if last.reason in set(Reason) else Reason.UNKNOWN
    return RefusedLogin(salt=last.salt, fingerprint=last.fingerprint or "", reason=reason, since=at)


def remembering(request: ProbeRequest, me: Probe, siblings: Sequence[Probe]) -> ProbeRequest:
    """Add to a request what earlier runs of this spec have found out: experiments, and the form of the user name."""
    spec = me.spec
    if spec is None:
        return request
    digest, variants = run_digest(spec), request.variants
    target = login_target(spec)
    if variants is not None and target is not None:
        tried = of_target(me.status.auth, target).variant
        variants = Variants(
            refused=total(_records(me, siblings, target)),
            tried=tried if tried is not None and tried.spec_digest == digest else None,
        )
    return msgspec.structs.replace(request, known=known_for(me.status.experiments, digest), variants=variants)


def may_start(me: Probe, siblings: Sequence[Probe], in_flight: int) -> bool:
    """Whether a run may start beside ``in_flight`` others with the same namespace, Secret and host.

    In flight is every Job whose result is not folded yet. One at a time until the last login succeeded, then two: so
    many may have been sent before the first refusal is known.
    """
    target = login_target(me.spec) if me.spec else None
    if target is None:
        return True
    known = [of_target(probe.status.auth, target) for probe in (me, *siblings)]
    refused = max((record.last_attempt for record in known if record.last_attempt), default=None)
    success = max((record.last_success for record in known if record.last_success), default=None)
    trusted = success is not None and (refused is None or refused < success)
    return in_flight < (LOGINS_AT_ONCE if trusted else 1)


def _records(me: Probe, siblings: Sequence[Probe], target: str) -> tuple[AuthPause, ...]:
    """Return the refusals that stand; my own after the third stand whatever a sibling's login did."""
    mine = of_target(me.status.auth, target)
    records = valid((mine, *(sibling.status.auth for sibling in siblings)), target)
    if mine.refused >= REFUSALS_FOR_GOOD and mine not in records:
        return (*records, mine)
    return records


def _used(me: Probe, run: RunRef) -> bool:
    """Whether an earlier attempt of the same run has logged in already."""
    last, auth = me.status.last_run, me.status.auth
    if run.attempt == 0 or last is None or last.trigger != run.trigger or last.started_at is None:
        return False
    return auth.last_attempt is not None and auth.last_attempt >= last.started_at
