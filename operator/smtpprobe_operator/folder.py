"""I/O: a folder of manifests in the place of an API server; ``NAME.status.yaml`` beside them is the status.

A file that cannot be read is named in ``problems`` and counts as it was before: half-written manifests stop nothing.
"""

import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from smtpprobe.manifests import Bundle, Manifest, ManifestError, read
from smtpprobe.resource import PLURAL, encode_status
from smtpprobe_operator.registry import Probe

STATUS_SUFFIX = ".status.yaml"
_UIDS = uuid.UUID("5f5a4a3c-6b0e-4f0b-9d53-0b1f6c1b7a11")


class _Read(NamedTuple):
    stamp: tuple[int, ...]
    bundle: Bundle


class Folder:
    """The manifests of a folder by uid; the resourceVersion is a count of our own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bundle = Bundle((), {})
        self.problems: tuple[str, ...] = ()
        self._read: dict[Path, _Read] = {}
        self._status_files: dict[str, Path] = {}
        self._version = 0

    def look(self) -> dict[str, Manifest]:
        """Read what changed since the last look and return each SmtpProbe by its uid."""
        problems: list[str] = []
        for path in self._paths(problems):
            stamp = _stamp(path)
            known = self._read.get(path)
            if stamp is None or (known and known.stamp == stamp):
                continue
            try:
                self._read[path] = _Read(stamp, read([path]))
            except ManifestError as error:
                problems.append(f"{error}{'; it counts as it was before' if known else ''}")
        self.bundle = Bundle((), {})
        found: dict[str, Manifest] = {}
        for path in sorted(self._read):
            bundle = self._read[path].bundle
            self.bundle.data.update(bundle.data)
            for manifest in bundle.probes:
                uid = uid_of(manifest)
                if uid in found:
                    where = f"{found[uid].path} and {path}"
                    problems.append(f"{manifest.namespace}/{manifest.name} stands in {where}: the first counts")
                found.setdefault(uid, manifest)
        self.problems = tuple(problems)
        return found

    def body(self, manifest: Manifest) -> dict[str, Any]:
        """Return a SmtpProbe as an API server would hold it: with uid, generation and the status of its file."""
        before = self._before(manifest)
        meta = before.get("metadata", {})
        generation = int(meta.get("generation", 0))
        if not generation or before.get("spec") != manifest.raw.get("spec"):
            generation += 1
        self._version += 1
        annotations = manifest.raw["metadata"].get("annotations") or {}
        metadata = {
            "uid": uid_of(manifest),
            "namespace": manifest.namespace,
            "name": manifest.name,
            "annotations": {str(key): str(value) for key, value in annotations.items()},
            "generation": generation,
            "resourceVersion": str(self._version),
            "creationTimestamp": meta.get("creationTimestamp") or datetime.now(UTC).isoformat(),
        }
        return {**manifest.raw, "metadata": metadata, "status": before.get("status")}

    def write(self, manifest: Manifest, probe: Probe) -> None:
        """Write a status whole or not at all."""
        metadata = {
            "name": manifest.name,
            "namespace": manifest.namespace,
            "generation": probe.generation,
            "creationTimestamp": probe.created.isoformat(),
        }
        document = {
            "apiVersion": manifest.raw["apiVersion"],
            "kind": "SmtpProbe",
            "metadata": metadata,
            "spec": manifest.raw.get("spec"),
            "status": encode_status(probe.status),
        }
        file = self.status_file(manifest)
        draft = file.with_name(f".{file.name}.new")
        draft.write_text(yaml.safe_dump(document, allow_unicode=True, sort_keys=False), encoding="utf-8")
        draft.replace(file)

    def status_file(self, manifest: Manifest) -> Path:
        """Return ``NAME.status.yaml``, or ``NAMESPACE_NAME.status.yaml`` where a namesake has that one already."""
        uid = uid_of(manifest)
        if uid not in self._status_files:
            plain = self.path / f"{manifest.name}{STATUS_SUFFIX}"
            taken = plain in self._status_files.values() or _namespace_in(plain) not in (None, manifest.namespace)
            self._status_files[uid] = plain.with_name(f"{manifest.namespace}_{plain.name}") if taken else plain
        return self._status_files[uid]

    def _paths(self, problems: list[str]) -> list[Path]:
        """Return the manifests that are there; what was read of files that are gone is forgotten."""
        try:
            there = sorted(self.path.iterdir())
        except OSError as error:
            problems.append(f"{self.path}: {error.strerror}; it counts as it was before")
            return []
        paths = [
            path
            for path in there
            if path.suffix in {".yaml", ".yml"} and not path.name.endswith(STATUS_SUFFIX) and path.name[0] != "."
        ]
        self._read = {path: known for path, known in self._read.items() if path in set(paths)}
        return paths

    def _before(self, manifest: Manifest) -> dict[str, Any]:
        file = self.status_file(manifest)
        if not file.exists():
            return {}
        try:
            found = yaml.safe_load(file.read_text(encoding="utf-8"))
            int(found["metadata"]["generation"])
            datetime.fromisoformat(found["metadata"]["creationTimestamp"])
        except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError):
            raise ManifestError(f"{file}: not a status of ours: mend it or remove it") from None
        return dict(found)


def uid_of(manifest: Manifest) -> str:
    """Return the uid of a probe of this place: the same after a restart."""
    return str(uuid.uuid5(_UIDS, f"{PLURAL}/{manifest.namespace}/{manifest.name}"))


def _namespace_in(file: Path) -> str | None:
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
        return str(found["metadata"]["namespace"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        return None


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        known = path.stat()
    except OSError:
        return None
    return known.st_ino, known.st_size, known.st_mtime_ns
