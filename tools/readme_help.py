"""Write the help of `smtpprobe check` into README.md; with ``--check`` say whether it is there as it is printed."""

import contextlib
import io
import os
import sys
from pathlib import Path

from smtpprobe.cli import parser

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- help: written by tools/readme_help.py -->\n", "<!-- /help -->"


def block() -> str:
    """Return the help at 100 columns in a fence."""
    os.environ["COLUMNS"] = "100"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        parser().parse_args(["check", "--help"])
    return f"```\n$ smtpprobe check --help\n{printed.getvalue()}```\n"


def main(arguments: list[str]) -> int:
    """Return 1 where ``--check`` finds another text."""
    text = README.read_text()
    before, rest = text.split(BEGIN)
    wanted = f"{before}{BEGIN}{block()}{END}{rest.split(END, maxsplit=1)[1]}"
    if "--check" not in arguments:
        README.write_text(wanted)
        return 0
    if wanted != text:
        print("README.md shows another help: run python tools/readme_help.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
