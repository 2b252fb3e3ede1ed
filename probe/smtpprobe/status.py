"""Fold what happened into a status: pure, whole, nothing of an old verdict beside a new one. (Skeleton: signatures hold.)"""

from collections.abc import Sequence
from datetime import datetime

from smtpprobe.model import ProbeResult, Value
from smtpprobe.resource import AuthPause, RunRef, Spec, Status
from smtpprobe.spec import Problem

STATUS_LIMIT = 32 * 1024


class Finished(Value, frozen=True, kw_only=True):
    """A run that ended, and where it ran. For one that could not run or be read the result has outcome Error."""

    run: RunRef
    result: ProbeResult
    node: str | None = None
    zone: str | None = None
    pod: str | None = None


def run_digest(spec: Spec) -> str:
    """Mark what a session depends on: the spec without suspend, schedule and expectedCIDRs (16 hex digits)."""
    raise NotImplementedError


def needs_run(spec: Spec, status: Status) -> bool:
    """Whether no finished run has judged this spec yet (status.lastRun.specDigest)."""
    raise NotImplementedError


def is_known(status: Status, run: RunRef, result: ProbeResult) -> bool:
    """Whether this run was folded before (a restart lists pods again): folding it once more changes nothing."""
    raise NotImplementedError


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

    A known run returns ``status`` itself; a superseded one (another spec digest) only counts a refused login.
    ``shared`` are the ``status.auth`` of the siblings (same namespace, Secret and host): a run that skipped AUTH for a
    sibling's refusal remembers it. ``next_run`` may be None: ``schedule.stamp`` sets it from the folded status.
    """
    raise NotImplementedError


def running(status: Status, spec: Spec, *, generation: int, now: datetime) -> Status:
    """The first run of a generation began: Ready and the mail conditions Unknown/Running, Reconciling True."""
    raise NotImplementedError


def invalid(status: Status, *, generation: int, problems: Sequence[Problem], now: datetime) -> Status:
    """The spec cannot be used: Accepted and Ready False/SpecInvalid, Stalled True."""
    raise NotImplementedError


def refold(status: Status, spec: Spec, *, generation: int, now: datetime, next_run: datetime | None = None) -> Status:
    """A change that needs no run (suspend, schedule, expectedCIDRs): the last result judged for this generation.

    Covers suspension (Ready Unknown/Suspended) and its end. Only where ``needs_run`` is false, or ``spec.suspend``.
    """
    raise NotImplementedError


def suspended(status: Status, spec: Spec, *, generation: int, now: datetime) -> Status:
    """``refold`` by its other name, for a spec with ``suspend: true``."""
    return refold(status, spec, generation=generation, now=now)


def count_login(status: Status, spec: Spec, result: ProbeResult, *, now: datetime) -> Status:
    """Count the login of a result that is dropped otherwise (superseded generation, deleted Job)."""
    raise NotImplementedError


def limit(status: Status) -> Status:
    """Cut a status to 32 KiB of JSON, oldest evidence first, with ``truncated: true``."""
    raise NotImplementedError
