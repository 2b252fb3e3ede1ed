"""What a test may know about the running cluster: a typed reader of the file that SMTPPROBE_TEST_CLUSTER names."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

VARIABLE = "SMTPPROBE_TEST_CLUSTER"


@dataclass(frozen=True)
class Node:
    """One node. `pids` has containerd, kubelet, kube-proxy: a test may stop or kill one (never by name)."""

    name: str
    address: str
    zone: str
    pods: str
    containerd_socket: str
    pids: dict[str, int]


@dataclass(frozen=True)
class Kubernetes:
    """The API server. `kubeconfigs` by user: admin, alice, bob (no rights of their own); their tokens are their names."""

    url: str
    ca_file: str
    kubeconfigs: dict[str, str]
    pids: dict[str, int]


@dataclass(frozen=True)
class Dns:
    """The name server. Tests may rewrite `zone_file` (JSON, see nameserver.py): it is read again when it changes."""

    address: str
    zone_file: str
    query_log: str


@dataclass(frozen=True)
class Service:
    """One listening mail port.

    tls: none, starttls, smtps. auth: never, always, after-tls. certificate: good, expired, wrong-name, untrusted or "".
    """

    host: str
    address: str
    port: int
    tls: str
    auth: str
    certificate: str


@dataclass(frozen=True)
class Mail:
    """The mail servers. `users`: name → password, one for each test that logs in; `logs` by server."""

    services: dict[str, Service]
    users: dict[str, str]
    local_domain: str
    relay_allowed: str
    logs: dict[str, str]

    def logins(self, user: str, since: int = 0) -> Logins:
        """Logins with this user name that Dovecot counted after byte `since` of its log."""
        return count_logins(Path(self.logs["dovecot"]).read_bytes()[since:].decode(errors="replace"), user)

    def mark(self) -> int:
        """Where Dovecot's log ends now, for `logins(since=…)`."""
        return Path(self.logs["dovecot"]).stat().st_size


@dataclass(frozen=True)
class Refusals:
    """The servers of ``tests/smtp/refusals.toml``. ``ports`` and ``logs`` by case; ``root`` has fail2ban's programs.

    ``users``: name → password. A log at ``logs`` in a root's eyes is ``/logs/NAME``.
    """

    hosts: dict[str, str]
    ports: dict[str, int]
    logs: dict[str, str]
    users: dict[str, str]
    root: str


@dataclass(frozen=True)
class Clients:
    """The mail clients: programs under `root` (chroot), files in `share`, which has this path inside `root` too.

    `ini` prints the user in each Grafana configuration that stdin names. Dovecot knows each of `logins` by `password`,
    which is Alertmanager's `/etc/alertmanager/smtp-password` as well.
    """

    root: str
    share: str
    ca_file: str
    django: str
    ini: str
    logins: list[str]
    password: str


@dataclass(frozen=True)
class Logins:
    """How many logins a server answered, by outcome."""

    accepted: int
    refused: int


@dataclass(frozen=True)
class Prometheus:
    """The Prometheus server: rewrite `config_file` and files in `rules_folder` (*.yml), then POST {url}/-/reload."""

    url: str
    config_file: str
    rules_folder: str


@dataclass(frozen=True)
class Facts:
    """Everything; a part that was not asked for at launch is None or empty."""

    state: str
    bin: str
    logs: str
    ca_file: str
    dns: Dns
    kubernetes: Kubernetes | None = None
    nodes: list[Node] = field(default_factory=list)
    images: dict[str, str] = field(default_factory=dict)
    mail: Mail | None = None
    refusals: Refusals | None = None
    clients: Clients | None = None
    prometheus: Prometheus | None = None

    def write(self, path: Path) -> None:
        """Write the facts as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1))


def count_logins(log: str, user: str) -> Logins:
    """Count Dovecot's answers to its SASL clients for one user name, from its log with auth_debug."""
    answers = re.findall(r"client passdb out: (OK|FAIL)\t\d+\t(.*)", log)
    outcomes = [outcome for outcome, rest in answers if f"user={user}" in rest.split("\t")]
    return Logins(outcomes.count("OK"), outcomes.count("FAIL"))


def read(path: Path) -> Facts:
    """Read facts that `Facts.write` wrote."""
    data: dict[str, Any] = json.loads(path.read_text())
    mail = data["mail"]
    if mail:
        mail["services"] = {name: Service(**service) for name, service in mail["services"].items()}
    return Facts(
        **data
        | {
            "dns": Dns(**data["dns"]),
            "kubernetes": data["kubernetes"] and Kubernetes(**data["kubernetes"]),
            "nodes": [Node(**node) for node in data["nodes"]],
            "mail": mail and Mail(**mail),
            "refusals": data["refusals"] and Refusals(**data["refusals"]),
            "clients": data["clients"] and Clients(**data["clients"]),
            "prometheus": data["prometheus"] and Prometheus(**data["prometheus"]),
        },
    )


def load() -> Facts:
    """The facts of the cluster that this process runs in; KeyError outside one."""
    return read(Path(os.environ[VARIABLE]))
