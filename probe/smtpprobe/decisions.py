"""Which experiments a fault asks for, and what their answers make of it. Pure; ``experiments`` makes the connections.

An experiment's finding is one word (``Experiment.answer``). What it means follows from the word and the fault of the
present run, so a finding that is remembered from an earlier run decides without a connection.

===============  =========================================  ==============================================
experiment       asks                                       answers
===============  =========================================  ==============================================
client-hello     a silent port for TLS                      tls-greeting tls silent
plain-greeting   a port that speaks no TLS for its banner   starttls plain other
old-tls          a cut or refused handshake for older TLS   old closed other
local-recipient  who refused to relay, for its own domain   accepted known relay address other
certificate      the failed handshake itself, for the rest  listed
address-again    who refused a fresh pod's address, later   accepted moved refused other
username-variant a second login, other form of the name     accepted refused other
===============  =========================================  ==============================================

Never claims more than the answer carries: what is not decided here stays as the reply or the transport left it.
"""

from collections.abc import Iterable
from typing import NamedTuple

from msgspec.structs import replace

from smtpprobe import faults, settling
from smtpprobe.egress import SURE_OF_RELAY
from smtpprobe.faults import Fault, fault
from smtpprobe.memory import CERTIFICATE, CLIENT_HELLO, OLD_TLS, PLAIN_GREETING, USERNAME_VARIANT
from smtpprobe.model import Alternative, Experiment, Verdict
from smtpprobe.settling import ADDRESS_AGAIN
from smtpprobe.summary import RULE_USERNAME
from smtpprobe.vocabulary import Mode, Reason, Stage

__all__ = [
    "ADDRESS_AGAIN",
    "CERTIFICATE",
    "CLIENT_HELLO",
    "OLD_TLS",
    "PLAIN_GREETING",
    "USERNAME_VARIANT",
    "Scene",
    "decide",
    "recipient_answer",
    "remembered",
    "wanted",
    "with_form",
]

LOCAL_RECIPIENT = "local-recipient"
CERTIFICATE_REASONS = frozenset(
    {
        *(Reason.CERTIFICATE_EXPIRED, Reason.CERTIFICATE_NOT_YET_VALID),
        *(Reason.CERTIFICATE_HOSTNAME_MISMATCH, Reason.CERTIFICATE_INVALID),
    }
)
RELAY_REASONS = frozenset({Reason.RELAY_DENIED, Reason.EGRESS_IP_NOT_AUTHORIZED})
_ABOUT_THE_CLIENT = frozenset(
    {
        *(Reason.EGRESS_IP_NOT_AUTHORIZED, Reason.EGRESS_IP_BLOCKLISTED, Reason.REVERSE_DNS_MISSING),
        *(Reason.HELO_REJECTED, Reason.POLICY_REJECTED),
    }
)
_KNOWS_THE_DOMAIN = frozenset({Reason.RECIPIENT_REJECTED, Reason.MAILBOX_UNAVAILABLE, Reason.GREYLISTED})
_SILENT_TLS = frozenset({Reason.COMMAND_TIMEOUT, Reason.CONNECT_RESET, Reason.TLS_HANDSHAKE_FAILED})
_SURE, _LIKELY, _PASSING = 0.95, 0.85, 0.5
# Where the service wants another form, that is as likely wrong as the password: neither is said with high confidence.
_FORM_KNOWN = 0.45


class Scene(NamedTuple):
    """What a fault is judged by: the stage, the session's mode and port, and how far TLS came.

    ``spoke_tls``: the server answered the ClientHello with anything of TLS. ``server_hello``: it chose a version.
    ``settling``: this is a fresh pod that has not logged in.
    """

    stage: Stage
    mode: Mode
    port: int
    spoke_tls: bool = False
    server_hello: bool = False
    min_tls: str = "1.2"
    settling: bool = False


def wanted(found: Fault, scene: Scene) -> tuple[str, ...]:
    """Return the experiments that this fault asks for, in their order; the first that settles it is the last."""
    reason, stage = found.verdict.reason, scene.stage
    if found.verdict.rule == f"transport:{faults.SILENT_GREETING}":
        return (CLIENT_HELLO,) if scene.mode is not Mode.SMTPS and scene.port != 25 else ()
    if stage is not Stage.TLS:
        again = scene.settling and settling.may_be_other_address(found.verdict, stage)
        relay = stage is Stage.RCPT and reason in RELAY_REASONS
        return (*((ADDRESS_AGAIN,) if again else ()), *((LOCAL_RECIPIENT,) if relay else ()))
    if reason in CERTIFICATE_REASONS:
        return (CERTIFICATE,)
    asked: tuple[str, ...] = ()
    if scene.mode is Mode.SMTPS and not scene.spoke_tls and reason in {Reason.WRONG_TLS_MODE, *_SILENT_TLS}:
        asked = (PLAIN_GREETING,)
    versions = reason is Reason.TLS_PROTOCOL_UNSUPPORTED or (reason is Reason.CONNECT_RESET and not scene.server_hello)
    return (*asked, OLD_TLS) if versions and scene.min_tls in {"1.2", "1.3"} else asked


def remembered(known: Iterable[Experiment], name: str, reason: Reason, server: str | None) -> Experiment | None:
    """Return what an earlier run of this generation found for the same question, asked of the same address."""
    return next((one for one in known if (one.name, one.reason, one.server) == (name, reason, server)), None)


def decide(found: Fault, one: Experiment) -> tuple[Fault, Experiment]:
    """Return the fault as it stands after an experiment, and the experiment with what it decided."""
    settled = {
        CLIENT_HELLO: _client_hello,
        PLAIN_GREETING: _plain_greeting,
        OLD_TLS: _old_tls,
        LOCAL_RECIPIENT: _local_recipient,
        USERNAME_VARIANT: _username_variant,
        ADDRESS_AGAIN: _address_again,
    }.get(one.name, _nothing)(found, one)
    if settled is None:
        return found, replace(one, decided=None)
    fault_now, decides = settled
    return fault_now, replace(one, decided=fault_now.verdict.reason if decides else None)


def recipient_answer(code: int, refused: Verdict | None) -> str:
    """Return the word for the answer to RCPT in the server's own domain; ``refused`` is the verdict on a refusal."""
    if refused is None:
        return "accepted" if code in {250, 251} else "other"
    if refused.reason is Reason.RELAY_DENIED:
        return "relay"
    if refused.reason in _KNOWS_THE_DOMAIN:
        return "known"
    return "address" if refused.reason in _ABOUT_THE_CLIENT else "other"


_Settled = tuple[Fault, bool] | None


def _nothing(_found: Fault, _one: Experiment) -> _Settled:
    return None


def _client_hello(found: Fault, one: Experiment) -> _Settled:
    if not one.answer.startswith("tls"):
        return found._replace(detail=f"{found.detail}; {one.showed}"), False
    greets = one.answer == "tls-greeting"
    others = () if greets else (Reason.NOT_SMTP,)
    detail = f"{found.detail}, but {one.showed}: use mode smtps"
    return fault(Reason.WRONG_TLS_MODE, "tls-answers", detail, *others, confidence=1.0 if greets else 0.8), True


def _plain_greeting(found: Fault, one: Experiment) -> _Settled:
    if one.answer not in {Mode.STARTTLS.value, Mode.PLAIN.value}:
        return None
    what = "no TLS at once, but a plaintext greeting"
    if found.verdict.reason is Reason.WRONG_TLS_MODE:
        what = found.detail.removesuffix(". Use mode starttls")
    return fault(Reason.WRONG_TLS_MODE, "plaintext-on-tls-port", f"{what}: use mode {one.answer}"), True


def _old_tls(found: Fault, one: Experiment) -> _Settled:
    reset = found.verdict.reason is Reason.CONNECT_RESET
    if one.answer == "old":
        others = (Reason.CONNECT_RESET,) if reset else ()
        detail = f"{found.detail}, but {one.showed}: nothing newer gets through"
        sure = _SURE if reset else 1.0
        return fault(Reason.TLS_PROTOCOL_UNSUPPORTED, "old-tls-only", detail, *others, confidence=sure), True
    told = found._replace(detail=f"{found.detail}; {one.showed}")
    if reset and one.answer == "closed":
        # Cut whatever is offered: versions are not the cause, as far as one more handshake can tell.
        rest = tuple(
            other for other in found.verdict.alternatives if other.reason is not Reason.TLS_PROTOCOL_UNSUPPORTED
        )
        verdict = replace(found.verdict, confidence=max(found.verdict.confidence, _LIKELY), alternatives=rest)
        told = told._replace(verdict=verdict)
    return told, False


def _told(found: Fault, one: Experiment) -> Fault:
    return found._replace(detail="; ".join(part for part in (found.detail, one.showed) if part))


def _local_recipient(found: Fault, one: Experiment) -> _Settled:
    verdict = found.verdict
    told = _told(found, one)
    if one.answer in {"accepted", "known"}:
        if verdict.reason is not Reason.RELAY_DENIED or verdict.confidence < SURE_OF_RELAY:
            # Words about our address: that postmaster is reached proves no more, as many servers exempt it. Words that
            # fit an unknown recipient as well: another recipient that is known tells nothing of this one.
            return told, False
        # It talks to this address and takes its own mail: what is refused is relaying, and not the address at large.
        kept = tuple(other for other in verdict.alternatives if other.reason not in _ABOUT_THE_CLIENT - RELAY_REASONS)
        sure = max(verdict.confidence, _LIKELY if one.answer == "accepted" else 0.8)
        return told._replace(verdict=_shared(verdict, verdict.reason, sure, kept)), True
    if one.answer == "address":
        # Refused for its own domain too, in words about the client: no relay rule says that.
        rest = tuple(other for other in verdict.alternatives if other.reason is not Reason.EGRESS_IP_NOT_AUTHORIZED)
        if verdict.reason is Reason.RELAY_DENIED:
            rest = (Alternative(reason=Reason.RELAY_DENIED, confidence=verdict.confidence), *rest)
        sure = max(verdict.confidence, _LIKELY)
        decided = _shared(verdict, Reason.EGRESS_IP_NOT_AUTHORIZED, sure, rest)
        return told._replace(verdict=decided), True
    return told, False


def _address_again(found: Fault, one: Experiment) -> _Settled:
    if one.answer not in {settling.ACCEPTED, settling.MOVED}:
        return None
    told = _told(found, one)
    if one.answer == settling.ACCEPTED:
        # What was refused was the address of the pod's first seconds: too little to be sure of.
        was, address = found.verdict, Reason.EGRESS_IP_NOT_AUTHORIZED
        first = () if was.reason is address else (Alternative(reason=was.reason, confidence=was.confidence),)
        others = (*first, *(other for other in was.alternatives if other.reason is not address))
        decided = replace(_shared(was, address, _PASSING, others), rule=settling.RULE_FLAPPED)
        return told._replace(verdict=decided), True
    return told, False


def _username_variant(found: Fault, one: Experiment) -> _Settled:
    told = _told(found, one)
    if one.answer == "accepted":
        return told._replace(verdict=Verdict(reason=Reason.USERNAME_FORMAT, rule=RULE_USERNAME)), True
    if one.answer == "refused":
        # The likeliest other form is refused too. What is left for the form is half of what it had.
        verdict = found.verdict
        halved = tuple(
            replace(other, confidence=other.confidence / 2) if other.reason is Reason.USERNAME_FORMAT else other
            for other in verdict.alternatives
        )
        return told._replace(verdict=replace(verdict, alternatives=halved)), False
    return told, False


def with_form(verdict: Verdict, *, known: bool) -> Verdict:
    """Add that the form of the user name may be what is wrong; ``known``: the service wants another form than this."""
    form, reason = Reason.USERNAME_FORMAT, verdict.reason
    if reason is not Reason.BAD_CREDENTIALS:
        return verdict
    others = tuple(other for other in verdict.alternatives if other.reason is not form)
    if known:
        rest = _shared(verdict, reason, 0.95, others).alternatives
        first = Alternative(reason=form, confidence=_FORM_KNOWN)
        return replace(verdict, confidence=1 - _FORM_KNOWN - 0.05, alternatives=(first, *rest))
    if len(others) < len(verdict.alternatives):
        return verdict
    half = (1 - verdict.confidence) / 2
    halved = _shared(verdict, reason, 1 - half, others).alternatives
    found = (*halved, Alternative(reason=form, confidence=round(half, 3)))
    return replace(verdict, alternatives=tuple(sorted(found, key=lambda other: -other.confidence)))


def _shared(verdict: Verdict, reason: Reason, confidence: float, others: tuple[Alternative, ...]) -> Verdict:
    """Give a reason its confidence; the others share the rest as they stood to each other."""
    whole = sum(other.confidence for other in others)
    rest = 1 - confidence
    shared = tuple(
        Alternative(reason=other.reason, confidence=round(rest * other.confidence / whole, 3)) for other in others
    )
    return replace(verdict, reason=reason, confidence=confidence, alternatives=shared if whole else ())
