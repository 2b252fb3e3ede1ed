"""The project's images from its own Dockerfile, without a registry, kept by the hash of the sources that go in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cache
import debian

CHECKOUT = Path(__file__).parents[2]
TARGETS = ("probe", "operator")
SOURCES = ("Dockerfile", ".dockerignore", "pyproject.toml", "README.md", "LICENSE", "constraints", "probe", "operator")
KEPT_LAYERS = 60


def buildah(*argv: str) -> str:
    """Run buildah with a storage of its own beside the other artifacts."""
    storage = cache.root() / "buildah"
    places = ["--root", str(storage / "root"), "--runroot", str(storage / "run"), "--storage-driver", "overlay"]
    return cache.run(["buildah", *places, *argv])


def source_files(checkout: Path) -> Iterator[tuple[str, bytes]]:
    """Path and content of every file that goes into the images, in a fixed order."""
    for name in SOURCES:
        top = checkout / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
                yield str(path.relative_to(checkout)), path.read_bytes()


def project_images() -> dict[str, Path]:
    """OCI archives of the images, by target. Built from one copy of the sources: they may change meanwhile."""
    base = debian.base_tar()
    files = list(source_files(CHECKOUT))
    parts = [base.parent.name, *(part for file in files for part in file)]

    def make(folder: Path) -> None:
        with cache.locked("buildah"), tempfile.TemporaryDirectory() as context:
            for name, data in files:
                path = Path(context) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                os.utime(path, (0, 0))  # equal sources, equal layers
            base_image = base_name(base)
            for target in TARGETS:
                build(Path(context), target, base_image, folder / f"{target}.tar")
            prune_layers()

    folder = cache.artifact("images", parts, make)
    return {target: folder / f"{target}.tar" for target in TARGETS}


def base_name(base: Path) -> str:
    """The base image in buildah's storage, made from its root file system when it is not there."""
    name = f"localhost/{base.parent.name}:test"
    known = buildah("images", "--format", "{{.Name}}:{{.Tag}}").split()
    if name not in known:
        container = buildah("from", "scratch").strip()
        buildah("add", container, str(base), "/")
        buildah("config", "--cmd", "python3", container)
        buildah("commit", "--quiet", "--rm", container, name)
    return name


def build(context: Path, target: str, base: str, archive: Path) -> None:
    """Build one target and write it where containerd can import it from."""
    name = f"localhost/smtpprobe-{target}:test"
    options = ["--quiet", "--layers", "--isolation", "chroot", "--network", "host", "--pull=never", "--format", "oci"]
    with tempfile.TemporaryDirectory() as folder:
        mounts = [f"--volume={source}:{inside}:ro" for source, inside in pip_settings(Path(folder))]
        arguments = ["--build-arg", f"BASE={base}", "--target", target, "--tag", name]
        buildah("build", *options, *mounts, *arguments, "--file", str(context / "Dockerfile"), str(context))
    buildah("push", "--quiet", name, f"oci-archive:{archive}:{name}")


def pip_settings(folder: Path) -> list[tuple[str, str]]:
    """What pip inside must have of the machine: its certificates, and the index that pip here is configured with."""
    config = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    lines = ["[global]", "root-user-action = ignore", "disable-pip-version-check = true"]
    for line in config.stdout.splitlines():
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2]
        if key in {"index-url", "extra-index-url", "trusted-host", "proxy", "default-timeout"}:
            lines.append(f"{key} = {value.strip(chr(39))}")
    mounts = []
    if (bundle := Path("/etc/ssl/certs/ca-certificates.crt")).exists():
        shutil.copy(bundle, folder / "ca.crt")
        lines.append(f"cert = {bundle}")
        mounts.append((str(folder / "ca.crt"), str(bundle)))
    (folder / "pip.conf").write_text("\n".join([*lines, ""]))
    return [*mounts, (str(folder / "pip.conf"), "/etc/pip.conf")]


def prune_layers() -> None:
    """Drop intermediate images once there are many; the newest build's own are made again at need."""
    if len(buildah("images", "--all", "--quiet").split()) > KEPT_LAYERS:
        buildah("rmi", "--prune")
