"""Write the table of values into the chart's README from values.yaml: ``python tools/chart_readme.py [--check]``.

A comment that begins with ``# --`` describes the value below it; a value with neither such a comment nor one above it
in its block is listed without words.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "charts" / "smtpprobe-operator"
BEGIN, END = "<!-- values: written by tools/chart_readme.py -->\n", "<!-- end of values -->\n"


class Value(NamedTuple):
    """One line of the table."""

    path: str
    default: str
    text: str


def values(text: str) -> list[Value]:
    """Read every value of values.yaml in its order, maps with entries opened up."""
    comments = described(text)
    found: list[Value] = []

    def walk(value: object, path: str) -> None:
        if isinstance(value, dict) and value and path not in comments:
            for key, inner in value.items():
                walk(inner, f"{path}.{key}" if path else str(key))
        else:
            found.append(Value(path, json.dumps(value), comments.get(path, "")))

    walk(yaml.safe_load(text), "")
    return found


def described(text: str) -> dict[str, str]:
    """Find the comments that describe a value, by the value's path."""
    path: list[tuple[int, str]] = []
    waiting: list[str] = []
    comments: dict[str, str] = {}
    for line in text.splitlines():
        if match := re.match(r" *# -- (.*)", line):
            waiting = [match[1]]
        elif waiting and (match := re.match(r" *# (.*)", line)):
            waiting.append(match[1])
        elif match := re.match(r"( *)([A-Za-z][\w./-]*):", line):
            indent = len(match[1])
            path = [*[each for each in path if each[0] < indent], (indent, match[2])]
            if waiting:
                comments[".".join(name for _, name in path)] = " ".join(waiting)
            waiting = []
    return comments


def table(text: str) -> str:
    """Render the table of values."""
    rows = [f"| `{each.path}` | `{each.default}` | {each.text} |" for each in values(text)]
    return "\n".join(["| value | default | |", "|---|---|---|", *rows]) + "\n"


def main() -> int:
    """Write the README, or compare it where ``--check`` is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    readme = CHART / "README.md"
    before, _, rest = readme.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    text = f"{before}{BEGIN}{table((CHART / 'values.yaml').read_text())}{END}{after}"
    if not parser.parse_args().check:
        readme.write_text(text)
    elif readme.read_text() != text:
        print("the chart's README is not up to date: run python tools/chart_readme.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
