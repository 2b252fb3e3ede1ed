"""A fresh pod's first seconds, counted at the server: what is asked again after them, how often, and what then counts."""

import asyncio
import contextlib
import datetime as dt
import socket
from collections.abc import Iterator

import asking
import msgspec
import pytest
from certificates import pki
from hostile import Hostile

from smtpprobe.advice import AdviceFacts, advise
from smtpprobe.memory import experiments_after, known_for
from smtpprobe.model import Experiment, PortFinding, ProbeRequest, ProbeResult
from smtpprobe.probing import probe
from smtpprobe.vocabulary import Depth, Mode, Note, Outcome, Reason

AT = dt.datetime(2026, 11, 22, 12, 0, tzinfo=dt.UTC)
SETTLING = 0.7
ECHO = "> 220 mx.corp.test ESMTP\n< EHLO\n> 250 mx.corp.test Hello probe.example.com [{address}]\n"
MAIL = "< MAIL\n> 250 ok\n< RCPT\n"
DENIED = "> 554 5.7.1 <unknown[{address}]>: Client host rejected: Access denied\n@rest"
RELAY = "> 554 5.7.1 <postmaster@other.example.org>: Relay access denied\n"


def request(port: int, mode: Mode = Mode.PLAIN, **changes: object) -> ProbeRequest:
    return asking.request(port, mode, **({"settling_seconds": SETTLING} | changes))


def nowhere(**changes: object) -> ProbeRequest:
    return request(0, Mode.AUTO, host="127.0.0.99", depth=Depth.TLS, envelope=None, **changes)


def run(made: ProbeRequest) -> ProbeResult:
    return asyncio.run(probe(made, None))


def told(result: ProbeResult) -> list[tuple[str, str]]:
    return [(one.name, one.answer) for one in result.experiments]


def remembered(result: ProbeResult) -> tuple[Experiment, ...]:
    """What the status gives the next run of the spec."""
    return known_for(experiments_after((), result, "digest", AT), "digest")


def refused_at(address: str) -> str:
    return ECHO.format(address=address) + MAIL + DENIED.format(address=address)


def taken_at(address: str) -> str:
    return ECHO.format(address=address) + MAIL + "> 250 ok\n@rest"


def test_what_passes_is_not_held_against_the_address() -> None:
    """Refused from one address and taken from another seconds later: EgressAuthorized is Unknown, and the flap is said."""
    with Hostile([refused_at("192.0.2.1"), taken_at("192.0.2.7")], "plain") as server:
        made = request(server.port)
        result = run(made)
    assert (result.outcome, result.stage) == (Outcome.FAILED, "rcpt")
    assert (result.egress.status, result.egress.reason) == ("Unknown", "Transient")
    assert result.verdict is not None
    assert (result.verdict.reason, result.verdict.confidence) == ("EgressIPNotAuthorized", 0.5)
    assert "leave from another address" in advise(result.verdict.reason, AdviceFacts.of(made, result)).text
    assert Note.EGRESS_FLAPPED in result.notes
    assert ("address-again", "accepted") in told(result)
    assert "after the start the same is not refused" in result.message
    assert [line.split()[0] for line in server.heard[1].lines] == ["EHLO", "MAIL", "RCPT", "RSET", "QUIT"]
    assert server.heard[1].lines[2] == "RCPT TO:<postmaster@other.example.org>"
    assert len(server.heard) == 2


@pytest.mark.parametrize("second, answer", [("192.0.2.1", "refused"), ("192.0.2.7", "moved")])
def test_what_lasts_counts(second: str, answer: str) -> None:
    """Refused again, at the same or another address: that is False, and only another address is a flap."""
    with Hostile([refused_at("192.0.2.1"), refused_at(second)], "plain") as server:
        result = run(request(server.port))
    assert (result.egress.status, result.egress.reason) == ("False", "ServerNamedIp")
    assert ("address-again", answer) in told(result)
    assert (Note.EGRESS_FLAPPED in result.notes) is (answer == "moved")
    assert len(server.heard) == 2


@pytest.mark.parametrize("mode", [Mode.PLAIN, Mode.STARTTLS, Mode.SMTPS])
def test_a_refusal_at_the_greeting(mode: Mode) -> None:
    """The second session goes as far as the first did and no further, through TLS where that comes first."""
    greeting = "> 554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org\n@rest"
    script = f"tls\n{greeting}" if mode is Mode.SMTPS else greeting
    with Hostile([script], "plain", pki().contexts) as server:
        result = run(request(server.port, mode))
    assert (result.stage, told(result)) == ("greeting", [("address-again", "refused")])
    assert [heard.lines for heard in server.heard] == [["QUIT"], ["QUIT"]]


def test_no_more_refused_recipients_than_two() -> None:
    """The pod asks again in its first run and for the server's own domain in the next: fail2ban counts for everybody."""
    relay = ECHO.format(address="192.0.2.1") + MAIL + RELAY + f"< RCPT\n{RELAY}@rest"
    with Hostile([relay], "plain") as server:
        first = run(request(server.port))
        recipients = [line for heard in server.heard for line in heard.lines if line.startswith("RCPT")]
        count = len(server.heard)
        second = run(request(server.port, known=remembered(first)))
        later = [line for heard in server.heard[count:] for line in heard.lines if line.startswith("RCPT")]
    assert told(first) == [("address-again", "refused")]
    assert (first.egress.status, first.egress.reason) == ("False", "AnonymousRelayDenied")
    assert recipients == ["RCPT TO:<postmaster@other.example.org>"] * 2
    assert told(second) == [("local-recipient", "relay"), ("address-again", "refused")]
    assert later == ["RCPT TO:<postmaster@other.example.org>", "RCPT TO:<postmaster@corp.test>"]


def test_a_refusal_that_lasted_is_not_asked_again() -> None:
    """The next run of the spec takes the answer from the status, and makes one connection."""
    with Hostile([refused_at("192.0.2.1")], "plain") as server:
        first = run(request(server.port))
        count = len(server.heard)
        second = run(request(server.port, known=remembered(first)))
    assert len(server.heard) - count == 1
    assert [(one.name, one.since) for one in second.experiments if one.name == "address-again"] == [
        ("address-again", AT)
    ]
    assert second.egress == first.egress


def test_only_a_fresh_pod_asks_again() -> None:
    """A process that says nothing of its age, as `smtpprobe check`, makes one connection."""
    with Hostile([refused_at("192.0.2.1"), taken_at("192.0.2.7")], "plain") as server:
        result = run(request(server.port, settling_seconds=0.0))
    assert len(server.heard) == 1
    assert result.egress.status == "False"


@contextlib.contextmanager
def closed_port() -> Iterator[socket.socket]:
    """A port that refuses until somebody listens there."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held


def test_a_network_that_comes_late() -> None:
    """Refused at once, reached when the first seconds are over: the session is held, and says what was at first."""

    async def late() -> tuple[ProbeResult, int]:
        with closed_port() as held:
            held.setblocking(False)
            loop = asyncio.get_running_loop()
            servers: list[asyncio.Server] = []

            async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.write(b"220 mx.corp.test\r\n")
                while line := await reader.readline():
                    writer.write(b"221 bye\r\n" if line.startswith(b"QUIT") else b"250 mx.corp.test\r\n")
                writer.close()

            async def listen() -> None:
                servers.append(await asyncio.start_server(talk, sock=held))

            begins = loop.call_later(SETTLING / 2, lambda: tasks.append(asyncio.ensure_future(listen())))
            tasks: list[asyncio.Future[None]] = []
            made = request(held.getsockname()[1], host="127.0.0.1", depth=Depth.EHLO, envelope=None)
            result = await probe(made, None)
            begins.cancel()
            servers[0].close()
            return result, len(result.addresses)

    result, attempts = asyncio.run(late())
    assert (result.outcome, attempts) == (Outcome.PASSED, 1)
    assert told(result) == [("network-again", "worked")]
    assert "at first: " in result.experiments[0].showed
    assert "the port is closed" in result.experiments[0].showed


def test_a_port_that_stays_closed() -> None:
    """Refused twice: ConnectRefused stands, and the next run of the spec does not wait."""
    with closed_port() as held:
        made = request(held.getsockname()[1], host="127.0.0.1")
        first = run(made)
        second = run(msgspec.structs.replace(made, known=remembered(first)))
    assert first.verdict is not None
    assert second.verdict is not None
    assert first.verdict.reason == second.verdict.reason == "ConnectRefused"
    assert (told(first), told(second)) == ([("network-again", "same")], [])
    assert first.stages[1].elapsed_ms >= SETTLING * 1000 * 0.9 > second.stages[1].elapsed_ms


def test_discovery_waits_for_a_network() -> None:
    """Mode auto without a port looks once more where it reached nothing at all."""
    twice: list[PortFinding] = []
    result = asyncio.run(probe(nowhere(), None, on_port=twice.append))
    assert result.outcome is Outcome.FAILED
    assert (result.finished_at - result.started_at).total_seconds() >= SETTLING * 0.9
    once: list[PortFinding] = []
    asyncio.run(probe(nowhere(settling_seconds=0.0), None, on_port=once.append))
    assert (len(twice), len(once)) == (12, 6)


@pytest.mark.parametrize("begun", [False, True])
def test_discovery_is_told_to_end(begun: bool) -> None:
    """SIGTERM before the first look, or while mode auto waits for a network: an Error that says so, in a line."""

    async def told_to_end() -> ProbeResult:
        stop, looked = asyncio.Event(), list[PortFinding]()

        def look(finding: PortFinding) -> None:
            looked.append(finding)
            if len(looked) == 6:
                stop.set()

        if not begun:
            stop.set()
        return await probe(nowhere(), None, on_port=look, stop=stop)

    result = asyncio.run(told_to_end())
    assert (result.outcome, result.verdict and result.verdict.reason) == (Outcome.ERROR, Reason.DEADLINE_EXCEEDED)
    assert "told to end in stage" in result.message
