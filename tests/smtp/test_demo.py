"""`make demo`, whole, as a newcomer sees it, but for the installation."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from programs import ROOT, eventually

STORIES = {
    "all-as-it-should-be": "Succeeded",
    "relay-ip-not-registered": "EgressIPNotAuthorized",
    "said-25-is-465": "WrongTlsMode",
    "ses-with-iam-secret": "BadCredentials",
    "ssl-where-starttls": "WrongTlsMode",
    "user-without-domain": "BadCredentials",
}
METRICS = [
    "smtpprobe_success",
    "smtpprobe_success",
    "smtpprobe_failure_reason",
    "smtpprobe_stage_success",
    "smtpprobe_egress_authorized",
    "smtpprobe_certificate_not_after_timestamp_seconds",
]


def begin(temporary: Path, **environment: str) -> "subprocess.Popen[str]":
    """The demo in a session of its own; what it leaves behind would be in it, or name its folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "demo"],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def left(temporary: Path) -> list[str]:
    """Processes that still know the demo's folder."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and str(temporary).encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def test_the_demo(tmp_path: Path) -> None:
    """The table has the six stories with their verdicts, then one whole diagnosis, six metric lines; exit 0, and
    neither a process nor a file stays."""
    demo = begin(tmp_path)
    out, _ = demo.communicate(timeout=120)
    assert demo.returncode == 0, out
    table = {
        line.split()[0]: line.split() for line in out.splitlines() if line.split()[:1] and line.split()[0] in STORIES
    }
    assert {name: row[2] for name, row in table.items()} == STORIES
    diagnosis = out.split("from the status alone:")[1].split("The same for Prometheus:")[0]
    for part in (
        "EgressIPNotAuthorized",
        "STAGES",
        "WHO MUST ACT\n  mail admin",
        "allow 127.0.0.1",
        "FOR THE MAIL ADMIN",
    ):
        assert part in diagnosis
    lines = re.findall(r"^(smtpprobe_\w+)\{.*\} \S+$", out.split("The same for Prometheus:")[1], re.MULTILINE)
    assert lines == METRICS
    assert "correct-horse" not in out
    assert (left(tmp_path), list(tmp_path.iterdir())) == ([], [])


@pytest.mark.parametrize("whole_group", [True, False], ids=["Ctrl-C", "kill"])
def test_keep_stays_until_interrupted(tmp_path: Path, whole_group: bool) -> None:
    """With KEEP=1 the operator goes on; Ctrl-C, or a signal to the demo alone, ends all its processes."""
    demo = begin(tmp_path, KEEP="1")
    assert demo.stdout is not None
    seen = ""
    for line in iter(demo.stdout.readline, ""):
        seen += line
        if "KEEP=1: manifests" in seen and line.startswith("metrics: "):
            break
    assert "metrics: " in seen, seen
    assert len(left(tmp_path)) == 2
    if whole_group:
        os.killpg(demo.pid, signal.SIGINT)
    else:
        demo.send_signal(signal.SIGTERM)
    assert demo.wait(30) == 0
    demo.stdout.close()
    eventually("all are gone", lambda: not left(tmp_path), 10)
    assert list(tmp_path.iterdir()) == []
