"""The mail clients of `tests/smtp/test_settings_clients.py`, from their own registries, mounted as one root in a launch.

Debian has msmtp, Alertmanager, PHPMailer and Action Mailer; Nodemailer comes from npm, Spring Boot with Jakarta Mail
from Maven (both in `clients/fetch.sh`), Django from PyPI.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import cache
import debian
import procs
from cluster_facts import Clients

SUITE = "trixie"
PACKAGES = [
    "ca-certificates",
    "libphp-phpmailer",
    "maven",
    "msmtp",
    "nodejs",
    "openjdk-21-jre-headless",  # has the compiler's module: a .java file can be run
    "php-cli",
    "prometheus-alertmanager",
    "ruby-actionmailer",
]
DJANGO = "django==5.2.19"
HERE = Path(__file__).with_name("clients")

# Dovecot's own users for the clients, one a case so that logins can be counted: what quoting gets wrong is in their names
LOGINS = [f"corp\\client{number:03}+o'ne\"$x#{{y}}%z" for number in range(1, 201)]
PASSWORD = "pa ss\"'$x\\#%7/+=z"


def root() -> Path:
    """The root file system with all clients but Python's, as a folder."""
    files = sorted(HERE.iterdir())

    def make(folder: Path) -> None:
        argv = ["mmdebstrap", "--quiet", "--variant=apt", "--format=directory", *debian.LEAN]
        # Java's and others' packages link their manual pages' folder, which is left out
        hooks = ["--essential-hook=mkdir -p $1/usr/share/man/man1", f"--customize-hook={HERE / 'fetch.sh'}"]
        cache.run([*argv, *hooks, f"--include={','.join(PACKAGES)}", SUITE, str(folder / "root"), debian.mirror()])

    parts = [SUITE, *PACKAGES, *debian.LEAN, *(file.read_bytes() for file in files)]
    return cache.artifact("root-clients", parts, make) / "root"


def django() -> Path:
    """A folder with Django for PYTHONPATH: the project's own environment has no place for it."""

    def make(folder: Path) -> None:
        cache.run([sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), DJANGO])

    return cache.artifact("django", [DJANGO], make)


def mount(state: Path, parts: dict[str, str], certs: Path) -> Clients:
    """Mount the root with a writable layer of this launch; `share` has the same path inside and outside."""
    place, share = state / "clients", state / "share"
    for folder in (place, share, state / "clients-new", state / "clients-work"):
        folder.mkdir()
    layers = f"lowerdir={parts['root']},upperdir={place}-new,workdir={place}-work"
    procs.run(["mount", "-t", "overlay", "-o", layers, "overlay", str(place)])
    procs.run(["mount", "-t", "proc", "proc", f"{place}/proc"])
    procs.run(["mount", "--bind", "/dev", f"{place}/dev"])
    (place / "etc/resolv.conf").unlink(missing_ok=True)
    shutil.copy(state / "resolv.conf", place / "etc/resolv.conf")
    inside = place / share.relative_to("/")
    inside.mkdir(parents=True)
    procs.run(["mount", "--bind", str(share), str(inside)])
    shutil.copy(certs / "ca.crt", share / "ca.crt")
    (place / "etc/alertmanager").mkdir(parents=True, exist_ok=True)
    (place / "etc/alertmanager/smtp-password").write_text(PASSWORD)
    return Clients(
        root=str(place),
        share=str(share),
        ca_file=str(share / "ca.crt"),
        django=parts["django"],
        ini=parts["ini"],
        logins=LOGINS,
        password=PASSWORD,
    )
