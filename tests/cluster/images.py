"""The project's images from its own Dockerfile, without a registry, kept by the hash of the sources that go in."""

from __future__ import annotations

import configparser
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import archives
import cache
import debian
import gobuild
import store

CHECKOUT = Path(__file__).parents[2]
TARGETS = ("probe", "operator")
SOURCES = ("Dockerfile", ".dockerignore", "pyproject.toml", "README.md", "LICENSE", "constraints", "probe", "operator")
PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "default-timeout", "timeout")
KEPT_LAYERS = 300


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


@dataclass(frozen=True)
class Images:
    """The project's images by target, as archives without the large layers, which are in the store."""

    store: Path
    archives: dict[str, Path]


def project_images() -> Images:
    """Both images. Built from one copy of the sources: they may change meanwhile."""
    base = debian.base_tar()
    pause = gobuild.pause()
    files = list(source_files(CHECKOUT))
    parts = ["2", base.parent.name, pause.parent.name, *(part for file in files for part in file)]

    def make(folder: Path) -> None:
        with cache.locked("buildah"), tempfile.TemporaryDirectory() as scratch:
            context = Path(scratch) / "context"
            for name, data in files:
                path = context / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                os.utime(path, (0, 0))  # equal sources, equal layers
            buildah("rm", "--all")  # what a killed build left mounted
            base_image = base_name(base)
            whole = [build(context, target, base_image, Path(scratch) / f"{target}.tar") for target in TARGETS]
            layers: list[str] = []
            for target, archive in zip(TARGETS, whole, strict=True):
                layers += archives.slim(archive, folder / f"{target}.tar", image_name(target))
            store_root = store.prepared([pause.parent.name, *sorted(set(layers))], [pause, *whole])
            (folder / "store").write_text(str(store_root))
            prune_layers()

    folder = cache.artifact("images", parts, make)
    if not Path((folder / "store").read_text()).is_dir():  # pruned: newer dependencies came and went
        cache.remove(folder)
        folder = cache.artifact("images", parts, make)
    return Images(Path((folder / "store").read_text()), {target: folder / f"{target}.tar" for target in TARGETS})


def image_name(target: str) -> str:
    """The name under which the nodes have the image."""
    return f"localhost/smtpprobe-{target}:test"


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


def build(context: Path, target: str, base: str, archive: Path) -> Path:
    """Build one target and write it, uncompressed, to a docker archive."""
    options = ["--quiet", "--layers", "--isolation", "chroot", "--network", "host", "--pull=never", "--format", "oci"]
    folder = cache.root() / "buildah" / "pip"  # always the same: the path counts for the layers' cache
    mounts = [f"--volume={source}:{inside}:ro" for source, inside in pip_settings(folder)]
    arguments = ["--build-arg", f"BASE={base}", "--target", target, "--tag", image_name(target)]
    buildah("build", *options, *mounts, *arguments, "--file", str(context / "Dockerfile"), str(context))
    buildah("push", "--quiet", image_name(target), f"docker-archive:{archive}:{image_name(target)}")
    return archive


def pip_settings(folder: Path) -> list[tuple[str, str]]:
    """What pip inside must have of the machine: its certificates, and the package index that is configured here."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(["/etc/pip.conf", Path.home() / ".pip/pip.conf", Path.home() / ".config/pip/pip.conf"])
    found = dict(config["global"]) if config.has_section("global") else {}
    found |= {
        name[4:].lower().replace("_", "-"): value for name, value in os.environ.items() if name.startswith("PIP_")
    }
    lines = ["[global]", "root-user-action = ignore", "disable-pip-version-check = true"]
    lines += [f"{name} = {found[name]}" for name in PIP_SETTINGS if name in found]
    folder.mkdir(parents=True, exist_ok=True)
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
