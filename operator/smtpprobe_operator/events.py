"""Events on transitions, never on repetition. (Skeleton: signatures hold.)"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from smtpprobe.resource import Status
from smtpprobe_operator.registry import Probe


class EventDraft(NamedTuple):
    """One event of events.k8s.io/v1; ``name`` is the same for the same text, so that repeats meet their first."""

    name: str
    type: str
    reason: str
    action: str
    note: str


def drafts(before: Status, after: Status, probe: Probe) -> tuple[EventDraft, ...]:
    """Return the events that the step from ``before`` to ``after`` deserves, mostly none."""
    raise NotImplementedError


def body(draft: EventDraft, probe: Probe, *, now: datetime, instance: str) -> dict[str, Any]:
    """Return the event to POST; 409 means that it happened before: patch it with ``repeated``."""
    raise NotImplementedError


def repeated(existing: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Return the merge patch that counts one more: ``series.count`` and ``series.lastObservedTime``."""
    raise NotImplementedError
