"""The test cluster is what the other end-to-end tests take it for: two nodes, two egress addresses, real mail servers."""

import base64
import json
import os
import smtplib
import subprocess
import time
import urllib.request
from pathlib import Path

import cluster_facts
import pytest

# Runs in a pod on each node and prints one JSON object: what this node's pods can do.
PROBE = """
import json
import os
import smtplib
import socket
import ssl
import urllib.request
login = json.loads(os.environ["LOGIN"])
context = ssl.create_default_context(cadata=os.environ["CA"])
seen = {"uid": os.getuid(), "address": socket.gethostbyname("mail.corp.test")}
with smtplib.SMTP("exim.test", 25) as exim:
    seen["exim"] = exim.ehlo("pod.test")[1].decode().splitlines()[0]
with smtplib.SMTP("opensmtpd.test", 25) as opensmtpd:
    seen["opensmtpd"] = opensmtpd.ehlo("pod.test")[1].decode().splitlines()[0]
for host in ("postfix.test", "exim.test", "opensmtpd.test"):
    with smtplib.SMTP(host, 25) as relay:
        relay.ehlo("pod.test")
        relay.mail("noreply@shop.test")
        seen["relay " + host] = relay.rcpt("somebody@outside.test")[0]
with smtplib.SMTP("postfix.test", 587) as submission:
    submission.starttls(context=context)
    seen["587"] = submission.login(*login)[0]
with smtplib.SMTP_SSL("postfix.test", 465, context=context) as submission:
    seen["465"] = submission.login(*login)[0]
with smtplib.SMTP("postfix.test", 2525) as submission:
    seen["2525"] = submission.login(*login)[0]
for name in ("silent-dns.test", "no-such-name.test"):
    try:
        seen[name] = socket.gethostbyname(name)
    except OSError as error:
        seen[name] = error.errno
ca = ssl.create_default_context(cafile="/var/run/secrets/kubernetes.io/serviceaccount/ca.crt")
seen["api"] = urllib.request.urlopen("https://%s/version" % os.environ["KUBERNETES_SERVICE_HOST"], context=ca).status
print(json.dumps(seen))
"""
EAI_AGAIN, EAI_NONAME = -3, -2


def kubectl(*argv: str, stdin: str = "") -> str:
    """Run kubectl against the cluster of this process and return its stdout."""
    done = subprocess.run(["kubectl", *argv], input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def job(node: str, image: str, user: str, password: str, ca_file: str) -> dict[str, object]:
    """A Job that runs PROBE on this node, as strict as the operator's own."""
    env = {"LOGIN": json.dumps([user, password]), "CA": Path(ca_file).read_text()}
    container = {
        "name": "probe",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", PROBE],
        "env": [{"name": name, "value": value} for name, value in env.items()],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    pod = {
        "restartPolicy": "Never",
        "nodeSelector": {"kubernetes.io/hostname": node},
        "dnsConfig": {"options": [{"name": "timeout", "value": "1"}, {"name": "attempts", "value": "1"}]},
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"itself-{node}"},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }


def end(name: str) -> str:
    """Wait until the Job has ended and say how: Complete or Failed."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        status = json.loads(kubectl("get", "job", "-n", "itself", name, "--output=json")).get("status", {})
        ends = [item["type"] for item in status.get("conditions", []) if item["type"] in {"Complete", "Failed"}]
        if ends:
            return str(ends[0])
        time.sleep(0.1)
    return "still running"


@pytest.fixture(scope="module")
def facts() -> cluster_facts.Facts:
    """The facts of the cluster that this run lives in."""
    return cluster_facts.load()


@pytest.fixture(scope="module")
def seen(facts):
    """What a pod on each node saw, by node name."""
    assert facts.mail is not None
    kubectl("create", "namespace", "itself")
    user = "user60@corp.test"
    for node in facts.nodes:
        manifest = job(node.name, facts.images["probe"], user, facts.mail.users[user], facts.ca_file)
        kubectl("apply", "-n", "itself", "-f", "-", stdin=json.dumps(manifest))
    ended = {node.name: end(f"itself-{node.name}") for node in facts.nodes}
    assert ended == {node.name: "Complete" for node in facts.nodes}, kubectl(
        "logs", "-n", "itself", "--prefix", "--selector=batch.kubernetes.io/job-name"
    )
    yield {node.name: json.loads(kubectl("logs", "-n", "itself", f"job/itself-{node.name}")) for node in facts.nodes}
    kubectl("delete", "namespace", "itself", "--wait=false")


def test_pods_of_each_node_leave_with_that_node_s_address(facts, seen):
    """Exim and OpenSMTPD see each node's own address, and the two differ."""
    for node in facts.nodes:
        assert f"[{node.address}]" in seen[node.name]["exim"]
        assert f"[{node.address}]" in seen[node.name]["opensmtpd"]
    assert len({node.address for node in facts.nodes}) == len({node.zone for node in facts.nodes}) == 2


@pytest.mark.parametrize("host", ["postfix.test", "exim.test", "opensmtpd.test"])
def test_relay_is_open_to_node_a_alone(seen, host):
    """Without login every server relays for node-a and refuses node-b."""
    assert seen["node-a"][f"relay {host}"] == 250
    assert seen["node-b"][f"relay {host}"] in {550, 554}


@pytest.mark.parametrize("port", ["587", "465", "2525"])
def test_a_login_from_a_pod_works(seen, port):
    """STARTTLS, implicit TLS and the port without TLS take the same user's password."""
    assert [seen[node][port] for node in ("node-a", "node-b")] == [235, 235]


def test_dovecot_s_log_counts_the_logins(facts, seen):
    """Three logins on each of two nodes are six in the log, and none was refused."""
    assert seen
    assert facts.mail.logins("user60@corp.test") == cluster_facts.Logins(accepted=6, refused=0)


def test_a_bare_user_name_is_refused(facts):
    """Dovecot refuses `sender` and takes `sender@corp.test`, and the log tells both apart."""
    service = facts.mail.services["plain-auth"]
    mark = facts.mail.mark()
    with smtplib.SMTP(service.address, service.port) as session:
        session.ehlo("tests.test")
        response = base64.b64encode(f"\0sender\0{facts.mail.users['sender@corp.test']}".encode()).decode()
        code, text = session.docmd("AUTH PLAIN", response)
    assert (code, text[:5]) == (535, b"5.7.8")
    assert facts.mail.logins("sender", since=mark) == cluster_facts.Logins(accepted=0, refused=1)


def test_names_resolve_in_a_pod(facts, seen):
    """A name of the zone resolves, an unknown one is refused at once, a silent one runs into the resolver's limit."""
    for node in facts.nodes:
        assert seen[node.name]["address"] == facts.mail.services["relay"].address
        assert seen[node.name]["no-such-name.test"] == EAI_NONAME
        assert seen[node.name]["silent-dns.test"] == EAI_AGAIN


def test_pods_run_without_root_and_reach_the_api(seen):
    """The probe image runs as 65532, and the API server answers a pod at its Service with a certificate that verifies."""
    assert [(seen[node]["uid"], seen[node]["api"]) for node in ("node-a", "node-b")] == [(65532, 200)] * 2


def test_the_users_without_rights_have_none(facts):
    """alice and bob may not read Secrets; the admin may."""
    for user, answer in (("alice", "no"), ("bob", "no"), ("admin", "yes")):
        env = dict(os.environ) | {"KUBECONFIG": facts.kubernetes.kubeconfigs[user]}
        asked = subprocess.run(
            ["kubectl", "auth", "can-i", "get", "secrets"], env=env, capture_output=True, text=True, check=False
        )
        assert asked.stdout.strip() == answer


def test_prometheus_takes_new_rules(facts):
    """A rule file written by a test is loaded by a reload."""
    assert facts.prometheus, "launch the e2e tier with --prometheus"
    rule = {"groups": [{"name": "itself", "rules": [{"record": "itself", "expr": "1"}]}]}
    path = Path(facts.prometheus.rules_folder) / "itself.yml"
    path.write_text(json.dumps(rule))
    request = urllib.request.Request(f"{facts.prometheus.url}/-/reload", method="POST")
    with urllib.request.urlopen(request) as reply:
        assert reply.status == 200
    with urllib.request.urlopen(f"{facts.prometheus.url}/api/v1/rules") as reply:
        assert [group["name"] for group in json.load(reply)["data"]["groups"]] == ["itself"]
    path.unlink()
