"""Read the mounted Secret: its values exactly as they are, and whether this host may see them.

The kubelet mounts a Secret as one file a key behind a link ``..data``; a missing optional Secret is a folder without
keys. Nothing here prints, logs or encodes a value.
"""

import ipaddress
import os
import re
import sys
from typing import BinaryIO, Final, NamedTuple

from smtpprobe.model import CredentialFiles
from smtpprobe.vocabulary import Reason

ALLOWED_HOSTS_KEY: Final = "allowedHosts"
FINGERPRINT_ROUNDS: Final = 600_000
MAX_VALUE_BYTES: Final = 8192  # base64 of it must fit a SASL line of 12,288 octets (RFC 4954 §4)

_KEY_NAME: Final = re.compile(r"(?!\.\.)[-._a-zA-Z0-9]{1,253}")  # what a Secret's key may be called
_SHOWN_KEYS: Final = 8


class Credentials:
    """Username and password as the Secret holds them; bytes that are no UTF-8 are kept by surrogateescape.

    A plain class on purpose: ``msgspec`` and ``json`` refuse to encode it, and its repr shows no value.
    """

    __slots__ = ("password", "username")

    def __init__(self, username: str, password: str) -> None:
        self.username = username
        self.password = password

    def __repr__(self) -> str:
        return f"Credentials({user_shape(self.username)} username, password hidden)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Credentials) and self._pair() == other._pair()

    def __hash__(self) -> int:
        return hash(self._pair())

    def _pair(self) -> tuple[str, str]:
        return self.username, self.password

    @property
    def username_bytes(self) -> bytes:
        """The username as it goes on the wire."""
        return wire_bytes(self.username)

    @property
    def password_bytes(self) -> bytes:
        """The password as it goes on the wire."""
        return wire_bytes(self.password)


class Problem(NamedTuple):
    """Why there are no credentials to send; the message is for ``status`` and names keys, never values."""

    reason: Reason
    message: str


def wire_bytes(value: str) -> bytes:
    """Return UTF-8, with the bytes that came in by surrogateescape as they were."""
    return value.encode("utf-8", "surrogateescape")


def read(files: CredentialFiles, host: str) -> Credentials | Problem:
    """Read the pair from one generation of the mounted Secret; obey its key ``allowedHosts`` before anything else."""
    for _ in range(2):
        try:
            return _read_generation(_generation(files.directory), files, host)
        except FileNotFoundError:  # the kubelet swapped ``..data`` between two reads: take the new generation
            continue
    return Problem(Reason.SECRET_NOT_FOUND, _not_found(files))


def read_password(source: str, stdin: BinaryIO | None = None) -> str:
    """Read a password from a file, or from standard input where source is ``-``; one trailing newline is dropped.

    Raises OSError as ``open`` does, and ValueError for a value that no login can carry.
    """
    raw = (stdin or sys.stdin.buffer).read() if source == "-" else bytes_of(source)
    raw = raw.removesuffix(b"\r\n" if raw.endswith(b"\r\n") else b"\n")
    if flaw := _flaw(raw):
        raise ValueError(f"the password {flaw}")
    return raw.decode("utf-8", "surrogateescape")


def fingerprint(credentials: Credentials, salt_hex: str) -> str:
    """Return 16 bits of PBKDF2-HMAC-SHA256 over username NUL password as 4 hex digits (about 0.2 s of one core)."""
    from hashlib import pbkdf2_hmac

    secret = credentials.username_bytes + b"\0" + credentials.password_bytes
    return pbkdf2_hmac("sha256", secret, bytes.fromhex(salt_hex), FINGERPRINT_ROUNDS, dklen=2).hex()


def new_salt() -> str:
    """Return 16 random bytes in hex."""
    return os.urandom(16).hex()


def flaw(value: str) -> str | None:
    """Say what makes a user name or password one that no login can carry, or nothing."""
    return _flaw(wire_bytes(value))


def edge_whitespace(credentials: Credentials) -> bool:
    """Tell whether username or password begins or ends with white space (``echo`` into base64 adds a newline)."""
    return any(value != value.strip() for value in (credentials.username, credentials.password))


def user_shape(username: str) -> str:
    r"""Return ``domain`` for ``DOMAIN\user``, ``address`` for ``user@domain``, else ``bare``."""
    if "\\" in username:
        return "domain"
    return "address" if "@" in username else "bare"


def host_allowed(host: str, allowed: str) -> bool:
    """Match a host against names, addresses and ``*.suffix`` entries parted by commas or white space."""
    wanted = _host_name(host)
    for entry in re.split(r"[,\s]+", allowed):
        name = _host_name(entry)
        if name.startswith("*.") and len(name) > 2:
            if wanted.endswith(name[1:]) and len(wanted) > len(name) - 1:
                return True
        elif name and name == wanted:
            return True
    return False


def _host_name(text: str) -> str:
    bare = text.strip().removeprefix("[").removesuffix("]")
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return bare.lower().removesuffix(".")


# No pathlib here: its import is a twentieth of a pod's start.
def _generation(directory: str) -> str:
    data = os.path.join(directory, "..data")
    return os.path.realpath(data) if os.path.exists(data) else directory


def bytes_of(path: str) -> bytes:
    """Return the content of a file."""
    with open(path, "rb") as file:
        return file.read()


def _read_generation(folder: str, files: CredentialFiles, host: str) -> Credentials | Problem:
    keys = sorted(key for key in os.listdir(folder) if not key.startswith("..")) if os.path.isdir(folder) else []
    if not keys:
        return Problem(Reason.SECRET_NOT_FOUND, _not_found(files))
    if ALLOWED_HOSTS_KEY in keys:
        allowed = bytes_of(os.path.join(folder, ALLOWED_HOSTS_KEY)).decode("utf-8", "replace")
        if not host_allowed(host, allowed):
            return Problem(
                Reason.HOST_NOT_ALLOWED,
                f"{_name(files)} may not be sent to {host}: add the host to its key {ALLOWED_HOSTS_KEY}, "
                "or use another Secret. Nothing was sent.",
            )
    values: list[str] = []
    for field, key in (("usernameKey", files.username_key), ("passwordKey", files.password_key)):
        if key not in keys or not _KEY_NAME.fullmatch(key):
            return Problem(Reason.SECRET_KEY_MISSING, _key_missing(files, field, key, keys))
        try:
            raw = bytes_of(os.path.join(folder, key))
        except (PermissionError, IsADirectoryError) as error:
            return Problem(Reason.SECRET_KEY_MISSING, f"Key {key} of {_name(files)} cannot be read: {error.strerror}.")
        if flaw := _flaw(raw):
            return Problem(Reason.SECRET_KEY_MISSING, f"Key {key} of {_name(files)} {flaw}. Nothing was sent.")
        values.append(raw.decode("utf-8", "surrogateescape"))
    return Credentials(*values)


def _flaw(raw: bytes) -> str | None:
    if not raw:
        return "is empty: write a value into it"
    if b"\0" in raw:
        return "holds a NUL byte, which no login can carry (RFC 4616 §2): write it again, without binary data"
    if len(raw) > MAX_VALUE_BYTES:
        return f"is longer than {MAX_VALUE_BYTES} bytes, which fits no login line (RFC 4954 §4): write it again"
    return None


def _name(files: CredentialFiles) -> str:
    return f"Secret {files.secret_name}" if files.secret_name else f"folder {files.directory}"


def _not_found(files: CredentialFiles) -> str:
    name = files.secret_name or "NAME"
    return (
        f"{_name(files)[0].upper()}{_name(files)[1:]} is missing or has no keys. Create it in this namespace: "
        f"kubectl create secret generic {name} --from-literal={files.username_key}=USER "
        f"--from-file={files.password_key}=FILE"
    )


def _key_missing(files: CredentialFiles, field: str, key: str, keys: list[str]) -> str:
    shown = ", ".join(k if _KEY_NAME.fullmatch(k) else ascii(k) for k in keys[:_SHOWN_KEYS])
    more = f" and {len(keys) - _SHOWN_KEYS} more" if len(keys) > _SHOWN_KEYS else ""
    asked = key if _KEY_NAME.fullmatch(key) else ascii(key[:60])
    return (
        f"{_name(files)[0].upper()}{_name(files)[1:]} has no key {asked}; it has {shown}{more}. "
        f"Add the key, or name the right one in spec.credentialsSecretRef.{field}."
    )
