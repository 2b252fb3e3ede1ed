"""The command line: ``smtpprobe check``, ``try``, ``explain`` (also installed as ``kubectl smtpprobe``).

Results go to stdout, all else to stderr. Exit code 0 Passed, 2 Failed, 3 Error, wrong usage or our own fault.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from smtpprobe.output import Output
from smtpprobe.vocabulary import Depth, Mechanism, Mode

USAGE_ERROR = 3


class UsageError(Exception):
    """Arguments that cannot be used; the text names the argument and what to write instead."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Leave with 3: 2 means that the mail path said no (argparse's own choice would be 2)."""
        self.print_usage(sys.stderr)
        self.exit(USAGE_ERROR, f"{self.prog}: {message}\n")


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = _Parser(
        prog="smtpprobe", description="Find out whether this place can send mail, and if not, whose fault it is."
    )
    top.add_argument("--version", action="version", version=f"smtpprobe {version('smtpprobe')}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    _add_check(commands.add_parser("check", help="probe a server from this machine"))
    _add_try(
        commands.add_parser("try", help="run a SmtpProbe manifest from this machine, print the status it would get")
    )
    _add_explain(commands.add_parser("explain", help="explain a reply, a reason or a result: who must act, what to do"))
    return top


def _add_check(check: argparse.ArgumentParser) -> None:
    check.add_argument("host", metavar="HOST[:PORT]", help="an IPv6 address with a port is written [2001:db8::1]:587")
    check.add_argument(
        "--mode",
        choices=[Mode.PLAIN, Mode.STARTTLS, Mode.SMTPS],
        help="default: what the port stands for (465 smtps, 25 plain, else starttls)",
    )
    check.add_argument("--username", metavar="NAME")
    check.add_argument(
        "--password-file", metavar="FILE", help="- reads standard input; a terminal is asked if this is left out"
    )
    check.add_argument(
        "--mechanism", choices=[Mechanism.AUTO, Mechanism.PLAIN, Mechanism.LOGIN], default=Mechanism.AUTO
    )
    check.add_argument("--allow-plaintext-auth", action="store_true", help="mode plain: send the login unencrypted")
    check.add_argument("--from", dest="mail_from", metavar="ADDRESS", help='MAIL FROM; "" is the null sender')
    check.add_argument(
        "--to", dest="rcpt_to", metavar="ADDRESS", action="append", default=[], help="RCPT TO; up to five"
    )
    check.add_argument("--helo", metavar="NAME", help="the EHLO name; a real name of yours, as servers judge it")
    check.add_argument(
        "--depth", choices=[depth for depth in Depth if depth is not Depth.MESSAGE], help="where to stop"
    )
    check.add_argument("--ca", metavar="FILE", help="PEM file of the CA to trust")
    check.add_argument("--server-name", metavar="NAME", help="the name that the certificate must carry")
    check.add_argument("--min-tls", choices=["1.0", "1.1", "1.2", "1.3"], default="1.2")
    check.add_argument("--insecure", action="store_true", help="do not verify the certificate; no login is sent then")
    check.add_argument(
        "--timeout", type=float, default=60.0, metavar="SECONDS", help="for the whole check (default 60)"
    )
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
    explain.add_argument("--output", "-o", choices=[Output.TEXT, Output.JSON], default=Output.TEXT)


def _add_rendering(command: argparse.ArgumentParser) -> None:
    command.add_argument("--lang", choices=["en", "ko"], default="en", help="language of the advice")
    command.add_argument("--output", "-o", choices=list(Output), default=Output.TEXT)
    command.add_argument("--no-progress", action="store_true", help="no stage lines on stderr while the session runs")


def colour_wanted() -> bool:
    """Say whether stdout is a terminal that wants colour (NO_COLOR is obeyed)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; every refusal ends here as one line on stderr."""
    options = parser().parse_args(arguments)
    try:
        return asyncio.run(_run(options))
    except UsageError as error:
        print(f"smtpprobe {options.command}: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("smtpprobe: interrupted", file=sys.stderr)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return USAGE_ERROR


async def _run(options: argparse.Namespace) -> int:
    # Imported by need: explain must not pay for the session, nor check for YAML.
    if options.command == "check":
        from smtpprobe.check import check

        return await check(options)
    if options.command == "try":
        from smtpprobe.trial import trial

        return await trial(options)
    from smtpprobe.explain_command import explain

    return explain(options)


if __name__ == "__main__":
    sys.exit(main())
