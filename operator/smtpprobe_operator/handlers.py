"""kopf at the edge: two watches into plain functions. The only file that imports it.

Low-level event handlers only: kopf then writes nothing, no finalizer and no annotation, and a restart forgets nothing.
"""

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import kopf

from smtpprobe.resource import GROUP, PLURAL, VERSION
from smtpprobe_operator.jobs import SELECTOR
from smtpprobe_operator.settings import Settings

FINISHED_PODS = "status.phase!=Pending,status.phase!=Running"
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
LOGIN_LIFETIME = timedelta(minutes=30)
Seen = Callable[[dict[str, Any], bool], None]


def build(on_probe: Seen, on_pod: Seen) -> kopf.OperatorRegistry:
    """Register the two watches: each event is a raw body and whether it tells of a deletion."""
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(login)

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def probe_event(event: kopf.RawEvent, **_: Any) -> None:
        on_probe(dict(event["object"]), event["type"] == "DELETED")

    @kopf.on.event("", "v1", "pods", registry=registry)
    async def pod_event(event: kopf.RawEvent, **_: Any) -> None:
        on_pod(dict(event["object"]), event["type"] == "DELETED")

    return registry


def login(settings: kopf.OperatorSettings, **kwargs: Any) -> kopf.ConnectionInfo | None:
    """Log in as the pod's service account, read anew before its token expires, else as KUBECONFIG says."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or os.environ.get("KUBECONFIG"):
        return kopf.login_with_kubeconfig(settings=settings, **kwargs)
    return kopf.ConnectionInfo(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        ca_path=str(SERVICE_ACCOUNT / "ca.crt"),
        token=(SERVICE_ACCOUNT / "token").read_text(encoding="utf-8").strip(),
        expiration=datetime.now(UTC) + LOGIN_LIFETIME,
    )


def tune() -> kopf.OperatorSettings:
    """Return kopf's settings: what is watched is filtered by the server, what dies silently is noticed."""
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.queueing.idle_timeout = 0.2
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 10
    settings.watching.chunk_size = 500
    settings.watching.label_selectors["v1/pods"] = SELECTOR
    settings.watching.field_selectors["v1/pods"] = FINISHED_PODS
    settings.networking.request_timeout = 15
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = (1, 2, 5)
    settings.networking.enforce_retry_after = True
    return settings


async def watch(settings: Settings, on_probe: Seen, on_pod: Seen, *, ready: asyncio.Event | None = None) -> None:
    """Watch until a signal ends the process or kopf gives up."""
    await kopf.operator(
        registry=build(on_probe, on_pod),
        settings=tune(),
        clusterwide=not settings.watch_namespaces,
        namespaces=settings.watch_namespaces,
        ready_flag=ready,
        # kopf's own default asks for the name of the user, which the user 65532 of a container has not got.
        identity=cast("Any", "smtpprobe-operator"),
    )
