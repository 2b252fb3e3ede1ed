"""``smtpprobe discover``: which ports of a host answer, in which mode, and the one configuration to use."""

import argparse
import json
from typing import Any

import msgspec
import yaml

from smtpprobe.model import TranscriptLine
from smtpprobe.output import EXIT_CODES, Output, Report, as_object
from smtpprobe.usage import colour_wanted
from smtpprobe.vocabulary import Mechanism, Mode, Outcome


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of the command; what else ``check`` knows has its usual value."""
    command.add_argument("host", metavar="HOST[:PORT]", help="with a port only that one is looked at")
    command.add_argument("--username", metavar="NAME", help="log in once, on the configuration that was found")
    command.add_argument(
        "--password-file", metavar="FILE", help="- reads standard input; a terminal is asked if this is left out"
    )
    command.add_argument("--helo", metavar="NAME", help="the EHLO name; a real name of yours, as servers judge it")
    command.add_argument("--ca", metavar="FILE", help="PEM file of the CA to trust")
    command.add_argument("--server-name", metavar="NAME", help="the name that the certificate must carry")
    command.add_argument("--min-tls", choices=["1.2", "1.3"], default="1.2")
    command.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="for everything (default 60)")
    command.add_argument("--lang", choices=["en", "ko"], default="en", help="language of the text")
    command.add_argument("--output", "-o", choices=["text", "json", "yaml"], default="text")
    command.add_argument("--no-progress", action="store_true", help="no lines on stderr while ports are looked at")
    command.set_defaults(
        mode=Mode.AUTO,
        mechanism=Mechanism.AUTO,
        allow_plaintext_auth=False,
        try_username_variants=False,
        insecure=False,
        mail_from=None,
        rcpt_to=[],
        depth=None,
    )


async def discover(options: argparse.Namespace) -> int:
    """Look, choose, log in where that is asked, print; 0 where a configuration was found and worked, 2 where not."""
    # By need: the parser of every command comes through this module.
    from smtpprobe.arguments import build_request
    from smtpprobe.check import credentials_of, port_progress, report_of, told_to_end
    from smtpprobe.discovery import resolved, works
    from smtpprobe.discovery_text import manifest as manifest_of
    from smtpprobe.probing import probe

    request = build_request(options)
    credentials = credentials_of(options)
    lines: list[TranscriptLine] = []
    on_port = port_progress(options)
    result = await probe(request, credentials, on_line=lines.append, on_port=on_port, stop=told_to_end(), alone=True)
    request = resolved(request, result)
    report = report_of(options, request, result, tuple(lines))
    usable = works(result.discovery) and request.mode is not Mode.AUTO
    manifest = manifest_of(request, login=credentials is not None) if usable else None
    output = Output(options.output)
    if output is Output.TEXT:
        print(_text(options, report, manifest))
    else:
        answer = as_object(report) | {"manifest": manifest}
        print(
            json.dumps(answer, ensure_ascii=False, indent=2)
            if output is Output.JSON
            else yaml.safe_dump(answer, allow_unicode=True, sort_keys=False).rstrip()
        )
    return EXIT_CODES[result.outcome]


def _text(options: argparse.Namespace, report: Report, manifest: dict[str, Any] | None) -> str:
    from smtpprobe import discovery_text as words
    from smtpprobe.layout import paragraphs
    from smtpprobe.report import text

    result, request, found = report.result, report.request, report.result.discovery
    blocks = ["\n".join(words.rows(found, options.lang))] if found is not None and found.ports else []
    if found is not None and request is not None and manifest is not None:
        told = (f"  {line}" for line in paragraphs([found.why, result.message], words.WIDTH - 2))
        blocks.append("\n".join([words.chosen(found, request, usable=True, lang=options.lang), *told]))
        hint = words.secret_hint(request, options.username, options.lang) if options.username is not None else []
        hint += words.ca_hint(request, options.lang)
        blocks.append("\n".join([*hint, yaml.safe_dump(manifest, allow_unicode=True, sort_keys=False).rstrip()]))
    elif found is not None and request is not None:
        blocks.append(words.chosen(found, request, usable=False, lang=options.lang))
    if manifest is None or result.outcome is not Outcome.PASSED:
        rest = msgspec.structs.replace(result, discovery=None)
        blocks.append(text(rest, request, lang=options.lang, colour=colour_wanted(), transcript=report.transcript))
    return "\n\n".join(blocks)
