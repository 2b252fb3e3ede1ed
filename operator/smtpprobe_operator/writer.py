"""Statuses and events into the cluster: read what is there, decide again, write once."""

import asyncio
import logging
import socket
from collections.abc import Callable
from datetime import datetime

from smtpprobe.resource import Status, encode_status
from smtpprobe_operator import events
from smtpprobe_operator.kube import ApiError, Json, Kube
from smtpprobe_operator.registry import Probe, Registry, from_body

LOG = logging.getLogger("smtpprobe.writer")
Change = Callable[[Probe], Status | None]

BACK_OFF_SECONDS = (0.0, 0.2, 1.0, 2.0, 5.0, 10.0, 30.0)
EVENT_BACK_OFF_SECONDS = (1.0, 3.0)


class Writer:
    """The only one that writes statuses. The registry takes the body that comes back."""

    def __init__(self, kube: Kube, registry: Registry, clock: Callable[[], datetime]) -> None:
        self._kube = kube
        self._registry = registry
        self._clock = clock

    async def write(self, uid: str, change: Change, *, since: datetime | None = None) -> bool:
        """Apply ``change`` to the newest status; returns False where the probe is gone or nothing changes.

        ``change`` is asked again on every try, with what is in the cluster by then, so it must notice itself when its
        work is done already (an answer that got lost). It does not stop before the probe is gone or the write is in.
        Events go first: killed between the two, the operator decides the same again and finds its event there.
        ``since`` is when what is told here happened: an event that is younger has told it already.
        """
        untold: dict[str, tuple[Probe, events.EventDraft]] = {}
        told: set[str] = set()
        tries = 0
        while probe := self._registry.get(uid):
            status = change(probe)
            if status is None or encode_status(status) == encode_status(probe.status):
                return False
            untold |= {draft.name: (probe, draft) for draft in events.drafts(probe.status, status, probe)}
            await self._tell(untold, told, since)
            try:
                body = await self._kube.write_status(
                    probe.namespace,
                    probe.name,
                    uid=uid,
                    resource_version=probe.resource_version,
                    status=encode_status(status),
                )
            except ApiError as error:
                await self._recover(probe, error, tries)
                tries += 1
                continue
            self._registry.put(from_body(body))
            for delay in EVENT_BACK_OFF_SECONDS:
                if untold.keys() <= told:
                    break
                await asyncio.sleep(delay)
                await self._tell(untold, told, since)
            return True
        return False

    async def _recover(self, probe: Probe, error: ApiError, tries: int) -> None:
        """After a write that was not taken, or of which nothing is known: wait, and learn what is there now."""
        if not (error.gone or (error.conflict and tries == 0)):
            LOG.warning("%s: status not written, asking again: %s", probe.path, error)
        delay = BACK_OFF_SECONDS[min(tries, len(BACK_OFF_SECONDS) - 1)]
        await asyncio.sleep(error.retry_after or (delay if error.conflict or error.gone else max(delay, 1.0)))
        try:
            found = from_body(await self._kube.probe(probe.namespace, probe.name))
        except ApiError as failed:
            if failed.gone:
                self._registry.remove(probe.uid)
            return
        if found.uid != probe.uid:
            self._registry.remove(probe.uid)
        self._registry.put(found)

    async def _tell(
        self, drafts: dict[str, tuple[Probe, events.EventDraft]], told: set[str], since: datetime | None
    ) -> None:
        for name, (probe, draft) in drafts.items():
            if name in told:
                continue
            try:
                await self._event(probe, draft, since)
            except ApiError as error:
                LOG.warning("%s: event %s not written: %s", probe.path, draft.reason, error)
                if error.passing:
                    continue
            told.add(name)

    async def _event(self, probe: Probe, draft: events.EventDraft, since: datetime | None) -> None:
        now = self._clock()
        try:
            body = events.body(draft, probe, now=now, instance=socket.gethostname())
            await self._kube.create_event(probe.namespace, body)
        except ApiError as error:
            if not error.exists:
                raise
            existing = await self._kube.event(probe.namespace, draft.name)
            if existing is None or (since is not None and _last_told(existing) >= since):
                return
            await self._kube.patch_event(probe.namespace, draft.name, events.repeated(existing, now))


def _last_told(event: Json) -> datetime:
    series = event.get("series") or {}
    text = series.get("lastObservedTime") or event.get("eventTime") or event["metadata"]["creationTimestamp"]
    return datetime.fromisoformat(text)
