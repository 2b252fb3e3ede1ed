"""What all commands share: how a target is written, how wrong usage ends, and what the terminal wants."""

import argparse
import getpass
import os
import re
import signal
import sys
from typing import NoReturn, TextIO

from smtpprobe.layout import NARROWEST, WIDTH

USAGE_ERROR = 3


class UsageError(Exception):
    """Arguments that cannot be used; the text names the argument and what to write instead."""


class Parser(argparse.ArgumentParser):
    """A parser that leaves the exit code to its caller: argparse's own, 2, means that the mail path said no."""

    def error(self, message: str) -> NoReturn:
        """Print the usage line; raises UsageError."""
        self.print_usage(sys.stderr)
        raise UsageError(message)


def split_target(text: str) -> tuple[str, int | None]:
    """Split HOST[:PORT]; an IPv6 address stands in brackets where a port follows.

    Raises UsageError for a port that is no number from 1 to 65535.
    """
    bracketed = re.fullmatch(r"\[([^\]]+)\](?::(.*))?", text)
    if bracketed:
        host, port = bracketed[1], bracketed[2]
    elif text.count(":") == 1:
        host, port = text.split(":")
    else:
        host, port = text, None
    if port is None:
        return host, None
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise UsageError(f"port {port!r} of {text!r} is no port: write a number from 1 to 65535")
    return host, int(port)


def ask_secret(prompt: str) -> str:
    """Ask on the terminal for what must not be shown; an interrupt ends the program at once.

    Raises UsageError where the terminal is closed instead.
    """
    # The loop's own handler would wait for a task, and the task for the answer.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return getpass.getpass(prompt, stream=sys.stderr)
    except EOFError:
        print(file=sys.stderr)
        raise UsageError("nothing was entered") from None
    finally:
        signal.signal(signal.SIGINT, before)


def colour_wanted() -> bool:
    """Say whether stdout is a terminal that wants colour (NO_COLOR is obeyed)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def terminal_width(stream: TextIO | None = None) -> int | None:
    """Return the columns, 60 to 100, to fill where ``stream`` (default: stdout) is a terminal; None for others."""
    stream = sys.stdout if stream is None else stream
    if not stream.isatty():
        return None
    named = os.environ.get("COLUMNS", "")
    width = int(named) if named.isdecimal() else os.get_terminal_size(stream.fileno()).columns
    return max(NARROWEST, min(WIDTH, width or WIDTH))
