"""The tier of a cluster that somebody gives (TEST_KUBECONFIG): what needs no mail server of the tests' own network.

Everything lives in two namespaces ``smtpprobe-test-…``; the definition, the policies and the grant are removed at the
end. It refuses where the definition exists: it may be somebody's.
"""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CRD = "smtpprobes.smtpprobe.dev"
MARK = uuid.uuid4().hex[:6]
SYSTEM, SHOP = f"smtpprobe-test-{MARK}-system", f"smtpprobe-test-{MARK}-shop"
# Enough of RFC 5321 to be asked: it says which address it sees, and knows one recipient.
SERVER = """
import socketserver
class Session(socketserver.StreamRequestHandler):
    def handle(self):
        say = lambda text: self.wfile.write(text.encode() + b"\\r\\n")
        say("220 mail.shop.test ESMTP")
        for line in self.rfile:
            verb = line.decode().upper()[:4]
            if verb == "EHLO":
                say(f"250-mail.shop.test Hello [{self.client_address[0].removeprefix('::ffff:')}]")
                say("250 SIZE 1000")
            elif verb == "RCPT" and b"nobody" in line:
                say("550 5.1.1 <nobody@shop.test>: Recipient address rejected: User unknown")
            else:
                say("221 2.0.0 Bye" if verb == "QUIT" else "250 2.0.0 Ok")
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(("", 2525), Session).serve_forever()
"""
Run = Callable[..., str]


@pytest.fixture(scope="session")
def run() -> Run:
    """Run kubectl or helm; returns what it printed, a failure fails the test."""

    def command(*arguments: str, stdin: str | None = None, within: float = 180) -> str:
        done = subprocess.run(
            arguments, input=stdin, capture_output=True, text=True, timeout=within, check=False, cwd=ROOT
        )
        assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return command


@pytest.fixture(scope="session")
def operator(run: Run) -> Iterator[str]:
    """The chart, installed for one namespace; gives the operator's. Nothing of it stays."""
    if os.environ.get("SMTPPROBE_TEST_GIVEN") != "1":
        pytest.fail("no cluster was given: run TEST_KUBECONFIG=FILE make test TIERS=given")
    if run("kubectl", "get", "crd", CRD, "--ignore-not-found", "-o", "name"):
        pytest.fail(f"{CRD} exists in this cluster: it and its SmtpProbes may be somebody's. Give another cluster.")
    values = []
    names = os.environ["SMTPPROBE_TEST_IMAGES"].split()
    for prefix, image in zip(("image", "probe.image"), names, strict=True):
        repository, tag = image.rsplit(":", 1)
        values += ["--set", f"{prefix}.repository={repository}", "--set-string", f"{prefix}.tag={tag}"]
    try:
        for name in (SYSTEM, SHOP):
            run("kubectl", "create", "namespace", name)
        place = ("--namespace", SYSTEM, "--set", f"watchNamespaces={{{SHOP}}}")
        run("helm", "install", f"t{MARK}", "charts/smtpprobe-operator", *place, *values, "--wait", "--timeout", "150s")
        run("kubectl", "apply", "-n", SHOP, "-f", "-", stdin=yaml.safe_dump_all(mail_server(names[1])))
        run("kubectl", "wait", "-n", SHOP, "--for=condition=Ready", "pod/mail", "--timeout=120s")
        yield SYSTEM
    finally:
        run("helm", "uninstall", f"t{MARK}", "--namespace", SYSTEM, "--ignore-not-found", "--wait")
        run("kubectl", "delete", "crd", CRD, "--ignore-not-found", "--timeout=60s")
        run("kubectl", "delete", "namespace", SYSTEM, SHOP, "--ignore-not-found", "--timeout=120s")


def mail_server(image: str) -> list[dict[str, object]]:
    """A mail server out of the probe's image, and a Service for it."""
    labels = {"app": "mail"}
    container = {
        "name": "mail",
        "image": image,
        "command": ["python3", "-c", SERVER],
        "readinessProbe": {"tcpSocket": {"port": 2525}, "periodSeconds": 1},
    }
    pod = {"metadata": {"name": "mail", "labels": labels}, "spec": {"containers": [container]}}
    service = {"metadata": {"name": "mail"}, "spec": {"selector": labels, "ports": [{"port": 2525}]}}
    return [{"apiVersion": "v1", "kind": "Pod", **pod}, {"apiVersion": "v1", "kind": "Service", **service}]
