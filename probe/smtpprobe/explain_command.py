"""``smtpprobe explain``: the command around ``explain``: arguments and files in, text or JSON out."""

import argparse
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from smtpprobe import explain as explaining
from smtpprobe.advice import Lang
from smtpprobe.output import Output
from smtpprobe.usage import USAGE_ERROR, UsageError, colour_wanted, terminal_width
from smtpprobe.vocabulary import Reason

# Keys that only a SmtpProbe, a status, a result or a List of them has: a mapping without them is a pasted text.
_KEYS = {"status", "conditions", "outcome", "items", "results"}
_KINDS = {"SmtpProbe", "SmtpProbeList", "List"}


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
    return explaining.explain_text(found, options.stage, options.lang, **look)


def _object(found: str | dict[str, Any], options: argparse.Namespace) -> str:
    if isinstance(found, dict):
        answer = explaining.result_object(found, options.lang)
    elif found.strip() in set(Reason):
        answer = explaining.reason_object(Reason(found.strip()), options.lang)
    else:
        answer = explaining.explain_object(found, options.stage, lang=options.lang)
    return json.dumps(answer, ensure_ascii=False, indent=2)


def _read(what: str) -> str | dict[str, Any]:
    """Return an object where ``what`` is, or names, a JSON or YAML mapping; else the text itself."""
    if what == "-":
        text = sys.stdin.buffer.read().decode("utf-8", "replace")
    elif what not in set(Reason) and "\n" not in what and _is_file(what):
        text = Path(what).read_text(encoding="utf-8", errors="replace")
    else:
        text = what
        if not what.lstrip().startswith("{"):
            return what
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if not isinstance(found, dict):
        return text
    return found if _KEYS & found.keys() or found.get("kind") in _KINDS else text


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
