"""What all commands share: how wrong usage ends, and what the terminal wants."""

import os
import shutil
import sys

from smtpprobe.layout import NARROWEST, WIDTH

USAGE_ERROR = 3


class UsageError(Exception):
    """Arguments that cannot be used; the text names the argument and what to write instead."""


def colour_wanted() -> bool:
    """Say whether stdout is a terminal that wants colour (NO_COLOR is obeyed)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def terminal_width() -> int | None:
    """Return the columns to fill where stdout is a terminal, 60 to 100; None for files and pipes."""
    if not sys.stdout.isatty():
        return None
    return max(NARROWEST, min(WIDTH, shutil.get_terminal_size().columns))
