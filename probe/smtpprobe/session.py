"""One SMTP session, stage by stage, along the table of ``plan``: what was said becomes stages, facts and one verdict.

A stage is a method that returns ``Done`` or ``Fault``; the walk ends at the first fault (recipients are all asked).
Nothing that a network or a server does raises here.
"""

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import NamedTuple

import msgspec

from smtpprobe import faults, tls
from smtpprobe.classify import SessionFacts, classify
from smtpprobe.credentials import Credentials, edge_whitespace
from smtpprobe.dialogue import Dialogue, Heard, LineSink
from smtpprobe.faults import Fault, Limit, fault
from smtpprobe.login import Login
from smtpprobe.model import (
    DEFAULT_HELO_NAME,
    AddressAttempt,
    Experiment,
    Features,
    ProbeRequest,
    ProbeResult,
    Reply,
    StageResult,
    Verdict,
)
from smtpprobe.plan import SLOW_GREETING, Step, by_port, limits, stages
from smtpprobe.redact import Redactor
from smtpprobe.replies import mechanisms, offered, parse_ehlo
from smtpprobe.resolve import Address, NotResolved, resolve
from smtpprobe.summary import message, with_egress
from smtpprobe.vocabulary import Depth, Mode, Note, Outcome, Reason, Stage, StageOutcome
from smtpprobe.wire import NotConnected, Wire, connect

StageSink = Callable[[StageResult], None]
_FTP = re.compile(r"\bFTP", re.IGNORECASE)
_STARRED = re.compile(r"\*{4}")
_CONNECT_ORDER = (Reason.CONNECT_REFUSED, Reason.CONNECT_TIMEOUT, Reason.CONNECT_RESET, Reason.CONNECT_PROHIBITED)


class Done(NamedTuple):
    """A stage that passed."""

    reply: Reply | None = None
    detail: str | None = None


class CannotRun(Exception):  # noqa: N818 - it is no error of the program
    """The request cannot be carried out; says which reason and what to change."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


async def probe(
    request: ProbeRequest,
    credentials: Credentials | None,
    *,
    on_stage: StageSink | None = None,
    on_line: LineSink | None = None,
    stop: asyncio.Event | None = None,
) -> ProbeResult:
    """Walk one session and return its result; when ``stop`` is set, at once with what there is (Error).

    ``on_stage`` gets each stage as it ends (``tls`` again when the server refuses it after the fact), ``on_line`` each
    line said and heard, safe to print.
    """
    session = Session(request, credentials, on_stage, on_line)
    walk = asyncio.ensure_future(session.run())
    waiter = asyncio.ensure_future(stop.wait()) if stop is not None else None
    try:
        await asyncio.wait({walk} | ({waiter} if waiter else set()), return_when=asyncio.FIRST_COMPLETED)
        if not walk.done():
            session.stopped()
    finally:
        for task in (walk, waiter):
            if task is not None and not task.done():
                task.cancel()
        await asyncio.wait({walk})
    if not walk.cancelled():
        walk.result()
    return await session.result()


class Session:
    """The state of one walk; ``run`` once, then ``result``."""

    def __init__(
        self,
        request: ProbeRequest,
        credentials: Credentials | None,
        on_stage: StageSink | None = None,
        on_line: LineSink | None = None,
    ) -> None:
        self.request = request
        self.mode = by_port(request.port) if request.mode is Mode.AUTO else request.mode
        self.limits = limits(request.timeout_seconds)
        self.started_at = tls.utc_now()
        self.stages: list[StageResult] = []
        self.notes: dict[Note, None] = {}
        self.attempts: list[AddressAttempt] = []
        self.address: Address | None = None
        self.talk: Dialogue | None = None
        self.seen = tls.Seen()
        self.features = Features()
        self.fault: Fault | None = None
        self.fault_stage: Stage | None = None
        self.cannot_run: CannotRun | None = None
        self.experiments: list[Experiment] = []
        self.banner = ""
        self.ehlo_lines: list[str] = []
        self.login = Login(request, credentials)
        self._credentials = credentials
        self._redactor = Redactor(credentials)
        self._on_stage = on_stage
        self._on_line = on_line
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._plan = self._steps()
        self._addresses: tuple[Address, ...] = ()
        self._tls: ssl.SSLObject | None = None
        self._verified = False
        self._wire: Wire | None = None
        self._context: asyncio.Task[ssl.SSLContext | tls.Unusable] | None = None

    # ---------------------------------------------------------------------------------------------------- the walk

    async def run(self) -> None:
        """Walk the plan, say goodbye, close."""
        walk: dict[Stage, Callable[[Step, str | None], Awaitable[Done | Fault]]] = {
            Stage.DNS: self._dns,
            Stage.CONNECT: self._connect,
            Stage.GREETING: self._greeting,
            Stage.EHLO: self._ehlo,
            Stage.STARTTLS: self._starttls,
            Stage.TLS: self._handshake,
            Stage.AUTH: self._auth,
            Stage.MAIL: self._mail,
            Stage.RCPT: self._rcpt,
            Stage.DATA: self._data,
            Stage.DOT: self._dot,
        }
        try:
            self._check()
            self._prepare()
            for at, (step, recipient) in enumerate(self._plan):
                if self.fault is not None and not self._go_on(step):
                    break
                began = self._loop.time()
                self._record(step, recipient, await walk[step.stage](step, recipient), began, at)
            await self._goodbye()
        except CannotRun as problem:
            self.cannot_run = problem
        finally:
            if self._wire is not None:
                await self._wire.close()

    def stopped(self) -> None:
        """Say that the run was told to end (SIGTERM)."""
        at = next((step.stage.value for step, _ in self._plan[len(self.stages) :]), "quit")
        self.cannot_run = CannotRun(Reason.DEADLINE_EXCEEDED, f"the probe was told to end (SIGTERM) in stage {at}")

    def _steps(self) -> list[tuple[Step, str | None]]:
        envelope = self.request.envelope
        recipients = envelope.rcpt_to if envelope else ()
        steps: list[tuple[Step, str | None]] = []
        for step in stages(self.mode, self.request.depth, login=self._wants_login()):
            steps += [(step, to) for to in recipients] if step.stage is Stage.RCPT else [(step, None)]
        return steps

    def _wants_login(self) -> bool:
        return self.request.credentials is not None or self._credentials is not None

    def _go_on(self, step: Step) -> bool:
        alive = self.talk is not None and self.talk.alive
        return alive and step.stage is Stage.RCPT and self.fault_stage is Stage.RCPT

    def _record(self, step: Step, recipient: str | None, end: Done | Fault, began: float, at: int) -> None:
        failed = isinstance(end, Fault)
        skipped = failed and step.stage is Stage.AUTH and self.login.facts.paused
        entry = StageResult(
            stage=step.stage,
            outcome=StageOutcome.SKIPPED if skipped else StageOutcome.FAILED if failed else StageOutcome.PASSED,
            after_tls=step.after_tls,
            elapsed_ms=round((self._loop.time() - began) * 1000),
            reply=end.reply,
            recipient=recipient,
            detail=end.detail or None,
        )
        if isinstance(end, Fault):
            self.notes.update(dict.fromkeys(end.notes))
            if end.stage is not None and end.stage is not step.stage:
                entry = self._belongs_to(end.stage, entry)
            if self.fault is None:
                self.fault, self.fault_stage = end, entry.stage
        if len(self.stages) == at:
            self.stages.append(entry)
        if self._on_stage is not None:
            self._on_stage(entry)

    def _belongs_to(self, stage: Stage, entry: StageResult) -> StageResult:
        at = max(index for index, known in enumerate(self.stages) if known.stage is stage)
        moved = StageResult(
            stage=stage,
            outcome=StageOutcome.FAILED,
            after_tls=self.stages[at].after_tls,
            elapsed_ms=self.stages[at].elapsed_ms + entry.elapsed_ms,
            detail=entry.detail,
        )
        self.stages[at] = moved
        return moved

    async def _goodbye(self) -> None:
        talk = self.talk
        if talk is None or not talk.alive or not any(known.stage is Stage.GREETING for known in self.stages):
            return
        said = {known.stage for known in self.stages}
        if said & {Stage.MAIL, Stage.RCPT} and Stage.DOT not in said:
            await talk.ask(b"RSET", Stage.QUIT, self._limit("quit", self.limits.quit))
        if not talk.alive:
            return
        began = self._loop.time()
        end = await talk.ask(b"QUIT", Stage.QUIT, self._limit("quit", self.limits.quit))
        heard = isinstance(end, Heard)
        entry = StageResult(
            stage=Stage.QUIT,
            outcome=StageOutcome.PASSED,
            elapsed_ms=round((self._loop.time() - began) * 1000),
            reply=end.reply,
            detail=None if heard else end.detail,
        )
        self.stages.append(entry)
        if self._on_stage is not None:
            self._on_stage(entry)

    def _limit(self, name: str, seconds: float) -> Limit:
        now, end = self._loop.time(), self._began + self.limits.total
        if now + seconds <= end:
            return Limit(now + seconds, f"{seconds:.3g} s (limit {name})")
        return Limit(end, f"{self.limits.total:.3g} s (limit total)")

    def _reply_limit(self) -> Limit:
        return self._limit("reply", self.limits.reply)

    # ------------------------------------------------------------------------------------------------- before bytes

    def _check(self) -> None:
        """Refuse what must never reach the wire; the CRD and ``spec`` have said so before, in friendlier words."""
        request, envelope = self.request, self.request.envelope
        if request.depth in {Depth.ENVELOPE, Depth.MESSAGE} and envelope is None:
            raise CannotRun(Reason.SPEC_INVALID, f"depth {request.depth} needs spec.envelope")
        if request.depth is Depth.AUTH and not self._wants_login():
            raise CannotRun(Reason.SPEC_INVALID, "depth auth needs spec.credentialsSecretRef")
        login = any(step.stage is Stage.AUTH for step, _ in self._plan)
        if login and self._credentials is None:
            raise CannotRun(Reason.SECRET_NOT_FOUND, "the request names credentials and none were given")
        if login and request.tls.insecure_skip_verify and self.mode is not Mode.PLAIN:
            raise CannotRun(
                Reason.SPEC_INVALID, "insecureSkipVerify and credentials exclude each other: no login is sent"
            )
        words = {"heloName": request.helo_name}
        if envelope is not None:
            words |= {"envelope.from": envelope.mail_from} | {f"envelope.to {to!r}": to for to in envelope.rcpt_to}
        for field, value in words.items():
            if not re.fullmatch(r"[!-;=?-~]*", value) or (not value and field != "envelope.from"):
                raise CannotRun(
                    Reason.SPEC_INVALID, f"spec.{field} may hold printable ASCII without blanks and <> only"
                )

    def _prepare(self) -> None:
        if self.request.helo_name == DEFAULT_HELO_NAME:
            self.notes[Note.HELO_NAME_DEFAULT] = None
        if self._credentials is not None and edge_whitespace(self._credentials):
            self.notes[Note.CREDENTIAL_HAS_WHITESPACE] = None
        self.login.prepare()
        if any(step.stage is Stage.TLS for step, _ in self._plan):
            # Reading the system's CA bundle takes longer than a round trip, so it happens during the first ones.
            self._context = asyncio.ensure_future(asyncio.to_thread(tls.context, self.request.tls))

    # ------------------------------------------------------------------------------------------------------- stages

    async def _dns(self, _step: Step, _recipient: str | None) -> Done | Fault:
        limit = self._limit("dns", self.limits.dns)
        found = await resolve(self.request.host, self.request.port, limit.deadline - self._loop.time())
        if isinstance(found, NotResolved):
            return Fault(Verdict(reason=found.reason, rule=found.rule), found.detail)
        self._addresses = found
        return Done()

    async def _connect(self, _step: Step, _recipient: str | None) -> Done | Fault:
        whole = self._limit("connect, all addresses", self.limits.connect_all)
        failures: list[NotConnected] = []
        for address in self._addresses:
            began = self._loop.time()
            one = self._limit("connect", self.limits.connect)
            limit = one if one.deadline <= whole.deadline else whole
            left = limit.deadline - began
            if left <= 0 or self.address is not None:
                self.attempts.append(AddressAttempt(ip=address.ip))
                continue
            end = await connect(address, left, limit.words)
            elapsed = round((self._loop.time() - began) * 1000)
            if isinstance(end, NotConnected):
                failures.append(end)
                self.attempts.append(AddressAttempt(ip=address.ip, tried=True, reason=end.reason, elapsed_ms=elapsed))
                continue
            self.attempts.append(AddressAttempt(ip=address.ip, tried=True, connected=True, elapsed_ms=elapsed))
            self.address, self._wire = address, end
            self.talk = Dialogue(end, self._redactor, self._began, self._on_line)
        if self.address is not None:
            return Done(detail=f"{self.address.ip} port {self.request.port}")
        return self._not_connected(failures)

    def _not_connected(self, failures: list[NotConnected]) -> Fault:
        first = min(failures, key=lambda failure: _CONNECT_ORDER.index(failure.reason))
        tried = [attempt for attempt in self.attempts if attempt.tried]
        detail = "; ".join(f"{known.ip}: {end.detail}" for known, end in zip(tried, failures, strict=True))
        others = dict.fromkeys(failure.reason for failure in failures if failure.reason is not first.reason)
        return fault(
            first.reason, first.rule.removeprefix("transport:"), detail, *others, confidence=0.8 if others else 1.0
        )

    async def _greeting(self, _step: Step, _recipient: str | None) -> Done | Fault:
        assert self.talk is not None  # noqa: S101 - the plan connects first
        began = self._loop.time()
        limit = self._limit("greeting", self.limits.greeting)
        latest = self._began + self.limits.greeting_latest
        if latest < limit.deadline:
            limit = Limit(latest, f"{latest - began:.3g} s (limit greeting, cut by total {self.limits.total:.3g} s)")
        heard = await self.talk.hear(Stage.GREETING, limit)
        if self._loop.time() - began > SLOW_GREETING:
            self.notes[Note.GREETING_SLOW] = None
        if isinstance(heard, Fault):
            return heard
        self.banner = " ".join(heard.reply.lines)
        if _STARRED.search(self.banner):
            self.notes[Note.MIDDLEBOX_SUSPECTED] = None
        if heard.code == 220:
            return Done(heard.reply)
        if heard.code < 400:
            detail = f"a greeting begins with 220, this one with {heard.code}"
            return fault(Reason.PROTOCOL_ERROR, "greeting-code", detail, reply=heard.reply)
        return self._refused(Stage.GREETING, heard)

    async def _ehlo(self, step: Step, _recipient: str | None) -> Done | Fault:
        assert self.talk is not None  # noqa: S101 - the plan connects first
        name = self.request.helo_name.encode()
        heard = await self.talk.ask(b"EHLO " + name, Stage.EHLO, self._reply_limit())
        if isinstance(heard, Heard) and heard.code in {500, 502}:
            heard = await self.talk.ask(b"HELO " + name, Stage.EHLO, self._reply_limit())
            self.notes[Note.NO_ESMTP] = None
        if isinstance(heard, Fault):
            return heard
        if heard.code != 250:
            return self._ehlo_refused(step, heard)
        ehlo = parse_ehlo(heard.raw)
        keywords = () if Note.NO_ESMTP in self.notes else ehlo.keywords
        self.ehlo_lines.append(heard.reply.lines[0])
        if step.after_tls:
            self.features = Features(before_tls=self.features.before_tls, after_tls=keywords)
        else:
            self.features = Features(before_tls=keywords)
        self._feature_notes()
        return Done(heard.reply)

    def _ehlo_refused(self, step: Step, heard: Heard) -> Fault:
        if _FTP.search(self.banner) and heard.code >= 500:
            detail = f"this is an FTP server: {self.banner[:64]!r}"
            return fault(Reason.NOT_SMTP, "not-smtp", detail, reply=heard.reply)
        refused = self._refused(Stage.EHLO, heard)
        if (
            step.after_tls
            and self.mode is Mode.STARTTLS
            and refused.verdict.rule.startswith("code-")
            and heard.code != 421
        ):
            detail = "the server wants no EHLO after STARTTLS, against RFC 3207 §4.2"
            return fault(Reason.PROTOCOL_ERROR, "ehlo-after-tls", detail, reply=heard.reply)
        return refused

    def _feature_notes(self) -> None:
        before, after = self.features.before_tls, self.features.after_tls
        if before is not None and any(re.match(r"X{4}", line) for line in before):
            self.notes[Note.MIDDLEBOX_SUSPECTED] = None
        if before is not None and mechanisms(before):
            self.notes[Note.PLAINTEXT_AUTH_OFFERED] = None
            if after is not None and not mechanisms(after):
                self.notes[Note.AUTH_ONLY_BEFORE_TLS] = None

    async def _starttls(self, _step: Step, _recipient: str | None) -> Done | Fault:
        assert self.talk is not None  # noqa: S101 - the plan connects first
        if not offered(self.features.before_tls or (), "STARTTLS"):
            changed = Note.MIDDLEBOX_SUSPECTED in self.notes
            detail = "the server does not offer STARTTLS" + ("; a middlebox seems to hide it" if changed else "")
            return fault(Reason.TLS_NOT_OFFERED, "starttls-absent", detail)
        heard = await self.talk.ask(b"STARTTLS", Stage.STARTTLS, self._reply_limit())
        if isinstance(heard, Fault):
            return heard
        if heard.code != 220:
            return self._refused(Stage.STARTTLS, heard)
        extra = await self.talk.unread()
        if extra:
            detail = f"bytes after the reply to STARTTLS and before TLS: {faults.excerpt(extra)!r}"
            return fault(Reason.STARTTLS_INJECTION, "bytes-after-starttls", detail, reply=heard.reply)
        return Done(heard.reply)

    async def _handshake(self, _step: Step, _recipient: str | None) -> Done | Fault:
        assert self.talk is not None and self._wire is not None and self._context is not None  # noqa: S101, PT018
        context = await self._context
        if isinstance(context, tls.Unusable):
            raise CannotRun(Reason.SPEC_INVALID, context.detail)
        self.seen.watch(context)
        limit = self._limit("tls", self.limits.tls)
        end = await self._wire.handshake(context, self.server_name, limit.deadline)
        self._tls = self._wire.tls
        if self._tls is None:
            self.talk.alive = False
            return faults.handshake(end, self.seen, self.mode, limit)
        self._verified = not self.request.tls.insecure_skip_verify
        self.talk.secured(self.seen)
        cipher = self._tls.cipher()
        return Done(detail=f"{self._tls.version()} {cipher[0] if cipher else ''}".strip())

    @property
    def server_name(self) -> str:
        """The name that the certificate must carry."""
        return (self.request.tls.server_name or self.request.host).rstrip(".")

    async def _auth(self, _step: Step, _recipient: str | None) -> Done | Fault:
        assert self.talk is not None  # noqa: S101 - the plan connects first
        plain = self.mode is Mode.PLAIN
        keywords = (self.features.before_tls if plain else self.features.after_tls) or ()
        if plain and not self.request.allow_plaintext_auth:
            mode = "starttls" if offered(keywords, "STARTTLS") else "starttls (port 587) or smtps (port 465)"
            detail = f"no login without TLS: use mode {mode}, or set spec.allowPlaintextAuth"
            return fault(Reason.PLAINTEXT_AUTH_REFUSED, "plaintext-auth", detail, notes=frozenset({Note.NOT_SENT}))
        end = await self.login.run(self.talk, keywords, self._reply_limit, self._redactor)
        if isinstance(end, Fault):
            return end
        if end.code == 235:
            return Done(end.reply)
        refused = self._refused(Stage.AUTH, end)
        self.login.refused_with(end.code, refused.verdict.reason)
        return refused

    async def _mail(self, _step: Step, _recipient: str | None) -> Done | Fault:
        assert self.request.envelope is not None  # noqa: S101 - checked before the walk
        return await self._command(f"MAIL FROM:<{self.request.envelope.mail_from}>", Stage.MAIL, {250})

    async def _rcpt(self, _step: Step, recipient: str | None) -> Done | Fault:
        return await self._command(f"RCPT TO:<{recipient}>", Stage.RCPT, {250, 251, 252})

    async def _data(self, _step: Step, _recipient: str | None) -> Done | Fault:
        raise CannotRun(Reason.SPEC_INVALID, "depth message is not available yet: use depth envelope")

    async def _dot(self, _step: Step, _recipient: str | None) -> Done | Fault:
        raise CannotRun(Reason.SPEC_INVALID, "depth message is not available yet: use depth envelope")

    async def _command(self, line: str, stage: Stage, good: set[int]) -> Done | Fault:
        assert self.talk is not None  # noqa: S101 - the plan connects first
        heard = await self.talk.ask(line.encode("ascii"), stage, self._reply_limit())
        if isinstance(heard, Fault):
            return heard
        if heard.code not in good:
            return self._refused(stage, heard)
        if heard.code == 252:
            self.notes[Note.RECIPIENT_UNVERIFIABLE] = None
        return Done(heard.reply)

    def _refused(self, stage: Stage, heard: Heard) -> Fault:
        if heard.code < 400:
            detail = f"{heard.code} is no answer to this command"
            return fault(Reason.PROTOCOL_ERROR, "unexpected-code", detail, reply=heard.reply)
        return Fault(classify(stage, heard.text, self.session_facts()), "", heard.reply)

    def session_facts(self) -> SessionFacts:
        """Return what a classifier may know of this session."""
        envelope = self.request.envelope
        return SessionFacts(
            host=self.request.host,
            banner=self.banner,
            mode=self.mode,
            tls_active=self._tls is not None,
            login_sent=self.login.facts.sent,
            own_ips=(self._wire.local[0],) if self._wire is not None else (),
            mail_from=envelope.mail_from if envelope else None,
            rcpt_to=envelope.rcpt_to if envelope else (),
        )

    # ------------------------------------------------------------------------------------------------------- result

    async def result(self, now: Callable[[], datetime] = tls.utc_now) -> ProbeResult:
        """Put together what was seen; a login without a good end gets its fingerprint here."""
        if self.talk is not None:
            self.notes.update(dict.fromkeys(sorted(self.talk.notes)))
        self.notes.update(dict.fromkeys(self.login.notes))
        await self.login.conclude()
        verdict = self.fault.verdict if self.fault is not None else None
        outcome = Outcome.PASSED if verdict is None else Outcome.FAILED
        stage = self.fault_stage
        if self.cannot_run is not None:
            outcome, verdict = Outcome.ERROR, Verdict(reason=self.cannot_run.reason, rule="run:cannot")
        failed = verdict.reason if verdict is not None and stage is Stage.TLS else None
        unreached = [
            StageResult(stage=step.stage, outcome=StageOutcome.NOT_REACHED, after_tls=step.after_tls, recipient=to)
            for step, to in self._plan[sum(known.stage is not Stage.QUIT for known in self.stages) :]
        ]
        result = ProbeResult(
            outcome=outcome,
            started_at=self.started_at,
            finished_at=now(),
            verdict=verdict,
            stage=stage if outcome is Outcome.FAILED else None,
            stages=tuple(self.stages + unreached),
            addresses=tuple(self.attempts),
            server_ip=self.address.ip if self.address is not None else None,
            local_port=self._wire.local[1] if self._wire is not None else None,
            features=self.features,
            tls=tls.facts(
                self._tls,
                self.seen,
                verified=self._verified and failed is None,
                server_name=self.server_name,
                failed=failed,
                now=now(),
            ),
            auth=self.login.facts,
            experiments=tuple(self.experiments),
            notes=tuple(self.notes),
        )
        result = with_egress(result, self.request, self.banner, tuple(self.ehlo_lines))
        problem = self.cannot_run.detail if self.cannot_run is not None else None
        return msgspec.structs.replace(result, message=message(result, self.request, problem))
