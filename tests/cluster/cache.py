"""What is built once and kept: one folder for each artifact and content hash, made under a lock, renamed when complete."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

KEEP = 4  # versions of one artifact that stay; older ones are removed when a new one is made


class BuildError(Exception):
    """A step of the build failed; the text says which and shows the end of its output."""


def root() -> Path:
    """The folder of all artifacts, outside the checkout: a fresh clone on the same machine is warm."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "smtpprobe"


def digest(parts: Iterable[str | bytes]) -> str:
    """One short hash over parts, each with its length so that no two lists of parts are alike."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(f"{len(data)}:".encode() + data)
    return total.hexdigest()[:16]


def say(text: str) -> None:
    """Progress goes to stderr: stdout belongs to the command."""
    print(f"cluster: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock of this name against every other process on the machine."""
    folder = root() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def artifact(name: str, parts: Iterable[str | bytes], make: Callable[[Path], None]) -> Path:
    """The folder of the artifact made from these parts; `make(folder)` fills a new one when there is none yet."""
    final = root() / f"{name}-{digest(parts)}"
    if final.is_dir():
        os.utime(final)
        return final
    with locked(final.name):
        if final.is_dir():
            return final
        began = time.monotonic()
        say(f"building {name} …")
        work = root() / f"making-{final.name}"
        remove(work)
        work.mkdir(parents=True)
        try:
            make(work)
        except BaseException:
            remove(work)
            raise
        work.rename(final)
        say(f"built {name} in {time.monotonic() - began:.1f} s")
    prune(name, final)
    return final


def prune(name: str, keep: Path) -> None:
    """Remove all but the newest versions of this artifact."""
    same = [path for path in root().glob(f"{name}-*") if len(path.name) == len(keep.name) and path != keep]
    for path in sorted(same, key=lambda path: path.stat().st_mtime, reverse=True)[KEEP - 1 :]:
        remove(path)


def remove(path: Path) -> None:
    """Remove a folder that may hold device nodes and read-only folders (a Go module cache, a Debian root)."""
    if path.is_dir():
        shutil.rmtree(path)


def run(argv: list[str], *, env: dict[str, str] | None = None, cwd: Path | None = None, stdin: bytes = b"") -> str:
    """Run one step of a build to its end and return its stdout; its output is shown only when it fails."""
    done = subprocess.run(argv, env=env, cwd=cwd, input=stdin, capture_output=True, check=False)
    if done.returncode:
        output = (done.stdout + done.stderr).decode(errors="replace").strip().splitlines()
        raise BuildError(f"{' '.join(argv)[:300]}\nended with {done.returncode}:\n" + "\n".join(output[-40:]))
    return done.stdout.decode(errors="replace")
