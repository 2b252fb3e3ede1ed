"""What the Grafana dashboard shows: rows of panels, each with its queries. ``dashboard.py`` lays them out."""

from typing import Any, NamedTuple

P = 'namespace=~"$namespace",name=~"$name"'
PROBE = "{{namespace}}/{{name}}"
GREEN_ABOVE = (("red", None), ("green", 1))
RED_ABOVE = (("green", None), ("red", 1))
NEUTRAL = (("blue", None),)

Json = dict[str, Any]


class Query(NamedTuple):
    """One PromQL query; ``table`` asks for the value now as a table row."""

    expr: str
    legend: str = ""
    table: bool = False


class Panel(NamedTuple):
    """One panel: its kind in Grafana, its place (``width`` of 24 columns, ``height``), and what it shows."""

    kind: str
    title: str
    description: str
    queries: tuple[Query, ...]
    width: int
    height: int
    unit: str = "short"
    steps: tuple[tuple[str, float | None], ...] = NEUTRAL
    words: dict[str, tuple[str, str]] | None = None
    options: Json | None = None
    custom: Json | None = None
    overrides: tuple[Json, ...] = ()
    transformations: tuple[Json, ...] = ()


def stat(title: str, description: str, expr: str, **more: Any) -> Panel:
    """One big number, red from 1 on unless ``steps`` say otherwise."""
    return Panel("stat", title, description, (Query(expr),), 4, 4, **{"steps": RED_ABOVE, "options": STAT, **more})


def lines(title: str, description: str, *queries: Query, width: int = 12, unit: str = "short", **more: Any) -> Panel:
    """Curves over time."""
    return Panel("timeseries", title, description, queries, width, 8, unit=unit, options=LEGEND, **more)


def mappings(words: dict[str, tuple[str, str]]) -> list[Json]:
    """Show numbers as coloured words."""
    options = {value: {"text": text, "color": colour} for value, (text, colour) in words.items()}
    return [{"type": "value", "options": options}]


def column(name: str, *, unit: str = "", words: dict[str, tuple[str, str]] | None = None) -> Json:
    """How one column of the table is shown."""
    properties: list[Json] = []
    if unit:
        properties.append({"id": "unit", "value": unit})
    if words:
        properties.append({"id": "mappings", "value": mappings(words)})
        properties.append({"id": "custom.cellOptions", "value": {"type": "color-text"}})
    return {"matcher": {"id": "byName", "options": name}, "properties": properties}


OVERDUE = (
    f"sum(time() - smtpprobe_next_run_timestamp_seconds{{{P}}} > bool (2 * smtpprobe_interval_seconds{{{P}}} + 300))"
)
STAT = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "none", "textMode": "value"}
LEGEND = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
TIMELINE = {"showValue": "never", "legend": {"displayMode": "list", "placement": "bottom"}, "rowHeight": 0.8}
BARS = {"orientation": "horizontal", "displayMode": "basic", "reduceOptions": {"calcs": ["lastNotNull"]}}
PASSED = {"1": ("passes", "green"), "0": ("fails", "red")}
ALLOWED = {"1": ("yes", "green"), "0": ("no", "red")}
PAUSED = {"1": ("paused", "orange"), "0": ("tried", "green")}


def each(expr: str, by: str = "namespace, name") -> Query:
    """Make a column of the table: one row a probe, without the labels of the scrape."""
    return Query(f"max by ({by}) ({expr})", table=True)


TABLE = Panel(
    "table",
    "Each probe now",
    "One row a SmtpProbe. The reason is the word of kubectl get smtpprobes; smtpprobe explain REASON: who must act.",
    (
        each(f"smtpprobe_success{{{P}}}"),
        each(f"smtpprobe_failure_reason{{{P}}}", "namespace, name, reason"),
        each(f"smtpprobe_egress_authorized{{{P}}}"),
        each(f"smtpprobe_auth_paused{{{P}}}"),
        each(f"smtpprobe_consecutive_failures{{{P}}}"),
        each(f"smtpprobe_last_run_timestamp_seconds{{{P}}} * 1000"),
        each(f"smtpprobe_certificate_not_after_timestamp_seconds{{{P}}} * 1000"),
    ),
    24,
    9,
    overrides=(
        column("Mail", words=PASSED),
        column("Address allowed", words=ALLOWED),
        column("Login", words=PAUSED),
        column("Last answer", unit="dateTimeFromNow"),
        column("Certificate expires", unit="dateTimeFromNow"),
    ),
    transformations=(
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {"Time": True, "Value #B": True},
                "renameByName": {
                    "namespace": "Namespace",
                    "name": "Name",
                    "reason": "Reason",
                    "Value #A": "Mail",
                    "Value #C": "Address allowed",
                    "Value #D": "Login",
                    "Value #E": "Failures in a row",
                    "Value #F": "Last answer",
                    "Value #G": "Certificate expires",
                },
            },
        },
    ),
)

ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Now",
        (
            stat("Failing", "Probes whose last session was refused.", f"sum(smtpprobe_success{{{P}}} == bool 0)"),
            stat(
                "Logins refused",
                "Probes whose login is refused, also while logins are paused.",
                f'sum(smtpprobe_stage_success{{{P},stage="auth"}} == bool 0)',
            ),
            stat(
                "Addresses not allowed",
                "Probes whose egress address the mail server does not take mail from.",
                f"sum(smtpprobe_egress_authorized{{{P}}} == bool 0)",
            ),
            stat(
                "Certificates < 14 days",
                "Mail servers whose certificate expires within 14 days, or has expired.",
                f"sum(smtpprobe_certificate_not_after_timestamp_seconds{{{P}}} - time() < bool 14 * 86400)",
            ),
            stat(
                "Overdue",
                "Probes whose next answer is overdue by more than two intervals.",
                OVERDUE,
            ),
            stat(
                "Operators",
                "Operators that give metrics. It should be 1.",
                "count(smtpprobe_operator_build_info)",
                steps=(("red", None), ("green", 1), ("red", 2)),
            ),
        ),
    ),
    (
        "Probes",
        (
            TABLE,
            Panel(
                "state-timeline",
                "Mail passes",
                "Green: the last session passed. Red: it was refused. A run that could not take place changes nothing.",
                (Query(f"smtpprobe_success{{{P}}}", PROBE),),
                24,
                8,
                words=PASSED,
                options=TIMELINE,
                custom={"fillOpacity": 80},
            ),
        ),
    ),
    (
        "One probe",
        (
            Panel(
                "status-history",
                "Stages",
                "Where the session ends: each stage, passed or failed. A stage that was not reached has no colour.",
                (Query(f"smtpprobe_stage_success{{{P}}}", PROBE + " {{stage}}"),),
                24,
                10,
                words=PASSED,
                options=TIMELINE,
                custom={"fillOpacity": 80},
            ),
            lines(
                "Time of the stages",
                "How long each stage of the last session took.",
                Query(f"smtpprobe_stage_duration_seconds{{{P}}}", PROBE + " {{stage}}"),
                unit="s",
                custom={"drawStyle": "bars", "fillOpacity": 60, "stacking": {"mode": "normal"}},
            ),
            lines(
                "Failures in a row",
                "Sessions refused in a row. After two equal ones the interval doubles, up to an hour.",
                Query(f"smtpprobe_consecutive_failures{{{P}}}", PROBE),
            ),
            lines(
                "Interval",
                "Time between runs as it is now.",
                Query(f"smtpprobe_interval_seconds{{{P}}}", PROBE),
                unit="s",
            ),
            Panel(
                "bargauge",
                "Passed, of the time shown",
                "The share of time in which the last session had passed.",
                (Query(f"avg_over_time(smtpprobe_success{{{P}}}[$__range])", PROBE),),
                12,
                8,
                unit="percentunit",
                steps=(("red", None), ("orange", 0.95), ("green", 0.99)),
                options=BARS,
            ),
            Panel(
                "state-timeline",
                "Conditions",
                "The conditions of the resource; Unknown has no colour.",
                (Query(f"smtpprobe_condition{{{P}}}", PROBE + " {{condition}}"),),
                24,
                10,
                words={"1": ("True", "green"), "0": ("False", "red")},
                options=TIMELINE,
                custom={"fillOpacity": 80},
            ),
        ),
    ),
    (
        "Reasons",
        (
            Panel(
                "bargauge",
                "Reasons now",
                "Probes by the reason why they are not ready.",
                (Query(f"sum by (reason) (smtpprobe_failure_reason{{{P}}})", "{{reason}}"),),
                12,
                8,
                options=BARS,
            ),
            Panel(
                "bargauge",
                "Stages that fail now",
                "Probes by the stage at which their session ends.",
                (Query(f"sum by (stage) (smtpprobe_stage_success{{{P}}} == bool 0)", "{{stage}}"),),
                12,
                8,
                options=BARS,
            ),
            lines(
                "Reasons over time",
                "Probes by the reason why they are not ready.",
                Query(f"sum by (reason) (smtpprobe_failure_reason{{{P}}})", "{{reason}}"),
            ),
            lines(
                "Runs an hour",
                "Finished runs by outcome. Error: the probe could not run or be read.",
                Query(f"sum by (outcome) (rate(smtpprobe_runs_total{{{P}}}[$__rate_interval])) * 3600", "{{outcome}}"),
            ),
        ),
    ),
    (
        "TLS",
        (
            Panel(
                "bargauge",
                "Certificates: days left",
                "Days until the mail server's own certificate expires, as seen in the last session.",
                (
                    Query(
                        f"(smtpprobe_certificate_not_after_timestamp_seconds{{{P}}} - time()) / 86400",
                        PROBE,
                    ),
                ),
                24,
                8,
                unit="d",
                steps=(("red", None), ("orange", 14), ("green", 30)),
                options=BARS,
            ),
        ),
    ),
    (
        "Operator",
        (
            lines(
                "Runs in flight",
                "Jobs whose result is not in a status yet.",
                Query("smtpprobe_operator_runs_in_flight", "{{pod}}"),
                width=8,
            ),
            lines(
                "Lateness",
                "How long the run that waits longest has been due. It grows where the operator cannot keep up.",
                Query("smtpprobe_operator_schedule_lateness_seconds", "waiting"),
                width=8,
                unit="s",
            ),
            lines(
                "Age of the watches",
                "Seconds since the API server was last known to tell about a resource.",
                Query("smtpprobe_operator_watch_age_seconds", "{{resource}}"),
                width=8,
                unit="s",
            ),
            lines(
                "API calls a minute",
                "Calls to the API server by verb and HTTP status; status 0 is a call without an answer.",
                Query(
                    "sum by (verb, code) (rate(smtpprobe_operator_api_calls_total[$__rate_interval])) * 60",
                    "{{verb}} {{code}}",
                ),
            ),
            lines(
                "Slots skipped an hour",
                "Slots that passed without a run: the run before still went on, or the operator was away.",
                Query("rate(smtpprobe_operator_slots_skipped_total[$__rate_interval]) * 3600", "skipped"),
            ),
        ),
    ),
)
