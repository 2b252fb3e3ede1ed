"""Sessions over a link with 50 ms round trip: our time beside the sum of the round trips, swaks and smtplib.

The link is real for TCP: two network namespaces, a TUN device in each, and a relay that holds every packet for 25 ms.
So SYN, delayed acknowledgements and Nagle's algorithm cost what they cost in life. Needs root.
"""

import contextlib
import ctypes
import fcntl
import os
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from bench import programs
from bench.measure import BoundPassedError, Command, in_turn, median, ratio
from smtpprobe.codec import decode_result, encode_request
from smtpprobe.model import CredentialFiles, Envelope, ProbeRequest, TlsOptions
from smtpprobe.vocabulary import Depth, Mode, Outcome

ONE_WAY, RUNS = 0.025, 15
SESSION_LIMIT, PEER_LIMIT = 1.05, 1.01  # not slower than a peer: one part in a hundred is for noise
CLIENT, SERVER = "10.99.0.1", "10.99.0.2"
USER, PASSWORD = "sender@corp.test", "correct-horse"
SENDER, RECIPIENT = "sender@corp.test", "postmaster@example.org"
HELO = "shop.example.com"
CLONE_NEWNET, TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x40000000, 0x400454CA, 0x0001, 0x1000
# What RFC 5321, 3207, 8446 and 4954 need, one exchange after the other. A greeting comes a round trip after the SYN's
# answer, in mode smtps a round trip after our end of the handshake.
ROUND_TRIPS = {
    Mode.STARTTLS: ["connect", "greeting", "EHLO", "STARTTLS", "TLS", "EHLO", "AUTH", "MAIL", "RCPT", "RSET+QUIT"],
    Mode.SMTPS: ["connect", "TLS", "greeting", "EHLO", "AUTH", "QUIT"],
}
SMTPLIB = """
import smtplib, ssl, sys
host, port, ca, user, password, *envelope = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
if envelope:
    s = smtplib.SMTP(host, int(port), local_hostname="shop.example.com", timeout=10)
    s.ehlo(); s.starttls(context=context)
else:
    s = smtplib.SMTP_SSL(host, int(port), local_hostname="shop.example.com", timeout=10, context=context)
s.ehlo(); s.user, s.password = user, password; s.auth("PLAIN", s.auth_plain)
if envelope:
    s.mail(envelope[0]); s.rcpt(envelope[1]); s.rset()
s.quit()
"""
CONNECTS = """
import socket, sys, time
for _ in range(9):
    begin = time.perf_counter(); socket.create_connection((sys.argv[1], int(sys.argv[2]))).close()
    print(time.perf_counter() - begin)
"""


class Side(NamedTuple):
    """One end: what a command is prefixed with to run there, and its TUN device's file descriptor."""

    enter: tuple[str, ...]
    device: int


def main() -> None:
    """Print a row a program for both modes, and how our sessions compare with their round trips."""
    over: list[str] = []
    with tempfile.TemporaryDirectory() as name, link() as (client, server):
        folder = Path(name)
        with programs.mail(folder, SERVER, server.enter) as mail:
            trip = round_trip(client, mail.port)
            print(
                f"\nSessions over a link of {trip * 1000:.1f} ms round trip (median of connects), {RUNS} runs in turn"
            )
            for mode in ROUND_TRIPS:
                over += _compare(mode, folder, client, mail, trip)
    if over:
        raise BoundPassedError("; ".join(over))


def _compare(mode: Mode, folder: Path, client: Side, mail: programs.Mail, trip: float) -> list[str]:
    log = folder / "termination"
    commands = _commands(mode, folder, client, mail, log)
    warm = len(mail.sessions)
    in_turn(commands, 0)
    programs.grown(mail.sessions, warm, len(commands))
    sessions: list[float] = []
    walls: dict[str, list[float]] = {command.name: [] for command in commands}
    served: dict[str, list[float]] = {command.name: [] for command in commands}
    for run in range(RUNS):
        seen, first = len(mail.sessions), run % len(commands)  # who comes first pays for what the machine did before
        order = commands[first:] + commands[:first]
        for name, samples in in_turn(order, 1, warm_up=0).items():
            walls[name].append(samples[0].wall)
        sessions.append(_session_seconds(log))
        for command, seconds in zip(order, programs.grown(mail.sessions, seen, len(order)), strict=True):
            served[command.name].append(seconds)
    needed = len(ROUND_TRIPS[mode])
    share = median(sessions) / (needed * trip)
    print(f"{mode}: {' '.join(ROUND_TRIPS[mode])}")
    print(
        f"  our session {median(sessions) * 1000:7.1f} ms = {share:.3f} of {needed} round trips (bound {SESSION_LIMIT})"
    )
    over = [f"{mode} session: {share:.3f} of its round trips, bound {SESSION_LIMIT}"] if share > SESSION_LIMIT else []
    print(f"  {'':16} {'at the server':>13} {'ours/theirs':>11} {'whole process':>14} {'ours/theirs':>11}")
    for name, whole in walls.items():
        times = ratio(served["smtpprobe.pod"], served[name])
        print(f"  {name:16} {median(served[name]) * 1000:10.1f} ms {times:11.3f}", end="")
        print(f" {median(whole) * 1000:11.1f} ms {ratio(walls['smtpprobe.pod'], whole):11.2f}")
        if times > PEER_LIMIT:
            over.append(f"{mode}: a session {times:.3f} times as long as {name}'s, bound {PEER_LIMIT:g}")
    return over


def _session_seconds(log: Path) -> float:
    result = decode_result(log.read_bytes())
    if result.outcome is not Outcome.PASSED:
        raise RuntimeError(f"the measured session did not pass: {result.message}")
    return (result.finished_at - result.started_at).total_seconds()


def _commands(mode: Mode, folder: Path, client: Side, mail: programs.Mail, log: Path) -> list[Command]:
    secret = folder / "credentials"
    secret.mkdir(exist_ok=True)
    (secret / "username").write_text(USER)
    (secret / "password").write_text(PASSWORD)
    starttls = mode is Mode.STARTTLS
    port = mail.port if starttls else mail.tls_port
    request = ProbeRequest(
        host=SERVER,
        port=port,
        mode=mode,
        depth=Depth.ENVELOPE if starttls else Depth.AUTH,
        tls=TlsOptions(ca_file=str(mail.ca)),
        helo_name=HELO,
        envelope=Envelope(mail_from=SENDER, rcpt_to=(RECIPIENT,)) if starttls else None,
        credentials=CredentialFiles(directory=str(secret)),
    )
    environment = {"SMTPPROBE_REQUEST": encode_request(request).decode(), "SMTPPROBE_TERMINATION_LOG": str(log)}
    swaks = (
        "swaks",
        "--server",
        SERVER,
        "--port",
        str(port),
        "--helo",
        HELO,
        "--tls" if starttls else "--tls-on-connect",
    )
    swaks += ("--tls-verify", "--tls-ca-path", str(mail.ca), "--auth", "PLAIN", "--auth-user", USER)
    swaks += ("--auth-password", PASSWORD, "--from", SENDER, "--to", RECIPIENT)
    swaks += ("--quit-after", "RCPT" if starttls else "AUTH")
    script = folder / "peer.py"
    script.write_text(SMTPLIB)
    envelope = (SENDER, RECIPIENT) if starttls else ()
    smtplib = (sys.executable, str(script), SERVER, str(port), str(mail.ca), USER, PASSWORD, *envelope)
    return [
        Command("smtpprobe.pod", (*client.enter, sys.executable, "-m", "smtpprobe.pod"), environment),
        Command("swaks", (*client.enter, *swaks), programs.swaks_environment()),
        Command("smtplib script", (*client.enter, *smtplib)),
    ]


def round_trip(client: Side, port: int) -> float:
    """Return the median seconds of a TCP connect over the link."""
    argv = [*client.enter, sys.executable, "-c", CONNECTS, SERVER, str(port)]
    out = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    return median([float(line) for line in out.split()])


@contextmanager
def link() -> Iterator[tuple[Side, Side]]:
    """Give both ends of the link while it lives."""
    with ExitStack() as stack:
        client = stack.enter_context(_side(CLIENT, SERVER))
        server = stack.enter_context(_side(SERVER, CLIENT))
        relay = [sys.executable, "-I", "-S", str(Path(__file__).with_name("relay.py"))]
        devices = (client.device, server.device)
        argv = [*relay, *map(str, devices), str(ONE_WAY)]
        process = stack.enter_context(subprocess.Popen(argv, stdout=subprocess.PIPE, pass_fds=devices))
        stack.callback(process.terminate)
        assert process.stdout is not None
        process.stdout.readline()
        yield client, server


@contextmanager
def _side(own: str, other: str) -> Iterator[Side]:
    holder = ["unshare", "--net", "--", "sh", "-c", "echo ready; exec sleep infinity"]
    with subprocess.Popen(holder, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            device = _device(f"/proc/{process.pid}/ns/net")
            enter = ("nsenter", f"--net=/proc/{process.pid}/ns/net", "--")
            for words in (f"address add {own} peer {other} dev tun0", "link set tun0 up", "link set lo up"):
                subprocess.run([*enter, "ip", *words.split()], check=True)
            yield Side(enter, device)
            os.close(device)
        finally:
            process.terminate()


def _device(namespace: str) -> int:
    """Open a TUN device in another network namespace, by a thread that goes there."""
    found: list[int] = []

    def work() -> None:
        with Path(namespace).open("rb") as place:
            if ctypes.CDLL(None).setns(place.fileno(), CLONE_NEWNET):
                return
        with contextlib.suppress(OSError):
            device = os.open("/dev/net/tun", os.O_RDWR)
            fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", b"tun0", IFF_TUN | IFF_NO_PI))
            found.append(device)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if not found:
        raise RuntimeError("no TUN device: the link needs root and /dev/net/tun")
    return found[0]
