"""Bounded follow-ups on new connections, without a login: they settle what one connection leaves open (design §9).

At most two extra connections a run, ``Limits.pause`` apart, all to the address of the session, none where an earlier
run of this generation has asked the same. What is asked when, and what an answer means, stands in ``decisions``. A
ClientHello goes to a silent port only after the greeting's limit, and never to port 25.
"""

import asyncio
from collections.abc import Iterable
from itertools import takewhile
from time import monotonic
from typing import NamedTuple

from smtpprobe import decisions, faults, settling, tls
from smtpprobe.classify import SessionFacts, classify
from smtpprobe.clock import Clock
from smtpprobe.decisions import Scene
from smtpprobe.dialogue import Dialogue, Heard
from smtpprobe.faults import Fault
from smtpprobe.login import Login
from smtpprobe.model import Experiment, ProbeRequest, TlsOptions
from smtpprobe.plan import REFUSED_RECIPIENTS, Step, stages
from smtpprobe.redact import Redactor, clip
from smtpprobe.replies import offered, parse_ehlo
from smtpprobe.resolve import Address
from smtpprobe.stages import Stages
from smtpprobe.tcp import NotConnected, connect
from smtpprobe.vocabulary import Depth, Mode, Reason, Stage
from smtpprobe.wire import Cut, Wire

CONNECTIONS = 2
_SHOWN_CHARS = 200
_LEAST_SECONDS = 1.0


class Question(NamedTuple):
    """Whom the session spoke to: the address, the certificate's name, the domain that the server seems to be of.

    ``logged_in``: the login had succeeded, so a session without one is no comparison. ``chain``: what the handshake
    itself showed of a certificate that failed. ``seen_as``: what the server called our address; ``refused``: the
    recipients that it has refused.
    """

    address: Address
    server_name: str
    domain: str = ""
    logged_in: bool = False
    chain: str = ""
    seen_as: str | None = None
    refused: tuple[str, ...] = ()


class Lab:
    """The experiments of one run: ``made`` holds them, remembered ones too; ``left`` connections may yet be opened."""

    def __init__(self, request: ProbeRequest, mode: Mode, clock: Clock) -> None:
        self.made: list[Experiment] = []
        self.left = CONNECTIONS
        self._request = request
        self._mode = mode
        self._clock = clock

    async def inside(self, talk: Dialogue, scene: Scene, found: Fault, question: Question) -> Fault:
        """Ask what can be asked on the session's own connection, before it says goodbye."""
        name, wanted = decisions.LOCAL_RECIPIENT, decisions.wanted(found, scene)
        if name not in wanted or not self._askable(question):
            return found
        if decisions.ADDRESS_AGAIN in wanted and self._remembered(decisions.ADDRESS_AGAIN, found, question) is None:
            return found  # both may be refused, which is one too many: this one is for the next run
        known = self._remembered(name, found, question)
        return self._take(found, known or await self._recipient(talk, question), question)

    async def settle(self, scene: Scene, found: Fault, question: Question) -> Fault:
        """Make what the fault asks for, until one settles it; returns the fault as it stands then."""
        asked = found.verdict.reason
        for name in decisions.wanted(found, scene):
            if any(one.name == name for one in self.made):
                continue
            one = self._remembered(name, found, question) or await self._make(name, question, scene.stage, found)
            if one is None:
                continue
            found = self._take(found, one, question, asked)
            if self.made[-1].decided is not None:
                break
        return found

    async def open(self, address: Address, *, pause: bool = True, settled: bool = False) -> Wire | str:
        """Open one of the extra connections; a sentence where there is none. ``settled``: after the first seconds."""
        seconds = self._clock.limits.pause if pause else 0.0
        if settled:
            begun = monotonic() - self._clock.began
            seconds = max(seconds, self._request.settling_seconds - begun)
        now, end = monotonic(), self._clock.began + self._clock.limits.total
        if self.left == 0 or now + seconds + _LEAST_SECONDS > end:
            return "no time or no connection was left for it"
        self.left -= 1
        await asyncio.sleep(seconds)
        limit = self._clock.limit("connect", self._clock.limits.connect / 2)
        wire = await connect(address, limit, alone=self._clock.alone)
        return f"no second connection: {wire.detail}" if isinstance(wire, NotConnected) else wire

    # ------------------------------------------------------------------------------------------------- bookkeeping

    def _remembered(self, name: str, found: Fault, question: Question) -> Experiment | None:
        if name == decisions.CERTIFICATE:
            return None  # each run has its own handshake to look at
        return decisions.remembered(self._request.known, name, found.verdict.reason, question.address.ip)

    def _take(self, found: Fault, one: Experiment, question: Question, asked: Reason | None = None) -> Fault:
        """Note an experiment and what it decides; ``asked`` is the reason that the run began with."""
        settled, decided = decisions.decide(found, one)
        self.made.append(
            Experiment(
                name=one.name,
                showed=one.showed[:_SHOWN_CHARS],
                decided=decided.decided,
                answer=one.answer,
                reason=one.reason or asked or found.verdict.reason,
                server=question.address.ip,
                since=one.since,
            )
        )
        return settled

    async def _make(self, name: str, question: Question, stage: Stage, found: Fault) -> Experiment | None:
        match name:
            case decisions.ADDRESS_AGAIN:
                return await self._address_again(question, stage, found) if self._refusable(question) else None
            case decisions.CLIENT_HELLO:
                return await self._client_hello(question)
            case decisions.PLAIN_GREETING:
                return await self._plain_greeting(question)
            case decisions.OLD_TLS:
                return await self._old_tls(question)
            case decisions.CERTIFICATE:
                return _said(name, question.chain, "listed") if question.chain else None
            case _:
                askable = self._askable(question) and (not self.made or self._refusable(question))
                return await self._recipient_anew(question) if askable else None

    async def _walk(self, question: Question, stop: Stage) -> Stages | str:
        """Go through a session without a login to just before a stage; a sentence where that is not reached."""
        at = await self._begin(question, tls_too=stop is not Stage.TLS)
        if isinstance(at, str):
            return at
        steps = takewhile(lambda step: step.stage is not stop, stages(self._mode, Depth.ENVELOPE, login=False))
        ended = await walk(at, steps)
        if ended is None:
            return at
        assert at.wire is not None  # noqa: S101 - the walk connects
        at.wire.close()
        return _came_to(*ended)

    async def _begin(self, question: Question, *, tls_too: bool = True, settled: bool = False) -> Stages | str:
        """Connect for a session without a login; a sentence where that does not work."""
        wire = await self.open(question.address, settled=settled)
        if isinstance(wire, str):
            return wire
        nobody = Redactor(None)
        at = Stages(
            self._request, self._mode, self._clock, login=Login(self._request, None), redactor=nobody, on_line=None
        )
        at.address, at.wire = question.address, wire
        at.dialogue = Dialogue(wire, nobody, self._clock.began, None)
        if tls_too:
            at.prepare()
        return at

    # ------------------------------------------------------------------------------------------------ the experiments

    async def _client_hello(self, question: Question) -> Experiment:
        """Ask a silent port for TLS; the greeting's limit lies between the two connections already."""
        name = decisions.CLIENT_HELLO
        wire = await self.open(question.address, pause=False)
        if isinstance(wire, str):
            return _said(name, wire)
        try:
            context = tls.context(TlsOptions(insecure_skip_verify=True, min_version="1.0"))
            assert not isinstance(context, tls.Unusable)  # noqa: S101 - no file is read for this context
            seen = tls.Seen()
            limit = self._clock.limit("tls", self._clock.limits.tls / 2)
            await wire.handshake(seen.open(context, question.server_name), limit.deadline)
            if wire.tls is None and not seen.server_hello and seen.alert is None:
                return _said(name, "a ClientHello gets no answer either", "silent")
            greeting = await self._greeting_in_tls(wire, seen)
        finally:
            wire.close()
        said = f" and the greeting inside is '{greeting}'" if greeting else ""
        return _said(name, f"the silent port answers a ClientHello{said}", "tls-greeting" if greeting else "tls")

    async def _greeting_in_tls(self, wire: Wire, seen: tls.Seen) -> str:
        if wire.tls is None:
            return ""
        limits = self._clock.limits
        talk = Dialogue(wire, Redactor(None), self._clock.began, None)
        talk.secured(seen)
        heard = await talk.hear(Stage.GREETING, self._clock.limit("tls", limits.tls / 4))
        if isinstance(heard, Fault):
            return ""
        await self._quit(talk)
        return _first_line(heard)

    async def _plain_greeting(self, question: Question) -> Experiment:
        """Ask a port that speaks no TLS at once for its plaintext greeting, and which mode would work."""
        name = decisions.PLAIN_GREETING
        wire = await self.open(question.address)
        if isinstance(wire, str):
            return _said(name, wire)
        try:
            talk = Dialogue(wire, Redactor(None), self._clock.began, None)
            heard = await talk.hear(Stage.GREETING, self._clock.limit("greeting", self._clock.limits.tls / 2))
            if isinstance(heard, Fault) or heard.code != 220:
                showed = heard.detail if isinstance(heard, Fault) else f"the greeting is '{_first_line(heard)}'"
                return _said(name, f"without TLS: {showed}", "other")
            mode = await self._offered_mode(talk)
        finally:
            wire.close()
        showed = f"the server greets in plaintext with '{_first_line(heard)}', mode {mode} fits"
        return _said(name, showed, mode.value)

    async def _offered_mode(self, talk: Dialogue) -> Mode:
        line = b"EHLO " + self._request.helo_name.encode("ascii")
        heard = await talk.ask(line, Stage.EHLO, self._clock.reply())
        if isinstance(heard, Fault):
            return Mode.STARTTLS
        keywords = parse_ehlo(heard.raw).keywords if heard.code == 250 else ()
        await self._quit(talk)
        return Mode.STARTTLS if offered(keywords, "STARTTLS") else Mode.PLAIN

    async def _old_tls(self, question: Question) -> Experiment:
        """Offer only versions that a run never uses, to see whether versions are the matter; nothing is sent in it."""
        name = decisions.OLD_TLS
        context = tls.older(self._request.tls.min_version)
        what = "TLS 1.2" if self._request.tls.min_version == "1.3" else "TLS 1.0 and 1.1"
        at = await self._walk(question, Stage.TLS)
        if isinstance(at, str):
            return _said(name, at)
        assert at.wire is not None  # noqa: S101 - the walk connects
        seen = tls.Seen()
        try:
            limit = self._clock.limit("tls", self._clock.limits.tls / 2)
            end = await at.wire.handshake(seen.open(context, question.server_name), limit.deadline)
            version = at.wire.tls.version() if at.wire.tls is not None else None
        finally:
            at.wire.close()
        if version is not None or seen.server_hello:
            with_it = f" with {version}" if version is not None else ""
            return _said(name, f"a handshake that offers {what} alone is answered{with_it}", "old")
        if end.ended is not None and end.ended.how is not Cut.TIMEOUT:
            how = "reset" if end.ended.how is Cut.RESET else "closed"
            return _said(name, f"a handshake that offers {what} alone is {how} as well", "closed")
        why = faults.words(end.error) if end.error is not None else "no answer"
        return _said(name, f"a handshake that offers {what} alone fails as well ({why})", "other")

    async def _address_again(self, question: Question, stage: Stage, found: Fault) -> Experiment:
        """Go once more to where a fresh pod was refused for its address, when its network must have settled."""
        name, request = decisions.ADDRESS_AGAIN, self._request
        at = await self._begin(question, settled=True)
        if isinstance(at, str):
            return _said(name, at)
        assert at.wire is not None  # noqa: S101 - begun with one
        steps = stages(self._mode, Depth.ENVELOPE, login=False)
        last = max(index for index, step in enumerate(steps) if step.stage is stage)
        try:
            ended = await walk(at, steps[: last + 1], question.refused[0] if question.refused else None)
            if at.alive and stage in {Stage.MAIL, Stage.RCPT}:
                await at.talk.ask(b"RSET", Stage.QUIT, self._clock.limit("quit", self._clock.limits.quit))
            await self._quit(at.talk)
        finally:
            at.wire.close()
        if ended is not None and ended[0] is not stage:
            return _said(name, _came_to(*ended))
        second = ended[1] if ended is not None else None
        refusal = faults.said(second) if second is not None else ""
        seen = settling.address_seen(at.offers.lines, refusal, request.helo_name, question.address.ip)
        reason = second.verdict.reason if second is not None else None
        word = settling.address_again(found.verdict.reason, reason, question.seen_as, seen)
        when = f"{request.settling_seconds:g} s after the start"
        if word == settling.ACCEPTED:
            return _said(name, f"{when} the same is not refused: a fresh pod can leave from another address", word)
        here = f" as {seen}, at first as {question.seen_as}" if word == settling.MOVED else ""
        return _said(name, f"{when} it is refused again{here}: '{clip(refusal, 64)}'", word)

    def _refusable(self, question: Question) -> bool:
        """Say whether one more recipient may be refused (``plan.REFUSED_RECIPIENTS``)."""
        refused = {settling.REFUSED, settling.MOVED, "address", "relay", "known"}
        new = sum(one.answer in refused and one.since is None for one in self.made)
        return max(1, len(question.refused)) + new < REFUSED_RECIPIENTS

    async def _recipient_anew(self, question: Question) -> Experiment:
        """Ask for the server's own domain on a new connection, as the session's did not live long enough."""
        at = await self._walk(question, Stage.RCPT)
        if isinstance(at, str):
            return _said(decisions.LOCAL_RECIPIENT, at)
        assert at.wire is not None  # noqa: S101 - the walk connects
        try:
            one = await self._recipient(at.talk, question)
            if at.alive:
                await at.talk.ask(b"RSET", Stage.QUIT, self._clock.limit("quit", self._clock.limits.quit))
            await self._quit(at.talk)
        finally:
            at.wire.close()
        return one

    async def _recipient(self, talk: Dialogue, question: Question) -> Experiment:
        name, address = decisions.LOCAL_RECIPIENT, f"postmaster@{question.domain}"
        heard = await talk.ask(f"RCPT TO:<{address}>".encode("ascii"), Stage.RCPT, self._clock.reply())
        if isinstance(heard, Fault):
            return _said(name, f"{address}, of the server's own domain: {heard.detail}")
        refused = None
        if heard.code >= 400:
            facts = SessionFacts(host=self._request.host, rcpt_to=(address,))
            refused = classify(Stage.RCPT, heard.text, facts)
        word = decisions.recipient_answer(heard.code, refused)
        verb = "is accepted" if refused is None else "is refused"
        return _said(name, f"{address}, of the server's own domain, {verb}: '{_first_line(heard)}'", word)

    def _askable(self, question: Question) -> bool:
        """Say whether the question would be a new one: a domain is known, and no recipient of the session was in it."""
        envelope = self._request.envelope
        asked = {to.rpartition("@")[2].lower() for to in envelope.rcpt_to} if envelope else set()
        return bool(question.domain) and question.domain not in asked and not question.logged_in

    async def _quit(self, talk: Dialogue) -> None:
        if talk.alive:
            await talk.ask(b"QUIT", Stage.QUIT, self._clock.limit("quit", self._clock.limits.quit))


def _came_to(stage: Stage, end: Fault) -> str:
    return f"the new connection came to {stage}: {'; '.join(filter(None, (end.detail, faults.said(end))))}"


async def walk(at: Stages, steps: Iterable[Step], recipient: str | None = None) -> tuple[Stage, Fault] | None:
    """Go through a session on a connection that is open already; the stage and the fault that ended it, or None."""
    for step in steps:
        if step.stage in {Stage.DNS, Stage.CONNECT}:
            continue
        end = await at.run(step, recipient if step.stage is Stage.RCPT else None)
        if isinstance(end, Fault):
            return step.stage, end
    return None


def _said(name: str, showed: str, answer: str = "") -> Experiment:
    """Describe what an experiment showed; without an answer it was not made, and is tried again another time."""
    return Experiment(name=name, showed=showed, answer=answer)


def _first_line(heard: Heard) -> str:
    return clip(f"{heard.code} {heard.reply.lines[0]}", 64)
