"""TLS: the context that a request asks for, what a handshake showed, and errors by name. No I/O but the CA file.

``cryptography`` is imported only where a chain is read: it costs the pod 10 MiB and a tenth of a second.
"""

import functools
import ipaddress
import os
import ssl
import warnings
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from smtpprobe.model import Certificate, TlsFacts, TlsOptions
from smtpprobe.redact import sanitize
from smtpprobe.vocabulary import Reason

if TYPE_CHECKING:
    from cryptography import x509

MAX_CHAIN = 10
MAX_SANS = 100
_NAME_CHARS = 200
_VERSIONS = {
    # Naming the old versions makes ssl warn; both words mean "whatever this OpenSSL can".
    "1.0": ssl.TLSVersion.MINIMUM_SUPPORTED,
    "1.1": ssl.TLSVersion.MINIMUM_SUPPORTED,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}
# OpenSSL's X509_V_ERR_ numbers; all others are CertificateInvalid.
_VERIFY: dict[int, Reason] = {
    9: Reason.CERTIFICATE_NOT_YET_VALID,
    10: Reason.CERTIFICATE_EXPIRED,
    62: Reason.CERTIFICATE_HOSTNAME_MISMATCH,
    64: Reason.CERTIFICATE_HOSTNAME_MISMATCH,
}
# Those of OpenSSL's numbers that are about who signed: no issuer found, or one that nobody here knows.
UNTRUSTED = frozenset({2, 18, 19, 20, 21, 27})
# The hook below the one of ``ssl``, which looks up an enum's member for each number, 40 times a handshake.
_HOOK: Any = getattr(ssl.SSLContext.__base__, "_msg_callback", None)
_CONTENT_HANDSHAKE, _CONTENT_ALERT = 22, 21
_TOLD = (_CONTENT_HANDSHAKE, _CONTENT_ALERT)
_SERVER_HELLO, _CERTIFICATE, _CERTIFICATE_REQUEST = 2, 11, 13


class Unusable(NamedTuple):
    """Why a request's TLS options cannot be obeyed."""

    detail: str


class Seen:
    """What the server said in the handshake, kept also where the handshake failed.

    OpenSSL hands these messages to a debugging hook of ``ssl``; a Python without the hook loses this evidence and no
    verdict. What takes time is left for later: a handshake waits for the hook.
    """

    def __init__(self) -> None:
        self._certificates: tuple[int, bytes] | None = None
        self.server_hello = False
        self.wants_client_certificate = False
        self.alert: int | None = None

    @functools.cached_property
    def chain(self) -> tuple[bytes, ...]:
        """The certificates in DER, leaf first, as sent; to be asked for once the handshake has ended."""
        if self._certificates is None:
            return ()
        version, data = self._certificates
        return certificate_message(data, tls13=version == ssl.TLSVersion.TLSv1_3)

    def open(self, context: ssl.SSLContext, server_name: str) -> "Opening":
        """Begin a handshake that this one hears: make the ClientHello, which may wait for its connection."""
        if _HOOK is not None:
            _HOOK.__set__(context, _told)
        incoming, outgoing, broken = ssl.MemoryBIO(), ssl.MemoryBIO(), None
        made = context.wrap_bio(incoming, outgoing, server_hostname=server_name)
        made.seen = self  # type: ignore[attr-defined]
        try:
            made.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            broken = error
        return Opening(made, incoming, outgoing, broken)

    def told(self, version: int, content: int, kind: int, data: bytes) -> None:
        """Take one message that the server sent."""
        if content == _CONTENT_ALERT and len(data) >= 2:
            self.alert = data[1]
        elif content == _CONTENT_HANDSHAKE and kind == _SERVER_HELLO:
            self.server_hello = True
        elif content == _CONTENT_HANDSHAKE and kind == _CERTIFICATE_REQUEST:
            self.wants_client_certificate = True
        elif content == _CONTENT_HANDSHAKE and kind == _CERTIFICATE and self._certificates is None:
            self._certificates = version, data


class Opening(NamedTuple):
    """Our end of a handshake: its ClientHello stands in ``outgoing``, unless these options allow none (``broken``)."""

    tls: ssl.SSLObject
    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO
    broken: ssl.SSLError | None = None


def _told(connection: Any, direction: str, version: int, content: int, kind: int, data: bytes) -> None:  # noqa: PLR0917
    # Most calls are about record headers: a handshake makes 50 of them.
    if content in _TOLD and direction == "read":
        connection.seen.told(version, content, kind, data)


def certificate_message(data: bytes, *, tls13: bool) -> tuple[bytes, ...]:
    """Cut a Certificate message (RFC 5246 §7.4.2, RFC 8446 §4.4.2), header included, into DER certificates."""
    at = 4
    if tls13:
        at += 1 + int.from_bytes(data[at : at + 1])
    end = at + 3 + int.from_bytes(data[at : at + 3])
    at += 3
    found: list[bytes] = []
    while at + 3 <= min(end, len(data)) and len(found) < MAX_CHAIN:
        size = int.from_bytes(data[at : at + 3])
        found.append(data[at + 3 : at + 3 + size])
        at += 3 + size
        if tls13:
            at += 2 + int.from_bytes(data[at : at + 2])
    return tuple(found)


def shared(options: TlsOptions) -> ssl.SSLContext | Unusable:
    """Return the context for these options, made once: a system's CA bundle costs 35 ms of a core to read."""
    try:
        read = os.stat(options.ca_file).st_mtime_ns if options.ca_file is not None else 0
    except OSError:
        return context(options)
    return _made(options, read)


@functools.lru_cache(maxsize=8)
def _made(options: TlsOptions, _read: int) -> ssl.SSLContext | Unusable:
    return context(options)


def context(options: TlsOptions) -> ssl.SSLContext | Unusable:
    """Build the client context: verification and names checked by RFC 9525 (no common name), the CA file alone trusted.

    A CA file may hold an intermediate or the server's own certificate. Below TLS 1.2 OpenSSL needs security level 0.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.hostname_checks_common_name = False
    made.minimum_version = _VERSIONS.get(options.min_version, ssl.TLSVersion.TLSv1_2)
    if options.min_version in {"1.0", "1.1"}:
        made.set_ciphers("DEFAULT:@SECLEVEL=0")
    if options.insecure_skip_verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    elif options.ca_file is None:
        made.load_default_certs()
    else:
        made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        try:
            made.load_verify_locations(cafile=options.ca_file)
        except ssl.SSLError:
            return Unusable("the CA of spec.tls.caRef holds no PEM certificate")
        except OSError as error:
            return Unusable(f"the CA of spec.tls.caRef cannot be read: {error.strerror}")
    return made


def older(min_version: str) -> ssl.SSLContext:
    """Return a context for what lies below the request's least version; it verifies nothing, nothing is said in it."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    made.set_ciphers("DEFAULT:@SECLEVEL=0")
    if min_version == "1.3":
        made.maximum_version = ssl.TLSVersion.TLSv1_2
        return made
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # naming the old version is the experiment
        made.maximum_version = ssl.TLSVersion.TLSv1_1
    return made


def warm_up() -> None:
    """Import what ``facts`` needs; for a thread, while the server is being waited for."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    _ = x509, hashes


def verify_reason(error: ssl.SSLCertVerificationError) -> Reason:
    """Name OpenSSL's verification error."""
    return _VERIFY.get(error.verify_code, Reason.CERTIFICATE_INVALID)


def facts(
    tls: ssl.SSLObject | None, seen: Seen, *, verified: bool, server_name: str, failed: Reason | None, now: datetime
) -> TlsFacts | None:
    """Describe session and chain; None where neither came to be.

    OpenSSL stops at its first error. A certificate can have several, so names and dates are looked at here as well;
    ``errors`` begins with the one that failed the handshake.
    """
    if tls is None and not seen.chain:
        return None
    cipher = tls.cipher() if tls is not None else None
    errors: dict[Reason, None] = {} if failed is None else {failed: None}
    chain = described(seen)
    if chain and not verified:
        errors.update(dict.fromkeys(_leaf_errors(chain[0], server_name, now)))
    return TlsFacts(
        protocol=tls.version() if tls is not None else None,
        cipher=cipher[0] if cipher else None,
        verified=verified,
        chain=chain,
        errors=tuple(errors),
    )


def described(seen: Seen) -> tuple[Certificate, ...]:
    """Return the facts of the chain as the server sent it, leaf first; what cannot be parsed is left out."""
    if not seen.chain:
        return ()
    from cryptography import x509

    found: list[Certificate] = []
    for der in seen.chain:
        try:
            found.append(_describe(x509.load_der_x509_certificate(der)))
        except Exception:  # noqa: BLE001, S112 - a hostile certificate can break the parser in ways that nobody lists
            continue
    return tuple(found)


def explain(error: ssl.SSLCertVerificationError, seen: Seen, server_name: str) -> str:
    """Say which certificate error it is, what in the leaf makes it, and which others the leaf has besides."""
    reason, words = verify_reason(error), error.verify_message.rstrip(".")
    chain = described(seen)
    if not chain:
        return words
    leaf, now = chain[0], utc_now()
    if reason is Reason.CERTIFICATE_EXPIRED:
        late = next((one for one in chain if one.not_after < now), None)
        words += f": {late.subject} ended on {late.not_after:%Y-%m-%d %H:%M} UTC" if late is not None else ""
    elif reason is Reason.CERTIFICATE_NOT_YET_VALID:
        words += f": it begins on {leaf.not_before:%Y-%m-%d %H:%M} UTC, our clock says {now:%Y-%m-%d %H:%M} UTC"
    elif reason is Reason.CERTIFICATE_HOSTNAME_MISMATCH:
        names = f"it names {', '.join(leaf.sans[:4])}" if leaf.sans else "it has no subjectAltName"
        if server_name in leaf.sans:
            names = "it names the address as a DNS name, and an address counts in an iPAddress entry only"
        words = f"the certificate is not for {server_name}: {names}"
    elif error.verify_code not in UNTRUSTED or leaf.subject == leaf.issuer:
        words += f" ({leaf.subject})"
    else:
        words += f": {chain[-1].issuer} is not trusted here"
        words += ", or an intermediate is missing: the server sent its own certificate only" if len(chain) == 1 else ""
    others = [other for other in _leaf_errors(leaf, server_name, now) if other is not reason]
    return "; ".join([words, *(f"also {other}" for other in others)])


def _leaf_errors(leaf: Certificate, server_name: str, now: datetime) -> list[Reason]:
    found: list[Reason] = []
    if now > leaf.not_after:
        found.append(Reason.CERTIFICATE_EXPIRED)
    if now < leaf.not_before:
        found.append(Reason.CERTIFICATE_NOT_YET_VALID)
    if not name_matches(server_name, leaf.sans):
        found.append(Reason.CERTIFICATE_HOSTNAME_MISMATCH)
    return found


def is_server_name(name: str) -> bool:
    """Say whether OpenSSL and its Python encoding take a name (ASCII): no empty or overlong label, no NUL."""
    return len(name) <= 253 and all(0 < len(label) <= 63 for label in name.split(".")) and name.isprintable()


def name_matches(server_name: str, sans: tuple[str, ...]) -> bool:
    """Compare as RFC 9525 §6 does: addresses whole, names without case, ``*`` for exactly the leftmost label."""
    try:
        address = ipaddress.ip_address(server_name)
    except ValueError:
        pass
    else:
        return str(address) in sans
    wanted = server_name.lower().rstrip(".")
    parent = "*." + wanted.partition(".")[2]
    return any(name.lower() in {wanted, parent} for name in sans)


def _sans(certificate: "x509.Certificate") -> tuple[str, ...]:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    found = [*names.get_values_for_type(x509.DNSName)]
    found += [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return tuple(_shown(name) for name in found[:MAX_SANS])


def _describe(certificate: "x509.Certificate") -> Certificate:
    from cryptography.hazmat.primitives import hashes

    return Certificate(
        subject=_shown(certificate.subject.rfc4514_string()),
        issuer=_shown(certificate.issuer.rfc4514_string()),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        sans=_sans(certificate),
        key=_key(certificate),
        sha256=certificate.fingerprint(hashes.SHA256()).hex(),
    )


def _key(certificate: "x509.Certificate") -> str:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        key: Any = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return ""
    kind = type(key).__name__.removeprefix("_").removesuffix("PublicKey")
    return f"{kind} {key.key_size}" if hasattr(key, "key_size") else kind


def _shown(text: str) -> str:
    return sanitize(text.encode("utf-8", "surrogatepass"))[0][:_NAME_CHARS]


def utc_now() -> datetime:
    """Return the clock by which a certificate's dates are judged."""
    return datetime.now(UTC)
