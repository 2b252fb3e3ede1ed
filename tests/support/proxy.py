"""A reverse proxy between the operator and the API server that records, and breaks things at exact places.

It numbers the mutating calls (POST, PATCH, PUT, DELETE) as they come in; `before` and `after` are asked at each one and
may end the operator: a call stopped by `before` never reaches the API server, one stopped by `after` is done and its
answer lost. Watches can be cut, kept from coming back, or starved.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
from aiohttp import web

MUTATING = {"POST", "PATCH", "PUT", "DELETE"}
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding", "host", "te"}


@dataclass
class Call:
    """One mutating call: its number from 0, and the status code of the answer (0: it never got one)."""

    number: int
    method: str
    path: str
    body: Any
    code: int = 0

    @property
    def kind(self) -> str:
        """Which of our writes it is: job+, job-, status, event, event~ ."""
        if self.path.endswith("/status"):
            return "status"
        resource = "job" if "/jobs" in self.path else "event" if "/events" in self.path else self.path
        return resource + {"POST": "+", "DELETE": "-", "PATCH": "~", "PUT": "="}[self.method]


class StoppedError(Exception):
    """Raised by a hook: the caller is gone, do not answer."""


Hook = Callable[[Call], Awaitable[None]]
Fault = Callable[[Call], "web.Response | None"]


async def _nothing(_call: Call) -> None:
    return None


@dataclass
class Proxy:
    """Start with `async with`; `url` is where the operator connects."""

    upstream: str
    ca_file: str
    calls: list[Call] = field(default_factory=list)
    reads: list[tuple[str, str]] = field(default_factory=list)
    before: Hook = _nothing
    after: Hook = _nothing
    fault: Fault = lambda _call: None
    watches_allowed: bool = True
    starve_watches: bool = False
    url: str = ""

    def __post_init__(self) -> None:
        self._watches: set[asyncio.Task[Any]] = set()
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        context = ssl.create_default_context(cafile=self.ca_file)
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        app = web.Application(client_max_size=16 * 2**20)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut_watches()
        assert self._runner
        assert self._session
        await self._runner.cleanup()
        await self._session.close()

    def cut_watches(self) -> None:
        """Break every watch that is open now."""
        for task in tuple(self._watches):
            task.cancel()

    def count(self, kind: str) -> int:
        """How many calls of a kind were answered with success."""
        return sum(1 for call in self.calls if call.kind == kind and 200 <= call.code < 300)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if "watch" in request.query and request.query["watch"] in {"true", "1"}:
            return await self._watch(request)
        if request.method not in MUTATING:
            self.reads.append((request.method, request.path_qs))
            return await self._forward(request, body)
        call = Call(len(self.calls), request.method, request.path, json.loads(body) if body else None)
        self.calls.append(call)
        try:
            await self.before(call)
            if (broken := self.fault(call)) is not None:
                call.code = broken.status
                return broken
            answer = await self._forward(request, body)
            call.code = answer.status
            await self.after(call)
        except StoppedError:
            assert request.transport
            request.transport.abort()
            return web.Response(status=500)
        return answer

    @asynccontextmanager
    async def _answer(self, request: web.Request, *dropped: str, **more: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask the API server the same, without some headers.

        Cancelled while its TLS connection is made, aiohttp (3.14) leaves the socket open: so that is waited for.
        """
        assert self._session
        headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP | set(dropped)}
        url = f"{self.upstream}{request.path_qs}"
        asking = asyncio.ensure_future(self._session.request(request.method, url, headers=headers, **more))
        try:
            answer = await asyncio.shield(asking)
        except asyncio.CancelledError:
            (await asking).close()
            raise
        async with answer:
            yield answer

    async def _forward(self, request: web.Request, body: bytes) -> web.Response:
        async with self._answer(request, data=body or None) as answer:
            data = await answer.read()
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in HOP_BY_HOP | {"date"}}
            if encoding := answer.headers.get("Content-Encoding"):
                kept["Content-Encoding"] = encoding
            return web.Response(status=answer.status, body=data, headers=kept)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        if not self.watches_allowed:
            assert request.transport
            request.transport.abort()
            return web.Response(status=503)
        task = asyncio.current_task()
        assert task
        self._watches.add(task)
        try:
            async with self._answer(request, "accept-encoding", timeout=aiohttp.ClientTimeout(total=None)) as answer:
                stream = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
                await stream.prepare(request)
                async for chunk in answer.content.iter_any():
                    if not self.starve_watches:
                        await stream.write(chunk)
                return stream
        except asyncio.CancelledError:
            if request.transport:
                request.transport.abort()
            return web.Response(status=500)
        except (ConnectionResetError, aiohttp.ClientError):
            return web.Response(status=500)
        finally:
            self._watches.discard(task)
