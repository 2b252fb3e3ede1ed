r"""Take what the server said out of what a client, a log line or a bounce put around it.

``said: 550 5.7.1 …``, ``(535, b'5.7.8 …')``, ``The server response was: 5.7.57 …``, ``{"response":"502 …"}``,
``smtp;550 …``, ``NOQUEUE: reject: RCPT from …: 554 …; from=<…> helo=<…>``: the words around a reply speak of other
things (a secure connection, a HELO name), and rules for client errors must not see a reply. Linear time.
"""

import functools
import re
from typing import Final

from smtpprobe.vocabulary import Stage


class _Pattern:
    """A pattern that is compiled when first used: a pod meets bare replies, and its start should not pay for these."""

    def __init__(self, source: str, flags: int = 0) -> None:
        self._source, self._flags = source, flags

    @functools.cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self._source, self._flags)

    def match(self, text: str) -> re.Match[str] | None:
        return self._compiled.match(text)

    def search(self, text: str) -> re.Match[str] | None:
        return self._compiled.search(text)

    def sub(self, new: str, text: str, count: int = 0) -> str:
        return self._compiled.sub(new, text, count=count)


_CODE: Final = r"(?:[45][0-5]\d|57\d|59\d)"
_ENHANCED: Final = r"#?[245]\.\d{1,3}\.\d{1,3}"
_STARTS: Final = _Pattern(rf"[2-5]\d\d(?:[ \-]|$)|{_ENHANCED}\b|#\d")
_SMTP_TYPE: Final = _Pattern(r"(?:diagnostic-code: ?)?smtp; ?", re.IGNORECASE)
# Where the reply begins, surest first: a code with an enhanced code behind it; the words with which .NET, Java and
# sendmail introduce a reply; a code behind a quote, bracket or colon; an enhanced code alone behind one of these.
_BEGINS: Final = (
    _Pattern(rf"(?<![\w./@-])({_CODE}(?: |-| -|, ?u?b?['\"])\s?{_ENHANCED}\b)"),
    _Pattern(
        r"(?:(?:server|remote) (?:response|host) (?:was|is|said|returned)|serverantwort (?:war|lautete)"
        r"|réponse du serveur était|respuesta del servidor fue|resposta do servidor foi|risposta del server"
        r"|ответ сервера|服务器响应为|伺服器回應為|서버 응답|応答は次のとおりです)"
        r"\s?[:\uff1a]\s*()(?=\S)",
        re.IGNORECASE,
    ),
    _Pattern(
        rf"(?<=[(\[\"'|:;>=)])(?<!code:)(?<!code=)\s{{0,8}}"
        rf"(?!40\d (?:Bad Request|Unauthori[sz]ed|Forbidden|Not Found|Method))"
        rf"({_CODE}(?:[ \-]|, ?u?b?['\"])(?=[A-Za-z<\"'\[#\u0080-\U0010ffff]))"
    ),
    _Pattern(rf"(?:said|response|reply|replied|error|code|smtp) ({_CODE}[ \-](?=[A-Za-z<\"'\[#]))", re.IGNORECASE),
    _Pattern(rf"(?<=[\"'(\[:]) ?({_ENHANCED} (?=[A-Za-z<(\[]))"),
)
_RUST: Final = _Pattern(r"(Permanent|Transient)NegativeCompletion, category: (\w{4,20}), detail: (\w{3,5})")
_DIGITS: Final = {
    "Permanent": "5",
    "Transient": "4",
    "Syntax": "0",
    "Information": "1",
    "Connections": "2",
    "Unspecified3": "3",
    "Unspecified4": "4",
    "MailSystem": "5",
    "Zero": "0",
    "One": "1",
    "Two": "2",
    "Three": "3",
    "Four": "4",
    "Five": "5",
    "Six": "6",
    "Seven": "7",
    "Eight": "8",
    "Nine": "9",
}
_TUPLE: Final = _Pattern(rf"({_CODE}), ?u?b?['\"]")
_LOGGED: Final = _Pattern(r"; from=<[^<>]{0,320}>,?(?: to=<| proto=).*| ?\(in reply to [^()]{1,60}\)", re.DOTALL)
_STAGE_WORDS: Final = {
    Stage.DOT: "after end of data|end of data|smtpdataerror|data end command|message failed:",
    Stage.RCPT: "reply to rcpt to|after rcpt to|smtprecipientsrefused|recipients were rejected|rcpt failed|rcpt from",
    Stage.MAIL: "reply to mail from|after mail from|smtpsenderrefused|mail command failed|mail from command failed",
    Stage.DATA: "in reply to data command",
    Stage.AUTH: "invalid login:|smtpauthenticationerror|authenticationfailedexception|sasl authentication failed",
    Stage.EHLO: "in reply to ehlo|in reply to helo|smtpheloerror|after ehlo|after helo",
    Stage.STARTTLS: "in reply to starttls|after starttls",
    Stage.GREETING: "refused to talk to me|initial server greeting|initial connection",
}


def unwrap(text: str) -> str:
    """Return the part of one error text or log line that the server said; all of it where no reply is found in it."""
    head = text.lstrip()
    if head[:3].isdigit() and head[3:4] in {" ", "-"} and "=<" not in head and "in reply to" not in head:
        return head
    if found := _SMTP_TYPE.match(head):
        head = head[found.end() :]
    if not _STARTS.match(head):
        head = _spelt_code(head) + head if "NegativeCompletion" in head else head
        for pattern in _BEGINS:
            if found := pattern.search(head):
                head = head[found.start(1) :]
                break
    if "from=<" in head or "in reply to" in head:
        head = _LOGGED.sub("", head)
    return _TUPLE.sub(r"\1 ", head, count=1) if head[3:4] == "," else head


def _spelt_code(text: str) -> str:
    """Return the code that Rust's lettre and async-smtp print in words, as ``"code 535; "``."""
    found = _RUST.search(text)
    digits = [_DIGITS.get(word, "") for word in found.groups()] if found else []
    return f"code {''.join(digits)}; " if all(digits) and digits else ""


def stage_said(text: str) -> Stage | None:
    """Return the stage that the words around a reply name, or None."""
    folded = text.casefold()
    return next((stage for stage, words in _STAGE_WORDS.items() if any(w in folded for w in words.split("|"))), None)
