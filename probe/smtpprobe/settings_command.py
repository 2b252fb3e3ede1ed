"""``smtpprobe settings``: a configuration as ready snippets, and the same after a check that passed."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TextIO

import msgspec

from smtpprobe.model import ProbeRequest, ProbeResult
from smtpprobe.output import Output
from smtpprobe.plan import by_port
from smtpprobe.settings import Snippet, Working, by_alias, clients, snippet
from smtpprobe.usage import UsageError, split_target
from smtpprobe.vocabulary import Mechanism, Mode, Outcome


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    command.add_argument("host", metavar="HOST:PORT", help="an IPv6 address is written [2001:db8::1]:587")
    command.add_argument("--mode", choices=["plain", "starttls", "smtps"], help="default: by the port")
    command.add_argument("--username", metavar="NAME", help="left out: without login")
    command.add_argument("--mechanism", choices=[mechanism.value for mechanism in Mechanism], default="auto")
    command.add_argument("--from", dest="mail_from", metavar="ADDRESS")
    command.add_argument("--helo", metavar="NAME", help="the EHLO name")
    command.add_argument("--ca", metavar="FILE", help="PEM file of the CA to trust")
    command.add_argument("--server-name", metavar="NAME", help="the name in the certificate, where it is not HOST")
    names = ", ".join(clients())
    also = ", ".join(by_alias())
    command.add_argument("--client", metavar="NAME", action="append", type=_client, help=f"{names}; also: {also}")
    command.add_argument("--output", "-o", choices=["text", "json"], default="text")
    command.set_defaults(
        min_tls="1.2",
        insecure=False,
        allow_plaintext_auth=True,
        try_username_variants=False,
        depth=None,
        timeout=60.0,
    )


def _client(name: str) -> str:
    known = by_alias().get(name, name)
    if known not in clients():
        raise argparse.ArgumentTypeError(f"no settings for {name!r}; there are: {', '.join(clients())}")
    return known


def settings(options: argparse.Namespace) -> int:
    """Print the snippets; returns 0. Raises UsageError for values that no configuration can hold."""
    host, port = split_target(options.host)
    if port is None:
        raise UsageError(f"write the port too: {host}:587")
    mode = Mode(options.mode) if options.mode else by_port(port)
    _refuse(options, mode)
    working = Working(
        host=host,
        port=port,
        mode=mode,
        username=options.username,
        mechanism=Mechanism(options.mechanism),
        mail_from=options.mail_from,
        helo=options.helo,
        ca_file=options.ca,
        server_name=options.server_name,
    )
    show(working, options.client or clients(), Output(options.output))
    return 0


def _refuse(options: argparse.Namespace, mode: Mode) -> None:
    """Raise UsageError for what ``check`` refuses in the same arguments; the CA file may be one of another machine."""
    from smtpprobe import credentials  # by need: the parser of every command comes through this module
    from smtpprobe.arguments import build_request

    to = ["postmaster@example.com"] if options.mail_from else []
    build_request(argparse.Namespace(**vars(options) | {"mode": mode, "ca": None, "rcpt_to": to}))
    if options.username is not None and (problem := credentials.flaw(options.username)):
        raise UsageError(f"--username {problem}")
    if options.username is not None and not options.username.isprintable():
        raise UsageError("--username holds characters that cannot be printed, and a configuration is text")
    if options.ca is not None and not (options.ca and options.ca.isprintable()):
        raise UsageError("--ca: write the path of a PEM file")
    if options.mail_from == "":
        raise UsageError("--from: write the whole address, for example noreply@shop.example.com")


def after_check(request: ProbeRequest, result: ProbeResult, username: str | None, output: Output) -> None:
    """Print all snippets after a check that passed; on stderr where stdout holds one object for a program."""
    if result.outcome is not Outcome.PASSED:
        print(f"smtpprobe check: no settings: the check ended {result.outcome}", file=sys.stderr)
    elif request.tls.insecure_skip_verify:
        print("smtpprobe check: no settings: the certificate was not verified (--insecure)", file=sys.stderr)
    else:
        to = sys.stdout if output is Output.TEXT else sys.stderr
        print(file=to)
        show(Working.of(request, result, username), clients(), to=to)


def show(working: Working, names: Sequence[str], output: Output = Output.TEXT, to: TextIO | None = None) -> None:
    """Print snippets: a single one as it is, several with headings, as JSON one object by client."""
    made = [snippet(name, working) for name in dict.fromkeys(names)]
    out = to or sys.stdout
    if output is Output.JSON:
        print(
            json.dumps({one.client: msgspec.to_builtins(one) for one in made}, ensure_ascii=False, indent=2), file=out
        )
    elif len(made) == 1:
        print(made[0].text, end="", file=out)
    else:
        print("\n".join(_headed(one) for one in made), end="", file=out)


def _headed(one: Snippet) -> str:
    return f"--- {one.client}: {one.title} ({one.file})\n\n{one.text}"
