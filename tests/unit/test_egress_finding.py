"""EgressAuthorized from one session: design §6 (a) to (g), row by row."""

import msgspec
import pytest

from smtpprobe import egress
from smtpprobe.egress import EgressFacts
from smtpprobe.model import AuthFacts, Envelope, Features, Reply, StageResult, Verdict
from smtpprobe.vocabulary import (
    ConditionStatus,
    EgressMethod,
    EgressReason,
    Outcome,
    Reason,
    Stage,
    StageOutcome,
)

TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN
AUTH_OFFER = Features(before_tls=("STARTTLS",), after_tls=("AUTH PLAIN LOGIN", "SIZE 1000"))
NO_AUTH = Features(before_tls=("PIPELINING", "AUTHX"))
ENVELOPE = Envelope(mail_from="noreply@shop.example.com", rcpt_to=("someone@elsewhere.example",))
ELSEWHERE = {"elsewhere.example": ("mx.elsewhere.example", "192.0.2.9"), "ample.net": ()}
OK = AuthFacts(sent=True, succeeded=True)
REFUSED = AuthFacts(sent=True, refused=True)


def failed(reason: Reason, stage: Stage, reply: str = "", **more: object) -> EgressFacts:
    """A session that ended at a stage with a reply."""
    code, _, text = reply.partition(" ")
    answer = Reply(code=int(code), lines=(text,)) if reply else None
    entry = StageResult(stage=stage, outcome=StageOutcome.FAILED, reply=answer)
    facts = {"features": NO_AUTH, "envelope": ENVELOPE, **more}
    return EgressFacts(
        host="mail.example.net",
        outcome=Outcome.FAILED,
        verdict=Verdict(reason=reason),
        stage=stage,
        stages=(*facts.pop("before", ()), entry),
        server_ip="198.51.100.5",
        **facts,
    )


def accepted(*recipients: str, dot: bool = False, **more: object) -> EgressFacts:
    """A session that passed."""
    stages = [
        StageResult(stage=Stage.RCPT, outcome=StageOutcome.PASSED, recipient=r, reply=Reply(code=250))
        for r in recipients
    ]
    if dot:
        stages.append(StageResult(stage=Stage.DOT, outcome=StageOutcome.PASSED, reply=Reply(code=250)))
    facts = {
        "host": "mail.example.net",
        "banner": "mx1.example.net ESMTP",
        "ehlo_line": "mx1.example.net Hello",
        "envelope": ENVELOPE,
        "features": NO_AUTH,
        "exchangers": ELSEWHERE,
        **more,
    }
    return EgressFacts(outcome=Outcome.PASSED, stages=tuple(stages), **facts)


RCPT_OK = StageResult(
    stage=Stage.RCPT, outcome=StageOutcome.PASSED, recipient="someone@elsewhere.example", reply=Reply(code=250)
)
RELAY = "554 5.7.1 <someone@elsewhere.example>: Relay access denied"
GOOGLE = "550 5.7.1 Invalid credentials for relay [203.0.113.7]. The IP address you've registered"
BY_IP = "554 5.7.1 <unknown[203.0.113.7]>: Client host rejected: Access denied"

ROWS = {
    # (a)
    "a: Postfix access map": (failed(Reason.EGRESS_IP_NOT_AUTHORIZED, Stage.RCPT, BY_IP), FALSE, "ServerNamedIp"),
    "a: also after a login": (
        failed(Reason.EGRESS_IP_NOT_AUTHORIZED, Stage.RCPT, BY_IP, auth=OK, features=AUTH_OFFER),
        FALSE,
        "ServerNamedIp",
    ),
    "a: block list at the greeting": (
        failed(Reason.EGRESS_IP_BLOCKLISTED, Stage.GREETING, "554 5.7.1 Client host [203.0.113.7] blocked using x"),
        FALSE,
        "ServerNamedIp",
    ),
    "a: reverse DNS, although 450": (
        failed(
            Reason.REVERSE_DNS_MISSING,
            Stage.RCPT,
            "450 4.7.25 Client host rejected: cannot find your hostname, [203.0.113.7]",
        ),
        FALSE,
        "ServerNamedIp",
    ),
    "a: our host, without the address": (
        failed(Reason.EGRESS_IP_NOT_AUTHORIZED, Stage.MAIL, "550 Your host is not permitted"),
        FALSE,
        "ServerNamedIp",
    ),
    "a: an address known from the EHLO echo": (
        failed(
            Reason.EGRESS_IP_NOT_AUTHORIZED,
            Stage.RCPT,
            "550 no relaying for ip-203.0.113.7-nat",
            addresses=(egress.seen("203.0.113.7", EgressMethod.EHLO_REPLY),),
        ),
        FALSE,
        "ServerNamedIp",
    ),
    "a not: only the server's own address stands there": (
        failed(Reason.EGRESS_IP_NOT_AUTHORIZED, Stage.RCPT, "550 relaying denied at [198.51.100.5]"),
        FALSE,
        "AnonymousRelayDenied",
    ),
    "a not: rate limit": (
        failed(Reason.RATE_LIMITED, Stage.GREETING, "421 4.7.0 too many connections from 203.0.113.7"),
        UNKNOWN,
        "Transient",
    ),
    "a not: rate limit taken for a refusal": (
        failed(Reason.EGRESS_IP_BLOCKLISTED, Stage.MAIL, "451 4.7.650 [203.0.113.7] has been temporarily rate limited"),
        UNKNOWN,
        "Transient",
    ),
    "a not: Google, without login": (
        failed(Reason.EGRESS_IP_NOT_AUTHORIZED, Stage.MAIL, GOOGLE),
        UNKNOWN,
        "RelayIdentityMismatch",
    ),
    "a not: Google, called relay": (failed(Reason.RELAY_DENIED, Stage.RCPT, GOOGLE), UNKNOWN, "RelayIdentityMismatch"),
    "a not: Google, with login": (
        failed(Reason.EGRESS_IP_NOT_AUTHORIZED, Stage.MAIL, GOOGLE, auth=OK),
        UNKNOWN,
        "RelayDeniedAuthenticated",
    ),
    # (b)
    "b: relay denied, AUTH nowhere": (failed(Reason.RELAY_DENIED, Stage.RCPT, RELAY), FALSE, "AnonymousRelayDenied"),
    "b: relay denied with 454": (
        failed(Reason.RELAY_DENIED, Stage.RCPT, "454 4.7.1 <x@elsewhere.example>: Relay access denied"),
        FALSE,
        "AnonymousRelayDenied",
    ),
    "b: Microsoft, no address named": (
        failed(Reason.EGRESS_IP_NOT_AUTHORIZED, Stage.RCPT, "550 5.7.64 TenantAttribution; Relay Access Denied"),
        FALSE,
        "AnonymousRelayDenied",
    ),
    "b: HELO only": (
        failed(Reason.RELAY_DENIED, Stage.RCPT, RELAY, features=Features()),
        FALSE,
        "AnonymousRelayDenied",
    ),
    "b: AUTH offered after TLS": (
        failed(Reason.RELAY_DENIED, Stage.RCPT, RELAY, features=AUTH_OFFER),
        UNKNOWN,
        "LoginNotTried",
    ),
    "b: AUTH offered before TLS only": (
        failed(Reason.RELAY_DENIED, Stage.RCPT, RELAY, features=Features(before_tls=("AUTH=PLAIN",), after_tls=())),
        UNKNOWN,
        "LoginNotTried",
    ),
    "b: a local recipient taken, another refused as relay": (
        failed(
            Reason.RELAY_DENIED,
            Stage.RCPT,
            RELAY,
            before=(msgspec.structs.replace(RCPT_OK, recipient="x@example.net"),),
        ),
        FALSE,
        "AnonymousRelayDenied",
    ),
    "b not: a foreign recipient taken, another refused as relay": (
        failed(Reason.RELAY_DENIED, Stage.RCPT, RELAY, before=(RCPT_OK,), exchangers=ELSEWHERE),
        UNKNOWN,
        "RecipientMayBeLocal",
    ),
    "b not: a recipient taken of whom DNS said nothing, another refused as relay": (
        failed(Reason.RELAY_DENIED, Stage.RCPT, RELAY, before=(RCPT_OK,)),
        UNKNOWN,
        "RecipientMayBeLocal",
    ),
    "b not: refused as relay at the greeting": (
        failed(Reason.EGRESS_IP_NOT_AUTHORIZED, Stage.GREETING, "554 5.7.1 No access"),
        UNKNOWN,
        "RejectedAtGreeting",
    ),
    # (c)
    "c: foreign recipient": (accepted("x@elsewhere.example"), TRUE, "RelayAcceptedNoControl"),
    "c: banner's domain": (accepted("x@mx1.example.net"), UNKNOWN, "RecipientMayBeLocal"),
    "c: parent of the banner's domain": (accepted("x@Example.NET"), UNKNOWN, "RecipientMayBeLocal"),
    "c: parent of the EHLO name": (
        accepted("x@corp.example", ehlo_line="relay.corp.example Hello"),
        UNKNOWN,
        "RecipientMayBeLocal",
    ),
    "c: parent of spec.host": (accepted("x@corp.example", host="smtp.corp.example"), UNKNOWN, "RecipientMayBeLocal"),
    "c: sender's domain": (accepted("x@shop.example.com"), UNKNOWN, "RecipientMayBeLocal"),
    "c: parent of the sender's domain": (accepted("postmaster@example.com"), UNKNOWN, "RecipientMayBeLocal"),
    "c: the server is an MX of the recipient": (
        accepted("x@elsewhere.example", exchangers={"elsewhere.example": ("mx1.example.net",)}),
        UNKNOWN,
        "RecipientMayBeLocal",
    ),
    "c: a sister of the server's name": (accepted("x@shop.example.net"), UNKNOWN, "RecipientMayBeLocal"),
    "c: below the server's name": (
        accepted("x@eu.corp.example", host="corp.example"),
        UNKNOWN,
        "RecipientMayBeLocal",
    ),
    "c: only the top label in common": (
        accepted("x@elsewhere.example", host="relay.example", banner="", ehlo_line=""),
        TRUE,
        "RelayAcceptedNoControl",
    ),
    "c: an MX beside the server": (
        accepted("x@elsewhere.example", exchangers={"elsewhere.example": ("mx2.example.net", "192.0.2.9")}),
        UNKNOWN,
        "RecipientMayBeLocal",
    ),
    "c: the server's address is an MX's": (
        accepted("x@elsewhere.example", server_ip="192.0.2.9"),
        UNKNOWN,
        "RecipientMayBeLocal",
    ),
    "c: no answer from DNS": (accepted("x@elsewhere.example", exchangers={}), UNKNOWN, "RecipientMayBeLocal"),
    "c: one without an answer, one elsewhere": (
        accepted("x@unknown.example", "y@Elsewhere.example"),
        TRUE,
        "RelayAcceptedNoControl",
    ),
    "c: a name that only ends alike": (accepted("x@ample.net"), TRUE, "RelayAcceptedNoControl"),
    "c: null sender": (
        accepted("x@elsewhere.example", envelope=Envelope(rcpt_to=("x@elsewhere.example",))),
        TRUE,
        "RelayAcceptedNoControl",
    ),
    "c: one local, one foreign": (accepted("x@example.net", "y@elsewhere.example"), TRUE, "RelayAcceptedNoControl"),
    "c: postmaster without domain": (accepted("postmaster"), UNKNOWN, "RecipientMayBeLocal"),
    "c: message taken for a local recipient": (accepted("x@example.net", dot=True), UNKNOWN, "RecipientMayBeLocal"),
    # (d)
    "d: login and RCPT": (accepted("x@elsewhere.example", auth=OK), TRUE, "EnvelopeAccepted"),
    "d: login, local recipient": (accepted("x@example.net", auth=OK), TRUE, "EnvelopeAccepted"),
    "d: Amazon SES": (
        accepted("x@elsewhere.example", auth=OK, host="email-smtp.us-east-1.amazonaws.com"),
        UNKNOWN,
        "EnvelopeOnly",
    ),
    "d: Amazon SES behind a name of one's own": (
        accepted("x@elsewhere.example", auth=OK, banner="email-smtp.amazonaws.com ESMTP SimpleEmailService-d-1 x"),
        UNKNOWN,
        "EnvelopeOnly",
    ),
    "d: SendGrid": (accepted("x@elsewhere.example", auth=OK, host="smtp.sendgrid.net"), UNKNOWN, "EnvelopeOnly"),
    "d: Zoho": (accepted("x@elsewhere.example", auth=OK, host="smtppro.zoho.com"), UNKNOWN, "EnvelopeOnly"),
    "d: Postal": (
        accepted("x@elsewhere.example", auth=OK, banner="postal.example.org ESMTP Postal/ABC"),
        UNKNOWN,
        "EnvelopeOnly",
    ),
    "d: Microsoft 365": (accepted("x@elsewhere.example", auth=OK, host="smtp.office365.com"), UNKNOWN, "EnvelopeOnly"),
    # (e)
    "e: the dot": (accepted("x@elsewhere.example", dot=True, auth=OK), TRUE, "MessageAccepted"),
    "e: the dot at Amazon SES": (
        accepted("x@elsewhere.example", dot=True, auth=OK, host="email-smtp.us-east-1.amazonaws.com"),
        TRUE,
        "MessageAccepted",
    ),
    "e not: the dot refused": (
        failed(Reason.SENDER_NOT_VERIFIED, Stage.DOT, "554 Message rejected", auth=OK, before=(RCPT_OK,)),
        UNKNOWN,
        "EnvelopeOnly",
    ),
    "e not: the dot deferred": (
        failed(Reason.SERVICE_UNAVAILABLE, Stage.DOT, "451 later", auth=OK, before=(RCPT_OK,)),
        UNKNOWN,
        "Transient",
    ),
    "e not: the dot refused, no login": (
        failed(Reason.CONTENT_REJECTED, Stage.DOT, "554 spam", before=(RCPT_OK,)),
        UNKNOWN,
        "EnvelopeOnly",
    ),
    # (f)
    "f: 235, then relay denied": (
        failed(Reason.RELAY_DENIED, Stage.RCPT, RELAY, auth=OK, features=AUTH_OFFER),
        UNKNOWN,
        "RelayDeniedAuthenticated",
    ),
    # (g)
    "g: wrong password": (
        failed(Reason.BAD_CREDENTIALS, Stage.AUTH, "535 5.7.8 no", auth=REFUSED),
        UNKNOWN,
        "LoginRefused",
    ),
    "g: AUTH sent without a result": (
        failed(Reason.PROTOCOL_ERROR, Stage.AUTH, auth=REFUSED),
        UNKNOWN,
        "LoginRefused",
    ),
    "g: login paused": (
        failed(Reason.BAD_CREDENTIALS, Stage.AUTH, auth=AuthFacts(paused=True)),
        UNKNOWN,
        "LoginRefused",
    ),
    "g: login deferred": (failed(Reason.SERVICE_UNAVAILABLE, Stage.AUTH, "454 4.7.0 later"), UNKNOWN, "Transient"),
    "g: login wanted": (
        failed(Reason.AUTH_REQUIRED, Stage.MAIL, "530 5.7.0 Authentication required"),
        UNKNOWN,
        "AuthRequired",
    ),
    "g: greylisted": (failed(Reason.GREYLISTED, Stage.RCPT, "450 4.2.0 Greylisted"), UNKNOWN, "Transient"),
    "g: 421": (failed(Reason.SERVICE_UNAVAILABLE, Stage.EHLO, "421 closing"), UNKNOWN, "Transient"),
    "g: silence after a command": (failed(Reason.COMMAND_TIMEOUT, Stage.RCPT), UNKNOWN, "Transient"),
    "g: connect timeout": (failed(Reason.CONNECT_TIMEOUT, Stage.CONNECT), UNKNOWN, "PathBlocked"),
    "g: connect refused": (failed(Reason.CONNECT_REFUSED, Stage.CONNECT), UNKNOWN, "PathBlocked"),
    "g: connect prohibited": (failed(Reason.CONNECT_PROHIBITED, Stage.CONNECT), UNKNOWN, "PathBlocked"),
    "g: reset while connecting": (failed(Reason.CONNECT_RESET, Stage.CONNECT), UNKNOWN, "PathBlocked"),
    "g: no such name": (failed(Reason.DNS_FAILURE, Stage.DNS), UNKNOWN, "NotReached"),
    "g: no name server": (failed(Reason.DNS_TIMEOUT, Stage.DNS), UNKNOWN, "NotReached"),
    "g: 554 greeting": (
        failed(Reason.GREETING_REJECTED, Stage.GREETING, "554 No SMTP service here"),
        UNKNOWN,
        "RejectedAtGreeting",
    ),
    "g: closed before the greeting": (failed(Reason.CONNECT_RESET, Stage.GREETING), UNKNOWN, "RejectedAtGreeting"),
    "g: silent greeting": (failed(Reason.BANNER_TIMEOUT, Stage.GREETING), UNKNOWN, "NotReached"),
    "g: not SMTP": (failed(Reason.NOT_SMTP, Stage.GREETING), UNKNOWN, "NotReached"),
    "g: expired certificate": (failed(Reason.CERTIFICATE_EXPIRED, Stage.TLS), UNKNOWN, "NotReached"),
    "g: sender refused": (failed(Reason.SENDER_REJECTED, Stage.MAIL, "553 5.1.8 no", auth=OK), UNKNOWN, "NotReached"),
    "g: recipient unknown": (failed(Reason.RECIPIENT_REJECTED, Stage.RCPT, "550 5.1.1 no"), UNKNOWN, "NotReached"),
    "g: passed, no envelope asked": (accepted(envelope=None, auth=OK), UNKNOWN, "NotRequested"),
    "g: passed, no recipients": (accepted(envelope=Envelope(mail_from="a@b.example")), UNKNOWN, "NotRequested"),
    "g: could not run": (
        EgressFacts(host="x", outcome=Outcome.ERROR, verdict=Verdict(reason=Reason.SECRET_NOT_FOUND)),
        UNKNOWN,
        "NotReached",
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_row(row):
    """Each session says about EgressAuthorized exactly what its evidence carries."""
    facts, status, reason = ROWS[row]
    found = egress.finding(facts)
    assert (found.status, found.reason) == (status, EgressReason(reason))
    assert found.addresses == facts.addresses


def test_every_reason_of_one_session_has_a_row():
    """The table shows each reason that a single session can give."""
    several_sessions = {
        EgressReason.RELAY_BY_IP_PROVEN,
        EgressReason.LOCATION_DEPENDENT,
        EgressReason.REFUSED_EVERYWHERE,
    }
    ranges = {EgressReason.IN_EXPECTED_RANGE, EgressReason.OUTSIDE_EXPECTED_RANGE, EgressReason.NOT_OBSERVABLE}
    assert {EgressReason(reason) for _, _, reason in ROWS.values()} == set(EgressReason) - several_sessions - ranges


def test_no_refused_session_is_ever_called_authorized():
    """True is said only of sessions in which nothing was refused."""
    for name, (facts, _, _) in ROWS.items():
        if egress.finding(facts).status is TRUE:
            assert facts.outcome is Outcome.PASSED, name


@pytest.mark.parametrize(
    ("domain", "name", "is_it"),
    [
        ("example.com", "mail.example.com", True),
        ("example.com", "example.com", True),
        ("Example.Com.", "MAIL.example.com", True),
        ("mail.example.com", "example.com", False),
        ("ample.com", "example.com", False),
        ("", "example.com", False),
    ],
)
def test_same_domain_or_parent(domain, name, is_it):
    """A recipient's domain is the server's own where it is its name or a parent of it."""
    assert egress.same_domain_or_parent(domain, name) is is_it
