"""One request in, one result out: the values that cross between operator, pod, laptop and report.

Both are JSON with camelCase keys and ``schemaVersion: 1``. A request holds no secret, a result holds no credential.
"""

from datetime import datetime

import msgspec

from smtpprobe.vocabulary import (
    ConditionStatus,
    Depth,
    EgressMethod,
    EgressReason,
    Mechanism,
    Mode,
    Note,
    Outcome,
    Reason,
    Stage,
    StageOutcome,
)

SCHEMA_VERSION = 1
DEFAULT_HELO_NAME = "smtpprobe.invalid"


class Value(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of every value: immutable, keyword-only, camelCase on the wire, defaults left out."""


# ---------------------------------------------------------------------------------------------------------- request


class Envelope(Value, frozen=True, kw_only=True):
    """MAIL FROM and RCPT TO addresses; an empty ``mail_from`` is the null sender ``<>`` (RFC 5321 §4.5.5)."""

    mail_from: str = ""
    rcpt_to: tuple[str, ...] = ()


class TlsOptions(Value, frozen=True, kw_only=True):
    """What the client demands of TLS. ``ca_file`` is a PEM file that replaces the system's trust store."""

    server_name: str | None = None
    ca_file: str | None = None
    min_version: str = "1.2"
    insecure_skip_verify: bool = False


class CredentialFiles(Value, frozen=True, kw_only=True):
    """Where the kubelet mounts the Secret: one file a key under ``directory``; ``secret_name`` is for messages only."""

    directory: str
    secret_name: str = ""
    username_key: str = "username"
    password_key: str = "password"


class RefusedLogin(Value, frozen=True, kw_only=True):
    """Credentials that the server refused before: while the mounted ones match, AUTH is not sent.

    ``fingerprint`` is 16 bits (4 hex digits) of PBKDF2-HMAC-SHA256 over username NUL password with ``salt``
    (hex, 16 bytes), 600,000 rounds: it notices a change and confirms no guess. Empty where the pod that logged in was
    lost: then AUTH is not sent whatever is mounted, and ``AuthFacts`` says the fingerprint.
    """

    salt: str
    fingerprint: str
    reason: Reason
    since: datetime


class TriedVariant(Value, frozen=True, kw_only=True):
    """The other form of a user name that an earlier run has tried; ``salt`` and ``fingerprint`` as in RefusedLogin.

    They mark the credentials as the Secret holds them. ``username`` is the form for texts (``usernames.shown``).
    """

    salt: str
    fingerprint: str
    shape: str
    succeeded: bool
    since: datetime
    username: str = ""


class Variants(Value, frozen=True, kw_only=True):
    """Leave to try one other form of the user name after a refused login (``spec.tryUsernameVariants``).

    Not where ``refused`` logins in a row pause already, and not twice for the same credentials (``tried``).
    """

    refused: int = 0
    tried: TriedVariant | None = None


class ProbeRequest(Value, frozen=True, kw_only=True):
    """Everything a session needs to know, except the secret itself.

    ``port`` is 0 where mode is auto and the usual ports are to be looked at. ``tls_required``: mode auto takes no port
    without TLS. ``tls_seen``: ports of this host that offered TLS in an earlier run. ``known``: the experiments of
    earlier runs with this spec, which are not made again. ``settling_seconds``: how long the network around this
    process may still be in the making (``settling``).
    """

    host: str
    port: int = 0
    mode: Mode
    depth: Depth
    schema_version: int = SCHEMA_VERSION
    mechanism: Mechanism = Mechanism.AUTO
    allow_plaintext_auth: bool = False
    tls: TlsOptions = TlsOptions()
    helo_name: str = DEFAULT_HELO_NAME
    envelope: Envelope | None = None
    credentials: CredentialFiles | None = None
    refused: RefusedLogin | None = None
    timeout_seconds: float = 60.0
    tls_required: bool = False
    tls_seen: tuple[int, ...] = ()
    known: tuple["Experiment", ...] = ()
    variants: Variants | None = None
    settling_seconds: float = 0.0


# ----------------------------------------------------------------------------------------------------------- result


class Reply(Value, frozen=True, kw_only=True):
    """A server's reply (RFC 5321 §4.2): sanitized printable text, codes stripped from the lines."""

    code: int
    enhanced: str | None = None
    lines: tuple[str, ...] = ()


class StageResult(Value, frozen=True, kw_only=True):
    """What became of one stage.

    ``after_tls`` marks the second EHLO; ``recipient`` is set for rcpt; ``detail`` is our own sentence where no reply
    tells the story (which limit passed, which errno, which certificate error).
    """

    stage: Stage
    outcome: StageOutcome
    after_tls: bool = False
    elapsed_ms: int = 0
    reply: Reply | None = None
    recipient: str | None = None
    detail: str | None = None


class Alternative(Value, frozen=True, kw_only=True):
    """Another reason that the same evidence allows; confidence is 0 to 1."""

    reason: Reason
    confidence: float


class Verdict(Value, frozen=True, kw_only=True):
    """Why a session ended as it did; ``rule`` is the id of the rule or the transport fact that decided."""

    reason: Reason
    confidence: float = 1.0
    alternatives: tuple[Alternative, ...] = ()
    rule: str = ""


class AddressAttempt(Value, frozen=True, kw_only=True):
    """One resolved address: ``reason`` is None where TCP was accepted or the address was not tried."""

    ip: str
    tried: bool = False
    connected: bool = False
    reason: Reason | None = None
    elapsed_ms: int = 0


class Features(Value, frozen=True, kw_only=True):
    """EHLO keyword lines, upper-case keyword first, as announced before and after TLS; None where EHLO did not pass."""

    before_tls: tuple[str, ...] | None = None
    after_tls: tuple[str, ...] | None = None


class Certificate(Value, frozen=True, kw_only=True):
    """Facts of one certificate; times are UTC, ``sha256`` is hex over the DER form."""

    subject: str
    issuer: str
    not_before: datetime
    not_after: datetime
    sans: tuple[str, ...] = ()
    key: str = ""
    sha256: str = ""


class TlsFacts(Value, frozen=True, kw_only=True):
    """The negotiated session and the chain as the server sent it, leaf first; ``errors`` are Reason words."""

    protocol: str | None = None
    cipher: str | None = None
    verified: bool = False
    chain: tuple[Certificate, ...] = ()
    errors: tuple[Reason, ...] = ()


class EgressAddress(Value, frozen=True, kw_only=True):
    """Our address as somebody saw it: ``rank`` as in ``vocabulary.EGRESS_RANK``, ``family`` 4 or 6."""

    ip: str
    family: int
    rank: str
    method: EgressMethod


class EgressFinding(Value, frozen=True, kw_only=True):
    """What one session says about EgressAuthorized (design §6 a to g)."""

    status: ConditionStatus = ConditionStatus.UNKNOWN
    reason: EgressReason = EgressReason.NOT_REACHED
    addresses: tuple[EgressAddress, ...] = ()


class SecondLogin(Value, frozen=True, kw_only=True):
    """The login with another form of the user name: ``shape`` as in ``usernames.Form``, ``refused`` as in AuthFacts.

    ``reason`` is the verdict on its refusal.
    """

    shape: str
    succeeded: bool = False
    refused: bool = False
    reason: Reason | None = None


class AuthFacts(Value, frozen=True, kw_only=True):
    r"""What became of the login; never the credentials.

    ``refused``: AUTH was sent and neither 235 nor a refusal that the server called temporary came back; ``salt`` and
    ``fingerprint`` (see ``RefusedLogin``) are set then. The login of a lost pod counts as refused with a ``salt``
    alone; the next session, ``paused`` for it, says both. ``user_shape`` is ``bare``, ``address`` or ``domain``
    (``DOMAIN\\user``). ``username`` is the other form to try, or the one that works, ``service`` the entry of
    ``usernames.toml`` that knows it.
    """

    mechanism: Mechanism | None = None
    sent: bool = False
    succeeded: bool = False
    refused: bool = False
    paused: bool = False
    user_shape: str | None = None
    salt: str | None = None
    fingerprint: str | None = None
    second: SecondLogin | None = None
    username: str | None = None
    service: str | None = None


class Experiment(Value, frozen=True, kw_only=True):
    """One bounded follow-up that settled, or did not settle, what a reply left open.

    ``answer`` is the finding in one word (``decisions``), ``reason`` and ``server`` what was asked about and whom.
    ``since`` is set where nothing was sent now: the finding is that of an earlier run of this generation.
    """

    name: str
    showed: str
    decided: Reason | None = None
    answer: str = ""
    reason: Reason | None = None
    server: str | None = None
    since: datetime | None = None


class PortFinding(Value, frozen=True, kw_only=True):
    """What one port turned out to be.

    ``mode`` is how TLS comes in there, None where no mail server was heard. ``reason``, ``stage`` and ``detail`` say
    why the port cannot be used; a port without ``reason`` can. ``elapsed_ms`` is the time of all its sessions.
    """

    port: int
    mode: Mode | None = None
    reason: Reason | None = None
    stage: Stage | None = None
    detail: str | None = None
    features: Features = Features()
    tls: TlsFacts | None = None
    notes: tuple[Note, ...] = ()
    elapsed_ms: int = 0


class Discovery(Value, frozen=True, kw_only=True):
    """What mode auto found: the port and mode that the session used, why these, and every port that was looked at.

    ``port`` is None where no port took a connection; ``mode`` is None where the port took one and said nothing.
    """

    port: int | None = None
    mode: Mode | None = None
    why: str = ""
    ports: tuple[PortFinding, ...] = ()


class ProbeResult(Value, frozen=True, kw_only=True):
    """The verdict of one run with its evidence.

    ``verdict`` is None exactly where ``outcome`` is Passed. ``stage`` is the stage that failed. ``message`` is one line
    for ``kubectl get``. ``server_ip`` and ``local_port`` name the TCP session for the mail admin's logs.
    """

    outcome: Outcome
    started_at: datetime
    finished_at: datetime
    schema_version: int = SCHEMA_VERSION
    verdict: Verdict | None = None
    stage: Stage | None = None
    message: str = ""
    stages: tuple[StageResult, ...] = ()
    addresses: tuple[AddressAttempt, ...] = ()
    server_ip: str | None = None
    local_port: int | None = None
    features: Features = Features()
    tls: TlsFacts | None = None
    auth: AuthFacts = AuthFacts()
    egress: EgressFinding = EgressFinding()
    experiments: tuple[Experiment, ...] = ()
    notes: tuple[Note, ...] = ()
    discovery: Discovery | None = None
    truncated: bool = False


class TranscriptLine(Value, frozen=True, kw_only=True):
    """One line of the conversation, ``C`` for ours and ``S`` for the server's, already sanitized and redacted."""

    who: str
    at_ms: int
    text: str
