"""Certificates of the tests: one authority, the API server's, and the good and bad ones of the mail servers."""

from __future__ import annotations

from pathlib import Path

import cache
from addresses import API, HOSTS, REFUSAL_HOSTS

EXPIRED = ("20200101000000Z", "20200201000000Z")
VALID = ("20200101000000Z", "20490101000000Z")
API_NAMES = f"IP:{API},IP:127.0.0.1,IP:10.96.0.1,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
KEY_IDENTIFIERS = ["subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid"]  # Python 3.13 refuses a chain without

# name: (subject alternative names, validity, authority)
LEAVES = {
    "api": (API_NAMES, VALID, "ca"),
    "postfix": (f"DNS:{HOSTS['postfix']},DNS:mail.corp.test", VALID, "ca"),
    "exim": (f"DNS:{HOSTS['exim']}", VALID, "ca"),
    "opensmtpd": (f"DNS:{HOSTS['opensmtpd']}", VALID, "ca"),
    "refusals": (",".join(f"DNS:{host}" for host in REFUSAL_HOSTS.values()), VALID, "ca"),
    "expired": (f"DNS:{HOSTS['postfix']},DNS:mail.corp.test", EXPIRED, "ca"),
    "wrong-name": ("DNS:other.example", VALID, "ca"),
    "untrusted": (f"DNS:{HOSTS['postfix']},DNS:mail.corp.test", VALID, "unknown-ca"),
}

CONFIG = """
[ca]
default_ca = own
[own]
new_certs_dir = .
database = index.txt
rand_serial = yes
default_md = sha256
policy = any
copy_extensions = none
unique_subject = no
[any]
commonName = supplied
"""


def certificates() -> Path:
    """A folder with NAME.crt and NAME.key for both authorities and every leaf; ca.crt is the one to trust."""

    def make(folder: Path) -> None:
        (folder / "openssl.cnf").write_text(CONFIG)
        (folder / "index.txt").write_text("")
        (folder / "req.cnf").write_text("[req]\ndistinguished_name = none\n[none]\n")
        for name in ("ca", "unknown-ca"):
            subject = ["-subj", f"/CN=SmtpProbe tests {name}", "-days", "7300", "-config", "req.cnf"]
            extensions = [
                "basicConstraints=critical,CA:TRUE",
                "keyUsage=critical,keyCertSign,cRLSign",
                *KEY_IDENTIFIERS[:1],
            ]
            added = [word for text in extensions for word in ("-addext", text)]
            cache.run(["openssl", "req", "-x509", *new_key(name), "-out", f"{name}.crt", *subject, *added], cwd=folder)
        for name, (names, validity, authority) in LEAVES.items():
            leaf(folder, name, names, validity, authority)

    return cache.artifact("certs", [repr(LEAVES), CONFIG, "4"], make)


def new_key(name: str) -> list[str]:
    """Arguments of `openssl req` for a new key without a passphrase."""
    return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key"]


def leaf(folder: Path, name: str, names: str, validity: tuple[str, str], authority: str) -> None:
    """Issue one server certificate; `openssl ca` is the one command that can date it in the past."""
    common = names.split(",", maxsplit=1)[0].partition(":")[2]
    request = ["openssl", "req", "-new", *new_key(name), "-config", "req.cnf", "-subj", f"/CN={common}"]
    cache.run([*request, "-out", f"{name}.csr"], cwd=folder)
    usage = ["basicConstraints=CA:FALSE", "keyUsage=critical,digitalSignature", "extendedKeyUsage=serverAuth"]
    (folder / f"{name}.ext").write_text("\n".join([f"subjectAltName={names}", *usage, *KEY_IDENTIFIERS, ""]))
    signer = ["-config", "openssl.cnf", "-cert", f"{authority}.crt", "-keyfile", f"{authority}.key"]
    dates = ["-startdate", validity[0], "-enddate", validity[1]]
    files = ["-in", f"{name}.csr", "-out", f"{name}.crt", "-extfile", f"{name}.ext"]
    cache.run(["openssl", "ca", "-batch", "-notext", *signer, *dates, *files], cwd=folder)
