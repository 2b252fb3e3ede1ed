"""The SmtpProbe resource as typed values: its spec, its status, and the name of a run.

Field names, types, defaults and bounds are held against ``crds/smtpprobes.yaml`` by a test.
"""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, field

from smtpprobe.memory import ExperimentRecord, VariantRecord
from smtpprobe.model import Value
from smtpprobe.vocabulary import (
    ConditionStatus,
    ConditionType,
    Depth,
    EgressVerdict,
    Language,
    Mechanism,
    Mode,
    Outcome,
    StageOutcome,
)

GROUP = "smtpprobe.dev"
VERSION = "v1alpha1"
PLURAL = "smtpprobes"
RUN_NOW_ANNOTATION = "smtpprobe.dev/run-now"


class SpecValue(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of spec values: an unknown field is an error, as it is for the API server."""


class SecretRef(SpecValue, frozen=True, kw_only=True):
    """The Secret of the login, in the resource's own namespace."""

    name: Annotated[str, Meta(min_length=1, max_length=253)]
    username_key: Annotated[str, Meta(min_length=1, max_length=253)] = "username"
    password_key: Annotated[str, Meta(min_length=1, max_length=253)] = "password"


class CaRef(SpecValue, frozen=True, kw_only=True):
    """Where the trusted CA certificates are; ``kind`` is ConfigMap or Secret."""

    kind: Annotated[str, Meta(max_length=32)]
    name: Annotated[str, Meta(min_length=1, max_length=253)]
    key: Annotated[str, Meta(min_length=1, max_length=253)] = "ca.crt"


class TlsSpec(SpecValue, frozen=True, kw_only=True):
    server_name: Annotated[str, Meta(max_length=253)] | None = None
    ca_ref: CaRef | None = None
    min_version: Annotated[str, Meta(max_length=16)] = "1.2"
    insecure_skip_verify: bool = False


class EnvelopeSpec(SpecValue, frozen=True, kw_only=True):
    from_: Annotated[str, Meta(max_length=254)] = field(name="from")
    to: Annotated[tuple[Annotated[str, Meta(max_length=254)], ...], Meta(max_length=5)] = ()


class Schedule(SpecValue, frozen=True, kw_only=True):
    """One of interval (Go duration text, ``30m``), cron (five fields) with timeZone (IANA), or once."""

    interval: Annotated[str, Meta(max_length=16)] | None = None
    cron: Annotated[str, Meta(max_length=128)] | None = None
    time_zone: Annotated[str, Meta(max_length=64)] | None = None
    once: bool = False


class Toleration(SpecValue, frozen=True, kw_only=True):
    """core/v1 Toleration."""

    key: Annotated[str, Meta(max_length=317)] | None = None
    operator: Annotated[str, Meta(max_length=16)] | None = None
    value: Annotated[str, Meta(max_length=63)] | None = None
    effect: Annotated[str, Meta(max_length=32)] | None = None
    toleration_seconds: int | None = None


class Location(SpecValue, frozen=True, kw_only=True):
    node_selector: Annotated[dict[str, Annotated[str, Meta(max_length=63)]], Meta(max_length=16)] = field(
        default_factory=dict
    )
    tolerations: Annotated[tuple[Toleration, ...], Meta(max_length=16)] = ()
    service_account_name: Annotated[str, Meta(max_length=253)] | None = None


class EgressSpec(SpecValue, frozen=True, kw_only=True):
    expected_cidrs: Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=32)] = field(
        name="expectedCIDRs", default=()
    )


class Spec(SpecValue, frozen=True, kw_only=True):
    """spec of a SmtpProbe, defaults as the API server fills them."""

    host: Annotated[str, Meta(min_length=1, max_length=253)]
    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    mode: Mode
    credentials_secret_ref: SecretRef | None = None
    allow_plaintext_auth: bool = False
    try_username_variants: bool = False
    mechanism: Mechanism = Mechanism.AUTO
    tls: TlsSpec = TlsSpec()
    helo_name: Annotated[str, Meta(max_length=253)] | None = None
    envelope: EnvelopeSpec | None = None
    depth: Depth | None = None
    schedule: Schedule = Schedule()
    suspend: bool = False
    language: Language = Language.EN
    location: Location = Location()
    egress: EgressSpec = EgressSpec()
    timeout_seconds: Annotated[int, Meta(ge=5, le=120)] = 60


# ----------------------------------------------------------------------------------------------------------- status


class Condition(Value, frozen=True, kw_only=True, omit_defaults=False):
    """metav1.Condition; ``last_transition_time`` moves only when ``status`` does."""

    type: ConditionType
    status: ConditionStatus
    reason: str
    message: str
    last_transition_time: datetime
    observed_generation: int


class Advice(Value, frozen=True, kw_only=True):
    owner: str
    text: str


class RunRef(Value, frozen=True, kw_only=True):
    """Which run: trigger is ``slot:N`` (N = unix seconds of the slot), ``once`` or ``now:VALUE``.

    ``slot:0`` is the first run of a new spec, which waits for no slot. ``spec_digest`` marks the part of the spec that
    a session depends on (``smtpprobe.status.run_digest``): a result for another digest is nobody's verdict. The name
    of the Job does not depend on it.
    """

    trigger: str
    generation: int
    attempt: int = 0
    target: str = ""
    spec_digest: str = ""


class LastRun(Value, frozen=True, kw_only=True):
    """The last finished run, whatever its outcome: all that the scheduler has to remember.

    ``slot`` is set for scheduled runs. ``equal_failures`` counts failures in a row with one reason and stage since the
    spec changed or somebody asked for a run: it drives the back-off of the interval. ``error_since`` is when the
    present row of runs with outcome Error began, ``attempt`` its length so far; ``reason`` and ``message`` say why.
    """

    trigger: str
    generation: int
    slot: int | None = None
    attempt: int = 0
    outcome: Outcome | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    spec_digest: str = ""
    equal_failures: int = 0
    error_since: datetime | None = None
    reason: str | None = None
    message: str | None = None


class LoginRecord(Value, frozen=True, kw_only=True):
    """The login pause of design §9 for one account; ``reason``, ``message``, ``last_attempt`` of its last refusal.

    ``refused`` counts refused logins in a row with the credentials that salt and fingerprint mark. ``target`` is
    ``SECRET@HOST``: what is remembered of one Secret and host says nothing about another. ``last_success`` is the last
    235; it lifts what siblings with the same target remember from before. ``variant``: the other form of the user name
    that was tried last, whatever became of the login since.
    """

    paused: bool = False
    since: datetime | None = None
    refused: int = 0
    reason: str | None = None
    message: str | None = None
    last_attempt: datetime | None = None
    salt: str | None = None
    fingerprint: str | None = None
    target: str | None = None
    last_success: datetime | None = None
    variant: VariantRecord | None = None


class AuthPause(LoginRecord, frozen=True, kw_only=True):
    """What is remembered of the account of now, and of up to three that were refused before the spec changed."""

    others: tuple[LoginRecord, ...] = ()


class FoundPort(Value, frozen=True, kw_only=True):
    """One port that mode auto looked at, in short; ``reason`` says why it cannot be used."""

    port: int
    mode: str | None = None
    reason: str | None = None
    auth: str | None = None
    tls: str | None = None
    issuer: str | None = None
    not_after: datetime | None = None
    tls_errors: tuple[str, ...] = ()


class DiscoveryStatus(Value, frozen=True, kw_only=True):
    """What mode auto found for a generation; see ``smtpprobe.found``."""

    host: str
    generation: int
    spec_digest: str
    at: datetime
    port: int | None = None
    mode: str | None = None
    why: str | None = None
    ports: tuple[FoundPort, ...] = ()


class SeenAddress(Value, frozen=True, kw_only=True):
    """An egress address over time, newest first in the list."""

    ip: str
    family: int
    rank: str
    method: str
    first_seen: datetime
    last_seen: datetime
    count: int = 1
    node: str | None = None
    zone: str | None = None


class EgressStatus(Value, frozen=True, kw_only=True, omit_defaults=False):
    """``verdict`` is always present: it is the column EGRESS."""

    verdict: EgressVerdict = EgressVerdict.UNKNOWN
    addresses: tuple[SeenAddress, ...] = ()


class SeenCertificate(Value, frozen=True, kw_only=True):
    """The server's certificates of one authority and one end of the verification; see ``issuers``.

    ``sha256`` is that of the last one, ``error`` the first TLS error, ``nodes`` the last that saw one.
    """

    issuer: str
    first_seen: datetime
    last_seen: datetime
    verified: bool = False
    error: str | None = None
    sha256: str = ""
    nodes: tuple[str, ...] = ()
    count: int = 1


class StageStatus(Value, frozen=True, kw_only=True):
    """One stage of the last run, kept for report and metrics; ``reason`` only on the failed one."""

    stage: str
    outcome: StageOutcome
    after_tls: bool = False
    elapsed_ms: int = 0
    code: int | None = None
    enhanced: str | None = None
    text: str | None = None
    recipient: str | None = None
    detail: str | None = None


class LocationStatus(Value, frozen=True, kw_only=True):
    """One location's last answer (outcome Passed or Failed; an Error never replaces it).

    ``tls`` is the JSON form of ``model.TlsFacts`` and ``evidence`` what else the report needs of the result:
    ``smtpprobe.evidence.result_of`` gives the ``ProbeResult`` back.
    """

    name: str
    outcome: Outcome
    finished_at: datetime
    node: str | None = None
    zone: str | None = None
    pod: str | None = None
    spec_digest: str = ""
    reason: str | None = None
    stages: tuple[StageStatus, ...] = ()
    tls: dict[str, Any] | None = None
    evidence: dict[str, Any] | None = None


class HistoryEntry(Value, frozen=True, kw_only=True):
    """One finished run in a line."""

    at: datetime
    outcome: Outcome
    reason: str
    trigger: str
    stage: str | None = None
    code: int | None = None
    ms: int = 0
    generation: int = 0
    attempt: int = 0


class Outage(Value, frozen=True, kw_only=True):
    """A row of failed runs; the last three keep the whole evidence of their first failing run."""

    since: datetime
    reason: str
    runs: int = 1
    until: datetime | None = None
    evidence: dict[str, Any] | None = None


class Status(Value, frozen=True, kw_only=True):
    """status of a SmtpProbe. Written whole each time, so that nothing of an older verdict survives a newer one."""

    observed_generation: int = -1
    conditions: tuple[Condition, ...] = ()
    summary: str | None = None
    last_run_time: datetime | None = None
    next_run_time: datetime | None = None
    consecutive_failures: int = 0
    failed_stage: str | None = None
    reply_code: int | None = None
    advice: Advice | None = None
    last_run: LastRun | None = None
    last_handled_run_now: str | None = None
    auth: AuthPause = AuthPause()
    discovery: DiscoveryStatus | None = None
    tls_seen: tuple[str, ...] = ()
    egress: EgressStatus = EgressStatus()
    certificates: tuple[SeenCertificate, ...] = ()
    experiments: tuple[ExperimentRecord, ...] = ()
    locations: tuple[LocationStatus, ...] = ()
    history: tuple[HistoryEntry, ...] = ()
    outages: tuple[Outage, ...] = ()
    truncated: bool = False


def decode_status(raw: object) -> Status:
    """Read a status as an API server returned it; what is not ours or not readable counts as absent."""
    if not isinstance(raw, dict):
        return Status()
    try:
        return msgspec.convert(raw, Status, strict=False)
    except msgspec.ValidationError:
        return Status()


def encode_status(status: Status) -> dict[str, Any]:
    """Return the JSON form for ``replace /status``; observedGeneration and conditions are always present."""
    raw: dict[str, Any] = msgspec.to_builtins(status)
    raw["observedGeneration"] = status.observed_generation
    raw.setdefault("conditions", [])
    return raw
