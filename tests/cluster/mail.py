"""Real mail servers, each from its own Debian root and on its own address, in one network namespace of their own."""

from __future__ import annotations

import base64
import re
import shutil
import socket
from pathlib import Path

import clients
import debian
import nodes
import procs
from addresses import HOSTS, LOCAL_DOMAIN, MAIL, RELAY_ALLOWED
from cluster_facts import Mail, Service

CONFIG = Path(__file__).with_name("mail_config")
NAMESPACE = "mail"
SILENT, ECHO, CLOSED, DROPPED, PROHIBITED = 2501, 2502, 2503, 2504, 2505

# one user for each test that logs in, so that none counts another's logins; then the odd passwords
USERS = {f"sender@{LOCAL_DOMAIN}": "correct-horse-battery"}
USERS |= {f"user{number:02}@{LOCAL_DOMAIN}": f"pw-{number:02}-gN7/+qZ=x" for number in range(1, 61)}
USERS |= {f"short-{word}@{LOCAL_DOMAIN}": word for word in ("mail", "250", "sender")}
USERS[f"unicode@{LOCAL_DOMAIN}"] = "pässwörd-비밀"

TOKEN_KEY = b"the key that signs the access tokens of tests"

# name: (server, port, tls, auth, certificate)
SERVICES = {
    "relay": ("postfix", 25, "starttls", "never", "good"),
    "submission": ("postfix", 587, "starttls", "after-tls", "good"),
    "submissions": ("postfix", 465, "smtps", "always", "good"),
    "plain-auth": ("postfix", 2525, "none", "always", ""),
    "no-starttls": ("postfix", 2526, "none", "never", ""),
    "auth-required": ("postfix", 2587, "starttls", "after-tls", "good"),
    "mechanisms": ("postfix", 2588, "starttls", "after-tls", "good"),
    "expired": ("postfix", 5871, "starttls", "after-tls", "expired"),
    "wrong-name": ("postfix", 5872, "starttls", "after-tls", "wrong-name"),
    "untrusted": ("postfix", 5873, "starttls", "after-tls", "untrusted"),
    "exim": ("exim", 25, "starttls", "never", "good"),
    "exim-submission": ("exim", 587, "starttls", "after-tls", "good"),
    "opensmtpd": ("opensmtpd", 25, "starttls", "never", "good"),
    "silent": ("odd", SILENT, "none", "never", ""),
    "echo": ("odd", ECHO, "none", "always", ""),
    "closed": ("odd", CLOSED, "none", "never", ""),
    "dropped": ("odd", DROPPED, "none", "never", ""),
    "prohibited": ("odd", PROHIBITED, "none", "never", ""),
}
LISTENING = [name for name in SERVICES if name not in {"closed", "dropped", "prohibited"}]

FIREWALL = f"""
table inet odd {{
  chain input {{
    type filter hook input priority 0;
    ip daddr {MAIL["odd"]} tcp dport {DROPPED} drop
    ip daddr {MAIL["odd"]} tcp dport {PROHIBITED} reject with icmp type admin-prohibited
  }}
}}
"""


def start(programs: procs.Programs, state: Path, roots: dict[str, str], certs: Path) -> Mail:
    """Start all mail servers and wait until each port greets."""
    nodes.namespace(NAMESPACE, list(MAIL.values()))
    procs.run(["nsenter", f"--net=/run/netns/{NAMESPACE}", "nft", "-f", "-"], stdin=FIREWALL)
    for name in debian.MAIL_ROOTS:
        root(state, name, Path(roots[name]), certs)
    people = [name.partition("@")[0] for name in USERS] + ["postmaster"]
    configure_postfix(state / "mail" / "postfix", people)
    passwords = "".join(f"{name}: {password}\n" for name, password in USERS.items())
    fill("exim.conf", state / "mail/exim/etc/exim4/exim4.conf", "exim", " : ".join(people))
    (state / "mail/exim/etc/exim4/users").write_text(passwords)
    aliases = [f'"{name}@{LOCAL_DOMAIN}" = nobody' for name in people]
    fill("smtpd.conf", state / "mail/opensmtpd/etc/smtpd-tests.conf", "opensmtpd", ", ".join(aliases))
    running = {
        "dovecot": chrooted(programs, state, "postfix", "dovecot", ["dovecot", "-F"]),
        "postfix": chrooted(programs, state, "postfix", "postfix", ["postfix", "start-fg"]),
        "exim": chrooted(programs, state, "exim", "exim", ["exim4", "-bdf"]),
        "opensmtpd": chrooted(
            programs, state, "opensmtpd", "opensmtpd", ["smtpd", "-d", "-v", "-f", "/etc/smtpd-tests.conf"]
        ),
        "odd": programs.start(
            "odd",
            ["python3", str(CONFIG.with_name("oddserver.py")), MAIL["odd"], str(SILENT), str(ECHO)],
            netns=NAMESPACE,
        ),
    }
    socket_file = state / "mail/postfix/var/spool/postfix/private/auth"
    procs.wait("Dovecot's login socket", socket_file.is_socket, running["dovecot"])
    for name in LISTENING:
        server, port, tls, _, _ = SERVICES[name]
        greeting = b"" if tls == "smtps" or name == "silent" else b"220"
        procs.wait(
            f"{server} on port {port}",
            lambda server=server, port=port, greeting=greeting: greets(MAIL[server], port, greeting),  # type: ignore[misc]
            running[server],
        )
    services = {
        name: Service(HOSTS[server], MAIL[server], port, tls, auth, certificate)
        for name, (server, port, tls, auth, certificate) in SERVICES.items()
    }
    logs = {name: str(program.log) for name, program in running.items()}
    logs["exim"] = f"{state}/log/exim-files/exim-mainlog"
    logs["exim-rejects"] = f"{state}/log/exim-files/exim-rejectlog"
    return Mail(services, USERS, LOCAL_DOMAIN, RELAY_ALLOWED, logs)


def root(state: Path, name: str, cached: Path, certs: Path) -> None:
    """Mount the cached root with a writable layer of this launch, and in it /proc, /dev, a log folder, certificates."""
    place = state / "mail" / name
    for folder in (place, state / "mail" / f"{name}-new", state / "mail" / f"{name}-work"):
        folder.mkdir(parents=True)
    layers = f"lowerdir={cached},upperdir={place}-new,workdir={place}-work"
    procs.run(["mount", "-t", "overlay", "-o", layers, "overlay", str(place)])
    procs.run(["mount", "-t", "proc", "proc", f"{place}/proc"])
    procs.run(["mount", "--bind", "/dev", f"{place}/dev"])
    logs = state / "log" / f"{name}-files"
    for folder in (logs, place / "logs", place / "certs"):
        folder.mkdir()
    logs.chmod(0o777)
    procs.run(["mount", "--bind", str(logs), f"{place}/logs"])
    (place / "etc/resolv.conf").unlink(missing_ok=True)
    shutil.copy(state / "resolv.conf", place / "etc/resolv.conf")
    trusted = place / "etc/ssl/certs/ca-certificates.crt"  # OpenSMTPD does not start without one
    trusted.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(certs / "ca.crt", trusted)
    for file in (*certs.glob("*.crt"), *certs.glob("*.key")):
        shutil.copy(file, place / "certs" / file.name)
        # Exim reads its key as its own user; OpenSMTPD wants a key that nobody else may read
        (place / "certs" / file.name).chmod(0o644 if name.endswith("exim") else 0o600)


def fill(template: str, target: Path, server: str, local_parts: str) -> None:
    """Write a configuration file with the tests' names and addresses in it."""
    text = (CONFIG / template).read_text()
    words = {
        "HOST": HOSTS[server],
        "ADDRESS": MAIL[server],
        "LOCAL_DOMAIN": LOCAL_DOMAIN,
        "RELAY_ALLOWED": RELAY_ALLOWED,
        "LOCAL_PARTS": local_parts,
    }
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    target.write_text(text)


def configure_postfix(place: Path, people: list[str]) -> None:
    """Postfix's and Dovecot's files."""
    fill("main.cf", place / "etc/postfix/main.cf", "postfix", "")
    fill("master.cf", place / "etc/postfix/master.cf", "postfix", "")
    fill("dovecot.conf", place / "etc/dovecot/dovecot.conf", "postfix", "")
    (place / "etc/postfix/local-users").write_text("".join(f"{name} here\n" for name in people))
    users = place / "etc/dovecot/users"
    # Dovecot looks a name up with these characters escaped
    escaped = [re.sub(r"([\\\\'\"])", r"\\\1", name) for name in clients.LOGINS]
    known = USERS | dict.fromkeys(escaped, clients.PASSWORD)
    users.write_text("".join(f"{name}:{{PLAIN}}{password}\n" for name, password in known.items()))
    users.chmod(0o644)
    shutil.copy(CONFIG / "oauth2.conf", place / "etc/dovecot/oauth2.conf")
    key = place / "etc/dovecot/tokens/default/HS256/default"
    key.parent.mkdir(parents=True)
    key.write_text(base64.b64encode(TOKEN_KEY).decode())


def chrooted(programs: procs.Programs, state: Path, place: str, name: str, argv: list[str]) -> procs.Program:
    """Start a program of one root in the mail namespace."""
    path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    return programs.start(name, ["chroot", f"{state}/mail/{place}", *argv], netns=NAMESPACE, env=path)


def greets(address: str, port: int, greeting: bytes) -> bool:
    """Whether the port accepts a connection and begins with the greeting."""
    try:
        with socket.create_connection((address, port), timeout=5) as sock:
            return not greeting or sock.recv(1024).startswith(greeting)
    except OSError:
        return False
