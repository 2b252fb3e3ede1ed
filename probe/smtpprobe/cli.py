"""The command line: ``smtpprobe check``, ``try``, ``explain`` (also installed as ``kubectl smtpprobe``).

Results go to stdout, all else to stderr. Exit code 0 Passed, 2 Failed, 3 Error, wrong usage or our own fault; what a
program reads (``--output json`` and the like) is there whatever the exit code.
"""

import argparse
import asyncio
import contextlib
import errno
import io
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from smtpprobe.output import Output, no_result
from smtpprobe.usage import USAGE_ERROR, Parser, UsageError
from smtpprobe.vocabulary import Depth, Mechanism, Mode, Reason

# What keeps an answer from being written: nobody reads it any more, or there is no room.
_UNWRITABLE = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO}
COMMANDS = ("check", "discover", "try", "explain", "ses-password", "settings")


def program(called: str) -> str:
    """Return the name to show in usage lines for ``argv[0]``: kubectl runs us as its plugin ``kubectl-smtpprobe``."""
    return "kubectl smtpprobe" if Path(called).name.startswith("kubectl") else "smtpprobe"


def parser(prog: str = "smtpprobe") -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = Parser(prog=prog, description="Find out whether this place can send mail, and if not, whose fault it is.")
    top.add_argument("--version", action="version", version=f"smtpprobe {version('smtpprobe')}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    _add_check(commands.add_parser("check", help="probe a server from this machine"))
    _add_discover(commands.add_parser("discover", help="find port and mode of a server, as a ready SmtpProbe"))
    _add_try(
        commands.add_parser("try", help="run a SmtpProbe manifest from this machine, print the status it would get")
    )
    _add_explain(commands.add_parser("explain", help="explain a reply, a reason or a result: who must act, what to do"))
    _add_settings(commands.add_parser("settings", help="write a configuration as the usual clients want it"))
    _add_ses_password(
        commands.add_parser("ses-password", help="make the SMTP password of Amazon SES from an IAM secret")
    )
    return top


def _add_check(check: argparse.ArgumentParser) -> None:
    check.add_argument(
        "host", nargs="?", metavar="HOST[:PORT]", help="an IPv6 address with a port is written [2001:db8::1]:587"
    )
    check.add_argument(
        "--hosts", metavar="FILE", help="instead of HOST: many, one HOST[:PORT] a line, # comments; - is standard input"
    )
    check.set_defaults(misused=check.error)
    check.add_argument("--parallel", type=int, default=32, metavar="N", help="with --hosts: so many at a time (32)")
    check.add_argument(
        "--mode",
        choices=[mode.value for mode in Mode],
        default=Mode.AUTO,
        help="default: auto finds it out, without PORT among 25, 465, 587, 2525, 2465, 2587; never plain with a login",
    )
    check.add_argument("--username", metavar="NAME")
    check.add_argument(
        "--password-file", metavar="FILE", help="- reads standard input; a terminal is asked if this is left out"
    )
    check.add_argument(
        "--mechanism",
        choices=[mechanism.value for mechanism in Mechanism],
        default=Mechanism.AUTO,
        help="default: the first of PLAIN, LOGIN, SCRAM-SHA-256, CRAM-MD5 offered; XOAUTH2: the password is a token",
    )
    check.add_argument("--allow-plaintext-auth", action="store_true", help="mode plain: send the login unencrypted")
    check.add_argument(
        "--try-username-variants",
        action="store_true",
        help="after a refused login: one more, with the likeliest other form of the user name",
    )
    check.add_argument("--from", dest="mail_from", metavar="ADDRESS", help='MAIL FROM; "" is the null sender')
    check.add_argument(
        "--to", dest="rcpt_to", metavar="ADDRESS", action="append", default=[], help="RCPT TO; up to five"
    )
    check.add_argument("--helo", metavar="NAME", help="the EHLO name; a real name of yours, as servers judge it")
    check.add_argument(
        "--depth", choices=[depth.value for depth in Depth], help="where to stop; message sends one marked test mail"
    )
    check.add_argument("--ca", metavar="FILE", help="PEM file of the CA to trust")
    check.add_argument("--server-name", metavar="NAME", help="the name that the certificate must carry")
    check.add_argument("--min-tls", choices=["1.2", "1.3"], default="1.2")
    check.add_argument("--insecure", action="store_true", help="do not verify the certificate; no login is sent then")
    check.add_argument(
        "--timeout", type=float, default=60.0, metavar="SECONDS", help="for the whole check (default 60)"
    )
    check.add_argument("--settings", action="store_true", help="after Passed: what to write into the usual clients")
    _add_rendering(check)


def _add_try(trial: argparse.ArgumentParser) -> None:
    trial.add_argument(
        "-f",
        "--file",
        dest="files",
        metavar="FILE",
        type=Path,
        action="append",
        required=True,
        help="a manifest; its Secret may stand in it or in a further -f FILE",
    )
    trial.add_argument("--helo", metavar="NAME", help="EHLO name where spec.heloName is not set")
    _add_rendering(trial)
    trial.set_defaults(lang=None)  # then spec.language counts


def _add_explain(explain: argparse.ArgumentParser) -> None:
    explain.add_argument(
        "what",
        nargs="?",
        metavar="TEXT|REASON|FILE",
        help="a server's reply, a reason, or a file with a result as JSON or YAML; - reads standard input",
    )
    explain.add_argument("--stage", help="where the reply came: greeting, ehlo, auth, mail, rcpt …")
    explain.add_argument("--batch", metavar="FILE", help="JSON lines in, JSON lines out; - is standard input")
    explain.add_argument("--lang", choices=["en", "ko"], default="en")
    explain.add_argument("--output", "-o", choices=["text", "json"], default="text")


def _add_ses_password(command: argparse.ArgumentParser) -> None:
    from smtpprobe.ses_command import add_arguments

    add_arguments(command)


def _add_discover(command: argparse.ArgumentParser) -> None:
    from smtpprobe.discover_command import add_arguments

    add_arguments(command)


def _add_settings(command: argparse.ArgumentParser) -> None:
    from smtpprobe.settings_command import add_arguments

    add_arguments(command)


def _add_rendering(command: argparse.ArgumentParser) -> None:
    command.add_argument("--lang", choices=["en", "ko"], default="en", help="language of the advice")
    command.add_argument("--output", "-o", choices=[output.value for output in Output], default="text")
    command.add_argument("--no-progress", action="store_true", help="no stage lines on stderr while the session runs")


def run() -> NoReturn:
    """Be the program, and leave at once: the interpreter's end would crash a thread that still reads the CA bundle."""
    code = main()
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
    os._exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; every refusal ends here as one line on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a server's letters must not break on a terminal's locale
    words = list(sys.argv[1:] if arguments is None else arguments)
    prog = program(sys.argv[0])
    try:
        return _told(_answer(words, prog))
    except BrokenPipeError:
        return USAGE_ERROR
    except OSError as error:
        print(f"{prog}: the result could not be written: {error.strerror}", file=sys.stderr)
        return USAGE_ERROR


def _answer(words: list[str], prog: str) -> int:
    """Run one command; raises OSError where what it says cannot be written."""
    try:
        return asyncio.run(_run(parser(prog).parse_args(words)))
    except UsageError as error:
        command = next((word for word in words if word in COMMANDS), "")
        return _refused(words, f"{prog} {command}".strip(), str(error), Reason.SPEC_INVALID)
    except KeyboardInterrupt:
        return _refused(words, prog, "interrupted")
    except Exception as error:  # our own fault must not look like the mail path's (exit 1)
        if isinstance(error, OSError) and error.errno in _UNWRITABLE:
            raise
        traceback.print_exc()
        return _refused(words, prog, f"a fault of our own, please report it: {type(error).__name__}: {error}")


def _told(code: int) -> int:
    """Return the exit code once all is written: what cannot be must not show only when the interpreter ends."""
    if sys.stdout is not None:
        sys.stdout.flush()
    return code


def _refused(words: list[str], who: str, message: str, reason: Reason = Reason.UNKNOWN) -> int:
    """Say why there is no result: one line on stderr, and on stdout the form that a program waits for."""
    print(f"{who}: {message}", file=sys.stderr)
    wanted = _output_wanted(words)
    if wanted is not Output.TEXT:
        print(no_result(wanted, reason, message))
    return USAGE_ERROR


def _output_wanted(words: list[str]) -> Output:
    """Read ``--output`` alone, as the other arguments may be what is wrong."""
    sniffer = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    sniffer.add_argument("--output", "-o")
    try:
        return Output(sniffer.parse_known_args(words)[0].output or Output.TEXT)
    except (argparse.ArgumentError, ValueError):
        return Output.TEXT


async def _run(options: argparse.Namespace) -> int:
    # Imported by need: explain must not pay for the session, nor check for YAML.
    if options.command == "check":
        if (options.host is None) == (options.hosts is None):
            options.misused("name one HOST[:PORT], or --hosts FILE with many")
        if options.hosts is not None:
            from smtpprobe.hosts import check_hosts

            return await check_hosts(options)
        from smtpprobe.check import check

        return await check(options)
    if options.command == "discover":
        from smtpprobe.discover_command import discover

        return await discover(options)
    if options.command == "try":
        from smtpprobe.trial import trial

        return await trial(options)
    if options.command == "ses-password":
        from smtpprobe.ses_command import ses_password

        return ses_password(options)
    if options.command == "settings":
        from smtpprobe.settings_command import settings

        return settings(options)
    from smtpprobe.explain_command import explain

    return explain(options)
