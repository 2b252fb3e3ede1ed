r"""Requests and results as JSON, and the result inside a pod's termination message.

The kubelet keeps 4,096 bytes of a termination message, so a result is shortened step by step until it fits 3,500
(``shorten.STEPS``); where it fits it is whole.
"""

import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from smtpprobe.model import SCHEMA_VERSION, ProbeRequest, ProbeResult, Value

MESSAGE_LIMIT: Final = 3500
MAX_RESULT: Final = 256 * 1024  # more than the largest uncut result; what is longer was not written by a probe

T = TypeVar("T", bound=Value)


class UnreadableError(ValueError):
    """The bytes are no request or result of ours; the text is one sentence for ``status``."""


class RequestUnreadable(UnreadableError):  # noqa: N818 - the reason's own word
    """See ``decode_request``."""


class ResultUnreadable(UnreadableError):  # noqa: N818 - the reason's own word
    """See ``decode_result``."""


def ascii_json(value: object) -> bytes:
    r"""Return one line of ASCII JSON; a lone surrogate is escaped (API servers would alter it silently)."""
    plain = msgspec.to_builtins(value)
    try:
        encoded = msgspec.json.encode(plain)
    except UnicodeEncodeError:
        encoded = msgspec.json.encode(_clean(plain, _no_surrogates))
    return re.sub(r"[^ -~]", _escaped, encoded.decode("utf-8")).encode("ascii")


def encode_request(request: ProbeRequest) -> bytes:
    """Return the request as one line of ASCII JSON."""
    return ascii_json(_versioned(request))


def decode_request(raw: bytes | str) -> ProbeRequest:
    """Return the request, or raise RequestUnreadable."""
    return _decode(raw, ProbeRequest, RequestUnreadable, "request")


def encode_result(result: ProbeResult, limit: int | None = MESSAGE_LIMIT) -> bytes:
    """Return the result as one line of ASCII JSON of at most ``limit`` bytes (None: uncut), ``truncated`` where cut.

    Limits under 3,000 are not promised: the parts that are never cut may need as much.
    """
    encoded = ascii_json(_versioned(result))
    if limit is None or len(encoded) <= limit:
        return encoded
    from smtpprobe.shorten import STEPS  # by need: most results fit

    for shorten in STEPS:
        result = msgspec.structs.replace(shorten(result), truncated=True)
        encoded = ascii_json(_versioned(result))
        if len(encoded) <= limit:
            break
    return encoded


def decode_result(raw: bytes | str) -> ProbeResult:
    """Return the result that a pod wrote, or raise ResultUnreadable.

    Unknown fields are left out (a newer probe may know more), a newer schemaVersion is refused. Texts are escaped again
    (``charset.safe``): whoever may write pods can write their messages.
    """
    return _decode(raw, ProbeResult, ResultUnreadable, "result")


def _versioned(value: ProbeRequest | ProbeResult) -> dict[str, Any]:
    return {"schemaVersion": value.schema_version, **msgspec.to_builtins(value)}


def _decode(raw: bytes | str, kind: type[T], error: type[UnreadableError], name: str) -> T:
    data = raw.encode("utf-8", "surrogateescape") if isinstance(raw, str) else raw
    if not data.strip():
        raise error(f"The {name} is empty.")
    if len(data) > MAX_RESULT and kind is ProbeResult:
        raise error(f"The {name} has {len(data)} bytes, more than any probe writes.")
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise error(f"The {name} is no JSON document ({_safe(str(problem))}).") from None
    version = document.get("schemaVersion", SCHEMA_VERSION) if isinstance(document, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise error(
            f"The {name} has schemaVersion {version}, this side reads {SCHEMA_VERSION}: "
            "give operator and probe image the same version."
        )
    try:
        return msgspec.convert(_clean(document, _safe), kind)
    except (msgspec.ValidationError, RecursionError) as problem:
        raise error(
            f"The {name} does not follow schemaVersion {SCHEMA_VERSION} ({_safe(str(problem))[:200]})."
        ) from None


def _clean(value: Any, text: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return value if value.isascii() and value.isprintable() else text(value)
    if isinstance(value, dict):
        return {_clean(key, text): _clean(item, text) for key, item in value.items()}
    return [_clean(item, text) for item in value] if isinstance(value, list | tuple) else value


def _escaped(char: re.Match[str]) -> str:
    units = char[0].encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _safe(text: str) -> str:
    from smtpprobe.charset import safe  # by need: its tables cost a pod's start, and ASCII needs none

    return safe(text)


def _no_surrogates(text: str) -> str:
    return "".join(_safe(char) if "\ud800" <= char <= "\udfff" else char for char in text)
