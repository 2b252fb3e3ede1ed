"""``/metrics``: the text format made from a snapshot of the statuses; nothing is kept, so that nothing goes stale."""

import platform
from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib.metadata import version

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from smtpprobe.evidence import result_of
from smtpprobe.resource import LocationStatus, Status
from smtpprobe.vocabulary import (
    ConditionStatus,
    ConditionType,
    Outcome,
    Reason,
    Stage,
    StageOutcome,
)
from smtpprobe_operator import metric_table as table, schedule
from smtpprobe_operator.registry import Probe

Sample = tuple[tuple[str, ...], float]

_VALUES = {ConditionStatus.TRUE: 1.0, ConditionStatus.FALSE: 0.0}
_REASONS = frozenset(Reason)
_STAGES = frozenset(Stage)


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
    """The families of one snapshot, those without samples too."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Yield every family of the table."""
        for metric, samples in samples_of(self._snapshot).items():
            kind = CounterMetricFamily if metric.type == "counter" else GaugeMetricFamily
            family = kind(metric.name.removesuffix("_total"), metric.help, labels=metric.labels)
            for labels, value in samples:
                family.add_metric(list(labels), value)
            yield family


def exposition(snapshot: Snapshot) -> bytes:
    """Return the Prometheus text format of a snapshot (for ``/metrics``, the local operator and the demo)."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(SmtpProbeCollector(snapshot))
    return generate_latest(registry)


def samples_of(snapshot: Snapshot) -> dict[table.Metric, list[Sample]]:
    """Return every family of the table with its (label values, value) pairs, those without samples too."""
    samples: dict[table.Metric, list[Sample]] = {metric: [] for metric in table.METRICS}
    by_name = {metric.name: samples[metric] for metric in table.METRICS}
    for probe in snapshot.probes:
        for metric, labels, value in _of_probe(probe, snapshot):
            by_name[metric.name].append((labels, value))
    for metric, labels, value in _of_operator(snapshot):
        by_name[metric.name].append((labels, value))
    return samples


_Point = tuple[table.Metric, tuple[str, ...], float]


def _of_probe(probe: Probe, snapshot: Snapshot) -> Iterator[_Point]:
    status, me = probe.status, (probe.namespace, probe.name)
    if status.summary is not None:  # else what is kept is the answer for another spec, perhaps of another host
        for location in status.locations:
            yield from _of_location(location, me, paused=status.auth.paused)
    for condition in status.conditions:
        if condition.status in _VALUES:
            yield table.CONDITION, (*me, condition.type), _VALUES[condition.status]
            if condition.type is ConditionType.EGRESS_AUTHORIZED:
                yield table.EGRESS_AUTHORIZED, me, _VALUES[condition.status]
    if (reason := _why_not_ready(status)) is not None:
        yield table.FAILURE_REASON, (*me, reason), 1.0
    if probe.spec is not None and probe.spec.credentials_secret_ref is not None:
        yield table.AUTH_PAUSED, me, float(status.auth.paused)
    if status.last_run is not None:
        yield table.CONSECUTIVE_FAILURES, me, status.consecutive_failures
    if status.last_run_time is not None:
        yield table.LAST_RUN, me, status.last_run_time.timestamp()
    for outcome in Outcome:
        yield table.RUNS, (*me, outcome), snapshot.runs.get((probe.uid, outcome), 0)
    if probe.spec is None or probe.spec.suspend:
        return
    expected = schedule.expected(probe, snapshot.now, opened=snapshot.opened)
    if expected is not None:
        yield table.NEXT_RUN, me, expected.timestamp()
    interval = schedule.effective_interval(probe.spec, status, snapshot.now)
    if interval is not None:
        yield table.INTERVAL, me, interval


def _of_location(location: LocationStatus, me: tuple[str, str], *, paused: bool) -> Iterator[_Point]:
    labels = (*me, location.name)
    yield table.SUCCESS, labels, float(location.outcome is Outcome.PASSED)
    passed: dict[str, bool] = {}
    seconds: dict[str, float] = {}
    for entry in location.stages:
        # A login that was left out while logins are paused is still a refused one.
        failed = entry.outcome is StageOutcome.FAILED or (
            entry.outcome is StageOutcome.SKIPPED and entry.stage == Stage.AUTH and location.outcome is Outcome.FAILED
        )
        if entry.stage not in _STAGES or not (failed or entry.outcome is StageOutcome.PASSED):
            continue
        passed[entry.stage] = passed.get(entry.stage, True) and not failed
        seconds[entry.stage] = seconds.get(entry.stage, 0.0) + entry.elapsed_ms / 1000
    for stage, good in passed.items():
        yield table.STAGE_SUCCESS, (*labels, stage), float(good)
        yield table.STAGE_DURATION, (*labels, stage), seconds[stage]
    asked = any(entry.stage == Stage.AUTH for entry in location.stages)
    if paused and asked and Stage.AUTH not in passed:  # what ended before the login lifts no pause and no alert
        yield table.STAGE_SUCCESS, (*labels, Stage.AUTH), 0.0
    answer = result_of(location)
    if answer is not None and answer.tls is not None and answer.tls.chain:
        yield table.CERTIFICATE_NOT_AFTER, labels, answer.tls.chain[0].not_after.timestamp()


def _why_not_ready(status: Status) -> str | None:
    """Return the verdict in Ready; states such as Running and Suspended are none."""
    ready = next((known for known in status.conditions if known.type is ConditionType.READY), None)
    if ready is None or ready.status is ConditionStatus.TRUE or ready.reason not in _REASONS:
        return None
    return ready.reason


def _of_operator(snapshot: Snapshot) -> Iterator[_Point]:
    yield table.RUNS_IN_FLIGHT, (), snapshot.runs_in_flight
    yield table.SCHEDULE_LATENESS, (), snapshot.lateness
    yield table.SLOTS_SKIPPED, (), snapshot.slots_skipped
    for resource, age in sorted(snapshot.watch_age.items()):
        yield table.WATCH_AGE, (resource,), age
    for (verb, code), count in sorted(snapshot.api_calls.items()):
        yield table.API_CALLS, (verb, str(code)), count
    yield table.BUILD_INFO, (version("smtpprobe"), platform.python_version()), 1.0
