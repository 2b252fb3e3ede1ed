"""One SMTP conversation: a line out, a whole reply in, each within its limit; what is kept of it is safe to show.

What goes out next goes first: what a reply leaves for later is done when the server is waited for (``Wire.later``).
"""

import functools
import re
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from smtpprobe import faults
from smtpprobe.faults import Fault
from smtpprobe.model import Reply, TranscriptLine
from smtpprobe.redact import Redactor, clip, sanitize
from smtpprobe.replies import Malformed, RawReply, ReplyReader
from smtpprobe.tls import Seen
from smtpprobe.vocabulary import Note, Reason, Stage
from smtpprobe.wire import Ended, Limit, Wire

if TYPE_CHECKING:
    from smtpprobe.message import Message

# Bytes that can no longer become a reply are not waited for as long as a slow reply is.
_HOPELESS_SECONDS = 1.0
_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?: |$)")
_CRLF_NUL = re.compile(rb"[\r\n\0]")
LineSink = Callable[[TranscriptLine], None]


class _Forms(NamedTuple):
    reply: Reply
    text: str


class Heard:
    """A reply in its forms, made when first asked for."""

    def __init__(self, raw: RawReply, make: Callable[[RawReply], _Forms]) -> None:
        self.raw = raw
        self.code = raw.code
        self._make = make

    @functools.cached_property
    def _forms(self) -> _Forms:
        return self._make(self.raw)

    @property
    def reply(self) -> Reply:
        """The form that may be stored."""
        return self._forms.reply

    @property
    def text(self) -> str:
        """The whole reply, only for reading, never stored."""
        return self._forms.text

    def keep(self) -> None:
        """Make the forms, and tell of the reply, if that has not been done."""
        _ = self._forms

    @property
    def kept(self) -> RawReply:
        """The reply with its lines as they may be stored; a TAB is a blank again, as EHLO keywords may follow one."""
        lines = tuple(line.replace("\\x09", "\t").encode("ascii") for line in self.reply.lines)
        return RawReply(self.raw.code, lines, self.raw.notes)


class Dialogue:
    """Say lines and hear replies. ``alive`` is False once nothing that comes can be trusted to answer what is said."""

    def __init__(self, wire: Wire, redactor: Redactor, began: float, on_line: LineSink | None) -> None:
        self.wire = wire
        self.alive = True
        self.notes: set[Note] = set()
        self.seen = Seen()
        self._redactor = redactor
        self._began = began
        self._on_line = on_line
        self._reader = ReplyReader()
        self._tls_fresh = False

    def secured(self, seen: Seen) -> None:
        """Forget what was said in plaintext (RFC 3207 §4.2), except how much it was."""
        self._reader = ReplyReader(self._reader.session_bytes)
        self.seen = seen
        self._tls_fresh = True

    def unread(self) -> bytes:
        """Return what the server has sent beyond its last reply, without waiting for more."""
        self.wire.look()
        self._reader.feed(self.wire.take())
        return self._reader.pending

    async def ask(
        self,
        line: bytes,
        stage: Stage,
        limit: Limit,
        *,
        shown: str | None = None,
        behind: bytes = b"",
    ) -> Heard | Fault:
        """Say one line and hear its reply; ``shown`` replaces the line in the transcript.

        ``behind`` is a second command sent with it (RFC 2920), whose reply is to be heard by ``hear``. Raises
        ValueError for a line that holds CR, LF or NUL: values are checked long before, this is the last wall.
        """
        if _CRLF_NUL.search(line + behind):
            raise ValueError("a command holds CR, LF or NUL")
        if self.unread():
            return self.unsolicited(stage)
        self.wire.send(line + b"\r\n" + (behind + b"\r\n" if behind else b""))
        self._say(sanitize(line)[0] if shown is None else shown)
        if behind:
            self._say(sanitize(behind)[0])
        return await self.hear(stage, limit)

    async def deliver(self, message: "Message", limit: Limit) -> Heard | Fault:
        """Send a message after the 354 and hear the reply to it; the transcript only names it.

        A fault after the lone dot says that nobody knows what became of the message.
        """
        if self.unread():
            return self.unsolicited(Stage.DOT)
        self.wire.send(message.on_the_wire())
        self._say(f"[the test message, run {message.run}]")
        self._say(".")
        heard = await self.hear(Stage.DOT, limit)
        return faults.unanswered_message(heard) if isinstance(heard, Fault) else heard

    async def hear(self, stage: Stage, limit: Limit) -> Heard | Fault:
        """Wait for one whole reply."""
        deadline = limit.deadline
        while True:
            got = self._reader.next()
            if isinstance(got, RawReply):
                return self._heard(got, stage)
            if isinstance(got, Malformed):
                return self._lost(faults.malformed(got._replace(excerpt=self._quotable(got.excerpt, stage)), stage))
            if self._reader.hopeless:
                deadline = min(deadline, monotonic() + _HOPELESS_SECONDS)
            data = await self.wire.read(deadline)
            if isinstance(data, Ended):
                return self._lost(self._silence(data, stage, limit, begun=got.begun))
            self._tls_fresh = False
            self._reader.feed(data)

    def _silence(self, ended: Ended, stage: Stage, limit: Limit, *, begun: bool) -> Fault:
        pending = self._quotable(self._reader.pending, stage)
        late = faults.after_handshake(ended, self.seen) if self._tls_fresh else None
        if late is not None:
            return late
        if stage is Stage.GREETING:
            return faults.no_greeting(ended, pending, limit, begun=begun)
        if self._reader.hopeless:
            return faults.malformed(Malformed(Reason.MALFORMED_REPLY, "bytes that are no SMTP reply", pending), stage)
        return faults.no_reply(ended, limit, begun=begun)

    def unsolicited(self, stage: Stage) -> Heard | Fault:
        """Judge what came before anything was asked: a 421 is a goodbye, all else puts the replies out of step."""
        self.notes.add(Note.EARLY_DATA)
        said = faults.excerpt(self._quotable(self._reader.pending, stage))
        got = self._reader.next()
        if isinstance(got, RawReply) and got.code == 421:
            return self._heard(got, stage)
        return self._lost(faults.unsolicited(said))

    def _quotable(self, data: bytes, stage: Stage) -> bytes:
        """Search the whole for credentials before a piece of it stands in a sentence."""
        kept, echoed = self._redactor.raw(data, stage)
        if echoed:
            self.notes.add(Note.CREDENTIAL_ECHOED)
        return kept

    def _lost(self, what: Fault) -> Fault:
        self.alive = False
        self.notes |= what.notes
        return what

    def _heard(self, raw: RawReply, stage: Stage) -> Heard:
        if raw.code == 421:
            self.alive = False
        heard = Heard(raw, functools.partial(self._keep, stage, monotonic()))
        self.wire.later(heard.keep)
        return heard

    def _keep(self, stage: Stage, at: float, raw: RawReply) -> _Forms:
        self.notes |= raw.notes
        texts: list[str] = []
        for line in raw.lines:
            text, notes = sanitize(line)
            self.notes |= notes
            texts.append(text)
        if raw.code == 334:  # a challenge is part of the login: shown nowhere (design §9)
            safe, echoed = ("[challenge]",) * len(texts), self._redactor.challenged(texts)
        else:
            safe, echoed = self._redactor.lines(texts, stage)
        if echoed:
            self.notes.add(Note.CREDENTIAL_ECHOED)
        last = len(texts) - 1
        for index, shown in enumerate(safe):
            self._show("S", f"{raw.code}{' ' if index == last else '-'}{shown}", at)
        text = "\n".join(f"{raw.code}{' ' if index == last else '-'}{one}" for index, one in enumerate(texts))
        return _Forms(self._stored(raw.code, safe, stage), text)

    def _stored(self, code: int, safe: tuple[str, ...], stage: Stage) -> Reply:
        match = None if stage in {Stage.GREETING, Stage.EHLO} else _ENHANCED.match(safe[0])
        if match is None:
            return Reply(code=code, lines=tuple(map(clip, safe)))
        enhanced = match[1]
        if enhanced[0] != str(code)[0]:
            self.notes.add(Note.ENHANCED_CODE_CONTRADICTS)
        lines = tuple(clip(line.removeprefix(enhanced).lstrip()) for line in safe)
        return Reply(code=code, enhanced=enhanced, lines=lines)

    def _say(self, text: str) -> None:
        if self._on_line is not None:
            self.wire.later(functools.partial(self._show, "C", text, monotonic()))

    def _show(self, who: str, text: str, at: float) -> None:
        if self._on_line is not None:
            self._on_line(TranscriptLine(who=who, at_ms=round((at - self._began) * 1000), text=text))
