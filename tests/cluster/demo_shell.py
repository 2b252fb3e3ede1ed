"""A shell in the test cluster with the chart installed and the examples applied, on the mail servers that are here.

Run by `make cluster-demo`, inside launch.py --nodes 2 --mail --prometheus.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cluster_facts
import yaml

ROOT = Path(__file__).parents[2]
SYSTEM = "smtpprobe-system"
USER = "sender@corp.test"
HOST = "postfix.test"
RESULTS_SECONDS = 90

WORDS = """
You are inside a real two-node cluster that ends with this shell. Try:
  kubectl get smtpprobes -n shop                         the truth in one line each
  kubectl describe smtpprobe relay-from-worker-3 -n shop node-b's address is not registered: whom to ask for what
  kubectl annotate smtpprobe legacy -n shop smtpprobe.dev/run-now=$RANDOM --overwrite
  kubectl logs -n shop --selector smtpprobe.dev/probe --tail=-1      what was said on the wire
  .venv/bin/smtpprobe check postfix.test:587             the same from here
Mail servers: postfix.test (25, 465, 587, …), exim.test, opensmtpd.test; users and ports: $SMTPPROBE_TEST_CLUSTER
"""


def run(*argv: str, stdin: str = "") -> str:
    """Run a program; stop with its own words when it fails."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        sys.exit(f"{' '.join(argv[:4])}: {done.stderr or done.stdout}")
    return done.stdout


def install(facts: cluster_facts.Facts) -> None:
    """The chart, with the images of this checkout."""
    values = []
    for prefix, image in (("image", facts.images["operator"]), ("probe.image", facts.images["probe"])):
        repository, tag = image.rsplit(":", 1)
        values += ["--set", f"{prefix}.repository={repository},{prefix}.tag={tag},{prefix}.pullPolicy=Never"]
    where = ["--namespace", SYSTEM, "--create-namespace", "--wait", "--timeout", "120s"]
    run("helm", "upgrade", "--install", "smtpprobe", "charts/smtpprobe-operator", *where, *values)


def adapted(document: dict[str, Any], password: str) -> dict[str, Any]:
    """An example as its reader would fill it in here: our hosts, users, authority and node names in place of theirs."""
    if document["kind"] == "Secret":
        for key, value in document["stringData"].items():
            if value == "CHANGE-ME":
                document["stringData"][key] = password
            elif key == "allowedHosts":
                document["stringData"][key] = HOST
            elif "@" in value:
                document["stringData"][key] = USER  # `sender` alone stays: the mistake that everybody makes
    if document["kind"] == "SmtpProbe":
        spec = document["spec"]
        spec["host"] = HOST
        if document["metadata"]["name"] == "legacy":
            spec["port"] = 2525
        if spec["mode"] in {"starttls", "smtps"}:
            spec["tls"] = {"caRef": {"kind": "ConfigMap", "name": "ca", "key": "ca.crt"}}
        if "envelope" in spec:
            spec["envelope"]["to"] = ["somebody@outside.test"]
            node = "node-b" if "location" in spec else "node-a"
            spec["location"] = {"nodeSelector": {"kubernetes.io/hostname": node}}
    return document


def apply(facts: cluster_facts.Facts) -> int:
    """Apply all examples in namespace `shop`; return how many probes they are."""
    assert facts.mail is not None
    run("kubectl", "create", "namespace", "shop")
    run("kubectl", "create", "configmap", "ca", "--namespace=shop", f"--from-file=ca.crt={facts.ca_file}")
    documents = [
        adapted(document, facts.mail.users[USER])
        for path in sorted((ROOT / "examples").glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
        if document
    ]
    run("kubectl", "apply", "--filename=-", stdin=yaml.safe_dump_all(documents))
    return sum(document["kind"] == "SmtpProbe" for document in documents)


def wait_for_results(count: int) -> None:
    """Wait until every probe has a first result, or say that one takes longer."""
    deadline = time.monotonic() + RESULTS_SECONDS
    query = ["kubectl", "get", "smtpprobes", "--namespace=shop", "--output=jsonpath={.items[*].status.lastRunTime}"]
    while len(run(*query).split()) < count and time.monotonic() < deadline:
        time.sleep(0.5)


def main() -> None:
    """Install, apply, show, and become a shell."""
    facts = cluster_facts.load()
    print("Installing the chart …", file=sys.stderr)
    install(facts)
    print("Applying the examples …", file=sys.stderr)
    wait_for_results(apply(facts))
    print(run("kubectl", "get", "smtpprobes", "--namespace=shop"))
    print(WORDS, flush=True)
    subprocess.run(["bash", "--norc", "-i"], check=False)  # how the last command in it ended is nobody's failure


if __name__ == "__main__":
    main()
