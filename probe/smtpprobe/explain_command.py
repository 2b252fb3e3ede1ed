"""``smtpprobe explain``: the command around ``explain``: arguments and files in, text or JSON lines out."""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from smtpprobe import explain as explaining
from smtpprobe.cli import USAGE_ERROR, UsageError, colour_wanted
from smtpprobe.output import Output
from smtpprobe.vocabulary import Reason


def explain(options: argparse.Namespace) -> int:
    """Explain one thing or a batch; 3 where something could not be read."""
    if options.batch is not None:
        return _batch(_lines(options.batch), options.lang)
    if options.what is None:
        raise UsageError("nothing to explain: give a reply in quotes, a reason, a file, or - for standard input")
    try:
        found = _read(options.what)
        if isinstance(found, dict):
            print(explaining.explain_result(found, options.lang, colour=colour_wanted()))
        elif Output(options.output) is Output.JSON:
            print(json.dumps(explaining.explain_object(found, options.stage, lang=options.lang), ensure_ascii=False))
        else:
            print(explaining.explain_text(found, options.stage, options.lang, colour=colour_wanted()))
    except explaining.UnreadableError as error:
        raise UsageError(str(error)) from None
    return 0


def _read(what: str) -> str | dict[str, Any]:
    """Return an object where ``what`` is, or names, a JSON or YAML mapping; else the text itself."""
    if what == "-":
        text = sys.stdin.read()
    elif what not in set(Reason) and len(what) < 4096 and Path(what).is_file():
        text = Path(what).read_text(encoding="utf-8", errors="replace")
    else:
        return what
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return found if isinstance(found, dict) and {"status", "conditions", "outcome"} & found.keys() else text


def _lines(source: str) -> Iterable[str]:
    if source == "-":
        return sys.stdin
    try:
        return Path(source).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--batch {source}: {error}") from None


def _batch(lines: Iterable[str], lang: str) -> int:
    unreadable = False
    for answer in explaining.explain_batch(lines, "ko" if lang == "ko" else "en"):
        unreadable |= "error" in answer
        print(json.dumps(answer, ensure_ascii=False), flush=True)
    return USAGE_ERROR if unreadable else 0
