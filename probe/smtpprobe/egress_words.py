"""The part of the vocabulary that speaks of our own address; import it from ``vocabulary``."""

from enum import StrEnum


class EgressReason(StrEnum):
    """Reasons of EgressAuthorized and EgressExpected: what the evidence is, never more than it carries."""

    SERVER_NAMED_IP = "ServerNamedIp"
    ANONYMOUS_RELAY_DENIED = "AnonymousRelayDenied"
    LOGIN_NOT_TRIED = "LoginNotTried"
    RELAY_ACCEPTED_NO_CONTROL = "RelayAcceptedNoControl"
    RECIPIENT_MAY_BE_LOCAL = "RecipientMayBeLocal"
    ENVELOPE_ACCEPTED = "EnvelopeAccepted"
    ENVELOPE_ONLY = "EnvelopeOnly"
    MESSAGE_ACCEPTED = "MessageAccepted"
    RELAY_DENIED_AUTHENTICATED = "RelayDeniedAuthenticated"
    RELAY_IDENTITY_MISMATCH = "RelayIdentityMismatch"
    LOGIN_REFUSED = "LoginRefused"
    AUTH_REQUIRED = "AuthRequired"
    TRANSIENT = "Transient"
    PATH_BLOCKED = "PathBlocked"
    REJECTED_AT_GREETING = "RejectedAtGreeting"
    NOT_REACHED = "NotReached"
    NOT_REQUESTED = "NotRequested"
    RELAY_BY_IP_PROVEN = "RelayByIpProven"
    LOCATION_DEPENDENT = "LocationDependent"
    REFUSED_EVERYWHERE = "RefusedEverywhere"
    IN_EXPECTED_RANGE = "InExpectedRange"
    OUTSIDE_EXPECTED_RANGE = "OutsideExpectedRange"
    NOT_OBSERVABLE = "NotObservable"


class EgressVerdict(StrEnum):
    """The word in the EGRESS column."""

    AUTHORIZED = "Authorized"
    NOT_AUTHORIZED = "NotAuthorized"
    MIXED = "Mixed"
    UNKNOWN = "Unknown"


class EgressMethod(StrEnum):
    """How an address was learnt; only rank A is proof, as the mail server itself said it in this session."""

    EHLO_REPLY = "EhloReply"
    QUOTED_IN_REPLY = "QuotedInReply"
    RECEIVED_HEADER = "ReceivedHeader"
    SOCKET = "Socket"


EGRESS_RANK: dict[EgressMethod, str] = {
    EgressMethod.EHLO_REPLY: "A1",
    EgressMethod.QUOTED_IN_REPLY: "A2",
    EgressMethod.RECEIVED_HEADER: "A2",
    EgressMethod.SOCKET: "F",
}
