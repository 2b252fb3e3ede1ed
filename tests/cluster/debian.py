"""Debian root file systems: one for each mail server (their packages exclude one another), one for the base image."""

from __future__ import annotations

import subprocess
from pathlib import Path

import cache

IMAGE_SUITE = "trixie"  # Python 3.13
MAIL_ROOTS = {  # name: (suite, packages)
    "postfix": ("bookworm", ["postfix", "dovecot-core", "ca-certificates"]),
    "exim": ("bookworm", ["exim4-daemon-heavy"]),
    "opensmtpd": ("trixie", ["opensmtpd"]),  # bookworm's cannot sign a TLS handshake with OpenSSL 3
}
REFUSAL_ROOTS = MAIL_ROOTS | {  # what tests/smtp/refusals.toml needs
    "refusals": ("bookworm", ["postfix", "dovecot-submissiond", "postgrey", "fail2ban", "ca-certificates"]),
}
BASE_PACKAGES = ["python3", "python3-venv", "python3-pip", "ca-certificates"]
LEAN = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "locale", "info")]
PACKAGES = Path(__file__).with_name("packages.txt")


def missing_packages() -> list[str]:
    """Packages of packages.txt that this machine lacks."""
    wanted = PACKAGES.read_text().split()
    query = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *wanted]
    found = subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines()
    installed = {line.split()[0] for line in found if line.endswith(" installed")}
    return [name for name in wanted if name not in installed]


def require_packages() -> None:
    """Stop with the one apt line when a package is missing."""
    missing = missing_packages()
    if missing:
        line = f"apt-get install --yes --no-install-recommends {' '.join(PACKAGES.read_text().split())}"
        raise cache.BuildError(f"Debian packages are missing ({' '.join(missing)}). Run as root:\n{line}")


def mirror() -> str:
    """The Debian mirror that apt on this machine is configured with."""
    query = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian"]
    found = [line for line in cache.run(query).split() if "security" not in line]
    if not found:
        raise cache.BuildError("apt knows no Debian mirror: run apt-get update on a Debian machine first")
    return found[0]


def mail_root(name: str) -> Path:
    """The root file system of one mail server, as a folder; started from an overlay, never written to."""
    suite, packages = REFUSAL_ROOTS[name]

    def make(folder: Path) -> None:
        argv = ["mmdebstrap", "--quiet", "--variant=apt", "--format=directory", *LEAN]
        cache.run([*argv, f"--include={','.join(packages)}", suite, str(folder / "root"), mirror()])

    return cache.artifact(f"root-{name}", [suite, *packages, *LEAN], make) / "root"


def base_tar() -> Path:
    """The root file system of the base image for the project's Dockerfile, as a tar."""

    def make(folder: Path) -> None:
        argv = ["mmdebstrap", "--quiet", "--variant=essential", *LEAN, f"--include={','.join(BASE_PACKAGES)}"]
        cache.run([*argv, IMAGE_SUITE, str(folder / "base.tar"), mirror()])

    return cache.artifact("base", [IMAGE_SUITE, *BASE_PACKAGES, *LEAN], make) / "base.tar"
