"""``smtpprobe try``: run a manifest from this machine and print the status that the cluster would show."""

import argparse
import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from smtpprobe import spec as specs
from smtpprobe.check import progress, show
from smtpprobe.cli import UsageError
from smtpprobe.credentials import Problem, read as read_credentials
from smtpprobe.manifests import Bundle, Manifest, ManifestError, mount, read
from smtpprobe.model import ProbeRequest, ProbeResult, TranscriptLine, Verdict
from smtpprobe.output import EXIT_CODES, Output
from smtpprobe.resource import RunRef, Spec, Status, encode_status
from smtpprobe.session import probe
from smtpprobe.status import Finished, fold, invalid
from smtpprobe.vocabulary import Outcome


async def trial(options: argparse.Namespace) -> int:
    """Run each probe of the files once; returns the worst exit code."""
    try:
        bundle = read(options.files)
    except ManifestError as error:
        raise UsageError(str(error)) from None
    if not bundle.probes:
        raise UsageError(f"no SmtpProbe in {', '.join(map(str, options.files))}: name a file with a SmtpProbe manifest")
    return max([await _one(manifest, bundle, options) for manifest in bundle.probes])


async def _one(manifest: Manifest, bundle: Bundle, options: argparse.Namespace) -> int:
    parsed = specs.parse(manifest.raw.get("spec"))
    if parsed.spec is None or parsed.problems:
        status = invalid(Status(), generation=1, problems=parsed.problems, now=datetime.now(UTC))
        _print_status(manifest, status, options)
        for problem in parsed.problems:
            print(f"{manifest.path}: {problem.field}: {problem.message}", file=sys.stderr)
        return EXIT_CODES[Outcome.ERROR]
    with tempfile.TemporaryDirectory(prefix="smtpprobe-") as folder:
        request = lay_out(manifest, bundle, parsed.spec, Path(folder), options.helo)
        lines: list[TranscriptLine] = []
        credentials = read_credentials(request.credentials, request.host) if request.credentials else None
        if isinstance(credentials, Problem):
            result = _could_not_run(credentials)
        else:
            result = await probe(request, credentials, on_stage=progress(options), on_line=lines.append)
    if Output(options.output) in {Output.JUNIT, Output.NAGIOS, Output.TEXT}:
        show(options, request, result, tuple(lines))
    finished = Finished(run=RunRef(trigger="once", generation=1), result=result)
    status = fold(Status(), parsed.spec, generation=1, finished=finished, now=datetime.now(UTC), next_run=None)
    _print_status(manifest, status, options)
    return EXIT_CODES[result.outcome]


def lay_out(manifest: Manifest, bundle: Bundle, spec: Spec, folder: Path, helo: str | None) -> ProbeRequest:
    """Put Secret and CA into ``folder`` as the kubelet would, and return the request that points there."""
    credentials_dir = ca_file = None
    if spec.credentials_secret_ref:
        key = ("Secret", manifest.namespace, spec.credentials_secret_ref.name)
        credentials_dir = str(mount(bundle.data.get(key), folder / "credentials"))
    if spec.tls.ca_ref:
        ref = spec.tls.ca_ref
        ca_file = str(mount(bundle.data.get((ref.kind, manifest.namespace, ref.name)), folder / "ca") / ref.key)
    return specs.to_request(spec, default_helo=helo, credentials_dir=credentials_dir, ca_file=ca_file, refused=None)


def _could_not_run(problem: Problem) -> ProbeResult:
    now = datetime.now(UTC)
    verdict = Verdict(reason=problem.reason, rule="credentials")
    return ProbeResult(outcome=Outcome.ERROR, started_at=now, finished_at=now, verdict=verdict, message=problem.message)


def _print_status(manifest: Manifest, status: Status, options: argparse.Namespace) -> None:
    resource: dict[str, Any] = {
        "apiVersion": manifest.raw.get("apiVersion"),
        "kind": "SmtpProbe",
        "metadata": {"name": manifest.name, "namespace": manifest.namespace},
        "status": encode_status(status),
    }
    if Output(options.output) is Output.JSON:
        print(json.dumps(resource, ensure_ascii=False, indent=2))
    elif Output(options.output) in {Output.YAML, Output.TEXT}:
        print("---\n" + yaml.safe_dump(resource, allow_unicode=True, sort_keys=False).rstrip())
