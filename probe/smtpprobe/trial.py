"""``smtpprobe try``: run a manifest from this machine and print the status that the cluster would show."""

import argparse
import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from smtpprobe import spec as specs
from smtpprobe.check import port_progress, progress, report_of, show
from smtpprobe.counsel import lang_of
from smtpprobe.credentials import Problem, read as read_credentials
from smtpprobe.discovery import resolved
from smtpprobe.manifests import Bundle, Manifest, ManifestError, mount, read
from smtpprobe.model import ProbeRequest, TranscriptLine
from smtpprobe.output import EXIT_CODES, Output, Report, broken
from smtpprobe.probing import probe
from smtpprobe.resource import RunRef, Spec, Status, encode_status
from smtpprobe.status import Finished, fold, invalid
from smtpprobe.usage import UsageError
from smtpprobe.vocabulary import Reason


class Tried(NamedTuple):
    """One manifest with what its run showed."""

    manifest: Manifest
    status: Status
    report: Report


async def trial(options: argparse.Namespace) -> int:
    """Run each probe of the files once; returns the worst exit code."""
    try:
        bundle = read(options.files)
        if not bundle.probes:
            files = ", ".join(map(str, options.files))
            raise UsageError(f"no SmtpProbe in {files}: name a file with a SmtpProbe manifest")
        tried = [await _try(manifest, bundle, options) for manifest in bundle.probes]
    except ManifestError as error:
        raise UsageError(str(error)) from None
    output = Output(options.output)
    if output in {Output.JUNIT, Output.NAGIOS}:
        show(options, tuple(one.report for one in tried))
    elif output is Output.JSON:
        print(json.dumps(_listed([_resource(one) for one in tried]), ensure_ascii=False, indent=2))
    else:
        for one in tried:
            if output is Output.TEXT and one.report.request is not None:
                show(speaking(options, one.report.lang), (one.report,))
            print("---\n" + yaml.safe_dump(_resource(one), allow_unicode=True, sort_keys=False).rstrip())
    return max(EXIT_CODES[one.report.result.outcome] for one in tried)


async def _try(manifest: Manifest, bundle: Bundle, options: argparse.Namespace) -> Tried:
    parsed = specs.parse(manifest.raw.get("spec"))
    if parsed.spec is None or parsed.problems:
        status = invalid(Status(), generation=1, problems=parsed.problems, now=datetime.now(UTC))
        for problem in parsed.problems:
            print(f"{manifest.path}: {problem.field}: {problem.message}", file=sys.stderr)
        text = "; ".join(f"{problem.field}: {problem.message}" for problem in parsed.problems)
        return Tried(manifest, status, Report(request=None, result=broken(Reason.SPEC_INVALID, text)))
    if parsed.spec.suspend:
        print(f"{manifest.path}: {manifest.name}: spec.suspend is true: a cluster would not run it", file=sys.stderr)
    lines: list[TranscriptLine] = []
    with tempfile.TemporaryDirectory(prefix="smtpprobe-") as folder:
        request = lay_out(manifest, bundle, parsed.spec, Path(folder), options.helo)
        credentials = read_credentials(request.credentials, request.host) if request.credentials else None
        if isinstance(credentials, Problem):
            result = broken(credentials.reason, credentials.message)
        else:
            result = await probe(
                request, credentials, on_stage=progress(options), on_line=lines.append, on_port=port_progress(options)
            )
            request = resolved(request, result)
    run = RunRef(trigger="once", generation=1)
    status = fold(
        Status(),
        parsed.spec,
        generation=1,
        finished=Finished(run=run, result=result),
        now=datetime.now(UTC),
        helo=options.helo,
    )
    speaks = speaking(options, options.lang or lang_of(parsed.spec))
    return Tried(manifest, status, report_of(speaks, request, result, tuple(lines)))


def speaking(options: argparse.Namespace, lang: str) -> argparse.Namespace:
    """Return the options with a language: that of the spec, where the command line names none."""
    return argparse.Namespace(**vars(options) | {"lang": lang})


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


def _resource(tried: Tried) -> dict[str, Any]:
    return {
        "apiVersion": tried.manifest.raw.get("apiVersion"),
        "kind": "SmtpProbe",
        "metadata": {"name": tried.manifest.name, "namespace": tried.manifest.namespace},
        "spec": tried.manifest.raw.get("spec"),
        "status": encode_status(tried.status),
    }


def _listed(resources: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one object: the resource itself, or a list as kubectl prints it."""
    return resources[0] if len(resources) == 1 else {"apiVersion": "v1", "kind": "List", "items": resources}
