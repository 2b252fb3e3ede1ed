"""A small client of the real API server for tests: JSON in, JSON out, on one connection; every answer is data."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlencode, urlsplit

import yaml

T = TypeVar("T")
PROBES = "/apis/smtpprobe.dev/v1alpha1"
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Answer:
    """An HTTP answer of the API server; `warnings` are its Warning headers."""

    status: int
    body: Any
    warnings: tuple[str, ...] = ()

    @property
    def causes(self) -> list[dict[str, str]]:
        """The field errors of a refusal: dicts of reason, message, field."""
        return (self.body.get("details") or {}).get("causes") or []

    def ok(self) -> Any:
        """The body of an answer that had to succeed."""
        assert self.status < 300, f"{self.status}: {self.body}"
        return self.body


class Api:
    """One user's way to the API server."""

    def __init__(self, url: str, ca: str, token: str) -> None:
        self.url, self._token = url, token
        parts = urlsplit(url)
        context = ssl.create_default_context(cadata=ca)
        self._connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, context=context, timeout=30)

    @classmethod
    def from_kubeconfig(cls, path: str | Path) -> Self:
        """Read url, CA and token of the first cluster and user in a kubeconfig."""
        config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        if "certificate-authority" in cluster:
            ca = Path(cluster["certificate-authority"]).read_text(encoding="utf-8")
        else:
            ca = base64.b64decode(cluster["certificate-authority-data"]).decode()
        return cls(cluster["server"], ca, user["token"])

    def call(
        self, method: str, path: str, body: object = None, content_type: str = "application/json", **query: str
    ) -> Answer:
        """Send one request; a closed connection is opened once again."""
        target = f"{path}?{urlencode(query)}" if query else path
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json", "Content-Type": content_type}
        data = None if body is None else json.dumps(body).encode()
        for last in (False, True):
            try:
                self._connection.request(method, target, data, headers)
                response = self._connection.getresponse()
                text = response.read()
                break
            except (http.client.RemoteDisconnected, ConnectionError, ssl.SSLEOFError):
                self._connection.close()
                if last:
                    raise
        try:
            parsed = json.loads(text)
        except ValueError:
            parsed = text.decode(errors="replace")
        return Answer(response.status, parsed, tuple(response.headers.get_all("Warning") or ()))

    def get(self, path: str, **query: str) -> Answer:
        return self.call("GET", path, **query)

    def post(self, path: str, body: object, **query: str) -> Answer:
        return self.call("POST", path, body, **query)

    def patch(self, path: str, body: object, content_type: str = MERGE_PATCH, **query: str) -> Answer:
        return self.call("PATCH", path, body, content_type, **query)

    def apply(self, path: str, body: object, manager: str = "tests", **query: str) -> Answer:
        """Server-side apply."""
        return self.call("PATCH", path, body, APPLY_PATCH, fieldManager=manager, **query)

    def delete(self, path: str, **query: str) -> Answer:
        return self.call("DELETE", path, **query)

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def namespace(self, name: str) -> Iterator[str]:
        """A namespace that is asked to go away in the end (nobody waits for it)."""
        self.post("/api/v1/namespaces", {"metadata": {"name": name}}).ok()
        try:
            yield name
        finally:
            self.delete(f"/api/v1/namespaces/{name}")

    def install_crd(self) -> None:
        """Apply the project's CRD and wait until it is served."""
        crd = yaml.safe_load((ROOT / "crds" / "smtpprobes.yaml").read_text(encoding="utf-8"))
        path = f"{CRD}/{crd['metadata']['name']}"
        self.apply(path, crd, force="true").ok()
        eventually(lambda: _established(self.get(path)) and self.get(f"{PROBES}/smtpprobes").status == 200)


def _established(answer: Answer) -> bool:
    conditions = (answer.body.get("status") or {}).get("conditions") or []
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


def probes(namespace: str, name: str = "", subresource: str = "") -> str:
    """The path of SmtpProbes in a namespace, of one of them, of its status."""
    parts = [f"{PROBES}/namespaces/{namespace}/smtpprobes", name, subresource]
    return "/".join(part for part in parts if part)


def eventually(condition: Callable[[], T], *, within: float = 15.0, pause: float = 0.05) -> T:
    """Wait until a condition gives something true, and return that; fail loudly after `within` seconds."""
    deadline = time.monotonic() + within
    while not (found := condition()):
        assert time.monotonic() < deadline, f"still {found!r} after {within} s"
        time.sleep(pause)
    return found
