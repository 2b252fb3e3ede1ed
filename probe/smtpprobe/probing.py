"""Where a probe begins: one session in a mode that is named, or ``auto`` to find the mode out."""

import asyncio

from smtpprobe.credentials import Credentials
from smtpprobe.dialogue import LineSink
from smtpprobe.model import ProbeRequest, ProbeResult
from smtpprobe.session import PortSink, Session, StageSink, finish
from smtpprobe.vocabulary import Mode


async def probe(
    request: ProbeRequest,
    credentials: Credentials | None,
    *,
    on_stage: StageSink | None = None,
    on_line: LineSink | None = None,
    on_port: PortSink | None = None,
    stop: asyncio.Event | None = None,
    alone: bool = False,
) -> ProbeResult:
    """Walk one session and return its result; when ``stop`` is set, at once with what there is (Error).

    ``on_stage`` gets each stage as it ends, and again where something later changes it; ``on_line`` gets each line said
    and heard, safe to print; ``on_port`` gets each port as mode auto is done with it. ``alone`` says that
    the process does nothing else meanwhile: each reply is then answered a little sooner.
    """
    if request.mode is Mode.AUTO:
        from smtpprobe import auto  # by need: no other mode pays for it

        return await auto.probe(request, credentials, auto.Sinks(on_stage, on_line, on_port), stop, alone=alone)
    return await finish(Session(request, credentials, on_stage, on_line, alone=alone), stop)
