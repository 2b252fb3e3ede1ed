"""Bounded follow-ups on new connections, without a login: they settle what one connection leaves open (design §9).

At most two extra connections a run, ``Limits.pause`` apart, all to the address of the session. A ClientHello goes to
a silent port only after the greeting's limit, and never to port 25.
"""

import asyncio
from typing import NamedTuple

from smtpprobe import faults, tls
from smtpprobe.clock import Clock
from smtpprobe.dialogue import Dialogue, Heard
from smtpprobe.faults import Fault, fault
from smtpprobe.model import Experiment, ProbeRequest, TlsOptions
from smtpprobe.redact import Redactor, clip
from smtpprobe.replies import offered, parse_ehlo
from smtpprobe.resolve import Address
from smtpprobe.vocabulary import Mode, Reason, Stage
from smtpprobe.wire import NotConnected, Wire, connect

_SILENT_TLS = frozenset({Reason.COMMAND_TIMEOUT, Reason.CONNECT_RESET, Reason.TLS_HANDSHAKE_FAILED})


class Question(NamedTuple):
    """What the session was: request, effective mode, the address that it spoke to, the certificate's name.

    ``spoke_tls`` where the server answered the ClientHello with anything of TLS.
    """

    request: ProbeRequest
    mode: Mode
    address: Address
    server_name: str
    spoke_tls: bool = False


class Settled(NamedTuple):
    """The fault as it stands now, and the experiments that were made."""

    fault: Fault
    made: tuple[Experiment, ...] = ()


async def settle(question: Question, stage: Stage, found: Fault, clock: Clock) -> Settled:
    """Choose and make the experiment for a fault; without one, the fault stands as it is."""
    reason = found.verdict.reason
    silent = found.verdict.rule == f"transport:{faults.SILENT_GREETING}"
    if silent and question.mode is not Mode.SMTPS and question.request.port != 25:
        return await _client_hello(question, found, clock)
    if stage is not Stage.TLS or question.mode is not Mode.SMTPS or question.spoke_tls:
        return Settled(found)
    if reason in {Reason.WRONG_TLS_MODE, *_SILENT_TLS}:
        return await _plain_hello(question, found, clock)
    return Settled(found)


async def _client_hello(question: Question, found: Fault, clock: Clock) -> Settled:
    """Ask a silent port for TLS."""
    name = "client-hello"
    wire = await _open(question, clock)
    if isinstance(wire, NotConnected):
        return Settled(found, (Experiment(name=name, showed=f"no second connection: {wire.detail}"),))
    try:
        context = tls.context(TlsOptions(insecure_skip_verify=True, min_version="1.0"))
        assert not isinstance(context, tls.Unusable)  # noqa: S101 - no file is read for this context
        seen = tls.Seen()
        seen.watch(context)
        limit = clock.limit("tls", clock.limits.tls / 2)
        await wire.handshake(context, question.server_name, limit.deadline)
        if wire.tls is None and not seen.server_hello and seen.alert is None:
            showed = "a ClientHello gets no answer either"
            return Settled(found._replace(detail=f"{found.detail}; {showed}"), (Experiment(name=name, showed=showed),))
        greeting = await _greeting_in_tls(wire, seen, clock)
    finally:
        await wire.close()
    said = f" and the greeting inside is '{greeting}'" if greeting else ""
    showed = f"the silent port answers a ClientHello{said}"
    detail = f"{found.detail}, but {showed}: use mode smtps"
    confidence = 1.0 if greeting else 0.8
    settled = fault(
        Reason.WRONG_TLS_MODE, "tls-answers", detail, *(() if greeting else (Reason.NOT_SMTP,)), confidence=confidence
    )
    return Settled(settled, (Experiment(name=name, showed=showed, decided=Reason.WRONG_TLS_MODE),))


async def _greeting_in_tls(wire: Wire, seen: tls.Seen, clock: Clock) -> str:
    if wire.tls is None:
        return ""
    talk = Dialogue(wire, Redactor(None), clock.began, None)
    talk.secured(seen)
    heard = await talk.hear(Stage.GREETING, clock.limit("tls", clock.limits.tls / 4))
    if isinstance(heard, Fault):
        return ""
    if talk.alive:
        await talk.ask(b"QUIT", Stage.QUIT, clock.limit("quit", clock.limits.quit))
    return _first_line(heard)


async def _plain_hello(question: Question, found: Fault, clock: Clock) -> Settled:
    """Ask a port that speaks no TLS at once for its plaintext greeting, and which mode would work."""
    name = "plain-greeting"
    certain = found.verdict.reason is Reason.WRONG_TLS_MODE
    await asyncio.sleep(clock.limits.pause)
    wire = await _open(question, clock)
    if isinstance(wire, NotConnected):
        return Settled(found, (Experiment(name=name, showed=f"no second connection: {wire.detail}"),))
    try:
        talk = Dialogue(wire, Redactor(None), clock.began, None)
        heard = await talk.hear(Stage.GREETING, clock.limit("greeting", clock.limits.tls / 2))
        if isinstance(heard, Fault) or heard.code != 220:
            showed = heard.detail if isinstance(heard, Fault) else f"the plaintext greeting is '{_first_line(heard)}'"
            return Settled(found, (Experiment(name=name, showed=showed),))
        mode = await _offered_mode(question, talk, clock)
    finally:
        await wire.close()
    showed = f"the server greets in plaintext with '{_first_line(heard)}', mode {mode} fits"
    what = found.detail.removesuffix(". Use mode starttls") if certain else "no TLS at once, but a plaintext greeting"
    detail = f"{what}: use mode {mode}"
    rule = "plaintext-on-tls-port"
    return Settled(
        fault(Reason.WRONG_TLS_MODE, rule, detail),
        (Experiment(name=name, showed=showed, decided=Reason.WRONG_TLS_MODE),),
    )


async def _offered_mode(question: Question, talk: Dialogue, clock: Clock) -> Mode:
    heard = await talk.ask(b"EHLO " + question.request.helo_name.encode("ascii"), Stage.EHLO, clock.reply())
    if isinstance(heard, Fault):
        return Mode.STARTTLS
    keywords = parse_ehlo(heard.raw).keywords if heard.code == 250 else ()
    if talk.alive:
        await talk.ask(b"QUIT", Stage.QUIT, clock.limit("quit", clock.limits.quit))
    return Mode.STARTTLS if offered(keywords, "STARTTLS") else Mode.PLAIN


async def _open(question: Question, clock: Clock) -> Wire | NotConnected:
    return await connect(question.address, clock.limit("connect", clock.limits.connect / 2))


def _first_line(heard: Heard) -> str:
    return clip(f"{heard.code} {heard.reply.lines[0]}", 64)
