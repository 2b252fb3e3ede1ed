"""``/metrics``: one custom collector over a snapshot; nothing is stored twice. (Skeleton: signatures hold.)"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

import msgspec
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from smtpprobe.vocabulary import Outcome
from smtpprobe_operator.registry import Probe


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All that a scrape reads: immutable, taken in one step.

    ``runs`` counts finished runs by probe uid and outcome, ``api_calls`` by (verb, HTTP status), ``watch_age`` is
    seconds by resource, ``opened`` when dispatch began.
    """

    now: datetime
    opened: datetime
    probes: tuple[Probe, ...] = ()
    runs: Mapping[tuple[str, Outcome], int] = {}
    runs_in_flight: int = 0
    lateness: float = 0.0
    slots_skipped: int = 0
    watch_age: Mapping[str, float] = {}
    api_calls: Mapping[tuple[str, int], int] = {}


class SmtpProbeCollector(Collector):
    """Register with a ``CollectorRegistry``; calls ``snapshot`` at each scrape."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        raise NotImplementedError


def exposition(snapshot: Snapshot) -> bytes:
    """Return the Prometheus text format of a snapshot (for ``/metrics``, the local operator and the demo)."""
    raise NotImplementedError
