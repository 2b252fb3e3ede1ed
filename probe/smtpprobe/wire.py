"""The only file that moves bytes: one TCP connection, TLS on top of it through memory, every raw byte seen.

``loop.start_tls`` throws away or misreads what arrives around a handshake; just these bytes tell an injection from a
wrong mode, and an alert from a closed line. So the socket's bytes stay ours and OpenSSL works on ``ssl.MemoryBIO``.
"""

import asyncio
import contextlib
import select
import socket
import ssl
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from smtpprobe.tls import Opening

_PAUSE_BYTES = 256 * 1024
_TLS_ALERT, _TLS_HANDSHAKE = 0x15, 0x16
# The rest of a banner that comes where TLS was expected is waited for as long as this.
_BANNER_REST = 1.0
# The only conversation of a process waits this long (seconds) in the kernel itself before the loop does it, in steps of
# so many milliseconds: between them a signal has its turn, and the processor is kept awake.
_HELD, _HELD_STEP = 0.1, 5
# What one read may return at most, of the socket (the longest record there is, RFC 8446 §5.1) and of TLS: memory is
# taken for all of it, and a reply is short.
_READ, _PLAIN = 16 * 1024, 4 * 1024


class Limit(NamedTuple):
    """A moment on the monotonic clock, which is asyncio's too; a sentence names it ``20 s (limit reply)``."""

    deadline: float
    words: str


class Cut(StrEnum):
    """Why no more bytes come."""

    TIMEOUT = "timeout"
    CLOSED = "closed"
    RESET = "reset"
    TLS = "tls"


class Ended(NamedTuple):
    """The end of a stream, or of waiting for it; ``error`` is OpenSSL's where TLS itself broke."""

    how: Cut
    error: ssl.SSLError | None = None


class Handshake(NamedTuple):
    """How a handshake went: all None on success.

    ``plaintext`` is what came instead of TLS; ``received`` counts the raw bytes that came since the ClientHello.
    """

    ended: Ended | None = None
    error: ssl.SSLError | None = None
    plaintext: bytes | None = None
    received: int = 0


class Wire:
    """One connection. ``read`` gives what came, decrypted once ``handshake`` succeeded; ``send`` never waits.

    The loop only says when the socket is ready: asyncio's transports take three turns of it to begin, and one a read.
    A wire that is ``alone`` asks the kernel itself at first: each turn of the loop costs a session 0.1 ms.
    """

    def __init__(self, sock: socket.socket | None, ended: Ended | None = None, *, alone: bool = False) -> None:
        self._sock = sock
        self._raw = bytearray()
        self._unsent = b""
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._news: asyncio.Future[bool] | None = None
        self._open = sock is not None  # False once reading or writing has failed
        self._reading = False
        self._alone = alone
        self._ready = select.poll()
        self._later: deque[Callable[[], object]] = deque()
        self._tls: ssl.SSLObject | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.local: tuple[str, int] = ("", 0)
        if sock is not None:
            self._ready.register(sock, select.POLLIN)
            with contextlib.suppress(OSError):
                self.local = sock.getsockname()[:2]

    # -------------------------------------------------------------------------------------------------- bytes in, out

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS session, once the handshake succeeded."""
        return self._tls

    def send(self, data: bytes) -> None:
        """Hand bytes to the kernel, encrypted where TLS is up; what goes wrong shows at the next ``read``."""
        if self._tls is None:
            self._write(data)
            return
        try:
            self._tls.write(data)
        except ssl.SSLError as error:
            self._ended = self._ended or Ended(Cut.TLS, error)
        self._flush()

    async def connected(self, deadline: float) -> int | None:
        """Wait until TCP is accepted; 0 or the kernel's error number, None where nothing came until ``deadline``."""
        assert self._sock is not None  # noqa: S101 - there is one to connect
        ready = select.poll()
        ready.register(self._sock, select.POLLOUT)
        came = await self._held(ready, deadline)
        if not came:
            self._loop.add_writer(self._sock.fileno(), self._wake, True)
            try:
                came = await self._told(deadline)
            finally:
                self._loop.remove_writer(self._sock.fileno())
        return self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if came else None

    async def read(self, deadline: float) -> bytes | Ended:
        """Return the next bytes, or why there are none until ``deadline`` (the monotonic clock)."""
        while True:
            data = self.take()
            if data:
                return data
            if self._ended is not None:
                return self._ended
            if not await self._more(deadline):
                return Ended(Cut.TIMEOUT)

    def later(self, work: Callable[[], object]) -> None:
        """Do this once nothing is left but to wait, or to close: the next packet goes first."""
        self._later.append(work)

    def catch_up(self) -> None:
        """Do now what was left for later, in its order."""
        while self._later:
            self._later.popleft()()

    def look(self) -> None:
        """Fetch what the kernel holds, so that ``take`` returns all that has arrived."""
        if self._open and len(self._raw) <= _PAUSE_BYTES and self._ready.poll(0):
            self._readable()

    async def handshake(self, opening: "Opening", deadline: float) -> Handshake:
        """Speak TLS from here on. Nothing that came before may wait unread; the caller has looked at it."""
        if opening.broken is not None:
            return Handshake(error=opening.broken)
        tls, self._incoming, self._outgoing, _ = opening
        self._flush()
        received = 0
        while True:
            while not self._raw:
                if self._ended is not None:
                    return Handshake(ended=self._ended, received=received)
                if not await self._more(deadline):
                    return Handshake(ended=Ended(Cut.TIMEOUT), received=received)
            if not received and not _looks_like_tls(self._raw):
                return Handshake(plaintext=await self._banner(deadline), received=len(self._raw))
            received += len(self._raw)
            self._incoming.write(self._drain())
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
            except ssl.SSLError as error:
                self._flush()
                return Handshake(error=error, received=received)
            else:
                self._tls = tls
                self._flush()
                return Handshake(received=received)

    def close(self) -> None:
        """End the connection: close_notify, FIN, and nothing left behind; what the server does not take is dropped."""
        self.catch_up()
        if self._sock is None:
            return
        if self._tls is not None and self._ended is None:
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
            self._flush()
        self._gone(Cut.CLOSED)
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        self._sock = None

    # ------------------------------------------------------------------------------------------------------ inside

    def take(self) -> bytes:
        """Return what has come and was not read, decrypted, without waiting."""
        if self._tls is None:
            return self._drain()
        if self._raw:
            self._incoming.write(self._drain())
        plain = bytearray()
        try:
            while len(plain) < _PAUSE_BYTES and (self._incoming.pending or self._tls.pending()):
                data = self._tls.read(_PLAIN)
                if not data:
                    self._ended = self._ended or Ended(Cut.CLOSED)
                    break
                plain += data
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._ended = self._ended or Ended(Cut.CLOSED)
        except ssl.SSLError as error:
            # What TLS says explains more than the closed socket that follows it.
            self._ended = Ended(Cut.TLS, error)
        self._flush()
        return bytes(plain)

    def give_back(self, data: bytes) -> None:
        """Put back, in front, what was taken and is for the handshake."""
        self._raw[:0] = data

    def _drain(self) -> bytes:
        data = bytes(self._raw)
        self._raw.clear()
        return data

    async def _more(self, deadline: float) -> bool:
        """Wait for more from the server; False where nothing came until the deadline."""
        self.catch_up()
        if self._alone and not self._unsent:
            self._unwatch()
            if await self._held(self._ready, deadline):
                self._readable()
                return True
        self._watch()
        return await self._told(deadline)

    async def _held(self, ready: "select.poll", deadline: float) -> bool:
        """Wait a while without the loop, where this is alone; False where the loop has to wait on."""
        until = min(deadline, monotonic() + _HELD) if self._alone else 0.0
        while monotonic() < until:
            await asyncio.sleep(0)
            if ready.poll(_HELD_STEP):
                return True
        return False

    async def _told(self, deadline: float) -> bool:
        news: asyncio.Future[bool] = self._loop.create_future()
        self._news = news
        timer = self._loop.call_at(deadline, self._wake, False)
        try:
            return await news
        finally:
            timer.cancel()

    def _wake(self, came: bool) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(came)

    # ----------------------------------------------------------------------------------------------------- the socket

    def _watch(self) -> None:
        """Have the loop tell when there is something to read, unless there is too much unread already."""
        if not self._reading and self._sock is not None and self._open and len(self._raw) <= _PAUSE_BYTES:
            self._reading = True
            self._loop.add_reader(self._sock.fileno(), self._readable)

    def _unwatch(self) -> None:
        if self._reading and self._sock is not None:
            self._loop.remove_reader(self._sock.fileno())
        self._reading = False

    def _readable(self) -> None:
        assert self._sock is not None  # noqa: S101 - watched until it is closed
        try:
            data = self._sock.recv(_READ)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._gone(Cut.RESET)
            return
        if not data:
            self._gone(Cut.CLOSED)
            return
        self._raw += data
        if len(self._raw) > _PAUSE_BYTES:
            self._unwatch()
        self._wake(True)

    def _gone(self, how: Cut) -> None:
        self._open = False
        self._ended = self._ended or Ended(how)
        self._unwatch()
        self._wake(True)

    async def _banner(self, deadline: float) -> bytes:
        until = min(deadline, monotonic() + _BANNER_REST)
        while b"\n" not in self._raw and len(self._raw) < _READ and self._ended is None:
            if not await self._more(until):
                break
        return bytes(self._raw)

    def _write(self, data: bytes) -> None:
        if self._sock is None or not self._open:
            return
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._gone(Cut.RESET)
            return
        self._unsent = data[sent:]
        if self._unsent:
            self._loop.add_writer(self._sock.fileno(), self._writable)

    def _writable(self) -> None:
        assert self._sock is not None  # noqa: S101 - watched until it is closed
        self._loop.remove_writer(self._sock.fileno())
        data, self._unsent = self._unsent, b""
        self._write(data)

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            self._write(data)


def _looks_like_tls(raw: bytearray) -> bool:
    return raw[0] in {_TLS_ALERT, _TLS_HANDSHAKE} and (len(raw) < 2 or raw[1] == 0x03)
