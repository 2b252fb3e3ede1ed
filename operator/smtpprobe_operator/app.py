"""The operator as one process: watches, resync, dispatch and HTTP, which live and die together."""

import asyncio
import logging
import time
from typing import Any

from smtpprobe_operator import handlers, metrics
from smtpprobe_operator.dispatch import Dispatch
from smtpprobe_operator.kube import Kube, connect
from smtpprobe_operator.registry import Registry, from_body
from smtpprobe_operator.resync import Resync
from smtpprobe_operator.server import Server
from smtpprobe_operator.settings import Settings

LOG = logging.getLogger("smtpprobe.app")
STUCK_SECONDS = 180.0


class App:
    """Wires the parts; holds no logic of its own."""

    def __init__(self, kube: Kube, settings: Settings) -> None:
        self._kube = kube
        self._settings = settings
        self.registry = Registry()
        self.dispatch = Dispatch(kube, self.registry, settings)
        self.resync = Resync(kube, self.registry, self.dispatch, settings)
        self.server = Server(metrics=self._metrics, alive=self.alive, ready=self.ready)
        self._pod_seen = time.monotonic()

    def on_probe(self, body: dict[str, Any], deleted: bool) -> None:
        """Take in what the watch shows of a SmtpProbe."""
        if deleted:
            self.registry.remove(body["metadata"]["uid"])
            self.dispatch.gone(body["metadata"]["uid"])
        elif self.registry.put(from_body(body)):
            self.dispatch.changed(body["metadata"]["uid"])

    def on_pod(self, body: dict[str, Any], deleted: bool) -> None:
        """Take in a finished pod; the body of a deletion still holds what the pod wrote."""
        del deleted
        self.dispatch.pod_seen(body)

    def alive(self) -> str:
        """Say why the process should be started anew; empty: it should not."""
        stuck = time.monotonic() - self.dispatch.ticked
        return f"dispatch has not turned for {stuck:.0f} s" if stuck > STUCK_SECONDS else self.resync.dead_watch()

    def ready(self) -> str:
        """Say why the operator does not work yet; empty: it works."""
        return "" if self.dispatch.opened else "the first list of SmtpProbes is not complete yet"

    def _metrics(self) -> bytes:
        return metrics.exposition(self.dispatch.snapshot(watch_age={"smtpprobes": self.resync.age()}))

    async def run(self) -> None:
        """Run until a signal; the end of any part is the end of all."""
        await self.server.start(self._settings.http_port)
        LOG.info("listening on port %d", self.server.port)
        try:
            async with asyncio.TaskGroup() as group:
                others = [group.create_task(self.dispatch.run()), group.create_task(self.resync.run())]
                await handlers.watch(self._settings, self.on_probe, self.on_pod)
                for task in others:
                    task.cancel()
        finally:
            await self.server.stop()
            await self._kube.close()


async def serve(settings: Settings) -> None:
    """Connect and run."""
    await App(await connect(), settings).run()
