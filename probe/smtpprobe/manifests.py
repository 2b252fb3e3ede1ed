"""I/O: read SmtpProbe manifests from YAML files and lay their Secrets out as the kubelet would.

For ``smtpprobe try`` and ``smtpprobe-operator local``: no cluster is asked, a Secret must stand in the same files.
"""

import base64
import binascii
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from smtpprobe.resource import GROUP, VERSION


class ManifestError(Exception):
    """A file that cannot be used; the text names the file and what to write instead."""


class Manifest(NamedTuple):
    """One SmtpProbe as somebody wrote it; ``raw`` is the whole object."""

    path: Path
    namespace: str
    name: str
    raw: dict[str, Any]


class Bundle(NamedTuple):
    """What a set of files holds; data is keyed by (kind, namespace, name) and already decoded."""

    probes: tuple[Manifest, ...]
    data: dict[tuple[str, str, str], dict[str, bytes]]


def read(paths: Iterable[Path]) -> Bundle:
    """Read SmtpProbe, Secret and ConfigMap documents of YAML files.

    Raises ManifestError for a file that is no YAML, holds no mapping, or has a Secret that is not base64.
    """
    probes: list[Manifest] = []
    data: dict[tuple[str, str, str], dict[str, bytes]] = {}
    for path in paths:
        for document in _documents(path):
            kind, api = document.get("kind"), document.get("apiVersion")
            metadata = document.get("metadata")
            if not isinstance(metadata, dict) or not metadata.get("name"):
                raise ManifestError(f"{path}: a document of kind {kind} has no metadata.name: write one")
            namespace, name = str(metadata.get("namespace", "default")), str(metadata["name"])
            if kind == "SmtpProbe":
                if api != f"{GROUP}/{VERSION}":
                    raise ManifestError(f"{path}: {name}: apiVersion is {api}: write {GROUP}/{VERSION}")
                probes.append(Manifest(path, namespace, name, document))
            elif kind in {"Secret", "ConfigMap"}:
                data[(kind, namespace, name)] = _decoded(path, document)
    return Bundle(tuple(probes), data)


def _documents(path: Path) -> Iterator[dict[str, Any]]:
    try:
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}") from None
    for document in documents:
        if document is None:
            continue
        if not isinstance(document, dict):
            raise ManifestError(f"{path}: a document is no mapping: write apiVersion, kind, metadata and spec")
        yield document


def _decoded(path: Path, document: dict[str, Any]) -> dict[str, bytes]:
    name = document["metadata"]["name"]
    encoded = document.get("binaryData" if document["kind"] == "ConfigMap" else "data") or {}
    plain = document.get("data" if document["kind"] == "ConfigMap" else "stringData") or {}
    try:
        values = {str(key): base64.b64decode(str(value), validate=True) for key, value in encoded.items()}
    except (binascii.Error, ValueError):
        raise ManifestError(
            f"{path}: Secret {name}: a value under data is not base64: encode it, or put it under stringData"
        ) from None
    return values | {str(key): str(value).encode() for key, value in plain.items()}


def mount(data: dict[str, bytes] | None, folder: Path) -> Path:
    """Write one file a key into ``folder``, as the kubelet mounts an optional volume: no data, an empty folder."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for stale in folder.iterdir():
        stale.unlink()
    for key, value in (data or {}).items():
        if key != Path(key).name:
            raise ManifestError(f"key {key!r} cannot be a file name: rename it")
        with os.fdopen(os.open(folder / key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(value)
    return folder
