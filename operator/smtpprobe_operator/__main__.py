"""``smtpprobe-operator``: ``run`` in a cluster (the default), ``local FOLDER`` without one."""

import asyncio
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from smtpprobe.usage import Parser, UsageError

EXIT_OWN_FAULT = 3
ABOUT = "Run SmtpProbes: those of a cluster, inside it, or those of a folder, without one."
NEEDED = ("kopf", "kubernetes", "prometheus_client")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the operator; exit 0 after a signal, 3 for usage and what is missing."""
    parser = Parser(prog="smtpprobe-operator", description=ABOUT)
    parser.add_argument("--version", action="version", version=f"smtpprobe-operator {version('smtpprobe')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    commands.add_parser("run", help="watch SmtpProbes in the cluster (the default)")
    folder = commands.add_parser("local", help="run the manifests of a folder on this machine, without a cluster")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(f"smtpprobe-operator needs {', '.join(missing)}: pip install 'smtpprobe[operator]'", file=sys.stderr)
        return EXIT_OWN_FAULT
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        if words[:1] != ["local"]:
            parser.parse_args(words)
            return _run()
        from smtpprobe_operator import local  # the operator of a cluster does without it

        local.arguments(folder)
        return asyncio.run(local.local(parser.parse_args(words)))
    except UsageError as problem:
        print(f"smtpprobe-operator: {problem}", file=sys.stderr)
        return EXIT_OWN_FAULT


def _run() -> int:
    from smtpprobe_operator import app, logs, settings

    try:
        chosen = settings.from_environment(os.environ)
    except settings.SettingsError as error:
        print(f"smtpprobe-operator: {error}", file=sys.stderr)
        return EXIT_OWN_FAULT
    logs.configure(chosen.log_level)
    return logs.reported(lambda: asyncio.run(app.serve(chosen)))


if __name__ == "__main__":
    sys.exit(main())
