"""Everything that a cluster shows of a namespace and of the operator, and the forms in which a password may hide there."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import urllib.request
from urllib.parse import quote

from hands import operator_log, operator_pod
from k8s import Api, eventually
from shop import Shop

# Not Secrets: that is where passwords belong.
KINDS = (
    "/apis/smtpprobe.dev/v1alpha1/namespaces/{}/smtpprobes",
    "/apis/batch/v1/namespaces/{}/jobs",
    "/api/v1/namespaces/{}/pods",
    "/api/v1/namespaces/{}/configmaps",
    "/api/v1/namespaces/{}/events",
    "/apis/events.k8s.io/v1/namespaces/{}/events",
)


def forms(password: str) -> dict[str, str]:
    """The password as it is, in base64 at its three offsets, URL-encoded and in hex; all in lower case."""
    raw = password.encode()
    found = {"raw": password, "url": quote(password, safe=""), "every byte": "".join(f"%{b:02x}" for b in raw)}
    found["hex"] = raw.hex()
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + raw).decode()
        # Only the characters that the password alone decides.
        found[f"base64 offset {offset}"] = encoded[-(-8 * offset // 6) : 8 * (offset + len(raw)) // 6]
    return {name: form.lower() for name, form in found.items()}


def hits(password: str, texts: dict[str, str]) -> list[tuple[str, str]]:
    """Where the password shows, and in which form."""
    lower = {place: text.lower() for place, text in texts.items()}
    return [(place, name) for place, text in lower.items() for name, form in forms(password).items() if form in text]


def collect(api: Api, shop: Shop, operator: str) -> dict[str, str]:
    """All that a reader may come to see, by place: objects, logs of all pods, metrics, reports."""
    texts = {kind.format("…"): _objects(api, kind, shop.namespace) for kind in KINDS}
    texts |= {f"the operator's {kind}": _objects(api, kind, operator) for kind in KINDS}
    for pod in api.get(f"/api/v1/namespaces/{shop.namespace}/pods").ok()["items"]:
        name = pod["metadata"]["name"]
        texts[f"log of {name}"] = str(api.get(f"/api/v1/namespaces/{shop.namespace}/pods/{name}/log").ok())
    texts["the operator's log"] = operator_log(api, operator)
    texts["the operator's metrics"] = metrics(api, operator)
    for item in api.get(KINDS[0].format(shop.namespace)).ok()["items"]:
        for lang in ("en", "ko"):
            texts[f"report on {item['metadata']['name']} ({lang})"] = report(item, lang)
    return texts


def metrics(api: Api, operator: str) -> str:
    """What the operator tells Prometheus."""
    pod = eventually(lambda: operator_pod(api, operator), within=60, pause=0.2)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{pod['status']['podIP']}:8080/metrics", timeout=10) as reply:
        return str(reply.read().decode())


def report(probe: object, lang: str = "en") -> str:
    """What `smtpprobe explain` makes of a SmtpProbe from the cluster."""
    command = [sys.executable, "-m", "smtpprobe", "explain", "-", "--lang", lang]
    done = subprocess.run(command, input=json.dumps(probe), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _objects(api: Api, kind: str, namespace: str) -> str:
    return json.dumps(api.get(kind.format(namespace)).ok(), ensure_ascii=False)
