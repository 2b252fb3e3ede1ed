"""A namespace as an application's developers use it: Secrets, SmtpProbes, and waiting for what they say."""

from __future__ import annotations

from typing import Any

from cluster_facts import Facts
from k8s import Api, eventually, probes

PATIENCE = 90.0


class Shop:
    """One namespace of the tests' cluster."""

    def __init__(self, api: Api, facts: Facts, namespace: str) -> None:
        self.api, self.facts, self.namespace = api, facts, namespace

    def secret(self, name: str, username: str, password: str, **more: str) -> None:
        """Create or replace a Secret with a login."""
        path = f"/api/v1/namespaces/{self.namespace}/secrets/{name}"
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": self.namespace}}
        self.api.apply(
            path, body | {"stringData": {"username": username, "password": password, **more}}, force="true"
        ).ok()

    def login(self, user: str) -> str:
        """Create the Secret of one of the mail servers' users; returns its name."""
        assert self.facts.mail
        name = user.split("@", maxsplit=1)[0]
        self.secret(name, user, self.facts.mail.users[user])
        return name

    def config_map(self, name: str, data: dict[str, str]) -> None:
        """Create or replace a ConfigMap."""
        path = f"/api/v1/namespaces/{self.namespace}/configmaps/{name}"
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": self.namespace}}
        self.api.apply(path, body | {"data": data}, force="true").ok()

    def probe(self, name: str, service: str, mode: str, **spec: Any) -> None:
        """Apply a SmtpProbe for one of the mail services, with the tests' CA where TLS comes in."""
        assert self.facts.mail
        target = self.facts.mail.services[service]
        tls = {} if mode == "plain" else {"tls": {"caRef": {"kind": "ConfigMap", "name": "ca"}}}
        self.apply(
            name, {"host": target.host, "port": target.port, "mode": mode, "heloName": "shop.corp.test"} | tls | spec
        )

    def apply(self, name: str, spec: dict[str, Any]) -> None:
        """Apply a SmtpProbe with this spec as it is."""
        body = {"apiVersion": "smtpprobe.dev/v1alpha1", "kind": "SmtpProbe", "metadata": {"name": name}, "spec": spec}
        self.api.apply(probes(self.namespace, name), body, force="true").ok()

    def get(self, name: str) -> dict[str, Any]:
        """The SmtpProbe as the API server has it."""
        return dict(self.api.get(probes(self.namespace, name)).ok())

    def judged(self, name: str, *, within: float = PATIENCE) -> dict[str, Any]:
        """Wait for the verdict on the spec as it is now; returns the status."""

        def verdict() -> dict[str, Any] | None:
            probe = self.get(name)
            status: dict[str, Any] = probe["status"]
            ready = next((c for c in status.get("conditions", ()) if c["type"] == "Ready"), None)
            current = status["observedGeneration"] == probe["metadata"]["generation"]
            settled = ready and ready["reason"] not in {"Running", "Pending"}
            return status if current and settled else None

        return eventually(verdict, within=within, pause=0.3)

    def becomes(self, name: str, reason: str, *, within: float = PATIENCE) -> dict[str, Any]:
        """Wait until Ready has this reason; returns the status."""

        def reached() -> dict[str, Any] | None:
            status: dict[str, Any] = self.get(name)["status"]
            ready = next((c for c in status.get("conditions", ()) if c["type"] == "Ready"), None)
            return status if ready and ready["reason"] == reason else None

        return eventually(reached, within=within, pause=0.3)

    def ask(self, name: str, value: str) -> None:
        """Ask for one run now."""
        patch = {"metadata": {"annotations": {"smtpprobe.dev/run-now": value}}}
        self.api.patch(probes(self.namespace, name), patch).ok()

    def run_now(self, name: str, value: str) -> dict[str, Any]:
        """Ask for one run and wait for it; returns the status."""
        self.ask(name, value)

        def handled() -> dict[str, Any] | None:
            status: dict[str, Any] = self.get(name)["status"]
            return status if status.get("lastHandledRunNow") == value else None

        return eventually(handled, within=PATIENCE, pause=0.3)

    def events(self, name: str) -> list[dict[str, Any]]:
        """The events about a SmtpProbe."""
        path = f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events"
        items = self.api.get(path).ok()["items"]
        return [e for e in items if e["regarding"]["kind"] == "SmtpProbe" and e["regarding"]["name"] == name]
