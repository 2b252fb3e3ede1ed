"""Mode auto, carried out: look at the ports, choose, and hold the one session that was asked for.

Two ports at a time with one connection each, one deadline for everything. A look never logs in; with a login to come it
takes no port without TLS. ``discovery`` decides, this file connects.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

import msgspec

from smtpprobe import discovery, plan, session, settling
from smtpprobe.credentials import Credentials
from smtpprobe.dialogue import LineSink
from smtpprobe.model import PortFinding, ProbeRequest, ProbeResult, StageResult, TranscriptLine
from smtpprobe.plan import Limits, Step
from smtpprobe.resolve import Address, NotResolved, at_port, resolve
from smtpprobe.session import PortSink, Session, StageSink
from smtpprobe.vocabulary import Depth, Mode, Note, Outcome, Stage

# How long a port that may want TLS at once is listened to before a ClientHello, in a run of a minute.
_LISTEN_SECONDS = 8.0
_NO_GREETING = "; a ClientHello gets no answer either"

Found = tuple[Address, ...] | NotResolved


class Sinks(NamedTuple):
    """Who wants to hear of stages, of lines, and of ports."""

    stage: StageSink | None = None
    line: LineSink | None = None
    port: PortSink | None = None


class _With(NamedTuple):
    """What a session is held with besides its request."""

    credentials: Credentials | None
    sinks: Sinks
    stop: asyncio.Event | None
    alone: bool = False


class Seen(NamedTuple):
    """One port with the result that told most; ``stages`` and ``lines`` are those of this result's session."""

    finding: PortFinding
    result: ProbeResult
    stages: tuple[StageResult, ...] = ()
    lines: tuple[TranscriptLine, ...] = ()


async def probe(
    request: ProbeRequest,
    credentials: Credentials | None,
    sinks: Sinks,
    stop: asyncio.Event | None,
    *,
    alone: bool = False,
) -> ProbeResult:
    """Find out what ``request`` leaves open, hold its session, and say in ``discovery`` what was found.

    With a port only its mode is open, and the look is the session itself. Without one all usual ports are looked at.
    """
    login = credentials is not None or request.credentials is not None
    own = _With(credentials, sinks, stop, alone)
    if request.port:
        seen = await _look(request, own, _Time(request.timeout_seconds))
        if seen.result.outcome is Outcome.ERROR:
            return seen.result
        _tell(sinks.port, seen.finding)
        return msgspec.structs.replace(seen.result, discovery=discovery.of_one(seen.finding))
    return await _all(request, own, login=login)


async def _all(request: ProbeRequest, own: _With, *, login: bool) -> ProbeResult:
    sinks, stop = own.sinks, own.stop
    began, whole = monotonic(), request.timeout_seconds
    asked = msgspec.structs.replace(
        request,
        depth=Depth.TLS,
        credentials=None,
        refused=None,
        tls_required=login or request.tls_required,
        settling_seconds=0.0,
    )
    end = began + discovery.looking_seconds(whole)
    seen = await _look_at_all(asked, sinks.port, stop, end)
    started = min(one.result.started_at for one in seen)
    wait = began + request.settling_seconds - monotonic()
    if 0 < wait < (end - monotonic()) / 2 and _nothing_reached(seen):
        await _pause(wait, stop)
        seen = await _look_at_all(asked, sinks.port, stop, end)
    broken = next((one.result for one in seen if one.result.outcome is Outcome.ERROR), None)
    if broken is not None:
        return broken
    findings = [one.finding for one in seen]
    choice = discovery.choose(findings, request, login=login)
    found = discovery.concluded(findings, choice)
    best = next(one for one in seen if one.finding is choice.finding)
    if not choice.usable:
        return msgspec.structs.replace(discovery.unusable(request, best.result, found), started_at=started)
    if not login and request.depth is Depth.TLS:
        _replay(best, sinks)
        result = best.result
    else:
        left = max(1.0, whole - (monotonic() - began))
        to_use = msgspec.structs.replace(
            request, port=best.finding.port, mode=best.finding.mode or Mode.AUTO, timeout_seconds=left
        )
        result = await session.finish(Session(to_use, own.credentials, sinks.stage, sinks.line, alone=own.alone), stop)
    return msgspec.structs.replace(result, started_at=started, discovery=found)


def _nothing_reached(seen: list[Seen]) -> bool:
    """Say whether a pod as young as this one may have no network yet."""
    verdicts = [one.result.verdict for one in seen if one.result.stage in {Stage.DNS, Stage.CONNECT}]
    return len(verdicts) == len(seen) and any(one is not None and settling.may_lack_network(one) for one in verdicts)


async def _pause(seconds: float, stop: asyncio.Event | None) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for((stop or asyncio.Event()).wait(), seconds)


async def _look_at_all(
    request: ProbeRequest, on_port: PortSink | None, stop: asyncio.Event | None, end: float
) -> list[Seen]:
    """Look at every usual port, two at a time, in the order of the table, until ``end`` (the monotonic clock).

    At one at least: a look that is told to end says so in its result.
    """
    known = await resolve(request.host, discovery.PORTS[0], plan.limits(request.timeout_seconds).dns)
    ports = deque(discovery.PORTS if not isinstance(known, NotResolved) else discovery.PORTS[:1])
    seen: list[Seen] = []

    async def worker() -> None:
        while ports and not (seen and stop is not None and stop.is_set()):
            seconds = discovery.share(end - monotonic(), len(ports))
            port = ports.popleft()
            lines: list[TranscriptLine] = []
            stages: list[StageResult] = []
            asked = msgspec.structs.replace(request, port=port)
            addresses = known if isinstance(known, NotResolved) else at_port(known, port)
            own = _With(None, Sinks(stages.append, lines.append), stop)
            one = await _look(asked, own, _Time(seconds, looking=True), addresses)
            seen.append(one._replace(stages=tuple(stages), lines=tuple(lines)))
            _tell(on_port, one.finding)

    async with asyncio.TaskGroup() as group:
        for _ in range(discovery.AT_A_TIME):
            group.create_task(worker())
    return seen


class _Time(NamedTuple):
    """The seconds of one port; ``looking`` where more ports wait and follow-ups are for the session that comes."""

    seconds: float
    looking: bool = False

    def first(self, port: int, mode: Mode) -> Limits:
        """Return the limits of a first session: short listening where a ClientHello may have to follow."""
        if self.looking:
            return discovery.look_limits(self.seconds)
        usual = plan.limits(self.seconds)
        if mode is Mode.SMTPS or port == 25:
            return usual
        return usual._replace(greeting=min(usual.greeting, _LISTEN_SECONDS * min(1.0, self.seconds / 60)))


async def _look(request: ProbeRequest, own: _With, time: _Time, addresses: Found | None = None) -> Seen:
    """Hold a session in the mode that the port stands for, and in the other one where it shows that this fits."""
    began, port, mode = monotonic(), request.port, discovery.first_look(request.port)

    async def hold(mode: Mode, within: Limits) -> tuple["_Look", ProbeResult]:
        one = _Look(msgspec.structs.replace(request, mode=mode), own, within, looking=time.looking)
        one.use(addresses)
        return one, await session.finish(one, own.stop)

    def left() -> Limits:
        return discovery.look_limits(max(1.0, time.seconds - (monotonic() - began)))

    told, result = await hold(mode, time.first(port, mode))
    other = told.other()
    if other is not None and result.outcome is Outcome.FAILED and not result.auth.sent:
        if mode is Mode.SMTPS:
            await asyncio.sleep(left().pause)  # it has just answered; a silent port has been waited for already
        second, again = await hold(other, left())
        if second.heard or second.spoke_tls or again.outcome is Outcome.ERROR:
            told, result = second, again
        elif other is Mode.SMTPS and not time.looking:
            # Nothing in TLS either: perhaps its greeting takes longer than we listened.
            third, again = await hold(mode, left())
            told, result = third, _with_detail(again, _NO_GREETING) if not third.heard else again
        elif other is Mode.SMTPS:
            result = _with_detail(result, _NO_GREETING)
    elapsed = round((monotonic() - began) * 1000)
    finding = discovery.finding(port, told.mode, result, spoke_tls=told.spoke_tls, elapsed_ms=elapsed)
    return Seen(finding, result)


class _Look(Session):
    """A session in a mode that is not certain: it goes on in plain where that is right, and asks nothing further."""

    def __init__(self, request: ProbeRequest, own: _With, within: Limits, *, looking: bool) -> None:
        super().__init__(request, own.credentials, own.sinks.stage, own.sinks.line, within=within, alone=own.alone)
        self._first = request.mode
        self._looking = looking

    def use(self, addresses: Found | None) -> None:
        """Ask the resolver no more: somebody has."""
        self._at.known = addresses

    @property
    def mode(self) -> Mode:
        """The mode as it turned out."""
        return self._mode

    @property
    def heard(self) -> bool:
        """Whether the server said anything in words of SMTP."""
        return any(known.stage is Stage.GREETING and known.reply is not None for known in self._stages)

    @property
    def spoke_tls(self) -> bool:
        """Whether the server said anything in records of TLS."""
        return self._at.spoke_tls or self._at.tls is not None

    def other(self) -> Mode | None:
        """Return the mode that the port should be asked in as well."""
        verdict = self._fault.verdict if self._fault is not None else None
        port = self._request.port
        return discovery.second_look(port, self._first, self._fault_stage, verdict, spoke=self.spoke_tls)

    def _adapt(self, step: Step) -> None:
        if self._mode is not Mode.STARTTLS or step.stage is not Stage.EHLO or self._fault is not None:
            return
        self._catch_up()
        hidden = Note.MIDDLEBOX_SUSPECTED in self._at.notes
        if discovery.takes_plain(self._request, self._at.offers.features, login=self._wants_login, hidden=hidden):
            self._request = msgspec.structs.replace(self._request, mode=Mode.PLAIN)
            self._mode = self._at.mode = Mode.PLAIN
            self._plan[:] = self._steps()

    async def _follow(self, *, inside: bool) -> None:
        if not self._looking and self.other() is None:
            await super()._follow(inside=inside)


def _with_detail(result: ProbeResult, more: str) -> ProbeResult:
    stages = tuple(
        msgspec.structs.replace(entry, detail=f"{entry.detail or ''}{more}")
        if entry.stage is result.stage and entry.outcome == "Failed"
        else entry
        for entry in result.stages
    )
    return msgspec.structs.replace(result, stages=stages)


def _tell(sink: Callable[[PortFinding], None] | None, finding: PortFinding) -> None:
    if sink is not None:
        sink(finding)


def _replay(seen: Seen, sinks: Sinks) -> None:
    """Tell of a look that became the session, after the fact."""
    for line in seen.lines:
        if sinks.line is not None:
            sinks.line(line)
    for entry in seen.stages:
        if sinks.stage is not None:
            sinks.stage(entry)
