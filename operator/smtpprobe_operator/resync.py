"""Is what the watch showed all that there is? A list of names, at start and every minute, says so.

A watch can die without a word, and what was deleted while it was cut is never shown: a probe that is not in the list
leaves the registry, and one that the list shows and the watch did not, for a while, means that the watch is dead.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from smtpprobe_operator.dispatch import Dispatch
from smtpprobe_operator.kube import ApiError, Json, Kube
from smtpprobe_operator.registry import Registry, is_newer
from smtpprobe_operator.settings import Settings

LOG = logging.getLogger("smtpprobe.resync")
OPENING_SECONDS = 1.0
CATCH_UP_LOOKS = 50


class CrdGoneError(Exception):
    """The kind SmtpProbe does not exist (any more): there is nothing to do until somebody installs it."""


class Resync:
    """Compares lists with the registry; ``missing`` holds what the watch still owes, by uid, and since when."""

    def __init__(
        self,
        kube: Kube,
        registry: Registry,
        dispatch: Dispatch,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._registry = registry
        self._dispatch = dispatch
        self._settings = settings
        self._clock = clock
        self._missing: dict[str, tuple[str, float]] = {}
        self.last_success: float | None = None

    async def run(self) -> None:
        """Open dispatch as soon as the watch has shown everything that a list shows; then compare for ever."""
        while self._dispatch.opened is None:
            if await self._try() and await self._caught_up():
                await self._dispatch.open()
            else:
                await asyncio.sleep(OPENING_SECONDS)
        while True:
            await asyncio.sleep(self._settings.resync_seconds)
            await self._try()
            self._dispatch.look_again()

    async def _caught_up(self) -> bool:
        """Give the watch a moment to show what the list has shown; at the start it is always behind."""
        for _ in range(CATCH_UP_LOOKS):
            if not self._owed():
                return True
            await asyncio.sleep(OPENING_SECONDS / 10)
        return False

    def _owed(self) -> list[tuple[str, str, float]]:
        return [(uid, *owed) for uid, owed in self._missing.items() if not self._shown(uid, owed[0])]

    async def _try(self) -> bool:
        try:
            await self.compare()
        except ApiError as error:
            if error.gone:
                raise CrdGoneError("the kind SmtpProbe is not installed: apply crds/smtpprobes.yaml") from error
            LOG.warning("list of SmtpProbes failed: %s", error)
            return False
        return True

    async def compare(self) -> None:
        """List once and bring registry and list together."""
        before = {probe.uid for probe in self._registry}
        scopes: tuple[str | None, ...] = self._settings.watch_namespaces or (None,)
        listed: dict[str, Json] = {}
        for scope in scopes:
            listed.update({item["uid"]: item for item in await self._kube.metadata(scope)})
        now = self._clock()
        for uid in before - listed.keys():
            if probe := self._registry.remove(uid):
                LOG.info("%s: gone without the watch showing it", probe.path)
                self._dispatch.gone(uid)
        owed: dict[str, tuple[str, float]] = {}
        for uid, item in listed.items():
            if not self._shown(uid, item["resourceVersion"]):
                version, since = self._missing.get(uid, (item["resourceVersion"], now))
                owed[uid] = (version, since)
        self._missing = owed
        self.last_success = now

    def _shown(self, uid: str, version: str) -> bool:
        probe = self._registry.get(uid)
        return probe is not None and not is_newer(version, probe.resource_version)

    def dead_watch(self) -> str:
        """Say what the watch has owed for longer than the grace; empty while it is alive."""
        now = self._clock()
        for uid, _, since in self._owed():
            if now - since > self._settings.watch_grace_seconds:
                return f"the watch has not shown {uid} for {now - since:.0f} s"
        return ""

    def age(self) -> float:
        """Seconds since the registry was last found complete and current, for the metrics."""
        if self.last_success is None:
            return float("inf")
        return self._clock() - min([self.last_success, *(since for _, _, since in self._owed())])
