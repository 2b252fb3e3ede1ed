"""``/metrics``, ``/livez``, ``/readyz``: one small HTTP server.

Metrics are rendered in a thread, from an immutable snapshot, and kept for a moment: many scrapers cost one rendering.
"""

import asyncio
import socket
import time
from collections.abc import Callable

from aiohttp import web

CACHE_SECONDS = 2.0
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Server:
    """``metrics`` renders, ``alive`` and ``ready`` return why not, empty where all is well."""

    def __init__(self, *, metrics: Callable[[], bytes], alive: Callable[[], str], ready: Callable[[], str]) -> None:
        self._render = metrics
        self._alive = alive
        self._ready = ready
        self._lock = asyncio.Lock()
        self._cached: tuple[float, bytes] | None = None
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self, port: int) -> None:
        """Listen on every address of both families; port 0 takes a free one, ``port`` says which."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/metrics", self._metrics),
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        listener = _listener(port)
        await web.SockSite(self._runner, listener).start()
        self.port = int(listener.getsockname()[1])

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()

    async def _metrics(self, _: web.Request) -> web.Response:
        async with self._lock:
            if self._cached is None or time.monotonic() - self._cached[0] > CACHE_SECONDS:
                self._cached = (time.monotonic(), await asyncio.to_thread(self._render))
        return web.Response(body=self._cached[1], headers={"Content-Type": CONTENT_TYPE})

    async def _livez(self, _: web.Request) -> web.Response:
        return _health(self._alive())

    async def _readyz(self, _: web.Request) -> web.Response:
        return _health(self._ready())


def _listener(port: int) -> socket.socket:
    try:
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    except (OSError, ValueError):  # a machine without IPv6
        return socket.create_server(("", port))


def _health(problem: str) -> web.Response:
    return web.Response(text=f"{problem or 'ok'}\n", status=503 if problem else 200)
