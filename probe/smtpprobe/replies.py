"""Strict reader of SMTP replies (RFC 5321 §4.2), without I/O: bytes in, replies out.

::

    Reply-line     = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF
    Reply-code     = %x32-35 %x30-35 %x30-39

Stock clients take ``int(line[:3])`` of the last line: ``554-`` followed by ``220`` passes there as a success. Here
every line has the grammar above and the code of the first one, or the reply is ``Malformed``. How the bytes were cut
into segments never changes what is read.
"""

import re
from typing import NamedTuple

from smtpprobe.vocabulary import Note, Reason

MAX_LINES = 100
MAX_LINE_BYTES = 8 * 1024
MAX_REPLY_BYTES = 32 * 1024
MAX_SESSION_BYTES = 256 * 1024
EXCERPT_BYTES = 256
# RFC 5321 §4.5.3.1.5: 512 octets with code and CRLF; longer ones are read, and noted.
LEGAL_LINE_BYTES = 512

_LINE = re.compile(rb"([2-5][0-5][0-9])(?:([ -])(.*))?", re.DOTALL)
_LINE_BEGIN = re.compile(rb"[2-5](?:[0-5](?:[0-9](?:[ -].*|\r?)?)?)?", re.DOTALL)
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\t]")
_TLS_RECORD_TYPES = (0x14, 0x15, 0x16, 0x17)


class RawReply(NamedTuple):
    """One whole reply: its code and the text of each line, without code, separator and line end."""

    code: int
    lines: tuple[bytes, ...]
    notes: frozenset[Note] = frozenset()


class Malformed(NamedTuple):
    """What cannot be a reply: MalformedReply or ReplyTooLong, the sentence, the begin of the line at fault."""

    reason: Reason
    detail: str
    excerpt: bytes
    notes: frozenset[Note] = frozenset()


class NeedMore(NamedTuple):
    """No whole reply yet. ``begun`` when a part of one has come."""

    begun: bool


class Ehlo(NamedTuple):
    """An EHLO reply (RFC 5321 §4.1.1.1): its first line, then one string a keyword line, the keyword in upper case."""

    first_line: bytes
    keywords: tuple[str, ...]


class ReplyReader:
    """Cut a stream of bytes into replies; the bounds above hold whatever comes.

    After ``Malformed`` nothing more can be read: where one reply ends and the next begins is no longer known.
    """

    def __init__(self, session_bytes: int = 0) -> None:
        """Begin with ``session_bytes`` already spent (the plaintext half of a STARTTLS session)."""
        self._buffer = bytearray()
        self._code: bytes | None = None
        self._lines: list[bytes] = []
        self._notes: set[Note] = set()
        self._reply_bytes = 0
        self._broken: Malformed | None = None
        self.session_bytes = session_bytes

    @property
    def pending(self) -> bytes:
        """Bytes that no reply has used yet."""
        return bytes(self._buffer)

    @property
    def hopeless(self) -> bool:
        """Say whether the unfinished line cannot become a reply line, whatever follows."""
        return bool(self._buffer) and _LINE_BEGIN.fullmatch(self._buffer[:EXCERPT_BYTES]) is None

    def feed(self, data: bytes) -> None:
        """Take what arrived; what lies beyond the session bound is not kept."""
        if self._broken is None:
            room = MAX_SESSION_BYTES + MAX_LINE_BYTES - self.session_bytes - len(self._buffer)
            self._buffer += data[: max(room, 0)]

    def next(self) -> RawReply | Malformed | NeedMore:
        """Return the next whole reply, or why there is none."""
        while self._broken is None:
            if len(self._buffer) >= 2 and self._buffer[0] in _TLS_RECORD_TYPES and self._buffer[1] == 0x03:
                return self._break(Reason.MALFORMED_REPLY, "a TLS record instead of a reply", bytes(self._buffer[:2]))
            end = self._buffer.find(b"\n")
            if (end if end >= 0 else len(self._buffer)) > MAX_LINE_BYTES + 1:
                return self._too_long(f"a line of more than {MAX_LINE_BYTES} bytes")
            if end < 0:
                return NeedMore(begun=bool(self._buffer or self._lines))
            line = bytes(self._buffer[: end + 1])
            del self._buffer[: end + 1]
            done = self._line(line)
            if done is not None:
                return done
        return self._broken

    def _line(self, raw: bytes) -> RawReply | Malformed | None:
        self._reply_bytes += len(raw)
        self.session_bytes += len(raw)
        if len(raw) > LEGAL_LINE_BYTES:
            self._notes.add(Note.LINE_TOO_LONG)
        if not raw.endswith(b"\r\n"):
            self._notes.add(Note.BARE_LF)
        line = raw.removesuffix(b"\n").removesuffix(b"\r")
        if self.session_bytes > MAX_SESSION_BYTES:
            return self._too_long(f"more than {MAX_SESSION_BYTES // 1024} KiB in one session", line)
        if self._reply_bytes > MAX_REPLY_BYTES:
            return self._too_long(f"a reply of more than {MAX_REPLY_BYTES // 1024} KiB", line)
        if len(self._lines) >= MAX_LINES:
            return self._too_long(f"a reply of more than {MAX_LINES} lines", line)
        match = _LINE.fullmatch(line)
        if match is None:
            return self._break(Reason.MALFORMED_REPLY, "a line that is no SMTP reply", line)
        code, separator, text = match.groups()
        if self._code is not None and code != self._code:
            self._notes.add(Note.CODE_MISMATCH)
            detail = f"the lines of one reply carry different codes, {self._code.decode()} and {code.decode()}"
            return self._break(Reason.MALFORMED_REPLY, detail, line)
        self._code = code
        self._lines.append(text or b"")
        if separator == b"-":
            return None
        reply = RawReply(int(code), tuple(self._lines), frozenset(self._notes))
        self._code, self._lines, self._notes, self._reply_bytes = None, [], set(), 0
        return reply

    def _too_long(self, detail: str, line: bytes | None = None) -> Malformed:
        return self._break(Reason.REPLY_TOO_LONG, detail, bytes(self._buffer[:EXCERPT_BYTES]) if line is None else line)

    def _break(self, reason: Reason, detail: str, line: bytes) -> Malformed:
        self._broken = Malformed(reason, detail, line[:EXCERPT_BYTES], frozenset(self._notes))
        self._buffer.clear()
        self._lines.clear()
        return self._broken


def parse_ehlo(reply: RawReply) -> Ehlo:
    """Split an EHLO reply; empty keyword lines, leading blanks and repeated lines are legal enough to pass over."""
    keywords: dict[str, None] = {}
    for line in reply.lines[1:]:
        words = _printable(line).split()
        if words:
            head, equals, rest = words[0].partition("=")
            keywords[" ".join([head.upper() + equals + rest, *words[1:]])] = None
    return Ehlo(reply.lines[0], tuple(keywords))


def offered(keywords: tuple[str, ...], keyword: str) -> bool:
    """Say whether a keyword (upper case) is announced, with or without parameters."""
    return any(line.split(" ", 1)[0].partition("=")[0] == keyword for line in keywords)


def mechanisms(keywords: tuple[str, ...]) -> tuple[str, ...]:
    """Return the SASL mechanisms of all AUTH lines, the old ``AUTH=LOGIN`` form included, upper case, each once."""
    found: dict[str, None] = {}
    for line in keywords:
        head, *rest = line.replace("=", " ", 1).split() if line.startswith("AUTH=") else line.split()
        if head == "AUTH":
            found.update(dict.fromkeys(word.upper() for word in rest))
    return tuple(found)


def _printable(raw: bytes) -> str:
    return _UNPRINTABLE.sub(lambda hit: f"\\x{ord(hit[0]):02x}", raw.decode("latin-1"))
