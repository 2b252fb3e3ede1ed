"""Server bytes become printable ASCII without loss, and letters for the reader without tricks."""

import unicodedata

import pytest
from hypothesis import given, settings, strategies as st

from smtpprobe.charset import readable, safe
from smtpprobe.redact import clip, raw_bytes, sanitize, shorten_local_parts
from smtpprobe.vocabulary import Note

MISLEADING = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_stored_form_is_printable_ascii_and_lossless(raw):
    """Every stored byte is 0x20 to 0x7E, and the server's bytes can be had back exactly."""
    text, _ = sanitize(raw)
    assert all(0x20 <= ord(char) <= 0x7E for char in text)
    assert raw_bytes(text) == raw


@given(st.lists(st.sampled_from([b"\\", b"x", b"4", b"1", b"\\x41", b"\\x5c", b"\x1b", b"\xff", b"5c"]), max_size=12))
@settings(max_examples=300, deadline=None)
def test_a_server_cannot_forge_an_escape(pieces):
    r"""A backslash that the server wrote before xNN is told from an escaped byte."""
    raw = b"".join(pieces)
    assert raw_bytes(sanitize(raw)[0]) == raw


@pytest.mark.parametrize(
    ("raw", "text", "notes"),
    [
        (b"2.1.0 Ok", "2.1.0 Ok", set()),
        (b"SIZE\t1000", "SIZE\\x091000", set()),
        (b"\x1b[31mred", "\\x1b[31mred", {Note.CONTROL_BYTES}),
        (b"a\r\nb", "a\\x0d\\x0ab", {Note.CONTROL_BYTES}),
        (b"nul\0", "nul\\x00", {Note.CONTROL_BYTES}),
        (b"caf\xe9", "caf\\xe9", {Note.INVALID_UTF8}),
        ("한".encode(), "\\xed\\x95\\x9c", set()),
        (b"CORP\\sender", "CORP\\sender", set()),
        (b"CORP\\x41", "CORP\\x5cx41", set()),
    ],
)
def test_stored_form(raw, text, notes):
    """The stored form and its notes for the usual kinds of bytes."""
    assert sanitize(raw) == (text, frozenset(notes))


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("535 인증에 실패했습니다. 계정을 확인하세요", "utf-8"),
        ("535 인증에 실패했습니다. 계정을 확인하세요", "euc_kr"),
        ("메일 발송이 차단되었습니다", "euc_kr"),
        ("535 登录失败，请检查密码", "gb18030"),
        ("用户名或密码错误", "gb18030"),
        ("发送方认证失败", "utf-8"),
        ("Größe überschritten", "latin-1"),
        ("Adresse bloquée à vérifier", "latin-1"),
        ("ação não permitida", "latin-1"),
        ("Зарубежный адрес", "utf-8"),
        ("送信者は許可されていません", "utf-8"),
    ],
)
def test_readers_see_letters(text, encoding):
    """Replies in UTF-8, EUC-KR, GB18030 and Latin-1 read as their author wrote them."""
    assert readable(sanitize(text.encode(encoding))[0]) == text


@given(st.one_of(st.binary(max_size=200), st.text(max_size=100).map(lambda t: t.encode("utf-8", "surrogatepass"))))
@settings(max_examples=300, deadline=None)
def test_readers_are_never_misled(raw):
    """What is shown holds no control, format, bidirectional, separator, private or unassigned character."""
    shown = readable(sanitize(raw)[0])
    assert not {unicodedata.category(char) for char in shown} & MISLEADING


@pytest.mark.parametrize(
    "trick",
    ["\u202e", "\u2066", "\u200b", "\u2028", "\u2029", "\x9b", "\u3164", "\ufeff", "\U000e0041", "\udcff", "\ufe0f"],
)
def test_tricks_stay_escaped(trick):
    """Bidirectional, invisible and separator characters are written out, never obeyed."""
    assert safe(f"a{trick}b") not in (f"a{trick}b", "ab")
    assert safe(f"a{trick}b").isascii()


def test_combining_marks_cannot_pile_up():
    """Three marks on a letter are shown, the fourth is written out."""
    assert safe("a" + "\u0301" * 3) == "a" + "\u0301" * 3
    assert safe("a" + "\u0301" * 5).count("\\u{0301}") == 2


@given(st.binary(max_size=100), st.integers(min_value=3, max_value=80))
@settings(max_examples=200, deadline=None)
def test_clip_keeps_the_limit_and_whole_escapes(raw, limit):
    """A cut text is within the limit, says so, and what is left decodes to a prefix of the bytes."""
    text, _ = sanitize(raw)
    cut = clip(text, limit)
    assert len(cut) <= limit
    if cut != text:
        assert cut.endswith("...")
        assert raw.startswith(raw_bytes(cut.removesuffix("...")))


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("MAIL FROM:<noreply@shop.example.com>", "MAIL FROM:<n…@shop.example.com>"),
        ("<a.b+c@x.example>, d@y.example", "<a…@x.example>, d…@y.example"),
        ('RCPT TO:<"joe doe"@x.example>', 'RCPT TO:<"…"@x.example>'),
        ("user@[198.51.100.7] denied", "u…@[198.51.100.7] denied"),
        ("no address here", "no address here"),
        ("at @ sign, @x, y@", "at @ sign, @x, y@"),
        ("250 mail.example.com Hello", "250 mail.example.com Hello"),
    ],
)
def test_local_parts_are_shortened(text, short):
    """Pod logs show the first character of a local part, and the domain whole."""
    assert shorten_local_parts(text) == short


def test_shortening_is_linear():
    """A hostile line of at signs costs no time."""
    assert len(shorten_local_parts("a@" * 100_000 + "b" * 100_000)) > 100_000
