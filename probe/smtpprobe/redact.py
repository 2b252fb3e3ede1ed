r"""Make server bytes safe to store, and keep credentials out of what is stored.

Two forms of one text:

* **stored** (``sanitize``): printable ASCII, every other byte as ``\xNN``. It is lossless (``raw_bytes`` is the
  inverse: a backslash that stands before ``xNN`` in the original is itself written ``\x5c``), needs no guess about
  the charset, and carries nothing but the characters 0x20 to 0x7E into a terminal, log, label or JSON document.
* **for the reader** (``charset.readable``): made from the stored form when it is shown.

Order for a reply: ``sanitize`` each line, ``Redactor.lines``, only then ``clip``, so that no cut hides a password
from the search while its first half stays.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Set as AbstractSet
from typing import Final

import msgspec

from smtpprobe.credentials import Credentials
from smtpprobe.vocabulary import Note, Stage

WITHHELD: Final = "[withheld: it contained the credentials]"
WITHHELD_SHORT: Final = "[withheld: the password is too short to search for]"
MIN_SECRET: Final = 6
MAX_LINE: Final = 512

_AFTER_LOGIN: Final = frozenset({Stage.AUTH, Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT, Stage.QUIT})
_TO_ESCAPE: Final = re.compile(rb"\\(?=x[0-9A-Fa-f]{2})|[^\x20-\x7e]")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_ESCAPED: Final = re.compile(rb"\\x([0-9A-Fa-f]{2})")
_HALF_ESCAPE: Final = re.compile(r"\\(?:x[0-9A-Fa-f]?)?$")

_WINDOW: Final = 8
_NOT_QUOTED_PRINTABLE: Final = re.compile(rb"[^\x21-\x3c\x3e-\x7e]")
_ANY_HEX_ESCAPE: Final = re.compile(rb"(?:%|=|\+|\\x|0x|\\u00|&#x)([0-9a-f]{2});?")
_UNRESERVED: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~"  # RFC 3986 §2.3
# Not the standard library's urllib.parse and html: they cost the probe a tenth of its start.
_HTML: Final = (("&", "amp"), ("<", "lt"), (">", "gt"), ('"', "quot"), ("'", "#x27"))
_HTML_NAMES: Final = {name.encode(): plain.encode() for plain, name in _HTML} | {b"apos": b"'"}
_HTML_ESCAPE: Final = re.compile(rb"&(?:#([0-9]{1,7})|#x([0-9a-f]{1,6})|(amp|lt|gt|quot|apos));?", re.IGNORECASE)
_BASE64_CHARS: Final = b"abcdefghijklmnopqrstuvwxyz0123456789+/"
_TO_BASE64: Final = bytes.maketrans(b"-_", b"+/")
_NOT_BASE64: Final = bytes(b for b in range(256) if b not in _BASE64_CHARS + b"-_")
# "Username:" and "Password:" as LOGIN prompts, which Postfix repeats in its refusal: no echo of a password like them.
_PROMPTS: Final = re.compile(rb"(?<![a-z0-9+/])(?:ugfzc3dvcmq6|vxnlcm5hbwu6)(?![a-z0-9+/=])")
_ENCODINGS: Final = ("latin-1", "cp949", "gb18030", "utf-16-le", "utf-16-be")
_WIDE: Final = ("utf-16-le", "utf-16-be")
_SEPARATORS: Final = re.compile(rb"[^a-z0-9]+")
_BARE_SECRET: Final = 8  # letters and digits that a password must have to be looked for without what stands between


def sanitize(raw: bytes) -> tuple[str, frozenset[Note]]:
    r"""Return the stored form of server bytes with the notes ControlBytes and InvalidUtf8 where they apply.

    TAB is escaped but no note: RFC 5321 §4.2 allows it in a reply.
    """
    notes: set[Note] = set()
    if _CONTROL.search(raw):
        notes.add(Note.CONTROL_BYTES)
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        notes.add(Note.INVALID_UTF8)
    return _TO_ESCAPE.sub(lambda hit: b"\\x%02x" % hit[0][0], raw).decode("ascii"), frozenset(notes)


def raw_bytes(text: str) -> bytes:
    """Return the bytes that ``sanitize`` was given; characters that are not of the stored form count as UTF-8."""
    return _ESCAPED.sub(lambda hit: bytes([int(hit[1], 16)]), text.encode("utf-8", "surrogateescape"))


def clip(text: str, limit: int = MAX_LINE) -> str:
    r"""Return at most ``limit`` characters of stored text, ending in ``...`` where cut, never inside ``\xNN``."""
    if len(text) <= limit:
        return text
    return _HALF_ESCAPE.sub("", text[: max(0, limit - 3)]) + "..."[:limit]


def shorten_local_parts(text: str) -> str:
    """Return the text with the local part of each address cut to its first character (``n…@shop.example.com``)."""
    parts = text.split("@")
    for index, part in enumerate(parts[:-1]):
        if not re.match(r"[\w\[\\]", parts[index + 1]):
            continue
        if part.endswith('"') and (start := part.rfind('"', 0, -1)) >= 0:
            parts[index] = part[:start] + '"…"'
        elif local := re.split(r"[\s<>()\[\],;:\"']", part)[-1]:
            parts[index] = part.removesuffix(local) + local[0] + "…"
    return "@".join(parts)


class Redactor:
    """Withhold every line that shows the credentials: by value, in any usual encoding, the line as a whole.

    Looked for, whatever the case: the password as it is, with anything between its letters, in URL, HTML, JSON,
    quoted-string, quoted-printable, hex, octal, decimal, UTF-16, base32, base85 or twice encoded form; base64 of
    username, password, the PLAIN response and of each line that ``learn`` was told, at all three offsets and also cut
    off. Nothing is replaced inside a line, so no value of the spec is ever altered. A password under 6 characters
    cannot be searched for: then no server text from AUTH on is stored.
    """

    def __init__(self, credentials: Credentials | None) -> None:
        self._plain: set[bytes] = set()  # looked for in every view of a line
        self._windows: set[bytes] = set()  # pieces of encoded forms, each of _WINDOW characters
        self._short: set[bytes] = set()  # encoded forms of 6 or 7 characters
        self._secret: frozenset[bytes] = frozenset()  # the windows of the password alone
        self._bare = b""  # the password's letters and digits
        self._mute = False
        if credentials is None:
            return
        user, password = credentials.username_bytes, credentials.password_bytes
        self._mute = len(credentials.password) < MIN_SECRET
        self._add_base64(password)
        if not self._mute:
            self._add_password(credentials.password, password)
        self._secret = frozenset(self._windows)
        for value in (user, b"\0" + user + b"\0" + password, user + b"\0" + user + b"\0" + password):
            self._add_base64(value)

    def _add_password(self, text: str, raw: bytes) -> None:
        self._plain.update(form.lower() for form in _spellings(text, raw))
        self._add_encoded(raw.hex().encode())
        self._add_base64(base64.b64encode(raw))
        for form in _base32_forms(raw):
            self._add_encoded(form)
        for encoding in _WIDE:
            self._add_base64(text.encode(encoding, "surrogatepass"))
        bare = _SEPARATORS.sub(b"", raw.lower())
        # A password of letters alone can be words that any server says.
        if len(bare) >= _BARE_SECRET and re.search(rb"\d", bare):
            self._bare = bare

    def learn(self, line: bytes) -> None:
        """Take an AUTH command or response as sent (no CRLF): its base64 and the digest inside become secrets."""
        words = line.split(b" ")
        if len(words) == 2 and words[0].upper() == b"AUTH":
            return  # only the mechanism's name
        self._add_encoded(words[-1])
        try:
            decoded = base64.b64decode(words[-1], validate=True)
        except ValueError:
            return
        self._add_base64(decoded)
        proofs = re.findall(rb"(?:^|,)p=([A-Za-z0-9+/=]{16,})|(?:^| )([0-9a-f]{32,})$", decoded)
        for proof in (part for pair in proofs for part in pair if part):
            self._plain.add(proof.lower())
            self._add_encoded(proof)

    def text(self, text: str, stage: Stage) -> tuple[str, bool]:
        """Return sanitized text, or a mark in its place; True where it contained the credentials."""
        lines, echoed = self.lines((text,), stage)
        return lines[0], echoed

    def lines(self, lines: Iterable[str], stage: Stage) -> tuple[tuple[str, ...], bool]:
        """Return a reply's sanitized lines; all are withheld where only the joined lines show the credentials."""
        given = tuple(lines)
        # All at once first, as hardly any reply shows them: what a line shows, the lines over line feeds show as well.
        shown = (False,) * len(given)
        if self._shows("\n".join(given)):
            shown = tuple(self._shows(line) for line in given)
        echoed = any(shown)
        if not echoed and len(given) > 1 and self._shows("".join(given)):
            shown, echoed = (True,) * len(given), True
        if self._mute and stage in _AFTER_LOGIN:
            return (WITHHELD_SHORT,) * len(given), echoed
        return tuple(WITHHELD if hit else line for hit, line in zip(shown, given, strict=True)), echoed

    def challenged(self, lines: Iterable[str]) -> bool:
        """Say whether a challenge (334) shows the password; parts of a login it repeats by right (SCRAM's nonce)."""
        return self._shows("".join(lines), self._secret)

    def raw(self, data: bytes, stage: Stage) -> tuple[bytes, bool]:
        """Do the same for bytes that are no reply, before a piece of them is quoted."""
        text, _ = sanitize(data)
        kept, echoed = self.text(text, stage)
        return (data if kept == text else kept.encode("ascii")), echoed

    def _shows(self, text: str, windows: AbstractSet[bytes] | None = None) -> bool:
        if not (self._plain or self._windows or self._short):
            return False
        wanted = self._windows if windows is None else windows
        return any(self._in_view(view, wanted) for view in _views(raw_bytes(text)))

    def _in_view(self, view: bytes, windows: AbstractSet[bytes]) -> bool:
        if any(secret in view for secret in self._plain):
            return True
        if self._bare and self._bare in _SEPARATORS.sub(b"", view):
            return True
        squeezed = _squeeze(_PROMPTS.sub(b"", view))
        if any(form in squeezed for form in self._short):
            return True
        return any(squeezed[i : i + _WINDOW] in windows for i in range(len(squeezed) - _WINDOW + 1))

    def _add_base64(self, value: bytes) -> None:
        for form in _base64_forms(value):
            self._add_encoded(form)

    def _add_encoded(self, form: bytes) -> None:
        squeezed = _squeeze(form.lower())
        if MIN_SECRET <= len(squeezed) < _WINDOW:
            self._short.add(squeezed)
        self._windows.update(squeezed[i : i + _WINDOW] for i in range(len(squeezed) - _WINDOW + 1))


def _base64_forms(value: bytes) -> Iterator[bytes]:
    """Yield what base64 of any text that contains value must contain, for the three offsets."""
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + value)
        yield encoded[-(-8 * offset // 6) : 8 * (offset + len(value)) // 6]


def _base32_forms(value: bytes) -> Iterator[bytes]:
    """Yield the same for base32, for its five offsets."""
    for offset in range(5):
        encoded = base64.b32encode(b"\0" * offset + value)
        yield encoded[-(-8 * offset // 5) : 8 * (offset + len(value)) // 5]


def _spellings(password: str, raw: bytes) -> Iterator[bytes]:
    """Yield the password as servers may write it: other charsets, other case beyond ASCII, escaped."""
    yield raw
    for text in (password, password.lower(), password.upper()):
        yield text.encode("utf-8", "surrogateescape")
        for encoding in _ENCODINGS:
            try:
                yield text.encode(encoding)
            except UnicodeEncodeError:
                continue
    for safe in (b"", b"/"):
        yield _percent(raw, safe)
    yield _percent(raw, b" ").replace(b" ", b"+")
    yield "".join(f"%{byte:02x}" for byte in raw).encode()
    text = raw.decode("utf-8", "replace")
    yield _html(text).encode()
    if text.isascii() and "\x7f" not in text:
        yield msgspec.json.encode(text)[1:-1]
    else:
        import json  # by need: few passwords are not ASCII

        yield json.dumps(text)[1:-1].encode()
        yield json.dumps(text, ensure_ascii=False)[1:-1].encode()
    yield re.sub(rb'(["\\])', rb"\\\1", raw)
    yield base64.b85encode(raw)
    yield base64.a85encode(raw)
    yield binascii.b2a_uu(raw[:45])[1:].rstrip()
    for between in (b" ", b",", b", "):
        yield between.join(b"%d" % byte for byte in raw)
    yield b"".join(b"\\%03o" % byte for byte in raw)
    yield b" ".join(b"%03o" % byte for byte in raw)
    yield _NOT_QUOTED_PRINTABLE.sub(lambda hit: b"=%02x" % hit[0][0], raw)


def _percent(raw: bytes, safe: bytes) -> bytes:
    keep = _UNRESERVED + safe
    return b"".join(bytes([byte]) if byte in keep else b"%%%02x" % byte for byte in raw)


def _html(text: str) -> str:
    for plain, name in _HTML:
        text = text.replace(plain, f"&{name};")
    return text


def _views(raw: bytes) -> Iterator[bytes]:
    """Yield the text in lower case, as it is and with the usual escapes undone."""
    lower = raw.lower()
    yield lower
    unescaped = _ANY_HEX_ESCAPE.sub(lambda hit: bytes([int(hit[1], 16)]), lower)
    if unescaped != lower:
        yield unescaped.lower()
        yield unescaped.lower().replace(b"+", b" ")
    if b"&" in raw:
        yield _HTML_ESCAPE.sub(_character, raw).lower()


def _character(hit: re.Match[bytes]) -> bytes:
    if hit[3]:
        return _HTML_NAMES[hit[3].lower()]
    code = int(hit[1]) if hit[1] else int(hit[2], 16)
    return chr(code).encode("utf-8", "surrogatepass") if code < 0x110000 else hit[0]


def _squeeze(text: bytes) -> bytes:
    return text.translate(_TO_BASE64, _NOT_BASE64)
