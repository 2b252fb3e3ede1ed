"""The probe's process on loopback beside others in the same session: EHLO, AUTH PLAIN, MAIL, RCPT, RSET, QUIT."""

import asyncio
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiosmtpd.smtp import SMTP, AuthResult

from bench.measure import Command, Sample, hold, in_turn, median, ratio
from smtpprobe.codec import encode_request
from smtpprobe.model import CredentialFiles, Envelope, ProbeRequest
from smtpprobe.vocabulary import Depth, Mode

USER, PASSWORD = "sender@corp.test", "correct-horse"
SENDER, RECIPIENT = "sender@corp.test", "postmaster@example.org"
PEAK_LIMIT_MIB = 48
SMTPLIB = """
import smtplib, sys
with smtplib.SMTP("127.0.0.1", int(sys.argv[1]), local_hostname="shop.example.com", timeout=10) as s:
    s.ehlo(); s.user, s.password = sys.argv[2:4]; s.auth("PLAIN", s.auth_plain)
    s.mail(sys.argv[4]); s.rcpt(sys.argv[5]); s.rset()
"""


class Handler:
    async def handle_RCPT(self, _server, _session, envelope, address, _options):  # noqa: N802
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"


@contextmanager
def server() -> Iterator[int]:
    """Run an SMTP server that takes any login, in a thread of its own; gives its port."""
    loop = asyncio.new_event_loop()

    def accept(_server, _session, _envelope, _mechanism, _data):
        return AuthResult(success=True, auth_data=USER)

    def factory() -> SMTP:
        return SMTP(Handler(), hostname="bench.test", authenticator=accept, auth_require_tls=False, loop=loop)

    listening = loop.run_until_complete(loop.create_server(factory, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        listening.close()
        loop.close()


def commands(port: int, folder: Path) -> tuple[Command, ...]:
    """Return the probe first, then its peers."""
    secret = folder / "credentials"
    secret.mkdir()
    (secret / "username").write_text(USER)
    (secret / "password").write_text(PASSWORD)
    request = ProbeRequest(
        host="127.0.0.1",
        port=port,
        mode=Mode.PLAIN,
        depth=Depth.ENVELOPE,
        allow_plaintext_auth=True,
        helo_name="shop.example.com",
        envelope=Envelope(mail_from=SENDER, rcpt_to=(RECIPIENT,)),
        credentials=CredentialFiles(directory=str(secret)),
    )
    log = folder / "termination"
    environment = {"SMTPPROBE_REQUEST": encode_request(request).decode(), "SMTPPROBE_TERMINATION_LOG": str(log)}
    swaks = ("swaks", "--server", "127.0.0.1", "--port", str(port), "--helo", "shop.example.com", "--auth", "PLAIN")
    swaks += (
        "--auth-user",
        USER,
        "--auth-password",
        PASSWORD,
        "--from",
        SENDER,
        "--to",
        RECIPIENT,
        "--quit-after",
        "RCPT",
    )
    script = folder / "peer.py"
    script.write_text(SMTPLIB)
    return (
        Command("smtpprobe.pod", (sys.executable, "-m", "smtpprobe.pod"), environment),
        Command("swaks", swaks),
        Command("smtplib script", (sys.executable, str(script), str(port), USER, PASSWORD, SENDER, RECIPIENT)),
        Command("python, nothing", (sys.executable, "-c", "pass")),
        Command("import of the pod", (sys.executable, "-c", "import smtpprobe.in_pod")),
    )


def main(runs: int = 15) -> None:
    """Print a row a program: median wall and CPU time, peak memory, and ours divided by theirs."""
    logging.getLogger("mail.log").setLevel(logging.ERROR)  # the server's own chatter
    with tempfile.TemporaryDirectory() as name, server() as port:
        measured = in_turn(commands(port, Path(name)), runs)
        result = (Path(name) / "termination").read_text()
    if '"outcome":"Passed"' not in result:
        raise RuntimeError(f"the measured session did not pass: {result}")
    ours = measured["smtpprobe.pod"]
    print(f"\nOne session on loopback, whole processes, {runs} runs in turn, medians ({os.cpu_count()} cores)")
    print(f"{'':22} {'wall ms':>8} {'cpu ms':>8} {'peak MiB':>9} {'ours/theirs, wall':>18}")
    for name, samples in measured.items():
        print(f"{name:22} {_row(samples)} {ratio([s.wall for s in ours], [s.wall for s in samples]):18.2f}")
    peak = max(sample.peak_mib for sample in ours)
    print(f"peak of the probe over all runs: {peak:.1f} MiB (bound {PEAK_LIMIT_MIB})")
    hold("peak memory of the probe, MiB", peak, PEAK_LIMIT_MIB)


def _row(samples: list[Sample]) -> str:
    wall, cpu = (median([getattr(s, field) for s in samples]) * 1000 for field in ("wall", "cpu"))
    return f"{wall:8.1f} {cpu:8.1f} {median([s.peak_mib for s in samples]):9.1f}"
