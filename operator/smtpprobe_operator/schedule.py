"""When a probe runs: from spec, status and clock alone, so that a restart forgets nothing. (Skeleton: signatures hold.)"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from smtpprobe.resource import RunRef, Spec, Status
from smtpprobe_operator.registry import Probe


class Due(NamedTuple):
    """A run to start now. ``since`` is when it became due, ``why`` a word for logs, ``skipped`` slots passed over."""

    run: RunRef
    since: datetime
    why: str
    skipped: int = 0


def due(probe: Probe, now: datetime, *, active: bool = False) -> Due | None:
    """Return the run that ``probe`` owes now; None while one is active, its spec is invalid or it is suspended."""
    raise NotImplementedError


def next_run(probe: Probe, now: datetime) -> datetime | None:
    """Return when the next run is due: ``now`` where one is due already, None where none will be."""
    raise NotImplementedError


def expected(probe: Probe, now: datetime, *, opened: datetime) -> datetime | None:
    """Return when the next answer was or is due, for ``smtpprobe_next_run_timestamp_seconds``.

    ``opened`` is when this operator began to dispatch: nobody blames it for the time before.
    """
    raise NotImplementedError


def effective_interval(spec: Spec, status: Status, now: datetime) -> int | None:
    """Return the seconds between runs as they are now, back-off included; None for ``once``."""
    raise NotImplementedError


def superseded(probe: Probe, run: RunRef) -> bool:
    """Whether an active run asks what nobody wants to know any more: delete its Job, drop its result."""
    raise NotImplementedError


def refold_due(probe: Probe, now: datetime) -> bool:
    """Whether the status lags behind a spec change that needs no run: ``status.refold`` or ``status.invalid`` now."""
    raise NotImplementedError


def stamp(probe: Probe, status: Status, now: datetime) -> Status:
    """Return ``status`` with nextRunTime as this probe will have it with that status."""
    raise NotImplementedError


def retry_after_error(attempt: int) -> timedelta:
    """30 s, 2, 10, then always 30 min after the Error of attempt 0, 1, 2, 3 and more."""
    raise NotImplementedError
