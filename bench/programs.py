"""The programs of the benchmarks, made once and kept beside the tests' artifacts, and a mail server of them."""

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import trustme

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests/cluster"))
import cache  # noqa: E402
import gobuild  # noqa: E402

BLACKBOX = "github.com/prometheus/blackbox_exporter"
SERVER_NAME = "bench.test"
SSLEAY = "libnet-ssleay-perl"


def gotools() -> Path:
    """Return our own helper: a mail server and a driver of HTTP endpoints."""
    return _built("bench-gotools", HERE / "gotools", ".")


def blackbox() -> Path:
    """Return the blackbox_exporter of ``blackbox/go.mod``."""
    return _built("bench-blackbox", HERE / "blackbox", BLACKBOX)


def _built(name: str, sources: Path, package: str) -> Path:
    files = sorted(path for path in sources.iterdir() if path.is_file())

    def make(folder: Path) -> None:
        go = gobuild.toolchain()
        argv = [str(go), "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", str(folder / "program")]
        cache.run([*argv, package], env=gobuild.environment(go), cwd=sources)

    return cache.artifact(name, [gobuild.GO, *(path.read_bytes() for path in files)], make) / "program"


def swaks_environment() -> dict[str, str]:
    """Return what lets Debian's swaks speak TLS: its Perl module, which the tests do without."""

    def make(folder: Path) -> None:
        cache.run(["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", SSLEAY], cwd=folder)
        for package in folder.glob("*.deb"):
            cache.run(["dpkg-deb", "-x", str(package), str(folder / "root")])

    folder = cache.artifact("bench-ssleay", [SSLEAY, "1"], make)
    found = next(path.parent.parent for path in folder.glob("root/usr/lib/**/Net/SSLeay.pm"))
    return {"PERL5LIB": str(found)}


class Mail(NamedTuple):
    """Where the mail server listens: STARTTLS (and plain) on one port, implicit TLS on the other; the CA to trust.

    ``sessions`` grows by the seconds of each session that ended with QUIT, as the server saw it.
    """

    port: int
    tls_port: int
    ca: Path
    sessions: list[float]


def certificate(folder: Path) -> tuple[Path, Path, Path]:
    """Write a CA, and a certificate for the server with its key."""
    authority = trustme.CA()
    leaf = authority.issue_cert(SERVER_NAME, "10.99.0.2")
    ca, chain, key = folder / "ca.pem", folder / "chain.pem", folder / "key.pem"
    authority.cert_pem.write_to_path(str(ca))
    for number, blob in enumerate(leaf.cert_chain_pems):
        blob.write_to_path(str(chain), append=number > 0)
    leaf.private_key_pem.write_to_path(str(key))
    return ca, chain, key


@contextmanager
def mail(folder: Path, address: str = "0.0.0.0", within: tuple[str, ...] = ()) -> Iterator[Mail]:
    """Run the mail server; ``within`` is a command that starts it elsewhere, such as in a network namespace."""
    ca, chain, key = certificate(folder)
    argv = [*within, str(gotools()), "serve", "-cert", str(chain), "-key", str(key)]
    argv += ["-plain", f"{address}:0", "-tls", f"{address}:0"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            found = dict(process.stdout.readline().split() for _ in range(2))
            sessions: list[float] = []
            threading.Thread(target=_collect, args=(process.stdout, sessions), daemon=True).start()
            yield Mail(_port(found["plain"]), _port(found["tls"]), ca, sessions)
        finally:
            process.terminate()


def _collect(lines: Iterable[str], sessions: list[float]) -> None:
    sessions.extend(float(line.split()[1]) for line in lines)


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def free_port() -> int:
    """Return a port where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for(port: int, seconds: float = 30) -> None:
    """Return once somebody listens."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"nobody listens on port {port} after {seconds} s")


def grown(values: list[float], since: int, count: int, seconds: float = 10) -> list[float]:
    """Return the ``count`` values that a list got after its first ``since``, waiting for them."""
    end = time.monotonic() + seconds
    while len(values) < since + count:
        if time.monotonic() > end:
            raise RuntimeError(f"the server saw {len(values) - since} sessions, not {count}")
        time.sleep(0.005)
    return values[since:]
