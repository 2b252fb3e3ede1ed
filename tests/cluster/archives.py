"""Image archives (OCI layout in a tar) that no tool writes for us."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

DOCKER = "application/vnd.docker"


def sha256(data: bytes) -> str:
    """The digest of a blob."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def tar(files: dict[str, tuple[bytes, int]]) -> bytes:
    """A tar of files by name, with mode, without times and owners."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, (data, mode) in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), mode
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def layout(name: str, config: bytes, layers: list[tuple[str, int]], blobs: list[bytes]) -> bytes:
    """An image of this name; layers are (digest, size), of which those in `blobs` are in the archive."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{DOCKER}.distribution.manifest.v2+json",
        "config": {"mediaType": f"{DOCKER}.container.image.v1+json", "digest": sha256(config), "size": len(config)},
        "layers": [
            {"mediaType": f"{DOCKER}.image.rootfs.diff.tar", "digest": digest, "size": size} for digest, size in layers
        ],
    }
    encoded = json.dumps(manifest).encode()
    names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
    entry = {
        "mediaType": manifest["mediaType"],
        "digest": sha256(encoded),
        "size": len(encoded),
        "annotations": names,
    }
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    files |= {f"blobs/{sha256(blob).replace(':', '/')}": blob for blob in (encoded, config, *blobs)}
    return tar({path: (data, 0o644) for path, data in files.items()})


def one_program(program: bytes, name: str) -> bytes:
    """An image of one static program."""
    layer = tar({"pause": (program, 0o755)})
    config = {
        "architecture": os.uname().machine.replace("x86_64", "amd64").replace("aarch64", "arm64"),
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [sha256(layer)]},
    }
    return layout(name, json.dumps(config).encode(), [(sha256(layer), len(layer))], [layer])


def slim(whole: Path, target: Path, name: str) -> list[str]:
    """Write the image of a docker archive with its last layer only; return the digests of the layers left out."""
    with tarfile.open(whole) as archive:

        def read(member: str) -> bytes:
            file = archive.extractfile(member)
            assert file is not None
            return file.read()

        entry: dict[str, Any] = json.loads(read("manifest.json"))[0]
        config = read(entry["Config"])
        digests: list[str] = json.loads(config)["rootfs"]["diff_ids"]
        sizes = [archive.getmember(layer).size for layer in entry["Layers"]]
        last = read(entry["Layers"][-1])
    if sha256(last) != digests[-1]:
        raise ValueError(f"the last layer of {name} is not what its configuration says")
    target.write_bytes(layout(name, config, list(zip(digests, sizes, strict=True)), [last]))
    return digests[:-1]
