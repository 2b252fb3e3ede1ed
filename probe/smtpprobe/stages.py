"""What each stage of a session says and how its answer is read; ``session`` walks them in the order of ``plan``.

A stage returns ``Done`` or ``Fault`` and leaves facts behind (features, notes, the TLS session). Refusals in words are
for ``classify``; silence, cuts and nonsense for ``faults``.
"""

import asyncio
import functools
import os
import re
import ssl
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from smtpprobe import faults, tls
from smtpprobe.clock import Clock
from smtpprobe.dialogue import Dialogue, Heard, LineSink
from smtpprobe.faults import Fault, fault
from smtpprobe.login import Login
from smtpprobe.model import AddressAttempt, Envelope, ProbeRequest, Reply, Verdict
from smtpprobe.offers import Offers
from smtpprobe.plan import SLOW_GREETING, Step
from smtpprobe.redact import Redactor, clip
from smtpprobe.replies import offered
from smtpprobe.resolve import Address, NotResolved, resolve
from smtpprobe.tcp import NotConnected, connect
from smtpprobe.threads import beside
from smtpprobe.vocabulary import Mode, Note, Reason, Stage
from smtpprobe.wire import Limit, Wire

if TYPE_CHECKING:
    from smtpprobe.message import Message

_NNTP = re.compile(r"\b(NNTP|INN|news)\b", re.IGNORECASE)
_STARRED = re.compile(r"\*{4}")
_CONNECT_ORDER = (Reason.CONNECT_REFUSED, Reason.CONNECT_TIMEOUT, Reason.CONNECT_PROHIBITED)
_SENDERS = (Reason.SENDER_NOT_AUTHORIZED, Reason.SENDER_NOT_VERIFIED, Reason.SENDER_REJECTED)
_ABOUT_ADDRESSES = {*_SENDERS, Reason.RECIPIENT_REJECTED, Reason.MAILBOX_UNAVAILABLE, Reason.QUOTA_EXCEEDED}


class Done(NamedTuple):
    """A stage that passed."""

    heard: Heard | None = None
    detail: str | None = None

    @property
    def reply(self) -> Reply | None:
        """What was heard, in the form that may be stored."""
        return self.heard.reply if self.heard is not None else None


class CannotRun(Exception):  # noqa: N818 - it is no error of the program
    """The request cannot be carried out; says which reason and what to change."""

    def __init__(self, reason: Reason, detail: str, rule: str = "run:cannot") -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.rule = rule


class Stages:
    """The stages of one session and the facts that they leave."""

    def __init__(
        self,
        request: ProbeRequest,
        mode: Mode,
        clock: Clock,
        *,
        login: Login,
        redactor: Redactor,
        on_line: LineSink | None,
    ) -> None:
        self.request = request
        self.mode = mode
        self.clock = clock
        self.login = login
        self.notes: dict[Note, None] = {}
        self.attempts: list[AddressAttempt] = []
        self.address: Address | None = None
        self.wire: Wire | None = None
        self.dialogue: Dialogue | None = None
        self.seen = tls.Seen()
        self.tls: ssl.SSLObject | None = None
        self.spoke_tls = False
        self.offers = Offers()
        self.banner = ""
        self._redactor = redactor
        self._on_line = on_line
        self.known: tuple[Address, ...] | NotResolved | None = None
        self._addresses: tuple[Address, ...] = ()
        self._opening: asyncio.Future[tls.Opening | tls.Unusable] | None = None
        self._made: tls.Opening | tls.Unusable | None = None  # there before the loop tells of it

    def prepare(self) -> None:
        """Begin what takes long during the first round trips: reading the system's CA bundle, making a ClientHello."""
        if self.mode is not Mode.PLAIN:
            self._opening = beside(self._open)

    def _open(self) -> tls.Opening | tls.Unusable:
        context = tls.shared(self.request.tls)
        made = context if isinstance(context, tls.Unusable) else self.seen.open(context, self.server_name)
        self._made = made
        return made

    def _hello(self) -> bytes:
        """Return the ClientHello that begins a connection in mode smtps, where it is made already."""
        if self.mode is not Mode.SMTPS or not isinstance(self._made, tls.Opening):
            return b""
        return self._made.outgoing.read()

    @functools.cached_property
    def mail(self) -> "Message":
        """The message of this session; there is one where the plan has ``data``."""
        from smtpprobe import message  # by need: few sessions send one

        envelope = self.request.envelope or Envelope()
        return message.compose(envelope, self.request.helo_name, os.urandom(8).hex(), tls.utc_now())

    @property
    def talk(self) -> Dialogue:
        """The conversation; there is one in every stage after ``connect``."""
        assert self.dialogue is not None  # noqa: S101 - the plan connects first
        return self.dialogue

    @property
    def alive(self) -> bool:
        """Say whether the server can still be asked."""
        return self.dialogue is not None and self.dialogue.alive

    @property
    def server_name(self) -> str:
        """The name that the certificate must carry."""
        name = (self.request.tls.server_name or self.request.host).rstrip(".")
        try:
            return name if name.isascii() else name.encode("idna").decode("ascii")
        except UnicodeError:
            return ""

    async def run(self, step: Step, recipient: str | None) -> Done | Fault:
        """Carry out one step."""
        match step.stage:
            case Stage.DNS:
                return await self._dns()
            case Stage.CONNECT:
                return await self._connect()
            case Stage.GREETING:
                return await self._greeting()
            case Stage.EHLO:
                return await self._ehlo(step)
            case Stage.STARTTLS:
                return await self._starttls()
            case Stage.TLS:
                return await self._handshake()
            case Stage.AUTH:
                return await self._auth()
            case Stage.MAIL:
                assert self.request.envelope is not None  # noqa: S101 - checked before the walk
                return await self._command(f"MAIL FROM:<{self.request.envelope.mail_from}>", Stage.MAIL, {250})
            case Stage.RCPT:
                return await self._command(f"RCPT TO:<{recipient}>", Stage.RCPT, {250, 251, 252})
            case Stage.DATA:
                return await self._command("DATA", Stage.DATA, {354})
            case Stage.DOT:
                limit = self.clock.limit("dot", self.clock.limits.dot)
                return self._answered(await self.talk.deliver(self.mail, limit), Stage.DOT, {250})
            case _:
                raise AssertionError(step.stage)  # the plan has no other

    async def _dns(self) -> Done | Fault:
        limit = self.clock.limit("dns", self.clock.limits.dns)
        left = limit.deadline - monotonic()
        found = self.known or await resolve(self.request.host, self.request.port, left)
        if isinstance(found, NotResolved):
            return Fault(Verdict(reason=found.reason, rule=found.rule), found.detail)
        self._addresses = found
        return Done()

    async def _connect(self) -> Done | Fault:
        whole = self.clock.limit("connect, all addresses", self.clock.limits.connect_all)
        failures: dict[str, NotConnected] = {}
        for address in self._addresses:
            began = monotonic()
            one = self.clock.limit("connect", self.clock.limits.connect)
            limit = one if one.deadline <= whole.deadline else whole
            if limit.deadline <= began or self.address is not None:
                self.attempts.append(AddressAttempt(ip=address.ip))
                continue
            end = await connect(address, limit, self._hello, alone=self.clock.alone)
            elapsed = round((monotonic() - began) * 1000)
            if isinstance(end, NotConnected):
                failures[address.ip] = end
                self.attempts.append(AddressAttempt(ip=address.ip, tried=True, reason=end.reason, elapsed_ms=elapsed))
                continue
            self.attempts.append(AddressAttempt(ip=address.ip, tried=True, connected=True, elapsed_ms=elapsed))
            self.address, self.wire = address, end
            self.dialogue = Dialogue(end, self._redactor, self.clock.began, self._on_line)
        return Done() if self.address is not None else _not_connected(failures)

    async def _greeting(self) -> Done | Fault:
        began = monotonic()
        limits = self.clock.limits
        limit = self.clock.limit("greeting", limits.greeting)
        latest = self.clock.began + limits.greeting_latest
        if latest < limit.deadline:
            limit = Limit(latest, f"{latest - began:.3g} s (limit greeting, cut by total {limits.total:.3g} s)")
        heard = await self.talk.hear(Stage.GREETING, limit)
        if monotonic() - began > SLOW_GREETING:
            self.notes[Note.GREETING_SLOW] = None
        if isinstance(heard, Fault):
            return heard
        self.talk.wire.later(functools.partial(self._read_banner, heard))
        if heard.code == 220:
            return Done(heard)
        self.talk.wire.catch_up()
        if _NNTP.search(self.banner) and heard.code in {200, 201}:
            return fault(Reason.NOT_SMTP, "not-smtp", "this is a news server (NNTP)", reply=heard.reply)
        if heard.code < 400:
            detail = f"a greeting begins with 220, this one with {heard.code}"
            return fault(Reason.PROTOCOL_ERROR, "greeting-code", detail, reply=heard.reply)
        return self._refused(Stage.GREETING, heard)

    def _read_banner(self, heard: Heard) -> None:
        self.banner = " ".join(heard.reply.lines)
        if _STARRED.search(self.banner):
            self.notes[Note.MIDDLEBOX_SUSPECTED] = None

    async def _ehlo(self, step: Step) -> Done | Fault:
        name = self.request.helo_name.encode("ascii")
        heard = await self.talk.ask(b"EHLO " + name, Stage.EHLO, self.clock.reply())
        helo = isinstance(heard, Heard) and heard.code in {500, 502}
        if helo:
            heard = await self.talk.ask(b"HELO " + name, Stage.EHLO, self.clock.reply())
        if isinstance(heard, Fault):
            return heard
        if heard.code != 250:
            return self._ehlo_refused(step, heard)
        if helo:
            self.notes[Note.NO_ESMTP] = None
        self.offers.hear(heard, esmtp=not helo)
        self.talk.wire.later(functools.partial(self._store_offers, heard, esmtp=not helo, after_tls=step.after_tls))
        return Done(heard)

    def _store_offers(self, heard: Heard, *, esmtp: bool, after_tls: bool) -> None:
        self.notes.update(dict.fromkeys(self.offers.store(heard, esmtp=esmtp, after_tls=after_tls)))

    def _ehlo_refused(self, step: Step, heard: Heard) -> Fault:
        other = faults.other_service(self.banner) if heard.code >= 500 else None
        if other is not None:
            detail = f"this is {other}: '{clip(self.banner, 64)}'"
            return fault(Reason.NOT_SMTP, "not-smtp", detail, reply=heard.reply)
        refused = self._refused(Stage.EHLO, heard)
        again = step.after_tls and self.mode is Mode.STARTTLS
        if again and heard.code != 421 and refused.verdict.rule.startswith(("code-", "unknown")):
            detail = "the server wants no EHLO after STARTTLS, against RFC 3207 section 4.2"
            return fault(Reason.PROTOCOL_ERROR, "ehlo-after-tls", detail, reply=heard.reply)
        if refused.verdict.reason in _ABOUT_ADDRESSES:
            # No address has been named yet: all that a server can refuse here is our name.
            other = refused.verdict.reason
            return fault(Reason.HELO_REJECTED, "ehlo-name", "", other, confidence=0.7, reply=heard.reply)
        return refused

    async def _starttls(self) -> Done | Fault:
        if not offered(self.offers.keywords, "STARTTLS"):
            self.talk.wire.catch_up()
            early = self._spoke_early(Stage.STARTTLS)
            if early is not None:
                return early
            before = self.request.port in self.request.tls_seen
            return faults.no_starttls(masked=Note.MIDDLEBOX_SUSPECTED in self.notes, before=before)
        heard = await self.talk.ask(b"STARTTLS", Stage.STARTTLS, self.clock.reply())
        if isinstance(heard, Fault):
            return heard
        if heard.code != 220:
            return self._refused(Stage.STARTTLS, heard)
        extra = self.talk.unread()
        if faults.is_alert(extra):
            self.talk.wire.give_back(extra)
        elif extra:
            self.talk.alive = False
            detail = f"bytes after the reply to STARTTLS and before TLS: '{faults.excerpt(extra)}'"
            return fault(Reason.STARTTLS_INJECTION, "bytes-after-starttls", detail, reply=heard.reply)
        return Done(heard)

    async def _handshake(self) -> Done | Fault:
        assert self._opening is not None and self.wire is not None  # noqa: S101, PT018 - the plan connects first
        opening = self._made or await self._opening
        if isinstance(opening, tls.Unusable):
            raise CannotRun(Reason.SPEC_INVALID, opening.detail)
        limit = self.clock.limit("tls", self.clock.limits.tls)
        end = await self.wire.handshake(opening, limit.deadline)
        self.tls = self.wire.tls
        if self.tls is None:
            self.talk.alive = False
            self.spoke_tls = end.plaintext is None and end.received > 0
            found = faults.handshake(end, self.seen, self.mode, limit)
            if not isinstance(end.error, ssl.SSLCertVerificationError):
                return found
            return found._replace(detail=tls.explain(end.error, self.seen, self.server_name))
        self.talk.secured(self.seen)
        self.offers.secured()
        cipher = self.tls.cipher()
        return Done(detail=f"{self.tls.version()} {cipher[0] if cipher else ''}".strip())

    async def _auth(self) -> Done | Fault:
        plain = self.mode is Mode.PLAIN
        if plain and not self.request.allow_plaintext_auth:
            use = "starttls" if offered(self.offers.keywords, "STARTTLS") else "starttls (port 587) or smtps (port 465)"
            detail = f"no login is sent without TLS: use mode {use}, or set spec.allowPlaintextAuth"
            return fault(Reason.PLAINTEXT_AUTH_REFUSED, "plaintext-auth", detail, notes=frozenset({Note.NOT_SENT}))
        early = self._spoke_early(Stage.AUTH)
        if early is not None:
            return early
        end = await self.login.run(self.talk, self.offers, self.clock.reply, self._redactor)
        if isinstance(end, Fault):
            return end
        if end.code == 235:
            return Done(end, self.login.choice)
        return self.login.refused_with(end.code, self._refused(Stage.AUTH, end))

    def _spoke_early(self, stage: Stage) -> Fault | None:
        """Judge a reply that nobody asked for, before a stage that may end without a word of ours."""
        if not self.talk.unread():
            return None
        end = self.talk.unsolicited(stage)
        return end if isinstance(end, Fault) else self._refused(stage, end)

    async def _command(self, line: str, stage: Stage, good: set[int]) -> Done | Fault:
        return self._answered(await self.talk.ask(line.encode("ascii"), stage, self.clock.reply()), stage, good)

    def _answered(self, heard: Heard | Fault, stage: Stage, good: set[int]) -> Done | Fault:
        if isinstance(heard, Fault):
            return heard
        if heard.code not in good:
            return self._refused(stage, heard)
        if heard.code == 252:
            self.notes[Note.RECIPIENT_UNVERIFIABLE] = None
        return Done(heard, f"Message-ID {self.mail.id}" if stage is Stage.DATA else None)

    def _refused(self, stage: Stage, heard: Heard) -> Fault:
        self.talk.wire.catch_up()
        if heard.code < 400:
            detail = f"{heard.code} is no answer to this command"
            if stage is Stage.DOT:
                detail += "; the message may have been delivered"
            self.talk.alive = False
            return fault(Reason.PROTOCOL_ERROR, "unexpected-code", detail, reply=heard.reply)
        from smtpprobe.classify import SessionFacts, classify  # by need: a session that passes has no refusal

        envelope = self.request.envelope
        facts = SessionFacts(
            host=self.request.host,
            banner=self.banner,
            tls_active=self.tls is not None,
            login_sent=self.login.facts.sent,
            login_offered=self.offers.login,
            mail_from=envelope.mail_from if envelope else None,
            rcpt_to=envelope.rcpt_to if envelope else (),
        )
        return Fault(classify(stage, heard.text, facts), "", heard.reply)


def _not_connected(failures: dict[str, NotConnected]) -> Fault:
    first = min(failures.values(), key=lambda failure: _CONNECT_ORDER.index(failure.reason))
    detail = "; ".join(f"{ip}: {failure.detail}" for ip, failure in failures.items())
    others = dict.fromkeys(failure.reason for failure in failures.values() if failure.reason is not first.reason)
    rule = first.rule.removeprefix("transport:")
    return fault(first.reason, rule, detail, *others, confidence=0.8 if others else 1.0)
