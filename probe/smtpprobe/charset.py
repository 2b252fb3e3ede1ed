r"""Show stored server text to a person: its letters as letters, everything that misleads a reader still escaped.

The charset is guessed, so this is for display only; what is stored keeps the bytes (``redact.sanitize``). Order:
UTF-8 where it is valid; EUC-KR or GB18030 where all high bytes come in pairs of 0xA1 to 0xFE and enough of them are
common Hangul or hanzi; else Latin-1, whose 0x80 to 0x9F stay escaped. Never shown as they are: control, format and
bidirectional characters, line and paragraph separators, private and unassigned characters, invisible letters, and
long rows of combining marks.
"""

import re
import unicodedata
from typing import Final

from smtpprobe.redact import raw_bytes

_INVISIBLE: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_SHOWN: Final = frozenset({"Lu", "Ll", "Lt", "Lm", "Lo", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po"})
_SYMBOLS: Final = frozenset({"Sm", "Sc", "Sk", "So"})
_MAX_MARKS: Final = 3
# Every third syllable or more of Korean prose is one of these; of hanzi read as EUC-KR, one in twenty.
_COMMON_HANGUL: Final = frozenset(
    "가간거건게결경계고과관구권그기나내는니다단당대데도동되된될드든등때라락량러로록류를름리마만메면명모무문물미"
    "반받발방버번보복부분비사상서선설성세소속송수스시식신실아안않암액야어언없에여연열영오와외요용우원유율으은"
    "을음의이인일임입있자장재적전접정제조족존주중지차처천첨청체초최추출치크키타터통트패편포표필하한할함합해행허"
    "호확환활회효후"
)
_HIGH: Final = re.compile(rb"[\x80-\xff]+")


def readable(text: str) -> str:
    r"""Return stored text as a person reads it; what stays escaped is ``\xNN`` or ``\u{NNNN}``."""
    raw = raw_bytes(text)
    if raw.isascii():
        return safe(raw.decode("ascii"))
    for encoding in ("utf-8", "euc_kr", "gb18030"):
        try:
            decoded = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        if encoding == "utf-8" or (_in_pairs(raw) and _frequent(decoded, encoding)):
            return safe(decoded)
    return safe(raw.decode("latin-1"))


def safe(text: str) -> str:
    r"""Return text of any origin with every character escaped that moves, hides or reorders what is shown."""
    out: list[str] = []
    marks = 0
    for char in text:
        if " " <= char <= "~":
            marks = 0
            out.append(char)
            continue
        category = unicodedata.category(char)
        marks = marks + 1 if category[0] == "M" else 0
        shown = category in _SHOWN or category in _SYMBOLS or char == "\u3000" or 0 < marks <= _MAX_MARKS
        if not shown or char in _INVISIBLE or "\ufe00" <= char <= "\ufe0f" or (marks == 1 and not out):
            out.append(_escape(char))
        else:
            out.append(char)
    return "".join(out)


def _escape(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that came by surrogateescape
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{{{code:04x}}}"


def _in_pairs(raw: bytes) -> bool:
    return all(len(run) % 2 == 0 and min(run) >= 0xA1 and max(run) <= 0xFE for run in _HIGH.findall(raw))


def _frequent(text: str, encoding: str) -> bool:
    """Tell whether the letters are Hangul, a third of them common, or half of them GB 2312 level 1 (frequent hanzi)."""
    letters = [char for char in text if not char.isascii() and char.isalnum()]
    if encoding == "euc_kr":
        hangul = all("\uac00" <= char <= "\ud7a3" for char in letters)
        return hangul and sum(char in _COMMON_HANGUL for char in letters) * 3 > len(letters)
    return sum(0xB0 <= char.encode("gb18030")[0] <= 0xD7 for char in letters) * 2 > len(letters)
