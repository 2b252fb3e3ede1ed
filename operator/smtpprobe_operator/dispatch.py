"""Who runs next: due → Job → pod → status, one asyncio task that sleeps until something happens or is due.

Everything that concerns one probe happens one after the other, in one task at a time; what is remembered here can be
lost at any moment, because Job names, pods and statuses say it again.
"""

import asyncio
import heapq
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

from smtpprobe import status as fold
from smtpprobe.model import ProbeResult
from smtpprobe.resource import RunRef, Spec, Status
from smtpprobe.spec import to_request
from smtpprobe.vocabulary import Outcome, Reason
from smtpprobe_operator import harvest, pause, schedule
from smtpprobe_operator.bucket import TokenBucket
from smtpprobe_operator.flights import Flight, Flights, flight_of, host_key
from smtpprobe_operator.jobs import CREDENTIALS_DIR, JOB_LABEL, SELECTOR, build_job, ca_file
from smtpprobe_operator.kube import ApiError, Kube
from smtpprobe_operator.metrics import Snapshot
from smtpprobe_operator.registry import Probe, Registry, login_key
from smtpprobe_operator.settings import Settings
from smtpprobe_operator.writer import Change, Writer

LOG = logging.getLogger("smtpprobe.dispatch")
LONGEST_NAP_SECONDS = 60.0
HOLD_SECONDS = (1.0, 2.0, 5.0, 15.0, 30.0, 60.0)
SUPERSEDED_WAIT_SECONDS = 10.0


def utc_now() -> datetime:
    return datetime.now(UTC)


class Dispatch:
    """Feed it with ``changed``, ``gone``, ``pod_seen``; ``open`` it when the registry is whole; ``run`` it forever."""

    def __init__(
        self, kube: Kube, registry: Registry, settings: Settings, *, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._kube = kube
        self._registry = registry
        self._settings = settings
        self._clock = clock
        self._writer = Writer(kube, registry, clock)
        self._bucket = TokenBucket(rate=settings.jobs_per_second, burst=settings.jobs_burst, clock=time.monotonic)
        self.flights = Flights(max_runs=settings.max_runs, max_per_host=settings.max_runs_per_host)
        self._wake = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._dirty: set[str] = set()
        self._agenda: list[tuple[datetime, str]] = []
        self._waiting: dict[str, datetime] = {}
        self._inbox: dict[str, deque[harvest.Sighting]] = {}
        self._holds: dict[str, tuple[datetime, int]] = {}
        self._skipped: dict[str, int] = {}
        self.opened: datetime | None = None
        self.ticked = time.monotonic()
        self.runs: Counter[tuple[str, Outcome]] = Counter()
        self.slots_skipped = 0

    # ---------------------------------------------------------------------------------------------- what happens

    def changed(self, uid: str) -> None:
        """Note that a probe is new or has changed."""
        self._dirty.add(uid)
        self._wake.set()

    def gone(self, uid: str) -> None:
        """Forget a probe that is gone; its Job and pods go by their owner reference."""
        self.flights.end(uid)
        for memory in (self._waiting, self._inbox, self._holds):
            memory.pop(uid, None)
        for key in [key for key in self.runs if key[0] == uid]:
            del self.runs[key]
        self._wake.set()

    def pod_seen(self, body: dict[str, Any]) -> None:
        """Take in a pod of ours that has finished (the watch shows no others); it may be handed in twice."""
        sighting = harvest.sight(body)
        if sighting and sighting.finished:
            self._inbox.setdefault(sighting.uid, deque()).append(sighting)
            self.changed(sighting.uid)

    async def open(self) -> None:
        """Take over what an earlier operator left: fold pods that finished, wait for those that run."""
        scopes: tuple[str | None, ...] = self._settings.watch_namespaces or (None,)
        pods = [pod for scope in scopes for pod in await self._kube.pods(scope, SELECTOR)]
        for sighting in sorted(filter(None, map(harvest.sight, pods)), key=lambda seen: seen.created):
            self._adopt(sighting)
        while waiting := [uid for uid in self._inbox if self._registry.get(uid)]:
            for uid in waiting:
                self._work(uid, self._harvest(uid))
            await asyncio.gather(*self._tasks.values())
        self._inbox.clear()
        self.opened = self._clock()
        self._dirty.update(probe.uid for probe in self._registry)
        self._wake.set()
        LOG.info("open: %d probes, %d runs under way", len(self._registry), len(self.flights))

    def _adopt(self, sighting: harvest.Sighting) -> None:
        probe = self._registry.get(sighting.uid)
        if probe is None or probe.spec is None:
            return
        if sighting.finished:
            self._inbox.setdefault(sighting.uid, deque()).append(sighting)
        else:
            self.flights.start(self._flight(probe, probe.spec, sighting.run, sighting.created))

    def _flight(self, probe: Probe, spec: Spec, run: RunRef, started: datetime) -> Flight:
        flight = flight_of(probe, spec, run, started)
        heapq.heappush(self._agenda, (started + timedelta(seconds=harvest.CHECKS_SECONDS[0]), probe.uid))
        return flight

    # -------------------------------------------------------------------------------------------------- the loop

    async def run(self) -> None:
        """Dispatch until cancelled."""
        while True:
            self._wake.clear()
            nap = self._step(self._clock())
            self.ticked = time.monotonic()
            try:
                async with asyncio.timeout(nap):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _step(self, now: datetime) -> float:
        """Do what is due now; returns how many seconds nothing will be."""
        if self.opened is None:
            return LONGEST_NAP_SECONDS
        while self._agenda and self._agenda[0][0] <= now:
            self._dirty.add(heapq.heappop(self._agenda)[1])
        dirty, self._dirty = self._dirty, set()
        for uid in dirty:
            if uid in self._tasks:
                continue  # the end of its task brings it here again
            if probe := self._registry.get(uid):
                self._consider(probe, now)
            else:
                self.gone(uid)
        nap = self._launch(now)
        if self._agenda:
            nap = min(nap, (self._agenda[0][0] - now).total_seconds())
        return max(0.0, nap)

    def _work(self, uid: str, job: Coroutine[Any, Any, None]) -> None:
        """Run the one task of a probe; when it ends the probe is looked at again."""
        task = asyncio.create_task(self._guard(uid, job))
        self._tasks[uid] = task

    async def _guard(self, uid: str, job: Coroutine[Any, Any, None]) -> None:
        try:
            await job
        except ApiError as error:
            self._hold(uid, error)
        except Exception:
            LOG.exception("probe %s: a step failed; trying again later", uid)
            self._hold(uid, "an error of our own")
        finally:
            del self._tasks[uid]
            self.changed(uid)

    def _hold(self, uid: str, why: ApiError | str) -> None:
        """Leave a probe alone for a while: what did not work may work later, and nothing may turn in circles."""
        tries = self._holds.get(uid, (None, 0))[1]
        asked = why.retry_after if isinstance(why, ApiError) else None
        seconds = asked or HOLD_SECONDS[min(tries, len(HOLD_SECONDS) - 1)]
        until = self._clock() + timedelta(seconds=seconds)
        self._holds[uid] = (until, tries + 1)
        probe = self._registry.get(uid)
        LOG.warning("%s: waiting %g s after: %s", probe.path if probe else uid, seconds, why)

    # ------------------------------------------------------------------------------------------------- one probe

    def _consider(self, probe: Probe, now: datetime) -> None:
        """Decide the next thing to do for one probe."""
        uid = probe.uid
        until = self._holds.get(uid, (now, 0))[0]
        if until > now:
            heapq.heappush(self._agenda, (until, uid))
            return
        if self._inbox.get(uid):
            self._work(uid, self._harvest(uid))
            return
        if probe.deleting:
            self._waiting.pop(uid, None)
            return
        flight = self.flights.get(uid)
        if flight and schedule.superseded(probe, flight.run):
            self._work(uid, self._supersede(flight))
        elif schedule.refold_due(probe):
            self._work(uid, self._write(uid, self._refold))
        elif _unannounced(probe):
            self._work(uid, self._write(uid, self._announce))
        elif flight:
            self._look_after(flight, now)
        elif due := schedule.due(probe, now):
            self._waiting.setdefault(uid, due.since)
        else:
            self._waiting.pop(uid, None)
            later = schedule.next_run(probe, now)
            if later is not None:
                heapq.heappush(self._agenda, (max(later, now + timedelta(milliseconds=50)), uid))

    async def _write(self, uid: str, change: Change) -> None:
        await self._writer.write(uid, change)
        self._holds.pop(uid, None)

    def _refold(self, probe: Probe) -> Status | None:
        now = self._clock()
        if probe.spec is None:
            return fold.invalid(probe.status, generation=probe.generation, problems=probe.problems, now=now)
        folded = fold.refold(probe.status, probe.spec, generation=probe.generation, now=now)
        return schedule.stamp(probe, folded, now)

    def _announce(self, probe: Probe) -> Status | None:
        """Say that the first run of a generation is on its way, however long it must wait for its turn."""
        if probe.spec is None or not _unannounced(probe):
            return None
        return fold.running(probe.status, probe.spec, generation=probe.generation, now=self._clock())

    # ---------------------------------------------------------------------------------------------------- starting

    def _launch(self, now: datetime) -> float:
        """Start what waits, longest first, as far as the limits allow; returns seconds until the next Job may go."""
        for uid in sorted(self._waiting, key=self._waiting.__getitem__):
            if self.flights.full():
                break
            probe = self._registry.get(uid)
            if probe is None or probe.spec is None or uid in self._tasks:
                continue
            if not self.flights.host_free(host_key(probe.spec)):
                continue
            login = login_key(probe)
            if login and not pause.may_start(probe, self._registry.siblings(probe), self.flights.logins(login)):
                continue
            due = schedule.due(probe, now)
            if due is None:
                del self._waiting[uid]
                self.changed(uid)
                continue
            if not self._bucket.try_take():
                return self._bucket.wait()
            del self._waiting[uid]
            self.slots_skipped += due.skipped
            flight = self._flight(probe, probe.spec, due.run, now)
            self.flights.start(flight)
            self._work(uid, self._start(probe, probe.spec, flight))
        return LONGEST_NAP_SECONDS

    async def _start(self, probe: Probe, spec: Spec, flight: Flight) -> None:
        """Create the Job of a run; one that exists already is ours, from before a restart or a lost answer."""
        now = self._clock()
        run = flight.run
        refused = pause.login_policy(probe, self._registry.siblings(probe), now, run=run)
        request = to_request(
            spec,
            default_helo=self._settings.helo_name,
            credentials_dir=CREDENTIALS_DIR if spec.credentials_secret_ref else None,
            ca_file=ca_file(spec),
            refused=refused,
        )
        try:
            await self._kube.create_job(probe.namespace, build_job(probe, spec, run, request, self._settings))
            self._holds.pop(probe.uid, None)
            LOG.info("%s: started %s attempt %d as %s", probe.path, run.trigger, run.attempt, flight.job)
        except ApiError as error:
            if error.exists:
                await self._meet(flight)
            elif error.passing or "because it is being terminated" in error.message:
                self.flights.end(probe.uid)
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
            self.flights.end(flight.uid)  # it has gone between the two calls: the name is free, ask again
            return
        flight.started = harvest.created(job, flight.started)
        if not pods and (said := harvest.job_failed(job)):
            result = harvest.error_result(
                Reason.RESULT_LOST, f"its pod is gone, its Job has ended: {said}", flight.started, self._clock()
            )
            await self._finish(flight.uid, _ended(flight.run, result))

    # -------------------------------------------------------------------------------------------------- under way

    def _look_after(self, flight: Flight, now: datetime) -> None:
        """See whether it is time to ask after a run that has not reported."""
        due = flight.started + timedelta(seconds=harvest.check_at(flight.checks))
        if now >= due:
            flight.checks += 1
            self._work(flight.uid, self._check(flight))
        else:
            heapq.heappush(self._agenda, (due, flight.uid))

    async def _check(self, flight: Flight) -> None:
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
        result = harvest.error_result(reason, text, flight.started, now)
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

    async def _supersede(self, flight: Flight) -> None:
        """End a run that nobody wants to know any more; its login counts, its verdict does not."""
        LOG.info("run %s of generation %d is superseded", flight.job, flight.run.generation)
        await self._kube.delete_job(flight.namespace, flight.job)
        deadline = time.monotonic() + SUPERSEDED_WAIT_SECONDS
        while time.monotonic() < deadline:
            if self._inbox.get(flight.uid):
                await self._harvest(flight.uid)
            if not await self._kube.pods(flight.namespace, f"{JOB_LABEL}={flight.job}"):
                break
            await asyncio.sleep(1.0)
        if self._inbox.get(flight.uid):
            await self._harvest(flight.uid)
        self.flights.end(flight.uid)

    def snapshot(self, *, watch_age: dict[str, float]) -> Snapshot:
        """Take what a scrape reads, in one step."""
        now = self._clock()
        waiting = [since for since in self._waiting.values() if since < now]
        return Snapshot(
            now=now,
            opened=self.opened or now,
            probes=self._registry.snapshot(),
            runs=dict(self.runs),
            runs_in_flight=len(self.flights),
            lateness=(now - min(waiting)).total_seconds() if waiting else 0.0,
            slots_skipped=self.slots_skipped,
            watch_age=watch_age,
            api_calls=dict(self._kube.calls),
        )

    # -------------------------------------------------------------------------------------------------- finishing

    async def _harvest(self, uid: str) -> None:
        """Fold the pods of one probe that have finished, in the order of their making."""
        inbox = self._inbox.pop(uid, deque())
        for sighting in sorted(inbox, key=lambda seen: seen.created):
            probe = self._registry.get(uid)
            if probe:
                await self._finish(uid, harvest.read_pod(sighting, self._clock()))

    async def _finish(self, uid: str, finished: fold.Finished) -> None:
        """Fold a run that ended into the status, and end its flight when that is written."""

        def change(probe: Probe) -> Status | None:
            now = self._clock()
            if probe.spec is None or fold.is_known(probe.status, finished.run, finished.result, now=now):
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
            return schedule.stamp(probe, folded, now)

        result: ProbeResult = finished.result
        written = await self._writer.write(uid, change, since=result.finished_at)
        probe = self._registry.get(uid)
        flight = self.flights.get(uid)
        if written:
            self._holds.pop(uid, None)
            self.runs[uid, result.outcome] += 1
            reason = result.verdict.reason if result.verdict else "Succeeded"
            LOG.info("%s: %s %s (%s)", probe.path if probe else uid, result.outcome, reason, finished.run.trigger)
        if flight and flight.run == finished.run:
            self.flights.end(uid)
            if probe and not written and not schedule.superseded(probe, finished.run):
                self._hold(uid, f"{finished.run.trigger} is in the status already")


def _unannounced(probe: Probe) -> bool:
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
