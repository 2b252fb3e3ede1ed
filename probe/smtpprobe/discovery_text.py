"""What was found on the ports, for people: a table, the choice, and a ready SmtpProbe. Pure."""

import re
import shlex
from typing import Any, Final

from smtpprobe.advice import Lang
from smtpprobe.charset import readable
from smtpprobe.discovery import logins
from smtpprobe.model import DEFAULT_HELO_NAME, Discovery, PortFinding, ProbeRequest, TlsFacts
from smtpprobe.resource import GROUP, VERSION, DiscoveryStatus

WIDTH: Final = 100
_WORDS: Final[dict[Lang, dict[str, str]]] = {
    "en": {
        "head": "PORT  MODE      TLS      LOGIN",
        "before": "before TLS",
        "after": "after TLS",
        "offers": "offers",
        "certificate": "certificate",
        "issuer": "issuer",
        "until": "until",
        "verified": "verified",
        "use": "USE",
        "none": "nothing to use",
        "port": "port",
        "secret": "Its login belongs into a Secret, for example:",
        "ca": "The CA belongs into a ConfigMap, for example:",
    },
    "ko": {
        "head": "포트  모드      TLS      로그인",
        "before": "TLS 전",
        "after": "TLS 후",
        "offers": "제공",
        "certificate": "인증서",
        "issuer": "발급자",
        "until": "만료",
        "verified": "검증됨",
        "use": "사용할 설정",
        "none": "사용할 수 있는 설정 없음",
        "port": "포트",
        "secret": "로그인 정보는 Secret에 넣습니다. 예:",
        "ca": "CA 인증서는 ConfigMap에 넣습니다. 예:",
    },
}


def rows(found: Discovery, lang: Lang = "en") -> list[str]:
    """Return the table: a line a port, below it what the server offers and its certificate."""
    lines = [_WORDS[lang]["head"]]
    for port in found.ports:
        lines.append(row(port))
        lines += [_cut(f"      {line}") for line in _facts(port, lang)]
    return lines


def row(port: PortFinding) -> str:
    """Return the line of one port; one that cannot be used says why."""
    tls = (port.tls.protocol if port.tls else None) or "-"
    login = " ".join(logins(port)) or "-"
    line = f"{port.port:>4}  {port.mode or '-':9} {tls:8} {login}"
    if port.reason is not None:
        line = f"{line:30} {port.reason}" + (f": {port.detail}" if port.detail else "")
    return _cut(line.rstrip())


def kept_rows(known: DiscoveryStatus, lang: Lang = "en") -> list[str]:
    """Return the table of what a status keeps, the choice below it."""
    lines = [_WORDS[lang]["head"]]
    for port in known.ports:
        end = f"  {_WORDS[lang]['until']} {port.not_after:%Y-%m-%d}" if port.not_after else ""
        lines.append(f"{port.port:>4}  {port.mode or '-':9} {port.tls or '-':8} {port.auth or '-'}{end}".rstrip())
        if port.reason is not None:
            lines[-1] = f"{lines[-1]:30} {port.reason}"
    what = f"{known.port} {known.mode or '-'}" if known.port else _WORDS[lang]["none"]
    return [*lines, _cut(f"{_WORDS[lang]['use']}: {what}: {known.why}")]


def chosen(found: Discovery, request: ProbeRequest, *, usable: bool, lang: Lang = "en") -> str:
    """Say in a line which configuration to use."""
    words = _WORDS[lang]
    if not usable or found.port is None:
        return f"{words['use']}: {words['none']}"
    return f"{words['use']}: {request.host} {words['port']} {found.port}, {found.mode}"


def _facts(port: PortFinding, lang: Lang) -> list[str]:
    words, seen = _WORDS[lang], port.features
    lines: list[str] = []
    two = seen.after_tls is not None and seen.before_tls is not None
    for name, keywords in (("before", seen.before_tls), ("after", seen.after_tls)):
        if keywords:
            lines.append(f"{words[name] if two else words['offers']}: {', '.join(map(readable, keywords))}")
    if port.tls is not None and port.tls.chain:
        lines.append(f"{words['certificate']}: {_certificate(port.tls, words)}")
    if port.notes:
        lines.append(", ".join(port.notes))
    return lines


def _certificate(tls: TlsFacts, words: dict[str, str]) -> str:
    leaf = tls.chain[0]
    names = ", ".join(leaf.sans[:4]) or leaf.subject
    end = f"{words['until']} {leaf.not_after:%Y-%m-%d}"
    state = ", ".join(map(str, tls.errors)) or (words["verified"] if tls.verified else "")
    return "; ".join(filter(None, (names, f"{words['issuer']} {leaf.issuer}", end, state)))


def _cut(text: str) -> str:
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


# ----------------------------------------------------------------------------------------------------------- manifest


def manifest(request: ProbeRequest, *, login: bool) -> dict[str, Any]:
    """Return the SmtpProbe for a request whose port and mode are known; Secret and ConfigMap get names to make."""
    name = object_name(request.host)
    spec: dict[str, Any] = {"host": request.host, "port": request.port, "mode": request.mode.value}
    if login:
        spec["credentialsSecretRef"] = {"name": f"{name}-login"}
    if request.helo_name != DEFAULT_HELO_NAME:
        spec["heloName"] = request.helo_name
    tls: dict[str, Any] = {}
    if request.tls.server_name:
        tls["serverName"] = request.tls.server_name
    if request.tls.ca_file:
        tls["caRef"] = {"kind": "ConfigMap", "name": f"{name}-ca"}
    if request.tls.min_version != "1.2":
        tls["minVersion"] = request.tls.min_version
    if tls and request.mode != "plain":
        spec["tls"] = tls
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "SmtpProbe",
        "metadata": {"name": name},
        "spec": spec,
    }


def object_name(host: str) -> str:
    """Make a name for the resource out of a host."""
    return re.sub(r"[^a-z0-9]+", "-", host.lower())[:50].strip("-") or "mail"


def secret_hint(request: ProbeRequest, username: str, lang: Lang = "en") -> list[str]:
    """Say how the Secret that ``manifest`` names is made, with the password from a file."""
    user = shlex.quote(f"username={username}")
    command = f"kubectl create secret generic {object_name(request.host)}-login --from-literal={user}"
    return [f"# {_WORDS[lang]['secret']}", f"# {command} --from-file=password=FILE"]


def ca_hint(request: ProbeRequest, lang: Lang = "en") -> list[str]:
    """Say how the ConfigMap that ``manifest`` names is made, where there is one."""
    if not request.tls.ca_file or request.mode == "plain":
        return []
    command = f"kubectl create configmap {object_name(request.host)}-ca --from-file=ca.crt="
    return [f"# {_WORDS[lang]['ca']}", f"# {command}{shlex.quote(request.tls.ca_file)}"]
