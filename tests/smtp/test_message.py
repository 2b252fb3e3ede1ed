"""Depth message: one fixed mail after an envelope that was taken whole, and what is said where it is not taken."""

import asyncio
import email
import email.policy

import msgspec
import pytest
from certificates import pki
from hostile import Hostile
from stock import stock_server

from smtpprobe import message
from smtpprobe.credentials import Credentials
from smtpprobe.model import Envelope, ProbeRequest, ProbeResult, TlsOptions, TranscriptLine
from smtpprobe.probing import probe
from smtpprobe.vocabulary import ConditionStatus, Depth, EgressReason, Mode, Outcome, Reason, Stage, StageOutcome

USER, PASSWORD = "sender@shop.example.com", "correct-horse-9"
ENVELOPE = Envelope(
    mail_from="noreply@shop.example.com", rcpt_to=("postmaster@other.example.org", "a..b@other.example.org")
)
ALL_MODES = pytest.mark.parametrize("mode", [Mode.PLAIN, Mode.STARTTLS, Mode.SMTPS])
pytestmark = pytest.mark.filterwarnings("ignore:Session.login_data is deprecated:DeprecationWarning")


def request(port: int, mode: Mode, **changes: object) -> ProbeRequest:
    made = ProbeRequest(
        host="localhost",
        port=port,
        mode=mode,
        depth=Depth.MESSAGE,
        helo_name="probe.example.com",
        allow_plaintext_auth=True,
        tls=TlsOptions(ca_file=pki().ca_file),
        envelope=ENVELOPE,
        timeout_seconds=20,
    )
    return msgspec.structs.replace(made, **changes)


def run(made: ProbeRequest, password: str | None = PASSWORD, lines: list[TranscriptLine] | None = None) -> ProbeResult:
    credentials = None if password is None else Credentials(USER, password)
    return asyncio.run(probe(made, credentials, on_line=None if lines is None else lines.append))


def verdict(result: ProbeResult) -> tuple[Outcome, Stage | None, Reason | None]:
    return result.outcome, result.stage, result.verdict.reason if result.verdict else None


@ALL_MODES
def test_one_marked_message_arrives_as_it_was_written(mode: Mode) -> None:
    """The server gets one mail, byte for byte: its headers parse, say what it is, and name the run in the result."""
    lines: list[TranscriptLine] = []
    with stock_server(mode.value, pki().contexts["good"], PASSWORD) as server:
        result = run(request(server.port, mode), lines=lines)
    assert verdict(result) == (Outcome.PASSED, None, None), result.message
    ((helo, sender, content),) = server.messages
    assert (helo, sender) == ("probe.example.com", "noreply@shop.example.com")
    parsed = email.message_from_bytes(content, policy=email.policy.strict)
    assert parsed["From"].addresses[0].addr_spec == "noreply@shop.example.com"
    assert [known.addr_spec for known in parsed["To"].addresses] == [
        "postmaster@other.example.org",
        "a..b@other.example.org",
    ]
    assert parsed["Auto-Submitted"] == "auto-generated"
    assert parsed.get_content().replace("\r\n", "\n") == message.BODY
    run_id = parsed["X-SmtpProbe"].removeprefix("run ")
    assert parsed["Message-ID"] == f"<smtpprobe.{run_id}@shop.example.com>"
    data, dot = (next(entry for entry in result.stages if entry.stage is stage) for stage in (Stage.DATA, Stage.DOT))
    assert data.detail == f"Message-ID {parsed['Message-ID']}"
    assert (dot.outcome, dot.reply and dot.reply.code) == (StageOutcome.PASSED, 250)
    said = [line.text for line in lines if line.who == "C"]
    assert said[-4:] == ["DATA", f"[the test message, run {run_id}]", ".", "QUIT"]
    assert (result.egress.status, result.egress.reason) == (ConditionStatus.TRUE, EgressReason.MESSAGE_ACCEPTED)
    assert result.message.endswith("message accepted")


UNTIL_RCPT = "@hello\n< MAIL\n> 250 ok\n< RCPT\n> 250 ok\n"
UNTIL_DATA = UNTIL_RCPT + "< RCPT\n> 250 ok\n< DATA\n"
UNTIL_DOT = UNTIL_DATA + "> 354 go on\nbody\n"
ENDS = {
    "recipient refused": (UNTIL_RCPT + "< RCPT\n> 550 5.1.1 no such user\n@rest", Stage.RCPT, Reason.RECIPIENT_REJECTED),
    "DATA refused": (UNTIL_DATA + "> 452 4.3.1 out of memory\n@rest", Stage.DATA, Reason.SERVICE_UNAVAILABLE),
    "250 to DATA": (UNTIL_DATA + "> 250 ok\n@rest", Stage.DATA, Reason.PROTOCOL_ERROR),
    "refused at the dot": (UNTIL_DOT + "> 552 5.3.4 message too big\n@rest", Stage.DOT, Reason.MESSAGE_TOO_LARGE),
    "busy at the dot": (UNTIL_DOT + "> 421 4.3.2 shutting down\nclose", Stage.DOT, Reason.SERVICE_UNAVAILABLE),
    "354 at the dot": (UNTIL_DOT + "> 354 more\n@rest", Stage.DOT, Reason.PROTOCOL_ERROR),
    "closed at the dot": (UNTIL_DOT + "close", Stage.DOT, Reason.CONNECTION_CLOSED),
    "reset at the dot": (UNTIL_DOT + "reset", Stage.DOT, Reason.CONNECTION_CLOSED),
    "silent at the dot": (UNTIL_DOT + "hang", Stage.DOT, Reason.COMMAND_TIMEOUT),
    "nonsense at the dot": (UNTIL_DOT + "> hello\nhang", Stage.DOT, Reason.MALFORMED_REPLY),
    "spoke before the message": (UNTIL_DATA + ">> 354 go on\\r\\n250 ok\\r\\n\nhang", Stage.DOT, Reason.PROTOCOL_ERROR),
    "left before the message": (UNTIL_DATA + ">> 354 go on\\r\\n421 4.3.2 bye\\r\\n\nhang", Stage.DOT, Reason.SERVICE_UNAVAILABLE),
}  # fmt: skip
UNSURE = {"354 at the dot", "closed at the dot", "reset at the dot", "silent at the dot", "nonsense at the dot"}


@ALL_MODES
@pytest.mark.parametrize("name", ENDS)
def test_what_is_not_taken(name: str, mode: Mode) -> None:
    """Each end has its stage and reason; where nobody knows what became of the mail the verdict says so; no RSET after
    the dot, no mail after a refused recipient."""
    script, stage, reason = ENDS[name]
    with Hostile([script], mode.value, pki().contexts) as server:
        result = run(request(server.port, mode, timeout_seconds=6 if "silent" in name else 20), None)
    assert verdict(result) == (Outcome.FAILED, stage, reason), result.message
    assert server.errors == []
    assert result.verdict is not None
    (heard,) = server.heard
    commands = [line.partition(" ")[0] for line in heard.lines if line.isupper() or line.startswith(("MAIL", "RCPT"))]
    assert commands.count("DATA") == (stage is not Stage.RCPT)
    assert ("." in heard.lines) is (stage is Stage.DOT and "before" not in name)
    assert ("RSET" in commands) is (name in {"recipient refused", "DATA refused"})
    assert ("QUIT" in commands) is (name in {"recipient refused", "DATA refused", "refused at the dot"})
    assert ("may have been delivered" in result.message) is (name in UNSURE)
    if name in {"silent at the dot", "closed at the dot", "reset at the dot"}:
        assert result.verdict.rule in {"transport:dot-timeout", "transport:dot-closed"}
    assert result.egress.status is ConditionStatus.UNKNOWN


def test_a_probe_that_is_ended_at_the_dot_says_what_it_does_not_know() -> None:
    """SIGTERM between the dot and its reply: Error, and the message may have been delivered; stage dot was not reached."""

    async def ended(server: Hostile) -> ProbeResult:
        stop = asyncio.Event()
        walk = asyncio.ensure_future(probe(request(server.port, Mode.PLAIN), None, stop=stop))
        deadline = asyncio.get_running_loop().time() + 20
        while not any("." in heard.lines for heard in server.heard):
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.01)
        stop.set()
        return await walk

    with Hostile([UNTIL_DOT + "hang"], "plain") as server:
        result = asyncio.run(ended(server))
    assert (result.outcome, result.verdict and result.verdict.reason) == (Outcome.ERROR, Reason.DEADLINE_EXCEEDED)
    assert "in stage dot; the message may have been delivered" in result.message
    assert [entry.outcome for entry in result.stages if entry.stage is Stage.DOT] == [StageOutcome.NOT_REACHED]
