"""I/O: read SmtpProbe manifests from YAML files and lay their Secrets out as the kubelet would.

For ``smtpprobe try`` and ``smtpprobe-operator local``: no cluster is asked, a Secret must stand in the same files.
"""

import base64
import binascii
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from smtpprobe.resource import GROUP, VERSION

_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


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
    """Read SmtpProbe, Secret and ConfigMap documents of YAML files; lists of them too (``kubectl get -o yaml``).

    Raises ManifestError for a file that is no YAML, holds no mapping, has a Secret that is not base64, or a name that
    no API server would take.
    """
    probes: list[Manifest] = []
    data: dict[tuple[str, str, str], dict[str, bytes]] = {}
    for path in paths:
        for document in _documents(path):
            kind, api = document.get("kind"), document.get("apiVersion")
            namespace, name = _place(path, document)
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
        items = document.get("items") if document.get("kind") == "List" else None
        yield from items if isinstance(items, list) and all(isinstance(item, dict) for item in items) else [document]


def _place(path: Path, document: dict[str, Any]) -> tuple[str, str]:
    """Return namespace and name; both become file names and metric labels."""
    kind, metadata = document.get("kind"), document.get("metadata")
    if not isinstance(metadata, dict) or not metadata.get("name"):
        raise ManifestError(f"{path}: a document of kind {kind} has no metadata.name: write one")
    if not isinstance(metadata.get("annotations") or {}, dict):
        raise ManifestError(f"{path}: metadata.annotations is no mapping: write KEY: VALUE")
    namespace, name = str(metadata.get("namespace") or "default"), str(metadata["name"])
    if not _NAME.fullmatch(name) or not _NAMESPACE.fullmatch(namespace):
        raise ManifestError(
            f"{path}: {namespace}/{name} is no name: write lower-case letters, digits and '-' (dots in a name only)"
        )
    return namespace, name


def _decoded(path: Path, document: dict[str, Any]) -> dict[str, bytes]:
    name = document["metadata"]["name"]
    encoded = document.get("binaryData" if document["kind"] == "ConfigMap" else "data") or {}
    plain = document.get("data" if document["kind"] == "ConfigMap" else "stringData") or {}
    if not isinstance(encoded, dict) or not isinstance(plain, dict):
        raise ManifestError(f"{path}: {document['kind']} {name}: its data is no mapping: write KEY: VALUE")
    try:
        values = {str(key): base64.b64decode(str(value), validate=True) for key, value in encoded.items()}
    except (binascii.Error, ValueError):
        raise ManifestError(
            f"{path}: {document['kind']} {name}: a value is not base64: encode it, or put it under "
            f"{'data' if document['kind'] == 'ConfigMap' else 'stringData'} as it is"
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
