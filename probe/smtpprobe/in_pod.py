"""One request in the probe pod: from the environment, Secret from a mount, verdict to the termination message.

Standard output has one ASCII JSON line a stage, with what was said in it. SIGTERM ends the session and writes what
there is. Every import here is paid by every run.
"""

import asyncio
import os
import signal

import msgspec

from smtpprobe import codec, credentials, tls
from smtpprobe.model import ProbeRequest, ProbeResult, StageResult, TranscriptLine, Verdict
from smtpprobe.probing import probe
from smtpprobe.redact import shorten_local_parts
from smtpprobe.summary import cut
from smtpprobe.vocabulary import Outcome, Reason

REQUEST_VARIABLE = "SMTPPROBE_REQUEST"
TERMINATION_VARIABLE = "SMTPPROBE_TERMINATION_LOG"
TERMINATION_LOG = "/dev/termination-log"


def main() -> int:
    """Run one request and write its result."""
    try:
        request = codec.decode_request(os.environ.get(REQUEST_VARIABLE, ""))
    except codec.RequestUnreadable as problem:
        result = _cannot_run(Reason.SPEC_INVALID, f"{problem} ({REQUEST_VARIABLE})")
    else:
        result = asyncio.run(_run(request))
    with open(os.environ.get(TERMINATION_VARIABLE, TERMINATION_LOG), "wb") as message:
        message.write(codec.encode_result(result))
    return 0


async def _run(request: ProbeRequest) -> ProbeResult:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    found = credentials.read(request.credentials, request.host) if request.credentials is not None else None
    if isinstance(found, credentials.Problem):
        return _cannot_run(found.reason, found.message)
    log = _Log()
    return await probe(request, found, on_stage=log.stage, on_line=log.line, stop=stop, alone=True)


def _cannot_run(reason: Reason, sentence: str) -> ProbeResult:
    now = tls.utc_now()
    verdict = Verdict(reason=reason, rule="run:cannot")
    return ProbeResult(outcome=Outcome.ERROR, started_at=now, finished_at=now, verdict=verdict, message=cut(sentence))


class _Log:
    """Collect the lines of a stage and print them with it."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def line(self, line: TranscriptLine) -> None:
        self._lines.append(f"{line.at_ms} {line.who}: {line.text}")

    def stage(self, entry: StageResult) -> None:
        raw = msgspec.to_builtins(entry)
        raw.pop("reply", None)
        if "recipient" in raw:
            raw["recipient"] = shorten_local_parts(raw["recipient"])
        said, self._lines = [shorten_local_parts(line) for line in self._lines], []
        print(codec.ascii_json(raw | {"said": said}).decode("ascii"), flush=True)
