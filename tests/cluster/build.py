"""Build and cache all parts of the test cluster: `python3 tests/cluster/build.py` makes everything that is missing."""

from __future__ import annotations

import concurrent.futures
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cache
import certs
import clients
import debian
import gobuild
import images


@dataclass(frozen=True)
class Wanted:
    """Which parts a launch needs."""

    kube: bool = True
    nodes: bool = True
    images: bool = True
    mail: bool = True
    refusals: bool = True
    clients: bool = True
    prometheus: bool = True


@dataclass
class Parts:
    """Where the built parts are; an empty one was not asked for."""

    wanted: Wanted
    certs: str = ""
    kube: str = ""
    helm: str = ""
    pause: str = ""
    store: str = ""
    images: dict[str, str] = field(default_factory=dict)
    roots: dict[str, str] = field(default_factory=dict)
    clients: dict[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self)))

    @staticmethod
    def read(path: Path) -> Parts:
        """Read what `write` wrote."""
        data = json.loads(path.read_text())
        return Parts(**data | {"wanted": Wanted(**data["wanted"])})


def ensure(wanted: Wanted) -> Parts:
    """Build what is missing of the wanted parts, Go sources beside Debian roots, and say where all is."""
    debian.require_packages()
    parts = Parts(wanted, certs=str(certs.certificates()))

    def go() -> None:
        if wanted.kube:
            parts.kube, parts.helm = str(gobuild.kube()), str(gobuild.helm())
        if wanted.nodes:
            parts.pause = str(gobuild.pause())
        if wanted.clients:
            gobuild.toolchain()  # tests build with it, where no registry is in reach
            parts.clients["ini"] = str(gobuild.ini())

    def roots() -> None:
        if wanted.images:
            built = images.project_images()
            parts.images = {name: str(path) for name, path in built.archives.items()}
            parts.store = str(built.store)
        if wanted.mail:
            parts.roots |= {name: str(debian.mail_root(name)) for name in debian.MAIL_ROOTS}
        if wanted.refusals:
            parts.roots |= {name: str(debian.mail_root(name)) for name in debian.REFUSAL_ROOTS}
        if wanted.clients:
            parts.clients |= {"root": str(clients.root()), "django": str(clients.django())}

    together(go, roots)
    return parts


def together(*steps: Callable[[], None]) -> None:
    """Run the steps at the same time; the first error is raised when all have ended."""
    with concurrent.futures.ThreadPoolExecutor(len(steps)) as pool:
        for step in [pool.submit(step) for step in steps]:
            step.result()


if __name__ == "__main__":
    began = time.monotonic()
    try:
        ensure(Wanted())
    except cache.BuildError as error:
        cache.say(str(error))
        sys.exit(70)
    cache.say(f"all parts are there after {time.monotonic() - began:.1f} s, in {cache.root()}")
