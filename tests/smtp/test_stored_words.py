"""What is kept of a server's words: escaped once, cut at whole characters."""

import asyncio
import re

import pytest
from certificates import pki
from hostile import Hostile

from smtpprobe.model import ProbeRequest, ProbeResult, TlsOptions
from smtpprobe.probing import probe
from smtpprobe.vocabulary import Depth, Mode, Reason


def session(*scripts: str, mode: Mode) -> ProbeResult:
    with Hostile(list(scripts), mode, pki().contexts) as server:
        request = ProbeRequest(
            host="localhost",
            port=server.port,
            mode=mode,
            depth=Depth.EHLO if mode is Mode.PLAIN else Depth.TLS,
            helo_name="probe.example.com",
            tls=TlsOptions(ca_file=pki().ca_file),
            timeout_seconds=20,
        )
        return asyncio.run(probe(request, None))


@pytest.mark.parametrize("length", range(500, 514))
def test_a_long_line_is_never_cut_inside_an_escape(length: int) -> None:
    r"""Of a line that is too long to keep, what is kept ends with whole \xNN."""
    result = session("> 220 " + "x" * length + r"\xff\xfe\xfd\xfc" + "\n@rest", mode=Mode.PLAIN)
    reply = next(entry.reply for entry in result.stages if entry.reply is not None)
    assert len(reply.lines[0]) <= 512
    assert re.fullmatch(r"x+(\\x[0-9a-f]{2})*(\.\.\.)?", reply.lines[0])


@pytest.mark.parametrize(
    ("mode", "script", "reason"),
    [
        (Mode.SMTPS, "@raw\n>> 220 m\\xfcller\\r\\n220 mx\\r\\n\nhang", Reason.WRONG_TLS_MODE),
        (Mode.PLAIN, ">> SSH-2.0-\\xfc\\r\\n", Reason.NOT_SMTP),
        (
            Mode.STARTTLS,
            "> 220 mx\n< EHLO\n> 250-mx\n> 250 STARTTLS\n< STARTTLS\n>> 220 go\\r\\n\\xfc\\r\\nx\nhang",
            Reason.STARTTLS_INJECTION,
        ),
        (Mode.PLAIN, "> 220 \\xfctp FTP\n< EHLO\n> 500 no\n< HELO\n> 500 no", Reason.NOT_SMTP),
    ],
)
def test_what_is_quoted_is_escaped_once(mode: Mode, script: str, reason: Reason) -> None:
    r"""A byte that is no letter stands in our sentences as \xNN, never with two backslashes."""
    second = "@raw\n> 220 m\\xfcller.example.net\n< EHLO\n> 250-mx\n> 250 STARTTLS"
    result = session(script, second, mode=mode)
    assert result.verdict is not None, result.message
    said = " ".join([result.message, *(entry.detail or "" for entry in result.stages)])
    said += " ".join(made.showed for made in result.experiments)
    assert result.verdict.reason is reason
    assert "\\xfc" in said
    assert "\\\\" not in said
    assert "\\x5c" not in said
