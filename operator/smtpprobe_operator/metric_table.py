"""The metrics as data: documentation, alerts, dashboard and the collector all read this one table.

Labels never hold server text, addresses, host or user names. ``location`` is a name from the spec (``default`` while
there is one); ``stage``, ``reason``, ``condition`` and ``outcome`` are words of ``smtpprobe.vocabulary``. A probe's
series are computed from its status at each scrape, so that they agree with it and vanish with it.
"""

from typing import Literal, NamedTuple

PROBE = ("namespace", "name")
LOCATION = (*PROBE, "location")


class Metric(NamedTuple):
    """One metric family; a counter's name ends in ``_total``. ``absent`` says when a probe has no such series."""

    name: str
    type: Literal["gauge", "counter"]
    labels: tuple[str, ...]
    help: str
    absent: str = ""


SUCCESS = Metric(
    "smtpprobe_success",
    "gauge",
    LOCATION,
    "Whether the last session that got an answer passed (1) or was refused (0). A run that could not take place "
    "leaves it as it is.",
    "before the first answer for the present spec",
)
CONDITION = Metric(
    "smtpprobe_condition",
    "gauge",
    (*PROBE, "condition"),
    "status.conditions of the resource: 1 True, 0 False.",
    "for a condition that is Unknown",
)
STAGE_SUCCESS = Metric(
    "smtpprobe_stage_success",
    "gauge",
    (*LOCATION, "stage"),
    "Whether a stage of the last answered session passed (1) or failed (0); of several tries the worst. "
    'stage="auth" stays 0 while logins are paused.',
    "for a stage that was not reached or not asked for",
)
STAGE_DURATION = Metric(
    "smtpprobe_stage_duration_seconds",
    "gauge",
    (*LOCATION, "stage"),
    "How long a stage of the last answered session took; several entries of one stage are summed.",
    "for a stage that was not reached or not asked for",
)
FAILURE_REASON = Metric(
    "smtpprobe_failure_reason",
    "gauge",
    (*PROBE, "reason"),
    "1 for the reason why the probe is not ready now: a verdict, or why the last run could not take place.",
    "while the last run passed, before the first run, and while suspended",
)
EGRESS_AUTHORIZED = Metric(
    "smtpprobe_egress_authorized",
    "gauge",
    PROBE,
    "Whether the server takes mail from this egress address, as far as the evidence goes: 1 yes, 0 no.",
    "while nothing proves it either way",
)
AUTH_PAUSED = Metric(
    "smtpprobe_auth_paused",
    "gauge",
    PROBE,
    "1 while logins are paused after refusals, until the Secret changes or somebody asks for a run.",
    "for a probe without credentials",
)
CONSECUTIVE_FAILURES = Metric(
    "smtpprobe_consecutive_failures",
    "gauge",
    PROBE,
    "Sessions refused in a row; runs that could not take place do not count.",
    "before the first finished run",
)
LAST_RUN = Metric(
    "smtpprobe_last_run_timestamp_seconds",
    "gauge",
    PROBE,
    "When the last session that got an answer ended (status.lastRunTime).",
    "before the first answer",
)
NEXT_RUN = Metric(
    "smtpprobe_next_run_timestamp_seconds",
    "gauge",
    PROBE,
    "When the next answer was or is due. It stays in the past while none comes (time() minus it is how overdue the "
    "probe is), and starts anew when the operator does.",
    "for a probe that is suspended, invalid, or ran once and is done",
)
RUNS = Metric(
    "smtpprobe_runs_total",
    "counter",
    (*PROBE, "outcome"),
    "Finished runs since the operator started, by outcome: Passed, Failed, Error (could not take place).",
)
CERTIFICATE_NOT_AFTER = Metric(
    "smtpprobe_certificate_not_after_timestamp_seconds",
    "gauge",
    LOCATION,
    "When the server's own certificate expires, as seen in the last answered session.",
    "without TLS in that session",
)
INTERVAL = Metric(
    "smtpprobe_interval_seconds",
    "gauge",
    PROBE,
    "Seconds between runs as they are now: the schedule's, doubled up to one hour after equal failures.",
    "for a probe that is suspended, invalid, or runs once",
)

RUNS_IN_FLIGHT = Metric("smtpprobe_operator_runs_in_flight", "gauge", (), "Jobs whose result is not in a status yet.")
SCHEDULE_LATENESS = Metric(
    "smtpprobe_operator_schedule_lateness_seconds",
    "gauge",
    (),
    "How long the run that waits longest has been due; 0 where none waits.",
)
SLOTS_SKIPPED = Metric(
    "smtpprobe_operator_slots_skipped_total",
    "counter",
    (),
    "Slots that passed without a run because the run before them still went on or the operator was away.",
)
WATCH_AGE = Metric(
    "smtpprobe_operator_watch_age_seconds",
    "gauge",
    ("resource",),
    "Seconds since the API server was last known to tell about smtpprobes and pods: an event or a list.",
)
API_CALLS = Metric(
    "smtpprobe_operator_api_calls_total",
    "counter",
    ("verb", "code"),
    "Calls to the API server by verb and HTTP status; code 0 is a call without an answer.",
)
BUILD_INFO = Metric("smtpprobe_operator_build_info", "gauge", ("version", "python"), "1; the versions are labels.")

PROBE_METRICS: tuple[Metric, ...] = (
    SUCCESS,
    CONDITION,
    STAGE_SUCCESS,
    STAGE_DURATION,
    FAILURE_REASON,
    EGRESS_AUTHORIZED,
    AUTH_PAUSED,
    CONSECUTIVE_FAILURES,
    LAST_RUN,
    NEXT_RUN,
    RUNS,
    CERTIFICATE_NOT_AFTER,
    INTERVAL,
)
OPERATOR_METRICS: tuple[Metric, ...] = (
    RUNS_IN_FLIGHT,
    SCHEDULE_LATENESS,
    SLOTS_SKIPPED,
    WATCH_AGE,
    API_CALLS,
    BUILD_INFO,
)
METRICS: tuple[Metric, ...] = PROBE_METRICS + OPERATOR_METRICS
