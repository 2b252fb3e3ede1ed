"""``smtpprobe-operator local FOLDER``: the operator's loop over a folder of manifests, for machines without Kubernetes.

A loop, not a second cluster: read the manifests, ask ``schedule``, run the probe as a process of this machine with the
Secret laid out as a kubelet would, ``fold``, write ``NAME.status.yaml`` beside the manifest, print the table, serve the
same metrics. Statuses are read back at start, so that a restart repeats nothing and a login pause holds.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import yaml
from aiohttp import web

from smtpprobe.codec import ResultUnreadable, decode_result, encode_request
from smtpprobe.manifests import Bundle, Manifest, ManifestError, read
from smtpprobe.model import ProbeResult, Verdict
from smtpprobe.resource import PLURAL, RunRef, Spec, encode_status
from smtpprobe.status import Finished, fold, invalid, refold
from smtpprobe.trial import lay_out
from smtpprobe.vocabulary import ConditionType, Outcome, Reason
from smtpprobe_operator import pause, schedule
from smtpprobe_operator.metrics import Snapshot, exposition
from smtpprobe_operator.registry import Probe, Registry, from_body

STATUS_SUFFIX = ".status.yaml"
LOOK_AGAIN = timedelta(seconds=5)
GRACE = 30.0
COLUMNS = ("NAME", "READY", "REASON", "HOST", "PORT", "MODE", "EGRESS", "MESSAGE")
_NAMESPACE = uuid.UUID("5f5a4a3c-6b0e-4f0b-9d53-0b1f6c1b7a11")


class Folder:
    """The manifests of a folder and the statuses beside them; the resourceVersion is a count of our own writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bundle = Bundle((), {})
        self.manifests: dict[str, Manifest] = {}
        self._version = 0

    def look(self) -> list[dict[str, Any]]:
        """Read the folder again and return each SmtpProbe as an API server would hold it."""
        files = sorted(f for f in self.path.iterdir() if f.suffix in {".yaml", ".yml"} and STATUS_SUFFIX not in f.name)
        self.bundle = read(files)
        bodies = [self._body(manifest) for manifest in self.bundle.probes]
        self.manifests = {body["metadata"]["uid"]: m for body, m in zip(bodies, self.bundle.probes, strict=True)}
        return bodies

    def status_file(self, manifest: Manifest) -> Path:
        return self.path / f"{manifest.name}{STATUS_SUFFIX}"

    def write(self, manifest: Manifest, probe: Probe) -> None:
        """Write a status whole or not at all."""
        document = {
            "apiVersion": manifest.raw["apiVersion"],
            "kind": "SmtpProbe",
            "metadata": {
                "name": manifest.name,
                "namespace": manifest.namespace,
                "generation": probe.generation,
                "creationTimestamp": probe.created.isoformat(),
            },
            "spec": manifest.raw.get("spec"),
            "status": encode_status(probe.status),
        }
        file = self.status_file(manifest)
        draft = file.with_name(f".{file.name}.new")
        draft.write_text(yaml.safe_dump(document, allow_unicode=True, sort_keys=False), encoding="utf-8")
        draft.replace(file)

    def _body(self, manifest: Manifest) -> dict[str, Any]:
        before: dict[str, Any] = {}
        with contextlib.suppress(OSError, yaml.YAMLError):
            before = yaml.safe_load(self.status_file(manifest).read_text(encoding="utf-8")) or {}
        meta = before.get("metadata", {})
        generation = int(meta.get("generation", 0))
        if not generation or before.get("spec") != manifest.raw.get("spec"):
            generation += 1
        self._version += 1
        metadata = manifest.raw["metadata"] | {
            "uid": str(uuid.uuid5(_NAMESPACE, f"{PLURAL}/{manifest.namespace}/{manifest.name}")),
            "namespace": manifest.namespace,
            "name": manifest.name,
            "generation": generation,
            "resourceVersion": str(self._version),
            "creationTimestamp": meta.get("creationTimestamp") or datetime.now(UTC).isoformat(),
        }
        return {**manifest.raw, "metadata": metadata, "status": before.get("status")}


class LocalOperator:
    """The loop's state: the registry, runs in flight, counters."""

    def __init__(self, folder: Folder, helo: str | None) -> None:
        self.folder = folder
        self.registry = Registry()
        self.opened = datetime.now(UTC)
        self.flights: dict[str, asyncio.Task[None]] = {}
        self.runs: dict[tuple[str, Outcome], int] = {}
        self._helo = helo
        self._specs: dict[str, tuple[Any, str | None]] = {}

    def look(self) -> None:
        """Take in what the folder holds now; only a changed manifest replaces what is known."""
        bodies = self.folder.look()
        present = {body["metadata"]["uid"] for body in bodies}
        for uid in [probe.uid for probe in self.registry if probe.uid not in present]:
            self.registry.remove(uid)
        for body in bodies:
            uid, annotations = body["metadata"]["uid"], body["metadata"].get("annotations")
            if self._specs.get(uid) != (body.get("spec"), annotations):
                self._specs[uid] = (body.get("spec"), annotations)
                self.registry.put(from_body(body))

    def settle(self, probe: Probe) -> None:
        """Write what a spec alone decides: invalid, suspended, a schedule that changed."""
        now = datetime.now(UTC)
        if not schedule.refold_due(probe):
            return
        if probe.spec is None:
            status = invalid(probe.status, generation=probe.generation, problems=probe.problems, now=now)
        else:
            status = refold(probe.status, probe.spec, generation=probe.generation, now=now)
        self.keep(msgspec.structs.replace(probe, status=schedule.stamp(probe, status, now)))

    def keep(self, probe: Probe) -> None:
        """Put a probe with its new status into registry and folder."""
        self.registry.remove(probe.uid)
        self.registry.put(probe)
        self.folder.write(self.folder.manifests[probe.uid], probe)

    def start_due(self) -> None:
        """Start what is due; one login at a time for one Secret and host, as in the cluster."""
        now = datetime.now(UTC)
        for probe in self.registry:
            self.settle(probe)
            current = self.registry.get(probe.uid)
            if current is None or current.spec is None or probe.uid in self.flights:
                continue
            siblings = self.registry.siblings(current)
            beside = sum(other.uid in self.flights for other in siblings)
            due = schedule.due(current, now)
            if due and pause.may_start(current, siblings, beside):
                self.flights[probe.uid] = asyncio.create_task(self.fly(current, current.spec, due.run))

    async def fly(self, probe: Probe, spec: Spec, run: RunRef) -> None:
        """Run one probe process to its end and fold what it found."""
        now = datetime.now(UTC)
        siblings = self.registry.siblings(probe)
        refused = pause.login_policy(probe, siblings, now, run=run)
        try:
            try:
                result = await self._process(self.folder.manifests[probe.uid], spec, refused)
            except ManifestError as error:
                result = _error(Reason.SECRET_KEY_MISSING, str(error))
            current = self.registry.get(probe.uid)
            if current is None or current.spec is None:
                return
            now = datetime.now(UTC)
            shared = tuple(sibling.status.auth for sibling in siblings)
            finished = Finished(run=run, result=result, node=os.uname().nodename)
            status = fold(
                current.status,
                current.spec,
                generation=current.generation,
                finished=finished,
                now=now,
                helo=self._helo,
                shared=shared,
            )
            self.runs[probe.uid, result.outcome] = self.runs.get((probe.uid, result.outcome), 0) + 1
            self.keep(msgspec.structs.replace(current, status=schedule.stamp(current, status, now)))
        finally:
            self.flights.pop(probe.uid, None)

    async def _process(self, manifest: Manifest, spec: Spec, refused: Any) -> ProbeResult:
        with tempfile.TemporaryDirectory(prefix="smtpprobe-") as name:
            folder = Path(name)
            request = lay_out(manifest, self.folder.bundle, spec, folder, self._helo)
            request = msgspec.structs.replace(request, refused=refused)
            log = folder / "termination"
            environment = {
                "SMTPPROBE_REQUEST": encode_request(request).decode(),
                "SMTPPROBE_TERMINATION_LOG": str(log),
                "PATH": os.environ.get("PATH", ""),
            }
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "smtpprobe.pod", env=environment, stdout=asyncio.subprocess.DEVNULL
            )
            try:
                await asyncio.wait_for(process.wait(), spec.timeout_seconds + GRACE)
            except TimeoutError:
                process.kill()
                await process.wait()
                return _error(Reason.DEADLINE_EXCEEDED, f"the probe ran longer than {spec.timeout_seconds + GRACE:g} s")
            except asyncio.CancelledError:
                process.terminate()
                await process.wait()
                raise
            try:
                return decode_result(log.read_bytes())
            except (OSError, ResultUnreadable) as error:
                return _error(Reason.RESULT_UNREADABLE, f"the probe ended with {process.returncode}: {error}")

    def snapshot(self) -> Snapshot:
        """Return what a scrape reads."""
        return Snapshot(
            now=datetime.now(UTC),
            opened=self.opened,
            probes=self.registry.snapshot(),
            runs=dict(self.runs),
            runs_in_flight=len(self.flights),
        )

    def finished_once(self) -> bool:
        """Whether every probe has a result or a refusal of its spec, and nothing runs."""
        now = datetime.now(UTC)
        return not self.flights and all(schedule.due(probe, now) is None for probe in self.registry)


def table(probes: tuple[Probe, ...]) -> str:
    """Return what ``kubectl get smtpprobes`` shows, with the message at the end."""
    rows = [COLUMNS, *(_row(probe) for probe in sorted(probes, key=lambda probe: probe.path))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS) - 1)]
    return "\n".join(
        "   ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows
    )


def _row(probe: Probe) -> tuple[str, ...]:
    ready = next((c for c in probe.status.conditions if c.type is ConditionType.READY), None)
    spec = probe.spec
    return (
        probe.name,
        ready.status.value if ready else "Unknown",
        ready.reason if ready else "Pending",
        spec.host if spec else "-",
        str(spec.port) if spec else "-",
        spec.mode.value if spec else "-",
        probe.status.egress.verdict.value,
        ready.message if ready else "",
    )


def _error(reason: Reason, message: str) -> ProbeResult:
    now = datetime.now(UTC)
    verdict = Verdict(reason=reason, rule="local")
    return ProbeResult(outcome=Outcome.ERROR, started_at=now, finished_at=now, verdict=verdict, message=message)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``local``."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="manifests: SmtpProbe, Secret, ConfigMap")
    parser.add_argument("--once", action="store_true", help="stop when each probe has run")
    parser.add_argument("--port", type=int, default=0, help="of /metrics on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--helo", metavar="NAME", help="EHLO name where spec.heloName is not set")
    parser.add_argument("--serve-until-stdin-closes", action="store_true", help=argparse.SUPPRESS)


async def serve(operator: LocalOperator, port: int) -> tuple[web.AppRunner, str]:
    """Serve ``/metrics`` on loopback; returns the runner and the address."""

    async def metrics(_request: web.Request) -> web.Response:
        body = await asyncio.to_thread(exposition, operator.snapshot())
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    bound: int = runner.addresses[0][1]
    return runner, f"http://127.0.0.1:{bound}/metrics"


async def local(options: argparse.Namespace) -> int:
    """Run the loop until it is interrupted, or with ``--once`` until each probe has run."""
    if not options.folder.is_dir():
        print(f"smtpprobe-operator local: {options.folder} is no folder: name one with manifests", file=sys.stderr)
        return 3
    operator = LocalOperator(Folder(options.folder), options.helo)
    runner, address = await serve(operator, options.port)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await _loop(operator, stop, once=options.once)
        print(f"metrics: {address}", flush=True)
        if options.serve_until_stdin_closes:
            await asyncio.to_thread(sys.stdin.read)
    except ManifestError as error:
        print(f"smtpprobe-operator local: {error}", file=sys.stderr)
        return 3
    finally:
        for task in list(operator.flights.values()):
            task.cancel()
        await asyncio.gather(*operator.flights.values(), return_exceptions=True)
        await runner.cleanup()
    return 0


async def _loop(operator: LocalOperator, stop: asyncio.Event, *, once: bool) -> None:
    shown = ""
    while not stop.is_set():
        operator.look()
        operator.start_due()
        if once and operator.finished_once():
            print(table(operator.registry.snapshot()), flush=True)
            return
        now = table(operator.registry.snapshot())
        if not once and now != shown:
            shown = now
            print(f"{shown}\n", flush=True)
        stopped = asyncio.ensure_future(stop.wait())
        done, _ = await asyncio.wait(
            [stopped, *operator.flights.values()],
            timeout=LOOK_AGAIN.total_seconds(),
            return_when=asyncio.FIRST_COMPLETED,
        )
        for task in done - {stopped}:
            task.result()  # a flight that broke is our own fault: say so
        stopped.cancel()
