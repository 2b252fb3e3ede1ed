"""``smtpprobe-operator local FOLDER``: the operator's loop over a folder of manifests, for machines without Kubernetes.

A loop, not a second cluster: read the manifests, ask ``schedule``, run the probe as a process, ``fold``, write
``NAME.status.yaml``, print the table, serve the same metrics. Statuses are read back at start, so that a restart
repeats nothing and a login pause holds.
"""

import argparse
import asyncio
import os
import shutil
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from smtpprobe.found import tls_seen, to_run
from smtpprobe.manifests import Manifest, ManifestError
from smtpprobe.model import ProbeResult
from smtpprobe.resource import RunRef, Spec, Status
from smtpprobe.status import Finished, count_login, fold, invalid, needs_run, refold, running
from smtpprobe.vocabulary import Outcome
from smtpprobe_operator import pause, schedule
from smtpprobe_operator.folder import Folder
from smtpprobe_operator.metrics import Snapshot, exposition
from smtpprobe_operator.process import ProbeProcess
from smtpprobe_operator.registry import Probe, Registry, from_body
from smtpprobe_operator.table import table

LOOK_AGAIN_SECONDS = 2.0
QUIET_SECONDS = 30.0
AT_ONCE = 8
EXIT_OWN_FAULT = 3


class Flight(msgspec.Struct, kw_only=True):
    """One run under way."""

    run: RunRef
    process: ProbeProcess
    task: asyncio.Task[None]


class LocalOperator:
    """The loop's state: the registry, runs in flight, counters."""

    def __init__(self, folder: Folder, helo: str | None) -> None:
        self.folder = folder
        self.registry = Registry()
        self.opened = datetime.now(UTC)
        self.flights: dict[str, Flight] = {}
        self.runs: dict[tuple[str, Outcome], int] = {}
        self.problems: tuple[str, ...] = ()
        self._helo = helo
        self._manifests: dict[str, Manifest] = {}

    def look(self) -> None:
        """Take in what the folder holds now; only a changed manifest replaces what is known."""
        before, self._manifests = self._manifests, self.folder.look()
        unusable: list[str] = []
        for uid in [probe.uid for probe in self.registry if probe.uid not in self._manifests]:
            self.registry.remove(uid)
        for uid, manifest in self._manifests.items():
            if self.registry.get(uid) is None or before[uid].raw != manifest.raw:
                try:
                    self.registry.put(from_body(self.folder.body(manifest)))
                except ManifestError as error:
                    self.registry.remove(uid)
                    unusable.append(str(error))
        problems = (*self.folder.problems, *unusable)
        for problem in problems:
            if problem not in self.problems:
                print(f"smtpprobe-operator local: {problem}", file=sys.stderr, flush=True)
        self.problems = problems
        for uid, flight in self.flights.items():
            probe = self.registry.get(uid)
            if probe is None or schedule.superseded(probe, flight.run):
                flight.process.stop()

    def start_due(self) -> None:
        """Settle what a spec alone decides and start what is due; logins one after the other, as in the cluster."""
        now = datetime.now(UTC)
        for known in self.registry:
            probe = self._settled(known, now)
            if probe.spec is None or probe.uid in self.flights or len(self.flights) >= AT_ONCE:
                continue
            siblings = self.registry.siblings(probe)
            beside = sum(other.uid in self.flights for other in siblings)
            due = schedule.due(probe, now)
            if due is None or not pause.may_start(probe, siblings, beside):
                continue
            asked, seen = to_run(probe.spec, probe.status, probe.generation), tls_seen(probe.spec, probe.status)
            process = ProbeProcess(self._manifests[probe.uid], self.folder.bundle, asked, tls_seen=seen)
            if needs_run(probe.spec, probe.status):
                probe = self._keep(probe, running(probe.status, probe.spec, generation=probe.generation, now=now))
            task = asyncio.create_task(self._fly(probe, due.run, process))
            self.flights[probe.uid] = Flight(run=due.run, process=process, task=task)

    def snapshot(self) -> Snapshot:
        """Return what a scrape reads."""
        return Snapshot(
            now=datetime.now(UTC),
            opened=self.opened,
            probes=self.registry.snapshot(),
            runs=dict(self.runs),
            runs_in_flight=len(self.flights),
        )

    def idle(self) -> bool:
        """Whether nothing runs and nothing is due."""
        now = datetime.now(UTC)
        return not self.flights and all(schedule.due(probe, now) is None for probe in self.registry)

    async def land(self) -> None:
        """End the runs under way and keep what they found: a login that was sent counts."""
        flights = list(self.flights.values())
        for flight in flights:
            flight.process.stop()
        await asyncio.gather(*(flight.task for flight in flights))

    def _settled(self, probe: Probe, now: datetime) -> Probe:
        """Write what needs no run: an invalid spec, a suspension, another schedule."""
        if not schedule.refold_due(probe):
            return probe
        if probe.spec is None:
            status = invalid(probe.status, generation=probe.generation, problems=probe.problems, now=now)
        else:
            status = refold(probe.status, probe.spec, generation=probe.generation, now=now, helo=self._helo)
        return self._keep(probe, status)

    def _keep(self, probe: Probe, status: Status) -> Probe:
        """Put a probe with its new status into registry and folder."""
        kept = msgspec.structs.replace(probe, status=schedule.stamp(probe, status, datetime.now(UTC)))
        self.registry.remove(probe.uid)
        self.registry.put(kept)
        self.folder.write(self._manifests[probe.uid], kept)
        return kept

    async def _fly(self, probe: Probe, run: RunRef, process: ProbeProcess) -> None:
        siblings = self.registry.siblings(probe)
        refused = pause.login_policy(probe, siblings, datetime.now(UTC), run=run)
        try:
            result = await process.result(self._helo, refused, lambda made: pause.remembering(made, probe, siblings))
            current = self.registry.get(probe.uid)
            if current is not None and probe.spec is not None:
                self._keep(current, self._folded(current, probe.spec, run, result))
        finally:
            del self.flights[probe.uid]

    def _folded(self, current: Probe, spec: Spec, run: RunRef, result: ProbeResult) -> Status:
        """Return the status with this result; of one that nobody asks for any more only the login counts."""
        now = datetime.now(UTC)
        shared = tuple(sibling.status.auth for sibling in self.registry.siblings(current))
        if current.spec is None or schedule.superseded(current, run):
            return count_login(current.status, spec, result, now=now, shared=shared)
        self.runs[current.uid, result.outcome] = self.runs.get((current.uid, result.outcome), 0) + 1
        return fold(
            current.status,
            current.spec,
            generation=current.generation,
            finished=Finished(run=run, result=result, node=os.uname().nodename),
            now=now,
            helo=self._helo,
            shared=shared,
        )


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``local``."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="manifests: SmtpProbe, Secret, ConfigMap")
    parser.add_argument("--once", action="store_true", help="stop when each probe has run")
    parser.add_argument("--port", type=int, default=0, help="of /metrics on 127.0.0.1; 0 takes a free one")
    parser.add_argument(
        "--metrics-file", type=Path, metavar="FILE", help="write the metrics there too, for a textfile collector"
    )
    parser.add_argument("--helo", metavar="NAME", help="EHLO name where spec.heloName is not set")


async def local(options: argparse.Namespace) -> int:
    """Run the loop until it is interrupted, or with ``--once`` until each probe has run."""
    if not options.folder.is_dir():
        print(f"smtpprobe-operator local: {options.folder} is no folder: name one with manifests", file=sys.stderr)
        return EXIT_OWN_FAULT
    operator = LocalOperator(Folder(options.folder), options.helo)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = None
    try:
        if not options.once:
            runner = await _serve(operator, options.port)
        await _loop(operator, stop, options)
        await operator.land()
    except OSError as error:
        print(f"smtpprobe-operator local: {error}", file=sys.stderr)
        return EXIT_OWN_FAULT
    finally:
        for flight in operator.flights.values():
            flight.process.stop()
        if runner is not None:
            await runner.cleanup()
    return EXIT_OWN_FAULT if options.once and operator.problems else 0


async def _serve(operator: LocalOperator, port: int) -> web.AppRunner:
    """Serve ``/metrics`` on loopback and say where."""

    async def metrics(_request: web.Request) -> web.Response:
        body = await asyncio.to_thread(exposition, operator.snapshot())
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    bound: int = runner.addresses[0][1]
    print(f"metrics: http://127.0.0.1:{bound}/metrics", file=sys.stderr, flush=True)
    return runner


async def _loop(operator: LocalOperator, stop: asyncio.Event, options: argparse.Namespace) -> None:
    screen = _Screen(once=options.once)
    stopped = asyncio.create_task(stop.wait())
    while not stop.is_set():
        operator.look()
        operator.start_due()
        idle = operator.idle()
        if options.metrics_file and (idle or not options.once):
            _replace(options.metrics_file, exposition(operator.snapshot()))
        screen.show(operator, last=options.once and idle)
        if options.once and idle:
            break
        waited: list[asyncio.Task[Any]] = [stopped, *(flight.task for flight in operator.flights.values())]
        done, _ = await asyncio.wait(waited, timeout=LOOK_AGAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()  # a flight that broke is our own fault: say so
    stopped.cancel()


def _replace(file: Path, content: bytes) -> None:
    draft = file.with_name(f".{file.name}.new")
    draft.write_bytes(content)
    draft.replace(file)


class _Screen:
    """The table on stdout where something changed; on a terminal's stderr what runs just now."""

    def __init__(self, *, once: bool) -> None:
        self._once = once
        self._shown = ""
        self._at = 0.0

    def show(self, operator: LocalOperator, *, last: bool) -> None:
        """Print what is new: with ``--once`` the table at the end, else when nothing runs or half a minute passed."""
        terminal = sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if terminal else None
        colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        now = table(operator.registry.snapshot(), width=width, colour=colour)
        self._progress(operator, last=last)
        quiet = not operator.flights or time.monotonic() - self._at > QUIET_SECONDS
        if last or (not self._once and quiet and now != self._shown):
            self._shown, self._at = now, time.monotonic()
            print(now if self._once else f"{now}\n", flush=True)

    def _progress(self, operator: LocalOperator, *, last: bool) -> None:
        if not sys.stderr.isatty() or not self._once:
            return
        names = sorted(probe.name for probe in operator.registry if probe.uid in operator.flights)
        text = "" if last else f"… running: {', '.join(names)}"
        room = shutil.get_terminal_size().columns - 1
        print(f"\r\x1b[K{text[:room]}", end="", file=sys.stderr, flush=True)
