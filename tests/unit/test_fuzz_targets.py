"""Every fuzz target runs and finds nothing in a second; one that finds something says so."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TARGETS = (
    "reply-reader",
    "ehlo-parser",
    "sanitizer",
    "redactor",
    "classifier",
    "egress-address",
    "auth",
    "result-codec",
)


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fuzz", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("target", TARGETS)
def test_target_finds_nothing(target):
    """The target draws examples for a second and none breaks what must hold."""
    done = fuzz("--seconds", "1", target)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split(":")[1].split()[0]) > 0


def test_all_targets_are_here():
    """The list of this test is the list of the command."""
    done = fuzz("--seconds", "1", "no-such-target")
    assert done.returncode == 2
    assert ", ".join(TARGETS) in done.stderr.replace("\n", " ")


def test_a_finding_is_reported(tmp_path):
    """A target whose check fails is reported with its example, and the exit code is 1."""
    script = (
        "import sys; from hypothesis import strategies as st; from fuzz import __main__ as m; from fuzz.targets import Target\n"
        "def check(n): assert n < 100, f'big {n}'\n"
        "m.TARGETS.clear(); m.TARGETS['broken'] = lambda: Target(st.integers(), check)\n"
        "sys.argv = ['fuzz', '--seconds', '5']; sys.exit(m.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert "broken: FOUND AssertionError: big 100" in done.stdout
