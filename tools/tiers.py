"""Run the test tiers, each as its own pytest process, and sum up: a line a tier, then one line over all.

A tier that cannot run has failed; nothing is skipped in silence. ``python tools/tiers.py [TIER ...]``
"""

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PYTEST = (str(ROOT / ".venv/bin/python"), "-m", "pytest")
LAUNCH = (sys.executable, str(ROOT / "tests/cluster/launch.py"))


class Tier(NamedTuple):
    """How one tier runs: what pytest is started under, and pytest's own options."""

    within: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


TIERS = {
    "unit": Tier(options=("-n", "2")),
    "smtp": Tier(within=(*LAUNCH, "--no-kube", "--mail", "--"), options=("-n", "2")),
    "api": Tier(within=(*LAUNCH, "--nodes", "0", "--")),
    "e2e": Tier(within=(*LAUNCH, "--nodes", "2", "--mail", "--prometheus", "--")),
    "chart": Tier(within=(*LAUNCH, "--nodes", "0", "--"), options=("-n", "2")),
}


class Tally(NamedTuple):
    """What a tier came to; ``broken`` is set where pytest itself could not run."""

    passed: int
    failed: int
    skipped: int
    seconds: float
    broken: bool


def run(name: str) -> Tally:
    """Run one tier and read its counts from pytest's own report."""
    tier = TIERS[name]
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = (*tier.within, *PYTEST, f"tests/{name}", "-q", f"--junit-xml={report}", *tier.options)
        environment = {key: value for key, value in os.environ.items() if key != "KUBECONFIG"}
        code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        if not report.exists():
            return Tally(0, 0, 0, time.monotonic() - start, broken=True)
        suite = next(ET.parse(report).getroot().iter("testsuite")).attrib
    bad = int(suite["failures"]) + int(suite["errors"])
    skipped = int(suite["skipped"])
    total = int(suite["tests"])
    return Tally(total - bad - skipped, bad, skipped, time.monotonic() - start, broken=code != 0 and bad == 0)


def main(names: list[str]) -> int:
    """Run the named tiers, all by default; 0 only where each of them ran and passed."""
    unknown = [name for name in names if name not in TIERS]
    if unknown:
        print(f"no such tier: {' '.join(unknown)}; there are: {' '.join(TIERS)}", file=sys.stderr)
        return 2
    tallies = {}
    for name in names or list(TIERS):
        print(f"\n=== tier {name}", flush=True)
        tallies[name] = run(name)
    print()
    for name, tally in tallies.items():
        state = "could not run" if tally.broken else "failed" if tally.failed else "passed"
        counts = f"{tally.passed:5} passed {tally.failed:3} failed {tally.skipped:3} skipped"
        print(f"{name:6} {counts} {tally.seconds:7.1f} s  {state}")
    broken = sum(tally.broken for tally in tallies.values())
    failed = sum(tally.failed for tally in tallies.values()) + broken
    print(
        f"{sum(t.passed for t in tallies.values())} passed, {failed} failed, "
        f"{sum(t.skipped for t in tallies.values())} skipped"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
