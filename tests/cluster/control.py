"""The control plane: etcd, API server, controller manager, scheduler, and a kubeconfig for every user."""

from __future__ import annotations

import csv
import io
import json
import socket
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import procs
from addresses import API, NODES, POD_NETWORK, SERVICE_NETWORK

URL = f"https://{API}:6443"
# token (also the kubeconfig's name): (user name, groups). Tokens are no secrets: the cluster has no way in or out.
USERS = {
    "admin": ("admin", ["system:masters"]),
    "alice": ("alice", []),
    "bob": ("bob", []),
    "controllers": ("system:kube-controller-manager", ["system:masters"]),
    "scheduler": ("system:kube-scheduler", []),
    **{node: (f"system:node:{node}", ["system:nodes"]) for node in NODES},
}


@dataclass(frozen=True)
class Api:
    """A client of the API server with the admin's token."""

    ca: Path
    token: str = "admin"

    def get(self, path: str) -> str | None:
        """The body of a GET, or None when there is no answer or an error status."""
        request = urllib.request.Request(URL + path, headers={"Authorization": f"Bearer {self.token}"})
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),  # the machine's proxy settings do not hold in here
            urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(self.ca))),
        )
        try:
            with opener.open(request, timeout=5) as reply:
                return str(reply.read().decode())
        except (urllib.error.URLError, OSError):
            return None

    def exists(self, path: str) -> bool:
        """Whether this path answers with success."""
        return self.get(path) is not None

    def ready_nodes(self) -> set[str]:
        """Names of the nodes whose Ready condition is True."""
        items = json.loads(self.get("/api/v1/nodes") or '{"items": []}')["items"]
        return {
            item["metadata"]["name"]
            for item in items
            for condition in item.get("status", {}).get("conditions", [])
            if condition["type"] == "Ready" and condition["status"] == "True"
        }


def kubeconfigs(folder: Path, ca: Path) -> dict[str, Path]:
    """Write one kubeconfig for each user; JSON, which is YAML too."""
    folder.mkdir()
    paths = {}
    for token in USERS:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": token}}],
            "clusters": [{"name": "test", "cluster": {"server": URL, "certificate-authority": str(ca)}}],
            "users": [{"name": token, "user": {"token": token}}],
        }
        paths[token] = folder / token
        paths[token].write_text(json.dumps(config))
    return paths


def tokens(path: Path) -> None:
    """Write the API server's static token file: token, user, uid, groups."""
    rows = io.StringIO()
    csv.writer(rows).writerows([token, user, token, ",".join(groups)] for token, (user, groups) in USERS.items())
    path.write_text(rows.getvalue())


def start_api(programs: procs.Programs, state: Path, certs: Path) -> tuple[procs.Program, procs.Program]:
    """Start etcd, then the API server: one that finds no etcd tries again only a second later."""
    key = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
    procs.run([*key, "-out", str(state / "sa.key")])
    procs.run(["openssl", "pkey", "-in", str(state / "sa.key"), "-pubout", "-out", str(state / "sa.pub")])
    tokens(state / "tokens.csv")
    etcd = programs.start("etcd", ["etcd", f"--data-dir={state}/etcd", "--unsafe-no-fsync"])
    procs.wait("etcd", etcd_listens, etcd)
    argv = [
        f"{state}/bin/kube-apiserver",
        "--etcd-servers=http://127.0.0.1:2379",
        f"--cert-dir={state}/api-certs",
        f"--tls-cert-file={certs}/api.crt",
        f"--tls-private-key-file={certs}/api.key",
        "--bind-address=0.0.0.0",
        f"--advertise-address={API}",
        f"--service-cluster-ip-range={SERVICE_NETWORK}",
        f"--service-account-key-file={state}/sa.pub",
        f"--service-account-signing-key-file={state}/sa.key",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--token-auth-file={state}/tokens.csv",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--kubelet-preferred-address-types=InternalIP",  # node names do not resolve
    ]
    return etcd, programs.start("kube-apiserver", argv)


def etcd_listens() -> bool:
    """Whether etcd's client port accepts connections."""
    try:
        socket.create_connection(("127.0.0.1", 2379), timeout=1).close()
    except OSError:
        return False
    return True


def wait_api(api: Api, *programs: procs.Program) -> None:
    """Wait until the API server calls itself ready."""
    procs.wait("API server", lambda: api.exists("/readyz"), *programs)


def start_controllers(programs: procs.Programs, state: Path, certs: Path, *, scheduler: bool) -> None:
    """Start the controller manager and, where there are nodes, the scheduler."""
    argv = [
        f"{state}/bin/kube-controller-manager",
        f"--kubeconfig={state}/kubeconfig/controllers",
        f"--root-ca-file={certs}/ca.crt",  # without it nothing in a pod can trust the API server
        f"--service-account-private-key-file={state}/sa.key",
        # one powerful identity and no client-side limit: with an account for each controller the start takes 4 s longer
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
        "--leader-elect=false",
        "--allocate-node-cidrs=false",
        f"--cluster-cidr={POD_NETWORK}",
        "--secure-port=0",
        "--node-monitor-grace-period=20s",
        "--node-monitor-period=2s",
    ]
    programs.start("kube-controller-manager", argv)
    if scheduler:
        config = f"--kubeconfig={state}/kubeconfig/scheduler"
        programs.start(
            "kube-scheduler", [f"{state}/bin/kube-scheduler", config, "--leader-elect=false", "--secure-port=0"]
        )
