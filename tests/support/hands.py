"""Hands on the programs of the tests' cluster: processes of containers, images of a node, the operator's restarts."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cluster_facts import Facts, Node
from k8s import Api, eventually

OPERATOR = "app.kubernetes.io/name=smtpprobe-operator"


def node_of(facts: Facts, name: str) -> Node:
    """One node by its name."""
    return next(node for node in facts.nodes if node.name == name)


@contextmanager
def leaving_as(node: Node, address: str, destination: str) -> Iterator[None]:
    """While this lasts, new connections of the node's pods to a server leave from another address of the node."""
    rule = ["POSTROUTING", "-s", node.pods, "-d", destination, "-j", "SNAT", "--to-source", address]
    enter = ["nsenter", f"--net=/run/netns/{node.name}"]
    subprocess.run([*enter, "ip", "address", "add", f"{address}/24", "dev", "eth0"], check=True)
    subprocess.run([*enter, "iptables", "-w", "-t", "nat", "-I", *rule], check=True)
    try:
        yield
    finally:
        # The address stays: connections that it has begun go on.
        subprocess.run([*enter, "iptables", "-w", "-t", "nat", "-D", *rule], check=True)


def ctr(node: Node, *arguments: str) -> str:
    """Ask a node's containerd, in the kubelet's namespace."""
    command = ["ctr", "-a", node.containerd_socket, "-n", "k8s.io", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def operator_pod(api: Api, namespace: str) -> dict[str, Any] | None:
    """The operator's pod where there is exactly one and it is ready."""
    pods = api.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=OPERATOR).ok()["items"]
    ready = [
        pod
        for pod in pods
        if {"type": "Ready", "status": "True"}.items()
        <= next((c for c in pod["status"].get("conditions", ()) if c["type"] == "Ready"), {}).items()
    ]
    return dict(ready[0]) if len(pods) == len(ready) == 1 else None


def restarts(pod: dict[str, Any]) -> int:
    """How often the pod's container was started again."""
    return int(pod["status"]["containerStatuses"][0]["restartCount"])


def kill_operator(api: Api, facts: Facts, namespace: str) -> dict[str, Any]:
    """End the operator's process with SIGKILL; returns its pod as it was before."""
    pod = eventually(lambda: operator_pod(api, namespace), within=60, pause=0.2)
    container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    tasks = ctr(node_of(facts, pod["spec"]["nodeName"]), "tasks", "ls").splitlines()
    (pid,) = (int(line.split()[1]) for line in tasks if line.startswith(container))
    os.kill(pid, signal.SIGKILL)
    return pod


def operator_log(api: Api, namespace: str) -> str:
    """What the operator has logged, also in the life before the last restart of its container."""
    pod = eventually(lambda: operator_pod(api, namespace), within=60, pause=0.2)
    path = f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}/log"
    earlier = str(api.get(path, previous="true").ok()) if restarts(pod) else ""
    return earlier + str(api.get(path).ok())
