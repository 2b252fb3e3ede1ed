"""Run the test tiers, each as its own pytest process, and sum up: a line a tier, then one line over all.

A tier that cannot run has failed; nothing is skipped in silence. ``python tools/tiers.py [TIER ...]``

Where TEST_KUBECONFIG names a cluster, the tier ``given`` runs there in place of ``e2e``, which needs the tests' own.
"""

import os
import shlex
import shutil
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
    "smtp": Tier(within=(*LAUNCH, "--no-kube", "--mail", "--refusals", "--clients", "--"), options=("-n", "2")),
    "api": Tier(within=(*LAUNCH, "--nodes", "0", "--")),
    "e2e": Tier(within=(*LAUNCH, "--nodes", "2", "--mail", "--prometheus", "--")),
    "chart": Tier(within=(*LAUNCH, "--nodes", "0", "--"), options=("-n", "2")),
    "given": Tier(),
}
GIVEN_IMAGES = {"operator": "localhost/smtpprobe-operator:test", "probe": "localhost/smtpprobe-probe:test"}


class CannotRunError(Exception):
    """Why a tier cannot run, and what to set."""


class Tally(NamedTuple):
    """What a tier came to; ``broken`` is set where pytest itself could not run."""

    passed: int
    failed: int
    skipped: int
    seconds: float
    broken: bool


def given_cluster() -> dict[str, str]:
    """Return the environment of the tier ``given``; builds and loads the images unless TEST_IMAGES names some there."""
    config = os.environ.get("TEST_KUBECONFIG", "")
    if not Path(config).is_file():
        raise CannotRunError("set TEST_KUBECONFIG to the kubeconfig file of the cluster to use")
    missing = [program for program in ("kubectl", "helm") if shutil.which(program) is None]
    if missing:
        raise CannotRunError(f"not on PATH: {', '.join(missing)}")
    images = os.environ.get("TEST_IMAGES", "").split()
    if not images:
        load = shlex.split(os.environ.get("TEST_IMAGE_LOAD", ""))
        if not load:
            raise CannotRunError(
                "set TEST_IMAGE_LOAD to what brings a local image into the cluster ('kind load docker-image'), "
                "or TEST_IMAGES to 'OPERATOR:TAG PROBE:TAG' that it can pull"
            )
        for target, image in GIVEN_IMAGES.items():
            for command in (["docker", "build", "--target", target, "-t", image, "."], [*load, image]):
                if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
                    raise CannotRunError(f"failed: {shlex.join(command)}")
        images = list(GIVEN_IMAGES.values())
    if len(images) != 2 or not all(":" in image for image in images):
        raise CannotRunError("TEST_IMAGES: write two images with tags, 'OPERATOR:TAG PROBE:TAG'")
    return {
        "KUBECONFIG": str(Path(config).resolve()),
        "SMTPPROBE_TEST_GIVEN": "1",
        "SMTPPROBE_TEST_IMAGES": " ".join(images),
    }


def run(name: str) -> Tally:
    """Run one tier and read its counts from pytest's own report."""
    tier = TIERS[name]
    start = time.monotonic()
    try:
        more = given_cluster() if name == "given" else {}
    except CannotRunError as error:
        print(f"tier {name} cannot run: {error}", file=sys.stderr, flush=True)
        return Tally(0, 0, 0, time.monotonic() - start, broken=True)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = (*tier.within, *PYTEST, f"tests/{name}", "-q", f"--junit-xml={report}", *tier.options)
        environment = {key: value for key, value in os.environ.items() if key != "KUBECONFIG"} | more
        code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        if not report.exists():
            return Tally(0, 0, 0, time.monotonic() - start, broken=True)
        suite = next(ET.parse(report).getroot().iter("testsuite")).attrib
    bad = int(suite["failures"]) + int(suite["errors"])
    skipped = int(suite["skipped"])
    total = int(suite["tests"])
    return Tally(total - bad - skipped, bad, skipped, time.monotonic() - start, broken=code != 0 and bad == 0)


def default_tiers() -> list[str]:
    """Return all tiers that this machine, or the given cluster, is for."""
    left_out = "e2e" if os.environ.get("TEST_KUBECONFIG") else "given"
    return [name for name in TIERS if name != left_out]


def main(names: list[str]) -> int:
    """Run the named tiers, all by default; 0 only where each of them ran and passed."""
    unknown = [name for name in names if name not in TIERS]
    if unknown:
        print(f"no such tier: {' '.join(unknown)}; there are: {' '.join(TIERS)}", file=sys.stderr)
        return 2
    tallies = {}
    for name in names or default_tiers():
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
