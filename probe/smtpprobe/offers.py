"""What EHLO announced, before and after TLS: as the server said it, to decide by, and in the form that may be stored.

The next command waits for the decision, and nothing but the result waits for the stored form.
"""

import re

from smtpprobe.dialogue import Heard
from smtpprobe.model import Features
from smtpprobe.replies import mechanisms, parse_ehlo
from smtpprobe.vocabulary import Note

_MASKED_KEYWORD = re.compile(r"X{4}")


class Offers:
    """``keywords`` is what holds on the channel that is spoken on now; ``features`` and ``lines`` are stored forms."""

    def __init__(self) -> None:
        self.keywords: tuple[str, ...] = ()
        self.features = Features()
        self.lines: list[str] = []  # the first line of each EHLO reply
        self._secured = False

    def secured(self) -> None:
        """Rely no more on what was announced in plaintext (RFC 3207 §4.2)."""
        self.keywords, self._secured = (), True

    def hear(self, heard: Heard, *, esmtp: bool) -> None:
        """Take a reply to EHLO, or to HELO, which announces nothing."""
        self.keywords = parse_ehlo(heard.raw).keywords if esmtp else ()

    def store(self, heard: Heard, *, esmtp: bool, after_tls: bool) -> tuple[Note, ...]:
        """Keep the same reply in its stored form; returns what is to be noted of all that was announced."""
        keywords = parse_ehlo(heard.kept).keywords if esmtp else ()
        self.lines.append(heard.reply.lines[0])
        if after_tls:
            self.features = Features(before_tls=self.features.before_tls, after_tls=keywords)
        else:
            self.features = Features(before_tls=keywords)
        return tuple(_notes(self.features))

    @property
    def stored(self) -> tuple[str, ...]:
        """The stored form of ``keywords``, once it is made."""
        return (self.features.after_tls if self._secured else self.features.before_tls) or ()

    @property
    def login(self) -> bool:
        """Say whether a login was offered before or after TLS."""
        return bool(mechanisms((*(self.features.before_tls or ()), *(self.features.after_tls or ()))))


def _notes(features: Features) -> list[Note]:
    before, after = features.before_tls, features.after_tls
    if before is None:
        return []
    notes: list[Note] = []
    if any(_MASKED_KEYWORD.match(line) for line in before):
        notes.append(Note.MIDDLEBOX_SUSPECTED)
    if mechanisms(before):
        notes.append(Note.PLAINTEXT_AUTH_OFFERED)
        if after is not None and not mechanisms(after):
            notes.append(Note.AUTH_ONLY_BEFORE_TLS)
    return notes
