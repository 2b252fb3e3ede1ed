"""What the installation decides: environment variables ``SMTPPROBE_*`` as one value.

The chart sets them; every one has a default except the probe's image, which nothing can guess.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

PREFIX = "SMTPPROBE_"

# Pods that a service mesh wraps show the mesh's egress address, not the application's: off unless somebody asks.
MESH_OFF_LABELS: dict[str, str] = {"sidecar.istio.io/inject": "false", "istio.io/dataplane-mode": "none"}
MESH_OFF_ANNOTATIONS: dict[str, str] = {"sidecar.istio.io/inject": "false", "linkerd.io/inject": "disabled"}


class SettingsError(Exception):
    """One sentence naming the variable and what to write in it."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one operator; times in seconds. An empty ``watch_namespaces`` means all namespaces."""

    probe_image: str
    probe_image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    probe_image_pull_secrets: tuple[str, ...] = ()
    probe_cpu_request: str = "10m"
    probe_memory_request: str = "48Mi"
    probe_memory_limit: str = "96Mi"
    probe_pod_labels: dict[str, str] = msgspec.field(default_factory=lambda: dict(MESH_OFF_LABELS))
    probe_pod_annotations: dict[str, str] = msgspec.field(default_factory=lambda: dict(MESH_OFF_ANNOTATIONS))
    helo_name: str | None = None
    max_runs: int = 50
    max_runs_per_host: int = 2
    jobs_per_second: float = 1.0
    jobs_burst: int = 5
    ttl_seconds: int = 3600
    resync_seconds: float = 60.0
    watch_grace_seconds: float = 45.0
    http_port: int = 8080
    watch_namespaces: tuple[str, ...] = ()
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


_BOUNDS: dict[str, tuple[float, float]] = {
    "max_runs": (1, 1000),
    "max_runs_per_host": (1, 100),
    "jobs_per_second": (0.01, 50),
    "jobs_burst": (1, 100),
    "ttl_seconds": (60, 604_800),
    "resync_seconds": (1, 3600),
    "watch_grace_seconds": (1, 3600),
    "http_port": (0, 65535),
}


def from_environment(environ: Mapping[str, str]) -> Settings:
    """Read the settings; raises ``SettingsError``. Empty variables count as not set, port 0 takes any free port."""
    raw: dict[str, Any] = {}
    for info in msgspec.structs.fields(Settings):
        variable = PREFIX + info.name.upper()
        text = environ.get(variable, "").strip()
        if text:
            raw[info.name] = _value(variable, text, info.name)
    if "probe_image" not in raw:
        raise SettingsError(f"Set {PREFIX}PROBE_IMAGE to the image built by: docker build --target probe .")
    try:
        settings = msgspec.convert(raw, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{PREFIX}…: {error}") from error
    for name, (low, high) in _BOUNDS.items():
        if not low <= getattr(settings, name) <= high:
            raise SettingsError(f"{PREFIX}{name.upper()} must be between {low:g} and {high:g}.")
    return settings


def _value(variable: str, text: str, name: str) -> Any:
    if name in {"probe_pod_labels", "probe_pod_annotations"}:
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise SettingsError(f'{variable} must be a JSON object of strings such as {{"a": "b"}}: {error}') from error
    if name in {"probe_image_pull_secrets", "watch_namespaces"}:
        return tuple(part for part in text.replace(",", " ").split() if part)
    return text.upper() if name == "log_level" else text
