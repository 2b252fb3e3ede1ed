"""Real servers that refuse: one port for each case of `tests/smtp/refusals.toml`, all in one network namespace.

Postfix and OpenSMTPD are one instance each with many ports; Exim and Dovecot submission are one small instance a case.
"""

from __future__ import annotations

import socket
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mail
import nodes
import procs
from addresses import API, LOCAL_DOMAIN, REFUSAL_HOSTS, REFUSALS
from cluster_facts import Refusals

CASES = Path(__file__).parents[1] / "smtp" / "refusals.toml"
CONFIG = Path(__file__).with_name("refusals_config")
NAMESPACE = "refusals"
FIRST_PORT = 3000
SIZE = 300  # bytes that OpenSMTPD takes: one limit for all its ports
USERS = {f"sender@{LOCAL_DOMAIN}": "correct-horse-battery", f"other@{LOCAL_DOMAIN}": "pw-gN7/+qZ=x"}
PEOPLE = ["postmaster", "sender", "other", "noreply"]
ROOTS = {"refusals": "refusals", "refusals-exim": "exim", "refusals-opensmtpd": "opensmtpd"}


@dataclass(frozen=True)
class Case:
    """One entry of the data file: its server, what is configured there, its port."""

    name: str
    server: str
    port: int
    entry: dict[str, Any]

    @property
    def played(self) -> bool:
        """Whether it is a session, not just what stands behind another case's server."""
        return "ask" in self.entry

    @property
    def word(self) -> str:
        """The name as programs of mail like it in their logs."""
        return self.name.replace("-", "_")


def cases() -> list[Case]:
    """All entries; the ports follow their order."""
    entries = tomllib.loads(CASES.read_text())["case"]
    return [
        Case(entry["name"], entry["server"], entry.get("port", FIRST_PORT + at), entry)
        for at, entry in enumerate(entries)
    ]


def start(programs: procs.Programs, state: Path, roots: dict[str, str], certs: Path) -> Refusals:
    """Start the server of every case and wait until each port answers."""
    nodes.namespace(NAMESPACE, list(REFUSALS.values()))
    (state / "mail").mkdir(exist_ok=True)
    for place, name in ROOTS.items():
        mail.root(state, place, Path(roots[name]), certs)
        (state / "log" / f"{place}-files").chmod(0o777)
    known = cases()
    running = {
        **postfix(programs, state, known),
        **exim(programs, state, [case for case in known if case.server == "exim"]),
        **opensmtpd(programs, state, [case for case in known if case.server == "opensmtpd"]),
    }
    ports = {case.name: case.port for case in known}
    running |= dovecot(programs, state, [case for case in known if case.server == "dovecot"], ports)
    for case in known:
        program = running.get(case.name) or running[case.server]
        address = REFUSALS[case.server]
        procs.wait(f"{case.name} on port {case.port}", lambda a=address, p=case.port: accepts(a, p), program)  # type: ignore[misc]
    return Refusals(
        hosts=REFUSAL_HOSTS,
        ports=ports,
        logs={case.name: str(log_file(state, case)) for case in known},
        users=USERS,
        root=f"{state}/mail/refusals",
    )


def log_file(state: Path, case: Case) -> Path:
    """Where the server of a case writes what fail2ban would read."""
    match case.server:
        case "postfix":
            return state / "log/refusals-files/postfix"
        case "dovecot":
            return state / "log/refusals-files" / case.name
        case "exim":
            return state / "log/refusals-exim-files" / f"{case.name}-mainlog"
        case _:
            return state / "log/refusals-opensmtpd"


def accepts(address: str, port: int) -> bool:
    """Whether the port accepts a connection."""
    try:
        socket.create_connection((address, port), timeout=5).close()
    except OSError:
        return False
    return True


def fill(template: str, server: str, **values: str) -> str:
    """A configuration file with the names and addresses of the refusals in it."""
    words = {
        "HOST": REFUSAL_HOSTS[server],
        "ADDRESS": REFUSALS[server],
        "POSTFIX": REFUSALS["postfix"],
        "CLIENT": API,
        "SIZE": str(SIZE),
        "LOCAL_DOMAIN": LOCAL_DOMAIN,
    }
    text = (CONFIG / template).read_text() if template.endswith((".cf", ".conf")) else template
    for word, value in (values | words).items():
        text = text.replace(f"@{word}@", value)
    return text


def chrooted(programs: procs.Programs, state: Path, place: str, name: str, argv: list[str]) -> procs.Program:
    """Start a program of one root in the namespace of the refusals."""
    path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    return programs.start(name, ["chroot", f"{state}/mail/{place}", *argv], netns=NAMESPACE, env=path)


def postfix(programs: procs.Programs, state: Path, known: list[Case]) -> dict[str, procs.Program]:
    """Postfix with one smtpd a case, its passwords and its greylist."""
    root = state / "mail" / "refusals"
    lines = []
    for case in known:
        if case.server == "postfix":
            service = case.entry.get("service", "smtpd")
            lines.append(
                f"{REFUSALS['postfix']}:{case.port} inet n - n - {service.partition(' ')[2] or '-'} {service.partition(' ')[0]}"
            )
            lines.append(f"  -o syslog_name=postfix/{case.word}")
            options = fill(case.entry.get("config", ""), "postfix").splitlines()
            lines += [f"  -o {{ {option.strip()} }}" for option in options if option.strip()]
    behind = (mail.CONFIG / "master.cf").read_text()
    (root / "etc/postfix/main.cf").write_text(fill("main.cf", "postfix"))
    (root / "etc/postfix/master.cf").write_text("\n".join([*lines, behind[behind.index("pickup ") :]]))
    (root / "etc/postfix/local-users").write_text("".join(f"{name} here\n" for name in PEOPLE))
    owners = "".join(f"{name} {name}\n" for name in USERS)
    (root / "etc/postfix/owners").write_text(owners)
    (root / "etc/dovecot/users").write_text("".join(f"{name}:{{PLAIN}}{word}\n" for name, word in USERS.items()))
    (root / "etc/dovecot/users").chmod(0o644)
    (root / "etc/dovecot/auth.conf").write_text(fill("dovecot-auth.conf", "postfix"))
    auth = chrooted(programs, state, "refusals", "refusals-auth", ["dovecot", "-F", "-c", "/etc/dovecot/auth.conf"])
    subprocess.run(["chroot", str(root), "install", "-d", "-o", "postgrey", "/var/lib/postgrey"], check=True)
    grey = ["postgrey", "--inet=127.0.0.1:10023", "--delay=300", "--dbdir=/var/lib/postgrey"]
    chrooted(programs, state, "refusals", "refusals-postgrey", grey)
    socket_file = root / "var/spool/postfix/private/auth"
    started = chrooted(programs, state, "refusals", "refusals-postfix", ["postfix", "start-fg"])
    procs.wait("the refusals' login socket", socket_file.is_socket, auth)
    return {"postfix": started}


def exim(programs: procs.Programs, state: Path, known: list[Case]) -> dict[str, procs.Program]:
    """One Exim a case, whose ACLs, main options and authenticators are those of the case."""
    folder = state / "mail/refusals-exim/etc/exim4"
    (folder / "users").write_text("".join(f"{name}: {word}\n" for name, word in USERS.items()))
    (folder / "local-parts").write_text("".join(f"{name}: here\n" for name in PEOPLE))
    running = {}
    for case in known:
        acl = {"rcpt": "accept"} | case.entry.get("acl", {})
        text = fill(
            "exim.conf",
            "exim",
            MAIN="\n".join([case.entry.get("config", ""), *(f"acl_smtp_{stage} = on_{stage}" for stage in acl)]),
            ACLS="\n".join(f"on_{stage}:\n{body}" for stage, body in acl.items()),
            AUTHENTICATORS=case.entry.get("authenticators") or (CONFIG / "exim-login.conf").read_text(),
            PORT=str(case.port),
            NAME=case.name,
        )
        (folder / f"{case.name}.conf").write_text(text)
        argv = ["exim4", "-bdf", "-C", f"/etc/exim4/{case.name}.conf"]
        running[case.name] = chrooted(programs, state, "refusals-exim", f"refusals-{case.name}", argv)
    return running


def opensmtpd(programs: procs.Programs, state: Path, known: list[Case]) -> dict[str, procs.Program]:
    """One OpenSMTPD; `@LISTEN@` and `@TAG@` stand for a case's own listener."""
    root = state / "mail/refusals-opensmtpd"
    encrypt = ["chroot", str(root), "smtpctl", "encrypt"]
    (root / "etc/refusals-people").write_text("".join(f"{name}@{LOCAL_DOMAIN}: nobody\n" for name in PEOPLE))
    hashed = {name: procs.run([*encrypt, word]).strip() for name, word in USERS.items()}
    (root / "etc/refusals-users").write_text("".join(f"{name} {word}\n" for name, word in hashed.items()))
    parts = []
    for case in known:
        listen = (
            f"listen on {REFUSALS['opensmtpd']} port {case.port} tag c{case.port} hostname {REFUSAL_HOSTS['opensmtpd']}"
        )
        parts.append(fill(case.entry["config"], "opensmtpd", LISTEN=listen, TAG=f"c{case.port}"))
    (root / "etc/refusals.conf").write_text(fill("smtpd.conf", "opensmtpd", CONFIG="\n".join(parts)))
    argv = ["smtpd", "-d", "-v", "-f", "/etc/refusals.conf"]
    return {"opensmtpd": chrooted(programs, state, "refusals-opensmtpd", "refusals-opensmtpd", argv)}


def dovecot(
    programs: procs.Programs, state: Path, known: list[Case], ports: dict[str, int]
) -> dict[str, procs.Program]:
    """One Dovecot submission a case, in front of the Postfix port of the case that `backend` names."""
    running = {}
    for case in known:
        text = fill(
            "dovecot.conf",
            "dovecot",
            NAME=case.name,
            PORT=str(case.port),
            BACKEND=str(ports[case.entry.get("backend", "behind-dovecot")]),
            CONFIG=case.entry.get("config", ""),
        )
        (state / "mail/refusals/etc/dovecot" / f"{case.name}.conf").write_text(text)
        argv = ["dovecot", "-F", "-c", f"/etc/dovecot/{case.name}.conf"]
        running[case.name] = chrooted(programs, state, "refusals", f"refusals-{case.name}", argv)
    return running
