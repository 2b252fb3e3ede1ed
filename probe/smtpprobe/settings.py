"""The working configuration in the words of the clients that people use (texts: ``settings.toml``). Pure.

A password never stands in a snippet; it names the environment variable SMTP_PASSWORD or a file.
"""

import functools
import json
import re
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from smtpprobe.model import DEFAULT_HELO_NAME, ProbeRequest, ProbeResult, Value
from smtpprobe.plan import by_port
from smtpprobe.vocabulary import Mechanism, Mode

_LINE: Final = re.compile(r"@([a-z0-9! -]+)\|( ?)")
_VALUE: Final = re.compile(r"\{\{(\w+)(?::(\w+))?\}\}")
_READABLE: Final = "Without TLS anybody on the way can read the password"
_WHAT: Final = {
    "helo": "No setting for the EHLO name {helo}: this client takes the machine's name",
    "mechanism": "No setting for the mechanism {mechanism}: this client chooses itself",
    "ca": "No setting for a CA file: add {ca} to the system's trust store",
    "name": "No setting for the name in the certificate: the host must be {name}",
}


class Working(Value, frozen=True, kw_only=True):
    """What a client must be told. ``mode`` is never auto; ``username`` None means without login."""

    host: str
    port: int
    mode: Mode
    username: str | None = None
    mechanism: Mechanism = Mechanism.AUTO
    mail_from: str | None = None
    helo: str | None = None
    ca_file: str | None = None
    server_name: str | None = None

    @classmethod
    def of(cls, request: ProbeRequest, result: ProbeResult, username: str | None) -> "Working":
        """Take what a passed session has shown to work; the login only where it was sent and taken."""
        login = username is not None and result.auth.succeeded
        helo = request.helo_name
        return cls(
            host=request.host,
            port=request.port,
            mode=by_port(request.port) if request.mode is Mode.AUTO else request.mode,
            username=username if login else None,
            mechanism=(result.auth.mechanism or Mechanism.AUTO) if login else Mechanism.AUTO,
            mail_from=(request.envelope.mail_from or None) if request.envelope else None,
            helo=None if helo == DEFAULT_HELO_NAME else helo,
            ca_file=request.tls.ca_file,
            server_name=request.tls.server_name,
        )


class Snippet(Value, frozen=True, kw_only=True):
    """One client's configuration: ``file`` is where it belongs, ``text`` is complete, with remarks as comments."""

    client: str
    title: str
    file: str
    text: str


class Client(msgspec.Struct, frozen=True):
    """An entry of ``settings.toml``."""

    title: str
    file: str
    quote: str
    comment: str
    mechanisms: tuple[Mechanism, ...]
    template: str
    unsettable: tuple[str, ...] = ()
    cannot: tuple[tuple[str, str], ...] = ()
    unfit: tuple[tuple[str, str, str], ...] = ()
    aliases: tuple[str, ...] = ()


def clients() -> tuple[str, ...]:
    """Return the names of the clients, in the order of the file."""
    return tuple(_file())


def by_alias() -> dict[str, str]:
    """Return the client of each name that people also use for one, such as javamail."""
    return {alias: name for name, client in _file().items() for alias in client.aliases}


def snippet(name: str, working: Working) -> Snippet:
    """Write the configuration for one client; raises KeyError for a client that ``clients`` does not name.

    What the client cannot do stands in its comments instead of a setting that would fail later.
    """
    client, words = _file()[name], _words(working)
    values = _values(working)
    remarks = [why for when, why in client.cannot if _holds(when, words)]
    if working.username is not None and working.mechanism not in {Mechanism.AUTO, *client.mechanisms}:
        remarks.append(f"{client.title} cannot log in by {working.mechanism}")
    remarks += [why for name, pattern, why in client.unfit if re.search(pattern, str(values[name]))]
    body = []
    if not remarks:
        body = [_fill(line, values, client.quote) for line in _lines(client.template, words)]
        remarks = [_WHAT[what].format(**values) for what in client.unsettable if what in words]
        if words >= {Mode.PLAIN.value, "login"}:
            remarks.append(_READABLE)
    lines = [f"{client.comment} {remark}" for remark in remarks] + body
    return Snippet(client=name, title=client.title, file=client.file, text="\n".join(lines).strip("\n") + "\n")


def _lines(template: str, words: frozenset[str]) -> list[str]:
    kept = []
    for line in template.strip("\n").split("\n"):
        found = _LINE.match(line)
        if found is None:
            kept.append(line)
        elif _holds(found[1], words):
            kept.append(line[found.end() :])
    return kept


def _holds(condition: str, words: frozenset[str]) -> bool:
    return all((word[1:] not in words) if word[0] == "!" else word in words for word in condition.split())


def _fill(line: str, values: dict[str, str | int], quote: str) -> str:
    def put(found: re.Match[str]) -> str:
        value = values[found[1]]
        return str(value) if isinstance(value, int) else QUOTES[found[2] or quote](value)

    return _VALUE.sub(put, line)


def _words(working: Working) -> frozenset[str]:
    mechanism = working.mechanism
    named = working.server_name is not None and working.server_name != working.host
    conditions = {
        working.mode.value: True,
        f"port-{working.port}": True,
        f"sasl-{mechanism.value.lower()}": True,
        "mechanism": working.username is not None and mechanism is not Mechanism.AUTO,
        "login": working.username is not None,
        "helo": bool(working.helo),
        "from": bool(working.mail_from),
        "ca": bool(working.ca_file) and working.mode is not Mode.PLAIN,
        "name": named and working.mode is not Mode.PLAIN,
    }
    return frozenset(word for word, holds in conditions.items() if holds)


def _values(working: Working) -> dict[str, str | int]:
    host = f"[{working.host}]" if ":" in working.host else working.host
    return {
        "host": working.host,
        "bracketed": host,
        "port": working.port,
        "address": f"{host}:{working.port}",
        "username": working.username or "",
        "mechanism": working.mechanism.value,
        "from": working.mail_from or "",
        "helo": working.helo or "",
        "ca": working.ca_file or "",
        "name": working.server_name or "",
    }


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _python(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _single(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _properties(text: str) -> str:
    """Quote for java.util.Properties: a first blank would be dropped, and files are read as Latin-1 by some."""
    out = [c if c.isascii() and c != "\\" else "\\\\" if c == "\\" else _units(c) for c in text]
    return ("\\" if text.startswith(" ") else "") + "".join(out)


def _units(char: str) -> str:
    raw = char.encode("utf-16-be")
    return "".join(f"\\u{raw[at : at + 2].hex()}" for at in range(0, len(raw), 2))


def _ini(text: str) -> str:
    return f'"""{text}"""' if re.search(r"[#;'\"`\\]|^\s|\s$", text) else text


def _double(text: str) -> str:
    return f'"{text}"'


QUOTES: Final[dict[str, Callable[[str], str]]] = {
    "python": _python,
    "json": _json,
    "single": _single,
    "properties": _properties,
    "ini": _ini,
    "double": _double,
    "shell": shlex.quote,
}


@functools.cache
def _file() -> dict[str, Client]:
    raw: dict[str, Any] = tomllib.loads(Path(__file__).with_name("settings.toml").read_text("utf-8"))
    return msgspec.convert(raw, dict[str, Client])
