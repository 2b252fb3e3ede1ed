"""Mode auto: which ports are looked at and how, what each turned out to be, and the one configuration to use. Pure.

====  =======  =================================================================================
port  begins   why
====  =======  =================================================================================
465   smtps    submission with TLS from the first byte (RFC 8314 §3.3): nothing can strip it
587   starttls submission (RFC 6409)
25    starttls relay between servers, and inside company networks; never a ClientHello where it is silent
2525  starttls what many providers offer where 587 is blocked
2465  smtps    Amazon SES and others, where 465 is blocked
2587  starttls the same, where 587 is blocked
====  =======  =================================================================================

Two ports are looked at at a time, each over one connection at a time. Different ports follow each other without a
pause: each is another service of the host that sees one or two short sessions, once per generation, while the pause
of experiments (design §9) is for asking one service again. A second look at the same port does wait.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from smtpprobe.model import Discovery, Features, PortFinding, ProbeRequest, ProbeResult, Verdict
from smtpprobe.plan import Limits, by_port, limits
from smtpprobe.replies import mechanisms, offered
from smtpprobe.vocabulary import Depth, Mode, Note, Outcome, Reason, Stage

AT_A_TIME = 2
PORTS = (465, 587, 25, 2525, 2465, 2587)
# Where a login follows the submission ports come first, TLS from the first byte before STARTTLS.
_FOR_SUBMISSION = (465, 587, 2465, 2587, 2525, 25)
_FOR_RELAY = (25, 587, 465, 2525, 2587, 2465)
# The part of a run's time that looking may take; the rest is the session's on what was found.
_LOOKING = 0.8
_SILENT = "transport:greeting-silent"
_TLS_FIRST = "transport:tls-record-in-greeting"
_NO_TLS = frozenset({Reason.WRONG_TLS_MODE, Reason.COMMAND_TIMEOUT, Reason.CONNECT_RESET, Reason.TLS_HANDSHAKE_FAILED})
# How far a session came that did not get through: what it met there says more than what stopped another one earlier.
_FAR = (Stage.DNS, Stage.CONNECT, Stage.GREETING, Stage.EHLO, Stage.STARTTLS, Stage.TLS)
_NOT_HEARD = frozenset({None, Stage.DNS, Stage.CONNECT})


class Choice(NamedTuple):
    """The port to use; without ``usable`` the one whose failure says most. ``why`` is a sentence for people."""

    finding: PortFinding
    usable: bool
    why: str


# -------------------------------------------------------------------------------------------------------- the looking


def look_limits(seconds: float) -> Limits:
    """Return the limits of looking at one port for ``seconds``: half of it is for a greeting that does not come."""
    usual = limits(max(seconds, 1.0))
    return usual._replace(
        connect=min(5.0, 0.25 * seconds),
        connect_all=0.35 * seconds,
        greeting=min(15.0, 0.45 * seconds),
        greeting_latest=0.7 * seconds,
        tls=min(10.0, 0.3 * seconds),
        reply=min(10.0, 0.3 * seconds),
        quit=min(2.0, 0.1 * seconds),
        pause=min(2.0, 0.1 * seconds),
    )


def looking_seconds(total: float) -> float:
    """Return how long all looking together may take in a run of ``total`` seconds."""
    return _LOOKING * total


def share(left: float, ports: int) -> float:
    """Return the seconds that one port may take where ``ports``, this one included, are left for ``left`` seconds.

    What quick ports leave is for the slow ones that follow.
    """
    return max(left, 0.0) / max(1, math.ceil(ports / AT_A_TIME))


def first_look(port: int) -> Mode:
    """Return the mode in which a look begins: TLS at once where the number stands for it, else a plain greeting."""
    return by_port(port)


def second_look(port: int, first: Mode, stage: Stage | None, verdict: Verdict | None, *, spoke: bool) -> Mode | None:
    """Return the other mode where the first look shows that it may be the right one; None where all is said.

    A ClientHello goes to a silent port only after the greeting's limit, on a new connection, and never to port 25.
    ``spoke``: the server answered a ClientHello with anything of TLS.
    """
    if verdict is None:
        return None
    if first is Mode.STARTTLS:
        silent = verdict.rule == _SILENT and port != 25
        return Mode.SMTPS if silent or verdict.rule == _TLS_FIRST else None
    wrong = stage is Stage.TLS and verdict.reason in _NO_TLS and not spoke
    return Mode.STARTTLS if first is Mode.SMTPS and wrong else None


def takes_plain(request: ProbeRequest, features: Features, *, login: bool, hidden: bool) -> bool:
    """Say whether mode auto may go on in plain after an EHLO without STARTTLS.

    Never with a login to come, nor where the port offered TLS before or something seems to hide the offer (``hidden``).
    """
    if login or hidden or request.tls_required or request.port in request.tls_seen:
        return False
    return not offered(features.before_tls or (), "STARTTLS")


def finding(port: int, mode: Mode, result: ProbeResult, *, spoke_tls: bool, elapsed_ms: int) -> PortFinding:
    """Say what a port turned out to be, from the session in ``mode`` that told most."""
    before = result.features.before_tls
    found: Mode | None = None
    if before is not None:
        found = Mode.STARTTLS if offered(before, "STARTTLS") else Mode.PLAIN
    elif mode is Mode.SMTPS and (spoke_tls or result.tls is not None):
        found = Mode.SMTPS
    failed = next((entry for entry in result.stages if entry.stage is result.stage and entry.outcome == "Failed"), None)
    return PortFinding(
        port=port,
        mode=found,
        reason=result.verdict.reason if result.verdict else None,
        stage=result.stage,
        detail=failed.detail if failed else None,
        features=result.features,
        tls=result.tls,
        notes=tuple(note for note in result.notes if note is not Note.HELO_NAME_DEFAULT),
        elapsed_ms=elapsed_ms,
    )


def answered(found: PortFinding) -> bool:
    """Say whether the port took a connection."""
    return found.reason is None or found.stage not in _NOT_HEARD


# --------------------------------------------------------------------------------------------------------- the choice


def choose(findings: Sequence[PortFinding], request: ProbeRequest, *, login: bool) -> Choice:
    """Choose among at least one finding.

    With a login, or without an envelope: verified TLS, then a login on offer, then the order of submission ports; plain
    only where no port offers TLS, as a certificate is to be mended and not to be gone round. An envelope without a
    login asks for relaying by address: a port that offers no login first, then TLS, then port 25.
    """
    relay = not login and request.envelope is not None and request.depth in {Depth.ENVELOPE, Depth.MESSAGE}
    takes_plain = relay or not (login or any(map(offers_tls, findings)))
    usable = [found for found in findings if found.reason is None and (takes_plain or found.mode is not Mode.PLAIN)]
    order = _FOR_RELAY if relay else _FOR_SUBMISSION

    def place(found: PortFinding) -> int:
        return order.index(found.port) if found.port in order else len(order)

    if not usable:
        failing = [found for found in findings if found.reason is not None] or findings
        best = max(failing, key=lambda found: (_far(found), -place(found)))
        alone = len(findings) == 1 and best.detail
        return Choice(best, usable=False, why=alone or f"no port can be used: {summary(findings)}")

    def rank(found: PortFinding) -> tuple[bool, bool, int]:
        login_offered, plain = bool(logins(found)), found.mode is Mode.PLAIN
        return (login_offered, plain, place(found)) if relay else (plain, login and not login_offered, place(found))

    best = min(usable, key=rank)
    return Choice(best, usable=True, why=_why(best, findings, relay=relay))


def _far(found: PortFinding) -> int:
    return _FAR.index(found.stage) if found.stage in _FAR else len(_FAR)


def offers_tls(found: PortFinding) -> bool:
    """Say whether the port speaks TLS, usable or not."""
    return found.mode in {Mode.STARTTLS, Mode.SMTPS} or found.tls is not None


def logins(found: PortFinding) -> tuple[str, ...]:
    """Return the SASL mechanisms that the port offers where its mode would use them."""
    plain = found.mode is Mode.PLAIN
    return mechanisms((found.features.before_tls if plain else found.features.after_tls) or ())


def _why(best: PortFinding, findings: Sequence[PortFinding], *, relay: bool) -> str:
    offer = logins(best)
    parts = {
        Mode.SMTPS: "TLS from the first byte",
        Mode.STARTTLS: "STARTTLS",
        Mode.PLAIN: "without TLS" if any(map(offers_tls, findings)) else "no port offers TLS",
        None: "",
    }[best.mode]
    if best.tls is not None:
        parts += f" with {'a verified' if best.tls.verified else 'an unverified'} certificate"
    if relay and not offer:
        parts += ", no login asked for"
    elif offer:
        parts += f", login by {' '.join(offer)}"
    if best.mode is Mode.SMTPS and any(found.mode is Mode.STARTTLS and found.reason is None for found in findings):
        parts += "; nothing on the way can take it away, as it can take away STARTTLS (RFC 8314)"
    return parts


def summary(findings: Sequence[PortFinding]) -> str:
    """Say of each port in a word why it is no use, such as ``465 ConnectRefused, 587 CertificateExpired``."""
    return ", ".join(f"{found.port} {found.reason or found.mode}" for found in sorted(findings, key=_port))


def concluded(findings: Sequence[PortFinding], choice: Choice) -> Discovery:
    """Put findings and choice into what the result carries, ports in the order of their numbers."""
    heard = any(map(answered, findings))
    return Discovery(
        port=choice.finding.port if heard else None,
        mode=choice.finding.mode if heard else None,
        why=choice.why,
        ports=tuple(sorted(findings, key=_port)),
    )


def of_one(found: PortFinding) -> Discovery:
    """Return what is to be said of the one port that was asked for."""
    mode, heard = found.mode, answered(found)
    why = f"the port answers in mode {mode}" if mode else f"no mail server was heard: {found.reason}"
    return Discovery(port=found.port if heard else None, mode=mode if heard else None, why=why, ports=(found,))


def _port(found: PortFinding) -> int:
    return found.port


def resolved(request: ProbeRequest, result: ProbeResult) -> ProbeRequest:
    """Return the request as the session was in the end: with the port and the mode that mode auto found."""
    found = result.discovery
    if request.mode is not Mode.AUTO or found is None or found.port is None:
        return request
    return msgspec.structs.replace(request, port=found.port, mode=found.mode or Mode.AUTO)


def works(found: Discovery | None) -> bool:
    """Say whether the port that was chosen can be used, whatever became of the login on it."""
    return found is not None and any(one.port == found.port and one.reason is None for one in found.ports)


def unusable(request: ProbeRequest, result: ProbeResult, found: Discovery) -> ProbeResult:
    """Make the result of a run that found no port to use out of the look whose failure says most."""
    verdict = result.verdict or Verdict(reason=Reason.TLS_NOT_OFFERED, rule="transport:starttls-absent")
    where = f"{request.host} {Mode.AUTO}"
    text = " ".join(f"{where}, {result.stage}: {found.why}".split())
    return msgspec.structs.replace(
        result,
        outcome=Outcome.FAILED,
        verdict=verdict,
        stage=result.stage or Stage.STARTTLS,
        message=text if len(text) <= 200 else text[:197] + "...",
        discovery=found,
    )
