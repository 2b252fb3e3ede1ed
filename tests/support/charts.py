"""The chart in tests: helm of the test cluster's cache, renderings as Python values."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "smtpprobe-operator"
IMAGES = ("--set", "image.repository=localhost/smtpprobe-operator,probe.image.repository=localhost/smtpprobe-probe")
OLDEST, NEWEST = "1.31.0", "1.36.0"


@cache
def helm_program() -> str:
    """The path of helm: SMTPPROBE_HELM, else the one that the test cluster's build makes once and keeps."""
    given = os.environ.get("SMTPPROBE_HELM")
    if given:
        return given
    sys.path.insert(0, str(ROOT / "tests" / "cluster"))
    import gobuild

    return str(gobuild.helm() / "helm")


def helm(*arguments: str | Path, stdin: str | None = None, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run helm; the caller reads its exit code."""
    command = [helm_program(), *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)


def template(
    *arguments: str | Path, release: str = "smtpprobe", chart: Path = CHART, version: str = NEWEST
) -> subprocess.CompletedProcess[str]:
    """Run ``helm template`` in namespace ``smtpprobe-system`` for one Kubernetes version."""
    return helm("template", release, chart, "-n", "smtpprobe-system", "--kube-version", version, *arguments)


def render(*arguments: str | Path, release: str = "smtpprobe", version: str = NEWEST) -> list[dict[str, Any]]:
    """Render the chart with images set; every object of it."""
    done = template(*IMAGES, *arguments, release=release, version=version)
    if done.returncode:
        raise AssertionError(done.stderr)
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def one(objects: list[dict[str, Any]], kind: str, ending: str = "") -> dict[str, Any]:
    """Return the only object of a kind, or the one whose name ends so."""
    found = [each for each in objects if each["kind"] == kind and each["metadata"]["name"].endswith(ending)]
    if len(found) != 1:
        raise AssertionError(f"{len(found)} objects of kind {kind} ending in {ending!r}")
    return found[0]


def alert_rules(*arguments: str) -> dict[str, Any]:
    """The rules file that a Prometheus reads (``groups:``), as the chart renders it."""
    spec = one(render("--set", "prometheusRule.enabled=true", *arguments), "PrometheusRule")["spec"]
    return dict(spec)
