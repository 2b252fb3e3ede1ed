"""In a cluster that somebody gave: it installs, probes, tells the truth about what it finds, and goes without a trace."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from conftest import SHOP, Run
from programs import eventually

# The mail server by the address of its Service: the cluster may have no name server of its own.
MAIL = "address of the mail server"
HOST = {"host": MAIL, "port": 2525, "mode": "plain", "heloName": "shop.example.com"}
TO = {"from": "app@shop.test", "to": ["postmaster@other.test"]}
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "passes": (HOST | {"envelope": TO}, "Succeeded"),
    "unknown-recipient": (HOST | {"envelope": TO | {"to": ["nobody@shop.test"]}}, "RecipientRejected"),
    "no-login-offered": (
        HOST | {"credentialsSecretRef": {"name": "smtp"}, "allowPlaintextAuth": True},
        "AuthNotOffered",
    ),
    "no-tls-offered": (HOST | {"mode": "starttls"}, "TlsNotOffered"),
    "plaintext-for-tls": (HOST | {"mode": "smtps"}, "WrongTlsMode"),
    "no-such-name": (HOST | {"host": "no-such-name.invalid"}, "DnsFailure"),
    "closed-port": (HOST | {"host": "127.0.0.1", "port": 1}, "ConnectRefused"),
    "secret-missing": (
        HOST | {"credentialsSecretRef": {"name": "missing"}, "allowPlaintextAuth": True},
        "SecretNotFound",
    ),
    "no-such-node": (HOST | {"location": {"nodeSelector": {"smtpprobe-test": "no-such-node"}}}, "Unschedulable"),
}


def get(run: Run, name: str) -> dict[str, Any]:
    return dict(json.loads(run("kubectl", "get", "smtpprobe", name, "-n", SHOP, "-o", "json")))


def ready(run: Run, name: str, reason: str, seconds: float = 150) -> dict[str, Any]:
    """Wait for a verdict; returns the status."""

    def reached() -> dict[str, Any] | None:
        status = get(run, name).get("status", {})
        found = [c["reason"] for c in status.get("conditions", []) if c["type"] == "Ready"]
        return status if found == [reason] else None

    return eventually(f"{name}: {reason}", reached, seconds)


@pytest.fixture(scope="module")
def applied(operator: str, run: Run) -> None:
    """All cases at once."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "smtp"}}
    documents = [secret | {"stringData": {"username": "app", "password": "secret-9"}}]
    address = run("kubectl", "get", "service", "mail", "-n", SHOP, "-o", "jsonpath={.spec.clusterIP}")
    for name, (spec, _) in CASES.items():
        there = spec | {"host": address if spec["host"] == MAIL else spec["host"]}
        api = {"apiVersion": "smtpprobe.dev/v1alpha1", "kind": "SmtpProbe"}
        documents.append({**api, "metadata": {"name": name}, "spec": there})
    run("kubectl", "apply", "-n", SHOP, "-f", "-", stdin=yaml.safe_dump_all(documents))


@pytest.mark.parametrize("name", CASES)
def test_verdict(name: str, applied: None, run: Run) -> None:
    """Each fault has its own reason in the condition Ready, and the good one passes."""
    status = ready(run, name, CASES[name][1])
    assert "secret-9" not in json.dumps(status)


def test_the_server_names_the_pod(applied: None, run: Run) -> None:
    """The address in the status is the one that the server said it saw; permission follows from the accepted envelope."""
    status = ready(run, "passes", "Succeeded")
    assert status["egress"]["addresses"][0]["ip"]
    assert status["egress"]["verdict"] == "Authorized"


def test_columns_and_wait(applied: None, run: Run) -> None:
    """kubectl wait returns on success, and the columns are the promised ones."""
    run("kubectl", "wait", "--for=condition=Ready", "smtpprobe/passes", "-n", SHOP, "--timeout=100s")
    header = run("kubectl", "get", "smtpprobes", "-n", SHOP).splitlines()[0].split()
    assert header == ["NAME", "READY", "REASON", "HOST", "PORT", "MODE", "EGRESS", "LAST", "AGE"]


def test_it_recovers_when_the_cause_goes(applied: None, run: Run) -> None:
    """Once the missing Secret is there, run-now gives a verdict on the mail path; each run-now value runs once."""
    ready(run, "secret-missing", "SecretNotFound")
    secret = ("--from-literal=username=app", "--from-literal=password=secret-9")
    run("kubectl", "create", "secret", "generic", "missing", "-n", SHOP, *secret)
    run("kubectl", "annotate", "smtpprobe/secret-missing", "-n", SHOP, "smtpprobe.dev/run-now=1")
    status = ready(run, "secret-missing", "AuthNotOffered")
    assert status["lastHandledRunNow"] == "1"
