"""``smtpprobe explain``: a reply, an error text, a reason or a whole result in; cause, owner and remedy out. Pure."""

import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import msgspec

from smtpprobe import report
from smtpprobe.advice import OWNERS, AdviceFacts, Lang, advise, cut, more, ses_region
from smtpprobe.classify import SessionFacts, classify, quoted_address
from smtpprobe.evidence import result_of
from smtpprobe.found import as_found
from smtpprobe.layout import WIDTH, paragraphs
from smtpprobe.model import Envelope, ProbeRequest, ProbeResult, Verdict
from smtpprobe.resource import Status, decode_status
from smtpprobe.runs import run_digest
from smtpprobe.unwrap import stage_said, unwrap
from smtpprobe.vocabulary import REASONS, Depth, Mode, Outcome, Reason, Stage, StateReason

__all__ = ["UnreadableError", "explain_batch", "explain_object", "explain_text", "stage_of"]

MAX_LINE = 64 * 1024
_STAGE_NAMES = {"banner": Stage.GREETING, "handshake": Stage.TLS, "helo": Stage.EHLO, "end-of-data": Stage.DOT}
_STAGE_NAMES |= {"mail_from": Stage.MAIL, "mailfrom": Stage.MAIL, "rcpt_to": Stage.RCPT, "rcptto": Stage.RCPT}
_GUESSES: tuple[tuple[Stage, tuple[str, ...]], ...] = (
    # what a text says of its own stage, for a person who pastes a reply without naming one
    (
        Stage.MAIL,
        ("authentication required", "authenticate first", "not authenticated", "starttls", "sender", "auth command"),
    ),
    (Stage.EHLO, ("helo command", "ehlo command", "helo name", "ehlo name", "helo argument", "ehlo argument")),
    (Stage.AUTH, ("535", "534", "432", "authenticat", "credential", "password", "login", "eauth", "auth ")),
    (Stage.DNS, ("gaierror", "getaddrinfo", "name or service", "name resolution", "no such host")),
    (Stage.CONNECT, ("errno", "dial tcp", "econn", "connection refused", "connect to", "connecting to", "opentimeout")),
    (Stage.TLS, ("certificate", "ssl:", "tls:", "handshake", "wrong version number")),
    (Stage.EHLO, ("helo", "ehlo")),
    (Stage.DOT, ("message", "spam", "content", "dmarc", "dkim")),
)


def is_success(text: str) -> bool:
    """Say whether a text is a reply that refuses nothing."""
    return re.match(r"\s*[23][0-5]\d(?:[ \-]|$)", text) is not None and not re.search(r"(?m)^[45]\d\d[ \-]", text)


class UnreadableError(Exception):
    """A line of a batch that cannot be read; the text says why."""


def stage_of(name: str | None, text: str = "") -> Stage:
    """Return the stage called ``name`` (old names too); where none is given, the one the text speaks of, else rcpt."""
    if name:
        name = name.strip().lower().replace(" ", "_")
        if name in _STAGE_NAMES:
            return _STAGE_NAMES[name]
        try:
            return Stage(name)
        except ValueError:
            raise UnreadableError(f"unknown stage {cut(name, 40)!r}: write one of {', '.join(Stage)}") from None
    if (said := stage_said(text)) is not None:
        return said
    folded = unwrap(text).casefold()
    guesses = _GUESSES[1:] if folded.startswith(("432", "454", "525", "526", "534", "535", "538")) else _GUESSES
    if folded.startswith("55"):  # AUTH is not refused with these: their talk of logins is of what MAIL or RCPT lacks
        guesses = tuple(guess for guess in _GUESSES if guess[0] is not Stage.AUTH)
    return next((stage for stage, words in guesses if any(word in folded for word in words)), Stage.RCPT)


def explain_object(
    text: str, stage: str | None = None, facts: SessionFacts | None = None, lang: Lang = "en"
) -> dict[str, Any]:
    """Return reason, confidence, alternatives, rule, owner and advice of one reply or error text, as JSON values."""
    where = stage_of(stage, text)
    facts = facts or SessionFacts()
    verdict = classify(where, text, facts)
    return _verdict_object(verdict, _advice_facts(where, text, facts, verdict.rule), lang)


def reason_object(reason: Reason, lang: Lang = "en") -> dict[str, Any]:
    """Return the same keys for a reason by its name."""
    advice = advise(reason, AdviceFacts(), lang)
    return {
        "reason": reason.value,
        "confidence": 1.0,
        "alternatives": [],
        "rule": None,
        "owner": advice.owner,
        "advice": advice.text,
    }


def result_object(raw: Any, lang: Lang = "en") -> dict[str, Any]:
    """Return the same keys for a parsed object (as ``explain_result``); Succeeded, without advice, where it passed.

    Several of them (a List of kubectl, ``results`` of check) are one object with ``results``.
    """
    several = _several(raw)
    if several is not None:
        return {"results": [result_object(one, lang) for one in several]}
    request, result, status = _parts(raw)
    nothing = {"confidence": 1.0, "alternatives": [], "rule": None, "owner": None, "advice": None}
    last = status.last_run if status is not None else None
    if status is not None and last is not None and last.outcome is Outcome.ERROR:
        told = status.advice  # of the run that could not take place; the answer before it is an older story
        known = {"owner": told.owner, "advice": told.text} if told else {}
        return {"reason": last.reason or Reason.UNKNOWN.value} | nothing | known
    if result is None or result.verdict is None:
        return {"reason": (StateReason.SUCCEEDED if result else StateReason.PENDING).value} | nothing
    return _verdict_object(result.verdict, AdviceFacts.of(request, result), lang)


def _verdict_object(verdict: Verdict, facts: AdviceFacts, lang: Lang) -> dict[str, Any]:
    advice = advise(verdict.reason, facts, lang)
    return {
        "reason": verdict.reason.value,
        "confidence": verdict.confidence,
        "alternatives": [{"reason": a.reason.value, "confidence": a.confidence} for a in verdict.alternatives],
        "rule": verdict.rule,
        "owner": advice.owner,
        "advice": advice.text,
    }


def explain_batch(lines: Iterable[str], lang: Lang = "en") -> Iterator[dict[str, Any]]:
    """Return one object for each line of JSON, in order; a line that cannot be read gives ``{"error": why}``.

    Line: ``{"stage", "text", "context": {"mailFrom", "rcptTo", "host", "banner"}}``; ``mail_from`` and ``rcpt_to`` are
    read too, absent keys and nulls are the same, an empty line is left out.
    """
    for line in lines:
        if line.strip():
            try:
                yield _explain_line(line, lang)
            except UnreadableError as error:
                yield {"error": str(error)}


def explain_text(
    what: str,
    stage: str | None = None,
    lang: Lang = "en",
    *,
    colour: bool = False,
    width: int | None = None,
    now: datetime | None = None,
) -> str:
    """Explain a reason, a result or SmtpProbe as JSON, or a reply or error text; the answer is for a terminal.

    ``width`` and ``now``: see ``report.text``.
    """
    what = what.strip()
    with contextlib.suppress(ValueError):
        return _explain_reason(Reason(what), lang, width)
    if what.startswith("{"):
        with contextlib.suppress(json.JSONDecodeError):
            found = json.loads(what)
            if not found.keys() & {"response", "responseCode"}:  # an error object of Nodemailer is a text about a reply
                return explain_result(found, lang, colour=colour, width=width, now=now)
    where = stage_of(stage, what)
    verdict = classify(where, what)
    lines = [f"{verdict.reason} ({verdict.confidence:.0%}) @ {where}"]
    other = {"en": "or", "ko": "또는"}[lang]
    lines += [f"  {other} {a.reason} ({a.confidence:.0%})" for a in verdict.alternatives]
    known = _advice_facts(where, what, SessionFacts(), verdict.rule)
    return "\n".join([*lines, *_who_and_what(verdict.reason, known, lang, width)])


def explain_result(
    raw: Any, lang: Lang = "en", *, colour: bool = False, width: int | None = None, now: datetime | None = None
) -> str:
    """Explain a parsed object: a SmtpProbe, a status, a result, the output of ``check --output json``, or several."""
    several = _several(raw)
    if several is not None:
        told = ((_name(one), explain_result(one, lang, colour=colour, width=width, now=now)) for one in several)
        return "\n\n".join(f"{name}\n{text}" if name else text for name, text in told)
    request, result, status = _parts(raw)
    if status is not None:
        spec = _spec(raw.get("spec"))
        return report.from_status(status, spec, lang=lang, colour=colour, width=width, now=now)
    assert result is not None  # noqa: S101 - else it would have been unreadable
    return report.text(result, request, lang=lang, colour=colour, width=width, now=now)


def _several(raw: Any) -> list[Any] | None:
    """Return the parts of a List, as kubectl prints it, or of ``results``."""
    found = raw.get("items", raw.get("results")) if isinstance(raw, dict) and "outcome" not in raw else None
    return found if isinstance(found, list) else None


def _name(raw: Any) -> str:
    meta = raw.get("metadata") if isinstance(raw, dict) else None
    parts = (meta.get("namespace"), meta.get("name")) if isinstance(meta, dict) else ()
    return "/".join(str(part) for part in parts if part)


def _parts(raw: Any) -> tuple[ProbeRequest | None, ProbeResult | None, Status | None]:
    """Return the request, as far as it is known, the last result and the status of what ``explain_result`` takes."""
    if not isinstance(raw, dict):
        raise UnreadableError("not an object: give a result, a status or a SmtpProbe")
    if "conditions" in raw:
        status, spec = decode_status(raw), None
    elif isinstance(raw.get("status"), dict) or raw.get("kind") == "SmtpProbe":
        status, spec = decode_status(raw.get("status")), _spec(raw.get("spec"))
    else:
        return _request(raw), _result(raw), None
    location = status.locations[0] if status.locations else None
    result = result_of(location) if location else None
    of_this = spec is not None and location is not None and run_digest(spec) == location.spec_digest
    return report.request_of(as_found(spec, status.discovery)) if spec and of_this else None, result, status


def _result(raw: dict[str, Any]) -> ProbeResult:
    if "outcome" not in raw:
        raise UnreadableError("neither a result nor a SmtpProbe: it has no outcome and no status")
    raw = dict(raw)
    if "reason" in raw and raw.get("outcome") != "Passed":
        fields = {key: raw[key] for key in ("reason", "confidence", "alternatives", "rule") if raw.get(key) is not None}
        raw.setdefault("verdict", fields)
    try:
        return msgspec.convert({k: v for k, v in raw.items() if v is not None}, ProbeResult, strict=False)
    except msgspec.ValidationError as error:
        raise UnreadableError(f"this result cannot be read: {error}") from None


def _explain_line(line: str, lang: Lang) -> dict[str, Any]:
    if len(line) > MAX_LINE:
        raise UnreadableError(f"line longer than {MAX_LINE} characters")
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise UnreadableError("not a JSON object")
    text, stage = raw.get("text"), raw.get("stage")
    if text is not None and not isinstance(text, str):
        raise UnreadableError("text is not a string")
    if text is None or not text.strip():
        raise UnreadableError("text is missing")
    if stage is not None and not isinstance(stage, str):
        raise UnreadableError("stage is not a string")
    code = raw.get("code")
    if isinstance(code, int) and not isinstance(code, bool) and not text.lstrip().startswith(str(code)):
        text = f"{code} {text}"
    return explain_object(text, stage, _facts(raw.get("context")), lang)


def _facts(context: Any) -> SessionFacts:
    if context is None:
        return SessionFacts()
    if not isinstance(context, dict):
        raise UnreadableError("context is not an object")
    words = {"mailFrom": context.get("mailFrom") or context.get("mail_from")}
    words |= {name: context.get(name) for name in ("host", "banner")}
    for name, value in words.items():
        if value is not None and not isinstance(value, str):
            raise UnreadableError(f"context: {name} is not a string")
    to = context.get("rcptTo") or context.get("rcpt_to") or ()
    to = [to] if isinstance(to, str) else to
    if not isinstance(to, list | tuple) or not all(isinstance(address, str) for address in to):
        raise UnreadableError("context: rcptTo is neither a string nor a list of strings")
    return SessionFacts(
        mail_from=words["mailFrom"], host=words["host"] or "", banner=words["banner"] or "", rcpt_to=tuple(to)
    )


def _advice_facts(stage: Stage, text: str, facts: SessionFacts, rule: str) -> AdviceFacts:
    return AdviceFacts(
        host=facts.host or None,
        stage=stage.value,
        egress_ip=quoted_address(text),
        reply=cut(" ".join(text.split()), 140),
        sender=facts.mail_from,
        recipient=facts.rcpt_to[0] if facts.rcpt_to else None,
        rule=rule,
        ses_region=ses_region(facts.host),
    )


def _explain_reason(reason: Reason, lang: Lang, width: int | None) -> str:
    told = _who_and_what(reason, AdviceFacts(), lang, width)
    return "\n".join([f"{reason} ({REASONS[reason].group})", *told])


def _who_and_what(reason: Reason, facts: AdviceFacts, lang: Lang, width: int | None) -> list[str]:
    advice = advise(reason, facts, lang, pointer=False)
    who = {"en": "Who must act", "ko": "조치할 사람"}[lang]
    told = paragraphs([advice.text, more(reason, lang)], width or WIDTH)
    return ["", f"{who}: {OWNERS[lang][REASONS[reason].owner]}", "", *told]


def _spec(raw: Any) -> Any:
    from smtpprobe.spec import parse  # only a SmtpProbe needs its checks

    return parse(raw).spec if isinstance(raw, dict) else None


def _request(raw: dict[str, Any]) -> ProbeRequest | None:
    """Return what ``check --output json`` says of its own request."""
    said = raw.get("envelope")
    try:
        envelope = Envelope(mail_from=str(said["from"]), rcpt_to=tuple(map(str, said["to"]))) if said else None
        return ProbeRequest(
            host=str(raw["host"]),
            port=int(raw["port"]),
            mode=Mode(raw["mode"]),
            depth=Depth.GREETING,
            helo_name=str(raw.get("heloName") or ""),
            envelope=envelope,
        )
    except (KeyError, TypeError, ValueError):
        return None
