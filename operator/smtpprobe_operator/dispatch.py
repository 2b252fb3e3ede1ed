"""Who runs next: one asyncio task that sleeps until something happens or is due.

Everything that concerns one probe happens one after the other, in one task at a time. What is remembered here can be
lost at any moment, because Job names, pods and statuses say it again.
"""

import asyncio
import heapq
import logging
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

from smtpprobe.resource import RunRef, Spec
from smtpprobe_operator import harvest, pause, schedule
from smtpprobe_operator.bucket import TokenBucket
from smtpprobe_operator.flights import Flight, Flights, connections, flight_of, host_key
from smtpprobe_operator.jobs import SELECTOR
from smtpprobe_operator.kube import ApiError, Kube
from smtpprobe_operator.metrics import Snapshot
from smtpprobe_operator.registry import Probe, Registry, login_key
from smtpprobe_operator.runner import LaterError, Runner, unannounced
from smtpprobe_operator.settings import Settings

LOG = logging.getLogger("smtpprobe.dispatch")
LONGEST_NAP_SECONDS = 60.0
HOLD_SECONDS = (1.0, 2.0, 5.0, 15.0, 30.0, 60.0)
SWEEPS = 10
SOON = timedelta(milliseconds=50)


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
        self._bucket = TokenBucket(rate=settings.jobs_per_second, burst=settings.jobs_burst, clock=time.monotonic)
        self.flights = Flights(max_runs=settings.max_runs, max_per_host=settings.max_runs_per_host)
        self._runner = Runner(kube, registry, settings, self.flights, clock)
        self._wake = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._dirty: set[str] = set()
        self._agenda: list[tuple[datetime, str]] = []
        self._planned: dict[str, datetime] = {}
        self._waiting: dict[str, datetime] = {}
        self._holds: dict[str, tuple[datetime, int]] = {}
        self._sweep = 0
        self.opened: datetime | None = None
        self.ticked = time.monotonic()
        self.slots_skipped = 0

    # ---------------------------------------------------------------------------------------------- what happens

    def changed(self, uid: str) -> None:
        """Note that a probe is new or has changed."""
        self._dirty.add(uid)
        self._wake.set()

    def gone(self, uid: str) -> None:
        """Forget a probe that is gone; its Job and pods go by their owner reference."""
        self.flights.end(uid)
        self._runner.forget(uid)
        for memory in (self._waiting, self._holds, self._planned):
            memory.pop(uid, None)
        self._wake.set()

    def pod_seen(self, body: dict[str, Any]) -> None:
        """Take in a pod of ours that has finished (the watch shows no others); it may be handed in twice."""
        sighting = harvest.sight(body)
        if sighting and sighting.finished:
            self._runner.receive(sighting)
            self.changed(sighting.uid)

    def look_again(self) -> None:
        """Look at a tenth of the probes, so that nothing that was overlooked stays so for long (or a clock was set)."""
        self._sweep = (self._sweep + 1) % SWEEPS
        self._dirty.update(probe.uid for probe in self._registry if hash(probe.uid) % SWEEPS == self._sweep)
        self._wake.set()

    async def open(self) -> None:
        """Take over what an earlier operator left: fold pods that finished, wait for those that run."""
        scopes: tuple[str | None, ...] = self._settings.watch_namespaces or (None,)
        pods = [pod for scope in scopes for pod in await self._kube.pods(scope, SELECTOR)]
        for sighting in sorted(filter(None, map(harvest.sight, pods)), key=lambda seen: seen.created):
            probe = self._registry.get(sighting.uid)
            if probe and sighting.finished:
                self._runner.receive(sighting)
            elif probe and probe.spec:
                self._take_off(probe, probe.spec, sighting.run, sighting.created)
        while waiting := [uid for uid in self._runner.inbox if self._registry.get(uid)]:
            for uid in waiting:
                self._work(uid, self._runner.harvest(uid))
            await asyncio.gather(*self._tasks.values())
        self._runner.inbox.clear()
        self.opened = self._clock()
        self._dirty.update(probe.uid for probe in self._registry)
        self._wake.set()
        LOG.info("open: %d probes, %d runs under way", len(self._registry), len(self.flights))

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
        """Do what is due now; returns for how many seconds nothing will be."""
        if self.opened is None:
            return LONGEST_NAP_SECONDS
        while self._agenda and self._agenda[0][0] <= now:
            at, uid = heapq.heappop(self._agenda)
            if self._planned.get(uid) == at:
                del self._planned[uid]
                self._dirty.add(uid)
        dirty, self._dirty = self._dirty, set()
        for uid in dirty - self._tasks.keys():  # the end of its task brings a probe here again
            if probe := self._registry.get(uid):
                self._try(probe, now)
            else:
                self.gone(uid)
        nap = self._launch(now)
        if self._agenda:
            nap = min(nap, (self._agenda[0][0] - now).total_seconds())
        return max(0.0, nap)

    def _plan(self, uid: str, at: datetime) -> None:
        """Look at a probe again at a time; the newest plan counts."""
        if self._planned.get(uid) != at:
            self._planned[uid] = at
            heapq.heappush(self._agenda, (at, uid))

    def _try(self, probe: Probe, now: datetime) -> None:
        """One probe that breaks a rule of ours must not stop the others."""
        try:
            self._consider(probe, now)
        except Exception:
            LOG.exception("%s: cannot be decided on", probe.path)
            self._hold(probe.uid, "an error of our own")

    def _work(self, uid: str, job: Coroutine[Any, Any, None]) -> None:
        """Run the one task of a probe; when it ends the probe is looked at again."""
        self._tasks[uid] = asyncio.create_task(self._guard(uid, job))

    async def _guard(self, uid: str, job: Coroutine[Any, Any, None]) -> None:
        try:
            await job
        except (ApiError, LaterError) as error:
            self._hold(uid, error)
        except Exception:
            LOG.exception("probe %s: a step failed", uid)
            self._hold(uid, "an error of our own")
        else:
            self._holds.pop(uid, None)
        finally:
            del self._tasks[uid]
            self.changed(uid)

    def _hold(self, uid: str, why: Exception | str) -> None:
        """Leave a probe alone for a while: what did not work may work later, and nothing may turn in circles."""
        tries = self._holds.get(uid, (None, 0))[1]
        asked = why.retry_after if isinstance(why, ApiError) else None
        seconds = asked or HOLD_SECONDS[min(tries, len(HOLD_SECONDS) - 1)]
        until = self._clock() + timedelta(seconds=seconds)
        self._holds[uid] = (until, tries + 1)
        self._plan(uid, until)
        probe = self._registry.get(uid)
        LOG.warning("%s: waiting %g s after: %s", probe.path if probe else uid, seconds, why)

    # ------------------------------------------------------------------------------------------------- one probe

    def _consider(self, probe: Probe, now: datetime) -> None:
        """Decide the next thing to do for one probe."""
        uid, runner = probe.uid, self._runner
        until = self._holds.get(uid, (now, 0))[0]
        flight = self.flights.get(uid)
        if until > now:
            self._plan(uid, until)
        elif runner.inbox.get(uid):
            self._work(uid, runner.harvest(uid))
        elif probe.deleting:
            self._waiting.pop(uid, None)
        elif flight and schedule.superseded(probe, flight.run):
            self._work(uid, runner.supersede(flight))
        elif schedule.refold_due(probe):
            self._work(uid, runner.refold(uid))
        elif unannounced(probe):
            self._work(uid, runner.announce(uid))
        elif flight:
            self._look_after(flight, now)
        elif due := schedule.due(probe, now):
            self._waiting.setdefault(uid, due.since)
        else:
            self._waiting.pop(uid, None)
            later = schedule.next_run(probe, now)
            if later is not None:
                self._plan(uid, max(later, now + SOON))

    def _look_after(self, flight: Flight, now: datetime) -> None:
        """See whether it is time to ask after a run that has not reported."""
        due = flight.started + timedelta(seconds=harvest.check_at(flight.checks))
        if now >= due:
            flight.checks += 1
            self._work(flight.uid, self._runner.check(flight))
        else:
            self._plan(flight.uid, due)

    # ---------------------------------------------------------------------------------------------------- starting

    def _launch(self, now: datetime) -> float:
        """Start what waits, longest first, as far as the limits allow; returns seconds until the next Job may go."""
        for uid in sorted(self._waiting, key=self._waiting.__getitem__):
            probe = self._registry.get(uid)
            if self.flights.full():
                break
            if probe is None or probe.spec is None or uid in self._tasks or not self._admits(probe, probe.spec):
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
            flight = self._take_off(probe, probe.spec, due.run, now)
            self._work(uid, self._runner.start(probe, probe.spec, flight))
        return LONGEST_NAP_SECONDS

    def _admits(self, probe: Probe, spec: Spec) -> bool:
        """Whether the limits of this probe's host and account let it start now."""
        login = login_key(probe)
        if login and not pause.may_start(
            probe, self._registry.siblings(probe), self.flights.logins(login, self._clock())
        ):
            return False
        return self.flights.host_free(host_key(spec), connections(probe, spec))

    def _take_off(self, probe: Probe, spec: Spec, run: RunRef, started: datetime) -> Flight:
        flight = flight_of(probe, spec, run, started)
        self.flights.start(flight)
        return flight

    def snapshot(self, *, watch_age: dict[str, float]) -> Snapshot:
        """Take what a scrape reads, in one step."""
        now = self._clock()
        late = [since for since in self._waiting.values() if since < now]
        return Snapshot(
            now=now,
            opened=self.opened or now,
            probes=self._registry.snapshot(),
            runs=dict(self._runner.runs),
            runs_in_flight=len(self.flights),
            lateness=(now - min(late)).total_seconds() if late else 0.0,
            slots_skipped=self.slots_skipped,
            watch_age=watch_age,
            api_calls=dict(self._kube.calls),
        )
