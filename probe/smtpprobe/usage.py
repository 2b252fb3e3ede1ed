"""What all commands share: how wrong usage ends, and whether the terminal wants colour."""

import os
import sys

USAGE_ERROR = 3


class UsageError(Exception):
    """Arguments that cannot be used; the text names the argument and what to write instead."""


def colour_wanted() -> bool:
    """Say whether stdout is a terminal that wants colour (NO_COLOR is obeyed)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
