"""A well-behaved server: aiosmtpd on a free port, in a thread, that remembers the logins it saw."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword


class Stock(NamedTuple):
    """Where it listens, username and password of each login, and each message as ``(EHLO name, sender, content)``."""

    port: int
    logins: list[tuple[bytes, bytes]]
    messages: list[tuple[str, str, bytes]]


class _Handler:
    """Take everything; aiosmtpd's defaults are polite."""

    def __init__(self, messages: list[tuple[str, str, bytes]]) -> None:
        self._messages = messages

    async def handle_DATA(self, _server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        self._messages.append((session.host_name, envelope.mail_from, envelope.content))
        return "250 2.0.0 taken"


@contextlib.contextmanager
def stock_server(mode: str, context: ssl.SSLContext, password: str) -> Iterator[Stock]:
    """Serve in a mode (plain, starttls, smtps) and accept one password."""
    logins: list[tuple[bytes, bytes]] = []
    messages: list[tuple[str, str, bytes]] = []
    loop = asyncio.new_event_loop()

    def authenticate(_server: object, _session: object, _envelope: object, _mechanism: str, data: object) -> AuthResult:
        assert isinstance(data, LoginPassword)
        logins.append((data.login, data.password))
        good = data.password == password.encode()
        return AuthResult(success=good, handled=good)

    def factory() -> SMTP:
        return SMTP(
            _Handler(messages),
            loop=loop,
            authenticator=authenticate,
            auth_require_tls=mode == "starttls",
            tls_context=context if mode == "starttls" else None,
        )

    with served(factory, loop, context if mode == "smtps" else None) as port:
        yield Stock(port, logins, messages)


@contextlib.contextmanager
def served(
    factory: Callable[[], asyncio.BaseProtocol],
    loop: asyncio.AbstractEventLoop,
    context: ssl.SSLContext | None,
    at: tuple[str, int] = ("127.0.0.1", 0),
) -> Iterator[int]:
    """Serve a protocol on loopback (port 0: a free one), in a thread with the given loop; yields the port, closes the
    loop."""

    async def begin() -> asyncio.Server:
        return await loop.create_server(factory, *at, ssl=context)

    async def end(server: asyncio.Server) -> None:
        server.close()
        await server.wait_closed()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(begin(), loop).result(10)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(end(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
