"""One cgroup of the launch's own in every hierarchy, which its processes see as the root: pods leave nothing elsewhere."""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from pathlib import Path

import procs

TOP = Path("/sys/fs/cgroup")
CLONE_NEWCGROUP = 0x02000000


def hierarchies() -> list[Path]:
    """Mount points of all cgroup hierarchies: one in version 2, one for each controller in version 1.

    A hierarchy that is mounted twice (into some chroot, say) counts once.
    """
    mounts = [line.split(" - ") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    places = [Path(before.split()[4]) for before, after in mounts if after.split()[0] in {"cgroup", "cgroup2"}]
    places.sort(key=lambda place: not place.is_relative_to(TOP))
    return list({place.stat().st_dev: place for place in reversed(places)}.values())


def enter(name: str) -> None:
    """Move this process into new cgroups of this name and make them the roots that it and its children see."""
    places = hierarchies()
    for place in places:
        own = place / name
        own.mkdir()
        for file in ("cpuset.cpus", "cpuset.mems"):  # version 1: a new cpuset is empty and takes no process
            if (own / file).exists() and not (own / "cgroup.controllers").exists():
                (own / file).write_text((place / file).read_text())
        (own / "cgroup.procs").write_text("0")
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWCGROUP):
        raise procs.StartError(f"no cgroup namespace: {os.strerror(ctypes.get_errno())}")
    for place in places:
        procs.run(["mount", "--bind", str(place / name), str(place)])
        if (place / "cgroup.subtree_control").exists() and place == TOP:
            leave_root(place)


def leave_root(place: Path) -> None:
    """Version 2 gives a cgroup controllers for its children only while it holds no process itself."""
    (place / "init").mkdir()
    (place / "init" / "cgroup.procs").write_text("0")
    controllers = (place / "cgroup.controllers").read_text().split()
    (place / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))


def remove(name: str) -> None:
    """Remove one launch's cgroups; the kernel lets go of the last process a moment after its end."""
    deadline = time.monotonic() + 10
    while True:
        left = [*TOP.glob(f"*/{name}"), *TOP.glob(name)]
        for top in left:
            for folder, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
        if not any(path.exists() for path in left) or time.monotonic() > deadline:
            return
        time.sleep(procs.POLL_SECONDS)
