"""One SMTP session: walk the table of ``plan``, keep what each stage showed, end with one verdict.

The walk ends at the first fault, among recipients at the second; nothing that a network or a server does raises here.
"""

import asyncio
import functools
from collections.abc import Callable
from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from smtpprobe import faults, preflight, tls
from smtpprobe.clock import Clock
from smtpprobe.credentials import Credentials, edge_whitespace
from smtpprobe.dialogue import Dialogue, Heard, LineSink
from smtpprobe.egress import is_loopback
from smtpprobe.faults import Fault
from smtpprobe.login import Login
from smtpprobe.model import (
    DEFAULT_HELO_NAME,
    Experiment,
    PortFinding,
    ProbeRequest,
    ProbeResult,
    StageResult,
    TlsFacts,
    Verdict,
)
from smtpprobe.plan import REFUSED_RECIPIENTS, Limits, Step, limits, stages
from smtpprobe.redact import Redactor, clip
from smtpprobe.replies import offered
from smtpprobe.stages import CannotRun, Done, Stages
from smtpprobe.summary import message, with_egress
from smtpprobe.threads import beside
from smtpprobe.vocabulary import Note, Outcome, Reason, Stage, StageOutcome

if TYPE_CHECKING:
    from smtpprobe.followup import FollowUp

StageSink = Callable[[StageResult], None]
PortSink = Callable[[PortFinding], None]


async def finish(session: "Session", stop: asyncio.Event | None) -> ProbeResult:
    """Run a session to its end, or until it is told to stop."""
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
        within: Limits | None = None,
        *,
        alone: bool = False,
    ) -> None:
        self._request = request
        self._credentials = credentials
        self._mode = request.mode
        self._clock = Clock(monotonic(), within or limits(request.timeout_seconds), alone)
        self._login = Login(request, credentials)
        self._at = Stages(
            request, self._mode, self._clock, login=self._login, redactor=Redactor(credentials), on_line=on_line
        )
        self._on_stage = on_stage
        self._started_at = tls.utc_now()
        self._wants_login = request.credentials is not None or credentials is not None
        self._plan = self._steps()
        self._stages: list[StageResult] = []
        self._walked = 0
        self._on_line = on_line
        self._following: FollowUp | None = None
        self._exchangers: dict[str, tuple[str, ...]] = {}
        self._fault: Fault | None = None
        self._fault_stage: Stage | None = None
        self._cannot_run: CannotRun | None = None
        self._network: tuple[Experiment, ...] = ()

    async def run(self) -> None:
        """Walk the plan, say goodbye, close, and try what a fault has left open."""
        try:
            self._check()
            self._prepare()
            for at, (step, recipient) in enumerate(self._plan):
                if self._fault is not None and not self._goes_on(step):
                    break
                began, self._walked = monotonic(), at + 1
                end = await self._at.run(step, recipient)
                if isinstance(end, Fault) and step.stage in {Stage.DNS, Stage.CONNECT}:
                    end = await self._once_settled(step, end)
                self._later(functools.partial(self._record, step, recipient, end, monotonic() - began, at))
                if isinstance(end, Fault):
                    self._catch_up()
                self._adapt(step)
            if self._at.alive and self._fault_stage is Stage.RCPT:
                await self._follow(inside=True)
            if self._at.alive:
                await self._goodbye(self._at.talk)
            self._close()
            await self._follow(inside=False)
            await self._who_takes_mail()
        except CannotRun as problem:
            self._cannot_run = problem
        finally:
            self._close()

    def _goes_on(self, step: Step) -> bool:
        """Say whether a step is taken in spite of a fault: another recipient may be taken where one was not."""
        return step.stage is Stage.RCPT and 0 < len(self._refused) < REFUSED_RECIPIENTS and self._at.alive

    def stopped(self) -> None:
        """Say that the run was told to end, by a signal."""
        self._catch_up()
        at = next((step.stage for step, _ in self._plan[len(self._stages) :]), Stage.QUIT)
        told = f"the probe was told to end in stage {at}"
        if at is Stage.DOT:
            told += "; the message may have been delivered"
        self._cannot_run = CannotRun(Reason.DEADLINE_EXCEEDED, told, "run:told-to-end")

    def _steps(self) -> list[tuple[Step, str | None]]:
        recipients = self._request.envelope.rcpt_to if self._request.envelope else ()
        steps: list[tuple[Step, str | None]] = []
        for step in stages(self._mode, self._request.depth, login=self._wants_login):
            steps += [(step, to) for to in recipients] if step.stage is Stage.RCPT else [(step, None)]
        return steps

    def _check(self) -> None:
        login = any(step.stage is Stage.AUTH for step, _ in self._plan)
        problem = preflight.problem(self._request, self._credentials, self._at.server_name, login=login)
        if problem is not None:
            raise CannotRun(*problem)

    def _prepare(self) -> None:
        if self._credentials is not None and edge_whitespace(self._credentials):
            self._at.notes[Note.CREDENTIAL_HAS_WHITESPACE] = None
        if self._request.helo_name == DEFAULT_HELO_NAME:
            self._at.notes[Note.HELO_NAME_DEFAULT] = None
        self._login.prepare()
        self._at.prepare()

    def _adapt(self, step: Step) -> None:
        """Change the plan after a step that passed or failed: a matter of mode auto alone."""

    async def _once_settled(self, step: Step, first: Fault) -> Done | Fault:
        """Ask DNS or the port once more where a pod as young as this one may have no network yet."""
        seconds, now = self._request.settling_seconds, monotonic()
        wait = self._clock.began + seconds - now
        if wait <= 0 or seconds > self._clock.limits.total / 2:
            return first
        from smtpprobe import decisions, settling  # by need: few pods are without a network

        asked = decisions.remembered(self._request.known, settling.NETWORK_AGAIN, first.verdict.reason, None)
        if asked is not None or not settling.may_lack_network(first.verdict):
            return first
        await asyncio.sleep(wait)
        self._at.attempts.clear()
        end = await self._at.run(step, None)
        second = end.verdict.reason if isinstance(end, Fault) else None
        self._network = (settling.network_again(first.verdict.reason, second, first.detail, seconds),)
        return end

    @property
    def _refused(self) -> tuple[str, ...]:
        failed = (known for known in self._stages if known.outcome is StageOutcome.FAILED)
        return tuple(known.recipient for known in failed if known.stage is Stage.RCPT and known.recipient)

    def _later(self, work: Callable[[], object]) -> None:
        if self._at.wire is None:
            work()
        else:
            self._at.wire.later(work)

    def _catch_up(self) -> None:
        if self._at.wire is not None:
            self._at.wire.catch_up()

    def _record(self, step: Step, recipient: str | None, end: Done | Fault, seconds: float, at: int) -> None:
        failed = isinstance(end, Fault)
        skipped = failed and step.stage is Stage.AUTH and self._login.facts.paused
        entry = StageResult(
            stage=step.stage,
            outcome=StageOutcome.SKIPPED if skipped else StageOutcome.FAILED if failed else StageOutcome.PASSED,
            after_tls=step.after_tls,
            elapsed_ms=round(seconds * 1000),
            reply=end.reply,
            recipient=recipient,
            detail=end.detail or None,
        )
        if isinstance(end, Fault):
            self._at.notes.update(dict.fromkeys(end.notes))
            if end.stage is not None and end.stage is not step.stage:
                entry = self._belongs_to(end.stage, entry)
            if self._fault is None:
                self._fault, self._fault_stage = end, entry.stage
        if len(self._stages) == at and (not isinstance(end, Fault) or end.stage in {None, step.stage}):
            self._stages.append(entry)
        self._tell(entry)

    def _belongs_to(self, stage: Stage, entry: StageResult) -> StageResult:
        at = max(index for index, known in enumerate(self._stages) if known.stage is stage)
        self._stages[at] = msgspec.structs.replace(
            self._stages[at],
            outcome=StageOutcome.FAILED,
            elapsed_ms=self._stages[at].elapsed_ms + entry.elapsed_ms,
            detail=entry.detail,
        )
        return self._stages[at]

    def _tell(self, entry: StageResult) -> None:
        if self._on_stage is not None:
            self._on_stage(entry)

    async def _goodbye(self, talk: Dialogue) -> None:
        said = {step.stage for step, _ in self._plan[: self._walked]}
        if Stage.GREETING not in said:
            return
        limit = functools.partial(self._clock.limit, "quit", self._clock.limits.quit)
        rset = bool(said & {Stage.MAIL, Stage.RCPT}) and Stage.DOT not in said
        # The one group of commands (RFC 2920 §3.1): neither reply teaches anything, and a round trip is saved.
        behind = b"QUIT" if rset and offered(self._at.offers.keywords, "PIPELINING") else b""
        began = monotonic()
        if rset:
            if behind:
                self._later(self._warm_up)
            self._judge(await talk.ask(b"RSET", Stage.QUIT, limit(), behind=behind))
        if not self._at.alive:
            return
        if behind:
            end = await talk.hear(Stage.QUIT, limit())
        else:
            self._later(self._warm_up)
            end = await talk.ask(b"QUIT", Stage.QUIT, limit())
        self._judge(end)
        if isinstance(end, Heard) and end.code != 221:
            more = await talk.hear(Stage.QUIT, limit())
            early = clip(f"{end.code} {' '.join(end.reply.lines)}", 64)
            self._judge(faults.unsolicited(early) if isinstance(more, Heard) else more)
        entry = StageResult(
            stage=Stage.QUIT,
            outcome=StageOutcome.PASSED,
            after_tls=self._at.tls is not None,
            elapsed_ms=round((monotonic() - began) * 1000),
            reply=end.reply,
            detail=None if isinstance(end, Heard) else end.detail,
        )
        self._stages.append(entry)
        self._tell(entry)

    def _warm_up(self) -> None:
        """Import what the certificates' facts need, once the last packet is out: the import would hold up others."""
        if self._at.seen.chain:
            beside(tls.warm_up)

    def _judge(self, end: Heard | Fault) -> None:
        """Take back a pass where the server gave one reply more than it was sent commands: which one was the answer?"""
        self._catch_up()
        if not isinstance(end, Fault) or end.verdict.rule != faults.UNSOLICITED or self._fault is not None:
            return
        self._at.notes[Note.EARLY_DATA] = None
        self._fault, self._fault_stage = end, self._stages[-1].stage
        self._stages[-1] = msgspec.structs.replace(self._stages[-1], outcome=StageOutcome.FAILED, detail=end.detail)
        self._tell(self._stages[-1])

    def _close(self) -> None:
        if self._at.wire is not None:
            self._at.wire.close()

    async def _follow(self, *, inside: bool) -> None:
        """Settle what the fault has left open: on the living connection, or by new ones."""
        if self._fault is None or self._fault_stage is None or self._at.address is None:
            return
        if self._following is None:
            from smtpprobe.followup import FollowUp  # by need: a session without a fault does without it

            self._following = FollowUp(self._at, self._login, self._credentials, self._on_line)
        before = self._fault
        self._fault = await self._following.ask(self._fault_stage, before, inside=inside, refused=self._refused)
        if self._fault.detail != before.detail:
            index = next(at for at, known in enumerate(self._stages) if known.outcome is not StageOutcome.PASSED)
            self._stages[index] = msgspec.structs.replace(self._stages[index], detail=self._fault.detail)
            self._tell(self._stages[index])

    async def _who_takes_mail(self) -> None:
        """Ask DNS who takes the mail of recipients that were taken without a login; at loopback no record tells."""
        address = self._at.address
        if self._login.facts.succeeded or address is None or is_loopback(address.ip):
            return
        taken = [known.recipient for known in self._stages if known.outcome is StageOutcome.PASSED and known.recipient]
        if not taken:
            return
        from smtpprobe.exchangers import SECONDS, of_recipients

        limit = self._clock.limit("dns", min(SECONDS, self._clock.limits.dns)).deadline - monotonic()
        self._exchangers = await of_recipients(taken, limit)

    async def result(self, now: Callable[[], datetime] = tls.utc_now) -> ProbeResult:
        """Put together what was seen; a login without a good end gets its fingerprint here."""
        await self._login.conclude()
        verdict = self._fault.verdict if self._fault is not None else None
        outcome = Outcome.PASSED if verdict is None else Outcome.FAILED
        if self._cannot_run is not None:
            outcome, verdict = Outcome.ERROR, Verdict(reason=self._cannot_run.reason, rule=self._cannot_run.rule)
        done = sum(known.stage is not Stage.QUIT for known in self._stages)
        unreached = [
            StageResult(stage=step.stage, outcome=StageOutcome.NOT_REACHED, after_tls=step.after_tls, recipient=to)
            for step, to in self._plan[done:]
        ]
        at = self._at
        result = ProbeResult(
            outcome=outcome,
            started_at=self._started_at,
            finished_at=now(),
            verdict=verdict,
            stage=self._fault_stage if outcome is Outcome.FAILED else None,
            stages=tuple(self._stages + unreached),
            addresses=tuple(at.attempts),
            server_ip=at.address.ip if at.address is not None else None,
            local_port=at.wire.local[1] if at.wire is not None else None,
            features=at.offers.features,
            tls=self._tls_facts(now()),
            auth=self._following.auth(self._login.facts) if self._following else self._login.facts,
            experiments=(*self._network, *(self._following.made if self._following else ())),
            notes=self._notes(),
        )
        result = with_egress(result, self._request, at.banner, tuple(at.offers.lines), self._exchangers)
        problem = self._cannot_run.detail if self._cannot_run is not None else None
        return msgspec.structs.replace(result, message=message(result, self._request, problem))

    def _tls_facts(self, now: datetime) -> TlsFacts | None:
        failed = self._fault.verdict.reason if self._fault is not None and self._fault_stage is Stage.TLS else None
        return tls.facts(
            self._at.tls,
            self._at.seen,
            verified=self._at.tls is not None and failed is None and not self._request.tls.insecure_skip_verify,
            server_name=self._at.server_name,
            failed=failed,
            now=now,
        )

    def _notes(self) -> tuple[Note, ...]:
        notes = dict(self._at.notes)
        if self._at.dialogue is not None:
            notes.update(dict.fromkeys(sorted(self._at.dialogue.notes)))
        return tuple(notes | dict.fromkeys(sorted(self._login.notes)))
