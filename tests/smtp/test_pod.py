"""The process in the pod, as the kubelet would run it: environment and mounts in, termination message and log out."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from certificates import pki
from hostile import Hostile

from smtpprobe.codec import decode_result, encode_request
from smtpprobe.model import CredentialFiles, Envelope, ProbeRequest, ProbeResult, TlsOptions
from smtpprobe.vocabulary import Depth, Mode, Outcome, Reason, Stage

PASSWORD = "correct-horse-9"
MIB = 1024
NEVER_IN_A_POD = (
    "kopf",
    "kubernetes",
    "yaml",
    "rich",
    "aiosmtplib",
    "prometheus_client",
    "smtpprobe_operator",
    "aiohttp",
)


# Paid by every run of every probe if a module's head imports them.
BY_NEED = {
    *("smtpprobe.auto", "smtpprobe.charset", "smtpprobe.classify", "smtpprobe.discovery", "smtpprobe.exchangers"),
    *("smtpprobe.experiments", "smtpprobe.normalize", "smtpprobe.scram", "smtpprobe.shorten", "cryptography"),
    *("dataclasses", "email", "hashlib", "hmac", "json", "pathlib", "secrets", "tempfile", "unicodedata"),
}


class Run(NamedTuple):
    """What a pod leaves: exit code, both streams, the termination message, peak memory in KiB, what it imported."""

    code: int
    out: str
    err: str
    message: bytes
    peak: int
    modules: set[str]

    @property
    def result(self) -> ProbeResult:
        return decode_result(self.message)


def request(port: int, mode: Mode, folder: Path | None, **changes: object) -> ProbeRequest:
    values = {
        "host": "localhost",
        "port": port,
        "mode": mode,
        "depth": Depth.ENVELOPE,
        "tls": TlsOptions(ca_file=pki().ca_file),
        "helo_name": "probe.example.com",
        "allow_plaintext_auth": True,
        "envelope": Envelope(mail_from="noreply@shop.example.com", rcpt_to=("postmaster@other.example.org",)),
        "credentials": CredentialFiles(directory=str(folder), secret_name="order-mail-smtp") if folder else None,
        "timeout_seconds": 20.0,
    }
    return ProbeRequest(**(values | changes))  # type: ignore[arg-type]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A mounted Secret."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "username").write_text("sender@shop.example.com")
    (folder / "password").write_text(PASSWORD)
    return folder


# ru_maxrss of a child counts what the parent held when it forked; VmHWM is the child's own.
MEASURED = """
import atexit, os, runpy, sys

def note():
    with open("/proc/self/status") as status, open(os.environ["PEAK"], "w") as peak:
        peak.write(status.read() + "Modules: " + " ".join(sys.modules))

def leave(code, really=os._exit):
    note()
    really(code)

os._exit = leave
atexit.register(note)
runpy.run_module("smtpprobe.pod", run_name="__main__")
"""


def start(raw: str, tmp_path: Path) -> "subprocess.Popen[str]":
    environment = {
        "SMTPPROBE_REQUEST": raw,
        "SMTPPROBE_TERMINATION_LOG": str(tmp_path / "message"),
        "PEAK": str(tmp_path / "peak"),
        "PATH": "",
    }
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        return subprocess.Popen([sys.executable, "-c", MEASURED], env=environment, stdout=out, stderr=err, text=True)


def finish(process: "subprocess.Popen[str]", tmp_path: Path) -> Run:
    code = process.wait(60)
    message = tmp_path / "message"
    noted = (tmp_path / "peak").read_text()
    peak = re.search(r"VmHWM:\s+(\d+) kB", noted)
    assert peak is not None
    return Run(
        code,
        (tmp_path / "out").read_text(),
        (tmp_path / "err").read_text(),
        message.read_bytes() if message.exists() else b"",
        int(peak[1]),
        set(noted.rpartition("Modules: ")[2].split()),
    )


def pod(made: ProbeRequest | str, tmp_path: Path) -> Run:
    raw = made if isinstance(made, str) else encode_request(made).decode()
    return finish(start(raw, tmp_path), tmp_path)


@pytest.mark.parametrize("mode", [Mode.PLAIN, Mode.STARTTLS, Mode.SMTPS])
def test_pass(mode: Mode, secret: Path, tmp_path: Path) -> None:
    """A whole session: exit 0, the result as termination message, one ASCII JSON line a stage, under 48 MiB."""
    with Hostile(["@hello AUTH PLAIN"], mode.value, pki().contexts) as server:
        run = pod(request(server.port, mode, secret), tmp_path)
    assert (run.code, run.err) == (0, "")
    assert run.result.outcome is Outcome.PASSED, run.result.message
    lines = [json.loads(line) for line in run.out.splitlines()]
    assert [line["stage"] for line in lines] == [entry.stage.value for entry in run.result.stages]
    assert run.out.isascii()
    assert run.peak <= 48 * MIB
    assert server.logins == 1


def test_nothing_secret_is_printed(secret: Path, tmp_path: Path) -> None:
    """Neither log nor termination message has the password, nor the log whole addresses."""
    script = f"@hello AUTH PLAIN\n< AUTH\n> 535 5.7.8 {PASSWORD} is wrong"
    with Hostile([script], "plain") as server:
        run = pod(request(server.port, Mode.PLAIN, secret), tmp_path)
    everything = run.out + run.err + run.message.decode()
    assert run.result.verdict is not None
    assert run.result.verdict.reason is Reason.BAD_CREDENTIALS
    assert PASSWORD not in everything
    assert "noreply@shop" not in run.out


def test_addresses_in_the_log_are_short(tmp_path: Path) -> None:
    """The log shows the first letter of a local part only."""
    with Hostile(["@hello"], "plain") as server:
        run = pod(request(server.port, Mode.PLAIN, None), tmp_path)
    assert "noreply" not in run.out
    assert "postmaster" not in run.out
    assert "@shop.example.com" in run.out
    assert run.result.outcome is Outcome.PASSED


def test_no_secret(tmp_path: Path) -> None:
    """A missing Secret is Error/SecretNotFound with the command that makes it, and no connection."""
    with Hostile(["@hello AUTH PLAIN"], "plain") as server:
        run = pod(request(server.port, Mode.PLAIN, tmp_path / "none"), tmp_path)
    assert run.code == 0
    assert run.result.outcome is Outcome.ERROR
    assert run.result.verdict is not None
    assert run.result.verdict.reason is Reason.SECRET_NOT_FOUND
    assert "order-mail-smtp" in run.result.message
    assert server.heard == []


def test_missing_key(secret: Path, tmp_path: Path) -> None:
    """A missing key is Error/SecretKeyMissing and names the keys that are there."""
    (secret / "password").rename(secret / "pass")
    run = pod(request(9, Mode.PLAIN, secret), tmp_path)
    assert run.result.verdict is not None
    assert run.result.verdict.reason is Reason.SECRET_KEY_MISSING
    assert "pass, username" in run.result.message


def test_host_not_allowed(secret: Path, tmp_path: Path) -> None:
    """A Secret that names its hosts is sent to no other one."""
    (secret / "allowedHosts").write_text("smtp.example.com")
    with Hostile(["@hello AUTH PLAIN"], "plain") as server:
        run = pod(request(server.port, Mode.PLAIN, secret), tmp_path)
    assert run.result.verdict is not None
    assert run.result.verdict.reason is Reason.HOST_NOT_ALLOWED
    assert server.heard == []


@pytest.mark.parametrize("raw", ["", "{}", "[]", '{"host": 1}', '{"schemaVersion": 2}', "\udcff"])
def test_unreadable_request(raw: str, tmp_path: Path) -> None:
    """A request that nobody can read is a result too."""
    run = pod(raw, tmp_path)
    assert (run.code, run.err) == (0, "")
    assert run.result.outcome is Outcome.ERROR
    assert run.result.verdict is not None
    assert run.result.verdict.reason is Reason.SPEC_INVALID


@pytest.mark.parametrize("script", ["hang", "> 220 mx\n< EHLO\nhang"])
def test_sigterm(script: str, secret: Path, tmp_path: Path) -> None:
    """SIGTERM ends the session at once and writes what there is."""
    with Hostile([script], "plain") as server:
        raw = encode_request(request(server.port, Mode.PLAIN, secret, timeout_seconds=60.0)).decode()
        process = start(raw, tmp_path)
        until = time.monotonic() + 20
        while not server.heard and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        run = finish(process, tmp_path)
    assert time.monotonic() - began < 15
    assert (run.code, run.err) == (0, "")
    assert run.result.outcome is Outcome.ERROR
    assert run.result.verdict is not None
    assert run.result.verdict.reason is Reason.DEADLINE_EXCEEDED
    assert run.result.stages[1].stage is Stage.CONNECT


@pytest.mark.parametrize(
    "script", ["flood 220 x", "flood 220-x\\r\\n", "@hello\n< MAIL\nflood 250-yyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\\r\\n"]
)
def test_floods_cost_no_memory(script: str, tmp_path: Path) -> None:
    """A server that sends without end ends the session soon, under 48 MiB."""
    with Hostile([script], "smtps", pki().contexts) as server:
        run = pod(request(server.port, Mode.SMTPS, None), tmp_path)
    assert (run.code, run.err) == (0, "")
    assert run.result.verdict is not None
    assert run.result.verdict.reason is Reason.REPLY_TOO_LONG
    assert run.peak <= 48 * MIB


def test_imports(secret: Path, tmp_path: Path) -> None:
    """A session that passes imports nothing of operator, CLI or cluster, and nothing that only a refusal needs."""
    with Hostile(["@hello AUTH PLAIN"], "plain") as server:
        run = pod(request(server.port, Mode.PLAIN, secret), tmp_path)
    assert run.result.outcome is Outcome.PASSED, run.result.message
    assert not set(NEVER_IN_A_POD) & {name.partition(".")[0] for name in run.modules}
    assert BY_NEED & run.modules == set()
