"""``smtpprobe explain``: the command around ``explain``: arguments and files in, text or JSON out."""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from smtpprobe import explain as explaining
from smtpprobe.advice import Lang
from smtpprobe.output import Output
from smtpprobe.report_words import note_text
from smtpprobe.usage import USAGE_ERROR, UsageError, colour_wanted, terminal_width
from smtpprobe.vocabulary import Note, Reason

# Keys that only a SmtpProbe, a status, a result or a List of them has: a mapping without them is a pasted text.
_KEYS = {"status", "conditions", "outcome", "items", "results"}
_KINDS = {"SmtpProbe", "SmtpProbeList", "List"}
_FILE_NAME = re.compile(r"[\w./~-]+\.(?:json|ya?ml|txt|log|pem)")
# A PEM file, a manifest of something else, our own report as text: nothing that a server said.
_NO_REPLY = re.compile(r"\s*(?:-----BEGIN|apiVersion:)|(?s:.*)^(?:STAGES|단계)$", re.MULTILINE)
_SUCCESS = "this reply is a success (2yz, 3yz): there is nothing to explain. Give the reply that refused"


def explain(options: argparse.Namespace) -> int:
    """Explain one thing or a batch; 3 where something could not be read."""
    if options.batch is not None:
        return _batch(_lines(options.batch), options.lang)
    if options.what is None:
        raise UsageError("nothing to explain: give a reply in quotes, a reason, a file, or - for standard input")
    try:
        found = _read(options.what)
        as_json = Output(options.output) is Output.JSON
        print(_object(found, options) if as_json else _text(found, options))
    except explaining.UnreadableError as error:
        raise UsageError(str(error)) from None
    return 0


def _text(found: str | dict[str, Any], options: argparse.Namespace) -> str:
    look: dict[str, Any] = {"colour": colour_wanted(), "width": terminal_width(), "now": datetime.now(UTC)}
    if isinstance(found, dict):
        return explaining.explain_result(found, options.lang, **look)
    if found.strip() in set(Note):
        return note_text(Note(found.strip()), options.lang)
    if explaining.is_success(found):
        raise UsageError(_SUCCESS)
    return explaining.explain_text(found, options.stage, options.lang, **look)


def _object(found: str | dict[str, Any], options: argparse.Namespace) -> str:
    if isinstance(found, dict):
        answer = explaining.result_object(found, options.lang)
    elif found.strip() in set(Reason):
        answer = explaining.reason_object(Reason(found.strip()), options.lang)
    elif found.strip() in set(Note):
        raise UsageError(f"{found.strip()} is a note beside a verdict, and no reason: ask without --output json")
    elif explaining.is_success(found):
        raise UsageError(_SUCCESS)
    else:
        answer = explaining.explain_object(found, options.stage, lang=options.lang)
    return json.dumps(answer, ensure_ascii=False, indent=2)


def _read(what: str) -> str | dict[str, Any]:
    """Return an object where ``what`` is, or names, JSON or YAML; else the text itself.

    Several documents, or JSON lines, are one object with ``items``. Raises UsageError for what is neither a result nor
    anything that a server or a client said.
    """
    named = what not in set(Reason) and "\n" not in what and _is_file(what)
    if what == "-":
        text = sys.stdin.buffer.read().decode("utf-8", "replace")
    elif named:
        text = Path(what).read_text(encoding="utf-8", errors="replace")
    else:
        if _FILE_NAME.fullmatch(what):
            raise UsageError(f"{what}: there is no such file")
        text = what
        if not what.lstrip().startswith("{"):
            return what
    try:
        found = [one for one in yaml.safe_load_all(text) if one is not None]
    except yaml.YAMLError:
        found = _json_lines(text)
    known = [one for one in found if isinstance(one, dict) and (_KEYS & one.keys() or one.get("kind") in _KINDS)]
    if known and len(known) == len(found):
        return known[0] if len(known) == 1 else {"items": known}
    broken = not found and text.lstrip().startswith("{")
    if broken or not text.strip() or _NO_REPLY.match(text):
        where = what if named else "the text"
        raise UsageError(f"{where} is neither a reply nor a whole result: give what check, try or kubectl printed")
    return text


def _json_lines(text: str) -> list[Any]:
    try:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError:
        return []


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # too long, or with a NUL: a reply, not a file
        return False


def _lines(source: str) -> Iterator[str]:
    """Give each line; bytes that are not UTF-8 are written out, so that the line is refused in its place."""
    if source == "-":
        for line in sys.stdin.buffer:
            yield line.decode("utf-8", "backslashreplace")
        return
    try:
        content = Path(source).read_bytes()
    except OSError as error:
        raise UsageError(f"--batch {source}: {error.strerror}") from None
    for line in content.split(b"\n"):
        yield line.decode("utf-8", "backslashreplace")


def _batch(lines: Iterator[str], lang: Lang) -> int:
    unreadable = False
    for answer in explaining.explain_batch(lines, lang):
        unreadable |= "error" in answer
        print(json.dumps(answer, ensure_ascii=False), flush=True)
    return USAGE_ERROR if unreadable else 0
