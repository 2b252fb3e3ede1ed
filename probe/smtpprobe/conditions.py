"""What an answer means for each condition, as tables over the plan of the session. Pure.

==================  ============================  ==========================================================
condition           stages                        where they are not part of the session
==================  ============================  ==========================================================
Reachable           dns connect greeting ehlo     (always asked)
Secure              starttls tls                  mode plain: NotApplicable; depth before tls: NotRequested
Authenticated       auth                          NotRequested
EnvelopeAccepted    mail rcpt                     NotRequested
MessageAccepted     data dot                      left out
==================  ============================  ==========================================================

The failed stage makes its condition False with the verdict's reason (Unknown where the reason is one that time may
heal), all before it True/Succeeded, all after it Unknown/NotReached. An EHLO that fails after STARTTLS makes Reachable
False although it passed before.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from smtpprobe import egress, ses
from smtpprobe.evidence import failing
from smtpprobe.model import ProbeResult
from smtpprobe.plan import Step, by_port, stages
from smtpprobe.proof import needs_message
from smtpprobe.resource import AuthPause, Condition, DiscoveryStatus, Spec
from smtpprobe.spec import effective_depth
from smtpprobe.summary import ends_soon
from smtpprobe.vocabulary import (
    REASONS,
    ConditionStatus,
    ConditionType,
    Depth,
    EgressReason,
    Mode,
    Outcome,
    Reason,
    Stage,
    StageOutcome,
    StateReason,
)


class Verdict(NamedTuple):
    """One condition without its times; ``message`` is one useful line."""

    status: ConditionStatus
    reason: str
    message: str


Verdicts = dict[ConditionType, Verdict]

STAGES: dict[ConditionType, tuple[Stage, ...]] = {
    ConditionType.REACHABLE: (Stage.DNS, Stage.CONNECT, Stage.GREETING, Stage.EHLO),
    ConditionType.SECURE: (Stage.STARTTLS, Stage.TLS),
    ConditionType.AUTHENTICATED: (Stage.AUTH,),
    ConditionType.ENVELOPE_ACCEPTED: (Stage.MAIL, Stage.RCPT),
    ConditionType.MESSAGE_ACCEPTED: (Stage.DATA, Stage.DOT),
}
ABOUT_MAIL: tuple[ConditionType, ...] = (*STAGES, ConditionType.EGRESS_AUTHORIZED, ConditionType.EGRESS_EXPECTED)

_EGRESS_MESSAGES: dict[EgressReason, str] = {
    EgressReason.SERVER_NAMED_IP: "the server names {ip} as the cause of its refusal",
    EgressReason.ANONYMOUS_RELAY_DENIED: "the server does not relay for {ip} without a login",
    EgressReason.LOGIN_NOT_TRIED: "relay was refused without a login and the server offers one: "
    "set spec.credentialsSecretRef",
    EgressReason.RELAY_ACCEPTED_NO_CONTROL: "the server relays for {ip} without a login; whether it refuses others "
    "is not known",
    EgressReason.RECIPIENT_MAY_BE_LOCAL: "the recipient may be one of the server's own: put an address of another "
    "domain, whose MX records DNS shows, into spec.envelope.to",
    EgressReason.ENVELOPE_ACCEPTED: "with this login the server takes sender and recipients from {ip}",
    EgressReason.ENVELOPE_ONLY: "sender and recipients were accepted, but this server refuses addresses only after "
    "the message",
    EgressReason.MESSAGE_ACCEPTED: "with this login the server takes a message from {ip}",
    EgressReason.RELAY_DENIED_AUTHENTICATED: "login accepted, relay refused: address, sender or account may be the "
    "cause",
    EgressReason.RELAY_IDENTITY_MISMATCH: "the server saw {ip} and does not know address, sender's domain or EHLO name",
    EgressReason.LOGIN_REFUSED: "the login was refused, so that the server said nothing about {ip}",
    EgressReason.AUTH_REQUIRED: "the server wants a login first: set spec.credentialsSecretRef",
    EgressReason.TRANSIENT: "the refusal is temporary and says nothing about {ip}",
    EgressReason.PATH_BLOCKED: "no connection: something between here and the server, not the server, decided",
    EgressReason.REJECTED_AT_GREETING: "refused at the greeting without naming {ip}",
    EgressReason.NOT_REACHED: "the session ended before the server could say",
    EgressReason.NOT_REQUESTED: "the session asks for no recipient: set spec.envelope",
}


_USUAL = {
    **dict.fromkeys((25, 587, 2525, 2587), Mode.STARTTLS),
    **dict.fromkeys((465, 2465), Mode.SMTPS),
}


def judge(spec: Spec, result: ProbeResult, auth: AuthPause) -> Verdicts:
    """Return the conditions about mail that an answer (Passed or Failed) gives, Ready included."""
    plan = planned(spec)
    at = _failed_at(plan, result)
    found = {kind: _about(kind, spec, plan, at, result) for kind in STAGES}
    if effective_depth(spec) is not Depth.MESSAGE:
        del found[ConditionType.MESSAGE_ACCEPTED]
    if result.auth.paused and result.verdict is not None:
        found[ConditionType.AUTHENTICATED] = _login_paused(result.verdict.reason, result.message, auth)
    elif auth.paused and found[ConditionType.AUTHENTICATED].reason == StateReason.NOT_REACHED:
        since = f"{auth.last_attempt:%Y-%m-%d %H:%M} UTC" if auth.last_attempt else "an earlier run"
        text = f"login paused since the refusal of {since}; this session ended before the login"
        found[ConditionType.AUTHENTICATED] = _login_paused(auth.reason or Reason.UNKNOWN, text, auth)
    found[ConditionType.EGRESS_AUTHORIZED] = _egress_authorized(spec, result)
    found[ConditionType.EGRESS_EXPECTED] = egress_expected(spec, result)
    if result.verdict is None:
        ready = Verdict(ConditionStatus.TRUE, StateReason.SUCCEEDED, result.message)
    else:
        ready = Verdict(ConditionStatus.FALSE, result.verdict.reason, result.message)
    found[ConditionType.READY] = ready
    return found


def unanswered(spec: Spec, state: StateReason, message: str) -> Verdicts:
    """Return the conditions about mail while no session has answered for this spec."""
    kinds: list[ConditionType] = [kind for kind in ABOUT_MAIL if kind is not ConditionType.MESSAGE_ACCEPTED]
    if effective_depth(spec) is Depth.MESSAGE:
        kinds.append(ConditionType.MESSAGE_ACCEPTED)
    return {kind: Verdict(ConditionStatus.UNKNOWN, state, message) for kind in kinds}


def planned(spec: Spec) -> tuple[Step, ...]:
    """Return the steps that a session for this spec walks."""
    mode = by_port(spec.port or 0) if spec.mode is Mode.AUTO else spec.mode
    return stages(mode, effective_depth(spec), login=spec.credentials_secret_ref is not None)


def accepted(spec: Spec, known: DiscoveryStatus | None = None) -> Verdict:
    """Return Accepted for a usable spec; an unusual port and mode, and what mode auto found, are mentioned."""
    usual = _USUAL.get(spec.port or 0)
    message = "the spec can be used"
    hosts = filter(None, (spec.host, spec.tls.server_name))
    if amazon := next(filter(None, map(ses.endpoint, hosts)), None):
        message += f"; this is Amazon SES, region {amazon.region}"
    if spec.mode is Mode.AUTO and known is not None and known.port:
        message += f"; mode auto found {known.mode or 'no greeting'} on port {known.port}: {known.why}"
    if usual and spec.mode is not usual and Mode.SMTPS in (usual, spec.mode) and spec.mode is not Mode.AUTO:
        message += f"; port {spec.port} with mode {spec.mode} is unusual, most servers speak {usual} there"
    return Verdict(ConditionStatus.TRUE, StateReason.SUCCEEDED, message)


def timed(before: Sequence[Condition], verdicts: Verdicts, *, generation: int, now: datetime) -> tuple[Condition, ...]:
    """Give each verdict its times: lastTransitionTime stays where the status does."""
    known = {condition.type: condition for condition in before}
    at = now.replace(microsecond=0)
    return tuple(
        Condition(
            type=kind,
            status=verdicts[kind].status,
            reason=str(verdicts[kind].reason),
            message=verdicts[kind].message,
            last_transition_time=known[kind].last_transition_time
            if kind in known and known[kind].status is verdicts[kind].status
            else at,
            observed_generation=generation,
        )
        for kind in ConditionType
        if kind in verdicts
    )


def egress_expected(spec: Spec, result: ProbeResult) -> Verdict:
    """Compare the addresses that the server saw with ``spec.egress.expectedCIDRs``."""
    ranges = spec.egress.expected_cidrs
    if not ranges:
        return Verdict(ConditionStatus.UNKNOWN, StateReason.NOT_REQUESTED, "spec.egress.expectedCIDRs is not set")
    status, reason = egress.expected(result.egress.addresses, ranges)
    if reason is EgressReason.NOT_OBSERVABLE:
        return Verdict(status, reason, "the server did not say from which address it saw the session")
    word = "inside" if reason is EgressReason.IN_EXPECTED_RANGE else "outside"
    return Verdict(status, reason, f"the server saw {seen_from(result)}, {word} {', '.join(ranges)}")


def seen_from(result: ProbeResult) -> str:
    """Name the address that the server saw, or say that it did not tell."""
    seen = dict.fromkeys(known.ip for known in result.egress.addresses if known.rank.startswith("A"))
    return ", ".join(seen) or "our address (which it did not say)"


def _about(
    kind: ConditionType, spec: Spec, plan: Sequence[Step], failed_at: int | None, result: ProbeResult
) -> Verdict:
    steps = [index for index, step in enumerate(plan) if step.stage in STAGES[kind]]
    if not steps:
        return _not_asked(kind, spec)
    if failed_at in steps and result.verdict is not None:
        return _refused(result.verdict.reason, result.message)
    first = {plan[index].stage: index for index in reversed(steps)}
    if failed_at is not None and failed_at < max(first.values()):
        where = f"the session ended in stage {result.stage}" if result.stage else "the session ended"
        return Verdict(ConditionStatus.UNKNOWN, StateReason.NOT_REACHED, f"{where}, before this was asked")
    if kind is ConditionType.SECURE and result.tls is not None and not result.tls.verified:
        reason = result.tls.errors[0] if result.tls.errors else Reason.CERTIFICATE_INVALID
        return Verdict(
            ConditionStatus.FALSE, reason, "the certificate was not verified, as spec.tls.insecureSkipVerify says"
        )
    return Verdict(ConditionStatus.TRUE, StateReason.SUCCEEDED, _achieved(kind, spec, result))


def _failed_at(plan: Sequence[Step], result: ProbeResult) -> int | None:
    """Return the index in the plan of the step that ended the session, -1 where nobody knows, None where it passed."""
    if result.outcome is Outcome.PASSED:
        return None
    indexes = [index for index, step in enumerate(plan) if step.stage is result.stage]
    if not indexes:
        return -1
    entry = failing(result)
    after_tls = entry is not None and entry.after_tls
    return next((index for index in indexes if plan[index].after_tls is after_tls), indexes[-1])


def _refused(reason: Reason, message: str) -> Verdict:
    status = ConditionStatus.UNKNOWN if REASONS[reason].transient else ConditionStatus.FALSE
    return Verdict(status, reason, message)


def _login_paused(reason: str, message: str, auth: AuthPause) -> Verdict:
    said = f"; it said: {auth.message}" if auth.message else ""
    return Verdict(ConditionStatus.FALSE, reason, f"{message}{said}")


def _not_asked(kind: ConditionType, spec: Spec) -> Verdict:
    if kind is ConditionType.SECURE and spec.mode is Mode.PLAIN:
        return Verdict(ConditionStatus.UNKNOWN, StateReason.NOT_APPLICABLE, "mode plain has no TLS")
    hint = {
        ConditionType.AUTHENTICATED: "no login is asked for: set spec.credentialsSecretRef",
        ConditionType.ENVELOPE_ACCEPTED: "no sender and recipient are asked for: set spec.envelope",
    }.get(kind, "")
    if not hint or effective_depth(spec) is spec.depth:
        hint = f"the session ends before this: spec.depth is {effective_depth(spec)}"
    if kind is ConditionType.AUTHENTICATED and spec.credentials_secret_ref is None:
        hint = "no login is asked for: set spec.credentialsSecretRef"
    return Verdict(ConditionStatus.UNKNOWN, StateReason.NOT_REQUESTED, hint)


def _achieved(kind: ConditionType, spec: Spec, result: ProbeResult) -> str:
    if kind is ConditionType.REACHABLE:
        address = f" [{result.server_ip}]" if result.server_ip else ""
        return f"{spec.host}{address} port {spec.port} answers as a mail server"
    if kind is ConditionType.SECURE:
        leaf = result.tls.chain[0] if result.tls and result.tls.chain else None
        until = ends_soon(result) or (f"valid until {leaf.not_after:%Y-%m-%d}" if leaf else "")
        said = ((result.tls and result.tls.protocol) or "TLS", "certificate verified", until)
        return ", ".join(filter(None, said))
    if kind is ConditionType.AUTHENTICATED:
        entry = next((known for known in result.stages if known.stage is Stage.AUTH and known.detail), None)
        if entry is not None:
            return f"accepted: {entry.detail}"
        return f"login accepted by {result.auth.mechanism}" if result.auth.mechanism else "login accepted"
    recipients = sum(e.stage is Stage.RCPT and e.outcome is StageOutcome.PASSED for e in result.stages)
    if kind is ConditionType.ENVELOPE_ACCEPTED:
        return f"sender and {recipients} recipient{'' if recipients == 1 else 's'} accepted"
    entries = {known.stage: known for known in result.stages}
    data, dot = entries.get(Stage.DATA), entries.get(Stage.DOT)
    words = " ".join(dot.reply.lines) if dot and dot.reply else ""
    return ", ".join(filter(None, ("the server took the test message", data.detail if data else None, words)))


def _egress_authorized(spec: Spec, result: ProbeResult) -> Verdict:
    finding = result.egress
    if finding.reason is EgressReason.SERVER_NAMED_IP and not any(a.rank.startswith("A") for a in finding.addresses):
        text = "the server names our host or address, without saying which, as the cause of its refusal"
        return Verdict(finding.status, finding.reason, text)
    text = _EGRESS_MESSAGES.get(finding.reason, str(finding.reason)).format(ip=seen_from(result))
    if finding.reason is EgressReason.ENVELOPE_ONLY and result.stage in STAGES[ConditionType.MESSAGE_ACCEPTED]:
        text = "sender and recipients were accepted; the message was refused for a reason that names no address"
    elif more := needs_message(result, spec.host, spec.tls.server_name):
        text += f". {more}"
    return Verdict(finding.status, finding.reason, text)
