"""The inside of a launch: first process of its namespaces. Brings the parts up, runs the command, ends with its code.

Usage (by launch.py only): python3 inside.py STATE_FOLDER COMMAND [ARG …]
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cgroups
import clients
import control
import mail
import names
import nodes
import procs
import prom
import refusals
from addresses import API, DNS, HOSTS, NODES
from build import Parts
from cache import say
from cluster_facts import VARIABLE, Dns, Facts, Kubernetes, Node

FAILED = 70


def reap_all(child: int) -> int:
    """The duty of a first process: collect every orphan until our child ends; return its exit code."""
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return 128 - code if code < 0 else code


def mounts(state: Path) -> None:
    """Own, empty places for all that the programs write: state, /run, /var, /etc/resolv.conf."""
    parts = (state / "parts.json").read_text()
    procs.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(state)])
    (state / "parts.json").write_text(parts)
    for name in ("log", "bin", "var-new", "var-work"):
        (state / name).mkdir()
    layers = f"lowerdir=/var,upperdir={state}/var-new,workdir={state}/var-work"
    procs.run(["mount", "-t", "overlay", "-o", layers, "overlay", "/var"])
    procs.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"])
    for folder in ("/run/netns", "/run/lock"):
        Path(folder).mkdir()
    (state / "resolv.conf").write_text(f"nameserver {DNS}\noptions timeout:2 attempts:2\n")
    procs.run(["mount", "--bind", f"{state}/resolv.conf", "/etc/resolv.conf"])


def network() -> None:
    """A bridge with the addresses of the API server and the name server."""
    bridge = nodes.BRIDGE
    lines = ["link set lo up", f"link add {bridge} type bridge", f"addr add {API}/24 dev {bridge}"]
    lines += [f"addr add {DNS}/24 dev {bridge}", f"link set {bridge} up"]
    procs.run(["ip", "-batch", "-"], stdin="\n".join([*lines, ""]))
    procs.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])


def links(state: Path, parts: Parts) -> None:
    """The folder of programs for PATH."""
    for folder in filter(None, (parts.kube, parts.helm)):
        for program in Path(folder).iterdir():
            (state / "bin" / program.name).symlink_to(program)


def bring_up(state: Path, parts: Parts) -> Facts:
    """Start all wanted parts, side by side where they do not need one another, and wait for each."""
    programs = procs.Programs(state / "log")
    mounts(state)
    programs.logs.mkdir(exist_ok=True)
    network()
    links(state, parts)
    dns = names.start(programs, state)
    certs = Path(parts.certs)
    wanted = parts.wanted
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        kube = pool.submit(start_kubernetes, programs, state, parts, pool) if wanted.kube else None
        mail_servers = pool.submit(mail.start, programs, state, parts.roots, certs) if wanted.mail else None
        refusing = pool.submit(refusals.start, programs, state, parts.roots, certs) if wanted.refusals else None
        stocked = pool.submit(clients.mount, state, parts.clients, certs) if wanted.clients else None
        prometheus = pool.submit(prom.start, programs, state) if wanted.prometheus else None
        procs.wait("name server", lambda: names.answers(HOSTS["postfix"]), dns)
        kubernetes, members = kube.result() if kube else (None, [])
        return Facts(
            state=str(state),
            bin=str(state / "bin"),
            logs=str(programs.logs),
            ca_file=str(certs / "ca.crt"),
            dns=Dns(DNS, f"{state}/zone.json", f"{state}/log/dns-queries"),
            kubernetes=kubernetes,
            nodes=members,
            images={name: f"localhost/smtpprobe-{name}:test" for name in parts.images},
            mail=mail_servers.result() if mail_servers else None,
            refusals=refusing.result() if refusing else None,
            clients=stocked.result() if stocked else None,
            prometheus=prometheus.result() if prometheus else None,
        )


def start_kubernetes(
    programs: procs.Programs, state: Path, parts: Parts, pool: concurrent.futures.Executor
) -> tuple[Kubernetes, list[Node]]:
    """Start the control plane and the nodes; containerd and its images come up while the API server does."""
    certs = Path(parts.certs)
    api = control.Api(certs / "ca.crt")
    configs = control.kubeconfigs(state / "kubeconfig", certs / "ca.crt")
    etcd, server = control.start_api(programs, state, certs)
    members, imports = [], []
    for name in NODES if parts.wanted.nodes else ():
        members.append(nodes.prepare(programs, state, name, parts.store))
        archives = [Path(path) for path in (parts.images.values() if parts.store else [parts.pause])]
        imports.append(pool.submit(nodes.import_images, members[-1], archives))
    control.wait_api(api, etcd, server)
    control.start_controllers(programs, state, certs, scheduler=bool(members))
    for node in members:
        nodes.join(programs, state, node)
    needed = [program for node in members for program in node.programs.values()]
    procs.wait("nodes", lambda: len(api.ready_nodes()) == len(members), *needed)
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    procs.wait("default service account", lambda: api.exists(account), *programs.started)
    for done in imports:
        done.result()
    pids = {
        program.name: program.process.pid for program in programs.started if program.name.startswith(("etcd", "kube-"))
    }
    kubernetes = Kubernetes(
        url=control.URL,
        ca_file=str(certs / "ca.crt"),
        kubeconfigs={user: str(configs[user]) for user in ("admin", "alice", "bob")},
        pids=pids,
    )
    return kubernetes, [
        Node(
            name=node.name,
            address=node.address,
            zone=node.zone,
            pods=node.pods,
            containerd_socket=str(node.socket),
            pids={name: program.process.pid for name, program in node.programs.items()},
        )
        for node in members
    ]


def environment(state: Path, facts: Facts) -> dict[str, str]:
    """The command's environment: this cluster and no other, no proxy to an outside that is not there."""
    env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    env.pop("KUBECONFIG", None)
    if facts.kubernetes:
        env["KUBECONFIG"] = facts.kubernetes.kubeconfigs["admin"]
    return env | {"PATH": f"{state}/bin:{os.environ['PATH']}", VARIABLE: str(state / "facts.json")}


def launch(state: Path, command: list[str]) -> int:
    """Bring the cluster up and run the command in it."""
    began = time.monotonic()
    try:
        facts = bring_up(state, Parts.read(state / "parts.json"))
    except procs.StartError as error:
        say(f"the cluster did not come up.\n{error}")
        if keep := os.environ.get("SMTPPROBE_TEST_LOGS"):
            shutil.copytree(state / "log", keep, dirs_exist_ok=True)
        return FAILED
    facts.write(state / "facts.json")
    say(f"ready after {time.monotonic() - began:.1f} s")
    signal.signal(
        signal.SIGINT, lambda *_: None
    )  # Ctrl-C is the command's; a handler, unlike SIG_IGN, is not inherited
    code = subprocess.Popen(command, env=environment(state, facts)).wait()
    if keep := os.environ.get("SMTPPROBE_TEST_LOGS"):
        with contextlib.suppress(shutil.Error):
            shutil.copytree(state / "log", keep, dirs_exist_ok=True)
    return 128 - code if code < 0 else code


def main() -> int:
    """Fork: the parent reaps, the child launches."""
    state = Path(sys.argv[1])
    try:
        cgroups.enter(state.name)
    except (OSError, procs.StartError) as error:
        say(f"no cgroup of our own: {error}")
        return FAILED
    child = os.fork()
    if child:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return reap_all(child)
    return launch(state, sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
