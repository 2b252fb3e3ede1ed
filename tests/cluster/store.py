"""Containerd's folder with the images' large layers already unpacked, made once and lent to every node of every launch.

Unpacking takes a node 5 s; borrowing the unpacked layers takes none, and what remains to import is our own small layer.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import cache
import procs

SNAPSHOTS = "io.containerd.snapshotter.v1.overlayfs/snapshots"
BLOBS = "io.containerd.content.v1.content/blobs/sha256"
NAMESPACE = "k8s.io"
CONFIG = """
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
  address = "{folder}/sock"
"""


def prepared(layers: Iterable[str], archives: list[Path]) -> Path:
    """The folder for images of these layers; when there is none yet it is made from the archives."""

    def make(folder: Path) -> None:
        (folder / "config.toml").write_text(CONFIG.format(folder=folder))
        # a mount namespace of its own: unpacking mounts
        argv = ["unshare", "--mount", "--", "containerd", "-c", str(folder / "config.toml")]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        program = procs.Program("containerd", process, folder / "log")
        try:
            procs.wait("containerd", lambda: answers(folder / "sock"), program)
            for archive in archives:
                add(folder / "sock", archive)
        except procs.StartError as error:
            raise cache.BuildError(str(error)) from error
        finally:
            process.terminate()
            process.wait()
        cache.remove(folder / "state")
        (folder / "sock").unlink(missing_ok=True)
        (folder / "sock.ttrpc").unlink(missing_ok=True)

    return cache.artifact("store", ["1", *layers], make) / "root"


def answers(sock: Path) -> bool:
    """Whether containerd serves its images."""
    done = subprocess.run(["ctr", "-a", str(sock), "images", "ls", "-q"], capture_output=True, check=False)
    return done.returncode == 0


def add(sock: Path, archive: Path) -> None:
    """Import an archive's images."""
    procs.run(["ctr", "-a", str(sock), "-n", NAMESPACE, "images", "import", str(archive)])


def lend(store: Path, root: Path) -> None:
    """Make `root` a containerd folder that has the store's images: its databases copied, its layers mounted."""

    def lent(folder: str, names: list[str]) -> list[str]:
        return names if folder in {str(store / SNAPSHOTS), str(store / BLOBS)} else []

    shutil.copytree(store, root, symlinks=True, ignore=lent)
    for blob in (store / BLOBS).iterdir():
        (root / BLOBS / blob.name).symlink_to(blob)
    for snapshot in (store / SNAPSHOTS).iterdir():
        for part in ("fs", "work"):
            (root / SNAPSHOTS / snapshot.name / part).mkdir(parents=True)
        procs.run(["mount", "--bind", str(snapshot / "fs"), str(root / SNAPSHOTS / snapshot.name / "fs")])
