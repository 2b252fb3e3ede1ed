"""One run from its Job to its status: everything that a single run asks of the API server.

Nothing here decides when; ``dispatch`` does. What may work later ends in ``ApiError`` or ``LaterError``.
"""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from datetime import datetime
from typing import Any

from smtpprobe import status as fold
from smtpprobe.found import tls_seen, to_run
from smtpprobe.model import ProbeResult
from smtpprobe.resource import RunRef, Spec, Status
from smtpprobe.spec import to_request
from smtpprobe.vocabulary import Outcome, Reason
from smtpprobe_operator import harvest, pause, schedule
from smtpprobe_operator.flights import Flight, Flights
from smtpprobe_operator.jobs import CREDENTIALS_DIR, JOB_LABEL, build_job, ca_file
from smtpprobe_operator.kube import ApiError, Kube
from smtpprobe_operator.registry import Probe, Registry
from smtpprobe_operator.settings import Settings
from smtpprobe_operator.writer import Writer

LOG = logging.getLogger("smtpprobe.runner")
SUPERSEDED_WAIT_SECONDS = 10.0
TERMINATING = "because it is being terminated"


class LaterError(Exception):
    """Leave the probe alone for a moment: going on at once would turn in circles."""


class Runner:
    """``inbox`` holds finished pods that are not folded yet, ``runs`` counts what became a last run."""

    def __init__(
        self, kube: Kube, registry: Registry, settings: Settings, flights: Flights, clock: Callable[[], datetime]
    ) -> None:
        self._kube = kube
        self._registry = registry
        self._settings = settings
        self._flights = flights
        self._clock = clock
        self._writer = Writer(kube, registry, clock)
        self.inbox: dict[str, deque[harvest.Sighting]] = {}
        self.runs: Counter[tuple[str, Outcome]] = Counter()

    def forget(self, uid: str) -> None:
        """Forget a probe that is gone."""
        self.inbox.pop(uid, None)
        for key in [key for key in self.runs if key[0] == uid]:
            del self.runs[key]

    def receive(self, sighting: harvest.Sighting) -> None:
        """Keep a finished pod until its probe has a hand free."""
        self._flights.heard_of(sighting.job)
        self.inbox.setdefault(sighting.uid, deque()).append(sighting)

    # ------------------------------------------------------------------------------------- statuses without a run

    async def refold(self, uid: str) -> None:
        """Bring the status up to a spec change that needs no run."""
        await self._writer.write(uid, self._refolded)

    async def announce(self, uid: str) -> None:
        """Say that the first run of a generation is on its way, however long it must wait for its turn."""
        await self._writer.write(uid, self._announced)

    def _refolded(self, probe: Probe) -> Status | None:
        now = self._clock()
        if probe.spec is None:
            return fold.invalid(probe.status, generation=probe.generation, problems=probe.problems, now=now)
        helo = self._settings.helo_name
        folded = fold.refold(probe.status, probe.spec, generation=probe.generation, now=now, helo=helo)
        return schedule.stamp(probe, folded, now)

    def _announced(self, probe: Probe) -> Status | None:
        if probe.spec is None or not unannounced(probe):
            return None
        return fold.running(probe.status, probe.spec, generation=probe.generation, now=self._clock())

    # ---------------------------------------------------------------------------------------------------- starting

    async def start(self, probe: Probe, spec: Spec, flight: Flight) -> None:
        """Create the Job of a run; one that exists already is ours, from before a restart or a lost answer."""
        now = self._clock()
        run = flight.run
        refused = pause.login_policy(probe, self._registry.siblings(probe), now, run=run)
        request = to_request(
            to_run(spec, probe.status, probe.generation),
            default_helo=self._settings.helo_name,
            credentials_dir=CREDENTIALS_DIR if spec.credentials_secret_ref else None,
            ca_file=ca_file(spec),
            refused=refused,
            tls_seen=tls_seen(spec, probe.status),
        )
        request = pause.remembering(request, probe, self._registry.siblings(probe))
        try:
            await self._kube.create_job(probe.namespace, build_job(probe, spec, run, request, self._settings))
            LOG.info("%s: started %s attempt %d as %s", probe.path, run.trigger, run.attempt, flight.job)
        except ApiError as error:
            if error.exists:
                await self._meet(flight)
            elif error.passing or TERMINATING in error.message:
                self._flights.end(probe.uid)
                raise
            else:
                reason = harvest.refusal(error.message)
                text = f"the Job was refused: {error.message}"
                await self._finish(probe.uid, _ended(run, harvest.error_result(reason, text, now, now)))

    async def _meet(self, flight: Flight) -> None:
        """Find out what became of a Job that exists: its pod is read, waited for, or missing."""
        pods = await self._kube.pods(flight.namespace, f"{JOB_LABEL}={flight.job}")
        for sighting in filter(None, map(harvest.sight, pods)):
            if sighting.uid == flight.uid and sighting.finished:
                await self._finish(flight.uid, harvest.read_pod(sighting, self._clock()))
                return
        try:
            job = await self._kube.job(flight.namespace, flight.job)
        except ApiError as error:
            if not error.gone:
                raise
            self._flights.end(flight.uid)  # it has gone between the two calls: the name is free, ask again
            return
        flight.started = harvest.created(job, flight.started)
        if not pods and (said := harvest.job_failed(job)):
            text, auth = f"its pod is gone, its Job has ended: {said}", harvest.lost_login(flight.job)
            result = harvest.error_result(Reason.RESULT_LOST, text, flight.started, self._clock(), auth)
            await self._finish(flight.uid, _ended(flight.run, result))

    # -------------------------------------------------------------------------------------------------- under way

    async def check(self, flight: Flight) -> None:
        """Ask after a run: its pod, else its Job's events, else its Job."""
        pods = await self._kube.pods(flight.namespace, f"{JOB_LABEL}={flight.job}")
        now = self._clock()
        age = (now - flight.started).total_seconds()
        for sighting in filter(None, map(harvest.sight, pods)):
            if sighting.finished:
                await self._finish(flight.uid, harvest.read_pod(sighting, now))
                return
        events = [] if pods else await self._kube.events_of(flight.namespace, "Job", flight.job)
        job = None if pods else await self._job(flight)
        found = harvest.explain(pods, events, job, now, age=age, pod_deadline=flight.pod_deadline)
        if found is None:
            return
        reason, text = found
        auth = harvest.given_up(flight.job, pods, reason)
        result = harvest.error_result(reason, text, flight.started, now, auth)
        # Deleted first: a pod that starts after its run was given up would be a session that nobody counts.
        await self._kube.delete_job(flight.namespace, flight.job)
        await self._finish(flight.uid, _ended(flight.run, result))

    async def _job(self, flight: Flight) -> dict[str, Any] | None:
        try:
            return await self._kube.job(flight.namespace, flight.job)
        except ApiError as error:
            if error.gone:
                return None
            raise

    async def supersede(self, flight: Flight) -> None:
        """End a run that nobody wants to know any more; its login counts, its verdict does not."""
        LOG.info("run %s of generation %d is superseded", flight.job, flight.run.generation)
        await self._kube.delete_job(flight.namespace, flight.job)
        deadline = time.monotonic() + SUPERSEDED_WAIT_SECONDS
        while time.monotonic() < deadline:
            if self.inbox.get(flight.uid):
                await self.harvest(flight.uid)
            if not await self._kube.pods(flight.namespace, f"{JOB_LABEL}={flight.job}"):
                break
            await asyncio.sleep(1.0)
        else:
            self._flights.linger(flight)
        if self.inbox.get(flight.uid):
            await self.harvest(flight.uid)
        self._flights.end(flight.uid)

    # -------------------------------------------------------------------------------------------------- finishing

    async def harvest(self, uid: str) -> None:
        """Fold the pods of one probe that have finished, in the order of their making."""
        inbox = self.inbox.pop(uid, deque())
        for sighting in sorted(inbox, key=lambda seen: seen.created):
            probe = self._registry.get(uid)
            if probe:
                await self._finish(uid, harvest.read_pod(sighting, self._clock()))

    async def _finish(self, uid: str, finished: fold.Finished) -> None:
        """Fold a run that ended into the status, and end its flight when that is written."""
        became_last = False

        def change(probe: Probe) -> Status | None:
            nonlocal became_last
            now = self._clock()
            if probe.spec is None:
                return None
            if schedule.superseded(probe, finished.run) and _login_counted(probe.status, finished.result):
                return None
            shared = tuple(sibling.status.auth for sibling in self._registry.siblings(probe))
            folded = fold.fold(
                probe.status,
                probe.spec,
                generation=probe.generation,
                finished=finished,
                now=now,
                helo=self._settings.helo_name,
                shared=shared,
            )
            if folded is probe.status:  # a run that is known already
                return None
            became_last = folded.last_run != probe.status.last_run
            return schedule.stamp(probe, folded, now)

        result: ProbeResult = finished.result
        written = await self._writer.write(uid, change, since=result.finished_at)
        probe = self._registry.get(uid)
        flight = self._flights.get(uid)
        if written and became_last:  # else only the login of a run that was dropped or given up
            self.runs[uid, result.outcome] += 1
            reason = result.verdict.reason if result.verdict else "Succeeded"
            LOG.info("%s: %s %s (%s)", probe.path if probe else uid, result.outcome, reason, finished.run.trigger)
        if flight and flight.run == finished.run:
            self._flights.end(uid)
            if probe and not written and not schedule.superseded(probe, finished.run):
                raise LaterError(f"{finished.run.trigger} is in the status already")


def unannounced(probe: Probe) -> bool:
    """Whether the status does not say yet that a new spec is going to be run."""
    return (
        probe.spec is not None
        and not probe.spec.suspend
        and probe.status.observed_generation != probe.generation
        and fold.needs_run(probe.spec, probe.status)
    )


def _login_counted(status: Status, result: ProbeResult) -> bool:
    """Whether the login of a superseded run is in the status: its pod is seen until it is gone."""
    counted = (status.auth.last_attempt, status.auth.last_success)
    return any(at is not None and at >= result.finished_at.replace(microsecond=0) for at in counted)


def _ended(run: RunRef, result: ProbeResult) -> fold.Finished:
    return fold.Finished(run=run, result=result)
