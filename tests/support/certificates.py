"""Certificates with one fault each, and the server contexts that present them; made in memory, trusted by nobody else."""

import datetime as dt
import functools
import ssl
import tempfile
from pathlib import Path
from typing import NamedTuple

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = dt.timedelta(days=1)


class Pki(NamedTuple):
    """A CA's file and server contexts by the name of their fault (``good`` has none)."""

    ca_file: str
    contexts: dict[str, ssl.SSLContext]


@functools.cache
def pki() -> Pki:
    """Return the one PKI of this process."""
    folder = Path(tempfile.mkdtemp(prefix="smtpprobe-pki-"))
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    now = dt.datetime.now(dt.UTC)
    good = ca.issue_cert("localhost", "127.0.0.1", "::1", common_name="localhost")
    contexts = {
        "good": _context(good),
        "tls12": _context(good, maximum=ssl.TLSVersion.TLSv1_2),
        "old": _context(good, maximum=ssl.TLSVersion.TLSv1_1, ciphers="DEFAULT:@SECLEVEL=0"),
        "no-cipher": _context(good, maximum=ssl.TLSVersion.TLSv1_2, ciphers="ADH-AES128-SHA256:@SECLEVEL=0"),
        "expired": _context(ca.issue_cert("localhost", not_before=now - 9 * DAY, not_after=now - 2 * DAY)),
        "future": _context(ca.issue_cert("localhost", not_before=now + 2 * DAY, not_after=now + 9 * DAY)),
        "other-name": _context(ca.issue_cert("mail.example.net")),
        "other-name-expired": _context(
            ca.issue_cert("mail.example.net", not_before=now - 9 * DAY, not_after=now - 2 * DAY)
        ),
        "untrusted": _context(trustme.CA().issue_cert("localhost", "127.0.0.1")),
        "client-cert": _context(good, client_ca=folder / "ca.pem"),
        "client-cert-12": _context(good, client_ca=folder / "ca.pem", maximum=ssl.TLSVersion.TLSv1_2),
    }
    contexts["no-intermediate"] = _without_intermediate(ca.create_child_ca().issue_cert("localhost"), folder)
    contexts["common-name-only"] = _self_made(folder, "cn", san=None, subject="localhost")
    contexts["self-signed"] = _self_made(folder, "self", san="localhost", subject="localhost")
    contexts["weak-key"] = _self_made(folder, "weak", san="localhost", subject="localhost", weak=True)
    contexts["client-purpose"] = _self_made(
        folder, "client-purpose", san="localhost", subject="localhost", purpose=ExtendedKeyUsageOID.CLIENT_AUTH
    )
    contexts["address-as-name"] = _self_made(folder, "address-as-name", san="127.0.0.1", subject="localhost")
    contexts["unknown-name"] = _context(good)
    contexts["unknown-name"].sni_callback = lambda *_: ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    contexts["long-chain"] = _long_chain(good, folder)
    return Pki(str(folder / "ca.pem"), contexts)


def _context(
    cert: trustme.LeafCert,
    *,
    maximum: ssl.TLSVersion | None = None,
    ciphers: str | None = None,
    client_ca: Path | None = None,
) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if ciphers:
        made.set_ciphers(ciphers)
    if maximum is not None:
        _quietly(made, maximum)
    cert.configure_cert(made)
    if client_ca is not None:
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_verify_locations(client_ca)
    return made


def _quietly(context: ssl.SSLContext, maximum: ssl.TLSVersion) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1 if maximum < ssl.TLSVersion.TLSv1_2 else maximum
        context.maximum_version = maximum


def _without_intermediate(cert: trustme.LeafCert, folder: Path) -> ssl.SSLContext:
    (folder / "leaf.pem").write_bytes(cert.cert_chain_pems[0].bytes() + cert.private_key_pem.bytes())
    return _from_file(folder / "leaf.pem")


def _long_chain(cert: trustme.LeafCert, folder: Path) -> ssl.SSLContext:
    """Send the leaf 400 times: more than the 100 KiB that OpenSSL takes."""
    pem = cert.cert_chain_pems[0].bytes()
    (folder / "long.pem").write_bytes(pem * 400 + cert.private_key_pem.bytes())
    return _from_file(folder / "long.pem")


def _self_made(
    folder: Path,
    name: str,
    *,
    san: str | None,
    subject: str,
    weak: bool = False,
    purpose: x509.ObjectIdentifier | None = None,
) -> ssl.SSLContext:
    key = rsa.generate_private_key(65537, 1024) if weak else ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(who).issuer_name(who).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - DAY).not_valid_after(now + DAY)
    if san is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(san)]), critical=False)
    if purpose is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    cert = builder.sign(key, hashes.SHA256())
    pem = cert.public_bytes(serialization.Encoding.PEM)
    (folder / f"{name}-cert.pem").write_bytes(pem)
    pem += key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / f"{name}.pem").write_bytes(pem)
    return _from_file(folder / f"{name}.pem", weak=weak)


def _from_file(path: Path, *, weak: bool = False) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if weak:
        made.set_ciphers("DEFAULT:@SECLEVEL=0")
    made.load_cert_chain(path)
    return made
