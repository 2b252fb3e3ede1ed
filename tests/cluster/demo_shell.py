"""`make cluster-demo`: the chart installed, the examples applied against the cluster's mail servers, then a shell.

Without a terminal on standard input it waits for the verdicts, prints what the shell's first command would, and ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cluster_facts
import yaml

ROOT = Path(__file__).resolve().parents[2]
SYSTEM, SHOP = "smtpprobe-system", "shop"
PATIENCE = 150.0
HELLO = """
A real cluster of two nodes, each with its own way out. Postfix, Exim and OpenSMTPD know node-a only.

  kubectl get smtpprobes -n shop -o wide                  what each session came to, and why
  kubectl describe smtpprobe relay-from-node-b -n shop    conditions, advice, events
  kubectl get smtpprobe order-mail -n shop -o yaml > x.yaml; smtpprobe explain x.yaml
  kubectl annotate smtpprobe relay -n shop --overwrite smtpprobe.dev/run-now="$(date +%s)"
  kubectl explain smtpprobe.spec.mode
  kubectl smtpprobe check postfix.test:465 --ca "$CA" --mode smtps

`exit` ends the shell, and the cluster with it.
"""


def main() -> int:
    """Set the stage; returns 1 where verdicts did not come."""
    facts = cluster_facts.load()
    assert facts.kubernetes is not None
    assert facts.mail is not None
    environment = os.environ | {
        "KUBECONFIG": facts.kubernetes.kubeconfigs["admin"],
        "PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}",
        "CA": facts.ca_file,
    }

    def run(*command: str, stdin: str | None = None) -> str:
        done = subprocess.run(
            command, input=stdin, text=True, capture_output=True, env=environment, cwd=ROOT, check=False
        )
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        return done.stdout

    print("… installing the chart and applying the examples", file=sys.stderr, flush=True)
    run("helm", "upgrade", "--install", "smtpprobe", "charts/smtpprobe-operator", *_values(facts))
    run("kubectl", "apply", "-f", "-", stdin=yaml.safe_dump_all(stage(facts)))
    if sys.stdin.isatty():
        print(HELLO, flush=True)
        shell = ["bash", "--norc", "-i"]
        subprocess.run(
            shell, env=environment | {"PS1": "cluster-demo$ "}, check=False
        )  # its code is the last command's
        return 0
    deadline = time.monotonic() + PATIENCE
    while waiting := _unanswered(yaml.safe_load(run("kubectl", "get", "smtpprobes", "-n", SHOP, "-o", "yaml"))):
        if time.monotonic() > deadline:
            print(f"no answer within {PATIENCE:g} s: {', '.join(waiting)}", file=sys.stderr)
            break
        time.sleep(1)
    print(run("kubectl", "get", "smtpprobes", "-n", SHOP, "-o", "wide"), end="")
    return 1 if waiting else 0


def stage(facts: cluster_facts.Facts) -> list[dict[str, Any]]:
    """Return the examples with hosts, accounts and CA of this cluster; everything else stays as it is in examples/."""
    documents: list[dict[str, Any]] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SHOP}}]
    for file in sorted((ROOT / "examples").glob("*.yaml")):
        documents += [document for document in yaml.safe_load_all(file.read_text()) if document]
    ca = Path(facts.ca_file).read_text()
    by_name = {(document["kind"], document["metadata"]["name"]): document for document in documents}
    by_name["ConfigMap", "corp-ca"]["data"]["ca.crt"] = ca
    _login(by_name["Secret", "order-mail-smtp"], facts, "user01@corp.test")
    by_name["Secret", "order-mail-smtp"]["stringData"]["allowedHosts"] = "postfix.test"
    _login(by_name["Secret", "invoice-mail-smtp"], facts, "user02@corp.test")
    _login(by_name["Secret", "newsletter-smtp"], facts, "user03@corp.test")
    by_name["Secret", "newsletter-smtp"]["stringData"]["allowedHosts"] = "postfix.test"
    _login(by_name["Secret", "ses-mail-smtp"], facts, "user24@corp.test")
    # The bare name stays, as in the example: the server wants sender@corp.test.
    _login(by_name["Secret", "legacy-smtp"], facts, "sender@corp.test", shown="sender")
    services = {
        "order-mail": "submission",
        "invoice-mail": "submissions",
        "office-hours": "submission",
        "newsletter": "submission",
        "legacy": "plain-auth",
        "ses-mail": "submission",
        "relay": "exim",
        "relay-from-worker-3": "exim",
    }
    trust = {"caRef": {"kind": "ConfigMap", "name": "corp-ca"}}
    for name, service in services.items():
        assert facts.mail is not None
        spec = by_name["SmtpProbe", name]["spec"]
        spec |= {"host": facts.mail.services[service].host, "port": facts.mail.services[service].port}
        if spec["mode"] == "auto":
            del spec["port"]  # to be found
        if spec["mode"] != "plain":
            spec["tls"] = trust
        if "envelope" in spec:
            outside = "corp.test" if "credentialsSecretRef" in spec else "outside.test"
            spec["envelope"] = {"from": "noreply@corp.test", "to": [f"postmaster@{outside}"]}
    relay = by_name["SmtpProbe", "relay"]["spec"]
    relay["egress"] = {"expectedCIDRs": ["10.200.0.11/32"]}
    relay["location"] = {"nodeSelector": {"kubernetes.io/hostname": "node-a"}}
    pinned = by_name["SmtpProbe", "relay-from-worker-3"]
    pinned["metadata"]["name"] = "relay-from-node-b"
    pinned["spec"]["location"]["nodeSelector"] = {"kubernetes.io/hostname": "node-b"}
    return documents


def _login(secret: dict[str, Any], facts: cluster_facts.Facts, user: str, shown: str = "") -> None:
    """Put a user of the mail servers under the keys that the example has: first the name, then the password."""
    assert facts.mail is not None
    username, password, *_ = secret["stringData"]
    secret["stringData"] |= {username: shown or user, password: facts.mail.users[user]}


def _values(facts: cluster_facts.Facts) -> list[str]:
    values = ["--namespace", SYSTEM, "--create-namespace", "--wait", "--timeout", "120s"]
    for prefix, image in (("image", facts.images["operator"]), ("probe.image", facts.images["probe"])):
        repository, tag = image.rsplit(":", 1)
        values += ["--set", f"{prefix}.repository={repository},{prefix}.pullPolicy=Never"]
        values += ["--set-string", f"{prefix}.tag={tag}"]
    return values


def _unanswered(found: dict[str, Any]) -> list[str]:
    names = []
    for probe in found["items"]:
        conditions = probe.get("status", {}).get("conditions", [])
        ready = next((known for known in conditions if known["type"] == "Ready"), None)
        if ready is None or ready["reason"] in {"Running", "Pending"}:
            names.append(probe["metadata"]["name"])
    return names


if __name__ == "__main__":
    sys.exit(main())
