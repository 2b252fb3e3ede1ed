"""The closed vocabulary: every word that a status, a metric label, a rule or a document may use.

A word is spelled the same everywhere. Text from a server is never one of these words.

==============  ==========================================================================
Stage           where a session stands (RFC 5321, 3207, 4954)
Outcome         of a run: the mail path passed, said no, or could not be asked
Reason          why a run did not pass; ``REASONS`` says who must act and whether waiting helps
StateReason     condition reasons which are no verdict
EgressReason    why EgressAuthorized or EgressExpected is what it is
Note            observations beside the verdict; they never change it
==============  ==========================================================================
"""

from enum import StrEnum
from typing import NamedTuple

from smtpprobe.egress_words import EGRESS_RANK, EgressMethod, EgressReason, EgressVerdict

__all__ = [
    "EGRESS_RANK",
    "REASONS",
    "ConditionStatus",
    "ConditionType",
    "Depth",
    "EgressMethod",
    "EgressReason",
    "EgressVerdict",
    "Language",
    "Mechanism",
    "Mode",
    "Note",
    "Outcome",
    "Owner",
    "Reason",
    "ReasonFacts",
    "Stage",
    "StageOutcome",
    "StateReason",
]


class Mode(StrEnum):
    """How TLS comes into the session."""

    PLAIN = "plain"
    STARTTLS = "starttls"
    SMTPS = "smtps"
    AUTO = "auto"


class Mechanism(StrEnum):
    """SASL mechanisms (RFC 4616, 2195, 7677); ``auto`` picks one from the offer."""

    AUTO = "auto"
    PLAIN = "PLAIN"
    LOGIN = "LOGIN"
    CRAM_MD5 = "CRAM-MD5"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    XOAUTH2 = "XOAUTH2"


class Depth(StrEnum):
    """The last thing a session asks of the server before it says goodbye."""

    GREETING = "greeting"
    EHLO = "ehlo"
    TLS = "tls"
    AUTH = "auth"
    ENVELOPE = "envelope"
    MESSAGE = "message"


class Language(StrEnum):
    """Of what people read: advice in status and events."""

    EN = "en"
    KO = "ko"


class Stage(StrEnum):
    """One step of a session, in the order of mode starttls (in smtps ``tls`` comes before ``greeting``)."""

    DNS = "dns"
    CONNECT = "connect"
    GREETING = "greeting"
    EHLO = "ehlo"
    STARTTLS = "starttls"
    TLS = "tls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    DOT = "dot"
    QUIT = "quit"


class StageOutcome(StrEnum):
    """What became of one stage."""

    PASSED = "Passed"
    FAILED = "Failed"
    SKIPPED = "Skipped"
    NOT_REACHED = "NotReached"


class Outcome(StrEnum):
    """What became of a run: ``Failed`` is the network's or the server's no, ``Error`` is a probe that could not run."""

    PASSED = "Passed"
    FAILED = "Failed"
    ERROR = "Error"


class Reason(StrEnum):
    """Why a run did not pass: one closed list, grouped as in ``REASONS``."""

    # path
    DNS_FAILURE = "DnsFailure"
    DNS_TIMEOUT = "DnsTimeout"
    CONNECT_REFUSED = "ConnectRefused"
    CONNECT_TIMEOUT = "ConnectTimeout"
    CONNECT_PROHIBITED = "ConnectProhibited"
    CONNECT_RESET = "ConnectReset"
    CONNECTION_CLOSED = "ConnectionClosed"
    # greeting
    BANNER_TIMEOUT = "BannerTimeout"
    GREETING_REJECTED = "GreetingRejected"
    NOT_SMTP = "NotSmtp"
    WRONG_TLS_MODE = "WrongTlsMode"
    HELO_REJECTED = "HeloRejected"
    SERVICE_UNAVAILABLE = "ServiceUnavailable"
    # protocol
    MALFORMED_REPLY = "MalformedReply"
    REPLY_TOO_LONG = "ReplyTooLong"
    PROTOCOL_ERROR = "ProtocolError"
    STARTTLS_INJECTION = "StarttlsInjection"
    COMMAND_TIMEOUT = "CommandTimeout"
    # TLS
    TLS_NOT_OFFERED = "TlsNotOffered"
    TLS_REQUIRED = "TlsRequired"
    TLS_HANDSHAKE_FAILED = "TlsHandshakeFailed"
    TLS_PROTOCOL_UNSUPPORTED = "TlsProtocolUnsupported"
    CERTIFICATE_EXPIRED = "CertificateExpired"
    CERTIFICATE_NOT_YET_VALID = "CertificateNotYetValid"
    CERTIFICATE_HOSTNAME_MISMATCH = "CertificateHostnameMismatch"
    CERTIFICATE_INVALID = "CertificateInvalid"
    CLIENT_CERTIFICATE_REQUIRED = "ClientCertificateRequired"
    # login
    AUTH_NOT_OFFERED = "AuthNotOffered"
    MECHANISM_UNSUPPORTED = "MechanismUnsupported"
    AUTH_REQUIRED = "AuthRequired"
    PLAINTEXT_AUTH_REFUSED = "PlaintextAuthRefused"
    BAD_CREDENTIALS = "BadCredentials"
    USERNAME_FORMAT = "UsernameFormat"
    APP_PASSWORD_REQUIRED = "AppPasswordRequired"
    AUTH_DISABLED = "AuthDisabled"
    ACCOUNT_LOCKED = "AccountLocked"
    ACCOUNT_INACTIVE = "AccountInactive"
    AUTH_THROTTLED = "AuthThrottled"
    PERMISSION_DENIED = "PermissionDenied"
    # address
    EGRESS_IP_NOT_AUTHORIZED = "EgressIPNotAuthorized"
    EGRESS_IP_BLOCKLISTED = "EgressIPBlocklisted"
    REVERSE_DNS_MISSING = "ReverseDnsMissing"
    RELAY_DENIED = "RelayDenied"
    # envelope, message
    SENDER_NOT_AUTHORIZED = "SenderNotAuthorized"
    SENDER_NOT_VERIFIED = "SenderNotVerified"
    SANDBOX_RESTRICTED = "SandboxRestricted"
    SENDER_REJECTED = "SenderRejected"
    DOMAIN_AUTH_FAILED = "DomainAuthFailed"
    RECIPIENT_REJECTED = "RecipientRejected"
    MAILBOX_UNAVAILABLE = "MailboxUnavailable"
    QUOTA_EXCEEDED = "QuotaExceeded"
    RATE_LIMITED = "RateLimited"
    GREYLISTED = "Greylisted"
    MESSAGE_TOO_LARGE = "MessageTooLarge"
    CONTENT_REJECTED = "ContentRejected"
    POLICY_REJECTED = "PolicyRejected"
    # could not run
    SPEC_INVALID = "SpecInvalid"
    SECRET_NOT_FOUND = "SecretNotFound"
    SECRET_KEY_MISSING = "SecretKeyMissing"
    HOST_NOT_ALLOWED = "HostNotAllowed"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    UNSCHEDULABLE = "Unschedulable"
    RESOURCE_QUOTA_EXCEEDED = "ResourceQuotaExceeded"
    ADMISSION_DENIED = "AdmissionDenied"
    POD_LOST = "PodLost"
    OUT_OF_MEMORY = "OutOfMemory"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    RESULT_UNREADABLE = "ResultUnreadable"
    RESULT_LOST = "ResultLost"
    # else
    UNKNOWN = "Unknown"


class StateReason(StrEnum):
    """Condition reasons that are a state, not a verdict."""

    SUCCEEDED = "Succeeded"
    NOT_REACHED = "NotReached"
    NOT_REQUESTED = "NotRequested"
    NOT_APPLICABLE = "NotApplicable"
    PENDING = "Pending"
    RUNNING = "Running"
    SUSPENDED = "Suspended"
    SUPERSEDED = "Superseded"
    NOT_OBSERVABLE = "NotObservable"


class Note(StrEnum):
    """Observations beside the verdict."""

    GREETING_SLOW = "GreetingSlow"
    LINE_TOO_LONG = "LineTooLong"
    BARE_LF = "BareLf"
    CODE_MISMATCH = "CodeMismatch"
    CONTROL_BYTES = "ControlBytes"
    INVALID_UTF8 = "InvalidUtf8"
    NO_ESMTP = "NoEsmtp"
    EARLY_DATA = "EarlyData"
    AUTH_ONLY_BEFORE_TLS = "AuthOnlyBeforeTls"
    PLAINTEXT_AUTH_OFFERED = "PlaintextAuthOffered"
    MIDDLEBOX_SUSPECTED = "MiddleboxSuspected"
    AUTH_SUCCEEDED_EARLY = "AuthSucceededEarly"
    CREDENTIAL_ECHOED = "CredentialEchoed"
    CREDENTIAL_HAS_WHITESPACE = "CredentialHasWhitespace"
    RECIPIENT_UNVERIFIABLE = "RecipientUnverifiable"
    ENHANCED_CODE_CONTRADICTS = "EnhancedCodeContradicts"
    MTU_SUSPECTED = "MtuSuspected"
    ECHO_IS_PROXY = "EchoIsProxy"
    PER_DESTINATION_NAT = "PerDestinationNat"
    EGRESS_FLAPPED = "EgressFlapped"
    NOT_SENT = "NotSent"
    HELO_NAME_DEFAULT = "HeloNameDefault"


class ConditionType(StrEnum):
    """Types of ``status.conditions``."""

    READY = "Ready"
    ACCEPTED = "Accepted"
    REACHABLE = "Reachable"
    SECURE = "Secure"
    AUTHENTICATED = "Authenticated"
    ENVELOPE_ACCEPTED = "EnvelopeAccepted"
    MESSAGE_ACCEPTED = "MessageAccepted"
    EGRESS_AUTHORIZED = "EgressAuthorized"
    EGRESS_EXPECTED = "EgressExpected"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class ConditionStatus(StrEnum):
    """metav1.ConditionStatus."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Owner(StrEnum):
    """Who must act."""

    APP = "app developer"
    CLUSTER = "cluster admin"
    MAIL = "mail admin"


class ReasonFacts(NamedTuple):
    """What holds for a reason whatever the reply was.

    ``transient``: waiting alone can help (it makes a condition Unknown rather than False). ``pause``: logins stop at
    once, without a second try, because another one makes it worse or cannot help.
    """

    group: str
    owner: Owner
    transient: bool = False
    pause: bool = False


_A, _C, _M = Owner.APP, Owner.CLUSTER, Owner.MAIL
REASONS: dict[Reason, ReasonFacts] = {
    Reason.DNS_FAILURE: ReasonFacts("path", _A),
    Reason.DNS_TIMEOUT: ReasonFacts("path", _C, transient=True),
    Reason.CONNECT_REFUSED: ReasonFacts("path", _A),
    Reason.CONNECT_TIMEOUT: ReasonFacts("path", _C),
    Reason.CONNECT_PROHIBITED: ReasonFacts("path", _C),
    Reason.CONNECT_RESET: ReasonFacts("path", _M),
    Reason.CONNECTION_CLOSED: ReasonFacts("path", _M, transient=True),
    Reason.BANNER_TIMEOUT: ReasonFacts("greeting", _M),
    Reason.GREETING_REJECTED: ReasonFacts("greeting", _M),
    Reason.NOT_SMTP: ReasonFacts("greeting", _A),
    Reason.WRONG_TLS_MODE: ReasonFacts("greeting", _A),
    Reason.HELO_REJECTED: ReasonFacts("greeting", _A),
    Reason.SERVICE_UNAVAILABLE: ReasonFacts("greeting", _M, transient=True),
    Reason.MALFORMED_REPLY: ReasonFacts("protocol", _M),
    Reason.REPLY_TOO_LONG: ReasonFacts("protocol", _M),
    Reason.PROTOCOL_ERROR: ReasonFacts("protocol", _M),
    Reason.STARTTLS_INJECTION: ReasonFacts("protocol", _M),
    Reason.COMMAND_TIMEOUT: ReasonFacts("protocol", _M, transient=True),
    Reason.TLS_NOT_OFFERED: ReasonFacts("tls", _A),
    Reason.TLS_REQUIRED: ReasonFacts("tls", _A),
    Reason.TLS_HANDSHAKE_FAILED: ReasonFacts("tls", _M),
    Reason.TLS_PROTOCOL_UNSUPPORTED: ReasonFacts("tls", _M),
    Reason.CERTIFICATE_EXPIRED: ReasonFacts("tls", _M),
    Reason.CERTIFICATE_NOT_YET_VALID: ReasonFacts("tls", _M),
    Reason.CERTIFICATE_HOSTNAME_MISMATCH: ReasonFacts("tls", _A),
    Reason.CERTIFICATE_INVALID: ReasonFacts("tls", _A),
    Reason.CLIENT_CERTIFICATE_REQUIRED: ReasonFacts("tls", _M),
    Reason.AUTH_NOT_OFFERED: ReasonFacts("login", _A),
    Reason.MECHANISM_UNSUPPORTED: ReasonFacts("login", _A),
    Reason.AUTH_REQUIRED: ReasonFacts("login", _A),
    Reason.PLAINTEXT_AUTH_REFUSED: ReasonFacts("login", _A),
    Reason.BAD_CREDENTIALS: ReasonFacts("login", _A),
    Reason.USERNAME_FORMAT: ReasonFacts("login", _A),
    Reason.APP_PASSWORD_REQUIRED: ReasonFacts("login", _A, pause=True),
    Reason.AUTH_DISABLED: ReasonFacts("login", _M, pause=True),
    Reason.ACCOUNT_LOCKED: ReasonFacts("login", _M, pause=True),
    Reason.ACCOUNT_INACTIVE: ReasonFacts("login", _M),
    Reason.AUTH_THROTTLED: ReasonFacts("login", _A, transient=True, pause=True),
    Reason.PERMISSION_DENIED: ReasonFacts("login", _M),
    Reason.EGRESS_IP_NOT_AUTHORIZED: ReasonFacts("address", _M),
    Reason.EGRESS_IP_BLOCKLISTED: ReasonFacts("address", _C),
    Reason.REVERSE_DNS_MISSING: ReasonFacts("address", _C),
    Reason.RELAY_DENIED: ReasonFacts("address", _M),
    Reason.SENDER_NOT_AUTHORIZED: ReasonFacts("envelope", _A),
    Reason.SENDER_NOT_VERIFIED: ReasonFacts("envelope", _A),
    Reason.SANDBOX_RESTRICTED: ReasonFacts("envelope", _M),
    Reason.SENDER_REJECTED: ReasonFacts("envelope", _A),
    Reason.DOMAIN_AUTH_FAILED: ReasonFacts("envelope", _M),
    Reason.RECIPIENT_REJECTED: ReasonFacts("envelope", _A),
    Reason.MAILBOX_UNAVAILABLE: ReasonFacts("envelope", _A),
    Reason.QUOTA_EXCEEDED: ReasonFacts("envelope", _M),
    Reason.RATE_LIMITED: ReasonFacts("envelope", _A, transient=True),
    Reason.GREYLISTED: ReasonFacts("envelope", _M, transient=True),
    Reason.MESSAGE_TOO_LARGE: ReasonFacts("message", _A),
    Reason.CONTENT_REJECTED: ReasonFacts("message", _A),
    Reason.POLICY_REJECTED: ReasonFacts("envelope", _M),
    Reason.SPEC_INVALID: ReasonFacts("could not run", _A),
    Reason.SECRET_NOT_FOUND: ReasonFacts("could not run", _A),
    Reason.SECRET_KEY_MISSING: ReasonFacts("could not run", _A),
    Reason.HOST_NOT_ALLOWED: ReasonFacts("could not run", _A),
    Reason.IMAGE_PULL_FAILED: ReasonFacts("could not run", _C),
    Reason.UNSCHEDULABLE: ReasonFacts("could not run", _C),
    Reason.RESOURCE_QUOTA_EXCEEDED: ReasonFacts("could not run", _C),
    Reason.ADMISSION_DENIED: ReasonFacts("could not run", _C),
    Reason.POD_LOST: ReasonFacts("could not run", _C, transient=True),
    Reason.OUT_OF_MEMORY: ReasonFacts("could not run", _C),
    Reason.DEADLINE_EXCEEDED: ReasonFacts("could not run", _C, transient=True),
    Reason.RESULT_UNREADABLE: ReasonFacts("could not run", _C),
    Reason.RESULT_LOST: ReasonFacts("could not run", _C, transient=True),
    Reason.UNKNOWN: ReasonFacts("else", _M),
}
