"""A server that does exactly what a script says: the other side of every behaviour in ``tests/smtp/behaviours.yaml``.

One step a line::

    > 220 mx.example.net       send the text and CRLF (Python escapes are read: \\x00, \\r, \\n)
    >> 220 mx\\n                send just these bytes
    < EHLO                     read a line, which must begin like this, whatever the case
    body                       read the lines of a message, up to the lone dot
    scram KIND                 after an AUTH SCRAM-SHA-256: the rest of that exchange, which ends right (235 or 535 by the
                               proof), wrong (a false signature), error (e=, then 535), liar (e=, then 235), silent (235
                               without a signature), no (535) or stop (nothing yet, after the client's proof)
    echo TEXT                  send the text with what the client said last in place of {raw}, {cut}, {decoded}, {upper}
    tls [KIND]                 TLS handshake as the server, with one of the contexts by name
    wait 0.5                   do nothing for so long
    drip 0.1 TEXT              send byte by byte, so far apart
    flood TEXT                 send the text again and again until nobody takes it any more
    read N                     read N bytes, whatever they are
    close | reset | hang       FIN, RST, or nothing at all any more
    @hello [KEYWORD; ...]      greeting and EHLO of a good server in the mode of the test, TLS included
    @rest                      accept everything until QUIT

In mode smtps a script begins with ``tls`` unless its first line is ``@raw``. At its end a script goes on as ``@rest``
where the client still talks and does not read what is no SMTP.
"""

import base64
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Mapping
from typing import NamedTuple, Self

from scram_server import ScramServer

GREETING = "> 220 mx.example.net ESMTP"
PATIENCE = 30.0


class Heard(NamedTuple):
    """What one connection was told: its lines without CRLF."""

    lines: list[str]

    @property
    def logins(self) -> int:
        return sum(line.upper().startswith("AUTH") for line in self.lines)


class ScriptError(Exception):
    """The client did not do what the script expects."""


def expand(script: str, mode: str) -> list[str]:
    """Return the steps of a script in a mode."""
    steps: list[str] = []
    given = [line.strip(" ") for line in script.strip("\n").splitlines() if line.strip()]
    raw = bool(given) and given[0] == "@raw"
    if mode == "smtps" and not raw:
        steps.append("tls")
    for line in given[1:] if raw else given:
        if line.startswith("@hello"):
            keywords = [word.strip() for word in line[6:].split(";") if word.strip()]
            steps.append(GREETING)
            if mode == "starttls":
                steps += ["< EHLO", "> 250-mx.example.net", "> 250 STARTTLS", "< STARTTLS", "> 220 go ahead", "tls"]
            steps += ["< EHLO", "> 250-mx.example.net", *(f"> 250-{word}" for word in keywords), "> 250 HELP"]
        else:
            steps.append(line)
    return steps


class Hostile:
    """Listen on loopback and play a script to each connection, each in a thread of its own, with blocking sockets: the
    n-th connection gets the n-th script, the last script all later ones."""

    def __init__(
        self,
        scripts: list[str],
        mode: str,
        contexts: Mapping[str, ssl.SSLContext] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.scripts = [expand(script, mode) for script in scripts]
        self.contexts = contexts or {}
        self.heard: list[Heard] = []
        self.errors: list[str] = []
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family)
        self.port: int = self._listener.getsockname()[1]
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for sock in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(PATIENCE)

    @property
    def logins(self) -> int:
        return sum(heard.logins for heard in self.heard)

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.settimeout(PATIENCE)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.append(sock)
            self.heard.append(Heard([]))
            number = len(self.heard)
            script = self.scripts[min(number, len(self.scripts)) - 1]
            self._start(self._serve, sock, script, self.heard[-1])

    def _serve(self, sock: socket.socket, script: list[str], heard: Heard) -> None:
        talk = _Talk(sock, heard, self.contexts, self._stop)
        try:
            if not any(talk.step(step) for step in script):
                talk.rest()
        except ScriptError as error:
            self.errors.append(str(error))
        except OSError:
            pass  # the client left, or TLS failed; what it should have made of it is in its result
        finally:
            talk.sock.close()


class _Talk:
    def __init__(
        self, sock: socket.socket, heard: Heard, contexts: Mapping[str, ssl.SSLContext], stop: threading.Event
    ) -> None:
        self.sock = sock
        self._heard = heard
        self._contexts = contexts
        self._stop = stop

    def step(self, step: str) -> bool:
        """Do one step; True ends the script."""
        word, _, rest = step.partition(" ")
        match word:
            case ">":
                self.sock.sendall(_bytes(rest) + b"\r\n")
            case ">>":
                self.sock.sendall(_bytes(rest))
            case "<":
                line = self._line()
                if not line.upper().startswith(rest.upper()):
                    raise ScriptError(f"wanted {rest!r}, got {line!r}")
            case "body":
                self._body()
            case "scram":
                self._scram(rest)
            case "echo":
                self.sock.sendall(_echoed(rest, self._heard.lines[-1]) + b"\r\n")
            case "tls":
                self.sock = self._contexts[rest or "good"].wrap_socket(self.sock, server_side=True)
            case "wait":
                self._stop.wait(float(rest))
            case "drip":
                pause, _, text = rest.partition(" ")
                for byte in _bytes(text):
                    self.sock.sendall(bytes([byte]))
                    self._stop.wait(float(pause))
            case "flood":
                chunk = _bytes(rest) * 64
                while True:
                    self.sock.sendall(chunk)
            case "read":
                left = int(rest)
                while left:
                    left -= len(self._some(left))
            case "close":
                if isinstance(self.sock, ssl.SSLSocket):
                    self.sock = self.sock.unwrap()
                self.sock.shutdown(socket.SHUT_WR)
                return True
            case "reset":
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return True
            case "hang":
                self._stop.wait()
                return True
            case "@rest":
                self.rest()
                return True
            case _:
                raise ValueError(f"unknown step {step!r}")
        return False

    def rest(self) -> None:
        """Accept everything until QUIT."""
        while True:
            line = self._line().upper()
            if line == "DATA":
                self.sock.sendall(b"354 go on\r\n")
                self._body()
            reply = b"221 bye" if line == "QUIT" else b"235 in" if line.startswith("AUTH") else b"250 ok"
            self.sock.sendall(reply + b"\r\n")
            if line == "QUIT":
                return

    def _scram(self, kind: str) -> None:
        server = ScramServer(base64.b64decode(self._heard.lines[-1].rpartition(" ")[2]))
        self._challenge(server.first)
        final = base64.b64decode(self._line())
        if kind == "stop":
            return
        if kind in {"silent", "no"} or (kind == "right" and not server.knows(final)):
            self.sock.sendall(b"235 in\r\n" if kind == "silent" else b"535 5.7.8 no\r\n")
            return
        good = server.final(final)
        self._challenge({"right": good, "wrong": b"v=" + good[3:] + b"A"}.get(kind, b"e=invalid-proof"))
        reply = b"535 5.7.8 authentication failed\r\n" if kind == "error" else b"235 in\r\n"
        self.sock.sendall(reply if self._line() == "" else b"501 5.7.0 cancelled\r\n")

    def _challenge(self, payload: bytes) -> None:
        self.sock.sendall(b"334 " + base64.b64encode(payload) + b"\r\n")

    def _body(self) -> None:
        while self._line() != ".":
            pass

    def _line(self) -> str:
        raw = bytearray()
        while not raw.endswith(b"\n"):
            raw += self._some(1)
        line = raw.decode("latin-1").removesuffix("\r\n")
        self._heard.lines.append(line)
        return line

    def _some(self, count: int) -> bytes:
        data = self.sock.recv(count)
        if not data:
            raise ConnectionError("the client left")
        return data


def _echoed(text: str, said: str) -> bytes:
    word = said.rpartition(" ")[2]
    with contextlib.suppress(ValueError):
        decoded = base64.b64decode(word, validate=True).decode("latin-1")
        text = text.replace("{decoded}", decoded.replace("\0", " ").replace("\x01", " "))
    forms = {"{raw}": said, "{cut}": said[:-6], "{upper}": said.upper()}
    for mark, form in forms.items():
        text = text.replace(mark, form)
    return text.encode("latin-1")


def _bytes(text: str) -> bytes:
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1")
